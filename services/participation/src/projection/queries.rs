//! What can be asked. Every query takes who may see what, so that no door has
//! to filter by itself.

use std::collections::BTreeSet;

use prost::{DecodeError, Message};
use samen_log::sql::Arg;
use samen_log::{Row, Schema, Sql};
use samen_proto::participation::Process;
use serde::{Deserialize, Serialize};

use super::row::ContributionRow;

/// Who sees which processes.
#[derive(Clone, Copy, Debug)]
pub enum Visible {
    /// Process leads see all.
    All,
    /// Everybody else sees what is published.
    Published,
}

/// Where a page ended, and what was there when the list began: what came
/// since is not on later pages, whatever its moment.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct PageEnd {
    pub created_at: i64,
    pub newest: u64,
    pub id: String,
}

// === impl Visible ===

impl Visible {
    /// The column with the position from which on a process is seen; 0 as long
    /// as it is not.
    fn since(self) -> &'static str {
        match self {
            Visible::All => "started",
            Visible::Published => "published",
        }
    }
}

/// One process.
pub async fn get(schema: &Schema, visible: Visible, id: &str) -> sqlx::Result<Option<Process>> {
    let mut sql = Sql::new(schema, "SELECT body FROM {s}.process WHERE id = ");
    sql.bind(id).push(" AND ").push(visible.since()).push(" > 0");
    sql.fetch(&schema.db).await?.first().map(process).transpose()
}

/// These processes.
pub async fn get_all(
    schema: &Schema,
    visible: Visible,
    ids: &BTreeSet<String>,
) -> sqlx::Result<Vec<Process>> {
    let mut sql = Sql::new(schema, "SELECT body FROM {s}.process WHERE id IN ");
    sql.list(ids.iter().map(String::as_str));
    sql.push(" AND ").push(visible.since()).push(" > 0 ORDER BY started");
    sql.fetch(&schema.db).await?.iter().map(process).collect()
}

/// A page of processes, newest first: `limit` of them after `end`.
pub async fn list(
    schema: &Schema,
    visible: Visible,
    newest: u64,
    end: Option<&PageEnd>,
    limit: usize,
) -> sqlx::Result<Vec<Process>> {
    let mut sql = Sql::new(schema, "SELECT body FROM {s}.process WHERE ");
    sql.push(visible.since()).push(" BETWEEN 1 AND ").bind(newest);
    page(&mut sql, end, limit);
    sql.fetch(&schema.db).await?.iter().map(process).collect()
}

/// A page of a process's contributions, newest first: `limit` of them after
/// `end`. Whether the process may be seen, the caller has found out.
pub async fn contributions(
    schema: &Schema,
    process_id: &str,
    newest: u64,
    end: Option<&PageEnd>,
    limit: usize,
) -> sqlx::Result<Vec<ContributionRow>> {
    let mut sql =
        Sql::new(schema, "SELECT submitted, body, text FROM {s}.contribution WHERE process_id = ");
    sql.bind(process_id).push(" AND submitted <= ").bind(newest);
    page(&mut sql, end, limit);
    let rows = sql.fetch(&schema.db).await?;
    rows.iter().map(|row| ContributionRow::read(row).map_err(undecodable)).collect()
}

fn page(sql: &mut Sql, end: Option<&PageEnd>, limit: usize) {
    if let Some(PageEnd { created_at, id, .. }) = end {
        sql.push(" AND (created_at, id) < ")
            .list::<Arg>([(*created_at).into(), id.as_str().into()]);
    }
    sql.push(" ORDER BY created_at DESC, id DESC LIMIT ").bind(limit as i64);
}

fn process(row: &Row) -> sqlx::Result<Process> {
    Process::decode(row.bytes(0).as_slice()).map_err(undecodable)
}

fn undecodable(error: DecodeError) -> sqlx::Error {
    sqlx::Error::Decode(error.into())
}
