//! Participation (inwonersparticipatie): processes and what people contribute
//! to them.
//!
//! - [`domain`]: what a process and a contribution are, and what may happen to
//!   them;
//! - [`projection`]: the tables that queries read, and what each event does to
//!   them;
//! - [`api`]: the gRPC handlers.

use std::ops::Deref;
use std::sync::Arc;

use samen_log::{Aggregates, Location};
use samen_proto::participation::participation_service_server::ParticipationServiceServer;
use samen_server::privacy::{self, Keeping, Privacy};
use samen_server::watch::Changes;
use samen_server::{Core, Deployment};
use tonic::service::Routes;

pub mod api;
pub mod domain;
pub mod projection;

/// What this service is called, in addresses, ids and configuration.
pub const NAME: &str = "participation";
/// The gRPC services that it serves.
pub const SERVICES: [&str; 4] = [
    "samen.participation.v1.ParticipationService",
    "samen.log.v1.LogService",
    "samen.operations.v1.OperationsService",
    privacy::SERVICE,
];

/// The running service.
#[derive(Clone)]
pub struct Participation {
    core: Core,
    pub(crate) processes: Aggregates<domain::process::Process>,
    pub(crate) contributions: Aggregates<domain::contribution::Contribution>,
    pub(crate) changes: Arc<Changes<api::watch::WatchedProcesses>>,
    pub(crate) privacy: Privacy,
}

impl Participation {
    /// Opens its log and its store, and begins to project. Commands are accepted
    /// from here on, queries answered when the store is built.
    pub async fn start(
        deployment: Deployment,
        location: &Location,
        keeping: Keeping,
    ) -> Result<Self, privacy::Failure> {
        let projection = projection::ParticipationProjection;
        let core = Core::open(deployment, location, NAME, |_| projection).await?;
        let spoke = domain::contribution::spoke_for_themselves;
        let privacy = Privacy::start(&core, keeping, spoke, &[]).await?;
        core.project(&[]).await?;
        let Core { log, keyring, .. } = &core;
        let changes = Changes::start(&core);
        Ok(Participation {
            processes: Aggregates::new(log.clone(), keyring.clone()),
            contributions: Aggregates::new(log.clone(), keyring.clone()),
            changes,
            privacy,
            core,
        })
    }

    /// What its port serves.
    pub fn routes(&self) -> Routes {
        let own = ParticipationServiceServer::new(self.clone());
        self.core.routes(Routes::new(own).add_service(self.privacy.service()))
    }
}

impl Deref for Participation {
    type Target = Core;

    fn deref(&self) -> &Core {
        &self.core
    }
}
