//! A port: TLS, access, limits, health, reflection, gRPC-Web, and a drain
//! with an end.

use std::net::SocketAddr;
use std::time::Duration;

use http::{HeaderName, HeaderValue};
use samen_proto::contract;
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;
use tonic::service::Routes;
use tonic::transport::{Certificate, Identity, Server, ServerTlsConfig};
use tonic_web::GrpcWebLayer;
use tower_http::cors::{AllowOrigin, CorsLayer};

use crate::access::AccessLayer;
use crate::connections::Connections;
use crate::core::Core;
use crate::health;

/// How long a call that answers once may take; a client's own deadline may be
/// shorter.
const TIMEOUT: Duration = Duration::from_secs(30);
/// Calls and streams of one connection at a time.
const MAX_STREAMS: u32 = 1_024;
/// Connections of a port at a time: of residents and staff, and of partners,
/// who need one or two each. What one costs is some tens of kilobytes.
const CONNECTIONS: usize = 4_096;
const PARTNER_CONNECTIONS: usize = 256;
/// How long a TLS handshake may take.
const HANDSHAKE: Duration = Duration::from_secs(5);
/// How long calls may go on after shutdown was asked.
const DRAIN: Duration = Duration::from_secs(8);

/// How a port is served.
#[derive(Clone, Debug, Default)]
pub struct Port {
    /// Certificate and key, PEM. Without it the port speaks plain text.
    pub tls: Option<(String, String)>,
    /// The roots of client certificates, PEM. With it, clients may bring one.
    pub client_roots: Option<String>,
    /// Origins whose web pages may call (gRPC-Web). None: no other than our
    /// own.
    pub origins: Vec<String>,
}

#[derive(Debug, thiserror::Error)]
pub enum ServeError {
    #[error("{address}: {cause}")]
    Bind { address: SocketAddr, cause: std::io::Error },
    #[error("these methods do not say who may call them: {0:?}")]
    Open(Vec<String>),
    #[error("{0} is not an origin")]
    Origin(String),
    #[error(transparent)]
    Reflection(#[from] tonic_reflection::server::Error),
    #[error(transparent)]
    Transport(#[from] tonic::transport::Error),
}

/// A port that is open, and not yet served: its address is known before the
/// first call is taken.
pub struct Bound {
    listener: TcpListener,
    pub address: SocketAddr,
}

/// Opens a port.
pub async fn bind(address: SocketAddr) -> Result<Bound, ServeError> {
    let failed = |cause| ServeError::Bind { address, cause };
    let listener = TcpListener::bind(address).await.map_err(failed)?;
    let address = listener.local_addr().map_err(failed)?;
    Ok(Bound { listener, address })
}

/// Serves until the deployment shuts down, and then until calls have ended or
/// [`DRAIN`] is over.
pub async fn serve(
    bound: Bound,
    routes: Routes,
    services: &[&str],
    port: Port,
    core: &Core,
) -> Result<(), ServeError> {
    let deployment = &core.deployment;
    let open = contract::methods_without_access();
    if !open.is_empty() {
        return Err(ServeError::Open(open));
    }
    let (reporter, health_service) = tonic_health::server::health_reporter();
    let names = services.iter().copied().chain([""]).map(str::to_owned).collect();
    health::tell(reporter, names, core.clone()).await;
    let mut reflection = tonic_reflection::server::Builder::configure()
        .register_encoded_file_descriptor_set(contract::DESCRIPTORS)
        .register_encoded_file_descriptor_set(tonic_health::pb::FILE_DESCRIPTOR_SET);
    for service in services {
        reflection = reflection.with_service_name(*service);
    }
    let routes = routes.add_service(health_service).add_service(reflection.build_v1()?);

    let mut server = Server::builder();
    if let Some((certificate, key)) = &port.tls {
        let identity = Identity::from_pem(certificate, key);
        let mut tls = ServerTlsConfig::new().identity(identity).timeout(HANDSHAKE);
        if let Some(roots) = &port.client_roots {
            // Optional, so that the answer is a status and not a broken
            // connection; the access layer asks for what a method needs.
            tls = tls.client_ca_root(Certificate::from_pem(roots)).client_auth_optional(true);
        }
        server = server.tls_config(tls)?;
    }
    // How often a silent peer is asked whether it lives, and how long it may
    // take to say so.
    let (ask, wait) = (deployment.keepalive, deployment.keepalive / 2);
    let most = if port.client_roots.is_some() { PARTNER_CONNECTIONS } else { CONNECTIONS };
    // Whatever is spoken: an answer may take so long, a stream is not silent
    // for longer, and a peer that is asked has answered.
    let idle = TIMEOUT + deployment.streams.heartbeat + ask + wait;
    let open = deployment.connections_to(bound.address);
    let connections = Connections::new(bound.listener, most, idle, open);
    let serving = server
        .accept_http1(true)
        .timeout(TIMEOUT)
        .max_concurrent_streams(MAX_STREAMS)
        .http2_keepalive_interval(Some(ask))
        .http2_keepalive_timeout(Some(wait))
        .layer(cors(&port.origins)?)
        .layer(GrpcWebLayer::new())
        .layer(AccessLayer::new(deployment.verifier.clone()))
        .add_routes(routes)
        .serve_with_incoming_shutdown(
            connections.incoming(),
            deployment.shutdown.clone().cancelled_owned(),
        );
    tokio::select! {
        served = serving => served.map_err(ServeError::from),
        () = drained(&deployment.shutdown) => {
            tracing::warn!(address = %bound.address, "calls were cut off at shutdown");
            Ok(())
        }
    }
}

/// Ends when a drain has lasted too long.
pub async fn drained(shutdown: &CancellationToken) {
    shutdown.cancelled().await;
    tokio::time::sleep(DRAIN).await;
}

fn cors(origins: &[String]) -> Result<CorsLayer, ServeError> {
    let header = |origin: &String| {
        origin.parse::<HeaderValue>().map_err(|_| ServeError::Origin(origin.clone()))
    };
    let allowed = origins.iter().map(header).collect::<Result<Vec<_>, _>>()?;
    let exposed = ["grpc-status", "grpc-message", "grpc-status-details-bin"];
    Ok(CorsLayer::new()
        .allow_origin(AllowOrigin::list(allowed))
        .allow_methods([http::Method::POST])
        .allow_headers([
            http::header::AUTHORIZATION,
            http::header::CONTENT_TYPE,
            HeaderName::from_static("x-grpc-web"),
            HeaderName::from_static("x-user-agent"),
            HeaderName::from_static("grpc-timeout"),
        ])
        .expose_headers(exposed.map(HeaderName::from_static)))
}
