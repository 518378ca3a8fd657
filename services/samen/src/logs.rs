//! The logs of a deployment, as operators' commands find them: beside the
//! processes that use them, and whether or not those run.

use std::path::PathBuf;

use anyhow::bail;
use clap::{Args, ValueEnum};
use samen_log::{EmptyLog, Location, MasterKey, Schema};

use crate::data::{Data, Paths};
use crate::usage::wrong;

/// Where the logs are.
#[derive(Args)]
pub struct Logs {
    /// The all-in-one's data folder
    #[arg(long, env = "SAMEN_DATA", default_value = "data", value_name = "FOLDER")]
    data: PathBuf,
    /// The PostgreSQL database of services that run apart; the data folder is
    /// then not looked at
    #[arg(long, env = "SAMEN_DATABASE_URL", value_name = "URL", hide_env_values = true)]
    database_url: Option<String>,
    /// Only this service's log
    #[arg(long, value_enum, value_name = "NAME")]
    service: Option<Name>,
    /// The master key's file; the data folder's own, where there is one
    #[arg(long, env = "SAMEN_MASTER_KEY", value_name = "FILE")]
    master_key: Option<PathBuf>,
}

/// Connections to a database that is restored into.
const RESTORE_CONNECTIONS: u32 = 4;

/// Where logs are restored.
pub struct Target {
    pub logs: Vec<EmptyLog>,
    /// The data folder, held until all is done.
    _data: Option<Data>,
}

/// The services that have a log, as `samen serve` calls them; each before
/// those that follow it.
#[derive(Clone, Copy, ValueEnum)]
enum Name {
    Participation,
    ServiceRequests,
    RegionalCollaboration,
}

// === impl Logs ===

impl Logs {
    /// The logs that there are, to be read. At least one.
    pub async fn open(&self) -> anyhow::Result<Vec<Schema>> {
        let mut logs = Vec::new();
        for service in self.services() {
            let location = match &self.database_url {
                Some(url) => Location::postgres(url, service.name(), 1)
                    .await
                    .map_err(wrong("SAMEN_DATABASE_URL"))?,
                None => Location::Folder(self.data.join(service.name())),
            };
            logs.extend(location.open_to_read("log").await?);
        }
        if logs.is_empty() {
            let place = match &self.database_url {
                Some(_) => "the database".to_owned(),
                None => self.data.display().to_string(),
            };
            bail!("there is no log in {place}");
        }
        Ok(logs)
    }

    /// Empty places for a municipality's logs, to restore into: tables made
    /// where there are none.
    pub async fn make(&self, municipality: &str) -> anyhow::Result<Target> {
        let mut logs = Vec::new();
        let id = |service: &Name| format!("{}.{}", municipality.to_lowercase(), service.name());
        let Some(url) = &self.database_url else {
            let data = Data::open(&self.data)?;
            for service in self.services() {
                let location = data.location(service.name())?;
                logs.push(EmptyLog::at(&location, &id(service)).await?);
            }
            return Ok(Target { logs, _data: Some(data) });
        };
        // One pool: all heads are moved in one transaction.
        let location = Location::postgres(url, "restore", RESTORE_CONNECTIONS).await;
        let Location::Postgres { pool, .. } = location.map_err(wrong("SAMEN_DATABASE_URL"))? else {
            bail!("SAMEN_DATABASE_URL is not PostgreSQL");
        };
        for service in self.services() {
            let prefix = service.name().to_owned();
            let location = Location::Postgres { pool: pool.clone(), prefix };
            logs.push(EmptyLog::at(&location, &id(service)).await?);
        }
        Ok(Target { logs, _data: None })
    }

    /// Whether only one service's log is meant.
    pub fn is_selected(&self) -> bool {
        self.service.is_some()
    }

    /// Whether the logs are in a PostgreSQL database.
    pub fn in_postgres(&self) -> bool {
        self.database_url.is_some()
    }

    /// Where the data folder keeps its list of destroyed keys.
    pub fn destroyed_keys(&self) -> PathBuf {
        Paths(&self.data).destroyed_keys()
    }

    /// A log before those that follow it.
    fn services(&self) -> &[Name] {
        match &self.service {
            Some(service) => std::slice::from_ref(service),
            None => Name::value_variants(),
        }
    }

    /// The deployment's master key; `None` where it is not at hand.
    pub fn master_key(&self) -> anyhow::Result<Option<MasterKey>> {
        if let Some(path) = &self.master_key {
            return Ok(Some(MasterKey::load(path).map_err(wrong("SAMEN_MASTER_KEY"))?));
        }
        let path = Paths(&self.data).master_key();
        if self.database_url.is_some() || !path.exists() {
            return Ok(None);
        }
        Ok(Some(MasterKey::load(&path)?))
    }
}

// === impl Name ===

impl Name {
    fn name(self) -> &'static str {
        match self {
            Name::Participation => samen_participation::NAME,
            Name::ServiceRequests => samen_requests::NAME,
            Name::RegionalCollaboration => samen_regional::NAME,
        }
    }
}
