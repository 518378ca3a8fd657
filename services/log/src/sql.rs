//! Statements whose shape depends on the question: filters, lists, batches.
//!
//! The text has `{s}` before names like everywhere; values never stand in the
//! text but are bound, on either driver.

use sqlx::{AssertSqlSafe, Row as _, postgres::PgRow, sqlite::SqliteRow};

use crate::db::{Db, Schema, Tx};

/// A statement under construction.
pub struct Sql {
    text: String,
    args: Vec<Arg>,
}

/// A value to bind.
#[derive(Clone, Debug)]
pub enum Arg {
    Int(i64),
    Text(String),
    Bytes(Vec<u8>),
}

/// A row of either driver. The getters panic on a column of another type: a
/// mistake in our own SQL.
pub enum Row {
    Postgres(PgRow),
    Sqlite(SqliteRow),
}

macro_rules! bind {
    ($query:expr, $arg:expr) => {
        match $arg {
            Arg::Int(value) => $query.bind(value),
            Arg::Text(value) => $query.bind(value),
            Arg::Bytes(value) => $query.bind(value),
        }
    };
}
// Of a shape that may not come again: not worth a prepared statement.
macro_rules! fetch {
    ($sql:expr, $conn:expr, $row:expr) => {{
        let mut query = sqlx::query(AssertSqlSafe($sql.text)).persistent(false);
        for arg in $sql.args {
            query = bind!(query, arg);
        }
        Ok(query.fetch_all($conn).await?.into_iter().map($row).collect())
    }};
}
impl Sql {
    pub fn new(schema: &Schema, text: &str) -> Self {
        Sql { text: schema.sql(text).0, args: Vec::new() }
    }

    /// Adds text of ours.
    pub fn push(&mut self, text: &str) -> &mut Self {
        self.text.push_str(text);
        self
    }

    /// Adds a value.
    pub fn bind(&mut self, value: impl Into<Arg>) -> &mut Self {
        self.args.push(value.into());
        self.text.push('$');
        self.text.push_str(&self.args.len().to_string());
        self
    }

    /// Adds values in brackets: for `IN`, or as a row of `VALUES`.
    pub fn list<A: Into<Arg>>(&mut self, values: impl IntoIterator<Item = A>) -> &mut Self {
        let mut open = "(";
        for value in values {
            self.push(open).bind(value);
            open = ", ";
        }
        // An empty list has no spelling that both databases take.
        self.push(if open == "(" { "(NULL)" } else { ")" })
    }

    /// Adds `VALUES` with these rows.
    pub fn values<const N: usize>(
        &mut self,
        rows: impl IntoIterator<Item = [Arg; N]>,
    ) -> &mut Self {
        let mut before = "VALUES ";
        for row in rows {
            self.push(before).list(row);
            before = ", ";
        }
        self
    }

    /// Runs it in a transaction; says how many rows it changed.
    pub async fn execute(self, tx: &mut Tx) -> sqlx::Result<u64> {
        macro_rules! execute {
            ($conn:expr) => {{
                let mut query = sqlx::query(AssertSqlSafe(self.text)).persistent(false);
                for arg in self.args {
                    query = bind!(query, arg);
                }
                Ok(query.execute($conn).await?.rows_affected())
            }};
        }
        match tx {
            Tx::Postgres(tx) => execute!(&mut **tx),
            Tx::Sqlite(tx) => execute!(&mut **tx),
        }
    }

    /// Reads rows.
    pub async fn fetch(self, db: &Db) -> sqlx::Result<Vec<Row>> {
        match db {
            Db::Postgres(pool) => fetch!(self, pool, Row::Postgres),
            Db::Sqlite(pool) => fetch!(self, pool, Row::Sqlite),
        }
    }

    /// Reads rows in a transaction.
    pub async fn fetch_in(self, tx: &mut Tx) -> sqlx::Result<Vec<Row>> {
        match tx {
            Tx::Postgres(tx) => fetch!(self, &mut **tx, Row::Postgres),
            Tx::Sqlite(tx) => fetch!(self, &mut **tx, Row::Sqlite),
        }
    }
}

impl Row {
    pub fn int(&self, column: usize) -> i64 {
        match self {
            Row::Postgres(row) => row.get(column),
            Row::Sqlite(row) => row.get(column),
        }
    }

    pub fn text(&self, column: usize) -> String {
        match self {
            Row::Postgres(row) => row.get(column),
            Row::Sqlite(row) => row.get(column),
        }
    }

    pub fn bytes(&self, column: usize) -> Vec<u8> {
        match self {
            Row::Postgres(row) => row.get(column),
            Row::Sqlite(row) => row.get(column),
        }
    }
}

impl From<i64> for Arg {
    fn from(value: i64) -> Self {
        Arg::Int(value)
    }
}

impl From<u64> for Arg {
    /// Positions and counts: far below the sign.
    fn from(value: u64) -> Self {
        Arg::Int(value as i64)
    }
}

impl From<i32> for Arg {
    fn from(value: i32) -> Self {
        Arg::Int(value.into())
    }
}

impl From<bool> for Arg {
    /// Kept as 0 or 1: the two drivers agree on that.
    fn from(value: bool) -> Self {
        Arg::Int(value.into())
    }
}

impl From<String> for Arg {
    fn from(value: String) -> Self {
        Arg::Text(value)
    }
}

impl From<&str> for Arg {
    fn from(value: &str) -> Self {
        Arg::Text(value.to_owned())
    }
}

impl From<Vec<u8>> for Arg {
    fn from(value: Vec<u8>) -> Self {
        Arg::Bytes(value)
    }
}
