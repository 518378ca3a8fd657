//! A log that is slow, fails, and forgets to say that it wrote.

use std::collections::BTreeSet;
use std::pin::pin;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use futures::future::BoxFuture;
use futures::stream::BoxStream;
use samen_log::record::{GENESIS, hash, timestamp};
use samen_log::relay::Source;
use samen_log::{Cursor, Exchanged, Follow, FollowError, Item, Record};
use tokio::sync::Notify;
use tokio::time::Instant;

use super::world::{World, lock};

/// A log as the processes that opened it have it. Clones are the same one.
#[derive(Clone)]
pub struct SimLog {
    world: World,
    id: Arc<str>,
    state: Arc<Mutex<State>>,
    /// Wakes those who wait in the order in which they came.
    changed: Arc<Notify>,
}

struct State {
    epoch: u64,
    records: Vec<Arc<Record>>,
    written: Vec<Instant>,
    /// Those of the records: each is its record's actor.
    commands: BTreeSet<String>,
    /// No process has it open any more.
    closed: bool,
}

/// One event, on its way into a log.
pub struct Write<'a> {
    /// By which it is written once.
    pub command: &'a str,
    pub stream: &'a str,
    /// The version that the stream must have, where that matters.
    pub version: Option<u64>,
    pub kind: &'a str,
    pub data: Vec<u8>,
}

/// Why something was not written, or perhaps was.
#[derive(Debug, thiserror::Error)]
pub enum Refused {
    #[error("somebody else wrote first")]
    Conflict,
    #[error("whether it was written is not known")]
    Unknown,
}

/// The door of a log's owner: behind it is the log as it is at present, while
/// a stream that was begun goes on with what it was begun with, until nobody
/// serves that any more.
#[derive(Clone)]
pub struct Door(pub Arc<Mutex<SimLog>>);

// === impl Door ===

impl Door {
    pub fn present(&self) -> SimLog {
        lock(&self.0).clone()
    }
}

impl Follow for Door {
    fn log(&self) -> &str {
        super::SOURCE
    }

    fn follow(&self, after: Cursor) -> BoxStream<'static, Result<Item, FollowError>> {
        Exchanged(self.present()).follow(after)
    }
}

// === impl SimLog ===

impl SimLog {
    pub fn new(world: &World, id: &str) -> Self {
        SimLog::of(world, id.into(), 1, Vec::new(), Vec::new())
    }

    fn of(
        world: &World,
        id: Arc<str>,
        epoch: u64,
        records: Vec<Arc<Record>>,
        written: Vec<Instant>,
    ) -> Self {
        let commands = records.iter().map(|record| record.actor.clone()).collect();
        let state = State { epoch, records, written, commands, closed: false };
        let (state, changed) = (Arc::new(Mutex::new(state)), Arc::default());
        SimLog { world: world.clone(), id, state, changed }
    }

    /// The log as a backup has it up to here, in its next epoch. Processes
    /// that have this one open go on with it.
    pub fn restored(&self, length: u64) -> Self {
        let state = lock(&self.state);
        let records = state.records[..length as usize].to_vec();
        let written = state.written[..length as usize].to_vec();
        SimLog::of(&self.world, self.id.clone(), state.epoch + 1, records, written)
    }

    /// The last process that has this one open ends.
    pub fn close(&self) {
        lock(&self.state).closed = true;
        self.changed.notify_waiters();
    }

    /// Waits until that.
    pub async fn closed(&self) {
        loop {
            let mut changed = pin!(self.changed.notified());
            changed.as_mut().enable();
            if lock(&self.state).closed {
                return;
            }
            changed.await;
        }
    }

    pub fn records(&self) -> Vec<Arc<Record>> {
        lock(&self.state).records.clone()
    }

    pub fn length(&self) -> u64 {
        lock(&self.state).records.len() as u64
    }

    /// A stream's records, in order.
    pub fn stream(&self, stream: &str) -> Vec<Arc<Record>> {
        let state = lock(&self.state);
        state.records.iter().filter(|record| record.stream == stream).cloned().collect()
    }

    /// An id that no other command has.
    pub fn new_id(&self) -> u64 {
        self.world.below(u64::MAX)
    }

    /// Waits as long as a question takes, whose answer may not come.
    pub async fn answers(&self) -> Result<(), FollowError> {
        self.world.wire().await;
        if self.world.fails(0.03) { Err(self.unavailable()) } else { Ok(()) }
    }

    /// Appends one event, once for each command.
    pub async fn append(&self, write: Write<'_>) -> Result<(), Refused> {
        self.world.wire().await;
        if self.world.fails(0.05) {
            return Err(Refused::Unknown);
        }
        self.write(write)?;
        if self.world.fails(0.05) {
            return Err(Refused::Unknown);
        }
        self.world.wire().await;
        Ok(())
    }

    fn write(&self, write: Write<'_>) -> Result<(), Refused> {
        let mut state = lock(&self.state);
        if state.commands.contains(write.command) {
            return Ok(());
        }
        let before = state.records.iter().rev().find(|record| record.stream == write.stream);
        let before = before.map_or(0, |record| record.version);
        if write.version.is_some_and(|version| version != before) {
            return Err(Refused::Conflict);
        }
        let position = state.records.len() as u64 + 1;
        let mut record = Record {
            log: self.id.to_string(),
            epoch: state.epoch,
            position,
            stream: write.stream.to_owned(),
            version: before + 1,
            r#type: write.kind.to_owned(),
            actor: write.command.to_owned(),
            recorded_at: Some(timestamp(position as i64)),
            data: write.data,
            ..Record::default()
        };
        let previous = state.records.last().map_or(&GENESIS[..], |last| &last.hash);
        record.hash = hash(previous, &[0; 16], &record).to_vec();
        self.world.tell(|| format!("{} has {position}: {}", self.id, record.r#type));
        state.commands.insert(record.actor.clone());
        state.records.push(Arc::new(record));
        state.written.push(Instant::now());
        drop(state);
        self.changed.notify_waiters();
        Ok(())
    }

    fn page(&self, after: u64, limit: usize) -> Vec<Arc<Record>> {
        let state = lock(&self.state);
        state.records.iter().skip(after as usize).take(limit).cloned().collect()
    }

    fn unavailable(&self) -> FollowError {
        FollowError::Unavailable { log: self.id.to_string(), reason: "simulated".to_owned() }
    }

    fn knows(&self, cursor: &Cursor) -> bool {
        let Some(before) = cursor.position.checked_sub(1) else { return true };
        self.page(before, 1).first().is_some_and(|record| {
            record.epoch == cursor.epoch && cursor.hash.as_ref().is_none_or(|h| *h == record.hash)
        })
    }
}

impl Follow for SimLog {
    fn log(&self) -> &str {
        &self.id
    }

    fn newest(&self) -> Option<u64> {
        Some(self.length())
    }

    fn follow(&self, after: Cursor) -> BoxStream<'static, Result<Item, FollowError>> {
        let this = self.clone();
        Box::pin(async_stream::try_stream! {
            this.world.wire().await;
            if this.world.fails(0.05) {
                Err(this.unavailable())?;
            }
            if !this.knows(&after) {
                let Cursor { epoch, position, .. } = after;
                Err(FollowError::NotInHistory { log: this.id.to_string(), epoch, position })?;
            }
            let mut seen = after.position;
            let mut caught_up = false;
            loop {
                let mut changed = pin!(this.changed.notified());
                changed.as_mut().enable();
                if lock(&this.state).closed {
                    Err(this.unavailable())?;
                }
                let mut known = this.length();
                if this.world.fails(0.2) {
                    // Told too late.
                    known = known.saturating_sub(1 + this.world.below(3)).max(seen);
                }
                while seen < known {
                    let limit = (1 + this.world.below(40)).min(known - seen);
                    for record in this.page(seen, limit as usize) {
                        seen = record.position;
                        yield Item::Record(record);
                    }
                    this.world.wire().await;
                    if this.world.fails(0.02) {
                        Err(this.unavailable())?;
                    }
                }
                if !caught_up {
                    caught_up = true;
                    yield Item::CaughtUp(Cursor { epoch: 0, position: seen, hash: None });
                }
                if seen < this.length() {
                    tokio::time::sleep(Duration::from_millis(50)).await;
                } else {
                    changed.await;
                }
            }
        })
    }
}

impl Source for SimLog {
    fn read(
        &self,
        after: u64,
        limit: usize,
    ) -> BoxFuture<'_, Result<Vec<Arc<Record>>, FollowError>> {
        Box::pin(async move {
            self.answers().await?;
            let mut page = self.page(after, limit);
            if self.world.fails(0.02) {
                // A read of what stood there a while ago.
                page.truncate(page.len().saturating_sub(1));
            }
            Ok(page)
        })
    }

    fn older_than(&self, age: Duration) -> BoxFuture<'_, Result<u64, FollowError>> {
        Box::pin(async move {
            self.world.wire().await;
            let state = lock(&self.state);
            Ok(state.written.iter().take_while(|written| written.elapsed() > age).count() as u64)
        })
    }
}
