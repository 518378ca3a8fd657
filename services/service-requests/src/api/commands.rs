//! Commands: what changes.

use jiff::Timestamp;
use prost::Message;
use samen_log::append::NewKey;
use samen_log::seal::DataKey;
use samen_log::{Command, CommandError, Outcome};
use samen_proto::log::Sealed;
use samen_proto::requests::*;
use samen_server::access::caller;
use samen_server::calls::command;
use samen_server::reply::{self, Check};
use samen_server::time::from_proto;
use tonic::{Request, Status as Refusal};
use uuid::Uuid;

use super::check;
use crate::Requests;
use crate::domain::audit::AuditEvent;
use crate::domain::request::{Rejection, RequestCommand, decide};
use crate::projection::queries::{self, Visible};

/// Under which imported requests get ids from their source and number, so
/// that the same row is the same request whoever imports it.
const IMPORTS: Uuid = Uuid::from_u128(0x6e1f_6a52_9f0c_5d0e_8b1a_5a6d_656e_0001);

pub async fn file(
    service: &Requests,
    request: Request<FileRequestRequest>,
) -> Result<FileRequestResponse, Refusal> {
    let caller = caller(&request)?;
    let message = request.into_inner();
    let mut check = Check::default();
    check.request_id(&message.request_id);
    check::category(&mut check, &message.category);
    check.text("description", &message.description, 1..=5_000);
    check.require(message.location.is_some(), "location", "must be given");
    check::location(&mut check, message.location.as_ref());
    let own = check::channel(&mut check, &caller, message.channel);
    if let Some(Reporter { name, email, phone }) = &message.reporter {
        check.text("reporter.name", name, 0..=200);
        check.text("reporter.email", email, 0..=254);
        check.text("reporter.phone", phone, 0..=30);
    }
    check.finish()?;

    let id = Uuid::now_v7().to_string();
    let mut command = command(&caller, "FileRequest", &message.request_id, &message);
    let description = seal_text(service, &mut command, &id, &message.description);
    let reporter = match message.reporter.filter(|r| *r != Reporter::default()) {
        None => None,
        Some(reporter) => {
            if own {
                let person = service.keyring.of_person(&caller.id).await;
                person.map_err(reply::unavailable)?.ok_or_else(|| {
                    let text = "this person asked to be forgotten; leave out the reporter";
                    reply::precondition("FORGOTTEN", "reporter", text)
                })?;
            }
            // A key of its own, not the person's: how long it is kept depends
            // on this request, and not on those that come later.
            let (key, new) = service.keyring.create(&format!("reporter/{id}"));
            let sealed = key.seal(&reporter);
            command.keys.push((key, new));
            Some(sealed)
        }
    };
    let filed = RequestFiled {
        neighbourhood: check::neighbourhood(&service.deployment.area, message.location.as_ref()),
        id: id.clone(),
        category: message.category,
        location: message.location,
        channel: message.channel,
        description: Some(description),
        reporter,
    };
    let outcome = create(service, command, &id, RequestCommand::File(filed)).await?;
    Ok(FileRequestResponse {
        id: outcome.id,
        number: outcome.first,
        position: Some(outcome.position),
    })
}

pub async fn import(
    service: &Requests,
    request: Request<ImportRequestRequest>,
) -> Result<ImportRequestResponse, Refusal> {
    let caller = caller(&request)?;
    let message = request.into_inner();
    let mut check = Check::default();
    check.request_id(&message.request_id);
    check.text("source", &message.source, 1..=100);
    check.text("source_number", &message.source_number, 1..=100);
    check::category(&mut check, &message.category);
    check::location(&mut check, message.location.as_ref());
    check.choice::<Channel>("channel", message.channel);
    let created = message.create_time.as_ref().and_then(from_proto);
    check.require(created.is_some(), "create_time", "must be a valid instant");
    let closed = message.close_time.as_ref().is_none_or(|t| from_proto(t).is_some());
    check.require(closed, "close_time", "must be a valid instant, or absent");
    check.text("description", &message.description, 0..=5_000);
    check.finish()?;

    let name = format!("{}\0{}", message.source, message.source_number);
    let id = Uuid::new_v5(&IMPORTS, name.as_bytes()).to_string();
    let mut command = command(&caller, "ImportRequest", &message.request_id, &message);
    let description = (!message.description.trim().is_empty())
        .then(|| seal_text(service, &mut command, &id, &message.description));
    let imported = RequestImported {
        neighbourhood: check::neighbourhood(&service.deployment.area, message.location.as_ref()),
        id: id.clone(),
        source: message.source,
        source_number: message.source_number,
        category: message.category,
        location: message.location,
        channel: message.channel,
        create_time: message.create_time,
        close_time: message.close_time,
        description,
    };
    let outcome = create(service, command, &id, RequestCommand::Import(imported)).await?;
    Ok(ImportRequestResponse {
        id: outcome.id,
        number: outcome.first,
        position: Some(outcome.position),
    })
}

pub async fn change_status(
    service: &Requests,
    request: Request<ChangeStatusRequest>,
) -> Result<ChangeStatusResponse, Refusal> {
    let caller = caller(&request)?;
    let message = request.into_inner();
    let mut check = Check::default();
    check.request_id(&message.request_id);
    check.id("id", &message.id);
    let to = check.choice::<Status>("status", message.status);
    check.text("explanation", &message.explanation, 0..=5_000);
    check.finish()?;

    let mut command = command(&caller, "ChangeStatus", &message.request_id, &message);
    let explanation = (!message.explanation.trim().is_empty()).then(|| {
        let of = Uuid::now_v7().to_string();
        seal_text(service, &mut command, &of, &message.explanation)
    });
    let change = RequestCommand::ChangeStatus {
        id: message.id.clone(),
        expected_version: message.expected_version,
        to: to.unwrap_or_default(),
        explanation,
    };
    let now = Timestamp::now();
    let outcome = service
        .requests
        .execute(command, &message.id, |request, version| {
            decide(request, version, change.clone(), now).map(Into::into)
        })
        .await
        .map_err(reply::command)?;
    Ok(ChangeStatusResponse { version: outcome.version, position: Some(outcome.position) })
}

pub async fn reveal(
    service: &Requests,
    request: Request<RevealRequestRequest>,
) -> Result<RevealRequestResponse, Refusal> {
    let caller = caller(&request)?;
    let message = request.into_inner();
    let mut check = Check::default();
    check.id("id", &message.id);
    check.choice::<Purpose>("purpose", message.purpose);
    check.finish()?;
    service.check_built()?;

    let row = queries::get(&service.store.schema(), &Visible::All, &message.id)
        .await
        .map_err(reply::unavailable)?
        .ok_or_else(|| reply::not_found("request", &message.id))?;
    // Each answer is recorded: nobody reads twice under one record.
    let command = Command {
        actor: caller.id.clone(),
        method: "RevealRequest",
        request_id: Uuid::now_v7().to_string(),
        ..Command::default()
    };
    let revealed = RequestRevealed { id: message.id.clone(), purpose: message.purpose };
    service
        .audits
        .execute(command, &message.id, |_, _| {
            Ok::<_, Rejection>(vec![AuditEvent::from(revealed.clone())].into())
        })
        .await
        .map_err(reply::command)?;
    Ok(RevealRequestResponse {
        description: unseal(service, &row.description).await?,
        reporter: unseal(service, &row.reporter).await?,
    })
}

/// Makes a request that nobody else can be making.
async fn create(
    service: &Requests,
    command: Command,
    id: &str,
    what: RequestCommand,
) -> Result<Outcome, Refusal> {
    let now = Timestamp::now();
    let outcome = service
        .requests
        .create(command, id, |request, version| {
            decide(request, version, what.clone(), now).map(Into::into)
        })
        .await;
    outcome.map_err(|error: CommandError<Rejection>| reply::command(error))
}

/// Seals a text under a key of its own, which goes with the command.
fn seal_text(service: &Requests, command: &mut Command, of: &str, text: &str) -> Sealed {
    let (key, new): (DataKey, NewKey) = service.keyring.create(&format!("text/{of}"));
    let sealed = key.seal(&Text { text: text.to_owned() });
    command.keys.push((key, new));
    sealed
}

async fn unseal<M: Message + prost::Name + Default>(
    service: &Requests,
    sealed: &[u8],
) -> Result<Option<M>, Refusal> {
    if sealed.is_empty() {
        return Ok(None);
    }
    let sealed = Sealed::decode(sealed).map_err(reply::unavailable)?;
    service.keyring.unseal(&sealed).await.map_err(reply::unavailable)
}
