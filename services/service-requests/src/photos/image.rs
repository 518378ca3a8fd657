//! Which photos are taken, and what is kept of them.
//!
//! A photo is decoded, turned upright, brought to sRGB, and encoded anew, so
//! that what is kept is pixels and nothing else. Taking the metadata out of
//! the file as it is would keep the last bit of quality, but it must know every
//! place where something can hide: EXIF, XMP, IPTC, comments, thumbnails, a
//! second picture or an archive behind the end, text in a colour profile. What
//! is made from pixels has none of these by construction, is no file of another
//! kind at the same time, and is known to open everywhere. For a photo of a
//! street lamp the price cannot be seen.
//!
//! A JPEG stays a JPEG and a PNG a PNG. A WebP becomes a JPEG, or a PNG where
//! it is transparent: every mail program and phone opens those. Of an animation
//! the first picture is kept.

use std::io::Cursor;

use image::codecs::jpeg::JpegEncoder;
use image::codecs::png::PngEncoder;
use image::metadata::Orientation;
use image::{DynamicImage, ImageDecoder, ImageError, ImageFormat, ImageReader, Limits};
use moxcms::{ColorProfile, DataColorSpace, Layout, TransformOptions};

/// The largest photo that is taken: 10 MB, read generously (10 × 2²⁰ bytes).
pub const MAX_BYTES: usize = 10 << 20;
/// The most pixels of a photo that is taken: what a phone makes in one go (up
/// to 64 megapixels). A small file can claim far more, and memory is needed
/// for all of them.
pub const MAX_PIXELS: u64 = 65_000_000;
/// The largest that is kept, and so the most that is read for one link. Photos
/// stay far below it; what was made to grow does not.
pub const MAX_KEPT_BYTES: usize = 32 << 20;
/// Bytes that a photo may take when it is decoded: four for each pixel.
const MAX_DECODED_BYTES: u64 = 4 * MAX_PIXELS;
/// From 1 to 100: at this one no difference is seen.
const JPEG_QUALITY: u8 = 88;

/// A photo as it is kept: pixels only, upright, in sRGB.
#[derive(Clone, PartialEq, Eq)]
pub struct Cleaned {
    media: Media,
    bytes: Vec<u8>,
}

/// What kept photos are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Media {
    Jpeg,
    Png,
}

/// Why a photo is not taken, in words that follow the name of its field.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum PhotoFault {
    #[error("must not be empty: a JPEG, PNG or WebP photo of at most 10 MB")]
    Empty,
    #[error("must be at most 10 MB ({MAX_BYTES} bytes)")]
    TooLarge,
    #[error("must be a JPEG, PNG or WebP photo: its content, whatever its name says")]
    NotAPhoto,
    #[error("must be a whole JPEG, PNG or WebP photo: this one is damaged or was cut off")]
    Damaged,
    #[error("must have at most {} million pixels", MAX_PIXELS / 1_000_000)]
    TooManyPixels,
    #[error("must be a photo of fewer pixels: with so much detail it would take too much space")]
    TooDetailed,
}

/// Makes what is kept of a photo, or says why it is not taken. Takes up to some
/// seconds of a processor.
pub fn clean(bytes: &[u8]) -> Result<Cleaned, PhotoFault> {
    if bytes.is_empty() {
        return Err(PhotoFault::Empty);
    }
    if bytes.len() > MAX_BYTES {
        return Err(PhotoFault::TooLarge);
    }
    let format = image::guess_format(bytes).map_err(|_| PhotoFault::NotAPhoto)?;
    match format {
        ImageFormat::Jpeg if !has_end(bytes) => return Err(PhotoFault::Damaged),
        ImageFormat::Jpeg | ImageFormat::Png | ImageFormat::WebP => {}
        _ => return Err(PhotoFault::NotAPhoto),
    }
    let image = decode(bytes, format)?;
    let media = match format {
        ImageFormat::Png => Media::Png,
        _ if image.color().has_alpha() => Media::Png,
        _ => Media::Jpeg,
    };
    let bytes = encode(&image, media)?;
    if bytes.len() > MAX_KEPT_BYTES {
        return Err(PhotoFault::TooDetailed);
    }
    Ok(Cleaned { media, bytes })
}

// === impl Cleaned ===

impl Cleaned {
    pub fn media(&self) -> Media {
        self.media
    }

    pub fn bytes(&self) -> &[u8] {
        &self.bytes
    }

    pub fn into_bytes(self) -> Vec<u8> {
        self.bytes
    }

    /// A photo that was kept. `None` when these bytes are not one.
    pub(super) fn kept(bytes: Vec<u8>) -> Option<Self> {
        let media = match image::guess_format(&bytes) {
            Ok(ImageFormat::Jpeg) => Media::Jpeg,
            Ok(ImageFormat::Png) => Media::Png,
            _ => return None,
        };
        Some(Cleaned { media, bytes })
    }
}

/// Photos do not belong in a log.
impl std::fmt::Debug for Cleaned {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Cleaned({:?}, {} bytes)", self.media, self.bytes.len())
    }
}

// === impl Media ===

impl Media {
    /// As HTTP calls it.
    pub fn content_type(self) -> &'static str {
        match self {
            Media::Jpeg => "image/jpeg",
            Media::Png => "image/png",
        }
    }
}

impl From<ImageError> for PhotoFault {
    fn from(error: ImageError) -> Self {
        match error {
            ImageError::Limits(_) => PhotoFault::TooManyPixels,
            _ => PhotoFault::Damaged,
        }
    }
}

/// The pixels, upright and in sRGB, eight bits each.
fn decode(bytes: &[u8], format: ImageFormat) -> Result<DynamicImage, PhotoFault> {
    let mut reader = ImageReader::with_format(Cursor::new(bytes), format);
    let mut limits = Limits::no_limits();
    limits.max_alloc = Some(MAX_DECODED_BYTES);
    reader.limits(limits);
    let mut decoder = reader.into_decoder()?;
    let (width, height) = decoder.dimensions();
    if u64::from(width) * u64::from(height) > MAX_PIXELS
        || decoder.total_bytes() > MAX_DECODED_BYTES
    {
        return Err(PhotoFault::TooManyPixels);
    }
    // Metadata that cannot be read is none.
    let orientation = decoder.orientation().unwrap_or(Orientation::NoTransforms);
    let profile = decoder.icc_profile().ok().flatten();
    let mut image = DynamicImage::from_decoder(decoder)?;
    image.apply_orientation(orientation);
    let mut image = match image.color().has_alpha() {
        true => DynamicImage::ImageRgba8(image.into_rgba8()),
        false => DynamicImage::ImageRgb8(image.into_rgb8()),
    };
    if let Some(profile) = profile {
        // Colours that cannot be translated are shown as they are.
        let _ = to_srgb(&mut image, &profile);
    }
    Ok(image)
}

/// Translates colours from a profile. `None` when it is not one for RGB.
fn to_srgb(image: &mut DynamicImage, profile: &[u8]) -> Option<()> {
    let profile = ColorProfile::new_from_slice(profile).ok()?;
    if profile.color_space != DataColorSpace::Rgb {
        return None;
    }
    let width = image.width() as usize;
    let (pixels, layout): (&mut [u8], _) = match image {
        DynamicImage::ImageRgb8(image) => (&mut *image, Layout::Rgb),
        DynamicImage::ImageRgba8(image) => (&mut *image, Layout::Rgba),
        _ => return None,
    };
    let srgb = ColorProfile::new_srgb();
    let options = TransformOptions::default();
    let transform = profile.create_transform_8bit(layout, &srgb, layout, options).ok()?;
    let length = width * layout.channels();
    let mut from = vec![0; length];
    for row in pixels.chunks_exact_mut(length) {
        from.copy_from_slice(row);
        transform.transform(&from, row).ok()?;
    }
    Some(())
}

fn encode(image: &DynamicImage, media: Media) -> Result<Vec<u8>, PhotoFault> {
    let mut bytes = Vec::new();
    match media {
        Media::Jpeg => {
            image.write_with_encoder(JpegEncoder::new_with_quality(&mut bytes, JPEG_QUALITY))
        }
        Media::Png => image.write_with_encoder(PngEncoder::new(&mut bytes)),
    }?;
    Ok(bytes)
}

/// Whether a JPEG reaches its end: the decoder makes up in grey what is missing
/// of one that was cut off.
fn has_end(bytes: &[u8]) -> bool {
    /// What stands between two markers is pixels, among which these have no
    /// meaning of their own: a stuffed byte, a restart, filling.
    fn is_marker(two: &[u8]) -> bool {
        two[0] == 0xff && !matches!(two[1], 0x00 | 0x01 | 0xd0..=0xd8 | 0xff)
    }
    let mut rest = bytes;
    while let Some(at) = rest.windows(2).position(is_marker) {
        if rest[at + 1] == 0xd9 {
            return true;
        }
        let Some(&[high, low]) = rest.get(at + 2..at + 4) else { return false };
        let length = usize::from(u16::from_be_bytes([high, low]));
        rest = rest.get(at + 2 + length..).unwrap_or_default();
    }
    false
}

#[cfg(test)]
mod tests;
