//! Following a log into rows: the logic of every projector, whatever keeps the
//! rows.
//!
//! A lane follows one log. It is a reconciler: it begins from the checkpoint
//! that stands with the rows, and a record that was applied cannot be applied
//! again, since the checkpoint moves with the rows and only from where the lane
//! thought it was. A log that fails, or holds a record that cannot be handled,
//! stops its own lane and no other.

use std::any::Any;
use std::panic::AssertUnwindSafe;
use std::sync::Arc;
use std::time::Duration;

use futures::{FutureExt, StreamExt};

use crate::backoff::Backoff;
use crate::follow::{Cursor, Follow, FollowError, Item, PAGE};
use crate::record::Record;
use crate::tasks::Task;

/// How long a lane rests after a failure: at first, and at most.
const BACK_OFF: [Duration; 2] = [Duration::from_millis(100), Duration::from_secs(10)];
/// How long one batch may take, many times what it takes: a database that is
/// gone without a word would otherwise be waited for as long as TCP tries, by
/// who holds the lease.
const BATCH_TIMEOUT: Duration = Duration::from_secs(10);
/// By which part a batch grows again, after one that was in time.
const GROWTH: usize = 8;

/// Rows that follow logs, and how far they are.
pub trait Rows: Send + Sync {
    /// The last record of this log that the rows hold.
    fn checkpoint(&self, log: &str) -> impl Future<Output = Result<Cursor, RowsError>> + Send;

    /// Applies the next records of one log and moves its checkpoint from
    /// `before` to the last of them, or does neither.
    fn apply(
        &self,
        log: &str,
        before: &Cursor,
        records: &[Arc<Record>],
    ) -> impl Future<Output = Result<(), RowsError>> + Send;

    /// The rows hold this much of a log; `caught_up` when that is all that
    /// there was.
    fn saw(&self, log: &str, cursor: &Cursor, caught_up: bool);
}

/// Why rows could not be had or written. Nothing was.
#[derive(Debug, thiserror::Error)]
pub enum RowsError {
    /// The checkpoint is not where the lane thought.
    #[error("another projector is at work on these rows")]
    Fenced,
    /// A record that this release cannot handle.
    #[error("record {position} cannot be projected: {reason}")]
    Record { position: u64, reason: String },
    /// A defect, at one of the records.
    #[error("it panicked: {0}")]
    Panicked(String),
    #[error("the database did not answer in time")]
    Late,
    #[error("{0}")]
    Failed(String),
}

/// One log on its way into rows.
pub struct Lane<'a, R> {
    pub source: &'a dyn Follow,
    pub rows: &'a R,
    pub task: &'a Task,
}

enum Stop {
    Follow(FollowError),
    Rows(RowsError),
    /// With the record that cannot be handled.
    Poison(Arc<Record>, String),
}

impl<R: Rows> Lane<'_, R> {
    /// Follows until the log turns out to have another history than the rows:
    /// they have to be built anew.
    pub async fn run(&self) -> FollowError {
        let mut backoff = Backoff::new(BACK_OFF[0], BACK_OFF[1]);
        let mut failed = false;
        let mut seen = Cursor::START;
        let mut most = PAGE;
        loop {
            let before = seen.position;
            match self.pass(&mut seen, &mut failed, &mut most).await {
                Stop::Follow(lost @ FollowError::NotInHistory { .. }) => return lost,
                Stop::Rows(RowsError::Fenced) => {}
                Stop::Follow(error) => {
                    failed = true;
                    self.fail(&error);
                }
                Stop::Rows(error) => {
                    failed = true;
                    self.fail(&error);
                }
                Stop::Poison(record, reason) => {
                    failed = true;
                    let (position, kind) = (record.position, &record.r#type);
                    tracing::error!(
                        log = record.log,
                        position,
                        kind,
                        reason,
                        task = self.task.shown().name,
                        "a record cannot be projected"
                    );
                    self.task.stopped_at(&record, reason);
                }
            }
            if seen.position != before {
                backoff.reset();
            }
            tokio::time::sleep(backoff.rest()).await;
        }
    }

    fn fail(&self, error: &dyn std::error::Error) {
        let task = self.task.shown().name;
        tracing::error!(%error, log = self.source.log(), task, "projecting stopped");
        self.task.failed(format!("{}: {error}", self.source.log()));
    }

    /// Follows from the checkpoint until something fails.
    async fn pass(&self, seen: &mut Cursor, failed: &mut bool, most: &mut usize) -> Stop {
        let log = self.source.log();
        match in_time(self.rows.checkpoint(log)).await {
            Ok(checkpoint) => *seen = checkpoint,
            Err(error) => return Stop::Rows(error),
        }
        self.saw(seen, false);
        let mut batches = self.source.follow(seen.clone()).ready_chunks(PAGE);
        while let Some(batch) = batches.next().await {
            let mut records = Vec::new();
            let mut caught_up = false;
            let mut broken = None;
            for item in batch {
                match item {
                    Ok(Item::Record(record)) => records.push(record),
                    Ok(Item::CaughtUp(_)) => caught_up = true,
                    Err(error) => broken = Some(error),
                }
            }
            let mut rest = records.as_slice();
            while !rest.is_empty() {
                let (batch, after) = rest.split_at(rest.len().min(*most));
                match self.apply(seen, batch).await {
                    Ok(()) => *most = (*most + *most / GROWTH + 1).min(PAGE),
                    Err(stop) => {
                        // One that took too long may be too much.
                        if let Stop::Rows(RowsError::Late) = stop {
                            *most = batch.len().div_ceil(2);
                        }
                        return stop;
                    }
                }
                rest = after;
            }
            if std::mem::take(failed) {
                self.task.running();
            }
            self.saw(seen, caught_up);
            if let Some(error) = broken {
                return Stop::Follow(error);
            }
        }
        Stop::Follow(FollowError::Unavailable {
            log: log.to_owned(),
            reason: "its stream ended".to_owned(),
        })
    }

    /// Applies a batch. Where that panics, which record it is at is found one by
    /// one.
    async fn apply(&self, seen: &mut Cursor, records: &[Arc<Record>]) -> Result<(), Stop> {
        let result = self.write(seen, records).await;
        let Err(Stop::Rows(RowsError::Panicked(_))) = result else { return result };
        for record in records {
            match self.write(seen, std::slice::from_ref(record)).await {
                Err(Stop::Rows(error @ RowsError::Panicked(_))) => {
                    return Err(Stop::Poison(record.clone(), error.to_string()));
                }
                done => done?,
            }
            self.saw(seen, false);
        }
        Ok(())
    }

    /// Applies a batch; up to a record that cannot be handled, where there is
    /// one.
    async fn write(&self, seen: &mut Cursor, records: &[Arc<Record>]) -> Result<(), Stop> {
        let Some(last) = records.last() else { return Ok(()) };
        let log = self.source.log();
        match in_time(self.rows.apply(log, seen, records)).await {
            Ok(()) => *seen = Cursor::at(last),
            Err(RowsError::Record { position, reason }) => {
                let bad = records.iter().position(|r| r.position == position).unwrap_or(0);
                if let Some(last) = bad.checked_sub(1).map(|last| &records[last]) {
                    let applying = self.rows.apply(log, seen, &records[..bad]);
                    in_time(applying).await.map_err(Stop::Rows)?;
                    *seen = Cursor::at(last);
                    self.saw(seen, false);
                }
                return Err(Stop::Poison(records[bad].clone(), reason));
            }
            Err(error) => return Err(Stop::Rows(error)),
        }
        Ok(())
    }

    fn saw(&self, seen: &Cursor, caught_up: bool) {
        let log = self.source.log();
        self.task.saw(log, seen, self.source.newest().unwrap_or(seen.position));
        self.rows.saw(log, seen, caught_up);
    }
}

/// What becomes of rows within [`BATCH_TIMEOUT`]; a panic is a failure as well,
/// so that it is seen, and is tried again.
async fn in_time<T>(rows: impl Future<Output = Result<T, RowsError>>) -> Result<T, RowsError> {
    let rows = AssertUnwindSafe(rows).catch_unwind();
    match tokio::time::timeout(BATCH_TIMEOUT, rows).await {
        Ok(Ok(done)) => done,
        Ok(Err(panic)) => Err(RowsError::Panicked(message(panic.as_ref()).to_owned())),
        Err(_) => Err(RowsError::Late),
    }
}

/// What a panic says.
fn message(panic: &(dyn Any + Send)) -> &str {
    let text = panic.downcast_ref::<&str>().copied();
    text.or_else(|| panic.downcast_ref::<String>().map(String::as_str)).unwrap_or("without a word")
}
