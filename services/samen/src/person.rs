//! What a privacy officer asks about a person: all that is held, or that it is
//! forgotten.

use std::io::Write;
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use anyhow::{Context, bail};
use clap::{Args, Subcommand};
use futures::StreamExt;
use http::Uri;
use samen_proto::options::Role;
use samen_proto::privacy::export_person_response::Item;
use samen_proto::privacy::privacy_service_client::PrivacyServiceClient;
use samen_proto::privacy::{
    ExportPersonRequest, ForgetPersonRequest, HeldRecord, Person as Named, Subject, person,
};
use samen_server::time::from_proto;
use serde_json::{Value, json};
use tonic::Code;
use tonic::service::interceptor::InterceptedService;
use tonic::transport::Channel;
use uuid::Uuid;

use crate::data::{TRIAL_ISSUER, load_issuer};
use crate::operate::Bearer;
use crate::services;
use crate::usage::Misconfigured;

/// How long a token holds that is made for one command.
const TOKEN: Duration = Duration::from_secs(600);
/// What is told when nobody is found: perhaps the name is not written so.
const NOT_KNOWN: &str = "no service knows anything of this person: is the name right?";

/// Give what is held about a person, or have it forgotten
#[derive(Args)]
pub struct Person {
    #[command(subcommand)]
    what: What,
}

#[derive(Subcommand)]
enum What {
    /// Write all that is held about a person to standard output, a record a
    /// line
    Export {
        #[command(flatten)]
        who: Who,
        #[command(flatten)]
        doors: Doors,
    },
    /// Make all that a person gave unreadable, for ever
    ///
    /// Each service decides by its own holds and terms. Ends with exit code 0
    /// when all that know the person have done it, 1 when one has refused (what
    /// is done stays done) or none knows the person.
    Forget {
        #[command(flatten)]
        who: Who,
        #[command(flatten)]
        doors: Doors,
    },
}

/// Whom it is about.
#[derive(Args)]
struct Who {
    /// The person's pseudonymous id
    #[arg(long, value_name = "ID", required_unless_present = "subject")]
    id: Option<String>,
    /// Who the person is to the issuer of tokens
    #[arg(long, value_name = "NAME", conflicts_with = "id")]
    subject: Option<String>,
    /// That issuer's name, as the services know it; the all-in-one's own,
    /// unless a token is given
    #[arg(long, env = "SAMEN_OIDC_ISSUER", value_name = "NAME")]
    issuer: Option<String>,
}

/// Where the services are that hold content of people, and who asks.
#[derive(Args)]
struct Doors {
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
    /// A token with the role privacy_officer; without one, the all-in-one's
    /// own issuer makes it
    #[arg(long, env = "SAMEN_TOKEN", value_name = "TOKEN", hide_env_values = true)]
    token: Option<String>,
    /// The all-in-one's data folder
    #[arg(long, env = "SAMEN_DATA", default_value = "data", value_name = "FOLDER")]
    data: PathBuf,
}

type Door = PrivacyServiceClient<InterceptedService<Channel, Bearer>>;

impl Person {
    pub async fn run(self) -> anyhow::Result<ExitCode> {
        match self.what {
            What::Export { who, doors } => {
                let named = who.named(&doors)?;
                let mut known = false;
                for (service, mut door) in doors.open()? {
                    known |= export(&mut door, named.clone()).await.context(service)?;
                }
                if known { Ok(ExitCode::SUCCESS) } else { bail!(NOT_KNOWN) }
            }
            What::Forget { who, doors } => {
                let named = who.named(&doors)?;
                let (mut code, mut known) = (ExitCode::SUCCESS, false);
                for (service, mut door) in doors.open()? {
                    let request_id = Uuid::now_v7().to_string();
                    let forget = ForgetPersonRequest { request_id, person: Some(named.clone()) };
                    match door.forget_person(forget).await {
                        Ok(done) => {
                            let keys = done.into_inner().keys;
                            println!("{service}: forgotten ({keys} keys destroyed)");
                            known = true;
                        }
                        Err(refusal) if refusal.code() == Code::NotFound => {
                            println!("{service}: knows nothing of this person");
                        }
                        Err(refusal) => {
                            known = true;
                            println!("{service}: not forgotten: {}", refusal.message());
                            code = ExitCode::FAILURE;
                        }
                    }
                }
                if known { Ok(code) } else { bail!(NOT_KNOWN) }
            }
        }
    }
}

impl Who {
    fn named(&self, doors: &Doors) -> Result<Named, Misconfigured> {
        let person = match (&self.id, &self.subject) {
            (None, Some(subject)) => {
                let issuer = match &self.issuer {
                    Some(issuer) => issuer.clone(),
                    None if doors.token.is_none() => TRIAL_ISSUER.to_owned(),
                    // A guess would name somebody whom nobody knows.
                    None => {
                        let reason = "missing: whose subject is it?".to_owned();
                        return Err(Misconfigured { variable: "SAMEN_OIDC_ISSUER", reason });
                    }
                };
                person::Person::Subject(Subject { issuer, subject: subject.clone() })
            }
            (id, _) => person::Person::Id(id.clone().unwrap_or_default()),
        };
        Ok(Named { person: Some(person) })
    }
}

impl Doors {
    fn open(&self) -> anyhow::Result<Vec<(&'static str, Door)>> {
        let token = match &self.token {
            Some(token) => token.clone(),
            None => load_issuer(&self.data)?.issue("officer", &[Role::PrivacyOfficer], TOKEN)?,
        };
        let bearer = Bearer::new(&token)?;
        let roots = self.roots.as_deref().map(|p| services::read("SAMEN_ROOTS", p)).transpose()?;
        [
            (samen_participation::NAME, "SAMEN_PARTICIPATION_URL", &self.participation_url),
            (samen_requests::NAME, "SAMEN_REQUESTS_URL", &self.requests_url),
        ]
        .into_iter()
        .map(|(service, variable, url)| {
            let channel = services::channel(variable, url, roots.clone())?;
            let channel = InterceptedService::new(channel, bearer.clone());
            Ok((service, PrivacyServiceClient::new(channel)))
        })
        .collect()
    }
}

/// Writes what one service holds, each record as it comes; false where it knows
/// nothing of the person.
async fn export(door: &mut Door, person: Named) -> anyhow::Result<bool> {
    let ask = ExportPersonRequest { person: Some(person) };
    let mut items = match door.export_person(ask).await {
        Err(refusal) if refusal.code() == Code::NotFound => return Ok(false),
        answer => answer?.into_inner(),
    };
    let mut out = std::io::stdout().lock();
    while let Some(item) = items.next().await {
        match item?.item {
            Some(Item::Record(record)) => writeln!(out, "{}", line(&record)?)?,
            Some(Item::End(_)) => return Ok(true),
            Some(Item::Heartbeat(_)) | None => {}
        }
    }
    bail!("the export was cut off: it is not complete")
}

/// A record as one line of JSON.
fn line(record: &HeldRecord) -> anyhow::Result<Value> {
    let position = record.position.clone().unwrap_or_default();
    let time = record.time.as_ref().and_then(from_proto).map(|time| time.to_string());
    let event: Value = serde_json::from_str(&record.json)?;
    Ok(json!({
        "log": position.log,
        "position": position.position,
        "time": time,
        "type": record.r#type,
        "event": event,
    }))
}
