//! Looking a whole log through for some of its records: what is asked so
//! seldom that no index is worth its price at every append.

use std::sync::Arc;

use futures::Stream;

use crate::db::Db;
use crate::log::Log;
use crate::record::{Record, timestamp};
use crate::sql::{Row, Sql};

/// Positions looked at in one statement.
const RANGE: u64 = 5_000;
/// Records in one page.
const PAGE: u64 = 100;

const COLUMNS: &str =
    "SELECT position, epoch, stream, version, type, actor, recorded_at, data, hash
                       FROM {s}.record WHERE ";

/// Which records.
#[derive(Clone, Debug)]
pub enum Wanted {
    All,
    /// Those of these types.
    Kinds(Vec<String>),
    /// Those that somebody made and that a stream began with.
    Begun {
        actor: String,
    },
    /// Those that somebody made, those of these streams, and those whose data
    /// hold these bytes anywhere.
    About {
        actor: String,
        streams: Vec<String>,
        holds: Vec<u8>,
    },
}

/// What was found, and up to where was looked.
#[derive(Clone, Debug)]
pub struct Found {
    pub records: Vec<Arc<Record>>,
    pub seen: u64,
}

impl Log {
    /// The records of a kind after one position and up to another, in order,
    /// page by page. Pages may be empty.
    pub fn scan(
        &self,
        wanted: Wanted,
        after: u64,
        up_to: u64,
    ) -> impl Stream<Item = sqlx::Result<Found>> + Send + 'static {
        let log = self.clone();
        async_stream::try_stream! {
            let mut seen = after;
            while seen < up_to {
                let end = up_to.min(seen + RANGE);
                let records = log.look(&wanted, seen, end).await?;
                let full = records.len() as u64 == PAGE;
                seen = records.last().filter(|_| full).map_or(end, |last| last.position);
                yield Found { records, seen };
            }
        }
    }

    async fn look(&self, wanted: &Wanted, after: u64, end: u64) -> sqlx::Result<Vec<Arc<Record>>> {
        let mut sql = Sql::new(self.schema(), COLUMNS);
        sql.push("position > ").bind(after).push(" AND position <= ").bind(end);
        match wanted {
            Wanted::All => {}
            Wanted::Kinds(kinds) => {
                sql.push(" AND type").any_of(kinds.iter().map(String::as_str));
            }
            Wanted::Begun { actor } => {
                sql.push(" AND version = 1 AND actor = ").bind(actor.as_str());
            }
            Wanted::About { actor, streams, holds } => {
                sql.push(" AND (actor = ").bind(actor.as_str());
                match self.schema().db {
                    Db::Postgres(_) => {
                        sql.push(" OR stream").any_of(streams.iter().map(String::as_str));
                        sql.push(" OR position(").bind(holds.clone()).push(" in data) > 0)")
                    }
                    Db::Sqlite(_) => {
                        // As one value: there may be more than it binds.
                        let streams = serde_json::Value::from(streams.clone()).to_string();
                        sql.push(" OR stream IN (SELECT value FROM json_each(");
                        sql.bind(streams).push("))");
                        sql.push(" OR instr(data, ").bind(holds.clone()).push(") > 0)")
                    }
                };
            }
        }
        sql.push(" ORDER BY position LIMIT ").bind(PAGE);
        let rows = sql.fetch(&self.schema().db).await?;
        Ok(rows.iter().map(|row| self.record(row)).collect())
    }

    /// A stream's newest record.
    pub async fn last(&self, stream: &str) -> sqlx::Result<Option<Arc<Record>>> {
        let mut sql = Sql::new(self.schema(), COLUMNS);
        sql.push("stream = ").bind(stream).push(" ORDER BY version DESC LIMIT 1");
        let rows = sql.fetch(&self.schema().db).await?;
        Ok(rows.first().map(|row| self.record(row)))
    }

    /// A row of [`COLUMNS`].
    fn record(&self, row: &Row) -> Arc<Record> {
        Arc::new(Record {
            log: self.id().to_owned(),
            position: row.int(0) as u64,
            epoch: row.int(1) as u64,
            stream: row.text(2),
            version: row.int(3) as u64,
            r#type: row.text(4),
            actor: row.text(5),
            recorded_at: Some(timestamp(row.int(6))),
            data: row.bytes(7),
            hash: row.bytes(8),
        })
    }
}
