//! The tables that queries read, and what each event does to them.
//!
//! A batch of events touches few rows: they are loaded together, changed in
//! memory by [`row::evolve`], and written together.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use futures::future::BoxFuture;
use prost::Message;
use samen_log::command::decode;
use samen_log::db::Tx;
use samen_log::store::ApplyError;
use samen_log::{Projection, Record, Schema, Sql};

use crate::domain::status;
use row::{ProjectedEvent, RequestRow};

pub mod queries;
pub mod row;

/// Rows in one statement: ten parameters each, of the 32,766 that SQLite takes.
const CHUNK: usize = 500;

/// The store of this service.
pub struct RequestProjection;

impl Projection for RequestProjection {
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
    for record in records {
        let event: Option<ProjectedEvent> =
            decode(record).map_err(|error| ApplyError::of(record, error))?;
        events.extend(event.filter(|event| row::id(event).is_some()).map(|event| (record, event)));
    }
    let before = load(tx, schema, &events).await?;
    let mut rows = before.clone();
    for (record, event) in &events {
        let Some(id) = row::id(event) else { continue };
        let row = row::evolve(rows.remove(id), record, event)
            .ok_or_else(|| ApplyError::of(record, "its request is not known"))?;
        rows.insert(id.to_owned(), row);
    }
    count(tx, schema, &before, &rows).await?;
    save(tx, schema, rows).await?;
    Ok(())
}

type Rows = HashMap<String, RequestRow>;

async fn load(
    tx: &mut Tx,
    schema: &Schema,
    events: &[(&Arc<Record>, ProjectedEvent)],
) -> Result<Rows, ApplyError> {
    // Whatever makes a request is its first event: no row to look for.
    let changed = events
        .iter()
        .filter(|(_, event)| {
            !matches!(event, ProjectedEvent::RequestFiled(_) | ProjectedEvent::RequestImported(_))
        })
        .filter_map(|(_, event)| row::id(event));
    let ids: Vec<&str> = changed.collect();
    let mut rows = Rows::new();
    for ids in ids.chunks(CHUNK) {
        let mut sql = Sql::new(
            schema,
            "SELECT body, filed_by, description, reporter FROM {s}.request WHERE id",
        );
        sql.any_of(ids.iter().copied());
        for found in sql.fetch_in(tx).await? {
            let row = RequestRow::read(&found).map_err(|e| sqlx::Error::Decode(e.into()))?;
            rows.insert(row.body.id.clone(), row);
        }
    }
    Ok(rows)
}

async fn save(tx: &mut Tx, schema: &Schema, rows: Rows) -> Result<(), ApplyError> {
    let mut rows = rows.into_values().peekable();
    while rows.peek().is_some() {
        let mut sql = Sql::new(
            schema,
            "INSERT INTO {s}.request (id, number, category, status, neighbourhood, created_at,
                                      filed_by, body, description, reporter) ",
        );
        sql.values(rows.by_ref().take(CHUNK).map(|row| {
            let body = row.body.encode_to_vec();
            [
                row.body.id.into(),
                row.body.number.into(),
                row.body.category.into(),
                row.body.status.into(),
                row.body.neighbourhood.into(),
                row.body.create_time.as_ref().map_or(0, samen_server::time::micros).into(),
                row.filed_by.into(),
                body.into(),
                row.description.into(),
                row.reporter.into(),
            ]
        }));
        sql.push(
            " ON CONFLICT (id) DO UPDATE
              SET status = excluded.status, body = excluded.body,
                  description = excluded.description, reporter = excluded.reporter",
        );
        sql.execute(tx).await?;
    }
    Ok(())
}

/// Moves the counts by what the batch changed.
async fn count(
    tx: &mut Tx,
    schema: &Schema,
    before: &Rows,
    after: &Rows,
) -> Result<(), ApplyError> {
    let mut changes: BTreeMap<&str, (i64, i64)> = BTreeMap::new();
    for (rows, by) in [(before, -1), (after, 1)] {
        for row in rows.values() {
            let (open, closed) = changes.entry(&row.body.neighbourhood).or_default();
            let of = if status::is_closed(row.body.status()) { closed } else { open };
            *of += by;
        }
    }
    changes.retain(|_, change| *change != (0, 0));
    if changes.is_empty() {
        return Ok(());
    }
    let mut sql = Sql::new(
        schema,
        "INSERT INTO {s}.neighbourhood_count AS counted (neighbourhood, open, closed) ",
    );
    sql.values(changes.iter().map(|(neighbourhood, (open, closed))| {
        [(*neighbourhood).into(), (*open).into(), (*closed).into()]
    }));
    sql.push(
        " ON CONFLICT (neighbourhood) DO UPDATE
          SET open = counted.open + excluded.open, closed = counted.closed + excluded.closed",
    );
    sql.execute(tx).await?;
    Ok(())
}
