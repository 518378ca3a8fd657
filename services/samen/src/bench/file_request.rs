//! A whole command: `FileRequest` over a real connection, with a token, against
//! a service that is set up like any other. Then a rebuild of what it wrote.

use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context;
use samen_log::{Log, MasterKey};
use samen_proto::options::Role;
use samen_proto::requests::request_service_client::RequestServiceClient;
use samen_proto::requests::{Channel, FileRequestRequest, Location};
use samen_requests::Requests;
use samen_server::Deployment;
use samen_server::area::Area;
use samen_server::grpc::{self, Port, ServeError};
use samen_server::identity::{Issuer, KeySource, Verifier};
use samen_server::paging::Pages;
use tempfile::NamedTempFile;
use tokio::task::JoinHandle;
use tokio_util::sync::{CancellationToken, DropGuard};
use tonic::Request;
use tonic::transport::Channel as Connection;
use uuid::Uuid;

use super::load::{Load, Measured};
use super::place::Place;
use super::rebuild;
use crate::services;

/// The municipality that is played.
const MUNICIPALITY: &str = "GM0384";
/// Its issuer of tokens, and how long a token holds: longer than any measure.
const ISSUER: &str = "samen-bench";
const TOKEN_TTL: Duration = Duration::from_secs(3600);
/// What people report, about as long as what they write.
const DESCRIPTION: &str = "Naast de container bij het winkelcentrum ligt sinds gisteren een bankstel \
     met een paar vuilniszakken. De stoep is daardoor te smal voor een rolstoel.";

/// The service, on a port of its own.
struct Service {
    /// Its tasks end with it, also when a measure fails; dropped before the log
    /// is.
    _stop: DropGuard,
    address: SocketAddr,
    token: String,
    log: Log,
    shutdown: CancellationToken,
    serving: JoinHandle<Result<(), ServeError>>,
}

/// Commands, and a rebuild of the records that they wrote.
pub async fn measure(
    place: &Place,
    load: Load,
    connections: u16,
) -> anyhow::Result<(Measured, Measured)> {
    let service = Service::start(place).await?;
    let filed = file(&service, load, connections).await?;
    let written = service.log.head();
    let id = service.log.id().to_owned();
    service.end().await?;
    let rebuilt = rebuild::measure(place, &id, written).await.context("rebuild")?;
    Ok((filed, rebuilt))
}

async fn file(service: &Service, load: Load, connections: u16) -> anyhow::Result<Measured> {
    let url = format!("http://{}", service.address).parse()?;
    let clients = (0..connections)
        .map(|_| services::channel("--connections", &url, None).map(RequestServiceClient::new))
        .collect::<Result<Vec<_>, _>>()?;
    let clients: Arc<[RequestServiceClient<Connection>]> = clients.into();
    let authorization =
        format!("Bearer {}", service.token).parse::<tonic::metadata::MetadataValue<_>>()?;
    load.run(move |client, call| {
        let mut connection = clients[client % clients.len()].clone();
        let mut request = Request::new(request(client, call));
        request.metadata_mut().insert("authorization", authorization.clone());
        async move {
            connection.file_request(request).await?;
            Ok(())
        }
    })
    .await
}

/// Somewhere in Diemen, in one neighbourhood or another.
fn request(client: usize, call: u64) -> FileRequestRequest {
    let step = (client as u64 * 7 + call) % 100;
    FileRequestRequest {
        request_id: Uuid::now_v7().to_string(),
        category: "Afval/Grofvuil".to_owned(),
        description: DESCRIPTION.to_owned(),
        location: Some(Location { latitude: 52.335 + step as f64 * 1e-4, longitude: 4.96 }),
        channel: Channel::Phone.into(),
        reporter: None,
    }
}

impl Service {
    async fn start(place: &Place) -> anyhow::Result<Self> {
        let shutdown = CancellationToken::new();
        let stop = shutdown.clone().drop_guard();
        let master = MasterKey::generate(true);
        let issuer = Issuer::generate(ISSUER, true)?;
        let key_set = NamedTempFile::new()?;
        std::fs::write(key_set.path(), issuer.key_set())?;
        let keys = KeySource::File(key_set.path().to_owned());
        let deployment = Deployment {
            municipality: MUNICIPALITY.to_owned(),
            oin: "00000001001566575000".to_owned(),
            area: Area::shipped(MUNICIPALITY)?,
            verifier: Arc::new(Verifier::new(ISSUER, keys, &master, true).await?),
            pages: Pages::new(&master),
            master,
            heartbeat: Duration::from_secs(15),
            shutdown: shutdown.clone(),
        };
        let location = place.location(samen_requests::NAME).await?;
        // Nobody is forgotten here.
        let destroyed = NamedTempFile::new()?;
        let keeping = services::keeping(destroyed.path(), "none")?;
        let requests = Requests::start(deployment.clone(), &location, keeping).await?;
        let bound = grpc::bind((Ipv4Addr::LOCALHOST, 0).into()).await?;
        let (address, log, routes) = (bound.address, requests.log().clone(), requests.routes());
        let serving = tokio::spawn(async move {
            let port = Port::default();
            grpc::serve(bound, routes, &samen_requests::SERVICES, port, &deployment).await
        });
        let token = issuer.issue("bench", &[Role::Handler], TOKEN_TTL)?;
        Ok(Service { _stop: stop, address, token, log, shutdown, serving })
    }

    /// Stops it, as an operator would.
    async fn end(self) -> anyhow::Result<()> {
        self.shutdown.cancel();
        self.serving.await??;
        Ok(())
    }
}
