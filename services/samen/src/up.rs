//! The whole suite in one process, on embedded defaults.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::Arc;

use clap::Parser;
use samen_dashboard::Dashboard;
use samen_log::{Exchanged, Follow, Log};
use samen_participation::Participation;
use samen_regional::Regional;
use samen_requests::Requests;
use samen_server::Deployment;
use samen_server::grpc::{self, Port};
use samen_server::identity::{KeySource, Verifier};
use samen_server::metrics::Counts;
use samen_server::paging::Pages;
use samen_server::telemetry;

use crate::data::{Data, TRIAL_ISSUER};
use crate::service_requests::RequestSettings;
use crate::services::{self, Limits};

/// Run the whole suite in one process, on SQLite and generated keys.
#[derive(Parser)]
pub struct Up {
    /// Where everything is kept
    #[arg(long, env = "SAMEN_DATA", default_value = "data", value_name = "FOLDER")]
    data: PathBuf,
    /// The municipality's CBS code
    #[arg(long, env = "SAMEN_MUNICIPALITY", default_value = "GM0384", value_name = "CODE",
          value_parser = services::parse_municipality)]
    municipality: String,
    /// The municipality's organisatie-identificatienummer
    #[arg(long, env = "SAMEN_OIN", default_value = "00000001001566575000", value_name = "OIN",
          value_parser = services::parse_oin)]
    oin: String,
    /// Neighbourhoods: a GeoJSON file, `shipped` (Duo+), or `none`
    #[arg(long, env = "SAMEN_AREA", default_value = "shipped", value_name = "AREA")]
    area: String,
    #[command(flatten)]
    requests: RequestSettings,
    /// Working days and office hours: a JSON file, or `shipped` (Dutch public
    /// holidays)
    #[arg(long, env = "SAMEN_CALENDAR", default_value = "shipped", value_name = "CALENDAR")]
    calendar: String,
    /// How long what is kept: a JSON file, `shipped`, or `none`
    #[arg(long, env = "SAMEN_RETENTION", default_value = "shipped", value_name = "TERMS")]
    retention: String,
    /// Where participation listens
    #[arg(
        long,
        env = "SAMEN_PARTICIPATION_LISTEN",
        default_value = "127.0.0.1:50051",
        value_name = "ADDRESS"
    )]
    participation_listen: SocketAddr,
    /// Where service requests listen
    #[arg(
        long,
        env = "SAMEN_REQUESTS_LISTEN",
        default_value = "127.0.0.1:50052",
        value_name = "ADDRESS"
    )]
    requests_listen: SocketAddr,
    /// Where service requests listen for people without an account: the page of
    /// a report, by its secret link, photos by theirs, and Open311
    #[arg(
        long,
        env = "SAMEN_REQUESTS_HTTP_LISTEN",
        default_value = "127.0.0.1:8311",
        value_name = "ADDRESS"
    )]
    requests_http_listen: SocketAddr,
    /// Where regional collaboration listens
    #[arg(
        long,
        env = "SAMEN_REGIONAL_LISTEN",
        default_value = "127.0.0.1:50053",
        value_name = "ADDRESS"
    )]
    regional_listen: SocketAddr,
    /// Where partners connect (mTLS)
    #[arg(
        long,
        env = "SAMEN_PARTNER_LISTEN",
        default_value = "127.0.0.1:50054",
        value_name = "ADDRESS"
    )]
    partner_listen: SocketAddr,
    /// Where the dashboard listens
    #[arg(
        long,
        env = "SAMEN_DASHBOARD_LISTEN",
        default_value = "127.0.0.1:8080",
        value_name = "ADDRESS"
    )]
    dashboard_listen: SocketAddr,
    /// Where metrics (/metrics) and health (/healthz) are served, to a network
    /// of operators only
    #[arg(
        long,
        env = "SAMEN_METRICS_LISTEN",
        default_value = "127.0.0.1:9464",
        value_name = "ADDRESS"
    )]
    metrics_listen: SocketAddr,
    /// Origins whose web pages may call over gRPC-Web
    #[arg(long, env = "SAMEN_ORIGINS", value_delimiter = ',', value_name = "ORIGIN")]
    origins: Vec<String>,
    #[command(flatten)]
    limits: Limits,
    /// How log lines are written
    #[arg(long, env = "SAMEN_LOG_FORMAT", value_enum, default_value = "text")]
    log_format: telemetry::Format,
}

impl Default for Up {
    fn default() -> Self {
        // `samen` alone reads the same variables as `samen up`.
        Up::parse_from(["samen"])
    }
}

impl Up {
    pub async fn run(self) -> anyhow::Result<ExitCode> {
        let _telemetry = telemetry::init("all-in-one", self.log_format);
        let area = services::area(&self.area, &self.municipality)?;
        let calendar = services::calendar(&self.calendar)?;
        let data = Data::open(&self.data)?;
        let settings = self.requests.clone().open(&area, Some(&data.paths().photos()))?;
        let fresh = !data.paths().master_key().exists();
        let master = data.master_key()?;
        let keeping = services::keeping(&data.paths().destroyed_keys(), &self.retention)?;
        let keys = KeySource::File(data.issuer_key_set()?);
        let (root, server_tls) = data.trial_tls()?;
        let deployment = Deployment {
            municipality: self.municipality.clone(),
            oin: self.oin.clone(),
            area,
            calendar,
            verifier: Arc::new(Verifier::new(TRIAL_ISSUER, keys, &master, true).await?),
            pages: Pages::new(&master),
            master,
            streams: self.limits.streams(),
            connections: Counts::default(),
            keepalive: self.limits.keepalive(),
            shutdown: services::shutdown_on_signal()?,
        };

        // Ports first: one that is taken is told before anything is done.
        let participation_port = grpc::bind(self.participation_listen).await?;
        let requests_port = grpc::bind(self.requests_listen).await?;
        let regional_port = grpc::bind(self.regional_listen).await?;
        let partner_port = grpc::bind(self.partner_listen).await?;
        let (dashboard_port, dashboard_address) =
            services::bind_pages(self.dashboard_listen).await?;
        let (http_port, http_address) = services::bind_pages(self.requests_http_listen).await?;

        // All logs before any: one that goes on would be in use, and what others
        // still need could not be restored again.
        for service in [samen_participation::NAME, samen_requests::NAME, samen_regional::NAME] {
            Log::check(&data.location(service)?).await?;
        }
        let at = data.location(samen_participation::NAME)?;
        let participation = Participation::start(deployment.clone(), &at, keeping.clone()).await?;
        let at = data.location(samen_requests::NAME)?;
        let requests = Requests::start(deployment.clone(), &at, keeping, settings).await?;
        let sources: Vec<Arc<dyn Follow>> = vec![
            Arc::new(Exchanged(participation.log.clone())),
            Arc::new(Exchanged(requests.log.clone())),
        ];
        let at = data.location(samen_regional::NAME)?;
        let regional = Regional::start(deployment.clone(), &at, sources).await?;
        let dashboard = Dashboard {
            requests: services::channel(
                "SAMEN_REQUESTS_LISTEN",
                &format!("http://{}", requests_port.address).parse()?,
                None,
            )?,
            secure_cookies: false,
            shutdown: deployment.shutdown.clone(),
        };

        let cores = [(*participation).clone(), (*requests).clone(), (*regional).clone()];
        let building = cores.clone();
        services::serve_metrics(Some(self.metrics_listen), cores.into(), &deployment.shutdown)
            .await?;

        let key = data.paths().master_key();
        let made = if fresh { "Made a master key" } else { "The master key" };
        let told = [
            format!("Samen for {}, data in {}", self.municipality, self.data.display()),
            format!("  participation   http://{}", participation_port.address),
            format!("  requests        http://{}", requests_port.address),
            format!("  reports         http://{http_address}/melding/…"),
            format!("  open311         http://{http_address}/open311/v2/services.json"),
            format!("  regional        http://{}", regional_port.address),
            format!("  partners        https://{} (mTLS)", partner_port.address),
            format!("  dashboard       http://{dashboard_address}"),
            format!("  metrics         http://{}/metrics", self.metrics_listen),
            "Get a token:      samen token --role handler".to_owned(),
            format!("{made}: {}", key.display()),
            "  Back it up, apart from the data: without it nothing sealed can be read again."
                .to_owned(),
            "  It is a trial key; `samen serve` refuses it.".to_owned(),
        ];
        tokio::spawn(async move {
            // Where queries are answered, and not only commands accepted.
            for core in building {
                core.built().await;
            }
            told.iter().for_each(|line| println!("{line}"));
        });

        let own = Port { origins: self.origins.clone(), ..Port::default() };
        let partner = Port { tls: Some(server_tls), client_roots: Some(root), origins: Vec::new() };
        let d = &deployment;
        let served = tokio::try_join!(
            services::guard(
                grpc::serve(
                    participation_port,
                    participation.routes(),
                    &samen_participation::SERVICES,
                    own.clone(),
                    &participation,
                ),
                d,
            ),
            services::guard(
                grpc::serve(
                    requests_port,
                    requests.routes(),
                    &samen_requests::SERVICES,
                    own.clone(),
                    &requests,
                ),
                d,
            ),
            services::guard(
                grpc::serve(
                    regional_port,
                    regional.routes(),
                    &samen_regional::SERVICES,
                    own,
                    &regional,
                ),
                d,
            ),
            services::guard(
                grpc::serve(
                    partner_port,
                    regional.partner_routes(),
                    &samen_regional::PARTNER_SERVICES,
                    partner,
                    &regional,
                ),
                d,
            ),
            services::guard(
                services::serve_pages(
                    dashboard_port,
                    samen_dashboard::router(dashboard),
                    d.connections_to(dashboard_address),
                    d.shutdown.clone(),
                ),
                d,
            ),
            services::guard(
                services::serve_pages(
                    http_port,
                    samen_requests::web::router(requests.clone()),
                    d.connections_to(http_address),
                    d.shutdown.clone(),
                ),
                d,
            ),
        );
        served?;
        println!("Stopped. Everything that was accepted is in the logs.");
        Ok(ExitCode::SUCCESS)
    }
}
