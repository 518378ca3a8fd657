//! Whether a server answers: for a container's health check.

use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use anyhow::bail;
use clap::Args;
use http::Uri;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tonic_health::pb::HealthCheckRequest;
use tonic_health::pb::health_check_response::ServingStatus;
use tonic_health::pb::health_client::HealthClient;

use crate::services;

/// How long an answer may take.
const TIMEOUT: Duration = Duration::from_secs(4);

/// Ask a server whether it serves.
#[derive(Args)]
pub struct Health {
    /// A gRPC server, or, where the URL has a path, a web page
    #[arg(
        long,
        env = "SAMEN_HEALTH_URL",
        default_value = "http://127.0.0.1:50052",
        value_name = "URL"
    )]
    url: Uri,
    /// Of what: a gRPC service, or `tasks`, the projections and the other work in
    /// the background; the server as a whole if not said
    #[arg(long, default_value = "", hide_default_value = true, value_name = "NAME")]
    service: String,
    /// Roots of the server's certificate, PEM
    #[arg(long, env = "SAMEN_ROOTS", value_name = "FILE")]
    roots: Option<PathBuf>,
}

impl Health {
    pub async fn run(self) -> anyhow::Result<ExitCode> {
        let asked =
            async { if self.url.path().len() > 1 { self.page().await } else { self.grpc().await } };
        tokio::time::timeout(TIMEOUT, asked).await??;
        Ok(ExitCode::SUCCESS)
    }

    async fn grpc(&self) -> anyhow::Result<()> {
        let roots = self.roots.as_deref().map(|p| services::read("SAMEN_ROOTS", p)).transpose()?;
        let channel = services::channel("SAMEN_HEALTH_URL", &self.url, roots)?;
        let request = HealthCheckRequest { service: self.service.clone() };
        let answer = HealthClient::new(channel).check(request).await?.into_inner();
        match answer.status() {
            ServingStatus::Serving => Ok(()),
            other => bail!("{} is {}", self.url, other.as_str_name()),
        }
    }

    async fn page(&self) -> anyhow::Result<()> {
        let host = self.url.host().unwrap_or("localhost");
        let mut stream = TcpStream::connect((host, self.url.port_u16().unwrap_or(80))).await?;
        let path = self.url.path();
        let request = format!("GET {path} HTTP/1.1\r\nHost: {host}\r\nConnection: close\r\n\r\n");
        stream.write_all(request.as_bytes()).await?;
        let mut status = [0; 12];
        stream.read_exact(&mut status).await?;
        if &status[9..] != b"200" {
            bail!("{} answers {}", self.url, String::from_utf8_lossy(&status[9..]));
        }
        Ok(())
    }
}
