//! Where photos are kept: a folder, or a bucket that speaks S3.
//!
//! An object is called after the photo's id and holds the photo sealed, bound
//! to that id; neither tells of whom or of what request it is. It is there
//! whole or not at all, and once [`put`](PhotoStore::put) returns it survives a
//! power failure: a folder gets it under another name first, synced, and then
//! renamed; a bucket acknowledges what it has.

use std::os::unix::fs::DirBuilderExt;
use std::path::Path as File;
use std::sync::Arc;

use futures::stream::BoxStream;
use futures::{StreamExt, TryStreamExt};
use object_store::aws::AmazonS3Builder;
use object_store::local::LocalFileSystem;
use object_store::path::Path;
use object_store::prefix::PrefixStore;
use object_store::{ObjectStore, ObjectStoreExt};
use samen_log::seal::DataKey;

use super::PhotoId;
use super::image::{Cleaned, MAX_KEPT_BYTES};

/// What sealing adds at most.
const SEAL_BYTES: usize = 64;

/// A place for photos. Clones share everything.
#[derive(Clone, Debug)]
pub struct PhotoStore(Arc<dyn ObjectStore>);

/// Why a place for photos cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    #[error("the photos cannot be reached: {0}")]
    Unreachable(#[from] object_store::Error),
    #[error("the folder for photos {path}: {cause}")]
    Folder { path: String, cause: std::io::Error },
    #[error("{0} is no place for photos: a folder, or s3://bucket/prefix")]
    NoPlace(String),
    #[error("photo {0} was altered, or sealed under another key")]
    Altered(PhotoId),
}

// === impl PhotoStore ===

impl PhotoStore {
    /// The place that a setting names: a folder, made where it is new, or
    /// `s3://bucket/prefix`. Credentials and the endpoint of a bucket come from
    /// the environment, under the names that other S3 clients read too
    /// (`AWS_ACCESS_KEY_ID`, `AWS_SECRET_ACCESS_KEY`, `AWS_REGION`,
    /// `AWS_ENDPOINT`), or from the machine's own role.
    pub fn open(place: &str) -> Result<Self, StoreError> {
        match place.split_once("://") {
            None => Self::folder(File::new(place)),
            Some(("s3", bucket)) => Self::bucket(place, bucket),
            Some(_) => Err(StoreError::NoPlace(place.to_owned())),
        }
    }

    /// A folder, made where it is new, that only its owner can read.
    pub fn folder(path: &File) -> Result<Self, StoreError> {
        make_folder(path)
            .map_err(|cause| StoreError::Folder { path: path.display().to_string(), cause })?;
        let folder = LocalFileSystem::new_with_prefix(path)?.with_fsync(true);
        Ok(PhotoStore(Arc::new(folder)))
    }

    fn bucket(place: &str, bucket: &str) -> Result<Self, StoreError> {
        let no_place = || StoreError::NoPlace(place.to_owned());
        let (name, prefix) = bucket.split_once('/').unwrap_or((bucket, ""));
        if name.is_empty() {
            return Err(no_place());
        }
        let prefix = Path::parse(prefix).map_err(|_| no_place())?;
        let bucket = AmazonS3Builder::from_env().with_bucket_name(name).build()?;
        Ok(PhotoStore(Arc::new(PrefixStore::new(bucket, prefix))))
    }

    /// Keeps a photo, sealed under its key. Returns when it is safe; done
    /// twice, the last one is kept.
    pub async fn put(&self, id: PhotoId, key: &DataKey, photo: &Cleaned) -> Result<(), StoreError> {
        let sealed = key.seal_bytes(&bound_to(id), photo.bytes());
        self.0.put(&at(id), sealed.into()).await?;
        Ok(())
    }

    /// A photo that is kept, opened. `None` when there is none.
    pub async fn get(&self, id: PhotoId, key: &DataKey) -> Result<Option<Cleaned>, StoreError> {
        let object = match self.0.get(&at(id)).await {
            Ok(object) => object,
            Err(object_store::Error::NotFound { .. }) => return Ok(None),
            Err(error) => return Err(error.into()),
        };
        if object.meta.size > (MAX_KEPT_BYTES + SEAL_BYTES) as u64 {
            return Err(StoreError::Altered(id));
        }
        let sealed = object.bytes().await?;
        let opened = key.open_bytes(&bound_to(id), &sealed);
        let photo = opened.and_then(Cleaned::kept);
        photo.map(Some).ok_or(StoreError::Altered(id))
    }

    /// Deletes a photo. Done twice, nothing more happens.
    pub async fn delete(&self, id: PhotoId) -> Result<(), StoreError> {
        match self.0.delete(&at(id)).await {
            Ok(()) | Err(object_store::Error::NotFound { .. }) => Ok(()),
            Err(error) => Err(error.into()),
        }
    }

    /// The photos that are kept, in no order. What else stands there is passed
    /// over.
    pub fn list(&self) -> BoxStream<'static, Result<PhotoId, StoreError>> {
        let kept = self.0.list(None).map_err(StoreError::from);
        kept.try_filter_map(async |object| Ok(PhotoId::parse(object.location.as_ref()))).boxed()
    }
}

/// Makes a folder that survives a power failure, like what is put in it.
fn make_folder(path: &File) -> std::io::Result<()> {
    let path = std::path::absolute(path)?;
    let new: Vec<&File> = path.ancestors().take_while(|folder| !folder.exists()).collect();
    std::fs::DirBuilder::new().recursive(true).mode(0o700).create(&path)?;
    for holder in new.into_iter().filter_map(File::parent) {
        std::fs::File::open(holder)?.sync_all()?;
    }
    Ok(())
}

fn at(id: PhotoId) -> Path {
    Path::from(id.to_string())
}

/// What a sealed photo is bound to, so that one cannot be put in the place of
/// another.
fn bound_to(id: PhotoId) -> String {
    format!("samen.photo/{id}")
}

#[cfg(test)]
mod tests;
