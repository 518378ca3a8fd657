//! What can be asked. Every query takes who may see what, so that no door has
//! to filter by itself.

use std::collections::BTreeSet;

use prost::{DecodeError, Message};
use samen_log::{Row, Schema, Sql};
use samen_proto::participation::Process;
use samen_server::paging::{self, Page, PageEnd};

use super::row::ContributionRow;

/// Who sees which processes.
#[derive(Clone, Copy, Debug)]
pub enum Visible {
    /// Process leads see all.
    All,
    /// Everybody else sees what is published.
    Published,
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
    let found = sql.fetch(&schema.db).await?;
    found.first().map(|row| process(row, 0)).transpose().map_err(undecodable)
}

/// These processes.
pub async fn get_all(
    schema: &Schema,
    visible: Visible,
    ids: &BTreeSet<String>,
) -> sqlx::Result<Vec<Process>> {
    let mut sql = Sql::new(schema, "SELECT body FROM {s}.process WHERE id");
    sql.any_of(ids.iter().map(String::as_str));
    sql.push(" AND ").push(visible.since()).push(" > 0 ORDER BY started");
    let found = sql.fetch(&schema.db).await?;
    found.iter().map(|row| process(row, 0)).collect::<Result<_, _>>().map_err(undecodable)
}

/// A page of processes, newest first: `size` of them after `from`.
pub async fn list(
    schema: &Schema,
    visible: Visible,
    from: &PageEnd,
    size: usize,
) -> sqlx::Result<Page<Process>> {
    let select = || {
        let mut sql = Sql::new(schema, "SELECT created_at, id, body FROM {s}.process WHERE ");
        sql.push(visible.since()).push(" BETWEEN 1 AND ").bind(from.newest);
        sql
    };
    paging::read(&schema.db, from, size, select, |row| process(row, 2), Message::encoded_len).await
}

/// A page of a process's contributions, newest first: `size` of them after
/// `from`. Whether the process may be seen, the caller has found out.
pub async fn contributions(
    schema: &Schema,
    process_id: &str,
    from: &PageEnd,
    size: usize,
) -> sqlx::Result<Page<ContributionRow>> {
    let select = || {
        let mut sql = Sql::new(
            schema,
            "SELECT created_at, id, submitted, body, text FROM {s}.contribution
             WHERE process_id = ",
        );
        sql.bind(process_id).push(" AND submitted <= ").bind(from.newest);
        sql
    };
    let bytes = |row: &ContributionRow| row.body.encoded_len() + row.text.len();
    paging::read(&schema.db, from, size, select, ContributionRow::read, bytes).await
}

fn process(row: &Row, column: usize) -> Result<Process, DecodeError> {
    Process::decode(row.bytes(column).as_slice())
}

fn undecodable(error: DecodeError) -> sqlx::Error {
    sqlx::Error::Decode(error.into())
}
