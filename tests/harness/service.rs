//! Service requests alone, on PostgreSQL: as many processes as a test wants.

use samen_proto::requests::request_service_client::RequestServiceClient;
use tempfile::TempDir;
use tonic::transport::Endpoint;

use crate::deployment::{Authorised, authorised};
use crate::process::{Process, run};
use crate::samen::samen;
use crate::scratch::{folder, free_port};
use crate::wait::SOON;

const ISSUER: &str = "samen-tests";

/// Replicas of one service on one database.
pub struct Service {
    folder: TempDir,
    database: String,
    connections: u32,
    pub replicas: Vec<Replica>,
}

/// One process.
pub struct Replica {
    port: u16,
    pub process: Process,
}

impl Service {
    /// Starts so many processes, with so many connections each in their pool.
    pub async fn start(database: &str, replicas: usize, connections: u32) -> Self {
        let folder = folder("service-");
        let mut service =
            Service { folder, database: database.to_owned(), connections, replicas: Vec::new() };
        command(&["keygen", "master", &service.path("master.key")]).await;
        command(&["keygen", "issuer", "--name", ISSUER, &service.path("issuer.pem")]).await;
        for _ in 0..replicas {
            let port = free_port();
            let process = service.serve(port);
            service.replicas.push(Replica { port, process });
        }
        for replica in &mut service.replicas {
            replica.ready().await;
        }
        service
    }

    /// Starts a replica again that has ended, and does not wait for it.
    pub fn restart(&mut self, replica: usize) {
        let port = self.replicas[replica].port;
        self.replicas[replica].process = self.serve(port);
    }

    /// A client of one replica, over a connection of its own.
    pub async fn client(
        &self,
        replica: usize,
        subject: &str,
        role: &str,
    ) -> RequestServiceClient<Authorised> {
        let key = self.path("issuer.pem");
        let arguments =
            ["token", "--subject", subject, "--role", role, "--key", &key, "--issuer", ISSUER];
        let token = command(&arguments).await.trim().to_owned();
        let url = format!("http://127.0.0.1:{}", self.replicas[replica].port);
        let channel = Endpoint::from_shared(url).expect("a valid address").connect_lazy();
        RequestServiceClient::new(authorised(channel, token))
    }

    fn path(&self, name: &str) -> String {
        self.folder.path().join(name).to_string_lossy().into_owned()
    }

    fn serve(&self, port: u16) -> Process {
        let mut command = samen(["serve", "service-requests"]);
        for (variable, value) in [
            ("SAMEN_MUNICIPALITY", "GM0384".to_owned()),
            ("SAMEN_OIN", "00000001001566575000".to_owned()),
            ("SAMEN_MASTER_KEY", self.path("master.key")),
            ("SAMEN_OIDC_ISSUER", ISSUER.to_owned()),
            ("SAMEN_OIDC_JWKS", self.path("issuer.jwks.json")),
            ("SAMEN_DESTROYED_KEYS", self.path("destroyed")),
            ("SAMEN_DATABASE_URL", self.database.clone()),
            ("SAMEN_DATABASE_CONNECTIONS", self.connections.to_string()),
            // Nobody is there: what is accepted does not depend on it.
            ("SAMEN_NATS_URL", "nats://127.0.0.1:1".to_owned()),
            ("SAMEN_LISTEN", format!("127.0.0.1:{port}")),
            ("SAMEN_PLAINTEXT", "true".to_owned()),
        ] {
            command.env(variable, value);
        }
        Process::start(command)
    }
}

impl Replica {
    async fn ready(&mut self) {
        self.process.line(SOON, |line| line.contains("listens on")).await;
    }
}

async fn command(arguments: &[&str]) -> String {
    let (status, output) = run(samen(arguments.iter().copied()), SOON).await;
    assert!(status.success(), "samen {arguments:?}: {status}\n{output}");
    output
}
