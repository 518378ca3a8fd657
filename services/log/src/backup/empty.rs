//! What a backup is restored into: logs that nobody uses, and in which nothing
//! stands that somebody may have been told of.

use sqlx::{Connection, PgConnection, Row};

use super::{BackupError, RESTORING};
use crate::db::{Db, Location, Schema};
use crate::lease::Leases;
use crate::log::Log;
use crate::on_db;

/// Where a log is restored.
pub struct EmptyLog {
    pub id: String,
    pub schema: Schema,
    /// Those of the log's service.
    leases: Leases,
}

/// What a log is to somebody who wants to restore into it.
enum State {
    Empty,
    /// A restore began here and did not end.
    Interrupted,
    /// Restored, and nothing was appended since.
    Untouched,
    InUse,
}

/// Where a log's head was found: its epoch and position.
pub(super) type Found = Option<(i64, i64)>;

// === impl EmptyLog ===

impl EmptyLog {
    /// The place of the log with this id: tables made where there are none.
    pub async fn at(location: &Location, id: &str) -> sqlx::Result<Self> {
        let schema = Log::tables(location).await?;
        Ok(EmptyLog { id: id.to_owned(), schema, leases: Leases::open(location).await? })
    }

    /// Refuses a log whose service runs.
    pub(super) async fn check_unused(&self) -> Result<(), BackupError> {
        let processes = self.leases.alive().await?.join(", ");
        if processes.is_empty() {
            return Ok(());
        }
        Err(BackupError::InUse { log: self.id.clone(), processes })
    }
}

/// Keeps other restores away. An SQLite file is its process's own already.
pub(super) async fn hold(log: &EmptyLog) -> Result<Option<PgConnection>, BackupError> {
    let EmptyLog { id, schema, .. } = log;
    let Db::Postgres(pool) = &schema.db else { return Ok(None) };
    let mut connection = PgConnection::connect_with(&pool.connect_options()).await?;
    let held: bool = sqlx::query_scalar("SELECT pg_try_advisory_lock(hashtext($1))")
        .bind(format!("restore {}", schema.name()))
        .fetch_one(&mut connection)
        .await?;
    if held { Ok(Some(connection)) } else { Err(BackupError::Busy(id.clone())) }
}

/// Refuses logs that somebody may have been told something about. Those where
/// a restore was interrupted count as empty, and, only together with such a
/// one, those that it had restored.
pub(super) async fn check_empty(logs: &[EmptyLog]) -> Result<Vec<Found>, BackupError> {
    let mut found = Vec::new();
    let mut interrupted = false;
    let mut restored = None;
    for EmptyLog { id, schema, .. } in logs {
        let (state, head) = state(id, schema).await?;
        match state {
            State::Empty => {}
            State::Interrupted => interrupted = true,
            State::Untouched => restored = Some(id),
            State::InUse => return Err(BackupError::Occupied(id.clone())),
        }
        found.push(head);
    }
    match restored {
        Some(id) if !interrupted => Err(BackupError::Occupied(id.clone())),
        _ => Ok(found),
    }
}

async fn state(id: &str, schema: &Schema) -> Result<(State, Found), BackupError> {
    let head = schema.sql("SELECT log, epoch, position FROM {s}.head WHERE one = 1");
    let last = schema.sql("SELECT epoch FROM {s}.record ORDER BY position DESC LIMIT 1");
    let keys = schema.sql("SELECT count(*) FROM (SELECT 1 FROM {s}.sealing_key LIMIT 1) AS k");
    let (head, last, keys) = on_db!(&schema.db, pool => {
        let head = sqlx::query(head).fetch_optional(pool).await?;
        let head = head.map(|row| {
            (row.get::<String, _>(0), row.get::<i64, _>(1), row.get::<i64, _>(2))
        });
        let last: Option<i64> = sqlx::query_scalar(last).fetch_optional(pool).await?;
        let keys: i64 = sqlx::query_scalar(keys).fetch_one(pool).await?;
        (head, last, keys)
    });
    let Some((found, epoch, position)) = head else {
        let empty = last.is_none() && keys == 0;
        return Ok((if empty { State::Empty } else { State::InUse }, None));
    };
    if found != id {
        return Err(BackupError::OtherLog { found, expected: id.to_owned() });
    }
    let state = match last {
        _ if epoch == RESTORING => State::Interrupted,
        None if position == 0 && keys == 0 => State::Empty,
        Some(last) if last < epoch => State::Untouched,
        _ => State::InUse,
    };
    Ok((state, Some((epoch, position))))
}
