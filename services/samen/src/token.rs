//! A token for a person or a machine.

use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use anyhow::Context;
use clap::Args;
use samen_proto::options::Role;
use samen_server::identity::{Issuer, role_name, token_roles};

use crate::data::load_issuer;

/// Make a token for a person or a machine.
#[derive(Args)]
pub struct Token {
    /// What the holder may do; may be given more than once
    #[arg(long = "role", required = true, value_name = "ROLE", value_parser = parse_role)]
    roles: Vec<Role>,
    /// Who the holder is to the issuer
    #[arg(long, default_value = "trial", value_name = "NAME")]
    subject: String,
    /// Hours that the token holds
    #[arg(long, default_value = "8", value_name = "HOURS",
          value_parser = clap::value_parser!(u64).range(1..=720))]
    hours: u64,
    /// The all-in-one's data folder, whose issuer is used
    #[arg(long, env = "SAMEN_DATA", default_value = "data", value_name = "FOLDER")]
    data: PathBuf,
    /// Use this issuer's key instead (made by `samen keygen issuer`)
    #[arg(long, value_name = "FILE", requires = "issuer")]
    key: Option<PathBuf>,
    /// That issuer's name, as the services know it
    #[arg(long, env = "SAMEN_OIDC_ISSUER", value_name = "NAME")]
    issuer: Option<String>,
}

impl Token {
    pub fn run(self) -> anyhow::Result<ExitCode> {
        let issuer = match (&self.key, &self.issuer) {
            (Some(key), Some(name)) => {
                let pem =
                    std::fs::read_to_string(key).with_context(|| key.display().to_string())?;
                Issuer::from_pem(name, &pem, false)?
            }
            _ => load_issuer(&self.data)?,
        };
        let ttl = Duration::from_secs(self.hours * 3600);
        println!("{}", issuer.issue(&self.subject, &self.roles, ttl)?);
        Ok(ExitCode::SUCCESS)
    }
}

fn parse_role(text: &str) -> Result<Role, String> {
    token_roles().find(|role| role_name(*role) == text).ok_or_else(|| {
        let known: Vec<_> = token_roles().map(role_name).collect();
        format!("must be one of {}", known.join(", "))
    })
}
