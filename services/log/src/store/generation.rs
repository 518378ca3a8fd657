//! One set of tables, its checkpoints, and how both are written together.

use std::sync::{Arc, Mutex, PoisonError};

use sqlx::Row;

use super::keeper::used_by;
use super::{ApplyError, Checkpoints, Projection};
use crate::db::{Durability, Location, Schema};
use crate::follow::Cursor;
use crate::lease::{Kept, Leases};
use crate::projector::{Rows, RowsError};
use crate::record::Record;
use crate::{on_db, on_tx};

/// What a store's names begin with.
pub(super) const KIND: &str = "projection_";

/// Tables that every store has, so that they share its transactions.
pub(super) const TABLES: &str = "
CREATE TABLE IF NOT EXISTS {s}.checkpoint (
    log      text   NOT NULL PRIMARY KEY,
    epoch    bigint NOT NULL,
    position bigint NOT NULL,
    hash     bytea  NOT NULL
);
-- One row, made with the store.
CREATE TABLE IF NOT EXISTS {s}.generation (
    one        bigint NOT NULL PRIMARY KEY CHECK (one = 1),
    -- Why it was begun, for operators.
    reason     text   NOT NULL,
    -- Microseconds since 1970, UTC.
    created_at bigint NOT NULL,
    -- 1: has caught up, and may serve.
    ready      bigint NOT NULL,
    -- 1: a log that it followed has another history now.
    lost       bigint NOT NULL
);
";

/// A set of tables.
pub(super) struct Generation {
    pub name: String,
    pub number: u64,
    pub schema: Schema,
    projection: Arc<dyn Projection>,
    /// Shows other processes that this one uses it.
    _used: Kept,
    seen: Mutex<Checkpoints>,
}

/// What is written about a store in its own tables.
#[derive(Clone, Debug)]
pub(super) struct State {
    pub reason: String,
    pub created_at: i64,
    pub ready: bool,
    pub lost: bool,
}

/// A store's name.
pub(super) fn name(fingerprint: &str, number: u64) -> String {
    format!("{KIND}{fingerprint}_{number}")
}

/// The number in the name of a store with this fingerprint.
pub(super) fn number(name: &str, fingerprint: &str) -> Option<u64> {
    name.strip_prefix(KIND)?.strip_prefix(fingerprint)?.strip_prefix('_')?.parse().ok()
}

impl Generation {
    /// Opens a store, and makes it where it is new.
    pub async fn open(
        location: &Location,
        leases: &Leases,
        fingerprint: &str,
        number: u64,
        tables: &str,
        reason: &str,
        projection: &Arc<dyn Projection>,
    ) -> sqlx::Result<Self> {
        let name = name(fingerprint, number);
        // Before there is anything that another process could drop.
        let used = leases.keep(&used_by(&name)).await?;
        let schema = location.open(&name, tables, Durability::Rebuilt).await?;
        let insert = "INSERT INTO {s}.generation (one, reason, created_at, ready, lost)
                      VALUES (1, $1, $2, 0, 0) ON CONFLICT (one) DO NOTHING";
        let now = jiff::Timestamp::now().as_microsecond();
        on_db!(&schema.db, pool => {
            sqlx::query(schema.sql(insert)).bind(reason).bind(now).execute(pool).await?;
        });
        let seen = Mutex::new(checkpoints(&schema).await?);
        let projection = projection.clone();
        Ok(Generation { name, number, schema, projection, _used: used, seen })
    }

    /// How far it is, as far as this process knows.
    pub fn seen(&self) -> Checkpoints {
        self.seen.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Brings somebody's knowledge of it up to date; says whether it was not.
    pub fn update(&self, known: &mut Checkpoints) -> bool {
        let seen = self.seen.lock().unwrap_or_else(PoisonError::into_inner);
        let changed = *seen != *known;
        if changed {
            known.clone_from(&seen);
        }
        changed
    }

    /// It is this far. False where that was known.
    pub fn note(&self, log: &str, cursor: &Cursor) -> bool {
        let mut seen = self.seen.lock().unwrap_or_else(PoisonError::into_inner);
        if cursor.position == 0 || seen.get(log) == Some(cursor) {
            return false;
        }
        seen.insert(log.to_owned(), cursor.clone());
        true
    }

    /// What its own tables say of it.
    pub async fn state(&self) -> sqlx::Result<State> {
        state(&self.schema).await
    }

    /// It has caught up.
    pub async fn set_ready(&self) -> sqlx::Result<()> {
        self.mark("UPDATE {s}.generation SET ready = 1").await
    }

    /// What it followed is not there any more.
    pub async fn set_lost(&self) -> sqlx::Result<()> {
        self.mark("UPDATE {s}.generation SET lost = 1").await
    }

    async fn mark(&self, sql: &str) -> sqlx::Result<()> {
        on_db!(&self.schema.db, pool => {
            sqlx::query(self.schema.sql(sql)).execute(pool).await?;
        });
        Ok(())
    }

    /// Applies records and moves the checkpoint, in one transaction.
    async fn write(
        &self,
        log: &str,
        before: &Cursor,
        records: &[Arc<Record>],
    ) -> Result<bool, ApplyError> {
        let Some(last) = records.last() else { return Ok(true) };
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
            return Ok(false);
        }
        self.projection.apply(&mut tx, &self.schema, records).await?;
        tx.commit().await?;
        Ok(true)
    }
}

/// A generation's rows, for a lane. Whoever owns it says what follows from
/// what was seen.
pub(super) struct GenerationRows<'a, F> {
    pub generation: &'a Generation,
    pub saw: F,
}

impl<F: Fn(&str, &Cursor, bool) + Send + Sync> Rows for GenerationRows<'_, F> {
    async fn checkpoint(&self, log: &str) -> Result<Cursor, RowsError> {
        let found = checkpoints(&self.generation.schema).await;
        let mut found = found.map_err(|error| RowsError::Failed(error.to_string()))?;
        Ok(found.remove(log).unwrap_or_default())
    }

    async fn apply(
        &self,
        log: &str,
        before: &Cursor,
        records: &[Arc<Record>],
    ) -> Result<(), RowsError> {
        match self.generation.write(log, before, records).await {
            Ok(true) => Ok(()),
            Ok(false) => Err(RowsError::Fenced),
            Err(ApplyError::Record { position, reason, .. }) => {
                Err(RowsError::Record { position, reason })
            }
            Err(ApplyError::Storage(error)) => Err(RowsError::Failed(error.to_string())),
        }
    }

    fn saw(&self, log: &str, cursor: &Cursor, caught_up: bool) {
        (self.saw)(log, cursor, caught_up);
    }
}

pub(super) async fn checkpoints(schema: &Schema) -> sqlx::Result<Checkpoints> {
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

pub(super) async fn state(schema: &Schema) -> sqlx::Result<State> {
    let sql = "SELECT reason, created_at, ready, lost FROM {s}.generation";
    on_db!(&schema.db, pool => {
        let row = sqlx::query(schema.sql(sql)).fetch_one(pool).await?;
        Ok(State {
            reason: row.get(0),
            created_at: row.get(1),
            ready: row.get::<i64, _>(2) == 1,
            lost: row.get::<i64, _>(3) == 1,
        })
    })
}
