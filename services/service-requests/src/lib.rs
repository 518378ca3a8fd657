//! Service requests (meldingen openbare ruimte): report, follow, handle.
//!
//! - [`domain`]: what a request is and what may happen to it;
//! - [`projection`]: the tables that queries read, and what each event does to
//!   them;
//! - [`api`]: the gRPC handlers.

use std::sync::Arc;

use samen_log::{Aggregates, Follow, Keyring, Location, Log, Store, Tasks, supervise};
use samen_proto::requests::request_service_server::RequestServiceServer;
use samen_server::log_service::LogDoor;
use samen_server::privacy::{self, Keeping, Privacy};
use samen_server::{Deployment, calls};
use tokio_util::sync::CancellationToken;
use tonic::service::Routes;

pub mod api;
pub mod domain;
pub mod projection;

/// What this service is called, in addresses, ids and configuration.
pub const NAME: &str = "requests";
/// The gRPC services that it serves.
pub const SERVICES: [&str; 3] =
    ["samen.requests.v1.RequestService", "samen.log.v1.LogService", privacy::SERVICE];

/// The running service.
#[derive(Clone)]
pub struct Requests {
    pub(crate) deployment: Deployment,
    pub(crate) keyring: Keyring,
    pub(crate) requests: Aggregates<domain::request::Request>,
    pub(crate) audits: Aggregates<domain::audit::Audit>,
    pub(crate) log: Log,
    pub(crate) store: Store,
    pub(crate) statistics: api::statistics::Statistics,
    pub(crate) privacy: Privacy,
}

impl Requests {
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
        let store = Store::open(location, projection::RequestProjection).await?;
        let keyring = Keyring::new(log.schema().clone(), &deployment.master, &id);
        let follows: Vec<Arc<dyn Follow>> = vec![Arc::new(log.clone())];
        // It ends with the process: calls that are drained still wait for it.
        let projecting = store.clone().run(follows, CancellationToken::new());
        supervise("requests projector", shutdown.clone(), projecting);
        let spoke = domain::request::spoke_for_themselves;
        let privacy =
            Privacy::start(&deployment, &log, &keyring, keeping, spoke, &Tasks::default()).await?;
        calls::built(&store, &log, &shutdown).await?;
        Ok(Requests {
            requests: Aggregates::new(log.clone(), keyring.clone()),
            audits: Aggregates::new(log.clone(), keyring.clone()),
            statistics: api::statistics::Statistics::start(store.clone(), &id, &deployment),
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
        Routes::new(RequestServiceServer::new(self.clone()))
            .add_service(LogDoor::new(self.log.clone(), self.deployment.clone()))
            .add_service(self.privacy.service())
    }
}
