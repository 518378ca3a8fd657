//! Where a measure writes, and how that is removed again.

use std::path::Path;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use anyhow::Context;
use samen_log::Location;
use samen_log::db::POSTGRES_CONNECTIONS;
use sqlx::postgres::PgPoolOptions;
use sqlx::{AssertSqlSafe, Connection, PgConnection, PgPool};
use tempfile::TempDir;
use tokio::time::sleep;

use super::table::Database;
use crate::usage::wrong;

/// How often schemas are dropped before it is said that they stay, and how long
/// to wait in between.
const DROPS: usize = 5;
const BETWEEN_DROPS: Duration = Duration::from_millis(500);

/// Everything that a run makes.
pub struct Places {
    folder: TempDir,
    postgres: Option<Postgres>,
}

/// A PostgreSQL database in which this run has schemas of its own.
pub struct Postgres {
    url: String,
    /// What the names of this run's schemas begin with: nobody else's do.
    prefix: String,
    version: String,
    pool: PgPool,
}

/// One place for one measure.
pub enum Place {
    Postgres { url: String, prefix: String },
    Sqlite { folder: TempDir },
}

// === impl Places ===

impl Places {
    pub async fn open(url: Option<&str>, folder: Option<&Path>) -> anyhow::Result<Self> {
        let folder = match folder {
            Some(folder) => tempfile::Builder::new()
                .prefix("samen-bench-")
                .tempdir_in(folder)
                .with_context(|| folder.display().to_string())?,
            None => tempfile::Builder::new().prefix("samen-bench-").tempdir()?,
        };
        let postgres = match url {
            Some(url) => Some(Postgres::open(url).await.map_err(wrong("--database-url"))?),
            None => None,
        };
        Ok(Places { folder, postgres })
    }

    pub fn postgres(&self) -> Option<&Postgres> {
        self.postgres.as_ref()
    }

    /// Places that nothing was written to yet: on PostgreSQL, where there is
    /// one, and on SQLite.
    pub fn fresh(&self) -> anyhow::Result<Vec<Place>> {
        let mut places = Vec::new();
        places.extend(self.postgres.as_ref().map(Postgres::fresh));
        places.push(Place::Sqlite { folder: tempfile::tempdir_in(self.folder.path())? });
        Ok(places)
    }

    /// Removes what was written to a place.
    pub async fn clear(&self, place: Place) -> anyhow::Result<()> {
        match (place, &self.postgres) {
            (Place::Postgres { prefix, .. }, Some(postgres)) => postgres.drop(&prefix).await,
            (Place::Postgres { .. }, None) => Ok(()),
            (Place::Sqlite { folder }, _) => Ok(folder.close()?),
        }
    }

    /// Removes everything, also after a measure that failed.
    pub async fn remove(self) -> anyhow::Result<()> {
        if let Some(postgres) = &self.postgres {
            postgres.drop(&postgres.prefix).await?;
        }
        Ok(self.folder.close()?)
    }
}

// === impl Postgres ===

impl Postgres {
    async fn open(url: &str) -> sqlx::Result<Self> {
        // One connection by itself first: a pool would not say why there is none.
        let mut connection = PgConnection::connect(url).await?;
        let version = "SHOW server_version";
        let version: String = sqlx::query_scalar(version).fetch_one(&mut connection).await?;
        connection.close().await?;
        let pool = PgPoolOptions::new().max_connections(1).connect(url).await?;
        Ok(Postgres {
            url: url.to_owned(),
            // Short: PostgreSQL cuts names off after 63 bytes.
            prefix: format!("samen_bench_{:08x}", rand::random::<u32>()),
            version,
            pool,
        })
    }

    pub fn url(&self) -> &str {
        &self.url
    }

    pub fn version(&self) -> &str {
        &self.version
    }

    /// The name of a schema that nothing was written to yet.
    pub fn schema(&self) -> String {
        static NEXT: AtomicU32 = AtomicU32::new(1);
        format!("{}_{}", self.prefix, NEXT.fetch_add(1, Ordering::Relaxed))
    }

    fn fresh(&self) -> Place {
        // No other name begins with this one.
        Place::Postgres { url: self.url.clone(), prefix: format!("{}_", self.schema()) }
    }

    /// Runs statements of ours.
    pub async fn execute(&self, sql: &str) -> sqlx::Result<()> {
        sqlx::raw_sql(AssertSqlSafe(sql.to_owned())).execute(&self.pool).await?;
        Ok(())
    }

    /// Drops the schemas whose names begin like this. What still works in them
    /// may stand in the way for a moment.
    pub async fn drop(&self, prefix: &str) -> anyhow::Result<()> {
        for _ in 1..DROPS {
            if self.try_drop(prefix).await.is_ok() {
                return Ok(());
            }
            sleep(BETWEEN_DROPS).await;
        }
        self.try_drop(prefix).await.with_context(|| {
            format!("schemas that begin with {prefix} are left: drop them yourself")
        })
    }

    async fn try_drop(&self, prefix: &str) -> sqlx::Result<()> {
        let find = "SELECT nspname::text FROM pg_namespace WHERE starts_with(nspname::text, $1)";
        let schemas: Vec<String> =
            sqlx::query_scalar(find).bind(prefix).fetch_all(&self.pool).await?;
        for schema in schemas {
            self.execute(&format!("DROP SCHEMA {schema} CASCADE")).await?;
        }
        Ok(())
    }
}

// === impl Place ===

impl Place {
    pub fn database(&self) -> Database {
        match self {
            Place::Postgres { .. } => Database::Postgres,
            Place::Sqlite { .. } => Database::Sqlite,
        }
    }

    /// A location in it for a store of this name, as a service would have it.
    pub async fn location(&self, name: &str) -> anyhow::Result<Location> {
        match self {
            Place::Postgres { url, prefix } => {
                let prefix = format!("{prefix}{name}");
                Ok(Location::postgres(url, &prefix, POSTGRES_CONNECTIONS).await?)
            }
            Place::Sqlite { folder } => {
                let folder = folder.path().join(name);
                std::fs::create_dir_all(&folder)?;
                Ok(Location::Folder(folder))
            }
        }
    }
}
