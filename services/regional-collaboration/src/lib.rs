//! Regional collaboration: municipalities work together without giving up what
//! is theirs.
//!
//! - [`domain`]: partners, agreements, what stands where in a feed, what went
//!   out, and what has to be deleted of that;
//! - [`reactor`]: gives shared records of the other services their place in
//!   each agreement's feed, and tells partners what is erased;
//! - [`feed`]: what a partner reads of a record;
//! - [`projection`]: the tables that queries and feeds read;
//! - [`api`]: the gRPC handlers, for staff and for partners.

use std::ops::Deref;
use std::sync::Arc;

use samen_log::{Aggregates, Follow, Location};
use samen_proto::regional::feed_service_server::FeedServiceServer;
use samen_proto::regional::regional_service_server::RegionalServiceServer;
use samen_server::{Core, Deployment, reply};
use tonic::Status;
use tonic::service::Routes;

pub mod api;
pub mod domain;
pub mod feed;
pub mod projection;
pub mod reactor;

/// What this service is called, in addresses, ids and configuration.
pub const NAME: &str = "regional";
/// The gRPC services of its own port.
pub const SERVICES: [&str; 3] = [
    "samen.regional.v1.RegionalService",
    "samen.log.v1.LogService",
    "samen.operations.v1.OperationsService",
];
/// The gRPC services of the port for partners.
pub const PARTNER_SERVICES: [&str; 1] = ["samen.regional.v1.FeedService"];

/// The running service.
#[derive(Clone)]
pub struct Regional {
    core: Core,
    pub(crate) partners: Aggregates<domain::partner::Partner>,
    pub(crate) known: Aggregates<domain::known::Known>,
    pub(crate) agreements: Aggregates<domain::agreement::Agreement>,
    pub(crate) feeds: Aggregates<domain::feed::Feed>,
    pub(crate) disclosures: Aggregates<domain::disclosure::Disclosures>,
    pub(crate) erasures: Aggregates<domain::erasure::Erasures>,
    pub(crate) sources: Aggregates<domain::source::Source>,
    /// The ids of the logs that it follows.
    pub(crate) source_logs: Arc<[String]>,
}

impl Regional {
    /// Opens its log and its store, and begins to follow the other services'
    /// logs (masked, or through the exchange). Commands are accepted from here
    /// on; reactors, queries and the feed begin when the store is built.
    pub async fn start(
        deployment: Deployment,
        location: &Location,
        sources: Vec<Arc<dyn Follow>>,
    ) -> Result<Self, sqlx::Error> {
        let core =
            Core::open(deployment, location, NAME, |_| projection::RegionalProjection).await?;
        core.project(&sources).await?;
        let Core { log, keyring, .. } = &core;
        let service = Regional {
            partners: Aggregates::new(log.clone(), keyring.clone()),
            known: Aggregates::new(log.clone(), keyring.clone()),
            agreements: Aggregates::new(log.clone(), keyring.clone()),
            feeds: Aggregates::new(log.clone(), keyring.clone()),
            disclosures: Aggregates::new(log.clone(), keyring.clone()),
            erasures: Aggregates::new(log.clone(), keyring.clone()),
            sources: Aggregates::new(log.clone(), keyring.clone()),
            source_logs: sources.iter().map(|source| source.log().to_owned()).collect(),
            core,
        };
        let reacting = service.clone();
        tokio::spawn(async move {
            reacting.built().await;
            reactor::start(&reacting, sources);
        });
        Ok(service)
    }

    /// Waits until the store has seen what this service's log holds now.
    pub(crate) async fn see_own_log(&self) -> Result<(), Status> {
        if let Some(newest) = self.log.newest().await.map_err(reply::unavailable)? {
            self.store.see(self.log.id(), &newest).await;
        }
        Ok(())
    }

    /// What its own port serves.
    pub fn routes(&self) -> Routes {
        self.core.routes(Routes::new(RegionalServiceServer::new(self.clone())))
    }

    /// What the port for partners serves, over mTLS.
    pub fn partner_routes(&self) -> Routes {
        Routes::new(FeedServiceServer::new(self.clone()))
    }
}

impl Deref for Regional {
    type Target = Core;

    fn deref(&self) -> &Core {
        &self.core
    }
}
