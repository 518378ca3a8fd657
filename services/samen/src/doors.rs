//! Where the services are that a command asks, and who asks.

use std::path::PathBuf;
use std::time::Duration;

use clap::Args;
use http::Uri;
use samen_proto::options::Role;
use tonic::metadata::{Ascii, MetadataValue};
use tonic::service::interceptor::InterceptedService;
use tonic::transport::Channel;
use tonic::{Request, Status};

use crate::data::load_issuer;
use crate::services;
use crate::usage::{Misconfigured, wrong};

/// How long a token holds that is made for one command.
const TOKEN: Duration = Duration::from_secs(600);

/// Where the services are that hold content of people, and who asks.
#[derive(Args)]
pub struct Doors {
    /// Where participation is
    #[arg(
        long,
        env = "SAMEN_PARTICIPATION_URL",
        default_value = "http://127.0.0.1:50051",
        value_name = "URL"
    )]
    participation_url: Uri,
    /// Where service requests are
    #[arg(
        long,
        env = "SAMEN_REQUESTS_URL",
        default_value = "http://127.0.0.1:50052",
        value_name = "URL"
    )]
    requests_url: Uri,
    /// Roots of the services' certificates, PEM
    #[arg(long, env = "SAMEN_ROOTS", value_name = "FILE")]
    roots: Option<PathBuf>,
    /// A token with the role that this needs; without one, the all-in-one's own
    /// issuer makes it
    #[arg(long, env = "SAMEN_TOKEN", value_name = "TOKEN", hide_env_values = true)]
    token: Option<String>,
    /// The all-in-one's data folder
    #[arg(long, env = "SAMEN_DATA", default_value = "data", value_name = "FOLDER")]
    data: PathBuf,
}

/// A service's name, the variable that says where it is, and where that is.
pub type Place<'a> = (&'static str, &'static str, &'a Uri);

/// Brings the token with every call.
#[derive(Clone)]
pub struct Bearer(MetadataValue<Ascii>);

// === impl Doors ===

impl Doors {
    /// Whether a token is given, of an issuer that may be anybody's.
    pub fn has_token(&self) -> bool {
        self.token.is_some()
    }

    /// Channels to the services, and to `others`, by name, for somebody in this
    /// role.
    pub fn open(
        &self,
        subject: &str,
        role: Role,
        others: &[Place],
    ) -> anyhow::Result<Vec<(&'static str, InterceptedService<Channel, Bearer>)>> {
        let token = match &self.token {
            Some(token) => token.clone(),
            None => load_issuer(&self.data)?.issue(subject, &[role], TOKEN)?,
        };
        let bearer = Bearer::new(&token)?;
        let roots = self.roots.as_deref().map(|p| services::read("SAMEN_ROOTS", p)).transpose()?;
        [
            (samen_participation::NAME, "SAMEN_PARTICIPATION_URL", &self.participation_url),
            (samen_requests::NAME, "SAMEN_REQUESTS_URL", &self.requests_url),
        ]
        .iter()
        .chain(others)
        .map(|(name, variable, url)| {
            let channel = services::channel(variable, url, roots.clone())?;
            Ok((*name, InterceptedService::new(channel, bearer.clone())))
        })
        .collect()
    }
}

// === impl Bearer ===

impl Bearer {
    pub fn new(token: &str) -> Result<Self, Misconfigured> {
        let value = format!("Bearer {}", token.trim());
        let mut value: MetadataValue<Ascii> = value.parse().map_err(wrong("SAMEN_TOKEN"))?;
        value.set_sensitive(true);
        Ok(Bearer(value))
    }
}

impl tonic::service::Interceptor for Bearer {
    fn call(&mut self, mut request: Request<()>) -> Result<Request<()>, Status> {
        request.metadata_mut().insert("authorization", self.0.clone());
        Ok(request)
    }
}
