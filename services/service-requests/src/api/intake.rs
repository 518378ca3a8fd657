//! Requests come in: filed here, brought in from the past, put right.

use std::time::Duration;

use samen_log::{Aggregate, Outcome};
use samen_proto::requests::*;
use samen_server::Caller;
use samen_server::access::caller;
use samen_server::calls::command;
use samen_server::reply::{self, Check};
use samen_server::time::from_proto;
use tonic::{Request, Status as Refusal};
use uuid::Uuid;

use super::{check, does};
use crate::Requests;
use crate::domain::request::{NormPlan, RequestCommand, RequestEvent, own_channel};
use crate::domain::routing::{Facts, route};
use crate::projection::queries;
use crate::register::Register;

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
    check.text("address", &message.address, 0..=500);
    let placed = message.location.is_some() || !message.address.trim().is_empty();
    check.require(placed, "location", "must be given, or an address");
    check::location(&mut check, message.location.as_ref());
    let channel = check.choice::<Channel>("channel", message.channel);
    check::channel(&mut check, &caller, channel);
    check::urgency(&mut check, message.urgency);
    check::reporter(&mut check, &message);
    check.finish()?;
    let own = channel.is_some_and(own_channel);

    let register = service.register_for(&message.category).await?;
    let category = register
        .category(&message.category)
        .ok_or_else(|| reply::invalid("category", "must be one of the catalogue, not retired"))?;
    let mut check = Check::default();
    check::answers(&mut check, &category.questions, &message.answers);
    check.finish()?;

    let id = Uuid::now_v7().to_string();
    let mut command = command(&caller, "FileRequest", &message.request_id, &message);
    let description = service.seal_text(&mut command, &id, &message.description);
    let address = (!message.address.trim().is_empty())
        .then(|| service.seal_text(&mut command, &format!("{id}/address"), &message.address));
    let answers = (!message.answers.is_empty()).then(|| {
        let answers = Answers { answers: message.answers.clone() };
        service.seal(&mut command, &format!("text/{id}/answers"), &answers)
    });
    let reporter = match message.reporter.clone().filter(|r| *r != Reporter::default()) {
        None => None,
        Some(reporter) => {
            if own {
                not_forgotten(service, &caller).await?;
            }
            // A key of its own, not the person's: how long it is kept depends
            // on this request, and not on those that come later.
            Some(service.seal(&mut command, &format!("reporter/{id}"), &reporter))
        }
    };
    let neighbourhood = check::neighbourhood(&service.deployment.area, message.location.as_ref());
    let urgency = match Urgency::try_from(message.urgency) {
        Ok(Urgency::Unspecified) | Err(_) => Urgency::Normal,
        Ok(urgency) => urgency,
    };
    let facts = Facts {
        category: &message.category,
        neighbourhood: &neighbourhood,
        urgency,
        text: &message.description,
    };
    let routed = routed(&register, &id, category, &facts);
    let filed = RequestFiled {
        id: id.clone(),
        category: message.category.clone(),
        location: message.location,
        neighbourhood: neighbourhood.clone(),
        channel: message.channel,
        description: Some(description),
        reporter,
        urgency: urgency.into(),
        address,
        answers,
        contact_consent: message.contact_consent,
        share_consent: message.share_consent,
        ..RequestFiled::default()
    };
    let what = RequestCommand::File { filed: filed.into(), routed, norm: plan(category) };
    let (outcome, events) = does::create(service, command, &id, what).await?;
    // What a command that was done before wrote stands under another id.
    let events = if outcome.id == id { events } else { written(service, &outcome).await? };
    let due_time = events.into_iter().find_map(|event| match event {
        RequestEvent::NormSet(set) => set.due_time,
        _ => None,
    });
    let other = message.location.filter(|_| neighbourhood.is_empty());
    Ok(FileRequestResponse {
        number: outcome.first,
        due_time,
        duplicates: duplicates(service, outcome.first, &message).await,
        other_municipality: other
            .and_then(|at| service.deployment.area.other_municipality(at.latitude, at.longitude))
            .unwrap_or_default()
            .to_owned(),
        secret: service.secrets.of(&outcome.id),
        id: outcome.id,
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
    check::imported_category(&mut check, &message.category);
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
        .then(|| service.seal_text(&mut command, &id, &message.description));
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
    let (outcome, _) =
        does::create(service, command, &id, RequestCommand::Import(imported)).await?;
    Ok(ImportRequestResponse {
        id: outcome.id,
        number: outcome.first,
        position: Some(outcome.position),
    })
}

/// Who gets it, by the rules or by the category's department.
pub fn routed(
    register: &Register,
    id: &str,
    category: &Category,
    facts: &Facts,
) -> Option<RequestRouted> {
    let department = register.department(&category.department);
    let intake = department.map(|d| d.intake_team.as_str()).filter(|team| !team.is_empty());
    route(id, &register.routing, intake, facts)
}

/// The norm that a category has; none where it names none.
pub fn plan(category: &Category) -> Option<NormPlan> {
    Some(NormPlan {
        norm: category.norm?,
        approaching_percent: category.approaching_percent,
        pauses_while_waiting: category.pauses_while_waiting,
        reopening: category.reopening(),
        escalation: category.escalation(),
    })
}

async fn not_forgotten(service: &Requests, caller: &Caller) -> Result<(), Refusal> {
    let key = service.keyring.of_person(&caller.id).await.map_err(reply::seal)?;
    key.map(drop).ok_or_else(|| {
        let text = "this person asked to be forgotten; leave out the reporter";
        reply::precondition("FORGOTTEN", "reporter", text)
    })
}

/// What a filing wrote.
async fn written(service: &Requests, outcome: &Outcome) -> Result<Vec<RequestEvent>, Refusal> {
    let records = service.log.read(outcome.first - 1, MAX_FILED).await.map_err(reply::storage)?;
    let stream = format!("{}/{}", crate::domain::request::Request::KIND, outcome.id);
    let own = records.iter().filter(|record| record.stream == stream);
    Ok(own.filter_map(|record| samen_log::command::decode(record).ok().flatten()).collect())
}

/// How long somebody who filed waits for what it may be a duplicate of.
const SUGGEST: Duration = Duration::from_millis(500);

/// Records that one filing writes at most.
const MAX_FILED: usize = 3;

/// Open requests of before this one that it is probably the same as. It was
/// filed, whether they can be found just now or not.
async fn duplicates(
    service: &Requests,
    number: u64,
    message: &FileRequestRequest,
) -> Vec<Duplicate> {
    let Some(at) = message.location else { return Vec::new() };
    let schema = service.store.schema();
    let finding = queries::near(&schema, &message.category, &at);
    let mut found = match tokio::time::timeout(SUGGEST, finding).await {
        Ok(Ok(found)) => found,
        Ok(Err(error)) => {
            tracing::warn!(%error, "duplicates cannot be looked for");
            Vec::new()
        }
        Err(_) => Vec::new(),
    };
    found.retain(|duplicate| duplicate.number < number);
    found
}
