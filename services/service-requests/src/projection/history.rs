//! What happened to requests: who, when, and the text that came with it, still
//! sealed.

use std::collections::{BTreeMap, HashMap};

use prost::Message;
use samen_log::command::Event;
use samen_log::db::Tx;
use samen_log::record::recorded_at;
use samen_log::store::ApplyError;
use samen_log::{Schema, Sql};
use samen_proto::contract;
use samen_proto::log::Sealed;
use samen_proto::requests::{HistoryEntry, Status};
use samen_server::time::to_proto;

use super::row::{ProjectedEvent, encoded};
use super::{CHUNK, Events, Rows};
use crate::domain::request::{RequestEvent, imported_status};

/// A row of `history`, as it is read.
#[derive(Clone, Debug)]
pub struct HistoryRow {
    pub body: HistoryEntry,
    /// An encoded `Sealed`; empty where there is none, or it was erased.
    pub sealed: Vec<u8>,
}

impl HistoryRow {
    /// What is told of it.
    pub fn shown(self) -> HistoryEntry {
        HistoryEntry { has_text: !self.sealed.is_empty(), ..self.body }
    }
}

/// A row of `history`, as it is written.
struct Entry<'a> {
    position: u64,
    request: &'a str,
    body: HistoryEntry,
    text: Option<&'a Sealed>,
}

/// Adds what a batch holds; takes out what was erased by it.
pub async fn apply(
    tx: &mut Tx,
    schema: &Schema,
    events: &Events<'_>,
    before: &Rows,
) -> Result<(), ApplyError> {
    let mut entries: Vec<Entry> = Vec::new();
    let mut statuses: HashMap<&str, Status> = HashMap::new();
    for (record, event) in events {
        let id = event.id(record);
        match event {
            ProjectedEvent::Own(own) => {
                let known = statuses.get(id).copied();
                let known = known.or_else(|| before.get(id).map(|row| row.body.status()));
                let status = status_after(own).or(known).unwrap_or_default();
                statuses.insert(id, status);
                let text = text(own);
                let body = HistoryEntry {
                    position: record.position,
                    time: Some(to_proto(recorded_at(record))),
                    actor: record.actor.clone(),
                    kind: own.kind().rsplit('.').next().unwrap_or_default().to_owned(),
                    status: status.into(),
                    has_text: text.is_some(),
                    details: details(&own.kind(), &record.data),
                };
                entries.push(Entry { position: record.position, request: id, body, text });
            }
            ProjectedEvent::Erased(erased) => {
                for entry in entries.iter_mut().filter(|entry| entry.request == id) {
                    let gone = |text: &&Sealed| !erased.key_ids.contains(&text.key_id);
                    entry.text = entry.text.filter(gone);
                }
                let mut sql = Sql::new(schema, "UPDATE {s}.history SET key_id = '', sealed = ");
                sql.bind(Vec::<u8>::new()).push(" WHERE request = ").bind(id).push(" AND key_id");
                sql.any_of(erased.key_ids.iter().map(String::as_str));
                sql.execute(tx).await?;
            }
        }
    }
    for entries in entries.chunks(CHUNK) {
        let mut sql =
            Sql::new(schema, "INSERT INTO {s}.history (position, request, body, key_id, sealed) ");
        sql.values(entries.iter().map(|entry| {
            [
                entry.position.into(),
                entry.request.into(),
                entry.body.encode_to_vec().into(),
                entry.text.map(|text| text.key_id.clone()).unwrap_or_default().into(),
                encoded(entry.text).into(),
            ]
        }));
        sql.execute(tx).await?;
    }
    Ok(())
}

/// All that happened to a request, oldest first.
pub async fn of(schema: &Schema, request: &str) -> sqlx::Result<Vec<HistoryRow>> {
    let mut sql = Sql::new(schema, "SELECT body, sealed FROM {s}.history WHERE request = ");
    sql.bind(request).push(" ORDER BY position");
    read(schema, sql).await
}

/// What happened at these positions.
pub async fn at(schema: &Schema, positions: &[u64]) -> sqlx::Result<Vec<HistoryRow>> {
    // A list of nothing has no type, which PostgreSQL wants to know.
    if positions.is_empty() {
        return Ok(Vec::new());
    }
    let mut sql = Sql::new(schema, "SELECT body, sealed FROM {s}.history WHERE position");
    sql.any_of(positions.iter().copied());
    read(schema, sql).await
}

async fn read(schema: &Schema, sql: Sql) -> sqlx::Result<Vec<HistoryRow>> {
    let rows = sql.fetch(&schema.db).await?;
    let rows = rows.iter().map(|row| {
        let body = HistoryEntry::decode(row.bytes(0).as_slice())?;
        Ok(HistoryRow { body, sealed: row.bytes(1) })
    });
    rows.collect::<Result<_, prost::DecodeError>>().map_err(|e| sqlx::Error::Decode(e.into()))
}

/// Where a request stands after an event; `None` for where it stood.
fn status_after(event: &RequestEvent) -> Option<Status> {
    match event {
        RequestEvent::RequestFiled(_) => Some(Status::Received),
        RequestEvent::RequestImported(imported) => Some(imported_status(imported)),
        RequestEvent::StatusChanged(changed) => Some(changed.to()),
        _ => None,
    }
}

/// The one text that an event carries besides what stands with the request.
fn text(event: &RequestEvent) -> Option<&Sealed> {
    match event {
        RequestEvent::StatusChanged(event) => event.explanation.as_ref(),
        RequestEvent::NoteAdded(event) => event.note.as_ref(),
        RequestEvent::MessageSent(event) => event.message.as_ref(),
        RequestEvent::MessageReceived(event) => event.message.as_ref(),
        RequestEvent::TaskDone(event) => event.report.as_ref(),
        RequestEvent::TaskReturned(event) => event.reason.as_ref(),
        RequestEvent::FeedbackGiven(event) => event.words.as_ref(),
        _ => None,
    }
}

/// What else an event says: its fields by name, without its own id, what is
/// sealed, and what it does not say.
fn details(kind: &str, data: &[u8]) -> BTreeMap<String, String> {
    let said = contract::said(kind, data).unwrap_or_default();
    said.into_iter().filter(|(field, _)| field != "id").collect()
}
