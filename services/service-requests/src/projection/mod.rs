//! The tables that queries read, and what each event does to them.
//!
//! A batch of events touches few rows: they are loaded together, changed in
//! memory by [`row::evolve`], and written together.
//!
//! - [`row`]: a request;
//! - [`history`]: what happened to it;
//! - [`search`]: the words of its description;
//! - [`counts`]: open and closed by neighbourhood;
//! - [`register`]: the catalogue, the organisation, the routing, the networks;
//! - [`hotspots`]: what is one now;
//! - [`places`]: what networks know about places;
//! - [`filter`]: which requests match;
//! - [`condition`]: one condition of a filter;
//! - [`figures`]: figures over them;
//! - [`queries`]: what else can be asked.

use std::collections::HashMap;
use std::sync::Arc;

use futures::future::BoxFuture;
use prost::Message;
use samen_log::db::Tx;
use samen_log::store::ApplyError;
use samen_log::{Keyring, MasterKey, Projection, Record, Schema, Sql};

use row::{ProjectedEvent, RequestRow, moment, place};
use search::Words;

mod condition;
mod counts;
pub mod figures;
pub mod filter;
pub mod history;
mod hotspots;
pub mod places;
pub mod queries;
pub mod register;
pub mod row;
pub mod search;

/// Rows in one statement: thirty parameters each, of the 32,766 that SQLite
/// takes.
const CHUNK: usize = 500;

/// The store of this service.
pub struct RequestProjection {
    /// Opens descriptions, for the words that they are found by.
    keyring: Keyring,
    words: Words,
}

impl RequestProjection {
    pub fn new(keyring: Keyring, master: &MasterKey) -> Self {
        RequestProjection { keyring, words: Words::new(master) }
    }
}

impl Projection for RequestProjection {
    fn tables(&self) -> &'static str {
        concat!(include_str!("schema.sql"), include_str!("../../../server/src/notices/tables.sql"))
    }

    fn version(&self) -> u32 {
        5
    }

    fn apply<'a>(
        &'a self,
        tx: &'a mut Tx,
        schema: &'a Schema,
        records: &'a [Arc<Record>],
    ) -> BoxFuture<'a, Result<(), ApplyError>> {
        Box::pin(apply(self, tx, schema, records))
    }
}

type Events<'a> = Vec<(&'a Arc<Record>, ProjectedEvent)>;
type Rows = HashMap<String, RequestRow>;

async fn apply(
    of: &RequestProjection,
    tx: &mut Tx,
    schema: &Schema,
    records: &[Arc<Record>],
) -> Result<(), ApplyError> {
    register::apply(tx, schema, records).await?;
    places::apply(tx, schema, records).await?;
    hotspots::apply(tx, schema, records).await?;
    samen_server::notices::table::apply(tx, schema, records).await?;
    let mut events = Events::new();
    for record in records {
        let event = ProjectedEvent::of(record).map_err(|error| ApplyError::of(record, error))?;
        events.extend(event.map(|event| (record, event)));
    }
    let before = load(tx, schema, &events).await?;
    let mut words = search::read(&of.keyring, &of.words, &events).await?;
    let mut rows = before.clone();
    for (record, event) in &events {
        let id = event.id(record);
        let mut row = row::evolve(rows.remove(id), record, event)
            .ok_or_else(|| ApplyError::of(record, "its request is not known"))?;
        if event.makes() {
            row.words = words.remove(id).unwrap_or_default();
        }
        rows.insert(id.to_owned(), row);
    }
    history::apply(tx, schema, &events, &before).await?;
    counts::apply(tx, schema, &before, &rows).await?;
    search::apply(tx, schema, &before, &rows).await?;
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
                 due_at, look_at, filed_by, body, kept, description, reporter, address, answers,
                 words, week) ",
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
                  address = excluded.address, answers = excluded.answers,
                  words = excluded.words",
        );
        sql.execute(tx).await?;
    }
    Ok(())
}

/// A row, in the order of the columns.
fn values(row: RequestRow) -> [samen_log::sql::Arg; 33] {
    let look_at = row.look_at();
    let week = row.week();
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
        words,
        ..
    } = row;
    let (latitude, longitude) = place(request.location.as_ref());
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
        search::encode(&words).into(),
        week.into(),
    ]
}
