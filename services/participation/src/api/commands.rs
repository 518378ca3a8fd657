//! Commands: what changes.

use samen_log::command::Decision;
use samen_log::{Aggregate, AppendError, CommandError, Expected};
use samen_proto::options::Role;
use samen_proto::participation::*;
use samen_server::access::caller;
use samen_server::calls::command;
use samen_server::reply::{self, Check};
use tonic::{Request, Status as Refusal};
use uuid::Uuid;

use super::check;
use crate::Participation;
use crate::domain::process::{Process, ProcessCommand};
use crate::domain::{contribution, process};

/// How often a contribution is decided anew when its process moves meanwhile.
const TRIES: usize = 5;

pub async fn start(
    service: &Participation,
    request: Request<StartProcessRequest>,
) -> Result<StartProcessResponse, Refusal> {
    let caller = caller(&request)?;
    let message = request.into_inner();
    let mut check = Check::default();
    check.request_id(&message.request_id);
    check.text("title", &message.title, 1..=200);
    check.text("question", &message.question, 1..=2_000);
    check.choice::<Level>("level", message.level);
    check::neighbourhoods(&mut check, &service.deployment.area, &message.neighbourhoods);
    check.finish()?;

    let id = Uuid::now_v7().to_string();
    let command = command(&caller, "StartProcess", &message.request_id, &message);
    let started = ProcessStarted {
        id: id.clone(),
        title: message.title,
        question: message.question,
        level: message.level,
        neighbourhoods: message.neighbourhoods,
    };
    let start = ProcessCommand::Start(started);
    let outcome = service
        .processes
        .create(command, &id, |process, version| {
            process::decide(process, version, start.clone()).map(Into::into)
        })
        .await
        .map_err(reply::command)?;
    Ok(StartProcessResponse {
        id: outcome.id,
        version: outcome.version,
        position: Some(outcome.position),
    })
}

pub async fn publish(
    service: &Participation,
    request: Request<PublishProcessRequest>,
) -> Result<PublishProcessResponse, Refusal> {
    let caller = caller(&request)?;
    let message = request.into_inner();
    let mut check = Check::default();
    check.request_id(&message.request_id);
    check.id("id", &message.id);
    check.finish()?;

    let command = command(&caller, "PublishProcess", &message.request_id, &message);
    let publish = ProcessCommand::Publish {
        id: message.id.clone(),
        expected_version: message.expected_version,
    };
    let outcome = service
        .processes
        .execute(command, &message.id, |process, version| {
            process::decide(process, version, publish.clone()).map(Into::into)
        })
        .await
        .map_err(reply::command)?;
    Ok(PublishProcessResponse { version: outcome.version, position: Some(outcome.position) })
}

pub async fn submit(
    service: &Participation,
    request: Request<SubmitContributionRequest>,
) -> Result<SubmitContributionResponse, Refusal> {
    let caller = caller(&request)?;
    let message = request.into_inner();
    let mut check = Check::default();
    check.request_id(&message.request_id);
    check.id("process_id", &message.process_id);
    check.choice::<ContributionKind>("kind", message.kind);
    check.text("text", &message.text, 1..=10_000);
    check::channel(&mut check, &caller, message.channel);
    if !message.neighbourhood.is_empty() {
        let area = &service.deployment.area;
        check::neighbourhood(&mut check, area, "neighbourhood", &message.neighbourhood);
    }
    check.finish()?;

    let id = Uuid::now_v7().to_string();
    let mut command = command(&caller, "SubmitContribution", &message.request_id, &message);
    // A key of its own, so that this text alone can be taken back.
    let (key, new) = service.keyring.create(&format!("text/{id}"));
    let sealed = key.seal(&Text { text: message.text });
    command.keys.push((key, new));
    let submitted = ContributionSubmitted {
        id: id.clone(),
        process_id: message.process_id.clone(),
        kind: message.kind,
        channel: message.channel,
        neighbourhood: message.neighbourhood,
        text: Some(sealed),
    };
    for _ in 0..TRIES {
        let (process, version) = service
            .processes
            .get::<process::Rejection>(&message.process_id)
            .await
            .map_err(reply::command)?;
        let process = if caller.has(Role::ProcessLead) { process } else { process.public() };
        let stream = format!("{}/{}", Process::KIND, message.process_id);
        let guard = Expected { stream, version };
        let outcome = service
            .contributions
            .create(command.clone(), &id, |contribution, _| {
                let events = contribution::decide(contribution, submitted.clone(), &process)?;
                Ok(Decision { guards: vec![guard.clone()], ..events.into() })
            })
            .await;
        match outcome {
            // The process moved: look at it again.
            Err(CommandError::Append(AppendError::Conflict { .. })) => {}
            Err(error) => return Err(reply::command::<contribution::Rejection>(error)),
            Ok(outcome) => {
                let position = Some(outcome.position);
                return Ok(SubmitContributionResponse { id: outcome.id, position });
            }
        }
    }
    Err(reply::command::<contribution::Rejection>(AppendError::Overloaded.into()))
}
