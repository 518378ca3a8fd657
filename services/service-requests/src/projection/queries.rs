//! What can be asked. Every query takes who may see what, so that no door has
//! to filter by itself.

use std::collections::BTreeSet;

use prost::{DecodeError, Message};
use samen_log::{Row, Schema, Sql};
use samen_proto::requests::{NeighbourhoodCount, RequestFilter, ServiceRequest};
use samen_server::paging::{self, Page, PageEnd};
use samen_server::time::micros;

use super::row::RequestRow;

/// Who sees which requests.
#[derive(Clone, Debug)]
pub enum Visible {
    /// Employees see all.
    All,
    /// A resident sees what they filed.
    FiledBy(String),
}

/// What became of a request that changed, for one who watches some.
#[derive(Clone, Debug, PartialEq)]
pub enum Change {
    Now(Box<ServiceRequest>),
    /// It does not match, whether it did before or not.
    Left(String),
}

/// One request with its sealed parts.
pub async fn get(schema: &Schema, visible: &Visible, id: &str) -> sqlx::Result<Option<RequestRow>> {
    let mut sql = Sql::new(
        schema,
        "SELECT body, filed_by, description, reporter FROM {s}.request WHERE id = ",
    );
    sql.bind(id);
    restrict(&mut sql, visible);
    let found = sql.fetch(&schema.db).await?;
    found.first().map(RequestRow::read).transpose().map_err(|e| sqlx::Error::Decode(e.into()))
}

/// What became of these requests, for one who watches those that match.
pub async fn changes(
    schema: &Schema,
    visible: &Visible,
    filter: &RequestFilter,
    ids: &BTreeSet<String>,
) -> sqlx::Result<Vec<Change>> {
    let mut sql = Sql::new(schema, "SELECT id, body, CAST(CASE WHEN 1 = 1");
    narrow(&mut sql, filter);
    sql.push(" THEN 1 ELSE 0 END AS bigint) FROM ").push(schema.name());
    sql.push(".request WHERE id").any_of(ids.iter().map(String::as_str));
    restrict(&mut sql, visible);
    sql.push(" ORDER BY number");
    let change = |row: &Row| match row.int(2) {
        0 => Ok(Change::Left(row.text(0))),
        _ => body(row, 1).map(|request| Change::Now(Box::new(request))),
    };
    let changes = sql.fetch(&schema.db).await?.iter().map(change).collect::<Result<_, _>>();
    changes.map_err(|e| sqlx::Error::Decode(e.into()))
}

/// A page of requests, newest first: `size` of them after `from`.
pub async fn list(
    schema: &Schema,
    visible: &Visible,
    filter: &RequestFilter,
    from: &PageEnd,
    size: usize,
) -> sqlx::Result<Page<ServiceRequest>> {
    let select = || {
        let mut sql =
            Sql::new(schema, "SELECT created_at, id, body FROM {s}.request WHERE number <= ");
        sql.bind(from.newest);
        restrict(&mut sql, visible);
        narrow(&mut sql, filter);
        sql
    };
    paging::read(&schema.db, from, size, select, |row| body(row, 2), Message::encoded_len).await
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

fn restrict(sql: &mut Sql, visible: &Visible) {
    match visible {
        Visible::All => {}
        Visible::FiledBy(person) => {
            sql.push(" AND filed_by = ").bind(person.as_str());
        }
    }
}

fn narrow(sql: &mut Sql, filter: &RequestFilter) {
    if !filter.statuses.is_empty() {
        sql.push(" AND status").any_of(filter.statuses.iter().copied());
    }
    if !filter.categories.is_empty() {
        sql.push(" AND category").any_of(filter.categories.iter().map(String::as_str));
    }
    if !filter.neighbourhoods.is_empty() {
        sql.push(" AND neighbourhood").any_of(filter.neighbourhoods.iter().map(String::as_str));
    }
    if let Some(from) = &filter.created_from {
        sql.push(" AND created_at >= ").bind(micros(from));
    }
    if let Some(before) = &filter.created_before {
        sql.push(" AND created_at < ").bind(micros(before));
    }
}

fn body(row: &Row, column: usize) -> Result<ServiceRequest, DecodeError> {
    ServiceRequest::decode(row.bytes(column).as_slice())
}
