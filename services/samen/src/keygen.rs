//! Keys for production: a master key, or an issuer of tokens.

use std::path::PathBuf;
use std::process::ExitCode;

use clap::{Args, Subcommand};
use samen_log::MasterKey;
use samen_server::identity::Issuer;

use crate::data::write_private;

/// Make a master key, or an issuer of tokens.
#[derive(Args)]
pub struct Keygen {
    #[command(subcommand)]
    what: What,
}

#[derive(Subcommand)]
enum What {
    /// A master key. Keep a copy apart from every backup of the data
    Master {
        /// The file to write; never overwritten
        file: PathBuf,
        /// Take over the key that `samen up` made for a trial: keep it from now
        /// on, and what it sealed can be read by `samen serve`
        #[arg(long, value_name = "FILE")]
        from: Option<PathBuf>,
    },
    /// An issuer of tokens, where there is no identity provider
    Issuer {
        /// The issuer's name, as SAMEN_OIDC_ISSUER has it
        #[arg(long, env = "SAMEN_OIDC_ISSUER", value_name = "NAME")]
        name: String,
        /// The private key's file; the public key set is written beside it,
        /// with the ending .jwks.json
        file: PathBuf,
    },
}

impl Keygen {
    pub fn run(self) -> anyhow::Result<ExitCode> {
        match self.what {
            What::Master { file, from } => {
                let key = match from {
                    None => MasterKey::generate(false),
                    Some(trial) => MasterKey::load(&trial)?.kept(),
                };
                key.save(&file)?;
                println!("{}", file.display());
            }
            What::Issuer { name, file } => {
                let issuer = Issuer::generate(&name, false)?;
                write_private(&file, &issuer.pem())?;
                let key_set = file.with_extension("jwks.json");
                std::fs::write(&key_set, issuer.key_set())?;
                println!("{}\n{}", file.display(), key_set.display());
            }
        }
        Ok(ExitCode::SUCCESS)
    }
}
