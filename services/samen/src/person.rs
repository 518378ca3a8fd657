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
use tonic::service::interceptor::InterceptedService;
use tonic::transport::Channel;
use uuid::Uuid;

use crate::data::TRIAL_ISSUER;
use crate::doors::{Bearer, Doors};

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
    /// what is done stays done. Ends with exit code 0 when all have done it, 1
    /// otherwise.
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
    /// That issuer's name, as the services know it
    #[arg(long, env = "SAMEN_OIDC_ISSUER", default_value = TRIAL_ISSUER, value_name = "NAME")]
    issuer: String,
}

type Door = PrivacyServiceClient<InterceptedService<Channel, Bearer>>;

impl Person {
    pub async fn run(self) -> anyhow::Result<ExitCode> {
        match self.what {
            What::Export { who, doors } => {
                let named = who.named();
                for (service, mut door) in open(&doors)? {
                    export(&mut door, named.clone()).await.context(service)?;
                }
                Ok(ExitCode::SUCCESS)
            }
            What::Forget { who, doors } => {
                let mut doors = open(&doors)?;
                let named = who.named();
                // Whether all would, before any does.
                for validate_only in [true, false] {
                    if !forget(&mut doors, &named, validate_only).await {
                        return Ok(ExitCode::FAILURE);
                    }
                }
                Ok(ExitCode::SUCCESS)
            }
        }
    }
}

impl Who {
    fn named(&self) -> Named {
        let person = match (&self.id, &self.subject) {
            (None, Some(subject)) => {
                let (issuer, subject) = (self.issuer.clone(), subject.clone());
                person::Person::Subject(Subject { issuer, subject })
            }
            (id, _) => person::Person::Id(id.clone().unwrap_or_default()),
        };
        Named { person: Some(person) }
    }
}

/// The doors of the services that hold content of people.
fn open(doors: &Doors) -> anyhow::Result<Vec<(&'static str, Door)>> {
    let channels = doors.open("officer", Role::PrivacyOfficer, &[])?;
    let door = |(name, channel)| (name, PrivacyServiceClient::new(channel));
    Ok(channels.into_iter().map(door).collect())
}

/// Asks every service; false when one refuses.
async fn forget(doors: &mut [(&str, Door)], person: &Named, validate_only: bool) -> bool {
    let mut all = true;
    for (service, door) in doors {
        let request_id = Uuid::now_v7().to_string();
        let person = Some(person.clone());
        let ask = ForgetPersonRequest { request_id, person, validate_only };
        match door.forget_person(ask).await {
            Ok(_) if validate_only => {}
            Ok(done) => {
                let keys = done.into_inner().keys;
                println!("{service}: forgotten ({keys} keys destroyed)");
            }
            Err(refusal) => {
                println!("{service}: not forgotten: {}", refusal.message());
                all = false;
            }
        }
    }
    all
}

/// Writes what one service holds, each record as it comes.
async fn export(door: &mut Door, person: Named) -> anyhow::Result<()> {
    let ask = ExportPersonRequest { person: Some(person) };
    let mut items = door.export_person(ask).await?.into_inner();
    let mut out = std::io::stdout().lock();
    while let Some(item) = items.next().await {
        match item?.item {
            Some(Item::Record(record)) => writeln!(out, "{}", line(&record)?)?,
            Some(Item::End(_)) => return Ok(()),
            None => {}
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
