//! Whether a log is whole: read from its tables, beside whoever appends.
//!
//! Each record is read once, in order, in short queries, so that neither
//! memory nor the database's own upkeep suffers from a long log. Checked are
//! positions, the hash chain, the versions of each stream, epochs and times,
//! whether each event is one of the contract, whether its sealed content has
//! its keys, and at the end the head. The first fault ends it.
//!
//! - [`fault`]: what can be wrong;
//! - [`rows`]: what is read, ahead of what is checked;
//! - [`content`]: what an event's data must be;
//! - [`versions`]: the versions of streams, in bounded memory.

mod content;
mod fault;
mod rows;
mod versions;

use std::collections::HashSet;

use sqlx::Row;

use crate::checkpoint::Checkpoint;
use crate::db::Schema;
use crate::follow::Cursor;
use crate::on_db;
use crate::record::{GENESIS, Record, hash};
use crate::sql::Sql;

pub use fault::{Fault, Kind, VerifyError};
use rows::{Rows, Stored};
use versions::{Seen, Versions};

/// Records in one query: enough that its cost is not felt, and few enough that
/// it is short.
const PAGE: usize = 2_000;
/// Keys that are asked about in one query: SQLite takes 32,766 parameters.
const KEYS: usize = 10_000;

/// How far it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Progress {
    /// Records that were found in order.
    pub done: u64,
    /// Records that there are to do, as far as is known now.
    pub of: u64,
}

/// What was found in order.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Verified {
    /// The log's id.
    pub log: String,
    /// How many records were read.
    pub records: u64,
    /// The last of them; the head at that moment.
    pub last: Cursor,
}

/// Where a log says that it stands.
pub(crate) struct Head {
    pub log: String,
    pub epoch: u64,
    pub position: i64,
    pub hash: Vec<u8>,
    pub recorded_at: i64,
}

/// Walks the log from this position (from 1) to its head, and says how it
/// goes on. What is appended while it walks is verified too, up to where the
/// head stands when it comes to its end.
///
/// The schema's pool must have two connections.
///
/// With checkpoints, in order, the log must also contain the records that were
/// signed for; whoever wants to know that the history before them is whole as
/// well begins at 1.
pub async fn verify(
    schema: &Schema,
    from: u64,
    checkpoints: &[&Checkpoint],
    mut progress: impl FnMut(Progress),
) -> Result<Verified, VerifyError> {
    let mut head = read_head(schema).await?;
    if let Some(checkpoint) = checkpoints.iter().find(|c| c.log != head.log) {
        let (log, found) = (checkpoint.log.clone(), head.log);
        return Err(VerifyError::OtherLog { log, found });
    }
    // A log that does not reach so far is begun at its end: there, too, the head
    // must be its last record, and nothing may stand beyond it.
    let from = from.min(u64::try_from(head.position).unwrap_or(0).saturating_add(1));
    let mut walk = Walk::begin(schema, &head.log, from, checkpoints).await?;
    // Once to where the head was, and once more to where it is by then.
    for round in 0..2 {
        if round > 0 {
            head = read_head(schema).await?;
        }
        let mut rows = rows::read(schema, &head.log, walk.position, head.position);
        while walk.position < head.position {
            walk.page(&mut rows).await?;
            let done = walk.records;
            progress(Progress { done, of: done + (head.position - walk.position) as u64 });
        }
        walk.compare(&head)?;
    }
    walk.nothing_beyond().await?;
    // Of an empty log there is no record to look for.
    let missing = walk.checkpoints.iter().find(|checkpoint| checkpoint.position > 0);
    if let Some(checkpoint) = missing {
        return Err(walk.fault(checkpoint.position as i64, Kind::BeforeCheckpoint));
    }
    let last =
        Cursor { epoch: walk.epoch, position: walk.position as u64, hash: Some(walk.hash.clone()) };
    Ok(Verified { log: head.log, records: walk.records, last })
}

/// The id of the log whose tables are here.
pub async fn log_id(schema: &Schema) -> Result<String, VerifyError> {
    Ok(read_head(schema).await?.log)
}

/// The head's row, whether or not it says the truth.
pub(crate) async fn read_head(schema: &Schema) -> Result<Head, VerifyError> {
    let sql = schema.sql("SELECT log, epoch, position, hash, recorded_at FROM {s}.head");
    on_db!(&schema.db, pool => {
        let row = sqlx::query(sql).fetch_optional(pool).await?.ok_or(VerifyError::NoHead)?;
        Ok(Head {
            log: row.try_get(0)?,
            epoch: row.try_get::<i64, _>(1)? as u64,
            position: row.try_get(2)?,
            hash: row.try_get(3)?,
            recorded_at: row.try_get(4)?,
        })
    })
}

/// How far the walk has come, and what the next record has to follow.
struct Walk<'a> {
    schema: &'a Schema,
    log: String,
    /// Those whose record has not come yet.
    checkpoints: &'a [&'a Checkpoint],
    records: u64,
    position: i64,
    epoch: u64,
    recorded_at: i64,
    hash: Vec<u8>,
    /// The hash before that one.
    before: Vec<u8>,
    versions: Versions,
}

/// What a page's records rely upon: asked of the database after they were
/// read, when whatever was committed with them is there.
#[derive(Default)]
struct Asked {
    /// Keys of sealed content, and the first record that needs each.
    keys: Vec<(i64, String)>,
    key_ids: HashSet<String>,
    streams: Vec<versions::Question>,
}

// === impl Walk ===

impl<'a> Walk<'a> {
    /// Before this position. What stands before that is taken as it is.
    async fn begin(
        schema: &'a Schema,
        log: &str,
        from: u64,
        checkpoints: &'a [&'a Checkpoint],
    ) -> Result<Self, VerifyError> {
        let mut walk = Walk {
            schema,
            log: log.to_owned(),
            checkpoints,
            records: 0,
            position: 0,
            epoch: 0,
            recorded_at: i64::MIN,
            hash: GENESIS.to_vec(),
            before: Vec::new(),
            versions: Versions::new(from <= 1),
        };
        if from > 1 {
            let position = i64::try_from(from - 1).unwrap_or(i64::MAX);
            let sql = "SELECT epoch, recorded_at, hash FROM {s}.record WHERE position = $1";
            on_db!(&schema.db, pool => {
                let row = sqlx::query(schema.sql(sql)).bind(position).fetch_optional(pool).await?;
                let row = row.ok_or_else(|| walk.fault(position, Kind::Gap { found: None }))?;
                walk.epoch = row.try_get::<i64, _>(0)? as u64;
                walk.recorded_at = row.try_get(1)?;
                walk.hash = row.try_get(2)?;
            });
            walk.position = position;
        }
        Ok(walk)
    }

    /// Checks the next records of those that were read.
    async fn page(&mut self, rows: &mut Rows) -> Result<(), VerifyError> {
        let began = self.position;
        let mut asked = Asked::default();
        let mut found = None;
        for _ in 0..PAGE {
            let row = match rows.recv().await {
                Some(Ok(row)) => row,
                Some(Err(cause)) => return Err(self.unreadable(cause)),
                None => break,
            };
            if let Err(kind) = row.and_then(|stored| self.step(stored, &mut asked)) {
                found = Some(kind);
                break;
            }
        }
        if found.is_none() && self.position == began {
            found = Some(Kind::Gap { found: None });
        }
        // What an earlier record of the page lacks comes before what stopped
        // the page.
        let lacking = self.lacking(&asked).await?;
        match (lacking, found) {
            (Some((position, kind)), _) => Err(self.fault(position, kind)),
            (None, Some(Kind::Inserted)) => Err(self.fault(self.position, Kind::Inserted)),
            (None, Some(kind)) => Err(self.fault(self.position + 1, kind)),
            (None, None) => Ok(()),
        }
    }

    /// Moves on to a record, if it is the next one and as it should be.
    fn step(&mut self, stored: Stored, asked: &mut Asked) -> Result<(), Kind> {
        let Stored { position, record, recorded_at, salt } = stored;
        if position != self.position + 1 {
            return Err(Kind::Gap { found: Some(position) });
        }
        if hash(&self.hash, &salt, &record)[..] != record.hash {
            // It may be as it was, and one that did not belong there was put
            // before it.
            let moved = Record { position: record.position - 1, ..record };
            let inserted = hash(&self.before, &salt, &moved)[..] == moved.hash;
            return Err(if inserted { Kind::Inserted } else { Kind::Altered });
        }
        if record.epoch < self.epoch {
            return Err(Kind::Epoch { found: record.epoch, before: self.epoch });
        }
        if recorded_at < self.recorded_at {
            return Err(Kind::Time);
        }
        match self.versions.step(&record.stream, record.version) {
            Seen::Follows => {}
            Seen::Wrong { expected } => {
                let (stream, found) = (record.stream, record.version);
                return Err(Kind::Version { stream, found, expected });
            }
            Seen::Unknown => asked.streams.push(versions::Question {
                position,
                stream: record.stream,
                version: record.version,
            }),
        }
        let keys = content::sealing_keys(&record.r#type, &record.data)
            .map_err(|reason| Kind::Undecodable { reason })?;
        for key in keys {
            if asked.key_ids.insert(key.clone()) {
                asked.keys.push((position, key));
            }
        }
        while let Some((checkpoint, rest)) = self.checkpoints.split_first() {
            if checkpoint.position > record.position {
                break;
            }
            if checkpoint.position == record.position && checkpoint.hash[..] != record.hash {
                return Err(Kind::Rewritten);
            }
            self.checkpoints = rest;
        }
        self.records += 1;
        self.position = position;
        self.epoch = record.epoch;
        self.recorded_at = recorded_at;
        self.before = std::mem::replace(&mut self.hash, record.hash);
        Ok(())
    }

    /// The first record that lacks what it relies upon.
    async fn lacking(&self, asked: &Asked) -> sqlx::Result<Option<(i64, Kind)>> {
        let wrong = versions::first_wrong(self.schema, &asked.streams).await?;
        let mut there = HashSet::new();
        for keys in asked.keys.chunks(KEYS) {
            let mut sql = Sql::new(self.schema, "SELECT id FROM {s}.sealing_key WHERE id");
            sql.any_of(keys.iter().map(|(_, id)| id.as_str()));
            there.extend(sql.fetch(&self.schema.db).await?.iter().map(|row| row.text(0)));
        }
        let key = asked.keys.iter().find(|(_, id)| !there.contains(id));
        let key = key.map(|(position, id)| (*position, Kind::KeyMissing { id: id.clone() }));
        Ok([wrong, key].into_iter().flatten().min_by_key(|(position, _)| *position))
    }

    /// Whether the head is the last record. Its epoch may be later: one that
    /// has begun and has no record yet.
    fn compare(&self, head: &Head) -> Result<(), VerifyError> {
        if head.position < self.position {
            return Err(self.fault(self.position, Kind::BeyondHead { head: head.position }));
        }
        // Of an empty log there is no time to compare.
        let timely = self.position == 0 || head.recorded_at == self.recorded_at;
        if head.hash != self.hash || head.epoch < self.epoch || !timely {
            return Err(self.fault(self.position, Kind::Head));
        }
        Ok(())
    }

    /// Whether a record stands where the head has not come yet. One statement
    /// sees both as they were at one moment.
    async fn nothing_beyond(&self) -> Result<(), VerifyError> {
        let sql = "SELECT r.position, h.position FROM {s}.head AS h, {s}.record AS r
                   WHERE r.position > h.position ORDER BY r.position LIMIT 1";
        let found = on_db!(&self.schema.db, pool => {
            let row = sqlx::query(self.schema.sql(sql)).fetch_optional(pool).await?;
            row.map(|row| -> sqlx::Result<(i64, i64)> { Ok((row.try_get(0)?, row.try_get(1)?)) })
        });
        match found.transpose()? {
            Some((position, head)) => Err(self.fault(position, Kind::BeyondHead { head })),
            None => Ok(()),
        }
    }

    fn fault(&self, position: i64, kind: Kind) -> VerifyError {
        VerifyError::Fault(Fault { log: self.log.clone(), position, kind })
    }

    /// What the database itself found broken, and where.
    fn unreadable(&self, cause: sqlx::Error) -> VerifyError {
        VerifyError::Unreadable { log: self.log.clone(), after: self.position, cause }
    }
}
