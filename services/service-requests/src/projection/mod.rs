//! The tables that queries read, and what each event does to them.
//!
//! A batch of events touches few rows: they are loaded together, changed in
//! memory by [`row::evolve`], and written together.
//!
//! - [`row`]: a request;
//! - [`history`]: what happened to it;
//! - [`counts`]: open and closed by neighbourhood;
//! - [`register`]: the catalogue, the organisation, the routing, the networks;
//! - [`hotspots`]: what is one now;
//! - [`places`]: what networks know about places;
//! - [`queries`]: what can be asked.

use std::collections::HashMap;
use std::sync::Arc;

use futures::future::BoxFuture;
use prost::Message;
use samen_log::db::Tx;
use samen_log::store::ApplyError;
use samen_log::{Projection, Record, Schema, Sql};
use samen_server::time::micros;

use row::{NONE, PER_DEGREE, ProjectedEvent, RequestRow};

mod counts;
pub mod history;
mod hotspots;
pub mod places;
pub mod queries;
pub mod register;
pub mod row;

/// Rows in one statement: thirty parameters each, of the 32,766 that SQLite
/// takes.
const CHUNK: usize = 500;

/// The store of this service.
pub struct RequestProjection;

impl Projection for RequestProjection {
    fn tables(&self) -> &'static str {
        include_str!("schema.sql")
    }

    fn version(&self) -> u32 {
        3
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

type Events<'a> = Vec<(&'a Arc<Record>, ProjectedEvent)>;
type Rows = HashMap<String, RequestRow>;

async fn apply(tx: &mut Tx, schema: &Schema, records: &[Arc<Record>]) -> Result<(), ApplyError> {
    register::apply(tx, schema, records).await?;
    places::apply(tx, schema, records).await?;
    hotspots::apply(tx, schema, records).await?;
    let mut events = Events::new();
    for record in records {
        let event = ProjectedEvent::of(record).map_err(|error| ApplyError::of(record, error))?;
        events.extend(event.map(|event| (record, event)));
    }
    let before = load(tx, schema, &events).await?;
    let mut rows = before.clone();
    for (record, event) in &events {
        let id = event.id(record);
        let row = row::evolve(rows.remove(id), record, event)
            .ok_or_else(|| ApplyError::of(record, "its request is not known"))?;
        rows.insert(id.to_owned(), row);
    }
    history::apply(tx, schema, &events, &before).await?;
    counts::apply(tx, schema, &before, &rows).await?;
    save(tx, schema, rows).await
}

async fn load(tx: &mut Tx, schema: &Schema, events: &Events<'_>) -> Result<Rows, ApplyError> {
    // Whatever makes a request is its first event: no row to look for.
    let changed = events.iter().filter(|(_, event)| !event.makes());
    let ids: Vec<&str> = changed.map(|(record, event)| event.id(record)).collect();
    let mut rows = Rows::new();
    for ids in ids.chunks(CHUNK) {
        let select = format!("SELECT {} FROM {{s}}.request WHERE id", row::COLUMNS);
        let mut sql = Sql::new(schema, &select);
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
            "INSERT INTO {s}.request (id, number, category, status, neighbourhood, channel,
                 urgency, norm_state, team, assignee, network, task, task_member, source, parent,
                 satisfaction, photos, latitude, longitude, created_at, updated_at, closed_at,
                 due_at, look_at, filed_by, body, kept, description, reporter, address, answers) ",
        );
        sql.values(rows.by_ref().take(CHUNK).map(values));
        sql.push(
            " ON CONFLICT (id) DO UPDATE
              SET category = excluded.category, status = excluded.status,
                  neighbourhood = excluded.neighbourhood, urgency = excluded.urgency,
                  norm_state = excluded.norm_state, team = excluded.team,
                  assignee = excluded.assignee, network = excluded.network,
                  task = excluded.task, task_member = excluded.task_member,
                  satisfaction = excluded.satisfaction,
                  photos = excluded.photos, latitude = excluded.latitude,
                  longitude = excluded.longitude, updated_at = excluded.updated_at,
                  closed_at = excluded.closed_at, due_at = excluded.due_at,
                  look_at = excluded.look_at, body = excluded.body, kept = excluded.kept,
                  description = excluded.description, reporter = excluded.reporter,
                  address = excluded.address, answers = excluded.answers",
        );
        sql.execute(tx).await?;
    }
    Ok(())
}

/// A row, in the order of the columns.
fn values(row: RequestRow) -> [samen_log::sql::Arg; 31] {
    let look_at = row.look_at();
    let kept = row.approach_at.as_ref().map(Message::encode_to_vec).unwrap_or_default();
    let body = row.body.encode_to_vec();
    let RequestRow {
        body: request,
        filed_by,
        task_member,
        description,
        reporter,
        address,
        answers,
        ..
    } = row;
    let moment = |time: Option<&prost_types::Timestamp>| time.map_or(NONE, micros);
    let degrees = |degrees: f64| (degrees * PER_DEGREE).round() as i64;
    let (latitude, longitude) = match request.location {
        Some(at) => (degrees(at.latitude), degrees(at.longitude)),
        None => (NONE, NONE),
    };
    let handling = request.handling.unwrap_or_default();
    [
        request.id.into(),
        request.number.into(),
        request.category.into(),
        request.status.into(),
        request.neighbourhood.into(),
        request.channel.into(),
        request.urgency.into(),
        request.norm_state.into(),
        handling.team.into(),
        handling.assignee.into(),
        handling.network.into(),
        handling.task.into(),
        task_member.into(),
        request.source.into(),
        request.parent_id.into(),
        u64::from(request.satisfaction).into(),
        (request.photo_ids.len() as u64).into(),
        latitude.into(),
        longitude.into(),
        moment(request.create_time.as_ref()).into(),
        moment(request.update_time.as_ref()).into(),
        moment(request.close_time.as_ref()).into(),
        moment(request.due_time.as_ref()).into(),
        look_at.into(),
        filed_by.into(),
        body.into(),
        kept.into(),
        description.into(),
        reporter.into(),
        address.into(),
        answers.into(),
    ]
}
