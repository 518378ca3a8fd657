//! PostgreSQL and SQLite behind one type.
//!
//! The same SQL text serves both. Names are qualified with a schema, written
//! `{s}` in the text: a PostgreSQL schema, or SQLite's `main`. Where a
//! statement needs a dialect, it says so with `match`.

use std::path::PathBuf;
use std::str::FromStr;
use std::sync::Arc;
use std::time::Duration;

use sqlx::postgres::{PgConnectOptions, PgPoolOptions};
use sqlx::sqlite::{SqliteConnectOptions, SqliteJournalMode, SqlitePoolOptions, SqliteSynchronous};
use sqlx::{
    AssertSqlSafe, ConnectOptions, Connection, PgPool, Postgres, Sqlite, SqlitePool, Transaction,
};

/// How long a caller waits for a free connection before it is told.
const ACQUIRE_TIMEOUT: Duration = Duration::from_secs(5);
/// How long a PostgreSQL connection may have been idle before it is asked
/// whether it still is one. Asking before each use would double the round
/// trips; never asking would fail the first query after the server's restart.
const PING_AFTER: Duration = Duration::from_millis(500);
/// How long an SQLite connection waits for the one that writes.
const BUSY_TIMEOUT: Duration = Duration::from_secs(10);
/// SQLite readers per file; more than cores is of no use.
const SQLITE_CONNECTIONS: u32 = 4;
/// How a PostgreSQL session behaves when the other side falls silent. A host
/// that dies while it holds the log's lock must not stop the others for the
/// hours that TCP would wait.
const SESSION: [(&str, &str); 5] = [
    ("idle_in_transaction_session_timeout", "10s"),
    ("lock_timeout", "5s"),
    ("tcp_keepalives_idle", "5"),
    ("tcp_keepalives_interval", "2"),
    ("tcp_keepalives_count", "3"),
];
/// A session that only looks up by key, always with the same statements and
/// arrays of any length: planning them anew each time costs more than running
/// them, and a plan made while a table was empty must still go by its index.
const LOOK_UPS: [(&str, &str); 6] = [
    // Compiled code is not kept from one run to the next.
    ("jit", "off"),
    ("plan_cache_mode", "force_generic_plan"),
    ("enable_seqscan", "off"),
    ("enable_bitmapscan", "off"),
    ("enable_hashjoin", "off"),
    ("enable_mergejoin", "off"),
];
/// PostgreSQL connections per pool, unless configured otherwise.
pub const POSTGRES_CONNECTIONS: u32 = 8;

/// A pool of connections to either database.
#[derive(Clone, Debug)]
pub enum Db {
    Postgres(PgPool),
    Sqlite(SqlitePool),
}

/// Expands a body once per driver, with the pool (or the connection of a
/// transaction) under a name of the caller's choice.
#[macro_export]
macro_rules! on_db {
    ($db:expr, $pool:ident => $body:expr) => {
        match $db {
            $crate::db::Db::Postgres($pool) => $body,
            $crate::db::Db::Sqlite($pool) => $body,
        }
    };
}

/// The same for a [`Tx`]: the name is bound to `&mut` the connection.
#[macro_export]
macro_rules! on_tx {
    ($tx:expr, $conn:ident => $body:expr) => {
        match $tx {
            $crate::db::Tx::Postgres(tx) => {
                let $conn = &mut **tx;
                $body
            }
            $crate::db::Tx::Sqlite(tx) => {
                let $conn = &mut **tx;
                $body
            }
        }
    };
}

/// A transaction of either database.
pub enum Tx {
    Postgres(Transaction<'static, Postgres>),
    Sqlite(Transaction<'static, Sqlite>),
}

impl Tx {
    pub async fn commit(self) -> sqlx::Result<()> {
        match self {
            Tx::Postgres(tx) => tx.commit().await,
            Tx::Sqlite(tx) => tx.commit().await,
        }
    }
}

/// Where a service keeps its log and its projections.
#[derive(Clone, Debug)]
pub enum Location {
    /// A PostgreSQL database; each store is a schema in it.
    Postgres { pool: PgPool, prefix: String },
    /// A folder; each store is a file in it.
    Folder(PathBuf),
}

/// What a commit must survive.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Durability {
    /// A power failure: somebody was told.
    Full,
    /// A crash of this process. After a power failure the last commits may be
    /// gone, all of each, and are made again from the log.
    Rebuilt,
}

/// A schema: a database and the name that qualifies its tables.
#[derive(Clone, Debug)]
pub struct Schema {
    pub db: Db,
    name: Arc<str>,
    durability: Durability,
}

// === impl Location ===

impl Location {
    /// Connects to PostgreSQL. Stores get names that begin with `prefix`.
    pub async fn postgres(url: &str, prefix: &str, connections: u32) -> sqlx::Result<Self> {
        let options = PgConnectOptions::from_str(url)?
            .application_name(&format!("samen-{prefix}"))
            .options(SESSION);
        // By itself first: a pool would wait, and hide why.
        options.connect().await?.close().await?;
        let pool = postgres_pool().max_connections(connections).connect_with(options).await?;
        Ok(Location::Postgres { pool, prefix: prefix.to_owned() })
    }

    /// Opens the store with this name, and makes it from `tables` (statements
    /// that may run twice) where it is new.
    pub async fn open(
        &self,
        store: &str,
        tables: &str,
        durability: Durability,
    ) -> sqlx::Result<Schema> {
        let schema = match self {
            Location::Postgres { pool, prefix } => {
                let name = format!("{prefix}_{store}").into();
                Schema { db: Db::Postgres(pool.clone()), name, durability }
            }
            Location::Folder(folder) => {
                let options = SqliteConnectOptions::new()
                    .filename(folder.join(format!("{store}.db")))
                    .create_if_missing(true)
                    .journal_mode(SqliteJournalMode::Wal)
                    .synchronous(match durability {
                        Durability::Full => SqliteSynchronous::Full,
                        Durability::Rebuilt => SqliteSynchronous::Normal,
                    })
                    // What is overwritten is gone from the file.
                    .pragma(
                        "secure_delete",
                        // What is overwritten is gone from the file.
                        if durability == Durability::Full { "ON" } else { "OFF" },
                    )
                    .busy_timeout(BUSY_TIMEOUT);
                let pool = SqlitePoolOptions::new()
                    .max_connections(SQLITE_CONNECTIONS)
                    .acquire_timeout(ACQUIRE_TIMEOUT)
                    .test_before_acquire(false)
                    .connect_with(options)
                    .await?;
                Schema { db: Db::Sqlite(pool), name: "main".into(), durability }
            }
        };
        schema.create(tables).await?;
        Ok(schema)
    }

    /// Removes stores of this kind that no release after this one will read:
    /// those whose name begins with `kind` and is not `keep`. Only where no
    /// other process can be using them, which a folder's lock guarantees.
    pub async fn drop_others(&self, kind: &str, keep: &str) -> std::io::Result<()> {
        let Location::Folder(folder) = self else { return Ok(()) };
        let mut entries = tokio::fs::read_dir(folder).await?;
        while let Some(entry) = entries.next_entry().await? {
            let name = entry.file_name().to_string_lossy().into_owned();
            if name.starts_with(kind) && !name.starts_with(keep) {
                tokio::fs::remove_file(entry.path()).await?;
            }
        }
        Ok(())
    }
}

// === impl Schema ===

impl Schema {
    /// Begins a transaction that means to write.
    pub async fn begin(&self) -> sqlx::Result<Tx> {
        Ok(match &self.db {
            Db::Postgres(pool) => {
                let begin = match self.durability {
                    Durability::Full => "BEGIN",
                    Durability::Rebuilt => "BEGIN; SET LOCAL synchronous_commit = off",
                };
                Tx::Postgres(pool.begin_with(begin).await?)
            }
            // Taken at once: a lock that is upgraded later can fail in the middle.
            Db::Sqlite(pool) => Tx::Sqlite(pool.begin_with("BEGIN IMMEDIATE").await?),
        })
    }

    /// The statement with its names qualified. The text is a constant of ours
    /// and the name is made of letters, digits and `_`: nothing from outside.
    pub fn sql(&self, text: &str) -> AssertSqlSafe<String> {
        AssertSqlSafe(text.replace("{s}", &self.name))
    }

    /// Takes what was overwritten in a table out of the database's files, as
    /// far as the database can: SQLite's file was overwritten, and its
    /// write-ahead log is emptied; PostgreSQL gives the rows' room to others,
    /// and recycles its write-ahead log in its own time.
    pub(crate) async fn scrub(&self, table: &str) -> sqlx::Result<()> {
        match &self.db {
            Db::Postgres(pool) => {
                let vacuum = self.sql(&format!("VACUUM {{s}}.{table}"));
                sqlx::raw_sql(vacuum).execute(pool).await?;
            }
            Db::Sqlite(pool) => {
                let (busy, _, _): (i64, i64, i64) =
                    sqlx::query_as("PRAGMA wal_checkpoint(TRUNCATE)").fetch_one(pool).await?;
                if busy != 0 {
                    let reason = "the write-ahead log is in use and cannot be emptied";
                    return Err(sqlx::Error::Protocol(reason.to_owned()));
                }
            }
        }
        Ok(())
    }

    /// The schema's name, as it qualifies tables.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// The same schema on one connection of its own, for who must never wait
    /// behind others' reads.
    pub(crate) fn dedicated(&self) -> Schema {
        let db = match &self.db {
            Db::Postgres(pool) => Db::Postgres(
                postgres_pool()
                    .max_connections(1)
                    .connect_lazy_with(pool.connect_options().as_ref().clone().options(LOOK_UPS)),
            ),
            Db::Sqlite(pool) => Db::Sqlite(
                SqlitePoolOptions::new()
                    .max_connections(1)
                    .acquire_timeout(ACQUIRE_TIMEOUT)
                    .test_before_acquire(false)
                    .connect_lazy_with(pool.connect_options().as_ref().clone()),
            ),
        };
        Schema { db, ..self.clone() }
    }

    /// Drops everything in it, where it exists, and makes it anew: all or
    /// nothing, and one process at a time.
    pub(crate) async fn recreate(&self, tables: &str) -> sqlx::Result<()> {
        self.make(tables, true).await
    }

    async fn create(&self, tables: &str) -> sqlx::Result<()> {
        self.make(tables, false).await
    }

    async fn make(&self, tables: &str, anew: bool) -> sqlx::Result<()> {
        let key = match &self.db {
            Db::Postgres(_) => "bigint PRIMARY KEY",
            // Only this spelling makes the key the row's own place in the file.
            Db::Sqlite(_) => "INTEGER PRIMARY KEY",
        };
        // CREATE INDEX qualifies the table in one, the index in the other.
        let table = match &self.db {
            Db::Postgres(_) => format!("{}.", self.name),
            Db::Sqlite(_) => String::new(),
        };
        let tables = tables.replace("{bigint_key}", key).replace("{t}", &table);
        match &self.db {
            Db::Postgres(pool) => {
                let mut tx = pool.begin().await?;
                // Two processes may start at once, and CREATE … IF NOT EXISTS
                // does not wait for the other.
                sqlx::query("SELECT pg_advisory_xact_lock(hashtext($1))")
                    .bind(&*self.name)
                    .execute(&mut *tx)
                    .await?;
                if anew {
                    sqlx::raw_sql(self.sql("DROP SCHEMA IF EXISTS {s} CASCADE"))
                        .execute(&mut *tx)
                        .await?;
                }
                sqlx::raw_sql(self.sql("CREATE SCHEMA IF NOT EXISTS {s}"))
                    .execute(&mut *tx)
                    .await?;
                sqlx::raw_sql(self.sql(&tables)).execute(&mut *tx).await?;
                tx.commit().await
            }
            Db::Sqlite(pool) => {
                let mut tx = pool.begin_with("BEGIN IMMEDIATE").await?;
                if anew {
                    let names: Vec<(String,)> = sqlx::query_as(
                        "SELECT name FROM main.sqlite_master
                         WHERE type = 'table' AND name NOT LIKE 'sqlite_%'",
                    )
                    .fetch_all(&mut *tx)
                    .await?;
                    for (name,) in names {
                        let drop = AssertSqlSafe(format!("DROP TABLE main.\"{name}\""));
                        sqlx::query(drop).execute(&mut *tx).await?;
                    }
                }
                sqlx::raw_sql(self.sql(&tables)).execute(&mut *tx).await?;
                tx.commit().await
            }
        }
    }
}

fn postgres_pool() -> PgPoolOptions {
    PgPoolOptions::new().acquire_timeout(ACQUIRE_TIMEOUT).test_before_acquire(false).before_acquire(
        |connection, meta| {
            Box::pin(async move {
                if meta.idle_for > PING_AFTER {
                    connection.ping().await?;
                }
                Ok(true)
            })
        },
    )
}
