//! Service requests (meldingen openbare ruimte): report, follow, handle.
//!
//! - [`domain`]: what a request is and what may happen to it;
//! - [`projection`]: the tables that queries read, and what each event does to
//!   them;
//! - [`photos`]: what is taken in of photos, and how they are kept and shown;
//! - [`api`]: the gRPC handlers.

use std::ops::Deref;
use std::sync::Arc;

use samen_log::{Aggregates, Location};
use samen_proto::requests::request_service_server::RequestServiceServer;
use samen_server::privacy::{self, Keeping, Privacy};
use samen_server::watch::Changes;
use samen_server::{Core, Deployment};
use tonic::service::Routes;

pub mod api;
pub mod domain;
pub mod photos;
pub mod projection;

/// What this service is called, in addresses, ids and configuration.
pub const NAME: &str = "requests";
/// The gRPC services that it serves.
pub const SERVICES: [&str; 4] = [
    "samen.requests.v1.RequestService",
    "samen.log.v1.LogService",
    "samen.operations.v1.OperationsService",
    privacy::SERVICE,
];

/// The running service.
#[derive(Clone)]
pub struct Requests {
    core: Core,
    pub(crate) requests: Aggregates<domain::request::Request>,
    pub(crate) audits: Aggregates<domain::audit::Audit>,
    pub(crate) changes: Arc<Changes<api::watch::WatchedRequests>>,
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
        let core = Core::open(deployment, location, NAME, projection::RequestProjection).await?;
        let spoke = domain::request::spoke_for_themselves;
        let privacy = Privacy::start(&core, keeping, spoke).await?;
        core.project(&[]).await?;
        let Core { log, keyring, store, deployment, .. } = &core;
        let changes = Changes::start(log.clone(), store.clone(), deployment);
        let statistics = api::statistics::Statistics::start(store.clone(), log.id(), deployment);
        Ok(Requests {
            requests: Aggregates::new(log.clone(), keyring.clone()),
            audits: Aggregates::new(log.clone(), keyring.clone()),
            changes,
            statistics,
            privacy,
            core,
        })
    }

    /// What its port serves.
    pub fn routes(&self) -> Routes {
        let own = RequestServiceServer::new(self.clone());
        self.core.routes(Routes::new(own).add_service(self.privacy.service()))
    }
}

impl Deref for Requests {
    type Target = Core;

    fn deref(&self) -> &Core {
        &self.core
    }
}
