//! Participation (inwonersparticipatie): processes and what people contribute
//! to them.
//!
//! - [`domain`]: what a process and a contribution are, and what may happen to
//!   them;
//! - [`projection`]: the tables that queries read, and what each event does to
//!   them;
//! - [`api`]: the gRPC handlers.

use std::sync::Arc;

use samen_log::{Aggregates, Follow, Keyring, Location, Log, Store, Tasks, supervise};
use samen_proto::participation::participation_service_server::ParticipationServiceServer;
use samen_server::log_service::LogDoor;
use samen_server::privacy::{self, Keeping, Privacy};
use samen_server::{Deployment, calls};
use tokio_util::sync::CancellationToken;
use tonic::service::Routes;

pub mod api;
pub mod domain;
pub mod projection;

/// What this service is called, in addresses, ids and configuration.
pub const NAME: &str = "participation";
/// The gRPC services that it serves.
pub const SERVICES: [&str; 3] =
    ["samen.participation.v1.ParticipationService", "samen.log.v1.LogService", privacy::SERVICE];

/// The running service.
#[derive(Clone)]
pub struct Participation {
    pub(crate) deployment: Deployment,
    pub(crate) keyring: Keyring,
    pub(crate) processes: Aggregates<domain::process::Process>,
    pub(crate) contributions: Aggregates<domain::contribution::Contribution>,
    pub(crate) log: Log,
    pub(crate) store: Store,
    pub(crate) privacy: Privacy,
}

impl Participation {
    /// Opens its log and its store, begins to project, and is ready when the
    /// store holds what the log does.
    pub async fn start(
        deployment: Deployment,
        location: &Location,
        keeping: Keeping,
    ) -> Result<Self, privacy::Failure> {
        let id = deployment.log_id(NAME);
        let shutdown = deployment.shutdown.clone();
        let log = Log::open(location, &id, shutdown.clone()).await?;
        let store = Store::open(location, projection::ParticipationProjection).await?;
        let keyring = Keyring::new(log.schema().clone(), &deployment.master, &id);
        let follows: Vec<Arc<dyn Follow>> = vec![Arc::new(log.clone())];
        // It ends with the process: calls that are drained still wait for it.
        let projecting = store.clone().run(follows, CancellationToken::new());
        supervise("participation projector", shutdown.clone(), projecting);
        let spoke = domain::contribution::spoke_for_themselves;
        let privacy =
            Privacy::start(&deployment, &log, &keyring, keeping, spoke, &Tasks::default()).await?;
        calls::built(&store, &log, &shutdown).await?;
        Ok(Participation {
            processes: Aggregates::new(log.clone(), keyring.clone()),
            contributions: Aggregates::new(log.clone(), keyring.clone()),
            deployment,
            keyring,
            log,
            store,
            privacy,
        })
    }

    /// Its log, for those who follow it in this process.
    pub fn log(&self) -> &Log {
        &self.log
    }

    /// What its port serves.
    pub fn routes(&self) -> Routes {
        Routes::new(ParticipationServiceServer::new(self.clone()))
            .add_service(LogDoor::new(self.log.clone(), self.deployment.clone()))
            .add_service(self.privacy.service())
    }
}
