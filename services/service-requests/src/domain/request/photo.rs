//! Photos of a request.

use samen_proto::requests::{PhotoAdded, PhotoRemoved};

use super::{Of, Rejection, RequestEvent};

/// Photos of one request.
pub const MAX_PHOTOS: usize = 10;

impl Of<'_> {
    pub(super) fn add_photo(&self, photo: PhotoAdded) -> Result<Vec<RequestEvent>, Rejection> {
        self.open()?;
        if self.request.photos.len() >= MAX_PHOTOS {
            return Err(Rejection::TooManyPhotos);
        }
        Ok(vec![photo.into()])
    }

    pub(super) fn remove_photo(&self, photo: String) -> Result<Vec<RequestEvent>, Rejection> {
        if !self.request.photos.contains(&photo) {
            return Ok(Vec::new());
        }
        Ok(vec![PhotoRemoved { id: self.id(), photo_id: photo }.into()])
    }
}
