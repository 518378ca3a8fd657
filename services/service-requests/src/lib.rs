//! Service requests (meldingen openbare ruimte): report, follow, handle.
//!
//! - [`domain`]: what a request is and what may happen to it;
//! - [`projection`]: the tables that queries read, and what each event does to
//!   them;
//! - [`photos`]: what is taken in of photos, and how they are kept and shown;
//! - [`register`]: the catalogue, the organisation, the routing and the
//!   networks, in memory;
//! - [`seed`]: what the catalogue begins with;
//! - [`secret`]: what opens the reporter's page;
//! - [`reactor`]: what the service does by itself;
//! - [`api`]: the gRPC handlers;
//! - [`web`]: what it serves over HTTP: the reporter's page, photos, and
//!   Open311;
//! - [`open311`]: the door for apps and sites of others.

use std::ops::Deref;
use std::sync::Arc;

use samen_log::{Aggregates, Keyring, Location, supervise};
use samen_proto::requests::Catalogue;
use samen_proto::requests::catalogue_service_server::CatalogueServiceServer;
use samen_proto::requests::handling_service_server::HandlingServiceServer;
use samen_proto::requests::network_service_server::NetworkServiceServer;
use samen_proto::requests::photo_service_server::PhotoServiceServer;
use samen_proto::requests::reporter_service_server::ReporterServiceServer;
use samen_proto::requests::request_service_server::RequestServiceServer;
use samen_proto::requests::statistics_service_server::StatisticsServiceServer;
use samen_server::notices::{self, InboxDoor};
use samen_server::privacy::{self, Keeping, Privacy};
use samen_server::watch::Changes;
use samen_server::{Core, Deployment};
use tonic::service::Routes;

use crate::photos::sweep::Sweep;
use crate::photos::{Links, PhotoStore, Photos};
use crate::projection::RequestProjection;

pub mod api;
pub mod domain;
pub mod open311;
pub mod photos;
pub mod projection;
pub mod reactor;
pub mod register;
pub mod secret;
pub mod seed;
pub mod web;

/// What this service is called, in addresses, ids and configuration.
pub const NAME: &str = "requests";
/// The gRPC services that it serves.
pub const SERVICES: [&str; 11] = [
    "samen.requests.v1.RequestService",
    "samen.requests.v1.CatalogueService",
    "samen.requests.v1.NetworkService",
    "samen.requests.v1.PhotoService",
    "samen.requests.v1.ReporterService",
    "samen.requests.v1.HandlingService",
    "samen.requests.v1.StatisticsService",
    "samen.log.v1.LogService",
    "samen.operations.v1.OperationsService",
    privacy::SERVICE,
    notices::SERVICE,
];

/// What an operator says about this service.
pub struct Settings {
    /// What the catalogue of a new log begins with.
    pub catalogue: Option<Catalogue>,
    /// Where photos are kept; without it none are taken.
    pub photos: Option<PhotoStore>,
    /// Of the door for apps and sites of others.
    pub open311: open311::Settings,
}

/// The running service.
#[derive(Clone)]
pub struct Requests {
    core: Core,
    pub(crate) requests: Aggregates<domain::request::Request>,
    pub(crate) audits: Aggregates<domain::audit::Audit>,
    pub(crate) changes: Arc<Changes<api::watch::WatchedRequests>>,
    pub(crate) statistics: api::statistics::Statistics,
    pub(crate) questions: api::figures::Questions,
    pub(crate) words: projection::search::Words,
    pub(crate) privacy: Privacy,
    pub(crate) categories: Aggregates<domain::catalogue::CategoryState>,
    pub(crate) organisation: Aggregates<domain::catalogue::OrganisationState>,
    pub(crate) routing: Aggregates<domain::catalogue::RoutingState>,
    pub(crate) networks: Aggregates<domain::network::NetworkState>,
    pub(crate) place_notes: Aggregates<domain::network::PlaceNoteState>,
    pub(crate) hotspots: Aggregates<domain::hotspot::Hotspot>,
    pub(crate) photos: Option<Photos>,
    pub(crate) open311: Arc<open311::Open311>,
    pub(crate) registered: register::Registered,
    pub(crate) secrets: secret::Secrets,
}

impl Requests {
    /// Opens its log and its store, and begins to project. Commands are accepted
    /// from here on, queries answered when the store is built.
    pub async fn start(
        deployment: Deployment,
        location: &Location,
        keeping: Keeping,
        settings: Settings,
    ) -> Result<Self, privacy::Failure> {
        let master = deployment.master.clone();
        let projection = |keyring: &Keyring| RequestProjection::new(keyring.clone(), &master);
        let core = Core::open(deployment, location, NAME, projection).await?;
        let spoke = domain::request::spoke_for_themselves;
        let closing = [domain::request::CLOSING];
        let privacy = Privacy::start(&core, keeping, spoke, &closing).await?;
        let Settings { catalogue, photos, open311 } = settings;
        if let Some(catalogue) = catalogue {
            seed::sow(&core.log, catalogue).await?;
        }
        core.project(&[]).await?;
        let Core { log, keyring, store, deployment, .. } = &core;
        let changes = Changes::start(&core);
        let statistics = api::statistics::Statistics::start(&core);
        let questions = api::figures::Questions::new(log.clone(), store.clone());
        let registered = register::Registered::start(&core);
        let service = Requests {
            categories: Aggregates::new(log.clone(), keyring.clone()),
            organisation: Aggregates::new(log.clone(), keyring.clone()),
            routing: Aggregates::new(log.clone(), keyring.clone()),
            networks: Aggregates::new(log.clone(), keyring.clone()),
            place_notes: Aggregates::new(log.clone(), keyring.clone()),
            hotspots: Aggregates::new(log.clone(), keyring.clone()),
            photos: photos.map(|store| {
                let links = Links::new(&deployment.master);
                Photos::new(store, links, keyring.clone())
            }),
            open311: Arc::new(open311::Open311::new(open311)),
            registered,
            secrets: secret::Secrets::new(&deployment.master),
            requests: Aggregates::new(log.clone(), keyring.clone()),
            audits: Aggregates::new(log.clone(), keyring.clone()),
            changes,
            statistics,
            questions,
            words: projection::search::Words::new(&master),
            privacy,
            core,
        };
        reactor::start(&service);
        if let Some(photos) = &service.photos {
            let sweep = Sweep::new(&photos.store, &service.keyring, &service.tasks);
            let shutdown = service.deployment.shutdown.clone();
            supervise(Sweep::NAME, shutdown.clone(), sweep.run(shutdown));
        }
        Ok(service)
    }

    /// What its port serves.
    pub fn routes(&self) -> Routes {
        let own = Routes::new(RequestServiceServer::new(self.clone()))
            .add_service(HandlingServiceServer::new(self.clone()))
            .add_service(CatalogueServiceServer::new(self.clone()))
            .add_service(ReporterServiceServer::new(self.clone()))
            .add_service(NetworkServiceServer::new(self.clone()))
            .add_service(StatisticsServiceServer::new(self.clone()))
            .add_service(
                PhotoServiceServer::new(self.clone())
                    .max_decoding_message_size(api::photos::MAX_MESSAGE_BYTES),
            )
            .add_service(InboxDoor::server(self.clone()));
        self.core.routes(own.add_service(self.privacy.service()))
    }
}

impl Deref for Requests {
    type Target = Core;

    fn deref(&self) -> &Core {
        &self.core
    }
}
