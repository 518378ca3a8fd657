//! One service as a process of its own, on PostgreSQL and NATS JetStream.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;

use clap::{Args, Subcommand};
use http::Uri;
use samen_dashboard::Dashboard;
use samen_log::db::POSTGRES_CONNECTIONS;
use samen_log::jetstream::{JetStream, JetStreamLog};
use samen_log::relay::{self, Retention};
use samen_log::remote::RemoteLog;
use samen_log::{Follow, Location, MasterKey, supervise};
use samen_participation::Participation;
use samen_proto::operations::TaskKind;
use samen_regional::Regional;
use samen_requests::Requests;
use samen_server::grpc::{self, Port};
use samen_server::identity::{InternalTokens, KeySource, Verifier};
use samen_server::metrics::{Count, Counts};
use samen_server::paging::Pages;
use samen_server::privacy::Keeping;
use samen_server::telemetry;
use samen_server::{Core, Deployment};
use tonic::service::interceptor::InterceptedService;
use tonic::transport::Channel;
use tonic::{Request, Status};

use crate::service_requests::RequestSettings;
use crate::services::{self, Limits};
use crate::usage::{Misconfigured, wrong};

/// Run one service, on PostgreSQL and NATS JetStream.
#[derive(Args)]
pub struct Serve {
    #[command(subcommand)]
    what: What,
}

#[derive(Subcommand)]
#[allow(clippy::large_enum_variant)]
enum What {
    /// Participation
    Participation {
        #[command(flatten)]
        own: Own,
        #[command(flatten)]
        stores: Stores,
        #[command(flatten)]
        keep: Keep,
    },
    /// Service requests
    ServiceRequests {
        #[command(flatten)]
        own: Own,
        #[command(flatten)]
        stores: Stores,
        #[command(flatten)]
        keep: Keep,
        #[command(flatten)]
        requests: RequestSettings,
        /// Where it listens for people without an account, over HTTP: the page
        /// of a report, by its secret link, photos by theirs, and Open311.
        /// Something before it does TLS
        #[arg(long, env = "SAMEN_HTTP_LISTEN", value_name = "ADDRESS")]
        http_listen: Option<SocketAddr>,
    },
    /// Regional collaboration, and the port for partners
    RegionalCollaboration {
        #[command(flatten)]
        own: Own,
        #[command(flatten)]
        stores: Stores,
        #[command(flatten)]
        partners: Partners,
    },
    /// The web page for staff
    Dashboard {
        /// Where it listens
        #[arg(long, env = "SAMEN_LISTEN", value_name = "ADDRESS")]
        listen: SocketAddr,
        /// Where service requests are
        #[arg(long, env = "SAMEN_REQUESTS_URL", value_name = "URL")]
        requests_url: Uri,
        /// Roots of the services' certificates, PEM
        #[arg(long, env = "SAMEN_ROOTS", value_name = "FILE")]
        roots: Option<PathBuf>,
        /// Say so where visitors come over plain HTTP: cookies are then sent
        /// without encryption
        #[arg(long, env = "SAMEN_INSECURE_COOKIES")]
        insecure_cookies: bool,
        /// How log lines are written
        #[arg(long, env = "SAMEN_LOG_FORMAT", value_enum, default_value = "json")]
        log_format: telemetry::Format,
    },
}

/// What every service needs.
#[derive(Args)]
struct Own {
    /// The municipality's CBS code
    #[arg(long, env = "SAMEN_MUNICIPALITY", value_name = "CODE",
          value_parser = services::parse_municipality)]
    municipality: String,
    /// The municipality's organisatie-identificatienummer
    #[arg(long, env = "SAMEN_OIN", value_name = "OIN", value_parser = services::parse_oin)]
    oin: String,
    /// Neighbourhoods: a GeoJSON file, `shipped` (Duo+), or `none`
    #[arg(long, env = "SAMEN_AREA", default_value = "shipped", value_name = "AREA")]
    area: String,
    /// Working days and office hours: a JSON file, or `shipped` (Dutch public
    /// holidays)
    #[arg(long, env = "SAMEN_CALENDAR", default_value = "shipped", value_name = "CALENDAR")]
    calendar: String,
    /// The master key's file (`samen keygen master`), the same for all
    /// services
    #[arg(long, env = "SAMEN_MASTER_KEY", value_name = "FILE")]
    master_key: PathBuf,
    /// The issuer of people's tokens
    #[arg(long, env = "SAMEN_OIDC_ISSUER", value_name = "NAME")]
    oidc_issuer: String,
    /// Its keys: an https URL, or a file
    #[arg(long, env = "SAMEN_OIDC_JWKS", value_name = "URL_OR_FILE")]
    oidc_jwks: String,
    /// Where the service listens
    #[arg(long, env = "SAMEN_LISTEN", value_name = "ADDRESS")]
    listen: SocketAddr,
    /// Where metrics (/metrics) and health (/healthz) are served, to a network
    /// of operators only
    #[arg(long, env = "SAMEN_METRICS_LISTEN", value_name = "ADDRESS")]
    metrics_listen: Option<SocketAddr>,
    #[command(flatten)]
    tls: Tls,
    /// Origins whose web pages may call over gRPC-Web
    #[arg(long, env = "SAMEN_ORIGINS", value_delimiter = ',', value_name = "ORIGIN")]
    origins: Vec<String>,
    #[command(flatten)]
    limits: Limits,
    /// How log lines are written
    #[arg(long, env = "SAMEN_LOG_FORMAT", value_enum, default_value = "json")]
    log_format: telemetry::Format,
}

/// How a port is protected. One of the two must be said.
#[derive(Args)]
struct Tls {
    /// The service's certificate, PEM
    #[arg(long, env = "SAMEN_TLS_CERTIFICATE", value_name = "FILE", requires = "tls_key")]
    tls_certificate: Option<PathBuf>,
    /// Its private key, PEM
    #[arg(long, env = "SAMEN_TLS_KEY", value_name = "FILE", requires = "tls_certificate")]
    tls_key: Option<PathBuf>,
    /// Speak plain text, where something before the service does TLS
    #[arg(long, env = "SAMEN_PLAINTEXT")]
    plaintext: bool,
}

/// Where a service keeps its log and exchanges it.
#[derive(Args)]
struct Stores {
    /// The PostgreSQL database
    #[arg(long, env = "SAMEN_DATABASE_URL", value_name = "URL", hide_env_values = true)]
    database_url: String,
    /// Connections to it
    #[arg(long, env = "SAMEN_DATABASE_CONNECTIONS", default_value_t = POSTGRES_CONNECTIONS,
          value_name = "N", value_parser = clap::value_parser!(u32).range(2..=500))]
    database_connections: u32,
    /// The NATS servers
    #[arg(long, env = "SAMEN_NATS_URL", value_name = "URL", hide_env_values = true)]
    nats_url: String,
    /// Credentials for NATS
    #[arg(long, env = "SAMEN_NATS_CREDENTIALS", value_name = "FILE")]
    nats_credentials: Option<PathBuf>,
    /// Copies of a stream among the NATS servers
    #[arg(long, env = "SAMEN_NATS_REPLICAS", default_value = "1", value_name = "N",
          value_parser = clap::value_parser!(u8).range(1..=5))]
    nats_replicas: u8,
    /// Days that the exchange keeps records; 0 keeps all
    #[arg(long, env = "SAMEN_NATS_DAYS", default_value = "30", value_name = "DAYS")]
    nats_days: u32,
}

/// What a service needs besides that holds content of people.
#[derive(Args)]
struct Keep {
    /// The list of destroyed keys: one file for all services and replicas,
    /// kept apart from every backup of the database
    #[arg(long, env = "SAMEN_DESTROYED_KEYS", value_name = "FILE")]
    destroyed_keys: PathBuf,
    /// How long what is kept: a JSON file, `shipped`, or `none`
    #[arg(long, env = "SAMEN_RETENTION", default_value = "shipped", value_name = "TERMS")]
    retention: String,
}

/// What the regional service needs besides.
#[derive(Args)]
struct Partners {
    /// Where partners connect
    #[arg(long, env = "SAMEN_PARTNER_LISTEN", value_name = "ADDRESS")]
    partner_listen: SocketAddr,
    /// The certificate of that port, PEM
    #[arg(long, env = "SAMEN_PARTNER_TLS_CERTIFICATE", value_name = "FILE")]
    partner_tls_certificate: PathBuf,
    /// Its private key, PEM
    #[arg(long, env = "SAMEN_PARTNER_TLS_KEY", value_name = "FILE")]
    partner_tls_key: PathBuf,
    /// Roots of the partners' certificates, PEM
    #[arg(long, env = "SAMEN_PARTNER_ROOTS", value_name = "FILE")]
    partner_roots: PathBuf,
    /// Where participation is, for records that have left the exchange
    #[arg(long, env = "SAMEN_PARTICIPATION_URL", value_name = "URL")]
    participation_url: Uri,
    /// Where service requests are, likewise
    #[arg(long, env = "SAMEN_REQUESTS_URL", value_name = "URL")]
    requests_url: Uri,
    /// Roots of the services' certificates, PEM
    #[arg(long, env = "SAMEN_ROOTS", value_name = "FILE")]
    roots: Option<PathBuf>,
}

impl Serve {
    pub async fn run(self) -> anyhow::Result<ExitCode> {
        match self.what {
            What::Participation { own, stores, keep } => {
                let _telemetry = telemetry::init(samen_participation::NAME, own.log_format);
                let (deployment, port) = own.open().await?;
                let keeping = keep.open()?;
                let bound = grpc::bind(own.listen).await?;
                let location = stores.location(samen_participation::NAME).await?;
                let nats = stores.nats().await?;
                let service = Participation::start(deployment.clone(), &location, keeping).await?;
                stores.relay(&service, &nats);
                let services = &samen_participation::SERVICES;
                let metrics = own.metrics_listen;
                services::serve_metrics(metrics, vec![(*service).clone()], &deployment.shutdown)
                    .await?;
                announce_built(&service, &[(samen_participation::NAME, bound.address)]);
                grpc::serve(bound, service.routes(), services, port, &service).await?;
                service.leases.give_back().await;
            }
            What::ServiceRequests { own, stores, keep, requests: settings, http_listen } => {
                requests(own, stores, keep, settings, http_listen).await?;
            }
            What::RegionalCollaboration { own, stores, partners } => {
                regional(own, stores, partners).await?;
            }
            What::Dashboard { listen, requests_url, roots, insecure_cookies, log_format } => {
                let _telemetry = telemetry::init("dashboard", log_format);
                let roots =
                    roots.as_deref().map(|p| services::read("SAMEN_ROOTS", p)).transpose()?;
                let requests = services::channel("SAMEN_REQUESTS_URL", &requests_url, roots)?;
                let shutdown = services::shutdown_on_signal()?;
                let (listener, address) = services::bind_pages(listen).await?;
                announce("dashboard", address);
                let dashboard = Dashboard {
                    requests,
                    secure_cookies: !insecure_cookies,
                    shutdown: shutdown.clone(),
                };
                let router = samen_dashboard::router(dashboard);
                services::serve_pages(listener, router, Count::default(), shutdown).await?;
            }
        }
        Ok(ExitCode::SUCCESS)
    }
}

async fn requests(
    own: Own,
    stores: Stores,
    keep: Keep,
    settings: RequestSettings,
    http_listen: Option<SocketAddr>,
) -> anyhow::Result<()> {
    let _telemetry = telemetry::init(samen_requests::NAME, own.log_format);
    let (deployment, port) = own.open().await?;
    let keeping = keep.open()?;
    let bound = grpc::bind(own.listen).await?;
    let pages = match http_listen {
        Some(address) => Some(services::bind_pages(address).await?),
        None => None,
    };
    let location = stores.location(samen_requests::NAME).await?;
    let nats = stores.nats().await?;
    let settings = settings.open(&deployment.area, None)?;
    let service = Requests::start(deployment.clone(), &location, keeping, settings).await?;
    stores.relay(&service, &nats);
    services::serve_metrics(own.metrics_listen, vec![(*service).clone()], &deployment.shutdown)
        .await?;
    announce_built(&service, &[(samen_requests::NAME, bound.address)]);
    let d = &deployment;
    let serve_pages = async {
        let Some((listener, address)) = pages else { return Ok(()) };
        announce_built(&service, &[("reports", address)]);
        let router = samen_requests::web::router(service.clone());
        services::guard(
            services::serve_pages(listener, router, d.connections_to(address), d.shutdown.clone()),
            d,
        )
        .await
    };
    let services = &samen_requests::SERVICES;
    tokio::try_join!(
        services::guard(grpc::serve(bound, service.routes(), services, port, &service), d),
        serve_pages,
    )?;
    service.leases.give_back().await;
    Ok(())
}

async fn regional(own: Own, stores: Stores, partners: Partners) -> anyhow::Result<()> {
    let _telemetry = telemetry::init(samen_regional::NAME, own.log_format);
    let (deployment, port) = own.open().await?;
    let partner = Port {
        tls: Some((
            services::read("SAMEN_PARTNER_TLS_CERTIFICATE", &partners.partner_tls_certificate)?,
            services::read("SAMEN_PARTNER_TLS_KEY", &partners.partner_tls_key)?,
        )),
        client_roots: Some(services::read("SAMEN_PARTNER_ROOTS", &partners.partner_roots)?),
        origins: Vec::new(),
    };
    let roots = partners.roots.as_deref().map(|p| services::read("SAMEN_ROOTS", p)).transpose()?;
    let bound = grpc::bind(own.listen).await?;
    let partner_bound = grpc::bind(partners.partner_listen).await?;
    let location = stores.location(samen_regional::NAME).await?;
    let nats = stores.nats().await?;
    let mut sources: Vec<Arc<dyn Follow>> = Vec::new();
    for (name, variable, url) in [
        (samen_participation::NAME, "SAMEN_PARTICIPATION_URL", &partners.participation_url),
        (samen_requests::NAME, "SAMEN_REQUESTS_URL", &partners.requests_url),
    ] {
        let log = deployment.log_id(name);
        let door = Credentials::on(services::channel(variable, url, roots.clone())?, &deployment);
        let owner: Arc<dyn Follow> = Arc::new(RemoteLog::new(&log, door));
        sources.push(Arc::new(JetStreamLog::new(nats.clone(), &log, Some(owner))));
    }
    let service = Regional::start(deployment.clone(), &location, sources).await?;
    stores.relay(&service, &nats);
    services::serve_metrics(own.metrics_listen, vec![(*service).clone()], &deployment.shutdown)
        .await?;
    let ports = [(samen_regional::NAME, bound.address), ("partners", partner_bound.address)];
    announce_built(&service, &ports);
    let d = &deployment;
    let services = &samen_regional::SERVICES;
    let partner_services = &samen_regional::PARTNER_SERVICES;
    tokio::try_join!(
        services::guard(grpc::serve(bound, service.routes(), services, port, &service), d),
        services::guard(
            grpc::serve(
                partner_bound,
                service.partner_routes(),
                partner_services,
                partner,
                &service,
            ),
            d,
        ),
    )?;
    service.leases.give_back().await;
    Ok(())
}

impl Own {
    async fn open(&self) -> anyhow::Result<(Deployment, Port)> {
        let master = MasterKey::load(&self.master_key).map_err(wrong("SAMEN_MASTER_KEY"))?;
        if master.is_trial() {
            let reason = format!(
                "{} was generated for a trial by `samen up`; `samen keygen master` makes one to keep",
                self.master_key.display()
            );
            return Err(Misconfigured { variable: "SAMEN_MASTER_KEY", reason }.into());
        }
        let keys = if self.oidc_jwks.starts_with("https://") {
            KeySource::Url(self.oidc_jwks.clone())
        } else {
            KeySource::File(PathBuf::from(&self.oidc_jwks))
        };
        let verifier = Verifier::new(&self.oidc_issuer, keys, &master, false).await;
        let tls = match (&self.tls.tls_certificate, &self.tls.tls_key) {
            (Some(certificate), Some(key)) => Some((
                services::read("SAMEN_TLS_CERTIFICATE", certificate)?,
                services::read("SAMEN_TLS_KEY", key)?,
            )),
            _ if self.tls.plaintext => None,
            _ => {
                let reason = "missing, and neither is SAMEN_PLAINTEXT true".to_owned();
                return Err(Misconfigured { variable: "SAMEN_TLS_CERTIFICATE", reason }.into());
            }
        };
        let deployment = Deployment {
            municipality: self.municipality.clone(),
            oin: self.oin.clone(),
            area: services::area(&self.area, &self.municipality)?,
            calendar: services::calendar(&self.calendar)?,
            verifier: Arc::new(verifier.map_err(wrong("SAMEN_OIDC_JWKS"))?),
            pages: Pages::new(&master),
            master,
            streams: self.limits.streams(),
            connections: Counts::default(),
            keepalive: self.limits.keepalive(),
            shutdown: services::shutdown_on_signal()?,
        };
        Ok((deployment, Port { tls, client_roots: None, origins: self.origins.clone() }))
    }
}

impl Keep {
    fn open(&self) -> Result<Keeping, Misconfigured> {
        services::keeping(&self.destroyed_keys, &self.retention)
    }
}

impl Stores {
    async fn location(&self, service: &str) -> anyhow::Result<Location> {
        let connections = self.database_connections;
        Ok(Location::postgres(&self.database_url, service, connections)
            .await
            .map_err(wrong("SAMEN_DATABASE_URL"))?)
    }

    async fn nats(&self) -> anyhow::Result<async_nats::Client> {
        let mut options = async_nats::ConnectOptions::new().name("samen");
        if let Some(credentials) = &self.nats_credentials {
            options = options
                .credentials_file(credentials)
                .await
                .map_err(wrong("SAMEN_NATS_CREDENTIALS"))?;
        }
        // The exchange may be down when a service starts: what is accepted
        // meanwhile is in the log, and the relay catches up.
        let options = options.retry_on_initial_connect();
        Ok(options.connect(&self.nats_url).await.map_err(wrong("SAMEN_NATS_URL"))?)
    }

    /// Publishes a service's log, from one of its processes at a time.
    fn relay(&self, core: &Core, nats: &async_nats::Client) {
        let retention = Retention {
            max_age: Duration::from_secs(u64::from(self.nats_days) * 24 * 3600),
            replicas: self.nats_replicas.into(),
        };
        let (core, exchange) = (core.clone(), JetStream::new(nats.clone(), core.log.id()));
        supervise("relay", core.deployment.shutdown.clone(), async move {
            let task = core.tasks.add(TaskKind::Relay, "relay");
            let shutdown = &core.deployment.shutdown;
            let run = || {
                let (log, exchange) = (core.log.clone(), exchange.clone());
                relay::run(log, exchange, retention, task.clone(), shutdown.clone())
            };
            core.leases.hold("relay", &task, shutdown, run).await;
        });
    }
}

/// This service's credentials, renewed with every call.
#[derive(Clone)]
struct Credentials(InternalTokens);

impl Credentials {
    fn on(channel: Channel, deployment: &Deployment) -> InterceptedService<Channel, Self> {
        InterceptedService::new(channel, Credentials(InternalTokens::new(&deployment.master)))
    }
}

impl tonic::service::Interceptor for Credentials {
    fn call(&mut self, mut request: Request<()>) -> Result<Request<()>, Status> {
        let failed = |_| Status::internal("this service cannot make its own token");
        let token = self.0.issue(samen_regional::NAME).map_err(failed)?;
        let value = format!("Bearer {token}").parse();
        let value = value.map_err(|_| Status::internal("a token has only printable letters"))?;
        request.metadata_mut().insert("authorization", value);
        Ok(request)
    }
}

/// Announces ports once queries are answered there.
fn announce_built(core: &Core, ports: &[(&'static str, SocketAddr)]) {
    let (core, ports) = (core.clone(), ports.to_vec());
    tokio::spawn(async move {
        core.built().await;
        ports.into_iter().for_each(|(service, address)| announce(service, address));
    });
}

fn announce(service: &str, address: SocketAddr) {
    println!("{service} listens on {address}");
}
