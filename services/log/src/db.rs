//! PostgreSQL and SQLite behind one type.
//!
//! The same SQL text serves both. Names are qualified with a schema, written
//! `{s}` in the text: a PostgreSQL schema, or SQLite's `main`. Where a
//! statement needs a dialect, it says so with `match`.

use std::path::PathBuf;
use std::str::FromStr;
use std::sync::Arc;
use std::time::Duration;

use sha2::{Digest, Sha256};
use sqlx::postgres::{PgConnectOptions, PgDatabaseError, PgPoolOptions};
use sqlx::sqlite::{SqliteConnectOptions, SqliteJournalMode, SqlitePoolOptions, SqliteSynchronous};
use sqlx::{
    AssertSqlSafe, ConnectOptions, Connection, PgConnection, PgPool, Postgres, Sqlite, SqlitePool,
    Transaction,
};

/// How long a caller waits for a free connection before it is told.
const ACQUIRE_TIMEOUT: Duration = Duration::from_secs(5);
/// How long PostgreSQL may take to say that a connection lives. One whose other
/// side is gone without a word would keep its place in the pool for as long as
/// TCP tries.
const PING_TIMEOUT: Duration = Duration::from_secs(2);
/// How long a PostgreSQL connection may have been idle before it is asked
/// whether it still is one. Asking before each use would double the round
/// trips; never asking would fail the first query after the server's restart.
const PING_AFTER: Duration = Duration::from_millis(500);
/// How long an SQLite connection waits for the one that writes.
const BUSY_TIMEOUT: Duration = Duration::from_secs(10);
/// SQLite readers per file; more than cores is of no use.
const SQLITE_CONNECTIONS: u32 = 4;
/// Connections to a store that is only read: one that reads on, while what was
/// read is compared with the rest.
const READERS: u32 = 2;
/// How a PostgreSQL session behaves when the other side falls silent. A host
/// that dies while it holds the log's lock must not stop the others for the
/// hours that TCP would wait.
const SESSION: [(&str, &str); 6] = [
    // Less than others wait for a lock, so that they get it from one who holds
    // it and does nothing, rather than fail.
    ("idle_in_transaction_session_timeout", "5s"),
    ("lock_timeout", "8s"),
    ("tcp_keepalives_idle", "5"),
    ("tcp_keepalives_interval", "2"),
    ("tcp_keepalives_count", "3"),
    // Keepalives are not sent while something waits to be acknowledged.
    ("tcp_user_timeout", "11s"),
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
/// A session that changes nothing, whatever is asked of it.
const READ_ONLY: [(&str, &str); 1] = [("default_transaction_read_only", "on")];
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
    /// A crash of this process. In a file, after a power failure, the last
    /// commits may be gone, all of each, and are made again from the log.
    Rebuilt,
}

/// A schema: a database and the name that qualifies its tables.
#[derive(Clone, Debug)]
pub struct Schema {
    pub db: Db,
    name: Arc<str>,
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
                Schema { db: Db::Postgres(pool.clone()), name }
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
                    .pragma(
                        "secure_delete",
                        // What is overwritten is gone from the file.
                        if durability == Durability::Full { "ON" } else { "OFF" },
                    )
                    .busy_timeout(BUSY_TIMEOUT);
                let pool =
                    sqlite_pool().max_connections(SQLITE_CONNECTIONS).connect_with(options).await?;
                Schema { db: Db::Sqlite(pool), name: "main".into() }
            }
        };
        schema.create(tables).await?;
        Ok(schema)
    }

    /// Opens a store that is there, to read it beside whoever uses it; `None`
    /// where there is none. Nothing is made, changed or locked.
    pub async fn open_to_read(&self, store: &str) -> sqlx::Result<Option<Schema>> {
        let (db, name) = match self {
            Location::Postgres { pool, prefix } => {
                let name = format!("{prefix}_{store}");
                let sql = "SELECT EXISTS (SELECT 1 FROM pg_namespace WHERE nspname = $1)";
                if !sqlx::query_scalar(sql).bind(&name).fetch_one(pool).await? {
                    return Ok(None);
                }
                let options = pool.connect_options().as_ref().clone().options(READ_ONLY);
                let pool = postgres_pool().max_connections(READERS).connect_lazy_with(options);
                (Db::Postgres(pool), name)
            }
            Location::Folder(folder) => {
                let file = folder.join(format!("{store}.db"));
                if !tokio::fs::try_exists(&file).await? {
                    return Ok(None);
                }
                // The journal's mode is the file's, and left as it is.
                let options = SqliteConnectOptions::new()
                    .filename(file)
                    .read_only(true)
                    .busy_timeout(BUSY_TIMEOUT);
                let pool = SqlitePoolOptions::new()
                    .max_connections(READERS)
                    .acquire_timeout(ACQUIRE_TIMEOUT)
                    .test_before_acquire(false)
                    .connect_with(options)
                    .await?;
                (Db::Sqlite(pool), "main".to_owned())
            }
        };
        Ok(Some(Schema { db, name: name.into() }))
    }

    /// A store that exists. Makes nothing.
    pub async fn find(&self, store: &str) -> sqlx::Result<Schema> {
        Ok(match self {
            Location::Postgres { pool, prefix } => {
                let name = format!("{prefix}_{store}").into();
                Schema { db: Db::Postgres(pool.clone()), name }
            }
            Location::Folder(folder) => {
                let options = SqliteConnectOptions::new()
                    .filename(folder.join(format!("{store}.db")))
                    .busy_timeout(BUSY_TIMEOUT);
                let pool = sqlite_pool().max_connections(1).connect_with(options).await?;
                Schema { db: Db::Sqlite(pool), name: "main".into() }
            }
        })
    }

    /// The names of stores that begin with `kind`.
    pub async fn stores(&self, kind: &str) -> sqlx::Result<Vec<String>> {
        match self {
            Location::Postgres { pool, prefix } => {
                let prefix = format!("{prefix}_");
                let select =
                    "SELECT nspname::text FROM pg_namespace WHERE starts_with(nspname, $1)";
                let begin = format!("{prefix}{kind}");
                let names: Vec<String> =
                    sqlx::query_scalar(select).bind(begin).fetch_all(pool).await?;
                Ok(names
                    .iter()
                    .filter_map(|n| n.strip_prefix(&prefix))
                    .map(str::to_owned)
                    .collect())
            }
            Location::Folder(folder) => {
                let mut names = Vec::new();
                let mut entries = tokio::fs::read_dir(folder).await?;
                while let Some(entry) = entries.next_entry().await? {
                    let file = entry.file_name().to_string_lossy().into_owned();
                    let name = file.strip_suffix(".db").filter(|name| name.starts_with(kind));
                    names.extend(name.map(str::to_owned));
                }
                Ok(names)
            }
        }
    }

    /// Drops a store that nobody uses.
    pub async fn drop_store(&self, store: &str) -> sqlx::Result<()> {
        match self {
            Location::Postgres { pool, prefix } => {
                // The name is one that `stores` gave: letters, digits and `_`.
                let drop = format!("DROP SCHEMA IF EXISTS {prefix}_{store} CASCADE");
                sqlx::raw_sql(AssertSqlSafe(drop)).execute(pool).await?;
            }
            Location::Folder(folder) => {
                for ending in ["db", "db-wal", "db-shm"] {
                    let file = folder.join(format!("{store}.{ending}"));
                    match tokio::fs::remove_file(file).await {
                        Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
                            return Err(error.into());
                        }
                        _ => {}
                    }
                }
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
                // Also what can be built again: a server that crashes must not
                // take back what this process goes on saying is there.
                Tx::Postgres(pool.begin().await?)
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

    /// Where it is, for whoever has to find it: a file, or the schema's name in
    /// its database.
    pub fn place(&self) -> String {
        match &self.db {
            Db::Postgres(_) => self.name.to_string(),
            Db::Sqlite(pool) => pool.connect_options().get_filename().display().to_string(),
        }
    }

    /// The schema's name, as it qualifies tables.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Closes its connections, where they are of no other schema.
    pub(crate) async fn close_own(&self) {
        if let Db::Sqlite(pool) = &self.db {
            pool.close().await;
        }
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
                sqlite_pool()
                    .max_connections(1)
                    .connect_lazy_with(pool.connect_options().as_ref().clone()),
            ),
        };
        Schema { db, ..self.clone() }
    }

    /// Makes what is not there yet, one process at a time.
    async fn create(&self, tables: &str) -> sqlx::Result<()> {
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
                // What is there is left alone: CREATE INDEX IF NOT EXISTS waits
                // for whoever writes to its table, and who makes several of
                // them while another process writes waits in a circle.
                let sha = Sha256::digest(&tables);
                let made: String = sha.iter().map(|byte| format!("{byte:02x}")).collect();
                let sql = "SELECT obj_description(to_regnamespace($1), 'pg_namespace')";
                let found: Option<String> =
                    sqlx::query_scalar(sql).bind(&*self.name).fetch_one(&mut *tx).await?;
                if found.as_ref() == Some(&made) {
                    return tx.commit().await;
                }
                let make = format!(
                    "CREATE SCHEMA IF NOT EXISTS {{s}};
                     {tables};
                     COMMENT ON SCHEMA {{s}} IS '{made}'"
                );
                sqlx::raw_sql(self.sql(&make)).execute(&mut *tx).await?;
                tx.commit().await
            }
            Db::Sqlite(pool) => {
                let mut tx = pool.begin_with("BEGIN IMMEDIATE").await?;
                sqlx::raw_sql(self.sql(&tables)).execute(&mut *tx).await?;
                tx.commit().await
            }
        }
    }
}

/// Whether a database could not write because its disk is full. Nothing of the
/// statement is there, and it can be tried again when there is space.
pub fn disk_is_full(error: &sqlx::Error) -> bool {
    match code(error) {
        Some(Code::Postgres(code)) => code == "53100",
        // SQLITE_FULL, and SQLITE_IOERR_SHMSIZE: the file beside the WAL.
        Some(Code::Sqlite(code)) => code & 0xff == 13 || code == 4874,
        None => false,
    }
}

/// Whether a database refused what was to be written for what it is: trying
/// again would not help.
pub(crate) fn is_refusal(error: &sqlx::Error) -> bool {
    match code(error) {
        // Data, integrity, limits of the program, and triggers.
        Some(Code::Postgres(code)) => {
            ["22", "23", "54", "P0"].iter().any(|class| code.starts_with(class))
        }
        // SQLITE_TOOBIG, SQLITE_CONSTRAINT, SQLITE_MISMATCH.
        Some(Code::Sqlite(code)) => matches!(code & 0xff, 18..=20),
        None => false,
    }
}

enum Code {
    Postgres(String),
    Sqlite(i32),
}

/// By which a database says why it did not do something.
fn code(error: &sqlx::Error) -> Option<Code> {
    let error = error.as_database_error()?;
    let code = error.code()?.into_owned();
    if error.try_downcast_ref::<PgDatabaseError>().is_some() {
        Some(Code::Postgres(code))
    } else {
        code.parse().ok().map(Code::Sqlite)
    }
}

fn postgres_pool() -> PgPoolOptions {
    PgPoolOptions::new()
        .acquire_timeout(ACQUIRE_TIMEOUT)
        .test_before_acquire(false)
        .before_acquire(|connection, meta| {
            Box::pin(async move {
                if meta.idle_for > PING_AFTER {
                    ping(connection).await?;
                }
                Ok(true)
            })
        })
        .after_release(|connection, _| Box::pin(is_free(connection)))
}

async fn ping(connection: &mut PgConnection) -> sqlx::Result<()> {
    within(PING_TIMEOUT, connection.ping()).await
}

/// Whether a connection that was given back is in no transaction, and lives:
/// whoever had it may have given up waiting for an answer that never comes. The
/// pool asks the latter too, without an end.
///
/// The driver knows of a transaction only from the answer to its BEGIN. One
/// that nobody waited for would stay open, and take in all that is written over
/// the connection from then on. It does look at what the server says of the
/// connection after a BEGIN, so an empty one tells.
async fn is_free(connection: &mut PgConnection) -> sqlx::Result<bool> {
    match within(PING_TIMEOUT, connection.begin_with("")).await {
        Err(sqlx::Error::BeginFailed) => Ok(true),
        Ok(_) => Ok(false),
        Err(error) => Err(error),
    }
}

/// Waits for a database for so long and no longer: one that is gone without a
/// word would be waited for as long as TCP tries.
pub(crate) async fn within<T>(
    limit: Duration,
    asking: impl Future<Output = sqlx::Result<T>>,
) -> sqlx::Result<T> {
    let silent = || sqlx::Error::Protocol("the database fell silent".to_owned());
    tokio::time::timeout(limit, asking).await.map_err(|_| silent())?
}

fn sqlite_pool() -> SqlitePoolOptions {
    SqlitePoolOptions::new()
        .acquire_timeout(ACQUIRE_TIMEOUT)
        .test_before_acquire(false)
        // SQLite itself ends a transaction when the disk is full. The rollback
        // that follows then fails, and the driver goes on to believe in the
        // transaction: such a connection could never begin another.
        .after_release(|connection, _| {
            Box::pin(async move {
                if connection.is_in_transaction() {
                    // Waits for the rollback, which is under way.
                    connection.ping().await?;
                }
                Ok(!connection.is_in_transaction())
            })
        })
}
