//! What can be asked. Every query takes who may see what, so that no door has
//! to filter by itself.

use std::collections::BTreeSet;

use prost::Message;
use samen_log::sql::Arg;
use samen_log::{Row, Schema, Sql};
use samen_proto::requests::{NeighbourhoodCount, RequestFilter, ServiceRequest};
use samen_server::time::micros;
use serde::{Deserialize, Serialize};

use super::row::RequestRow;

/// Who sees which requests.
#[derive(Clone, Debug)]
pub enum Visible {
    /// Employees see all.
    All,
    /// A resident sees what they filed.
    FiledBy(String),
}

/// Where a page ended, and what was there when the list began: requests that
/// came since are not on later pages, whatever their moment.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct PageEnd {
    pub created_at: i64,
    pub newest: u64,
    pub id: String,
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

/// These requests, those among them that match.
pub async fn get_all(
    schema: &Schema,
    visible: &Visible,
    filter: &RequestFilter,
    ids: &BTreeSet<String>,
) -> sqlx::Result<Vec<ServiceRequest>> {
    let mut sql = Sql::new(schema, "SELECT body FROM {s}.request WHERE id IN ");
    sql.list(ids.iter().map(String::as_str));
    restrict(&mut sql, visible);
    narrow(&mut sql, filter);
    sql.push(" ORDER BY number");
    sql.fetch(&schema.db).await?.iter().map(body).collect()
}

/// A page of requests, newest first: `limit` of them after `end`.
pub async fn list(
    schema: &Schema,
    visible: &Visible,
    filter: &RequestFilter,
    newest: u64,
    end: Option<&PageEnd>,
    limit: usize,
) -> sqlx::Result<Vec<ServiceRequest>> {
    let mut sql = Sql::new(schema, "SELECT body FROM {s}.request WHERE number <= ");
    sql.bind(newest);
    restrict(&mut sql, visible);
    narrow(&mut sql, filter);
    if let Some(PageEnd { created_at, id, .. }) = end {
        sql.push(" AND (created_at, id) < ")
            .list::<Arg>([(*created_at).into(), id.as_str().into()]);
    }
    sql.push(" ORDER BY created_at DESC, id DESC LIMIT ").bind(limit as i64);
    sql.fetch(&schema.db).await?.iter().map(body).collect()
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
        sql.push(" AND status IN ").list(filter.statuses.iter().copied());
    }
    if !filter.categories.is_empty() {
        sql.push(" AND category IN ").list(filter.categories.iter().map(String::as_str));
    }
    if !filter.neighbourhoods.is_empty() {
        sql.push(" AND neighbourhood IN ").list(filter.neighbourhoods.iter().map(String::as_str));
    }
    if let Some(from) = &filter.created_from {
        sql.push(" AND created_at >= ").bind(micros(from));
    }
    if let Some(before) = &filter.created_before {
        sql.push(" AND created_at < ").bind(micros(before));
    }
}

fn body(row: &Row) -> sqlx::Result<ServiceRequest> {
    ServiceRequest::decode(row.bytes(0).as_slice()).map_err(|e| sqlx::Error::Decode(e.into()))
}
