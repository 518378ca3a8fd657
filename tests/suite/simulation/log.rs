//! A log that is slow, fails, and forgets to say that it wrote.

use std::collections::BTreeSet;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use futures::future::BoxFuture;
use futures::stream::BoxStream;
use samen_log::record::{GENESIS, hash, timestamp};
use samen_log::relay::Source;
use samen_log::{Cursor, Follow, FollowError, Item, Record};
use tokio::sync::watch;
use tokio::time::Instant;

use super::world::{World, lock};

/// What one process sees of a log. Clones see the same one.
#[derive(Clone)]
pub struct SimLog {
    world: World,
    id: Arc<str>,
    state: Arc<Mutex<State>>,
    head: Arc<watch::Sender<u64>>,
}

#[derive(Clone)]
struct State {
    epoch: u64,
    records: Vec<Arc<Record>>,
    written: Vec<Instant>,
    commands: BTreeSet<String>,
}

/// Why something was not written, or perhaps was.
#[derive(Debug, thiserror::Error)]
pub enum Refused {
    #[error("somebody else wrote first")]
    Conflict,
    #[error("whether it was written is not known")]
    Unknown,
}

// === impl SimLog ===

impl SimLog {
    pub fn new(world: &World, id: &str) -> Self {
        let state =
            State { epoch: 1, records: Vec::new(), written: Vec::new(), commands: BTreeSet::new() };
        SimLog::of(world, id.into(), state)
    }

    fn of(world: &World, id: Arc<str>, state: State) -> Self {
        let head = watch::Sender::new(state.records.len() as u64);
        let state = Arc::new(Mutex::new(state));
        SimLog { world: world.clone(), id, state, head: Arc::new(head) }
    }

    /// The log as a backup has it up to here, in its next epoch. Processes
    /// that still have the old one go on with that.
    pub fn restored(&self, length: u64) -> Self {
        let mut state = lock(&self.state).clone();
        state.epoch += 1;
        state.records.truncate(length as usize);
        state.written.truncate(length as usize);
        SimLog::of(&self.world, self.id.clone(), state)
    }

    /// Whether both are the same log, and not one a backup of the other.
    pub fn is(&self, other: &SimLog) -> bool {
        Arc::ptr_eq(&self.state, &other.state)
    }

    pub fn records(&self) -> Vec<Arc<Record>> {
        lock(&self.state).records.clone()
    }

    pub fn length(&self) -> u64 {
        *self.head.borrow()
    }

    /// Appends one record; once for each command, and only to a log of this
    /// length where one is named.
    pub async fn append(
        &self,
        command: &str,
        length: Option<u64>,
        kind: &str,
        data: Vec<u8>,
    ) -> Result<(), Refused> {
        self.world.wire().await;
        if self.world.fails(0.05) {
            return Err(Refused::Unknown);
        }
        self.write(command, length, kind, data)?;
        if self.world.fails(0.05) {
            return Err(Refused::Unknown);
        }
        self.world.wire().await;
        Ok(())
    }

    fn write(
        &self,
        command: &str,
        length: Option<u64>,
        kind: &str,
        data: Vec<u8>,
    ) -> Result<(), Refused> {
        let mut state = lock(&self.state);
        if state.commands.contains(command) {
            return Ok(());
        }
        let position = state.records.len() as u64 + 1;
        if length.is_some_and(|length| length + 1 != position) {
            return Err(Refused::Conflict);
        }
        let mut record = Record {
            log: self.id.to_string(),
            epoch: state.epoch,
            position,
            stream: "request/1".to_owned(),
            version: position,
            r#type: kind.to_owned(),
            actor: command.to_owned(),
            recorded_at: Some(timestamp(position as i64)),
            data,
            ..Record::default()
        };
        let previous = state.records.last().map_or(&GENESIS[..], |last| &last.hash);
        record.hash = hash(previous, &[0; 16], &record).to_vec();
        state.records.push(Arc::new(record));
        state.written.push(Instant::now());
        state.commands.insert(command.to_owned());
        drop(state);
        self.head.send_replace(position);
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
            let mut head = this.head.subscribe();
            let mut seen = after.position;
            let mut caught_up = false;
            loop {
                let mut known = *head.borrow_and_update();
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
                } else if head.changed().await.is_err() {
                    return;
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
            self.world.wire().await;
            if self.world.fails(0.02) {
                return Err(self.unavailable());
            }
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
