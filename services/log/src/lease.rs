//! Who does what only one process may do at a time.
//!
//! A lease is a row with a name, a holder and an end, on the database's clock.
//! It saves work, and never guards anything: what two processes must not both
//! do is refused where it is written (the relay by the stream's sequence, the
//! projector by its checkpoint), so a holder that does not know that it lost
//! its lease does no harm.
//!
//! An SQLite folder belongs to one process, which holds everything.

use std::sync::Arc;
use std::time::{Duration, Instant};

use tokio_util::sync::CancellationToken;

use crate::db::{Db, Durability, Location, Schema};
use crate::tasks::Task;

/// How long a lease holds unless it is renewed: what a process that was killed
/// costs at most, with [`RETRY`].
const TERM: Duration = Duration::from_secs(4);
/// How often it is renewed.
const RENEW: Duration = Duration::from_secs(1);
/// How often one that another process holds is asked for.
const RETRY: Duration = Duration::from_millis(500);
/// How long giving all back may take at the end of a process: a database that
/// fell silent must not keep it.
const GIVE_BACK: Duration = Duration::from_secs(1);

const TABLES: &str = "
CREATE TABLE IF NOT EXISTS {s}.lease (
    name   text   NOT NULL PRIMARY KEY,
    holder text   NOT NULL,
    -- Microseconds since 1970, on this database's clock.
    until  bigint NOT NULL
);
";
/// The database's clock, in microseconds since 1970.
const NOW: &str = "(extract(epoch FROM clock_timestamp()) * 1000000)::bigint";

/// The leases of one service, as one process asks for them. Clones are the
/// same holder.
#[derive(Clone, Debug)]
pub struct Leases {
    /// `None` where this process is the only one.
    schema: Option<Schema>,
    holder: Arc<str>,
}

/// A lease that is renewed until this is dropped; it is then given back.
#[derive(Debug)]
pub struct Kept {
    leases: Leases,
    name: String,
    renewing: Option<tokio::task::JoinHandle<()>>,
}

impl Leases {
    /// The leases beside a service's stores.
    pub async fn open(location: &Location) -> sqlx::Result<Self> {
        let schema = match location {
            // Whoever loses one after a power failure takes it again.
            Location::Postgres { .. } => {
                Some(location.open("lease", TABLES, Durability::Rebuilt).await?)
            }
            Location::Folder(_) => None,
        };
        Ok(Leases { schema, holder: process().into() })
    }

    /// What this process is called: its host, its id there, and a random end,
    /// since in containers every process is number 1.
    pub fn holder(&self) -> &str {
        &self.holder
    }

    /// Does work for as long as this process holds the lease, and again each
    /// time it gets it; ends with `shutdown`, or when the work does.
    pub async fn hold<F: Future<Output = ()>>(
        &self,
        name: &str,
        task: &Task,
        shutdown: &CancellationToken,
        work: impl Fn() -> F,
    ) {
        loop {
            let held = tokio::select! {
                () = shutdown.cancelled() => return,
                held = self.acquire(name, task) => held,
            };
            task.held_by(&self.holder, true);
            tokio::select! {
                () = shutdown.cancelled() => return,
                () = work() => return,
                () = self.lose(name) => {}
            }
            tracing::warn!(lease = name, "another process may do this from now on");
            drop(held);
        }
    }

    /// Holds a name that is this process's own for as long as the answer is
    /// kept: by which others see that it lives.
    pub async fn keep(&self, name: &str) -> sqlx::Result<Kept> {
        let name = format!("{name} {}", self.holder);
        self.take(&name).await?;
        let renewing = self.schema.is_some().then(|| {
            let (leases, name) = (self.clone(), name.clone());
            tokio::spawn(async move {
                loop {
                    tokio::time::sleep(RENEW).await;
                    if let Err(error) = leases.take(&name).await {
                        tracing::warn!(lease = name, %error, "a lease could not be renewed");
                    }
                }
            })
        });
        Ok(Kept { leases: self.clone(), name, renewing })
    }

    /// Whether any process keeps this name ([`keep`](Self::keep)).
    pub async fn is_kept(&self, name: &str) -> sqlx::Result<bool> {
        let Some(schema) = &self.schema else { return Ok(false) };
        let Db::Postgres(pool) = &schema.db else { return Ok(false) };
        let sql = format!(
            "SELECT EXISTS (SELECT 1 FROM {{s}}.lease
             WHERE starts_with(name, $1) AND until > {NOW})"
        );
        let begin = format!("{name} ");
        sqlx::query_scalar(schema.sql(&sql)).bind(begin).fetch_one(pool).await
    }

    /// Gives back all that this process holds, at its end: nobody has to wait
    /// until it is over.
    pub async fn give_back(&self) {
        let Some(schema) = &self.schema else { return };
        let Db::Postgres(pool) = &schema.db else { return };
        let delete = schema.sql("DELETE FROM {s}.lease WHERE holder = $1");
        let deleting = sqlx::query(delete).bind(&*self.holder).execute(pool);
        match tokio::time::timeout(GIVE_BACK, deleting).await {
            Ok(Ok(_)) => {}
            Ok(Err(error)) => tracing::warn!(%error, "leases end by themselves"),
            Err(_) => tracing::warn!("leases end by themselves: the database does not answer"),
        }
    }

    async fn acquire(&self, name: &str, task: &Task) -> Kept {
        loop {
            match self.take(name).await {
                Ok(holder) if *holder == *self.holder => {
                    return Kept { leases: self.clone(), name: name.to_owned(), renewing: None };
                }
                Ok(holder) => task.held_by(&holder, false),
                Err(error) => {
                    tracing::warn!(lease = name, %error, "a lease cannot be asked for");
                }
            }
            tokio::time::sleep(RETRY).await;
        }
    }

    /// Renews, and ends when the lease may be another's.
    async fn lose(&self, name: &str) {
        if self.schema.is_none() {
            return std::future::pending().await;
        }
        let mut renewed = Instant::now();
        while renewed.elapsed() < TERM - RENEW {
            tokio::time::sleep(RENEW).await;
            let asked = Instant::now();
            match tokio::time::timeout(RENEW, self.take(name)).await {
                Ok(Ok(holder)) if *holder == *self.holder => renewed = asked,
                Ok(Ok(_)) => return,
                // Perhaps the next time.
                Ok(Err(_)) | Err(_) => {}
            }
        }
    }

    /// Takes or renews a lease, unless another process has it; says who has it.
    async fn take(&self, name: &str) -> sqlx::Result<String> {
        let Some(schema) = &self.schema else { return Ok(self.holder.to_string()) };
        let Db::Postgres(pool) = &schema.db else { return Ok(self.holder.to_string()) };
        let sql = format!(
            "WITH taken AS (
                 INSERT INTO {{s}}.lease AS l (name, holder, until) VALUES ($1, $2, {NOW} + $3)
                 ON CONFLICT (name) DO UPDATE SET holder = excluded.holder, until = excluded.until
                 WHERE l.holder = excluded.holder OR l.until < {NOW}
                 RETURNING holder
             )
             SELECT coalesce((SELECT holder FROM taken),
                             (SELECT holder FROM {{s}}.lease WHERE name = $1), '')"
        );
        let term = TERM.as_micros() as i64;
        let taken = sqlx::query_scalar(schema.sql(&sql)).bind(name).bind(&*self.holder).bind(term);
        taken.fetch_one(pool).await
    }
}

impl Drop for Kept {
    fn drop(&mut self) {
        if let Some(renewing) = self.renewing.take() {
            renewing.abort();
        }
        // Given back, so that nobody has to wait; where that fails, it ends by
        // itself.
        let Some(schema) = self.leases.schema.clone() else { return };
        let Ok(runtime) = tokio::runtime::Handle::try_current() else { return };
        let (name, holder) = (self.name.clone(), self.leases.holder.clone());
        runtime.spawn(async move {
            let Db::Postgres(pool) = &schema.db else { return };
            let delete = schema.sql("DELETE FROM {s}.lease WHERE name = $1 AND holder = $2");
            let _ = sqlx::query(delete).bind(name).bind(&*holder).execute(pool).await;
        });
    }
}

fn process() -> String {
    let host = std::fs::read_to_string("/proc/sys/kernel/hostname").unwrap_or_default();
    let host = host.trim();
    let host = if host.is_empty() { "process" } else { host };
    format!("{host}:{}:{:04x}", std::process::id(), rand::random::<u16>())
}
