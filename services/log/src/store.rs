//! Projection stores: disposable tables that follow logs.
//!
//! A store's name carries a fingerprint of its tables and version, so that a
//! release with other tables builds its own from the beginning. Changes and
//! the checkpoint are written in one transaction, and the checkpoint moves by
//! compare-and-set: each record counts exactly once, whoever crashes or races.

use std::collections::{HashMap, HashSet};
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use futures::StreamExt;
use futures::future::BoxFuture;
use sha2::{Digest, Sha256};
use sqlx::Row;
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

use crate::db::{Durability, Location, Schema, Tx};
use crate::follow::{Cursor, Follow, FollowError, Item, PAGE};
use crate::record::{Position, Record};
use crate::{on_db, on_tx};

/// The checkpoint is a table like the others, so that it shares their
/// transaction.
const CHECKPOINT: &str = "
CREATE TABLE IF NOT EXISTS {s}.checkpoint (
    log      text   NOT NULL PRIMARY KEY,
    epoch    bigint NOT NULL,
    position bigint NOT NULL,
    hash     bytea  NOT NULL
);
";
/// How long a projector rests after a failure: at first, and at most.
const BACK_OFF: [Duration; 2] = [Duration::from_millis(100), Duration::from_secs(10)];

/// What records do to a store's tables.
pub trait Projection: Send + Sync + 'static {
    /// The tables: statements that may run twice, with `{s}` before names.
    fn tables(&self) -> &'static str;

    /// Raised when `apply` gives other rows in the same tables.
    fn version(&self) -> u32;

    /// Writes what the records of one log do, in their order. Called again
    /// with the same records when its transaction was not committed.
    fn apply<'a>(
        &'a self,
        tx: &'a mut Tx,
        schema: &'a Schema,
        records: &'a [Arc<Record>],
    ) -> BoxFuture<'a, Result<(), ApplyError>>;
}

/// Why records could not be projected. None of their batch is.
#[derive(Debug, thiserror::Error)]
pub enum ApplyError {
    #[error(transparent)]
    Storage(#[from] sqlx::Error),
    #[error("record {position} of type {kind} cannot be projected: {reason}")]
    Record { position: u64, kind: String, reason: String },
}

/// Why a query cannot see as much as was asked.
#[derive(Debug, thiserror::Error)]
pub enum WaitError {
    #[error("log {0} is not followed here")]
    UnknownLog(String),
    #[error("epoch {asked} of log {log} is not the present one, {now}")]
    OtherEpoch { log: String, asked: u64, now: u64 },
}

/// A store and how far it has followed each log. Clones share everything.
#[derive(Clone)]
pub struct Store {
    schema: Schema,
    tables: Arc<str>,
    projection: Arc<dyn Projection>,
    follows: Arc<OnceLock<HashSet<String>>>,
    seen: Arc<watch::Sender<Checkpoints>>,
}

/// The last record projected, by log.
pub type Checkpoints = HashMap<String, Cursor>;

#[derive(Debug, thiserror::Error)]
enum PassError {
    #[error(transparent)]
    Follow(#[from] FollowError),
    #[error(transparent)]
    Apply(#[from] ApplyError),
    #[error(transparent)]
    Storage(#[from] sqlx::Error),
    #[error("another projector is at work on this store")]
    Fenced,
}

// === impl ApplyError ===

impl ApplyError {
    pub fn of(record: &Record, reason: impl ToString) -> Self {
        ApplyError::Record {
            position: record.position,
            kind: record.r#type.clone(),
            reason: reason.to_string(),
        }
    }
}

// === impl Store ===

impl Store {
    /// Opens the store for this projection; makes it where it is new.
    pub async fn open(
        location: &Location,
        projection: impl Projection,
    ) -> Result<Self, sqlx::Error> {
        let tables = format!("{CHECKPOINT}{}", projection.tables());
        let name = format!("projection_{}", fingerprint(&tables, projection.version()));
        let schema = location.open(&name, &tables, Durability::Rebuilt).await?;
        location.drop_others("projection_", &name).await?;
        let checkpoints = read_checkpoints(&schema).await?;
        Ok(Store {
            schema,
            tables: tables.into(),
            projection: Arc::new(projection),
            follows: Arc::default(),
            seen: Arc::new(watch::Sender::new(checkpoints)),
        })
    }

    /// The tables that queries read at this moment. Asked for anew for each
    /// query: a store that was built anew takes the place of the one before.
    pub fn schema(&self) -> Schema {
        self.schema.clone()
    }

    /// Changes whenever this process has projected something.
    pub fn watch(&self) -> watch::Receiver<Checkpoints> {
        self.seen.subscribe()
    }

    /// How far a log was followed.
    pub fn cursor(&self, log: &str) -> Cursor {
        self.seen.borrow().get(log).cloned().unwrap_or_default()
    }

    /// Waits until the store has seen this much of a log. The caller's
    /// deadline bounds it. What another process projects is seen here too: this
    /// one's projector then finds the checkpoint moved, and reads it.
    pub async fn wait_for(&self, at_least: &Position) -> Result<(), WaitError> {
        let Position { log, epoch, position } = at_least;
        if self.follows.get().is_some_and(|follows| !follows.contains(log)) {
            return Err(WaitError::UnknownLog(log.clone()));
        }
        let mut seen = self.seen.subscribe();
        loop {
            if let Some(now) = seen.borrow_and_update().get(log) {
                if now.epoch > *epoch {
                    let (log, asked, now) = (log.clone(), *epoch, now.epoch);
                    return Err(WaitError::OtherEpoch { log, asked, now });
                }
                if now.epoch == *epoch && now.position >= *position {
                    return Ok(());
                }
            }
            if seen.changed().await.is_err() {
                std::future::pending::<()>().await;
            }
        }
    }

    /// Waits until the store has seen a place that the log itself gave: it may
    /// be of an earlier epoch than the one that the store has come to.
    pub async fn see(&self, log: &str, at: &Cursor) {
        let seen = |there: &Cursor| there.epoch >= at.epoch && there.position >= at.position;
        if at.position > 0 {
            let mut projected = self.seen.subscribe();
            // Fails only without a store.
            let _ = projected.wait_for(|logs| logs.get(log).is_some_and(seen)).await;
        }
    }

    /// Follows the logs until `shutdown`: restarts after each failure, and
    /// builds the store anew when a log's history is another than the one it
    /// followed.
    pub fn run(
        self,
        logs: Vec<Arc<dyn Follow>>,
        shutdown: CancellationToken,
    ) -> impl Future<Output = ()> + Send {
        // Known from here on, before the task has begun.
        let _ = self.follows.set(logs.iter().map(|log| log.log().to_owned()).collect());
        self.project(logs, shutdown)
    }

    async fn project(self, logs: Vec<Arc<dyn Follow>>, shutdown: CancellationToken) {
        let [first, longest] = BACK_OFF;
        let mut rest = first;
        loop {
            let before = self.seen.borrow().clone();
            let failed = tokio::select! {
                () = shutdown.cancelled() => return,
                result = self.pass(&logs) => result,
            };
            match failed {
                Ok(()) => {}
                Err(PassError::Follow(error @ FollowError::NotInHistory { .. })) => {
                    tracing::warn!(%error, store = self.schema.name(), "building the store anew");
                    if let Err(error) = self.recreate().await {
                        tracing::error!(%error, "the store cannot be made anew");
                    }
                }
                Err(PassError::Fenced) => {}
                Err(error) => {
                    tracing::error!(%error, store = self.schema.name(), "projecting stopped");
                }
            }
            rest = if *self.seen.borrow() == before { (rest * 2).min(longest) } else { first };
            tokio::select! {
                () = shutdown.cancelled() => return,
                () = tokio::time::sleep(rest) => {}
            }
        }
    }

    /// Follows from the checkpoints until something fails.
    async fn pass(&self, logs: &[Arc<dyn Follow>]) -> Result<(), PassError> {
        let mut checkpoints = read_checkpoints(&self.schema).await?;
        self.publish(checkpoints.clone());
        let sources = logs.iter().enumerate().map(|(source, log)| {
            let after = checkpoints.get(log.log()).cloned().unwrap_or_default();
            // One that ends must not be missed while the others go on.
            let ended = FollowError::Unavailable {
                log: log.log().to_owned(),
                reason: "its stream ended".to_owned(),
            };
            let items = log.follow(after).chain(futures::stream::iter([Err(ended)]));
            items.map(move |item| (source, item)).boxed()
        });
        let mut batches = futures::stream::select_all(sources).ready_chunks(PAGE);
        while let Some(batch) = batches.next().await {
            let mut records: Vec<Vec<Arc<Record>>> = vec![Vec::new(); logs.len()];
            let mut failed = None;
            for (source, item) in batch {
                match item {
                    Ok(Item::Record(record)) => records[source].push(record),
                    Ok(Item::CaughtUp(_)) => {}
                    // The first one is the reason; that it ended only follows.
                    Err(error) => {
                        failed.get_or_insert(error);
                    }
                }
            }
            for (log, records) in logs.iter().zip(records) {
                if let Some(last) = records.last() {
                    let before = checkpoints.get(log.log()).cloned().unwrap_or_default();
                    self.apply(log.log(), &before, &records).await?;
                    checkpoints.insert(log.log().to_owned(), Cursor::at(last));
                }
            }
            self.publish(checkpoints.clone());
            if let Some(error) = failed {
                return Err(error.into());
            }
        }
        Ok(())
    }

    /// Applies records of one log and moves its checkpoint, or neither.
    async fn apply(
        &self,
        log: &str,
        before: &Cursor,
        records: &[Arc<Record>],
    ) -> Result<(), PassError> {
        let Some(last) = records.last() else { return Ok(()) };
        let mut tx = self.schema.begin().await?;
        let moved = if before.position == 0 {
            let sql = "INSERT INTO {s}.checkpoint (log, epoch, position, hash)
                       VALUES ($1, $2, $3, $4) ON CONFLICT (log) DO NOTHING";
            on_tx!(&mut tx, conn => sqlx::query(self.schema.sql(sql))
                .bind(log)
                .bind(last.epoch as i64)
                .bind(last.position as i64)
                .bind(&last.hash)
                .execute(conn)
                .await?
                .rows_affected())
        } else {
            let sql = "UPDATE {s}.checkpoint SET epoch = $2, position = $3, hash = $4
                       WHERE log = $1 AND epoch = $5 AND position = $6";
            on_tx!(&mut tx, conn => sqlx::query(self.schema.sql(sql))
                .bind(log)
                .bind(last.epoch as i64)
                .bind(last.position as i64)
                .bind(&last.hash)
                .bind(before.epoch as i64)
                .bind(before.position as i64)
                .execute(conn)
                .await?
                .rows_affected())
        };
        if moved == 0 {
            return Err(PassError::Fenced);
        }
        self.projection.apply(&mut tx, &self.schema, records).await?;
        tx.commit().await?;
        Ok(())
    }

    async fn recreate(&self) -> sqlx::Result<()> {
        self.schema.recreate(&self.tables).await?;
        self.seen.send_replace(Checkpoints::new());
        Ok(())
    }

    fn publish(&self, checkpoints: Checkpoints) {
        self.seen.send_if_modified(|seen| {
            let changed = *seen != checkpoints;
            *seen = checkpoints;
            changed
        });
    }
}

async fn read_checkpoints(schema: &Schema) -> sqlx::Result<Checkpoints> {
    let sql = "SELECT log, epoch, position, hash FROM {s}.checkpoint";
    on_db!(&schema.db, pool => {
        let rows = sqlx::query(schema.sql(sql)).fetch_all(pool).await?;
        Ok(rows.iter().map(|row| {
            let cursor = Cursor {
                epoch: row.get::<i64, _>(1) as u64,
                position: row.get::<i64, _>(2) as u64,
                hash: Some(row.get(3)),
            };
            (row.get::<String, _>(0), cursor)
        }).collect())
    })
}

fn fingerprint(tables: &str, version: u32) -> String {
    let mut sha = Sha256::new();
    sha.update(version.to_be_bytes());
    sha.update(tables.as_bytes());
    sha.finalize().iter().take(6).map(|byte| format!("{byte:02x}")).collect()
}
