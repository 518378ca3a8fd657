//! What [`up`](crate::up) and [`serve`](crate::serve) share: ports, limits and
//! shutdown.

use std::net::SocketAddr;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context;
use axum::Router;
use clap::Args;
use http::Uri;
use samen_requests::domain::request::CLOSING;
use samen_server::area::Area;
use samen_server::calendar::Calendar;
use samen_server::connections::{Connection, Connections};
use samen_server::grpc::drained;
use samen_server::metrics::Count;
use samen_server::privacy::{DestroyedList, Keeping, Retention};
use samen_server::streams::Streams;
use samen_server::{Core, Deployment, metrics};
use tokio::net::TcpListener;
use tokio::signal::unix::{SignalKind, signal};
use tokio_util::sync::CancellationToken;
use tonic::transport::{Certificate, Channel, ClientTlsConfig, Endpoint};

use crate::usage::{Misconfigured, wrong};

/// Connections of a port for pages at a time. Each page that is looked at has
/// one.
const PAGE_CONNECTIONS: usize = 2_048;
/// How long one may be silent: an event stream says every 15 seconds that it
/// lives.
const PAGE_IDLE: Duration = Duration::from_secs(60);

/// How streams and their connections are bounded.
#[derive(Args)]
pub struct Limits {
    /// Seconds of silence on a stream before a heartbeat
    #[arg(long, env = "SAMEN_HEARTBEAT", default_value = "15", value_name = "SECONDS",
          value_parser = clap::value_parser!(u64).range(1..=300))]
    heartbeat: u64,
    /// Seconds, beyond a heartbeat, that a stream may go unread before it is
    /// ended
    #[arg(long, env = "SAMEN_STREAM_STALL", default_value = "60", value_name = "SECONDS",
          value_parser = clap::value_parser!(u64).range(1..=3600))]
    stream_stall: u64,
    /// Seconds that a stream lasts at most; then its reader resumes
    #[arg(long, env = "SAMEN_STREAM_AGE", default_value = "3600", value_name = "SECONDS",
          value_parser = clap::value_parser!(u64).range(1..=86400))]
    stream_age: u64,
    /// Seconds of silence before a peer is asked whether it lives; it has half
    /// as long to answer
    #[arg(long, env = "SAMEN_KEEPALIVE", default_value = "20", value_name = "SECONDS",
          value_parser = clap::value_parser!(u64).range(1..=300))]
    keepalive: u64,
}

impl Limits {
    pub fn streams(&self) -> Streams {
        let [heartbeat, stall, age] =
            [self.heartbeat, self.stream_stall, self.stream_age].map(Duration::from_secs);
        Streams::new(heartbeat, stall, age)
    }

    pub fn keepalive(&self) -> Duration {
        Duration::from_secs(self.keepalive)
    }
}

/// Cancels at SIGINT (Ctrl-C) or SIGTERM.
pub fn shutdown_on_signal() -> anyhow::Result<CancellationToken> {
    let shutdown = CancellationToken::new();
    let mut interrupt = signal(SignalKind::interrupt())?;
    let mut terminate = signal(SignalKind::terminate())?;
    let cancel = shutdown.clone();
    tokio::spawn(async move {
        tokio::select! {
            _ = interrupt.recv() => {}
            _ = terminate.recv() => {}
        }
        tracing::info!("stopping: calls may end, new ones are refused");
        cancel.cancel();
    });
    Ok(shutdown)
}

/// The neighbourhoods that a deployment is configured with: `shipped`, `none`,
/// or a GeoJSON file.
pub fn area(configured: &str, municipality: &str) -> Result<Area, Misconfigured> {
    match configured {
        "shipped" => Area::shipped(municipality).map_err(wrong("SAMEN_AREA")),
        "none" => Ok(Area::none()),
        file => {
            let text = std::fs::read_to_string(file)
                .map_err(|error| format!("{file}: {error}"))
                .map_err(wrong("SAMEN_AREA"))?;
            Area::parse(&text, municipality).map_err(wrong("SAMEN_AREA"))
        }
    }
}

/// By which a deployment counts working days: `shipped`, or a JSON file.
pub fn calendar(configured: &str) -> Result<Calendar, Misconfigured> {
    match configured {
        "shipped" => Ok(Calendar::dutch()),
        file => Calendar::parse(&read("SAMEN_CALENDAR", Path::new(file))?)
            .map_err(wrong("SAMEN_CALENDAR")),
    }
}

/// What a deployment says about keeping and erasing: the list of destroyed
/// keys, and terms: `shipped`, `none`, or a file.
pub fn keeping(destroyed: &Path, retention: &str) -> Result<Keeping, Misconfigured> {
    let destroyed = DestroyedList::at(destroyed).map_err(wrong("SAMEN_DESTROYED_KEYS"))?;
    // Of all services: they share one file.
    let closed = [CLOSING.kind];
    let retention = match retention {
        "shipped" => Retention::shipped(&closed),
        "none" => Ok(Retention::none()),
        file => Retention::parse(&read("SAMEN_RETENTION", Path::new(file))?, &closed),
    };
    let retention = retention.map_err(wrong("SAMEN_RETENTION"))?;
    Ok(Keeping { destroyed, retention: Arc::new(retention) })
}

/// A CBS municipality code: GM and four digits.
pub fn parse_municipality(text: &str) -> Result<String, String> {
    let digits = text.strip_prefix("GM").unwrap_or_default();
    if digits.len() == 4 && digits.bytes().all(|b| b.is_ascii_digit()) {
        Ok(text.to_owned())
    } else {
        Err("must be a CBS municipality code, such as GM0384".to_owned())
    }
}

/// An organisatie-identificatienummer: 20 digits.
pub fn parse_oin(text: &str) -> Result<String, String> {
    if text.len() == 20 && text.bytes().all(|b| b.is_ascii_digit()) {
        Ok(text.to_owned())
    } else {
        Err("must be an OIN: 20 digits".to_owned())
    }
}

/// Opens a port for pages.
pub async fn bind_pages(address: SocketAddr) -> anyhow::Result<(TcpListener, SocketAddr)> {
    let listener = TcpListener::bind(address).await.with_context(|| address.to_string())?;
    let address = listener.local_addr()?;
    Ok((listener, address))
}

/// The connections of a port for pages, as its server takes them.
struct Doors(Connections);

impl axum::serve::Listener for Doors {
    type Io = Connection;
    type Addr = SocketAddr;

    async fn accept(&mut self) -> (Connection, SocketAddr) {
        let connection = self.0.accept().await;
        let peer = connection.peer();
        (connection, peer)
    }

    fn local_addr(&self) -> std::io::Result<SocketAddr> {
        self.0.local_addr()
    }
}

/// Serves pages until shutdown, and then until they have drained. Their
/// connections are counted by `open`.
pub async fn serve_pages(
    listener: TcpListener,
    router: Router,
    open: Count,
    shutdown: CancellationToken,
) -> anyhow::Result<()> {
    let listener = Doors(Connections::new(listener, PAGE_CONNECTIONS, PAGE_IDLE, open));
    let serving = axum::serve(listener, router)
        .with_graceful_shutdown(shutdown.clone().cancelled_owned())
        .into_future();
    tokio::select! {
        served = serving => Ok(served?),
        () = drained(&shutdown) => Ok(()),
    }
}

/// Serves metrics and health, where a port was named, until shutdown.
pub async fn serve_metrics(
    address: Option<SocketAddr>,
    services: Vec<Core>,
    shutdown: &CancellationToken,
) -> anyhow::Result<()> {
    let Some(address) = address else { return Ok(()) };
    let listener = TcpListener::bind(address).await.with_context(|| address.to_string())?;
    let router = metrics::router(services);
    let serving = axum::serve(listener, router)
        .with_graceful_shutdown(shutdown.clone().cancelled_owned())
        .into_future();
    tokio::spawn(async move {
        if let Err(error) = serving.await {
            tracing::error!(%error, "metrics are not served any more");
        }
    });
    Ok(())
}

/// Runs a port and stops everything when it fails.
pub async fn guard<E>(
    port: impl Future<Output = Result<(), E>>,
    deployment: &Deployment,
) -> anyhow::Result<()>
where
    anyhow::Error: From<E>,
{
    let served = port.await;
    deployment.shutdown.cancel();
    Ok(served?)
}

/// A channel that connects when it is first used, and again when it breaks.
pub fn channel(
    variable: &'static str,
    url: &Uri,
    roots: Option<String>,
) -> anyhow::Result<Channel> {
    if !matches!(url.scheme_str(), Some("http" | "https")) || url.host().is_none() {
        let reason = format!("{url} must begin with http:// or https:// and name a host");
        return Err(Misconfigured { variable, reason }.into());
    }
    let mut endpoint = Endpoint::from(url.clone());
    if url.scheme_str() == Some("https") {
        let roots = roots.ok_or_else(|| Misconfigured {
            variable: "SAMEN_ROOTS",
            reason: format!("needed for the https URL in {variable}"),
        })?;
        let tls = ClientTlsConfig::new().ca_certificate(Certificate::from_pem(roots));
        endpoint = endpoint.tls_config(tls).map_err(wrong(variable))?;
    }
    let endpoint = endpoint
        .connect_timeout(Duration::from_secs(5))
        .http2_keep_alive_interval(Duration::from_secs(20))
        .keep_alive_while_idle(true);
    Ok(endpoint.connect_lazy())
}

/// A file that a variable names.
pub fn read(variable: &'static str, path: &Path) -> Result<String, Misconfigured> {
    std::fs::read_to_string(path)
        .map_err(|error| format!("{}: {error}", path.display()))
        .map_err(wrong(variable))
}
