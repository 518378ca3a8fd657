//! What happened to a request, and what is personal in it.

use std::collections::HashMap;

use prost::Message;
use samen_log::command::decode;
use samen_log::{Aggregate, Command};
use samen_proto::log::Sealed;
use samen_proto::options::Role;
use samen_proto::requests::*;
use samen_server::access::caller;
use samen_server::calls::wait;
use samen_server::reply::{self, Check, not_found};
use tonic::{Request, Status as Refusal};
use uuid::Uuid;

use super::queries::visible_to;
use crate::Requests;
use crate::domain::audit::AuditEvent;
use crate::domain::request::{Rejection, Request as Aggregated, RequestEvent};
use crate::projection::history::{self, HistoryRow};
use crate::projection::queries::{self, Visible};
use crate::projection::row::RequestRow;

/// What a reporter is shown of what happened to their request.
const SHOWN: [&str; 11] = [
    "RequestFiled",
    "RequestAmended",
    "StatusChanged",
    "MessageSent",
    "MessageReceived",
    "ReactionExpired",
    "RequestMerged",
    "RequestTransferred",
    "PhotoAdded",
    "FeedbackAsked",
    "FeedbackGiven",
];

pub async fn list(
    service: &Requests,
    request: Request<ListHistoryRequest>,
) -> Result<ListHistoryResponse, Refusal> {
    let caller = caller(&request)?;
    let message = request.into_inner();
    let mut check = Check::default();
    check.id("id", &message.id);
    check.finish()?;
    wait(service, message.at_least.as_ref()).await?;
    let schema = service.store.schema();
    let visible = visible_to(&caller);
    let found = queries::get(&schema, &visible, &message.id).await.map_err(reply::storage)?;
    found.ok_or_else(|| not_found("request", &message.id))?;
    let rows = history::of(&schema, &message.id).await.map_err(reply::storage)?;
    let mut entries: Vec<_> = rows.into_iter().map(HistoryRow::shown).collect();
    if !caller.has_any(&[Role::Handler, Role::Manager]) {
        entries.retain(|entry| SHOWN.contains(&entry.kind.as_str()));
        for entry in &mut entries {
            if entry.actor != caller.id {
                entry.actor.clear();
            }
        }
    }
    Ok(ListHistoryResponse { entries })
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

    let row = row(service, &message.id).await?;
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
    let rows = history::of(&service.store.schema(), &message.id).await.map_err(reply::storage)?;
    Ok(RevealRequestResponse {
        description: service.open(&row.description).await?,
        reporter: service.open(&row.reporter).await?,
        address: service.open(&row.address).await?,
        answers: service.open(&row.answers).await?,
        texts: texts(service, &rows).await?,
    })
}

/// A request's row, whoever asks.
async fn row(service: &Requests, id: &str) -> Result<RequestRow, Refusal> {
    let found = queries::get(&service.store.schema(), &Visible::All, id).await;
    found.map_err(reply::storage)?.ok_or_else(|| not_found("request", id))
}

/// What a reporter wrote first, for rules that look at it: by the log itself,
/// which knows it at once. Empty when it was forgotten.
pub async fn description(service: &Requests, id: &str) -> Result<String, Refusal> {
    let stream = format!("{}/{id}", Aggregated::KIND);
    let first = service.log.read_stream(&stream, 0, 1).await.map_err(reply::storage)?;
    let first = first.first().ok_or_else(|| not_found("request", id))?;
    let sealed = match decode(first).map_err(reply::unavailable)? {
        Some(RequestEvent::RequestFiled(filed)) => filed.description,
        Some(RequestEvent::RequestImported(imported)) => imported.description,
        _ => None,
    };
    let Some(sealed) = sealed else { return Ok(String::new()) };
    let text: Option<Text> = service.keyring.unseal(&sealed).await.map_err(reply::seal)?;
    Ok(text.map(|text| text.text).unwrap_or_default())
}

/// The texts of a history, opened, in its order.
pub async fn texts(service: &Requests, rows: &[HistoryRow]) -> Result<Vec<RevealedText>, Refusal> {
    let with_text = || rows.iter().filter(|row| row.body.has_text);
    let sealed: HashMap<u64, Sealed> = with_text()
        .filter(|row| !row.sealed.is_empty())
        .map(|row| Ok((row.body.position, Sealed::decode(row.sealed.as_slice())?)))
        .collect::<Result<_, prost::DecodeError>>()
        .map_err(reply::unavailable)?;
    let ids = sealed.values().map(|sealed| sealed.key_id.as_str());
    let keys = service.keyring.find(ids).await.map_err(reply::seal)?;
    let text = |row: &HistoryRow| {
        let sealed = sealed.get(&row.body.position)?;
        keys.get(&sealed.key_id)?.open::<Text>(sealed)
    };
    Ok(with_text()
        .map(|row| RevealedText { position: row.body.position, text: text(row) })
        .collect())
}
