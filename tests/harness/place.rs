//! Where a log is kept. Both databases keep the same promises, so that each
//! contract test is written once and runs on both.

use samen_log::{Location, Log};
use tempfile::TempDir;
use tokio_util::sync::CancellationToken;

use crate::{postgres, scratch};

/// Connections of one pool: several replicas share one test server.
const CONNECTIONS: u32 = 6;

/// An empty database.
pub enum Place {
    Postgres { url: String },
    Sqlite { folder: TempDir },
}

impl Place {
    pub async fn postgres() -> Self {
        Place::Postgres { url: postgres::database().await }
    }

    pub async fn sqlite() -> Self {
        Place::Sqlite { folder: scratch::folder("sqlite-") }
    }

    /// Another place of the same kind.
    pub async fn another(&self) -> Self {
        match self {
            Place::Postgres { .. } => Self::postgres().await,
            Place::Sqlite { .. } => Self::sqlite().await,
        }
    }

    /// Opens it, as one process would.
    pub async fn location(&self) -> Location {
        location(&self.name()).await
    }

    /// Opens a log in it, as one process would.
    pub async fn log(&self, id: &str) -> Log {
        Log::open(&self.location().await, id, CancellationToken::new()).await.expect("the log")
    }

    /// By which another process finds it.
    pub fn name(&self) -> String {
        match self {
            Place::Postgres { url } => url.clone(),
            Place::Sqlite { folder } => folder.path().display().to_string(),
        }
    }
}

/// Opens a service's place: a database and the prefix of its schemas, or a
/// folder.
pub async fn location_of((name, prefix): &(String, String)) -> Location {
    if name.starts_with("postgres://") {
        Location::postgres(name, prefix, CONNECTIONS).await.expect("the database")
    } else {
        Location::Folder(name.into())
    }
}

/// Opens the place with this name.
pub async fn location(name: &str) -> Location {
    if name.starts_with("postgres://") {
        Location::postgres(name, "test", CONNECTIONS).await.expect("the database")
    } else {
        Location::Folder(name.into())
    }
}

/// Makes each of these functions, which take a [`Place`], a test on both
/// databases.
#[macro_export]
macro_rules! on_both_databases {
    ($($name:ident),+ $(,)?) => {
        $(mod $name {
            #[tokio::test(flavor = "multi_thread")]
            async fn postgres() {
                super::$name($crate::Place::postgres().await).await;
            }

            #[tokio::test(flavor = "multi_thread")]
            async fn sqlite() {
                super::$name($crate::Place::sqlite().await).await;
            }
        })+
    };
}
