//! What handlers do with requests.

use std::fmt::Debug;

use samen_log::append::NewEvent;
use samen_log::{Aggregate, Command, Outcome};
use samen_proto::requests::handling_service_server::HandlingService;
use samen_proto::requests::target::Target as To;
use samen_proto::requests::*;
use samen_server::Caller;
use samen_server::access::caller;
use samen_server::calls;
use samen_server::reply::{self, Check};
use tonic::{Request, Status as Refusal};
use uuid::Uuid;

use super::does::{self, Along};
use super::{Answer, check, history, intake};
use crate::Requests;
use crate::domain::catalogue::is_municipality;
use crate::domain::request;
use crate::domain::request::{
    Amendment, Change, Message, RequestCommand, RequestEvent, own_channel,
};
use crate::domain::routing::Facts;

/// What an answer to a command is made of.
type Done = (u64, Option<samen_proto::log::Position>);

fn done(outcome: Outcome) -> Done {
    (outcome.version, Some(outcome.position))
}

macro_rules! answer {
    ($kind:ident, $done:expr) => {{
        let (version, position) = $done;
        Ok(tonic::Response::new($kind { version, position }))
    }};
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
    check.text("external_party", &message.external_party, 0..=200);
    check.finish()?;

    let mut command = calls::command(&caller, "ChangeStatus", &message.request_id, &message);
    let explanation = (!message.explanation.trim().is_empty())
        .then(|| service.seal_words(&mut command, &message.explanation));
    let change = Change {
        to: to.unwrap_or_default(),
        explanation,
        external_party: message.external_party.trim().to_owned(),
        planned_date: message.planned_date,
    };
    let what = RequestCommand::Change(change);
    let expected = Some(message.expected_version);
    let outcome =
        does::command(service, command, &message.id, expected, what, Along::default()).await?;
    let (version, position) = done(outcome);
    Ok(ChangeStatusResponse { version, position })
}

impl Requests {
    /// Does what only concerns one request.
    async fn handle(
        &self,
        command: Command,
        id: &str,
        expected: u64,
        what: RequestCommand,
    ) -> Result<Done, Refusal> {
        does::command(self, command, id, Some(expected), what, Along::default()).await.map(done)
    }
}

/// The parts of a call that every command has, checked.
fn begin<M: prost::Message + Debug>(
    caller: &Caller,
    method: &'static str,
    request_id: &str,
    id: &str,
    message: &M,
    more: impl FnOnce(&mut Check),
) -> Result<Command, Refusal> {
    let mut check = Check::default();
    check.request_id(request_id);
    check.id("id", id);
    more(&mut check);
    check.finish()?;
    Ok(calls::command(caller, method, request_id, message))
}

#[tonic::async_trait]
impl HandlingService for Requests {
    async fn amend_request(&self, r: Request<AmendRequestRequest>) -> Answer<AmendRequestResponse> {
        let caller = caller(&r)?;
        let m = r.into_inner();
        let mut command = begin(&caller, "AmendRequest", &m.request_id, &m.id, &m, |check| {
            if !m.category.is_empty() {
                check::category(check, &m.category);
            }
            check::location(check, m.location.as_ref());
            check::urgency(check, m.urgency);
            check.text("address", &m.address, 0..=500);
        })?;
        let address =
            (!m.address.trim().is_empty()).then(|| self.seal_words(&mut command, &m.address));
        let location =
            m.location.map(|at| (at, check::neighbourhood(&self.deployment.area, Some(&at))));
        let urgency = m.urgency();
        let amended = Amendment { category: m.category.clone(), location, urgency, address };
        let (before, _) = self.with_guard(&m.id).await?;
        let after = before.with(&amended);
        let register = self.register_for(&after.category).await?;
        let category = register.category(&after.category);
        if !m.category.is_empty() && category.is_none() {
            let allowed = "must be one of the catalogue, not retired";
            return Err(reply::invalid("category", allowed));
        }
        let facts = Facts {
            category: &after.category,
            neighbourhood: &after.neighbourhood,
            urgency: after.urgency,
            text: &history::description(self, &m.id).await?,
        };
        let routed =
            category.and_then(|category| intake::routed(&register, &m.id, category, &facts));
        let norm = category.and_then(intake::plan);
        let what = RequestCommand::Amend { amended, routed, norm };
        answer!(AmendRequestResponse, self.handle(command, &m.id, m.expected_version, what).await?)
    }

    async fn route_request(&self, r: Request<RouteRequestRequest>) -> Answer<RouteRequestResponse> {
        let caller = caller(&r)?;
        let m = r.into_inner();
        let command = begin(&caller, "RouteRequest", &m.request_id, &m.id, &m, |_| {})?;
        let register = self.logged_register(&[]).await?;
        let known = match m.target.as_ref().and_then(|target| target.target.as_ref()) {
            Some(To::Team(team)) => register.team(team).is_some(),
            Some(To::Network(network)) => self.takes_part(network).await?,
            Some(To::Partner(municipality)) => is_municipality(municipality),
            None => false,
        };
        let allowed =
            "must be a team, a network or a municipality (GM and four digits) that there is";
        let target = m.target.clone().filter(|_| known);
        let target = target.ok_or_else(|| reply::invalid("target", allowed))?;
        let what = RequestCommand::Route { target };
        answer!(RouteRequestResponse, self.handle(command, &m.id, m.expected_version, what).await?)
    }

    async fn assign_request(
        &self,
        r: Request<AssignRequestRequest>,
    ) -> Answer<AssignRequestResponse> {
        let caller = caller(&r)?;
        let m = r.into_inner();
        let command = begin(&caller, "AssignRequest", &m.request_id, &m.id, &m, |check| {
            check.text("assignee", &m.assignee, 0..=100);
        })?;
        if !m.assignee.is_empty() {
            let (request, _) = self.with_guard(&m.id).await?;
            let register = self.logged_register(&[]).await?;
            let team = match &request.target {
                Some(To::Team(team)) => register.team(team),
                _ => None,
            };
            let member = team.is_some_and(|team| {
                team.members.contains(&m.assignee) || team.leads.contains(&m.assignee)
            });
            if team.is_some() && !member {
                let allowed = "must be a member of the team that it is routed to";
                return Err(reply::invalid("assignee", allowed));
            }
        }
        let what = RequestCommand::Assign { assignee: m.assignee.clone() };
        answer!(AssignRequestResponse, self.handle(command, &m.id, m.expected_version, what).await?)
    }

    async fn add_note(&self, r: Request<AddNoteRequest>) -> Answer<AddNoteResponse> {
        let caller = caller(&r)?;
        let m = r.into_inner();
        let mut command = begin(&caller, "AddNote", &m.request_id, &m.id, &m, |check| {
            check.text("note", &m.note, 1..=5_000);
        })?;
        let note = self.seal_words(&mut command, &m.note);
        let what = RequestCommand::Note { note };
        answer!(AddNoteResponse, self.handle(command, &m.id, m.expected_version, what).await?)
    }

    async fn send_message(&self, r: Request<SendMessageRequest>) -> Answer<SendMessageResponse> {
        let caller = caller(&r)?;
        let m = r.into_inner();
        let mut command = begin(&caller, "SendMessage", &m.request_id, &m.id, &m, |check| {
            check.text("message", &m.message, 1..=5_000);
        })?;
        let message = self.seal_words(&mut command, &m.message);
        let what = RequestCommand::Send(Message { message, ask_reaction: m.ask_reaction });
        answer!(SendMessageResponse, self.handle(command, &m.id, m.expected_version, what).await?)
    }

    async fn record_message(
        &self,
        r: Request<RecordMessageRequest>,
    ) -> Answer<RecordMessageResponse> {
        let caller = caller(&r)?;
        let m = r.into_inner();
        let mut channel = None;
        let mut command = begin(&caller, "RecordMessage", &m.request_id, &m.id, &m, |check| {
            check.text("message", &m.message, 1..=5_000);
            channel = check.choice::<Channel>("channel", m.channel);
            let told = channel.is_none_or(|channel| !own_channel(channel));
            check.require(told, "channel", "must be how the reporter said it to somebody");
        })?;
        let message = self.seal_words(&mut command, &m.message);
        let channel = channel.unwrap_or_default();
        let what = RequestCommand::Receive { message, channel };
        answer!(RecordMessageResponse, self.handle(command, &m.id, m.expected_version, what).await?)
    }

    async fn split_request(&self, r: Request<SplitRequestRequest>) -> Answer<SplitRequestResponse> {
        let caller = caller(&r)?;
        let m = r.into_inner();
        let mut command = begin(&caller, "SplitRequest", &m.request_id, &m.id, &m, |check| {
            let count = (2..=request::MAX_PARTS).contains(&m.parts.len());
            check.require(count, "parts", "must be 2 to 10");
            for part in &m.parts {
                check::category_of(check, "parts.category", &part.category);
                check.text("parts.description", &part.description, 1..=5_000);
                check::location(check, part.location.as_ref());
            }
        })?;
        let (whole, _) = self.with_guard(&m.id).await?;
        let categories: Vec<&str> = m.parts.iter().map(|part| part.category.as_str()).collect();
        let register = self.logged_register(&categories).await?;
        let now = self.current();
        let (mut ids, mut along) = (Vec::new(), Along::default());
        for part in &m.parts {
            let category = register.category(&part.category).ok_or_else(|| {
                let allowed = "must be of the catalogue, not retired";
                reply::invalid("parts.category", allowed)
            })?;
            let id = Uuid::now_v7().to_string();
            let location = part.location.or(whole.location);
            let neighbourhood = match &part.location {
                Some(at) => check::neighbourhood(&self.deployment.area, Some(at)),
                None => whole.neighbourhood.clone(),
            };
            let facts = Facts {
                category: &part.category,
                neighbourhood: &neighbourhood,
                urgency: whole.urgency,
                text: &part.description,
            };
            let routed = intake::routed(&register, &id, category, &facts);
            let filed = RequestFiled {
                id: id.clone(),
                category: part.category.clone(),
                location,
                neighbourhood: neighbourhood.clone(),
                channel: Channel::Desk.into(),
                description: Some(self.seal_text(&mut command, &id, &part.description)),
                urgency: whole.urgency.into(),
                parent_id: m.id.clone(),
                ..RequestFiled::default()
            };
            let norm = intake::plan(category);
            let what = RequestCommand::File { filed: filed.into(), routed, norm };
            let stream = format!("{}/{id}", request::Request::KIND);
            let none = request::Request::default();
            let events = request::decide(&none, 0, &id, None, what, &now)?;
            along.others.extend(events.iter().map(|event| NewEvent::of(&stream, event)));
            ids.push(id);
        }
        let what = RequestCommand::Split { parts: ids };
        let expected = Some(m.expected_version);
        let outcome = does::command(self, command, &m.id, expected, what, along).await?;
        let part_ids = self.parts_of(&outcome).await?;
        let (version, position) = done(outcome);
        Ok(tonic::Response::new(SplitRequestResponse { version, position, part_ids }))
    }

    async fn merge_request(&self, r: Request<MergeRequestRequest>) -> Answer<MergeRequestResponse> {
        let caller = caller(&r)?;
        let m = r.into_inner();
        let command = begin(&caller, "MergeRequest", &m.request_id, &m.id, &m, |check| {
            check.id("into_id", &m.into_id);
        })?;
        let (into_state, guard) = self.with_guard(&m.into_id).await?;
        let added = RequestEvent::from(DuplicateAdded {
            id: m.into_id.clone(),
            duplicate_id: m.id.clone(),
        });
        let others = vec![NewEvent::of(&guard.stream, &added)];
        let along = Along { others, guards: vec![guard] };
        let into = m.into_id.clone();
        let what = RequestCommand::Merge { into, into_state: Box::new(into_state) };
        let expected = Some(m.expected_version);
        let outcome = does::command(self, command, &m.id, expected, what, along).await?;
        answer!(MergeRequestResponse, done(outcome))
    }

    async fn link_request(&self, r: Request<LinkRequestRequest>) -> Answer<LinkRequestResponse> {
        let caller = caller(&r)?;
        let m = r.into_inner();
        let command = begin(&caller, "LinkRequest", &m.request_id, &m.id, &m, |check| {
            check.id("other_id", &m.other_id);
        })?;
        let (other, guard) = self.with_guard(&m.other_id).await?;
        if other.status == Status::Unspecified {
            return Err(reply::not_found("request", &m.other_id));
        }
        // Seen from either side.
        let back =
            RequestEvent::from(RequestLinked { id: m.other_id.clone(), other_id: m.id.clone() });
        let others = match other.linked.contains(&m.id) {
            true => Vec::new(),
            false => vec![NewEvent::of(&guard.stream, &back)],
        };
        let along = Along { others, guards: vec![guard] };
        let what = RequestCommand::Link { other: m.other_id.clone() };
        let expected = Some(m.expected_version);
        let outcome = does::command(self, command, &m.id, expected, what, along).await?;
        answer!(LinkRequestResponse, done(outcome))
    }

    async fn transfer_request(
        &self,
        r: Request<TransferRequestRequest>,
    ) -> Answer<TransferRequestResponse> {
        let caller = caller(&r)?;
        let m = r.into_inner();
        let own = &self.deployment.municipality;
        let mut command = begin(&caller, "TransferRequest", &m.request_id, &m.id, &m, |check| {
            let another = is_municipality(&m.municipality) && m.municipality != *own;
            check.require(another, "municipality", "must be another municipality, as GM0437");
            check.text("explanation", &m.explanation, 1..=5_000);
        })?;
        let explanation = self.seal_words(&mut command, &m.explanation);
        let municipality = m.municipality.clone();
        let what = RequestCommand::Transfer { municipality, explanation };
        let done = self.handle(command, &m.id, m.expected_version, what).await?;
        answer!(TransferRequestResponse, done)
    }

    async fn list_history(&self, r: Request<ListHistoryRequest>) -> Answer<ListHistoryResponse> {
        history::list(self, r).await.map(tonic::Response::new)
    }
}

impl Requests {
    /// The parts that a division made, the first time and any time after.
    async fn parts_of(&self, outcome: &Outcome) -> Result<Vec<String>, Refusal> {
        let last = outcome.position.position;
        let records = self.log.read(last - 1, 1).await.map_err(reply::storage)?;
        let event = records.first().and_then(|r| samen_log::command::decode(r).ok().flatten());
        Ok(match event {
            Some(RequestEvent::RequestSplit(split)) => split.part_ids,
            _ => Vec::new(),
        })
    }
}
