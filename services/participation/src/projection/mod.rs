//! The tables that queries read, and what each event does to them.
//!
//! A batch of events touches few processes: they are loaded together, changed
//! in memory by [`row::evolve`], and written together.

use std::collections::{BTreeSet, HashMap};
use std::sync::Arc;

use futures::future::BoxFuture;
use prost::Message;
use samen_log::command::{decode, is};
use samen_log::db::Tx;
use samen_log::store::ApplyError;
use samen_log::{Projection, Record, Schema, Sql};
use samen_proto::privacy::ContentErased;
use samen_server::time::micros;

use row::{ContributionRow, ParticipationEvent, ProcessRow};

pub mod queries;
pub mod row;

/// Rows in one statement: six parameters each, of the 32,766 that SQLite takes.
const CHUNK: usize = 500;

/// The store of this service.
pub struct ParticipationProjection;

impl Projection for ParticipationProjection {
    fn tables(&self) -> &'static str {
        include_str!("schema.sql")
    }

    fn version(&self) -> u32 {
        2
    }

    fn apply<'a>(
        &'a self,
        tx: &'a mut Tx,
        schema: &'a Schema,
        records: &'a [Arc<Record>],
    ) -> BoxFuture<'a, Result<(), ApplyError>> {
        Box::pin(apply(tx, schema, records))
    }
}

async fn apply(tx: &mut Tx, schema: &Schema, records: &[Arc<Record>]) -> Result<(), ApplyError> {
    let mut events = Vec::new();
    let mut erased: HashMap<String, Vec<String>> = HashMap::new();
    for record in records {
        let event: Option<ParticipationEvent> =
            decode(record).map_err(|error| ApplyError::of(record, error))?;
        events.extend(event.map(|event| (record, event)));
        if is::<ContentErased>(&record.r#type) {
            let event = ContentErased::decode(record.data.as_slice())
                .map_err(|error| ApplyError::of(record, error))?;
            if let Some(id) = row::erased(&event) {
                erased.entry(id.to_owned()).or_default().extend(event.key_ids);
            }
        }
    }
    let mut processes = load(tx, schema, &events).await?;
    let mut contributions = Vec::new();
    for (record, event) in &events {
        let id = row::process_id(event);
        let process = row::evolve(processes.remove(id), record, event)
            .ok_or_else(|| ApplyError::of(record, "its process is not known"))?;
        processes.insert(id.to_owned(), process);
        if let ParticipationEvent::ContributionSubmitted(submitted) = event {
            contributions.push(ContributionRow::new(record, submitted));
        }
    }
    // A key is gone for good: it is the same in which order the batch had them.
    contributions.extend(load_contributions(tx, schema, erased.keys()).await?);
    let contributions = contributions.into_iter().map(|row| match erased.get(&row.body.id) {
        Some(keys) => row.without(keys),
        None => row,
    });
    let contributions = contributions.collect();
    save_processes(tx, schema, processes).await?;
    save_contributions(tx, schema, contributions).await?;
    Ok(())
}

type Processes = HashMap<String, ProcessRow>;

async fn load(
    tx: &mut Tx,
    schema: &Schema,
    events: &[(&Arc<Record>, ParticipationEvent)],
) -> Result<Processes, ApplyError> {
    // A process begins with its first event: no row to look for.
    let changed = events
        .iter()
        .filter(|(_, event)| !matches!(event, ParticipationEvent::ProcessStarted(_)))
        .map(|(_, event)| row::process_id(event));
    let ids: Vec<&str> = changed.collect::<BTreeSet<_>>().into_iter().collect();
    let mut processes = Processes::new();
    for ids in ids.chunks(CHUNK) {
        let mut sql = Sql::new(schema, "SELECT started, published, body FROM {s}.process WHERE id");
        sql.any_of(ids.iter().copied());
        for found in sql.fetch_in(tx).await? {
            let process = ProcessRow::read(&found).map_err(|e| sqlx::Error::Decode(e.into()))?;
            processes.insert(process.body.id.clone(), process);
        }
    }
    Ok(processes)
}

async fn load_contributions(
    tx: &mut Tx,
    schema: &Schema,
    ids: impl Iterator<Item = &String>,
) -> Result<Vec<ContributionRow>, ApplyError> {
    let ids: Vec<&str> = ids.map(String::as_str).collect();
    let mut contributions = Vec::new();
    for ids in ids.chunks(CHUNK) {
        let mut sql = Sql::new(
            schema,
            "SELECT created_at, id, submitted, body, text FROM {s}.contribution WHERE id",
        );
        sql.any_of(ids.iter().copied());
        for found in sql.fetch_in(tx).await? {
            let row = ContributionRow::read(&found).map_err(|e| sqlx::Error::Decode(e.into()))?;
            contributions.push(row);
        }
    }
    Ok(contributions)
}

async fn save_processes(
    tx: &mut Tx,
    schema: &Schema,
    processes: Processes,
) -> Result<(), ApplyError> {
    let mut rows = processes.into_values().peekable();
    while rows.peek().is_some() {
        let mut sql =
            Sql::new(schema, "INSERT INTO {s}.process (id, started, published, created_at, body) ");
        sql.values(rows.by_ref().take(CHUNK).map(|row| {
            let body = row.body.encode_to_vec();
            [
                row.body.id.into(),
                row.started.into(),
                row.published.into(),
                row.body.create_time.as_ref().map_or(0, micros).into(),
                body.into(),
            ]
        }));
        sql.push(
            " ON CONFLICT (id) DO UPDATE
              SET published = excluded.published, body = excluded.body",
        );
        sql.execute(tx).await?;
    }
    Ok(())
}

async fn save_contributions(
    tx: &mut Tx,
    schema: &Schema,
    contributions: Vec<ContributionRow>,
) -> Result<(), ApplyError> {
    let mut rows = contributions.into_iter().peekable();
    while rows.peek().is_some() {
        let mut sql = Sql::new(
            schema,
            "INSERT INTO {s}.contribution (id, process_id, submitted, created_at, body, text) ",
        );
        sql.values(rows.by_ref().take(CHUNK).map(|row| {
            let body = row.body.encode_to_vec();
            [
                row.body.id.into(),
                row.body.process_id.into(),
                row.submitted.into(),
                row.body.create_time.as_ref().map_or(0, micros).into(),
                body.into(),
                row.text.into(),
            ]
        }));
        sql.push(" ON CONFLICT (id) DO UPDATE SET text = excluded.text");
        sql.execute(tx).await?;
    }
    Ok(())
}
