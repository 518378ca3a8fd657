//! The whole suite, in both ways an operator can run it.

use std::path::PathBuf;
use std::process::{Command, ExitStatus};
use std::time::Duration;

use samen_log::MasterKey;
use sqlx::{Connection, PgConnection};
use tempfile::TempDir;
use tonic::service::interceptor::InterceptedService;
use tonic::transport::{Certificate, Channel, ClientTlsConfig, Endpoint, Identity};

use samen_proto::operations::operations_service_client::OperationsServiceClient;
use samen_proto::participation::participation_service_client::ParticipationServiceClient;
use samen_proto::privacy::privacy_service_client::PrivacyServiceClient;
use samen_proto::regional::feed_service_client::FeedServiceClient;
use samen_proto::regional::regional_service_client::RegionalServiceClient;
use samen_proto::requests::request_service_client::RequestServiceClient;
use samen_server::deployment::Pseudonyms;
use samen_server::identity::InternalTokens;

use crate::process::{Process, Signal, run};
use crate::samen::samen;
use crate::scratch::{folder, free_port};
use crate::{Nats, postgres, web};

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
    issuer: String,
    /// Variables beyond those that every suite here has, from the next start on.
    pub variables: Vec<(String, String)>,
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
    /// Where service requests serve pages.
    reports: u16,
    regional: u16,
    partners: u16,
    dashboard: u16,
    /// Of the one process, or of the three services.
    metrics: [u16; 3],
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
        Self::start_as(setup, area, &[]).await
    }

    /// Starts a suite that sends traces to this collector.
    pub async fn start_traced(setup: Setup, collector: &str) -> Self {
        Self::start_with(setup, &[(COLLECTOR, collector)]).await
    }

    /// Starts a suite with more environment variables, or other values.
    pub async fn start_with(setup: Setup, variables: &[(&str, &str)]) -> Self {
        Self::start_as(setup, "shipped", variables).await
    }

    async fn start_as(setup: Setup, area: &str, variables: &[(&str, &str)]) -> Self {
        let mut deployment = Self::of(setup, ISSUER);
        deployment.area = area.to_owned();
        deployment.variables =
            variables.iter().map(|(n, v)| (n.to_string(), v.to_string())).collect();
        if setup == Setup::Separate {
            let master = deployment.master_key();
            deployment.command(&["keygen", "master", &master]).await;
            deployment.prepare().await;
        }
        deployment.restart().await;
        deployment
    }

    /// A suite that was not started yet, and has this master key. Where its
    /// services run apart, tokens are of an issuer with this name.
    pub async fn with_master_key(setup: Setup, issuer: &str, key: &str) -> Self {
        use std::os::unix::fs::DirBuilderExt;
        let mut deployment = Self::of(setup, issuer);
        let master = PathBuf::from(deployment.master_key());
        let folder = master.parent().expect("a folder");
        std::fs::DirBuilder::new().recursive(true).mode(0o700).create(folder).expect("made");
        std::fs::write(&master, key).expect("written");
        if setup == Setup::Separate {
            deployment.prepare().await;
        }
        deployment
    }

    /// Nothing that runs, and nothing on disk.
    fn of(setup: Setup, issuer: &str) -> Self {
        let ports = Ports {
            participation: free_port(),
            requests: free_port(),
            reports: free_port(),
            regional: free_port(),
            partners: free_port(),
            dashboard: free_port(),
            metrics: [free_port(), free_port(), free_port()],
        };
        Deployment {
            setup,
            folder: folder("suite-"),
            ports,
            area: "shipped".to_owned(),
            issuer: issuer.to_owned(),
            variables: Vec::new(),
            retention: "shipped".to_owned(),
            database: None,
            nats: None,
            processes: Vec::new(),
        }
    }

    /// What services that run apart need besides their master key.
    async fn prepare(&mut self) {
        self.database = Some(postgres::database().await);
        self.nats = Some(Nats::start().await);
        let issuer = self.path("issuer.pem");
        self.command(&["keygen", "issuer", "--name", &self.issuer, &issuer]).await;
        let pki = self.pki();
        self.command(&["pki", "--folder", &pki, "server", "localhost"]).await;
    }

    /// Loses every log with its projections, as a machine does that burns
    /// down; keys and the exchange are elsewhere. Only while nothing runs.
    pub async fn lose_logs(&mut self) {
        match self.setup {
            Setup::AllInOne => {
                for service in ["participation", "requests", "regional"] {
                    let folder = self.path(&format!("data/{service}"));
                    std::fs::remove_dir_all(folder).expect("its data");
                }
            }
            Setup::Separate => self.database = Some(postgres::database().await),
        }
    }

    /// The master key's file.
    pub fn master_key(&self) -> String {
        match self.setup {
            Setup::AllInOne => self.path("data/keys/master.key"),
            Setup::Separate => self.path("master.key"),
        }
    }

    /// A command as an operator of this suite gives it.
    pub fn operator<'a>(&self, arguments: impl IntoIterator<Item = &'a str>) -> Command {
        let mut command = samen(arguments);
        match &self.database {
            None => command.env("SAMEN_DATA", self.path("data")),
            Some(url) => command
                .env("SAMEN_DATABASE_URL", url)
                .env("SAMEN_MASTER_KEY", self.master_key())
                .env("SAMEN_MUNICIPALITY", MUNICIPALITY),
        };
        command
    }

    /// Starts what is not running.
    pub async fn restart(&mut self) {
        self.restart_without_waiting().await;
        let told = match self.setup {
            Setup::AllInOne => "dashboard",
            Setup::Separate => "listens on",
        };
        for process in &mut self.processes {
            process.line(SOON, |line| line.contains(told)).await;
        }
    }

    /// The same, for services that may not come so far.
    pub async fn restart_without_waiting(&mut self) {
        match self.setup {
            Setup::AllInOne => self.processes = vec![self.all_in_one()],
            Setup::Separate => {
                self.processes = [
                    self.serve("participation", self.ports.participation, self.metrics_port(0)),
                    self.serve("service-requests", self.ports.requests, self.metrics_port(1)),
                    self.serve("regional-collaboration", self.ports.regional, self.metrics_port(2)),
                    self.serve("dashboard", self.ports.dashboard, 0),
                ]
                .into();
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
            Setup::Separate => arguments.extend(["--key", &key, "--issuer", &self.issuer]),
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

    /// On a channel of the caller's making.
    pub async fn requests_on(
        &self,
        channel: Channel,
        subject: &str,
        roles: &[&str],
    ) -> RequestServiceClient<Authorised> {
        let token = Bearer(self.token(subject, roles).await);
        RequestServiceClient::new(InterceptedService::new(channel, token))
    }

    pub async fn participation(
        &self,
        subject: &str,
        roles: &[&str],
    ) -> ParticipationServiceClient<Authorised> {
        let token = self.token(subject, roles).await;
        ParticipationServiceClient::new(self.authorised(self.ports.participation, token))
    }

    /// A channel to service requests, for any of their doors, with a token for
    /// this person.
    pub async fn at_requests(&self, subject: &str, roles: &[&str]) -> Authorised {
        self.authorised(self.ports.requests, self.token(subject, roles).await)
    }

    /// The same for another service of this deployment, by its own name.
    pub fn service_at_requests(&self, name: &str) -> Authorised {
        let tokens = InternalTokens::new(&self.master());
        self.authorised(self.ports.requests, tokens.issue(name).expect("a token"))
    }

    /// By which this suite knows a person.
    pub fn pseudonym(&self, subject: &str) -> String {
        Pseudonyms::new(&self.master()).of(self.issuer(), subject)
    }

    fn master(&self) -> MasterKey {
        MasterKey::load(self.master_key().as_ref()).expect("the master key")
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

    /// The same, on a channel of the caller's making.
    pub async fn requests_privacy_on(
        &self,
        channel: Channel,
        subject: &str,
        roles: &[&str],
    ) -> PrivacyServiceClient<Authorised> {
        let token = Bearer(self.token(subject, roles).await);
        PrivacyServiceClient::new(InterceptedService::new(channel, token))
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

    /// A service's door for operators, by the service's name.
    pub async fn operations(&self, service: &str) -> OperationsServiceClient<Authorised> {
        self.operations_as(service, "operator", &["operator"]).await
    }

    pub async fn operations_as(
        &self,
        service: &str,
        subject: &str,
        roles: &[&str],
    ) -> OperationsServiceClient<Authorised> {
        let port = match service {
            "participation" => self.ports.participation,
            "service-requests" => self.ports.requests,
            "regional-collaboration" => self.ports.regional,
            other => panic!("there is no service {other}"),
        };
        self.operations_at(port, subject, roles).await
    }

    pub async fn operations_at(
        &self,
        port: u16,
        subject: &str,
        roles: &[&str],
    ) -> OperationsServiceClient<Authorised> {
        let token = self.token(subject, roles).await;
        OperationsServiceClient::new(self.authorised(port, token))
    }

    /// Another process of a service that runs apart; gives its port.
    pub async fn replica(&mut self, service: &str) -> u16 {
        let port = free_port();
        let mut process = self.serve(service, port, 0);
        process.line(SOON, |line| line.contains("listens on")).await;
        self.processes.push(process);
        port
    }

    /// Service requests, at the port of one of their processes.
    pub async fn requests_at(
        &self,
        port: u16,
        subject: &str,
        roles: &[&str],
    ) -> RequestServiceClient<Authorised> {
        let token = self.token(subject, roles).await;
        RequestServiceClient::new(self.authorised(port, token))
    }

    /// The first process of a service that runs apart.
    pub fn service_process(&mut self, service: &str) -> &mut Process {
        let services = ["participation", "service-requests", "regional-collaboration", "dashboard"];
        let place = services.iter().position(|name| *name == service);
        &mut self.processes[place.expect("a service")]
    }

    /// Starts the first process of a service again that has ended, with these
    /// variables besides, or with other values.
    pub async fn start_service(&mut self, service: &str, variables: &[(&str, &str)]) {
        let (port, metrics) = match service {
            "participation" => (self.ports.participation, self.metrics_port(0)),
            "service-requests" => (self.ports.requests, self.metrics_port(1)),
            "regional-collaboration" => (self.ports.regional, self.metrics_port(2)),
            other => panic!("there is no service {other}"),
        };
        let usual = self.variables.len();
        self.variables.extend(variables.iter().map(|(n, v)| (n.to_string(), v.to_string())));
        let process = self.serve(service, port, metrics);
        self.variables.truncate(usual);
        *self.service_process(service) = process;
        let process = self.service_process(service);
        process.line(SOON, |line| line.contains("listens on")).await;
    }

    /// Kills it.
    pub fn kill_service(&mut self, service: &str) {
        self.service_process(service).kill();
    }

    /// What an operator's command prints, about this suite.
    pub async fn operate(&self, arguments: &[&str]) -> String {
        let (status, output) = self.try_operate(arguments).await;
        assert!(status.success(), "samen {arguments:?}: {status}\n{output}");
        output
    }

    /// The same, for one that may fail.
    pub async fn try_operate(&self, arguments: &[&str]) -> (ExitStatus, String) {
        let mut command = samen(arguments.iter().copied());
        command.env("SAMEN_TOKEN", self.token("operator", &["operator"]).await);
        command.env("SAMEN_PARTICIPATION_URL", self.participation_url());
        command.env("SAMEN_REQUESTS_URL", self.requests_url());
        command.env("SAMEN_REGIONAL_URL", self.regional_url());
        run(command, SOON).await
    }

    /// What `samen person` prints to an officer of the all-in-one.
    pub async fn officer(&self, arguments: &[&str]) -> (ExitStatus, String) {
        let mut command = samen(["person"].into_iter().chain(arguments.iter().copied()));
        command.env("SAMEN_DATA", self.path("data"));
        command.env("SAMEN_PARTICIPATION_URL", self.participation_url());
        command.env("SAMEN_REQUESTS_URL", self.requests_url());
        run(command, SOON).await
    }

    /// A page that a service's process has for machines.
    pub async fn page(&self, service: &str, path: &str) -> String {
        self.try_page(service, path).await.expect("a page")
    }

    /// The same, where it may not be there yet.
    pub async fn try_page(&self, service: &str, path: &str) -> Option<String> {
        let place = match (self.setup, service) {
            (Setup::AllInOne, _) | (_, "participation") => 0,
            (_, "service-requests") => 1,
            _ => 2,
        };
        web::get(&format!("127.0.0.1:{}", self.metrics_port(place)), path).await.ok()
    }

    /// Where a service's log is, as [`place::location_of`](crate::place) takes
    /// it.
    pub fn log_place(&self, service: &str) -> (String, String) {
        match &self.database {
            Some(url) => (url.clone(), service.to_owned()),
            None => (self.path(&format!("data/{service}")), String::new()),
        }
    }

    fn metrics_port(&self, place: usize) -> u16 {
        self.ports.metrics[place]
    }

    /// The feed, as somebody with this certificate (or none) reaches it.
    pub fn feed(&self, partner: &Partner, with_certificate: bool) -> FeedServiceClient<Channel> {
        FeedServiceClient::new(self.feed_endpoint(partner, with_certificate).connect_lazy())
    }

    /// The partner port, as somebody with this certificate (or none) reaches it.
    pub fn feed_endpoint(&self, partner: &Partner, with_certificate: bool) -> Endpoint {
        let read = |path: &PathBuf| std::fs::read_to_string(path).expect("pki wrote it");
        let mut tls = ClientTlsConfig::new()
            .domain_name("localhost")
            .ca_certificate(Certificate::from_pem(read(&partner.root)));
        if with_certificate {
            let identity = Identity::from_pem(read(&partner.certificate), read(&partner.key));
            tls = tls.identity(identity);
        }
        Endpoint::from_shared(format!("https://127.0.0.1:{}", self.ports.partners))
            .and_then(|endpoint| endpoint.tls_config(tls))
            .expect("a valid endpoint")
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

    /// Where service requests serve pages.
    pub fn reports_address(&self) -> String {
        format!("127.0.0.1:{}", self.ports.reports)
    }

    pub fn dashboard_url(&self) -> String {
        format!("http://127.0.0.1:{}", self.ports.dashboard)
    }

    /// The process that serves requests.
    pub fn requests_process(&mut self) -> &mut Process {
        let index = match self.setup {
            Setup::AllInOne => 0,
            Setup::Separate => 1,
        };
        &mut self.processes[index]
    }

    /// The process that serves partners.
    pub fn regional_process(&mut self) -> &mut Process {
        let index = match self.setup {
            Setup::AllInOne => 0,
            Setup::Separate => 2,
        };
        &mut self.processes[index]
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
        authorised(channel(port), token)
    }

    async fn command(&self, arguments: &[&str]) -> String {
        let (status, output) = run(samen(arguments.iter().copied()), SOON).await;
        assert!(status.success(), "samen {arguments:?}: {status}\n{output}");
        output
    }

    fn all_in_one(&self) -> Process {
        let mut command = samen(["up"]);
        command.env("SAMEN_HEARTBEAT", "1");
        command.env("SAMEN_DATA", self.path("data")).env("SAMEN_AREA", &self.area);
        command.env("SAMEN_RETENTION", &self.retention);
        for (variable, port) in [
            ("SAMEN_PARTICIPATION_LISTEN", self.ports.participation),
            ("SAMEN_REQUESTS_LISTEN", self.ports.requests),
            ("SAMEN_REQUESTS_HTTP_LISTEN", self.ports.reports),
            ("SAMEN_REGIONAL_LISTEN", self.ports.regional),
            ("SAMEN_PARTNER_LISTEN", self.ports.partners),
            ("SAMEN_DASHBOARD_LISTEN", self.ports.dashboard),
            ("SAMEN_METRICS_LISTEN", self.ports.metrics[0]),
        ] {
            command.env(variable, format!("127.0.0.1:{port}"));
        }
        command.envs(self.variables.iter().cloned());
        Process::start(command)
    }

    fn serve(&self, service: &str, port: u16, metrics: u16) -> Process {
        let mut command = samen(["serve", service]);
        command.envs(self.environment(port));
        // Of several processes, the first one.
        if port == self.ports.requests {
            command.env("SAMEN_HTTP_LISTEN", format!("127.0.0.1:{}", self.ports.reports));
        }
        if metrics > 0 {
            command.env("SAMEN_METRICS_LISTEN", format!("127.0.0.1:{metrics}"));
        }
        command.envs(self.variables.iter().cloned());
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
            ("SAMEN_OIDC_ISSUER", self.issuer.clone()),
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

/// A channel that brings this token.
pub fn authorised(channel: Channel, token: String) -> Authorised {
    InterceptedService::new(channel, Bearer(token))
}

fn channel(port: u16) -> Channel {
    Endpoint::from_shared(format!("http://127.0.0.1:{port}"))
        .expect("a valid address")
        .connect_lazy()
}
