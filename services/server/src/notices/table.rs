//! What is read of notices: the tables of `tables.sql`, which each service that
//! tells has among its own. No text stands in them.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use prost::DecodeError;
use samen_log::command::decode;
use samen_log::db::Tx;
use samen_log::record::micros;
use samen_log::store::ApplyError;
use samen_log::{Record, Row, Schema, Sql};
use samen_proto::notices::{DeliveryState, NoticeDelivered, NoticeKind, NoticeSent};
use samen_proto::privacy::ContentErased;

use super::INBOX;
use crate::paging::{self, Page, PageEnd};

/// Rows in one statement.
const CHUNK: usize = 500;
const COLUMNS: &str = "SELECT created_at, id, recipient, about, kind, told_of FROM {s}.notice";

samen_log::events! {
    /// What the tables follow.
    pub enum TableEvent { NoticeSent, NoticeDelivered, ContentErased }
}

/// A notice, without its text.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NoticeRow {
    pub id: String,
    /// Pseudonymous id; empty for whoever has the secret.
    pub recipient: String,
    pub about: String,
    pub kind: NoticeKind,
    /// The position of the event that it tells of.
    pub told_of: u64,
    /// Microseconds since 1970.
    pub created_at: i64,
    pub state: DeliveryState,
}

/// The event that was told of last, and to whom.
#[derive(Clone, Debug, Default)]
pub struct LastTold {
    /// 0: nobody was told anything.
    pub position: u64,
    /// Of its notices.
    pub ids: BTreeSet<String>,
}

pub async fn apply(
    tx: &mut Tx,
    schema: &Schema,
    records: &[Arc<Record>],
) -> Result<(), ApplyError> {
    let mut sent = Vec::new();
    let mut delivered: BTreeMap<(String, String), (i32, u64)> = BTreeMap::new();
    let mut forgotten: BTreeMap<String, u64> = BTreeMap::new();
    for record in records {
        let event = decode(record).map_err(|error| ApplyError::of(record, error))?;
        match event {
            None => {}
            Some(TableEvent::NoticeSent(event)) => sent.push((record, event)),
            Some(TableEvent::NoticeDelivered(event)) => {
                let NoticeDelivered { id, channel, state } = event;
                delivered.insert((id, channel), (state, record.version));
            }
            Some(TableEvent::ContentErased(erased)) => {
                if let Some(person) = erased.stream.strip_prefix("person/")
                    && erased.key_ids.contains(&erased.stream)
                {
                    forgotten.insert(person.to_owned(), record.position);
                }
            }
        }
    }
    for sent in sent.chunks(CHUNK) {
        let mut sql = Sql::new(
            schema,
            "INSERT INTO {s}.notice
                 (id, recipient, about, kind, told_of, position, created_at) ",
        );
        sql.values(sent.iter().map(|(record, sent)| {
            [
                sent.id.as_str().into(),
                sent.recipient.as_str().into(),
                sent.about.as_str().into(),
                sent.kind.into(),
                sent.position.into(),
                record.position.into(),
                micros(record).into(),
            ]
        }));
        sql.execute(tx).await?;
    }
    if !delivered.is_empty() {
        let mut sql = Sql::new(
            schema,
            "INSERT INTO {s}.notice_delivery AS known (notice, channel, state, version) ",
        );
        sql.values(delivered.into_iter().map(|((notice, channel), (state, version))| {
            [notice.into(), channel.into(), state.into(), version.into()]
        }));
        sql.push(
            " ON CONFLICT (notice, channel) DO UPDATE
              SET state = excluded.state, version = excluded.version
              WHERE excluded.version > known.version",
        );
        sql.execute(tx).await?;
    }
    if !forgotten.is_empty() {
        let mut sql =
            Sql::new(schema, "INSERT INTO {s}.notice_forgotten AS known (person, position) ");
        sql.values(forgotten.into_iter().map(|(person, at)| [person.into(), at.into()]));
        sql.push(
            " ON CONFLICT (person) DO UPDATE SET position = excluded.position
              WHERE excluded.position > known.position",
        );
        sql.execute(tx).await?;
    }
    Ok(())
}

/// A page of a person's notices, newest first: `size` of them after `from`.
pub async fn page(
    schema: &Schema,
    recipient: &str,
    from: &PageEnd,
    size: usize,
) -> sqlx::Result<Page<NoticeRow>> {
    let select = || {
        let mut sql = Sql::new(schema, COLUMNS);
        sql.push(" WHERE position <= ").bind(from.newest);
        sql.push(" AND recipient = ").bind(recipient);
        sql
    };
    let bytes = |row: &NoticeRow| row.id.len() + row.about.len();
    let mut page = paging::read(&schema.db, from, size, select, read, bytes).await?;
    with_states(schema, &mut page.items).await?;
    Ok(page)
}

/// All notices about a stream, oldest first.
pub async fn about(schema: &Schema, about: &str) -> sqlx::Result<Vec<NoticeRow>> {
    let mut sql = Sql::new(schema, COLUMNS);
    sql.push(" WHERE about = ").bind(about).push(" ORDER BY position");
    rows(schema, sql).await
}

/// These notices, in any order.
pub async fn get_all(
    schema: &Schema,
    ids: impl Iterator<Item = &str>,
) -> sqlx::Result<Vec<NoticeRow>> {
    let mut sql = Sql::new(schema, COLUMNS);
    sql.push(" WHERE id").any_of(ids);
    rows(schema, sql).await
}

/// Up to where in the log all texts to each of these people were forgotten
/// with them.
pub async fn forgotten(
    schema: &Schema,
    people: impl Iterator<Item = &str>,
) -> sqlx::Result<BTreeMap<String, u64>> {
    let mut sql = Sql::new(schema, "SELECT person, position FROM {s}.notice_forgotten");
    sql.push(" WHERE person").any_of(people);
    let rows = sql.fetch(&schema.db).await?;
    Ok(rows.iter().map(|row| (row.text(0), row.int(1) as u64)).collect())
}

/// The event that was told of last.
pub async fn last_told(schema: &Schema) -> sqlx::Result<LastTold> {
    let sql = Sql::new(
        schema,
        "SELECT told_of, id FROM {s}.notice
         WHERE told_of = (SELECT MAX(told_of) FROM {s}.notice)",
    );
    let rows = sql.fetch(&schema.db).await?;
    let position = rows.first().map_or(0, |row| row.int(0) as u64);
    Ok(LastTold { position, ids: rows.iter().map(|row| row.text(1)).collect() })
}

async fn rows(schema: &Schema, sql: Sql) -> sqlx::Result<Vec<NoticeRow>> {
    let found = sql.fetch(&schema.db).await?;
    let rows = found.iter().map(read).collect::<Result<_, _>>();
    let mut rows: Vec<_> = rows.map_err(|error| sqlx::Error::Decode(error.into()))?;
    with_states(schema, &mut rows).await?;
    Ok(rows)
}

/// A row of [`COLUMNS`].
fn read(row: &Row) -> Result<NoticeRow, DecodeError> {
    Ok(NoticeRow {
        created_at: row.int(0),
        id: row.text(1),
        recipient: row.text(2),
        about: row.text(3),
        kind: NoticeKind::try_from(row.int(4) as i32).unwrap_or_default(),
        told_of: row.int(5) as u64,
        state: DeliveryState::Pending,
    })
}

/// Adds how far each of them is: whichever channel brought it furthest.
async fn with_states(schema: &Schema, notices: &mut [NoticeRow]) -> sqlx::Result<()> {
    let mut states: BTreeMap<String, DeliveryState> = BTreeMap::new();
    for notices in notices.chunks(CHUNK) {
        let mut sql =
            Sql::new(schema, "SELECT notice, channel, state FROM {s}.notice_delivery WHERE notice");
        sql.any_of(notices.iter().map(|notice| notice.id.as_str()));
        for row in sql.fetch(&schema.db).await? {
            let state = match row.text(1).as_str() {
                INBOX => DeliveryState::Read,
                _ => DeliveryState::try_from(row.int(2) as i32).unwrap_or_default(),
            };
            let known = states.entry(row.text(0)).or_default();
            if reach(state) > reach(*known) {
                *known = state;
            }
        }
    }
    for notice in notices {
        notice.state = states.get(&notice.id).copied().unwrap_or(DeliveryState::Pending);
    }
    Ok(())
}

fn reach(state: DeliveryState) -> u8 {
    match state {
        DeliveryState::Unspecified => 0,
        DeliveryState::Pending => 1,
        DeliveryState::Failed => 2,
        DeliveryState::Sent => 3,
        DeliveryState::Delivered => 4,
        DeliveryState::Read => 5,
    }
}
