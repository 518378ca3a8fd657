//! Deletes what was forgotten: a reconciler that looks now and then, also after
//! a time in which nothing ran.
//!
//! A photo is unreadable from the moment that its key is destroyed; this takes
//! what is left of it out of the store. Only an object whose key is known to
//! have been destroyed goes. One whose key was never seen stays: a database
//! that is empty or another's must not empty a bucket.

use std::pin::pin;
use std::time::Duration;

use futures::TryStreamExt;
use futures::stream::StreamExt;
use samen_log::{Keyring, Task, Tasks};
use samen_proto::operations::TaskKind;
use tokio_util::sync::CancellationToken;

use super::{PhotoId, PhotoStore, ReadError};

/// How often it looks.
const EVERY: Duration = Duration::from_secs(3600);
/// Photos that are looked at in one go.
const BATCH: usize = 500;

/// Looks after one service's photos.
pub struct Sweep {
    store: PhotoStore,
    keyring: Keyring,
    task: Task,
}

// === impl Sweep ===

impl Sweep {
    /// What operators call it.
    pub const NAME: &str = "photos";

    pub fn new(store: &PhotoStore, keyring: &Keyring, tasks: &Tasks) -> Self {
        let task = tasks.add(TaskKind::Eraser, Self::NAME);
        Sweep { store: store.clone(), keyring: keyring.clone(), task }
    }

    /// Looks until `shutdown`.
    pub async fn run(self, shutdown: CancellationToken) {
        loop {
            let looked = tokio::select! {
                () = shutdown.cancelled() => return,
                looked = self.look() => looked,
            };
            match looked {
                Ok(0) => self.task.running(),
                Ok(deleted) => {
                    tracing::info!(deleted, "photos that were forgotten are gone");
                    self.task.running();
                }
                Err(error) => {
                    tracing::error!(%error, "forgotten photos are not deleted");
                    self.task.failed(error);
                }
            }
            tokio::select! {
                () = shutdown.cancelled() => return,
                () = tokio::time::sleep(EVERY) => {}
            }
        }
    }

    /// Looks once. Gives how many were deleted.
    pub async fn look(&self) -> Result<usize, ReadError> {
        let mut deleted = 0;
        let mut batches = pin!(self.store.list().try_chunks(BATCH));
        while let Some(batch) = batches.next().await {
            let batch: Vec<PhotoId> = batch.map_err(|failed| failed.1)?;
            let keys: Vec<String> = batch.iter().map(PhotoId::key_id).collect();
            let destroyed = self.keyring.destroyed(keys.iter().map(String::as_str)).await?;
            for (id, _) in batch.iter().zip(&keys).filter(|(_, key)| destroyed.contains(*key)) {
                self.store.delete(*id).await?;
                deleted += 1;
            }
        }
        Ok(deleted)
    }
}
