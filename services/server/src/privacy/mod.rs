//! Forgetting, and what a person may ask besides, about one service's log.
//!
//! What is to be made unreadable is logged first; then a reconciler carries it
//! out, and says so in the log: nothing is half done, whoever crashes.
//!
//! - [`content`]: what records hold of people, whatever the service;
//! - [`holds`]: what must not be erased meanwhile;
//! - [`placing`]: a hold, on what is not being erased already;
//! - [`retention`]: how long what is kept, by kind of record;
//! - [`requests`]: what people and officers ask, as it stands in the log;
//! - [`asking`]: for an erasure, which something may forbid;
//! - [`eraser`]: carries it out;
//! - [`eviction`]: what processes remember of destroyed keys;
//! - [`closing`]: since when what can be closed is;
//! - [`expiry`]: asks for what has been kept long enough;
//! - [`passes`]: how far it is with each term;
//! - [`restored`]: applies the list of destroyed keys before a service answers;
//! - [`export`]: all that is held about a person;
//! - [`service`]: the gRPC handlers.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use samen_log::destroyed::{DestroyedKeys, DestroyedKeysError};
use samen_log::seal::SealError;
use samen_log::{Aggregates, AppendError, Keyring, Log, Record, supervise};
use samen_proto::privacy::privacy_service_server::PrivacyServiceServer;
use tokio_util::sync::CancellationToken;

use crate::core::Core;
use crate::deployment::Deployment;

mod asking;
mod closing;
mod content;
mod eraser;
mod eviction;
mod expiry;
mod export;
mod holds;
mod passes;
mod placing;
mod requests;
mod restored;
pub mod retention;
mod service;

pub use closing::Closing;
pub use content::left;
pub use retention::Retention;

/// The gRPC service that this is.
pub const SERVICE: &str = "samen.privacy.v1.PrivacyService";

/// Whether who made a record spoke for themselves. What an employee enters for
/// somebody else is not the employee's to have erased, or to be given.
pub type SpokeForThemselves = fn(&Record) -> bool;

/// What an operator says about keeping and erasing. Cheap to clone.
#[derive(Clone)]
pub struct Keeping {
    pub destroyed: DestroyedList,
    pub retention: Arc<Retention>,
}

/// The list of destroyed keys, kept apart from every backup. Cheap to clone.
#[derive(Clone)]
pub struct DestroyedList {
    path: Arc<Path>,
}

/// What people may ask of one service. Cheap to clone.
#[derive(Clone)]
pub struct Privacy {
    deployment: Deployment,
    log: Log,
    keyring: Keyring,
    spoke: SpokeForThemselves,
    retention: Arc<Retention>,
    people: Aggregates<requests::Person>,
    redactions: Aggregates<requests::Redaction>,
    holds: holds::Register,
    done: eraser::Done,
}

/// Why something cannot be looked at, or carried out, now.
#[derive(Debug, thiserror::Error)]
pub enum Failure {
    #[error(transparent)]
    Storage(#[from] sqlx::Error),
    #[error(transparent)]
    Seal(#[from] SealError),
    #[error(transparent)]
    Append(#[from] AppendError),
    #[error(transparent)]
    Follow(#[from] samen_log::FollowError),
    #[error(transparent)]
    List(#[from] DestroyedKeysError),
    #[error("the list of destroyed keys cannot be written: {0}")]
    Write(#[from] std::io::Error),
    #[error(
        "the list of destroyed keys {} is missing, and keys of {log} were destroyed: put it back, or \
         an old backup could revive people who were forgotten",
        path.display()
    )]
    ListMissing { path: PathBuf, log: String },
    #[error("asked to stop before it was done")]
    Stopped,
    #[error("record {position} of type {kind} cannot be read")]
    Unreadable { position: u64, kind: String },
}

// === impl DestroyedList ===

impl DestroyedList {
    /// A list that can be read, or made where it is missing.
    pub fn at(path: &Path) -> Result<Self, DestroyedKeysError> {
        match DestroyedKeys::load(path) {
            Ok(_) => {}
            Err(DestroyedKeysError::File { cause, .. })
                if cause.kind() == std::io::ErrorKind::NotFound && folder(path).is_dir() => {}
            Err(error) => return Err(error),
        }
        Ok(DestroyedList { path: path.into() })
    }
}

/// Where a file is, or will be.
fn folder(file: &Path) -> &Path {
    let folder = file.parent().filter(|folder| !folder.as_os_str().is_empty());
    folder.unwrap_or(Path::new("."))
}

// === impl Privacy ===

impl Privacy {
    /// Carries out what was asked before, applies the list of destroyed keys,
    /// and begins to follow the log: when this returns, the service may
    /// answer.
    pub async fn start(
        core: &Core,
        keeping: Keeping,
        spoke: SpokeForThemselves,
        closing: &[Closing],
    ) -> Result<Self, Failure> {
        let Core { deployment, log, keyring, tasks, .. } = core;
        let Keeping { destroyed, retention } = keeping;
        let holds = holds::Register::new(log, keyring);
        let eraser = eraser::Eraser::new(log, keyring, destroyed, spoke, tasks).await?;
        let shutdown = deployment.shutdown.clone();
        tokio::select! {
            applied = restored::apply(&eraser) => applied?,
            () = shutdown.cancelled() => return Err(Failure::Stopped),
        }
        let done = eraser.done();
        // It ends with the process: calls that are drained still wait for it,
        // and what it is cut off in, the next one completes.
        supervise("eraser", shutdown.clone(), eraser.run(CancellationToken::new()));
        let evicting = eviction::evict(log.clone(), keyring.clone(), shutdown.clone());
        supervise("key eviction", shutdown.clone(), evicting);
        let (terms, register) = (retention.clone(), holds.clone());
        let expiry = expiry::Expiry::new(log, keyring, terms, register, spoke, closing, tasks);
        supervise("expiry", shutdown.clone(), expiry.run(shutdown));
        Ok(Privacy {
            deployment: deployment.clone(),
            people: Aggregates::new(log.clone(), keyring.clone()),
            redactions: Aggregates::new(log.clone(), keyring.clone()),
            log: log.clone(),
            keyring: keyring.clone(),
            spoke,
            retention,
            holds,
            done,
        })
    }

    /// What a port serves.
    pub fn service(&self) -> PrivacyServiceServer<Self> {
        PrivacyServiceServer::new(self.clone())
    }
}
