//! A service that is set up like any other, on a port of its own.

use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use samen_log::{Log, MasterKey};
use samen_proto::options::Role;
use samen_proto::requests::request_service_client::RequestServiceClient;
use samen_requests::{Requests, SERVICES, Settings, seed};
use samen_server::Deployment;
use samen_server::area::Area;
use samen_server::calendar::Calendar;
use samen_server::grpc::{self, Port, ServeError};
use samen_server::identity::{Issuer, KeySource, Verifier};
use samen_server::metrics::Counts;
use samen_server::paging::Pages;
use samen_server::streams::Streams;
use tempfile::NamedTempFile;
use tokio::task::JoinHandle;
use tokio_util::sync::{CancellationToken, DropGuard};
use tonic::metadata::{Ascii, MetadataValue};
use tonic::transport::Channel;

use super::place::Place;
use crate::services;

/// The municipality that is played.
const MUNICIPALITY: &str = "GM0384";
/// Its issuer of tokens, and how long a token holds: longer than any measure.
const ISSUER: &str = "samen-bench";
const TOKEN_TTL: Duration = Duration::from_secs(3600);
/// How long a stream may be silent, as it is by default; nothing else ends one
/// meanwhile.
const HEARTBEAT: Duration = Duration::from_secs(15);
const LONG: Duration = Duration::from_secs(3600);
/// A client of it.
pub type Client = RequestServiceClient<Channel>;

/// The service, on a port of its own.
pub struct Service {
    /// Its tasks end with it, also when a measure fails; dropped before the log
    /// is.
    _stop: DropGuard,
    address: SocketAddr,
    issuer: Issuer,
    streams: Streams,
    log: Log,
    master: MasterKey,
    shutdown: CancellationToken,
    serving: JoinHandle<Result<(), ServeError>>,
}

impl Service {
    pub async fn start(place: &Place) -> anyhow::Result<Self> {
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
            calendar: Calendar::dutch(),
            verifier: Arc::new(Verifier::new(ISSUER, keys, &master, true).await?),
            pages: Pages::new(&master),
            master: master.clone(),
            streams: Streams::new(HEARTBEAT, LONG, LONG),
            connections: Counts::default(),
            keepalive: LONG,
            shutdown: shutdown.clone(),
        };
        let streams = deployment.streams.clone();
        let location = place.location(samen_requests::NAME).await?;
        // Nobody is forgotten here.
        let destroyed = NamedTempFile::new()?;
        let keeping = services::keeping(destroyed.path(), "none")?;
        let catalogue = Some(seed::shipped(&deployment.area)?);
        let settings = Settings { catalogue, photos: None, open311: Default::default() };
        let requests = Requests::start(deployment, &location, keeping, settings).await?;
        requests.built().await;
        let bound = grpc::bind((Ipv4Addr::LOCALHOST, 0).into()).await?;
        let (address, log, routes) = (bound.address, requests.log.clone(), requests.routes());
        let serving = tokio::spawn(async move {
            let port = Port::default();
            grpc::serve(bound, routes, &SERVICES, port, &requests).await
        });
        Ok(Service { _stop: stop, address, issuer, streams, log, master, shutdown, serving })
    }

    /// The service's log.
    pub fn log(&self) -> &Log {
        &self.log
    }

    /// What its secrets are made from.
    pub fn master(&self) -> &MasterKey {
        &self.master
    }

    /// How many streams it serves.
    pub fn open_streams(&self) -> usize {
        self.streams.open_of(SERVICES[0], "WatchRequests")
    }

    /// A connection to it.
    pub fn channel(&self) -> anyhow::Result<Channel> {
        services::channel("--connections", &format!("http://{}", self.address).parse()?, None)
    }

    /// Clients on connections of their own.
    pub fn clients(&self, connections: u16) -> anyhow::Result<Vec<Client>> {
        (0..connections).map(|_| self.channel().map(RequestServiceClient::new)).collect()
    }

    /// What somebody with this role brings with each call.
    pub fn authorization(&self, subject: &str, role: Role) -> anyhow::Result<MetadataValue<Ascii>> {
        let token = self.issuer.issue(subject, &[role], TOKEN_TTL)?;
        Ok(format!("Bearer {token}").parse()?)
    }

    /// Stops it, as an operator would.
    pub async fn end(self) -> anyhow::Result<()> {
        self.shutdown.cancel();
        self.serving.await??;
        Ok(())
    }
}
