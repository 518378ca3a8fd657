//! Reacting to a log: the logic of every reactor, whatever it does.
//!
//! A reactor turns a log's records into commands of its own service. It is a
//! reconciler: how far it is stands in its own service's log, written by the
//! commands themselves. So one that begins again, or runs twice, is offered
//! records that were dealt with, and has to do nothing about them: either its
//! command says from where it went on, and is refused where that is not so any
//! more, or its [id](command_id) is made from the record that asked for it, and
//! it happens once.

use std::sync::Arc;
use std::time::Duration;

use futures::StreamExt;
use uuid::Uuid;

use crate::backoff::Backoff;
use crate::follow::{Cursor, Follow, FollowError, Item};
use crate::record::Record;

/// Records of a source that are offered together.
const BATCH: usize = 500;
/// How long a reactor rests after a failure: at first, and at most.
const REST: [Duration; 2] = [Duration::from_millis(250), Duration::from_secs(5)];

/// What is done about the records of one source.
pub trait Reactor: Send {
    type Error: From<FollowError> + Send;

    /// Up to where the source was dealt with, as its own service's log has it.
    fn through(&mut self) -> impl Future<Output = Result<Cursor, Self::Error>> + Send;

    /// Does what the next records ask for. `false`: there is no more to do,
    /// for good.
    fn offer(
        &mut self,
        records: &[Arc<Record>],
    ) -> impl Future<Output = Result<bool, Self::Error>> + Send;

    /// What was dealt with last is not in the source's history any more: it
    /// was restored from a backup. Finds where it goes on, so that
    /// [`through`](Self::through) says that from now on.
    fn restored(
        &mut self,
        lost: FollowError,
    ) -> impl Future<Output = Result<(), Self::Error>> + Send {
        std::future::ready(Err(lost.into()))
    }

    /// All up to here was dealt with.
    fn saw(&mut self, seen: &Cursor);

    /// It failed, and will begin again.
    fn failed(&mut self, error: Self::Error);
}

/// Why a reactor begins again.
enum Stop<E> {
    Follow(FollowError),
    Reactor(E),
}

/// The id of the command about a record: the same each time. `what` tells the
/// commands about one record apart, also from those of other reactors.
pub fn command_id(record: &Record, what: &str) -> String {
    let Record { log, epoch, position, .. } = record;
    let from = format!("{log} {epoch} {position} {what}");
    Uuid::new_v5(&Uuid::NAMESPACE_OID, from.as_bytes()).to_string()
}

/// Reacts to a source until there is no more to do, whatever fails.
pub async fn run<R: Reactor>(source: &dyn Follow, reactor: &mut R) {
    let mut backoff = Backoff::new(REST[0], REST[1]);
    loop {
        let result = match pass(source, reactor, &mut backoff).await {
            Ok(()) => return,
            Err(Stop::Follow(lost @ FollowError::NotInHistory { .. })) => {
                reactor.restored(lost).await
            }
            Err(Stop::Follow(error)) => Err(error.into()),
            Err(Stop::Reactor(error)) => Err(error),
        };
        if let Err(error) = result {
            reactor.failed(error);
        }
        tokio::time::sleep(backoff.rest()).await;
    }
}

/// Reacts from where it stopped, until something fails.
async fn pass<R: Reactor>(
    source: &dyn Follow,
    reactor: &mut R,
    backoff: &mut Backoff,
) -> Result<(), Stop<R::Error>> {
    let mut seen = reactor.through().await.map_err(Stop::Reactor)?;
    let mut batches = source.follow(seen.clone()).ready_chunks(BATCH);
    while let Some(batch) = batches.next().await {
        let mut records = Vec::with_capacity(batch.len());
        let mut broken = None;
        for item in batch {
            match item {
                Ok(Item::Record(record)) => records.push(record),
                Ok(Item::CaughtUp(_)) => {}
                Err(error) => broken = Some(error),
            }
        }
        if let Some(last) = records.last() {
            seen = Cursor::at(last);
            if !reactor.offer(&records).await.map_err(Stop::Reactor)? {
                return Ok(());
            }
        }
        if let Some(error) = broken {
            return Err(Stop::Follow(error));
        }
        backoff.reset();
        reactor.saw(&seen);
    }
    Err(Stop::Follow(FollowError::Unavailable {
        log: source.log().to_owned(),
        reason: "its stream ended".to_owned(),
    }))
}
