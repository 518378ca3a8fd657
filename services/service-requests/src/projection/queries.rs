//! What can be asked. Every query takes who may see what, so that no door has
//! to filter by itself.

use std::collections::BTreeSet;

use jiff::Timestamp;
use prost::{DecodeError, Message};
use samen_log::record::timestamp;
use samen_log::{Row, Schema, Sql};
use samen_proto::requests::{
    Duplicate, Location, NeighbourhoodCount, ServiceRequest, Task, TaskState,
};
use samen_server::paging::{self, Page, PageEnd};

use super::condition::{Condition, Is};
use super::filter::Filter;
use super::row::{self, NONE, PER_DEGREE, RequestRow};
use super::search;
use crate::domain::location;

/// Within which two requests of one kind are probably the same.
const NEAR_METRES: f64 = 50.0;
const NEAR_DAYS: i64 = 14;
/// How many of them are told.
const NEAR_SHOWN: usize = 5;
/// Of a meridian.
const METRES_PER_DEGREE: f64 = 111_195.0;

/// Who sees which requests.
#[derive(Clone, Debug)]
pub enum Visible {
    /// Employees see all.
    All,
    /// A resident sees what they filed.
    FiledBy(String),
    /// Everybody sees what was reported in these categories, once: not the
    /// parts in which it is done.
    Public(BTreeSet<String>),
}

/// Which of the requests that match a filter are told to everybody.
#[derive(Clone, Debug, Default)]
pub struct Published {
    /// From when and before when they changed last, as far as everybody sees:
    /// once closed, that is when they were.
    pub updated: (Option<i64>, Option<i64>),
    /// How many to leave out, and then to give.
    pub skip: u64,
    pub size: u64,
}

// === impl Visible ===

impl Visible {
    /// Whether they see it, of what was read for all.
    pub fn sees(&self, row: &RequestRow) -> bool {
        match self {
            Visible::All => true,
            Visible::FiledBy(person) => row.filed_by == *person,
            Visible::Public(categories) => {
                categories.contains(&row.body.category) && row.body.parent_id.is_empty()
            }
        }
    }

    /// The same in a query.
    pub fn restrict(&self, sql: &mut Sql, schema: &Schema) {
        match self {
            Visible::All => {}
            Visible::FiledBy(person) => {
                sql.push(" AND filed_by = ").bind(person.as_str());
            }
            Visible::Public(categories) => {
                let of = Is::Texts(categories.iter().cloned().collect());
                Condition::new("category", of).guarded(" AND parent = ''").check(sql, schema, true);
            }
        }
    }

    /// Whether they have an index of their own for what they see.
    pub fn is_few(&self) -> bool {
        matches!(self, Visible::FiledBy(_))
    }

    /// What they see of it: who works on it is for staff.
    pub fn shown(&self, request: ServiceRequest) -> ServiceRequest {
        match self {
            Visible::All => request,
            Visible::FiledBy(_) | Visible::Public(_) => {
                ServiceRequest { handling: None, ..request }
            }
        }
    }
}

/// One request with its sealed parts.
pub async fn get(schema: &Schema, visible: &Visible, id: &str) -> sqlx::Result<Option<RequestRow>> {
    let select = format!("SELECT {} FROM {{s}}.request WHERE id = ", row::COLUMNS);
    let mut sql = Sql::new(schema, &select);
    sql.bind(id);
    visible.restrict(&mut sql, schema);
    let found = sql.fetch(&schema.db).await?;
    let mut row = found
        .first()
        .map(RequestRow::read)
        .transpose()
        .map_err(|e| sqlx::Error::Decode(e.into()))?;
    if let Some(row) = &mut row {
        row.body = visible.shown(std::mem::take(&mut row.body));
    }
    Ok(row)
}

/// These requests, for whoever then looks with [`Visible::sees`], without their
/// sealed parts.
pub async fn get_all(schema: &Schema, ids: &BTreeSet<String>) -> sqlx::Result<Vec<RequestRow>> {
    let mut sql = Sql::new(schema, "SELECT body, filed_by, words FROM {s}.request WHERE id");
    sql.any_of(ids.iter().map(String::as_str)).push(" ORDER BY number");
    let row = |row: &Row| {
        Ok(RequestRow {
            body: body(row, 0)?,
            filed_by: row.text(1),
            words: search::decode(&row.bytes(2)),
            ..Default::default()
        })
    };
    let rows = sql.fetch(&schema.db).await?.iter().map(row).collect::<Result<_, _>>();
    rows.map_err(|e: DecodeError| sqlx::Error::Decode(e.into()))
}

/// A page of requests, newest first: `size` of them after `from`.
pub async fn list(
    schema: &Schema,
    visible: &Visible,
    filter: &Filter,
    from: &PageEnd,
    size: usize,
) -> sqlx::Result<Page<ServiceRequest>> {
    let filter = filter.led(schema, visible).await?;
    let select = || {
        let mut sql = filter.select(schema, "created_at, id, body", visible);
        // The plus keeps SQLite from going by the numbers' index: nearly all
        // of them are lower.
        sql.push(" AND +number <= ").bind(from.newest);
        sql
    };
    let request = |row: &Row| Ok(visible.shown(body(row, 2)?));
    paging::read(&schema.db, from, size, select, request, Message::encoded_len).await
}

/// Requests for everybody, newest first.
pub async fn published(
    schema: &Schema,
    visible: &Visible,
    filter: &Filter,
    published: &Published,
) -> sqlx::Result<Vec<ServiceRequest>> {
    let filter = filter.led(schema, visible).await?;
    let mut sql = filter.select(schema, "body", visible);
    let (from, before) = published.updated;
    for (is, moment) in [(" >= ", from), (" < ", before)] {
        let Some(moment) = moment else { continue };
        sql.push(" AND CASE WHEN closed_at < ").bind(NONE);
        sql.push(" THEN closed_at ELSE updated_at END").push(is).bind(moment);
    }
    sql.push(" ORDER BY created_at DESC, id DESC LIMIT ").bind(published.size);
    sql.push(" OFFSET ").bind(published.skip);
    let rows = sql.fetch(&schema.db).await?;
    let requests = rows.iter().map(|row| body(row, 0).map(|body| visible.shown(body)));
    requests.collect::<Result<_, _>>().map_err(|e: DecodeError| sqlx::Error::Decode(e.into()))
}

/// Requests for a file, oldest first: so many after a place, of those with a
/// number up to `newest`. Gives the place where it ended, if more may follow.
pub async fn oldest_first(
    schema: &Schema,
    filter: &Filter,
    newest: u64,
    after: Option<&(i64, String)>,
    size: usize,
) -> sqlx::Result<(Vec<ServiceRequest>, Option<(i64, String)>)> {
    let filter = filter.led(schema, &Visible::All).await?;
    let mut sql = filter.select(schema, "created_at, id, body", &Visible::All);
    sql.push(" AND +number <= ").bind(newest);
    if let Some((created_at, id)) = after {
        sql.push(" AND (created_at, id) > ").row([(*created_at).into(), id.as_str().into()]);
    }
    sql.push(" ORDER BY created_at, id LIMIT ").bind(size as u64);
    let rows = sql.fetch(&schema.db).await?;
    let end = rows.last().filter(|_| rows.len() == size).map(|row| (row.int(0), row.text(1)));
    let requests = rows.iter().map(|row| body(row, 2)).collect::<Result<_, _>>();
    Ok((requests.map_err(|e| sqlx::Error::Decode(e.into()))?, end))
}

/// A page of tasks, newest first: open ones of these networks, and those that
/// the caller took care of.
pub async fn tasks(
    schema: &Schema,
    networks: &[&str],
    member: &str,
    states: &[i32],
    from: &PageEnd,
    size: usize,
) -> sqlx::Result<Page<Task>> {
    let select = || {
        let text = "SELECT created_at, id, body, task_member FROM {s}.request WHERE number <= ";
        let mut sql = Sql::new(schema, text);
        sql.bind(from.newest).push(" AND network").any_of(networks.iter().copied());
        sql.push(" AND (task_member = ").bind(member).push(" OR task = ");
        sql.bind(i32::from(TaskState::Open)).push(" AND closed_at = ").bind(NONE).push(")");
        if !states.is_empty() {
            sql.push(" AND task").any_of(states.iter().copied());
        }
        sql
    };
    let task = |row: &Row| Ok(task(body(row, 2)?, row.text(3) == member));
    paging::read(&schema.db, from, size, select, task, Message::encoded_len).await
}

/// What a network sees of a request.
fn task(request: ServiceRequest, own: bool) -> Task {
    let handling = request.handling.unwrap_or_default();
    Task {
        id: request.id,
        number: request.number,
        category: request.category,
        location: request.location,
        neighbourhood: request.neighbourhood,
        urgency: request.urgency,
        state: handling.task,
        network_id: handling.network,
        own,
        due_time: request.due_time,
        create_time: request.create_time,
        version: request.version,
        photo_ids: request.photo_ids,
    }
}

/// Requests that a reconciler has to look at by now: those that wait longest
/// first.
pub async fn due(schema: &Schema, now: Timestamp, limit: usize) -> sqlx::Result<Vec<String>> {
    let mut sql = Sql::new(schema, "SELECT id FROM {s}.request WHERE look_at <= ");
    sql.bind(now.as_microsecond()).push(" ORDER BY look_at, id LIMIT ").bind(limit as u64);
    Ok(sql.fetch(&schema.db).await?.iter().map(|row| row.text(0)).collect())
}

/// How many requests of each of these categories were filed in each
/// neighbourhood since a moment; without parts, and without those of the past.
pub async fn filed_since(
    schema: &Schema,
    categories: impl Iterator<Item = &str>,
    from: Timestamp,
) -> sqlx::Result<Vec<(String, String, u32)>> {
    let text = "SELECT category, neighbourhood, COUNT(*) FROM {s}.request WHERE category";
    let mut sql = Sql::new(schema, text);
    sql.any_of(categories).push(" AND created_at >= ").bind(from.as_microsecond());
    sql.push(" AND parent = '' AND source = '' AND neighbourhood <> ''");
    sql.push(" GROUP BY category, neighbourhood");
    let rows = sql.fetch(&schema.db).await?;
    Ok(rows.iter().map(|row| (row.text(0), row.text(1), row.int(2) as u32)).collect())
}

/// What is a hotspot now: categories and neighbourhoods.
pub async fn hotspots(schema: &Schema) -> sqlx::Result<BTreeSet<(String, String)>> {
    let sql = Sql::new(schema, "SELECT category, neighbourhood FROM {s}.hotspot");
    Ok(sql.fetch(&schema.db).await?.iter().map(|row| (row.text(0), row.text(1))).collect())
}

/// Open requests of a category near a point and from about now: nearest first.
pub async fn near(schema: &Schema, category: &str, at: &Location) -> sqlx::Result<Vec<Duplicate>> {
    let (latitude, longitude) = (at.latitude, at.longitude);
    let around = NEAR_METRES / METRES_PER_DEGREE;
    let aside = around / latitude.to_radians().cos().abs().max(0.01);
    let since = Timestamp::now().as_microsecond() - NEAR_DAYS * 86_400_000_000;
    let text = "SELECT id, number, latitude, longitude, created_at
                FROM {s}.request WHERE category = ";
    let mut sql = Sql::new(schema, text);
    sql.bind(category).push(" AND created_at >= ").bind(since);
    for (column, from, to) in [
        (" AND latitude", latitude - around, latitude + around),
        (" AND longitude", longitude - aside, longitude + aside),
    ] {
        sql.push(column).push(" BETWEEN ").bind((from * PER_DEGREE) as i64);
        sql.push(" AND ").bind((to * PER_DEGREE) as i64);
    }
    sql.push(" AND closed_at = ").bind(NONE).push(" ORDER BY created_at DESC LIMIT 100");
    let rows = sql.fetch(&schema.db).await?;
    let mut found: Vec<_> = rows
        .iter()
        .map(|row| {
            let degrees = |column| row.int(column) as f64 / PER_DEGREE;
            let there = Location { latitude: degrees(2), longitude: degrees(3) };
            Duplicate {
                id: row.text(0),
                number: row.int(1) as u64,
                distance: location::distance(at, &there),
                create_time: Some(timestamp(row.int(4))),
            }
        })
        .filter(|found| found.distance <= NEAR_METRES)
        .collect();
    found.sort_by(|a, b| a.distance.total_cmp(&b.distance).then(a.number.cmp(&b.number)));
    found.truncate(NEAR_SHOWN);
    Ok(found)
}

/// Open and closed requests by neighbourhood; names are the area's to give.
pub async fn counts(schema: &Schema) -> sqlx::Result<Vec<NeighbourhoodCount>> {
    let sql = Sql::new(
        schema,
        "SELECT neighbourhood, open, closed FROM {s}.neighbourhood_count ORDER BY neighbourhood",
    );
    let rows = sql.fetch(&schema.db).await?;
    let counts = rows.iter().map(|row| NeighbourhoodCount {
        neighbourhood: row.text(0),
        name: String::new(),
        open: row.int(1) as u64,
        closed: row.int(2) as u64,
    });
    Ok(counts.collect())
}

fn body(row: &Row, column: usize) -> Result<ServiceRequest, DecodeError> {
    ServiceRequest::decode(row.bytes(column).as_slice())
}
