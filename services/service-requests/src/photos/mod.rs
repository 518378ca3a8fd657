//! Photos of requests: taken in, kept, shown, and gone with their request.
//!
//! - [`image`]: which photos are taken, and what is left of them: pixels;
//! - [`store`]: where they are kept, sealed, each under a key of its own;
//! - [`link`]: who may see one, and until when;
//! - [`http`]: the door at which a link shows a photo;
//! - [`sweep`]: what was forgotten goes from the store as well.
//!
//! A photo's key stands with the service's other keys and is written in the
//! same transaction as the event that names the photo: until then its object
//! is noise that nobody can open, and from the moment that the key is
//! destroyed it is that again, in every version that a bucket or a backup may
//! have kept.

use std::sync::Arc;

use samen_log::Keyring;
use samen_log::append::NewKey;
use samen_log::seal::{DataKey, SealError};
use tokio::sync::Semaphore;
use uuid::Uuid;

pub mod http;
pub mod image;
pub mod link;
pub mod store;
pub mod sweep;

pub use image::{Cleaned, PhotoFault};
pub use link::Links;
pub use store::{PhotoStore, StoreError};

/// Photos that are cleaned at the same time. The largest takes some 600 MB of
/// memory for a few seconds.
const CLEANING: usize = 2;
/// Photos that are read for somebody at the same time.
const READING: usize = 16;

/// A photo's id. It tells nothing but when it was made, and stands in no address:
/// what shows a photo is a link.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct PhotoId(Uuid);

/// The photos of a service. Clones share everything.
#[derive(Clone)]
pub struct Photos {
    pub store: PhotoStore,
    pub links: Links,
    keyring: Keyring,
    cleaning: Arc<Semaphore>,
    reading: Arc<Semaphore>,
}

/// Why a photo cannot be read. One that was forgotten is not an error but
/// `None`.
#[derive(Debug, thiserror::Error)]
pub enum ReadError {
    #[error(transparent)]
    Key(#[from] SealError),
    #[error(transparent)]
    Store(#[from] StoreError),
}

// === impl PhotoId ===

impl PhotoId {
    /// An id that no photo has.
    pub fn generate() -> Self {
        PhotoId(Uuid::now_v7())
    }

    /// An id as [`Display`](std::fmt::Display) writes it. `None` for anything
    /// else.
    pub fn parse(text: &str) -> Option<Self> {
        let id = PhotoId(Uuid::try_parse(text).ok()?);
        (id.to_string() == text).then_some(id)
    }

    /// The id of the key under which the photo is sealed.
    pub fn key_id(&self) -> String {
        format!("photo/{self}")
    }
}

impl std::fmt::Display for PhotoId {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        self.0.fmt(f)
    }
}

// === impl Photos ===

impl Photos {
    pub fn new(store: PhotoStore, links: Links, keyring: Keyring) -> Self {
        Photos {
            store,
            links,
            keyring,
            cleaning: Arc::new(Semaphore::new(CLEANING)),
            reading: Arc::new(Semaphore::new(READING)),
        }
    }

    /// Makes what is kept of a photo, or says why it is not taken. Few at a
    /// time: others wait.
    pub async fn accept(&self, bytes: Vec<u8>) -> Result<Cleaned, PhotoFault> {
        let permit = self.cleaning.clone().acquire_owned().await;
        let cleaned = tokio::task::spawn_blocking(move || {
            // Held until the work is done, also when nobody waits for it.
            let _permit = permit;
            image::clean(&bytes)
        });
        cleaned.await.unwrap_or_else(|error| {
            tracing::error!(%error, "a photo made its decoder fail");
            Err(PhotoFault::Damaged)
        })
    }

    /// A key for a new photo, and what to append together with the event that
    /// names the photo.
    pub fn new_key(&self, id: PhotoId) -> (DataKey, NewKey) {
        self.keyring.create(&id.key_id())
    }

    /// A photo, opened. `None` when it was forgotten, deleted, or never was.
    pub async fn read(&self, id: PhotoId) -> Result<Option<Cleaned>, ReadError> {
        let _permit = self.reading.acquire().await;
        match self.keyring.get(&id.key_id()).await? {
            Some(key) => Ok(self.store.get(id, &key).await?),
            None => Ok(None),
        }
    }
}
