//! The whole suite, in both ways an operator can run it.

use std::path::PathBuf;
use std::time::Duration;

use sqlx::{Connection, PgConnection};
use tempfile::TempDir;
use tonic::service::interceptor::InterceptedService;
use tonic::transport::{Certificate, Channel, ClientTlsConfig, Endpoint, Identity};

use samen_proto::participation::participation_service_client::ParticipationServiceClient;
use samen_proto::privacy::privacy_service_client::PrivacyServiceClient;
use samen_proto::regional::feed_service_client::FeedServiceClient;
use samen_proto::regional::regional_service_client::RegionalServiceClient;
use samen_proto::requests::request_service_client::RequestServiceClient;

use crate::process::{Process, Signal, run};
use crate::samen::samen;
use crate::scratch::{folder, free_port};
use crate::{Nats, postgres};

/// How long a process may take to start, or to stop, on a busy machine.
const SOON: Duration = Duration::from_secs(60);
/// The issuer of tokens where services run apart.
const ISSUER: &str = "samen-tests";
const MUNICIPALITY: &str = "GM0384";
const OIN: &str = "00000001001566575000";

/// The variable that names where traces go.
const COLLECTOR: &str = "OTEL_EXPORTER_OTLP_ENDPOINT";

/// How the suite runs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Setup {
    /// `samen up`: one process, SQLite, no NATS.
    AllInOne,
    /// `samen serve …`: a process for each service, PostgreSQL, NATS.
    Separate,
}

/// A running suite.
pub struct Deployment {
    pub setup: Setup,
    folder: TempDir,
    ports: Ports,
    area: String,
    collector: Option<String>,
    /// How long what is kept, from the next start on.
    pub retention: String,
    database: Option<String>,
    nats: Option<Nats>,
    /// The one process, or participation, requests, regional and dashboard.
    pub processes: Vec<Process>,
}

#[derive(Clone, Copy)]
struct Ports {
    participation: u16,
    requests: u16,
    regional: u16,
    partners: u16,
    dashboard: u16,
}

/// A partner's certificate, as `samen pki` made it.
pub struct Partner {
    pub code: String,
    pub oin: String,
    pub thumbprint: String,
    pub certificate: PathBuf,
    pub key: PathBuf,
    pub root: PathBuf,
}

/// A channel that brings a token.
pub type Authorised = InterceptedService<Channel, Bearer>;

/// Brings a token with every call.
#[derive(Clone)]
pub struct Bearer(String);

impl tonic::service::Interceptor for Bearer {
    fn call(
        &mut self,
        mut request: tonic::Request<()>,
    ) -> Result<tonic::Request<()>, tonic::Status> {
        let value = format!("Bearer {}", self.0).parse().expect("a token is printable");
        request.metadata_mut().insert("authorization", value);
        Ok(request)
    }
}

// === impl Deployment ===

impl Deployment {
    /// Starts a suite for Diemen.
    pub async fn start(setup: Setup) -> Self {
        Self::start_with_area(setup, "shipped").await
    }

    /// Starts a suite with other neighbourhoods: a file, or `none`.
    pub async fn start_with_area(setup: Setup, area: &str) -> Self {
        Self::start_with(setup, area, None).await
    }

    /// Starts a suite that sends traces to this collector.
    pub async fn start_traced(setup: Setup, collector: &str) -> Self {
        Self::start_with(setup, "shipped", Some(collector)).await
    }

    async fn start_with(setup: Setup, area: &str, collector: Option<&str>) -> Self {
        let ports = Ports {
            participation: free_port(),
            requests: free_port(),
            regional: free_port(),
            partners: free_port(),
            dashboard: free_port(),
        };
        let mut deployment = Deployment {
            setup,
            folder: folder("suite-"),
            ports,
            area: area.to_owned(),
            collector: collector.map(str::to_owned),
            retention: "shipped".to_owned(),
            database: None,
            nats: None,
            processes: Vec::new(),
        };
        if setup == Setup::Separate {
            deployment.database = Some(postgres::database().await);
            deployment.nats = Some(Nats::start().await);
            let master = deployment.path("master.key");
            deployment.command(&["keygen", "master", &master]).await;
            let issuer = deployment.path("issuer.pem");
            deployment.command(&["keygen", "issuer", "--name", ISSUER, &issuer]).await;
            let pki = deployment.pki();
            deployment.command(&["pki", "--folder", &pki, "server", "localhost"]).await;
        }
        deployment.restart().await;
        deployment
    }

    /// Starts what is not running.
    pub async fn restart(&mut self) {
        match self.setup {
            Setup::AllInOne => {
                let process = self.all_in_one();
                self.processes = vec![process];
                self.processes[0].line(SOON, |line| line.contains("dashboard")).await;
            }
            Setup::Separate => {
                self.processes = [
                    self.serve("participation", self.ports.participation),
                    self.serve("service-requests", self.ports.requests),
                    self.serve("regional-collaboration", self.ports.regional),
                    self.serve("dashboard", self.ports.dashboard),
                ]
                .into();
                for process in &mut self.processes {
                    process.line(SOON, |line| line.contains("listens on")).await;
                }
            }
        }
    }

    /// Kills every process, as a power failure would.
    pub fn kill(&mut self) {
        self.processes.iter_mut().for_each(Process::kill);
    }

    /// Asks every process to stop, and waits until it has.
    pub async fn stop(&mut self) {
        for process in &mut self.processes {
            process.signal(Signal::TERM);
        }
        for process in &mut self.processes {
            let status = process.ended(SOON).await;
            assert!(status.success(), "{status}:\n{}", process.output());
        }
    }

    /// A token for this person with these roles, made as an operator would.
    pub async fn token(&self, subject: &str, roles: &[&str]) -> String {
        let mut arguments = vec!["token", "--subject", subject];
        roles.iter().for_each(|role| arguments.extend(["--role", role]));
        let (data, key) = (self.path("data"), self.path("issuer.pem"));
        match self.setup {
            Setup::AllInOne => arguments.extend(["--data", &data]),
            Setup::Separate => arguments.extend(["--key", &key, "--issuer", ISSUER]),
        }
        self.command(&arguments).await.trim().to_owned()
    }

    /// Makes a certificate for a partner.
    pub async fn partner(&self, code: &str, oin: &str) -> Partner {
        let pki = self.pki();
        let arguments = ["pki", "--folder", &pki, "partner", code, "--oin", oin];
        let output = self.command(&arguments).await;
        let field = |name: &str| {
            let line = output.lines().find_map(|line| line.strip_prefix(name));
            line.expect("pki prints it").trim().to_owned()
        };
        Partner {
            code: code.to_owned(),
            oin: oin.to_owned(),
            thumbprint: field("thumbprint"),
            certificate: field("certificate").into(),
            key: field("key").into(),
            root: field("root").into(),
        }
    }

    pub async fn requests(
        &self,
        subject: &str,
        roles: &[&str],
    ) -> RequestServiceClient<Authorised> {
        let token = self.token(subject, roles).await;
        RequestServiceClient::new(self.authorised(self.ports.requests, token))
    }

    /// With a token of the caller's making.
    pub fn requests_with(&self, token: &str) -> RequestServiceClient<Authorised> {
        RequestServiceClient::new(self.authorised(self.ports.requests, token.to_owned()))
    }

    pub async fn participation(
        &self,
        subject: &str,
        roles: &[&str],
    ) -> ParticipationServiceClient<Authorised> {
        let token = self.token(subject, roles).await;
        ParticipationServiceClient::new(self.authorised(self.ports.participation, token))
    }

    /// What officers and residents ask of service requests about their data.
    pub async fn requests_privacy(
        &self,
        subject: &str,
        roles: &[&str],
    ) -> PrivacyServiceClient<Authorised> {
        let token = self.token(subject, roles).await;
        PrivacyServiceClient::new(self.authorised(self.ports.requests, token))
    }

    /// The same of participation.
    pub async fn participation_privacy(
        &self,
        subject: &str,
        roles: &[&str],
    ) -> PrivacyServiceClient<Authorised> {
        let token = self.token(subject, roles).await;
        PrivacyServiceClient::new(self.authorised(self.ports.participation, token))
    }

    /// Whom the issuer of this suite's tokens is, to those who ask about a
    /// person by their subject.
    pub fn issuer(&self) -> &'static str {
        match self.setup {
            Setup::AllInOne => "samen-trial",
            Setup::Separate => ISSUER,
        }
    }

    pub async fn regional(&self, subject: &str) -> RegionalServiceClient<Authorised> {
        let token = self.token(subject, &["manager"]).await;
        RegionalServiceClient::new(self.authorised(self.ports.regional, token))
    }

    /// The feed, as somebody with this certificate (or none) reaches it.
    pub fn feed(&self, partner: &Partner, with_certificate: bool) -> FeedServiceClient<Channel> {
        let read = |path: &PathBuf| std::fs::read_to_string(path).expect("pki wrote it");
        let mut tls = ClientTlsConfig::new()
            .domain_name("localhost")
            .ca_certificate(Certificate::from_pem(read(&partner.root)));
        if with_certificate {
            let identity = Identity::from_pem(read(&partner.certificate), read(&partner.key));
            tls = tls.identity(identity);
        }
        let endpoint = Endpoint::from_shared(format!("https://127.0.0.1:{}", self.ports.partners))
            .and_then(|endpoint| endpoint.tls_config(tls))
            .expect("a valid endpoint");
        FeedServiceClient::new(endpoint.connect_lazy())
    }

    pub fn requests_url(&self) -> String {
        format!("http://127.0.0.1:{}", self.ports.requests)
    }

    pub fn participation_url(&self) -> String {
        format!("http://127.0.0.1:{}", self.ports.participation)
    }

    pub fn regional_url(&self) -> String {
        format!("http://127.0.0.1:{}", self.ports.regional)
    }

    pub fn partners_address(&self) -> String {
        format!("localhost:{}", self.ports.partners)
    }

    pub fn dashboard_url(&self) -> String {
        format!("http://127.0.0.1:{}", self.ports.dashboard)
    }

    /// A plain channel to service requests.
    pub fn requests_channel(&self) -> Channel {
        channel(self.ports.requests)
    }

    /// A path in this suite's folder.
    pub fn path(&self, name: &str) -> String {
        self.folder.path().join(name).to_string_lossy().into_owned()
    }

    pub fn nats(&mut self) -> &mut Nats {
        self.nats.as_mut().expect("only services that run apart have an exchange")
    }

    /// The database of services that run apart.
    pub fn database(&self) -> Option<&str> {
        self.database.as_deref()
    }

    /// Removes every projection store: they are disposable. Only while nothing
    /// runs.
    pub async fn forget_projections(&self) {
        match &self.database {
            None => {
                for service in ["participation", "requests", "regional"] {
                    let folder = std::fs::read_dir(self.path(&format!("data/{service}")));
                    for entry in folder.expect("its data").flatten() {
                        if entry.file_name().to_string_lossy().starts_with("projection_") {
                            std::fs::remove_file(entry.path()).expect("removed");
                        }
                    }
                }
            }
            Some(url) => {
                let mut database = PgConnection::connect(url).await.expect("the database");
                let names: Vec<(String,)> = sqlx::query_as(
                    "SELECT nspname FROM pg_namespace WHERE nspname LIKE '%\\_projection\\_%'",
                )
                .fetch_all(&mut database)
                .await
                .expect("names");
                assert_eq!(names.len(), 3);
                for (name,) in names {
                    let drop = sqlx::AssertSqlSafe(format!("DROP SCHEMA {name} CASCADE"));
                    sqlx::query(drop).execute(&mut database).await.expect("dropped");
                }
            }
        }
    }

    fn pki(&self) -> String {
        match self.setup {
            Setup::AllInOne => self.path("data/pki"),
            Setup::Separate => self.path("pki"),
        }
    }

    fn authorised(&self, port: u16, token: String) -> Authorised {
        InterceptedService::new(channel(port), Bearer(token))
    }

    async fn command(&self, arguments: &[&str]) -> String {
        let (status, output) = run(samen(arguments.iter().copied()), SOON).await;
        assert!(status.success(), "samen {arguments:?}: {status}\n{output}");
        output
    }

    fn all_in_one(&self) -> Process {
        let mut command = samen(["up", "--heartbeat", "1"]);
        command.envs(self.collector.iter().map(|url| (COLLECTOR, url)));
        command.env("SAMEN_DATA", self.path("data")).env("SAMEN_AREA", &self.area);
        command.env("SAMEN_RETENTION", &self.retention);
        for (variable, port) in [
            ("SAMEN_PARTICIPATION_LISTEN", self.ports.participation),
            ("SAMEN_REQUESTS_LISTEN", self.ports.requests),
            ("SAMEN_REGIONAL_LISTEN", self.ports.regional),
            ("SAMEN_PARTNER_LISTEN", self.ports.partners),
            ("SAMEN_DASHBOARD_LISTEN", self.ports.dashboard),
        ] {
            command.env(variable, format!("127.0.0.1:{port}"));
        }
        Process::start(command)
    }

    fn serve(&self, service: &str, port: u16) -> Process {
        let mut command = samen(["serve", service]);
        command.envs(self.collector.iter().map(|url| (COLLECTOR, url)));
        for (variable, value) in self.environment(port) {
            command.env(variable, value);
        }
        Process::start(command)
    }

    /// The variables of a service that runs apart.
    pub fn environment(&self, port: u16) -> Vec<(&'static str, String)> {
        let pki = |file: &str| format!("{}/{file}", self.pki());
        vec![
            ("SAMEN_MUNICIPALITY", MUNICIPALITY.to_owned()),
            ("SAMEN_OIN", OIN.to_owned()),
            ("SAMEN_AREA", self.area.clone()),
            ("SAMEN_MASTER_KEY", self.path("master.key")),
            ("SAMEN_DESTROYED_KEYS", self.path("destroyed")),
            ("SAMEN_RETENTION", self.retention.clone()),
            ("SAMEN_OIDC_ISSUER", ISSUER.to_owned()),
            ("SAMEN_OIDC_JWKS", self.path("issuer.jwks.json")),
            ("SAMEN_DATABASE_URL", self.database.clone().unwrap_or_default()),
            ("SAMEN_NATS_URL", self.nats.as_ref().map(Nats::url).unwrap_or_default()),
            ("SAMEN_LISTEN", format!("127.0.0.1:{port}")),
            ("SAMEN_PLAINTEXT", "true".to_owned()),
            ("SAMEN_HEARTBEAT", "1".to_owned()),
            ("SAMEN_PARTNER_LISTEN", format!("127.0.0.1:{}", self.ports.partners)),
            ("SAMEN_PARTNER_TLS_CERTIFICATE", pki("localhost.pem")),
            ("SAMEN_PARTNER_TLS_KEY", pki("localhost.key")),
            ("SAMEN_PARTNER_ROOTS", pki("root.pem")),
            ("SAMEN_PARTICIPATION_URL", self.participation_url()),
            ("SAMEN_REQUESTS_URL", self.requests_url()),
            ("SAMEN_INSECURE_COOKIES", "true".to_owned()),
        ]
    }
}

fn channel(port: u16) -> Channel {
    Endpoint::from_shared(format!("http://127.0.0.1:{port}"))
        .expect("a valid address")
        .connect_lazy()
}
