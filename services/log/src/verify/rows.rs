//! The rows of a log, read ahead of what is checked: the database and the
//! hashes work at the same time.

use futures::TryStreamExt;
use jiff::Timestamp;
use sqlx::Row;
use tokio::sync::mpsc;
use tokio_util::task::AbortOnDropHandle;

use super::PAGE;
use super::fault::Kind;
use crate::db::Schema;
use crate::on_db;
use crate::record::{Record, timestamp};

/// Rows that are read ahead, at most: a page of the largest records need not
/// fit in memory.
const AHEAD: usize = 256;

/// A row of `record`. Its columns may hold anything.
pub(super) struct Stored {
    pub position: i64,
    pub record: Record,
    pub recorded_at: i64,
    pub salt: Vec<u8>,
}

/// A row as the contract has it, or the column that cannot be read.
type Read = Result<Stored, Kind>;

/// The rows that come next.
pub(super) struct Rows {
    read: mpsc::Receiver<sqlx::Result<Read>>,
    _reading: AbortOnDropHandle<()>,
}

/// A row as the contract has it, or the column that cannot be read. A macro,
/// because the row's type differs by driver.
macro_rules! stored {
    ($log:expr, $row:expr) => {{
        macro_rules! column {
            ($number:expr, $name:expr) => {
                $row.try_get($number).map_err(|_| Kind::Unreadable { column: $name })
            };
        }
        let read = || -> Read {
            let position: i64 = column!(0, "position")?;
            let epoch: i64 = column!(1, "epoch")?;
            let version: i64 = column!(3, "version")?;
            let recorded_at: i64 = column!(6, "recorded_at")?;
            Timestamp::from_microsecond(recorded_at)
                .map_err(|_| Kind::Unreadable { column: "recorded_at" })?;
            Ok(Stored {
                position,
                record: Record {
                    log: $log.to_owned(),
                    position: position as u64,
                    epoch: epoch as u64,
                    stream: column!(2, "stream")?,
                    version: version as u64,
                    r#type: column!(4, "type")?,
                    actor: column!(5, "actor")?,
                    recorded_at: Some(timestamp(recorded_at)),
                    data: column!(7, "data")?,
                    hash: column!(9, "hash")?,
                },
                recorded_at,
                salt: column!(8, "salt")?,
            })
        };
        read()
    }};
}

/// Reads a log's rows after a position and up to another, in order of their
/// positions, from short queries.
pub(super) fn read(schema: &Schema, log: &str, after: i64, last: i64) -> Rows {
    let (rows, read) = mpsc::channel(AHEAD);
    let (schema, log) = (schema.clone(), log.to_owned());
    // Nothing may stand before the first record either.
    let mut after = if after == 0 { i64::MIN } else { after };
    let reading = tokio::spawn(async move {
        loop {
            match page(&schema, &log, after, last, &rows).await {
                Ok(Some(seen)) if seen < last => after = seen,
                Ok(_) => return,
                Err(error) => {
                    let _ = rows.send(Err(error)).await;
                    return;
                }
            }
        }
    });
    Rows { read, _reading: AbortOnDropHandle::new(reading) }
}

/// Reads a page; gives its last position. `None`: there is no more to read, or
/// nobody takes it any more.
async fn page(
    schema: &Schema,
    log: &str,
    after: i64,
    last: i64,
    to: &mpsc::Sender<sqlx::Result<Read>>,
) -> sqlx::Result<Option<i64>> {
    let sql = schema.sql(
        "SELECT position, epoch, stream, version, type, actor, recorded_at, data, salt, hash
         FROM {s}.record WHERE position > $1 AND position <= $2 ORDER BY position LIMIT $3",
    );
    let mut seen = None;
    on_db!(&schema.db, pool => {
        let mut rows = sqlx::query(sql).bind(after).bind(last).bind(PAGE as i64).fetch(pool);
        while let Some(row) = rows.try_next().await? {
            let read = stored!(log, row);
            seen = read.as_ref().ok().map(|stored| stored.position);
            if to.send(Ok(read)).await.is_err() || seen.is_none() {
                return Ok(None);
            }
        }
    });
    Ok(seen)
}

impl Rows {
    /// The next row; `None` after the last.
    pub async fn recv(&mut self) -> Option<sqlx::Result<Read>> {
        self.read.recv().await
    }
}
