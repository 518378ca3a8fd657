//! Reacting to a log: the logic of every reactor, whatever it does.
//!
//! A reactor turns another service's records into commands of its own. It is a
//! reconciler: how far it is stands in its own service's log, written by the
//! commands themselves, and a command's id is made from the record that asked
//! for it. So records that are offered twice change nothing the second time.

use std::sync::Arc;
use std::time::Duration;

use futures::StreamExt;
use uuid::Uuid;

use crate::backoff::Backoff;
use crate::follow::{Cursor, Follow, FollowError, Item};
use crate::record::Record;
use crate::tasks::Task;

/// Records of a source that are offered together.
const BATCH: usize = 500;
/// How long a reactor rests after a failure: at first, and at most.
const REST: [Duration; 2] = [Duration::from_millis(250), Duration::from_secs(10)];

/// What is done about the records of one source.
pub trait Reactor: Send {
    type Error: std::error::Error + Send;

    /// Up to where the source was dealt with, as its own service's log has it.
    fn through(&mut self) -> impl Future<Output = Result<Cursor, Self::Error>> + Send;

    /// Does what the next records ask for. The same records may come again,
    /// after a failure, in other batches. `false`: there is no more to do.
    fn offer(
        &mut self,
        records: &[Arc<Record>],
    ) -> impl Future<Output = Result<bool, Self::Error>> + Send;
}

/// Why a reactor begins again.
#[derive(Debug, thiserror::Error)]
enum ReactError<E: std::error::Error> {
    #[error(transparent)]
    Follow(#[from] FollowError),
    #[error("{0}")]
    Reactor(E),
}

/// The id of the command that a reactor does about a record: the same each
/// time, so that it happens once. The name tells this reactor from any other.
pub fn command_id(name: &str, log: &str, record: &Cursor) -> String {
    let from = format!("{name} {log} {} {}", record.epoch, record.position);
    Uuid::new_v5(&Uuid::NAMESPACE_OID, from.as_bytes()).to_string()
}

/// Reacts to a source until there is no more to do, whatever fails.
pub async fn run<R: Reactor>(source: &dyn Follow, reactor: &mut R, task: &Task) {
    let mut backoff = Backoff::new(REST[0], REST[1]);
    while let Err(error) = pass(source, reactor, task, &mut backoff).await {
        tracing::warn!(%error, log = source.log(), "a reactor begins again");
        task.failed(format!("{}: {error}", source.log()));
        tokio::time::sleep(backoff.next()).await;
    }
}

/// Reacts from where it stopped, until something fails.
async fn pass<R: Reactor>(
    source: &dyn Follow,
    reactor: &mut R,
    task: &Task,
    backoff: &mut Backoff,
) -> Result<(), ReactError<R::Error>> {
    let mut seen = reactor.through().await.map_err(ReactError::Reactor)?;
    let mut batches = source.follow(seen.clone()).ready_chunks(BATCH);
    let mut working = false;
    while let Some(batch) = batches.next().await {
        let mut records = Vec::with_capacity(batch.len());
        let mut failed = None;
        for item in batch {
            match item {
                Ok(Item::Record(record)) => records.push(record),
                Ok(Item::CaughtUp(_)) => {}
                Err(error) => failed = Some(error),
            }
        }
        if let Some(last) = records.last() {
            seen = Cursor::at(last);
            if !reactor.offer(&records).await.map_err(ReactError::Reactor)? {
                return Ok(());
            }
        }
        if let Some(error) = failed {
            return Err(error.into());
        }
        backoff.reset();
        task.saw(source.log(), &seen, source.newest().unwrap_or(seen.position));
        if !std::mem::replace(&mut working, true) {
            task.running();
        }
    }
    let (log, reason) = (source.log().to_owned(), "its stream ended".to_owned());
    Err(FollowError::Unavailable { log, reason }.into())
}
