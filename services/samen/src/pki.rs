//! Trial certificates: a root, servers, partners.

use std::path::PathBuf;
use std::process::ExitCode;

use clap::{Args, Subcommand};

use crate::data::{trial_root, write_private};
use crate::services::parse_oin;

/// Make trial certificates. The root is made with the first of them.
#[derive(Args)]
pub struct Pki {
    /// Where root and certificates are kept; the all-in-one uses data/pki
    #[arg(long, env = "SAMEN_PKI", default_value = "data/pki", value_name = "FOLDER")]
    folder: PathBuf,
    #[command(subcommand)]
    what: What,
}

#[derive(Subcommand)]
enum What {
    /// A server's certificate
    Server {
        /// Names and addresses under which it is reached
        #[arg(required = true)]
        names: Vec<String>,
    },
    /// A partner's client certificate; prints the thumbprint to register
    Partner {
        /// The partner's code, such as GM0437
        code: String,
        /// The partner's organisatie-identificatienummer
        #[arg(long, value_name = "OIN", value_parser = parse_oin)]
        oin: String,
    },
}

impl Pki {
    pub fn run(self) -> anyhow::Result<ExitCode> {
        let root = trial_root(&self.folder)?;
        let (name, issued) = match &self.what {
            What::Server { names } => (names[0].replace([':', '*'], "_"), root.server(names)?),
            What::Partner { code, oin } => (code.clone(), root.partner(code, oin)?),
        };
        let (certificate, key) =
            (self.folder.join(format!("{name}.pem")), self.folder.join(format!("{name}.key")));
        write_private(&key, &issued.key)?;
        std::fs::write(&certificate, &issued.certificate)?;
        println!("certificate  {}", certificate.display());
        println!("key          {}", key.display());
        println!("root         {}", self.folder.join("root.pem").display());
        println!("thumbprint   {}", issued.thumbprint);
        Ok(ExitCode::SUCCESS)
    }
}
