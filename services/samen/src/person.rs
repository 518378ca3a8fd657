//! What a privacy officer asks about a person: all that is held, or that it is
//! forgotten.

use std::io::Write;
use std::process::ExitCode;

use anyhow::{Context, bail};
use clap::{Args, Subcommand};
use futures::StreamExt;
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

use crate::data::TRIAL_ISSUER;
use crate::doors::{Bearer, Doors};
use crate::usage::Misconfigured;

/// What is told when nobody is found: perhaps the name is not written so.
const NOT_KNOWN: &str = "no service knows anything of this person: is the name right?";

/// Give what is held about a person, or have it forgotten
///
/// Needs the role privacy_officer.
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
    /// Each service decides by its own holds and terms. All are asked first, and
    /// where one would refuse, or does not answer, nothing is done anywhere. A
    /// hold that is placed after that can still stop one when another is done:
    /// what is done stays done. Ends with exit code 0 when all that know the
    /// person have done it, 1 otherwise, as when none knows the person.
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

type Door = PrivacyServiceClient<InterceptedService<Channel, Bearer>>;

impl Person {
    pub async fn run(self) -> anyhow::Result<ExitCode> {
        match self.what {
            What::Export { who, doors } => {
                let named = who.named(&doors)?;
                let mut known = false;
                for (service, mut door) in open(&doors)? {
                    known |= export(&mut door, named.clone()).await.context(service)?;
                }
                if known { Ok(ExitCode::SUCCESS) } else { bail!(NOT_KNOWN) }
            }
            What::Forget { who, doors } => {
                let named = who.named(&doors)?;
                let mut doors = open(&doors)?;
                // Whether all would, before any does.
                for validate_only in [true, false] {
                    if !forget(&mut doors, &named, validate_only).await {
                        return Ok(ExitCode::FAILURE);
                    }
                }
                if doors.is_empty() { bail!(NOT_KNOWN) } else { Ok(ExitCode::SUCCESS) }
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
                    None if !doors.has_token() => TRIAL_ISSUER.to_owned(),
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

/// The doors of the services that hold content of people.
fn open(doors: &Doors) -> anyhow::Result<Vec<(&'static str, Door)>> {
    let channels = doors.open("officer", Role::PrivacyOfficer, &[])?;
    let door = |(name, channel)| (name, PrivacyServiceClient::new(channel));
    Ok(channels.into_iter().map(door).collect())
}

/// Asks every service; false when one refuses. Those that know nothing of the
/// person are told, and left out from then on.
async fn forget(
    doors: &mut Vec<(&'static str, Door)>,
    person: &Named,
    validate_only: bool,
) -> bool {
    let mut all = true;
    for (service, mut door) in std::mem::take(doors) {
        let request_id = Uuid::now_v7().to_string();
        let person = Some(person.clone());
        let ask = ForgetPersonRequest { request_id, person, validate_only };
        match door.forget_person(ask).await {
            Ok(_) if validate_only => {}
            Ok(done) => {
                let keys = done.into_inner().keys;
                println!("{service}: forgotten ({keys} keys destroyed)");
            }
            Err(refusal) if refusal.code() == Code::NotFound => {
                println!("{service}: knows nothing of this person");
                continue;
            }
            Err(refusal) => {
                println!("{service}: not forgotten: {}", refusal.message());
                all = false;
            }
        }
        doors.push((service, door));
    }
    all
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
