//! Statements whose shape depends on the question: filters, lists, batches.
//!
//! The text has `{s}` before names like everywhere; values never stand in the
//! text but are bound, on either driver. On PostgreSQL many values are bound
//! as one array, so that the text does not depend on their number and the
//! statement is prepared once.

use sqlx::{AssertSqlSafe, Row as _, postgres::PgRow, sqlite::SqliteRow};

use crate::db::{Db, Schema, Tx};

/// A statement under construction.
pub struct Sql {
    text: String,
    args: Vec<Arg>,
    arrays: bool,
}

/// A value to bind.
#[derive(Clone, Debug)]
pub enum Arg {
    Int(i64),
    Text(String),
    Bytes(Vec<u8>),
    Ints(Vec<i64>),
    Texts(Vec<String>),
    BytesList(Vec<Vec<u8>>),
}

/// A row of either driver. The getters panic on a column of another type: a
/// mistake in our own SQL.
pub enum Row {
    Postgres(PgRow),
    Sqlite(SqliteRow),
}

macro_rules! run {
    ($sql:expr, $conn:expr, $method:ident, [$($array:ident),*]) => {{
        // SQLite's text depends on the number of values: not worth keeping.
        let mut query = sqlx::query(AssertSqlSafe($sql.text)).persistent($sql.arrays);
        for arg in $sql.args {
            query = match arg {
                Arg::Int(value) => query.bind(value),
                Arg::Text(value) => query.bind(value),
                Arg::Bytes(value) => query.bind(value),
                $(Arg::$array(values) => query.bind(values),)*
                #[allow(unreachable_patterns)]
                array => unreachable!("SQLite takes no arrays, and is given none: {array:?}"),
            };
        }
        query.$method($conn).await
    }};
}

macro_rules! run_on_postgres {
    ($sql:expr, $conn:expr, $method:ident) => {
        run!($sql, $conn, $method, [Ints, Texts, BytesList])
    };
}

macro_rules! run_on_sqlite {
    ($sql:expr, $conn:expr, $method:ident) => {
        run!($sql, $conn, $method, [])
    };
}

impl Sql {
    pub fn new(schema: &Schema, text: &str) -> Self {
        let arrays = matches!(schema.db, Db::Postgres(_));
        Sql { text: schema.sql(text).0, args: Vec::new(), arrays }
    }

    /// Adds text of ours.
    pub fn push(&mut self, text: &str) -> &mut Self {
        self.text.push_str(text);
        self
    }

    /// Adds a value.
    pub fn bind(&mut self, value: impl Into<Arg>) -> &mut Self {
        self.args.push(value.into());
        if self.arrays {
            self.text.push('$');
            self.text.push_str(&self.args.len().to_string());
        } else {
            // A number would make SQLite look through all names before it.
            self.text.push('?');
        }
        self
    }

    /// Adds values in brackets, as one row.
    pub fn row<const N: usize>(&mut self, values: [Arg; N]) -> &mut Self {
        let mut before = "(";
        for value in values {
            self.push(before).bind(value);
            before = ", ";
        }
        self.push(")")
    }

    /// Adds the condition that what stands before is one of these.
    pub fn any_of<A: Into<Arg>>(&mut self, values: impl IntoIterator<Item = A>) -> &mut Self {
        let mut values = values.into_iter().map(Into::into).peekable();
        if values.peek().is_none() {
            // An empty list is of no kind, and SQLite has no spelling for it.
            self.push(" IN (NULL)")
        } else if self.arrays {
            self.push(" = ANY(").bind(array(values)).push(")")
        } else {
            let mut before = " IN (";
            for value in values {
                self.push(before).bind(value);
                before = ", ";
            }
            self.push(")")
        }
    }

    /// Adds these rows, as what an INSERT takes. At least one.
    pub fn values<const N: usize>(
        &mut self,
        rows: impl IntoIterator<Item = [Arg; N]>,
    ) -> &mut Self {
        if self.arrays {
            let mut columns: [Vec<Arg>; N] = std::array::from_fn(|_| Vec::new());
            for row in rows {
                for (column, value) in columns.iter_mut().zip(row) {
                    column.push(value);
                }
            }
            let mut before = "SELECT * FROM unnest(";
            for column in columns {
                let column = array(column.into_iter());
                let kind = match column {
                    Arg::Ints(_) => "::bigint[]",
                    Arg::Texts(_) => "::text[]",
                    _ => "::bytea[]",
                };
                self.push(before).bind(column).push(kind);
                before = ", ";
            }
            // Without a condition, an ON CONFLICT after it would be ambiguous.
            self.push(") WHERE true")
        } else {
            let mut before = "VALUES ";
            for row in rows {
                self.push(before).row(row);
                before = ", ";
            }
            self
        }
    }

    /// Runs it in a transaction; says how many rows it changed.
    pub async fn execute(self, tx: &mut Tx) -> sqlx::Result<u64> {
        Ok(match tx {
            Tx::Postgres(tx) => run_on_postgres!(self, &mut **tx, execute)?.rows_affected(),
            Tx::Sqlite(tx) => run_on_sqlite!(self, &mut **tx, execute)?.rows_affected(),
        })
    }

    /// Reads rows.
    pub async fn fetch(self, db: &Db) -> sqlx::Result<Vec<Row>> {
        Ok(match db {
            Db::Postgres(pool) => {
                run_on_postgres!(self, pool, fetch_all)?.into_iter().map(Row::Postgres).collect()
            }
            Db::Sqlite(pool) => {
                run_on_sqlite!(self, pool, fetch_all)?.into_iter().map(Row::Sqlite).collect()
            }
        })
    }

    /// Reads rows in a transaction.
    pub async fn fetch_in(self, tx: &mut Tx) -> sqlx::Result<Vec<Row>> {
        Ok(match tx {
            Tx::Postgres(tx) => {
                let rows = run_on_postgres!(self, &mut **tx, fetch_all)?;
                rows.into_iter().map(Row::Postgres).collect()
            }
            Tx::Sqlite(tx) => {
                let rows = run_on_sqlite!(self, &mut **tx, fetch_all)?;
                rows.into_iter().map(Row::Sqlite).collect()
            }
        })
    }
}

/// Values of one kind, the first one's, as an array.
fn array(values: impl Iterator<Item = Arg>) -> Arg {
    let mut values = values.peekable();
    match values.peek() {
        Some(Arg::Int(_)) => Arg::Ints(
            values.filter_map(|v| if let Arg::Int(v) = v { Some(v) } else { None }).collect(),
        ),
        Some(Arg::Bytes(_)) => Arg::BytesList(
            values.filter_map(|v| if let Arg::Bytes(v) = v { Some(v) } else { None }).collect(),
        ),
        _ => Arg::Texts(
            values.filter_map(|v| if let Arg::Text(v) = v { Some(v) } else { None }).collect(),
        ),
    }
}

impl Row {
    pub fn int(&self, column: usize) -> i64 {
        match self {
            // A number that stands in a statement is an int4 there.
            Row::Postgres(row) => row
                .try_get::<i64, _>(column)
                .unwrap_or_else(|_| i64::from(row.get::<i32, _>(column))),
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

macro_rules! arg_from {
    ($($kind:ty => $arg:expr),+ $(,)?) => {
        $(impl From<$kind> for Arg {
            fn from(value: $kind) -> Self {
                $arg(value)
            }
        })+
    };
}

arg_from!(
    i64 => Arg::Int,
    // Positions and counts: far below the sign.
    u64 => |value| Arg::Int(value as i64),
    i32 => |value| Arg::Int(i64::from(value)),
    // Kept as 0 or 1: the two drivers agree on that.
    bool => |value| Arg::Int(i64::from(value)),
    String => Arg::Text,
    &str => |value: &str| Arg::Text(value.to_owned()),
    Vec<u8> => Arg::Bytes,
);
