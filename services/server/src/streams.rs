//! Server streams that heed shutdown and show that they live, and what they
//! send of a log's changes.

use std::collections::BTreeSet;
use std::pin::Pin;
use std::time::Duration;

use futures::{Stream, StreamExt};
use prost::DecodeError;
use samen_log::{Cursor, Follow, Item, Log, Record, Store};
use tokio_util::sync::CancellationToken;
use tonic::{Code, Status};

use crate::reply::{self, status};

/// Changes that are looked at together, at most.
const BATCH: usize = 500;

/// A server stream as tonic takes it.
pub type Outgoing<T> = Pin<Box<dyn Stream<Item = Result<T, Status>> + Send>>;

/// Sends the items, a heartbeat whenever nothing was sent for a while, and at
/// shutdown UNAVAILABLE: the reader resumes elsewhere from the last position
/// that it has seen.
///
/// Nothing is queued here: a reader that is slow makes the source wait.
pub fn outgoing<T, S>(
    items: S,
    every: Duration,
    heartbeat: impl Fn() -> T + Send + 'static,
    shutdown: CancellationToken,
) -> Outgoing<T>
where
    T: Send + 'static,
    S: Stream<Item = Result<T, Status>> + Send + 'static,
{
    Box::pin(async_stream::stream! {
        let mut items = std::pin::pin!(items);
        loop {
            let next = tokio::select! {
                biased;
                () = shutdown.cancelled() => {
                    let message = "the server stops; resume from the last position you have";
                    yield Err(status(Code::Unavailable, "SHUTTING_DOWN", message));
                    return;
                }
                next = items.next() => next,
                () = tokio::time::sleep(every) => {
                    yield Ok(heartbeat());
                    continue;
                }
            };
            match next {
                Some(Ok(item)) => yield Ok(item),
                Some(Err(error)) => {
                    yield Err(error);
                    return;
                }
                None => return,
            }
        }
    })
}

/// Some of what changed, once the store has it.
#[derive(Debug, Default)]
pub struct Changed {
    /// What changed, each once.
    pub ids: BTreeSet<String>,
    /// The last record of these changes. Who was sent them can resume here.
    pub at: Cursor,
    /// What comes after these changes is live. True once in a stream.
    pub caught_up: bool,
}

/// What changed in a log after a cursor, and goes on changing, for a reader of
/// the store that follows it. `subject` says what a record is about: `None`
/// where the reader does not look at it.
pub fn changes(
    log: Log,
    store: Store,
    after: Cursor,
    subject: impl Fn(&Record) -> Result<Option<String>, DecodeError> + Send + 'static,
) -> impl Stream<Item = Result<Changed, Status>> + Send {
    async_stream::try_stream! {
        let mut batches = log.follow(after).ready_chunks(BATCH);
        while let Some(items) = batches.next().await {
            let mut changed = Changed::default();
            for item in items {
                match item.map_err(reply::follow)? {
                    Item::Record(record) => {
                        changed.ids.extend(subject(&record).map_err(reply::unavailable)?);
                        changed.at = Cursor::at(&record);
                    }
                    Item::CaughtUp(at) => {
                        changed.at = at;
                        changed.caught_up = true;
                    }
                }
            }
            if changed.at.position > 0 {
                let at_least = changed.at.to_position(log.id());
                store.wait_for(&at_least).await.map_err(reply::wait)?;
            }
            yield changed;
        }
    }
}
