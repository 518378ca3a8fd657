//! Photos that are made here, with what phones and people put in them.

use image::codecs::webp::WebPEncoder;
use image::{GenericImageView, ImageEncoder, Rgb, RgbImage, Rgba, RgbaImage};
use proptest::prelude::*;

use super::*;

const WIDTH: u32 = 48;
const HEIGHT: u32 = 32;
/// What is hidden in every photo, and must be gone from what is kept.
const SECRETS: [&str; 8] = [
    "52.3391N 4.9616E",
    "Canon of J. de Vries",
    "xmpmeta by J. de Vries",
    "8BIM J. de Vries",
    "taken from my window",
    "thumbnail of the front door",
    "PK\u{3}\u{4}letter.docx",
    "profile of J. de Vries' screen",
];
/// EXIF's orientation of a picture whose top is at its right.
const TURNED: u16 = 6;

/// Red at the left above, blue elsewhere.
fn picture() -> RgbImage {
    RgbImage::from_fn(WIDTH, HEIGHT, |x, y| {
        if x < WIDTH / 2 && y < HEIGHT / 2 { Rgb([220, 20, 20]) } else { Rgb([20, 20, 220]) }
    })
}

/// EXIF with an orientation, a place and a name.
fn exif(orientation: u16) -> Vec<u8> {
    let mut tiff = b"II*\0\x08\0\0\0\x02\0".to_vec();
    let mut entry = |tag: u16, kind: u16, count: u32, value: u32| {
        tiff.extend(tag.to_le_bytes());
        tiff.extend(kind.to_le_bytes());
        tiff.extend(count.to_le_bytes());
        tiff.extend(value.to_le_bytes());
    };
    let text = format!("{}\0{}\0{}\0", SECRETS[0], SECRETS[1], SECRETS[5]);
    entry(0x0112, 3, 1, orientation.into());
    entry(0x013b, 2, text.len() as u32, 38);
    tiff.extend(0u32.to_le_bytes());
    tiff.extend(text.as_bytes());
    tiff
}

/// sRGB with red and green exchanged, and a text.
fn exchanged() -> Vec<u8> {
    let mut profile = ColorProfile::new_srgb();
    std::mem::swap(&mut profile.red_colorant, &mut profile.green_colorant);
    // Otherwise the colours would be read from there.
    profile.cicp = None;
    let text = vec![moxcms::LocalizableString::new("en".into(), "US".into(), SECRETS[7].into())];
    profile.description = Some(moxcms::ProfileText::Localizable(text));
    profile.encode().expect("a profile")
}

fn segment(marker: u8, content: &[u8]) -> Vec<u8> {
    let length = (content.len() as u16 + 2).to_be_bytes();
    [&[0xff, marker], length.as_slice(), content].concat()
}

/// A JPEG with everything that it can carry.
fn jpeg(orientation: u16) -> Vec<u8> {
    let mut plain = Vec::new();
    picture().write_with_encoder(JpegEncoder::new_with_quality(&mut plain, 95)).expect("a JPEG");
    let xmp = format!("http://ns.adobe.com/xap/1.0/\0<x:{}>", SECRETS[2]);
    let iptc = format!("Photoshop 3.0\0{}", SECRETS[3]);
    [
        &plain[..2],
        &segment(0xe1, &[b"Exif\0\0", exif(orientation).as_slice()].concat()),
        &segment(0xe1, xmp.as_bytes()),
        &segment(0xed, iptc.as_bytes()),
        &segment(0xe5, SECRETS[5].as_bytes()),
        &segment(0xfe, SECRETS[4].as_bytes()),
        &plain[2..],
        SECRETS[6].as_bytes(),
    ]
    .concat()
}

fn png_chunk(kind: &[u8; 4], content: &[u8]) -> Vec<u8> {
    let checked = [kind.as_slice(), content].concat();
    let crc = checked.iter().fold(u32::MAX, |crc, byte| {
        (0..8).fold(crc ^ u32::from(*byte), |crc, _| {
            if crc & 1 == 1 { (crc >> 1) ^ 0xedb8_8320 } else { crc >> 1 }
        })
    });
    [&(content.len() as u32).to_be_bytes(), checked.as_slice(), &(!crc).to_be_bytes()].concat()
}

fn png(orientation: u16) -> Vec<u8> {
    let mut plain = Vec::new();
    let mut encoder = PngEncoder::new(&mut plain);
    encoder.set_exif_metadata(exif(orientation)).expect("PNG has EXIF");
    picture().write_with_encoder(encoder).expect("a PNG");
    // Behind the signature and IHDR.
    let (head, rest) = plain.split_at(8 + 25);
    [
        head,
        &png_chunk(b"tEXt", format!("Comment\0{}", SECRETS[4]).as_bytes()),
        &png_chunk(b"iTXt", format!("XML:com.adobe.xmp\0\0\0\0\0{}", SECRETS[2]).as_bytes()),
        &png_chunk(b"prVt", SECRETS[5].as_bytes()),
        rest,
        SECRETS[6].as_bytes(),
    ]
    .concat()
}

fn webp(orientation: u16) -> Vec<u8> {
    let mut webp = Vec::new();
    let mut encoder = WebPEncoder::new_lossless(&mut webp);
    encoder.set_exif_metadata(exif(orientation)).expect("WebP has EXIF");
    picture().write_with_encoder(encoder).expect("a WebP");
    let mut xmp = SECRETS[2].as_bytes().to_vec();
    xmp.resize(xmp.len().next_multiple_of(2), 0);
    webp.extend(b"XMP ");
    webp.extend((xmp.len() as u32).to_le_bytes());
    webp.extend(xmp);
    let length = (webp.len() as u32 - 8).to_le_bytes();
    webp[4..8].copy_from_slice(&length);
    webp.extend(SECRETS[6].as_bytes());
    webp
}

/// A transparent WebP.
fn transparent() -> Vec<u8> {
    let mut webp = Vec::new();
    let image = RgbaImage::from_pixel(WIDTH, HEIGHT, Rgba([20, 220, 20, 100]));
    image.write_with_encoder(WebPEncoder::new_lossless(&mut webp)).expect("a WebP");
    webp
}

fn contains(bytes: &[u8], text: &str) -> bool {
    bytes.windows(text.len()).any(|window| window == text.as_bytes())
}

fn assert_clean(cleaned: &Cleaned) -> DynamicImage {
    for secret in SECRETS.into_iter().chain(["Exif", "eXIf", "J. de Vries", "ICC", "XMP"]) {
        assert!(!contains(cleaned.bytes(), secret), "{secret} is still there");
    }
    image::load_from_memory(cleaned.bytes()).expect("what is kept is a photo")
}

fn assert_colour(image: &DynamicImage, x: u32, y: u32, expected: [u8; 3]) {
    let Rgba([red, green, blue, _]) = image.get_pixel(x, y);
    let near = [red, green, blue].iter().zip(expected).all(|(is, should)| is.abs_diff(should) < 16);
    assert!(near, "{:?} instead of {expected:?} at {x}, {y}", [red, green, blue]);
}

#[test]
fn nothing_but_the_picture_is_kept() {
    for (name, photo, media) in [
        ("JPEG", jpeg(1), Media::Jpeg),
        ("PNG", png(1), Media::Png),
        ("WebP", webp(1), Media::Jpeg),
    ] {
        let planted = SECRETS.iter().filter(|secret| contains(&photo, secret)).count();
        assert!(planted >= 5, "only {planted} things are hidden in the {name}");
        let cleaned = clean(&photo).unwrap_or_else(|fault| panic!("{name} {fault}"));
        assert_eq!(cleaned.media(), media, "{name}");
        let image = assert_clean(&cleaned);
        assert_eq!(image.dimensions(), (WIDTH, HEIGHT), "{name}");
        assert_colour(&image, 4, 4, [220, 20, 20]);
        assert_colour(&image, WIDTH - 4, 4, [20, 20, 220]);
        assert_colour(&image, 4, HEIGHT - 4, [20, 20, 220]);
    }
}

#[test]
fn a_turned_photo_is_kept_upright() {
    for photo in [jpeg(TURNED), png(TURNED), webp(TURNED)] {
        let image = assert_clean(&clean(&photo).expect("a photo"));
        assert_eq!(image.dimensions(), (HEIGHT, WIDTH));
        // What was at the left above is at the right above.
        assert_colour(&image, HEIGHT - 4, 4, [220, 20, 20]);
        assert_colour(&image, 4, 4, [20, 20, 220]);
    }
}

#[test]
fn colours_are_translated_and_their_profile_is_gone() {
    let mut photo = Vec::new();
    let mut encoder = JpegEncoder::new_with_quality(&mut photo, 95);
    encoder.set_icc_profile(exchanged()).expect("JPEG has profiles");
    picture().write_with_encoder(encoder).expect("a JPEG");
    let image = assert_clean(&clean(&photo).expect("a photo"));
    assert_colour(&image, 4, 4, [20, 220, 20]);
}

#[test]
fn what_is_transparent_stays_so() {
    let cleaned = clean(&transparent()).expect("a photo");
    assert_eq!(cleaned.media(), Media::Png);
    assert_eq!(assert_clean(&cleaned).get_pixel(3, 3), Rgba([20, 220, 20, 100]));
}

#[test]
fn what_is_kept_is_taken_again() {
    let once = clean(&jpeg(TURNED)).expect("a photo");
    let twice = clean(once.bytes()).expect("a photo");
    assert_eq!(assert_clean(&twice).dimensions(), (HEIGHT, WIDTH));
    assert_eq!(Cleaned::kept(once.bytes().to_vec()), Some(once));
}

#[test]
fn other_files_are_refused_whatever_they_are_called() {
    for other in [
        b"GIF89a\x01\0\x01\0\0\0\0;".as_slice(),
        b"<svg xmlns='http://www.w3.org/2000/svg'><script>alert(1)</script></svg>",
        b"<!doctype html><title>lamp.jpg</title>",
        b"BM\x3a\0\0\0\0\0\0\0\x36\0\0\0",
        b"II*\0\x08\0\0\0",
        b"\0\0\0\x18ftypheic\0\0\0\0mif1heic",
        b"%PDF-1.7",
        b"RIFF\x24\0\0\0WAVEfmt ",
        b"lamp",
        b"\0",
    ] {
        assert_eq!(clean(other), Err(PhotoFault::NotAPhoto), "{}", other.escape_ascii());
    }
    assert_eq!(clean(b""), Err(PhotoFault::Empty));
}

#[test]
fn what_only_begins_like_a_photo_is_damaged() {
    let html = b"<!doctype html><script>alert(1)</script>\xff\xd9";
    for begin in [b"\xff\xd8\xff\xe0".as_slice(), b"\x89PNG\r\n\x1a\n", b"RIFF\x40\0\0\0WEBP"] {
        assert_eq!(clean(&[begin, html].concat()), Err(PhotoFault::Damaged));
        assert_eq!(clean(begin), Err(PhotoFault::Damaged));
    }
}

#[test]
fn a_photo_that_was_cut_off_is_damaged() {
    for (name, photo) in [("JPEG", jpeg(1)), ("PNG", png(1)), ("WebP", transparent())] {
        // Not the archive behind it, nor the empty chunk that ends a PNG.
        let whole = photo.len() - SECRETS[6].len() - 16;
        for length in (12..whole).step_by(7) {
            let cut = clean(&photo[..length]);
            assert_eq!(cut, Err(PhotoFault::Damaged), "{name} of {length} bytes");
        }
    }
}

#[test]
fn too_large_a_file_is_refused_before_it_is_looked_at() {
    let mut photo = jpeg(1);
    photo.resize(MAX_BYTES, 0);
    assert!(clean(&photo).is_ok());
    photo.push(0);
    assert_eq!(clean(&photo), Err(PhotoFault::TooLarge));
}

#[test]
fn a_small_file_of_very_many_pixels_is_refused() {
    let claims = |width: u32, height: u32| {
        let size = [width.to_be_bytes(), height.to_be_bytes()].concat();
        let header = png_chunk(b"IHDR", &[size.as_slice(), &[8, 2, 0, 0, 0]].concat());
        let data = png_chunk(b"IDAT", &[0x78, 0x9c]);
        [b"\x89PNG\r\n\x1a\n", header.as_slice(), &data].concat()
    };
    assert_eq!(clean(&claims(6_500, 10_001)), Err(PhotoFault::TooManyPixels));
    assert_eq!(clean(&claims(1 << 30, 1 << 30)), Err(PhotoFault::TooManyPixels));
    // As many as are allowed, but they are not there.
    assert_eq!(clean(&claims(6_500, 10_000)), Err(PhotoFault::Damaged));
    assert_eq!(clean(&claims(0, 0)), Err(PhotoFault::Damaged));
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(300))]

    /// Whatever is changed in a photo, it is refused or becomes pixels.
    #[test]
    fn a_damaged_photo_is_refused_or_clean(
        which in 0usize..3,
        changes in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..6),
    ) {
        let mut photo = [jpeg, png, webp][which](TURNED);
        for (at, byte) in changes {
            let at = at.index(photo.len());
            photo[at] = byte;
        }
        if let Ok(cleaned) = clean(&photo) {
            assert_clean(&cleaned);
        }
    }

    #[test]
    fn noise_is_refused(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
        prop_assert!(clean(&bytes).is_err());
    }
}
