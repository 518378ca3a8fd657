//! Networks, their tasks, and what they know about places.

use std::collections::BTreeSet;

use samen_log::{Command, CommandError, Outcome};
use samen_proto::options::Role;
use samen_proto::requests::network_service_server::NetworkService;
use samen_proto::requests::*;
use samen_server::Caller;
use samen_server::access::caller;
use samen_server::calls::{self, wait};
use samen_server::paging::{self, PageEnd};
use samen_server::reply::{self, Check, not_found};
use tonic::{Request, Response, Status as Refusal};
use uuid::Uuid;

use super::does::{self, Along};
use super::{Answer, check};
use crate::Requests;
use crate::domain::catalogue::Rejection;
use crate::domain::network;
use crate::domain::request::RequestCommand;
use crate::projection::places::{self, PlaceRow};
use crate::projection::queries;

/// Metres within which a note is near, where nobody says otherwise.
const NEAR: u32 = 100;
/// Notes that are given at once.
const MAX_NOTES: usize = 50;

macro_rules! answer {
    ($kind:ident, $outcome:expr) => {{
        let Outcome { version, position, .. } = $outcome;
        Ok(Response::new($kind { version, position: Some(position) }))
    }};
}

#[tonic::async_trait]
impl NetworkService for Requests {
    async fn define_network(
        &self,
        r: Request<DefineNetworkRequest>,
    ) -> Answer<DefineNetworkResponse> {
        let caller = caller(&r)?;
        let m = r.into_inner();
        let defined = m.network.clone().unwrap_or_default();
        let mut check = Check::default();
        check.request_id(&m.request_id);
        network::check_network(&mut check, &defined, &self.deployment.area);
        check.finish()?;
        let command = calls::command(&caller, "DefineNetwork", &m.request_id, &m);
        let done = self.networks.execute(command, &defined.id, |state, version| {
            network::define(state, version, m.expected_version, defined.clone()).map(Into::into)
        });
        let outcome = done.await.map_err(refused)?;
        self.registered.catch_up().await;
        answer!(DefineNetworkResponse, outcome)
    }

    async fn retire_network(
        &self,
        r: Request<RetireNetworkRequest>,
    ) -> Answer<RetireNetworkResponse> {
        let caller = caller(&r)?;
        let m = r.into_inner();
        let mut check = Check::default();
        check.request_id(&m.request_id);
        check.id("id", &m.id);
        let register = self.registered.newest().await?;
        let routed = register.routes_to_network(&m.id);
        check.require(!routed, "id", "must not be where a rule of routing leads");
        check.finish()?;
        let command = calls::command(&caller, "RetireNetwork", &m.request_id, &m);
        let done = self.networks.execute(command, &m.id, |state, version| {
            network::retire(state, version, m.expected_version, &m.id).map(Into::into)
        });
        let outcome = done.await.map_err(refused)?;
        self.registered.catch_up().await;
        answer!(RetireNetworkResponse, outcome)
    }

    async fn list_networks(&self, r: Request<ListNetworksRequest>) -> Answer<ListNetworksResponse> {
        let caller = caller(&r)?;
        let m = r.into_inner();
        wait(self, m.at_least.as_ref()).await?;
        let register = self.registered.newest().await?;
        let staff = caller.has_any(&[Role::Handler, Role::Manager, Role::Administrator]);
        // A member sees their own networks.
        let sees = |view: &&NetworkView| {
            let members = view.network.as_ref().map(|network| &network.members);
            (m.retired || !view.retired)
                && (staff || members.is_some_and(|members| members.contains(&caller.id)))
        };
        let networks = register.networks.values().filter(sees).cloned().collect();
        Ok(Response::new(ListNetworksResponse { networks }))
    }

    async fn list_tasks(&self, r: Request<ListTasksRequest>) -> Answer<ListTasksResponse> {
        let caller = caller(&r)?;
        let m = r.into_inner();
        let mut check = Check::default();
        check.require(m.states.len() <= 16, "states", "must be at most 16 values");
        for state in m.states.iter().take(16) {
            check.choice::<TaskState>("states", *state);
        }
        check.finish()?;
        let size = paging::size(m.page_size)?;
        let mine = self.networks_of(&caller).await?;
        let query = format!("ListTasks {:?} {:?} {}", mine, m.states, caller.id).into_bytes();
        let pages = &self.deployment.pages;
        let from: Option<PageEnd> = pages.end(&query, &m.page_token)?;
        wait(self, m.at_least.as_ref()).await?;
        let at_least = m.at_least.as_ref();
        let from = from.unwrap_or_else(|| PageEnd::now(&self.store, self.log.id(), at_least));
        let schema = self.store.schema();
        let networks: Vec<&str> = mine.iter().map(String::as_str).collect();
        let page = queries::tasks(&schema, &networks, &caller.id, &m.states, &from, size).await;
        let page = page.map_err(reply::storage)?;
        let next_page_token = pages.next(&query, page.end.as_ref())?;
        Ok(Response::new(ListTasksResponse { tasks: page.items, next_page_token }))
    }

    async fn claim_task(&self, r: Request<ClaimTaskRequest>) -> Answer<ClaimTaskResponse> {
        let caller = caller(&r)?;
        let m = r.into_inner();
        let command = begin(&caller, "ClaimTask", &m.request_id, &m.id, &m, |_| {})?;
        let network = self.task_of(&caller, &m.id).await?;
        let what = RequestCommand::ClaimTask { network, member: caller.id.clone() };
        answer!(ClaimTaskResponse, self.on(command, &m.id, m.expected_version, what).await?)
    }

    async fn release_task(&self, r: Request<ReleaseTaskRequest>) -> Answer<ReleaseTaskResponse> {
        let caller = caller(&r)?;
        let m = r.into_inner();
        let command = begin(&caller, "ReleaseTask", &m.request_id, &m.id, &m, |_| {})?;
        self.task_of(&caller, &m.id).await?;
        let what = RequestCommand::ReleaseTask { member: caller.id.clone() };
        answer!(ReleaseTaskResponse, self.on(command, &m.id, m.expected_version, what).await?)
    }

    async fn report_task(&self, r: Request<ReportTaskRequest>) -> Answer<ReportTaskResponse> {
        let caller = caller(&r)?;
        let m = r.into_inner();
        let mut command = begin(&caller, "ReportTask", &m.request_id, &m.id, &m, |check| {
            check.text("report", &m.report, 1..=5_000);
        })?;
        self.task_of(&caller, &m.id).await?;
        let report = self.seal_words(&mut command, &m.report);
        let what = RequestCommand::ReportTask { member: caller.id.clone(), report };
        answer!(ReportTaskResponse, self.on(command, &m.id, m.expected_version, what).await?)
    }

    async fn confirm_task(&self, r: Request<ConfirmTaskRequest>) -> Answer<ConfirmTaskResponse> {
        let caller = caller(&r)?;
        let m = r.into_inner();
        let mut command = begin(&caller, "ConfirmTask", &m.request_id, &m.id, &m, |check| {
            check.text("explanation", &m.explanation, 1..=5_000);
        })?;
        let explanation = self.seal_words(&mut command, &m.explanation);
        let what = RequestCommand::ConfirmTask { explanation };
        answer!(ConfirmTaskResponse, self.on(command, &m.id, m.expected_version, what).await?)
    }

    async fn return_task(&self, r: Request<ReturnTaskRequest>) -> Answer<ReturnTaskResponse> {
        let caller = caller(&r)?;
        let m = r.into_inner();
        let mut command = begin(&caller, "ReturnTask", &m.request_id, &m.id, &m, |check| {
            check.text("reason", &m.reason, 1..=5_000);
        })?;
        let reason = self.seal_words(&mut command, &m.reason);
        let what = RequestCommand::ReturnTask { reason };
        answer!(ReturnTaskResponse, self.on(command, &m.id, m.expected_version, what).await?)
    }

    async fn add_place_note(
        &self,
        r: Request<AddPlaceNoteRequest>,
    ) -> Answer<AddPlaceNoteResponse> {
        let caller = caller(&r)?;
        let m = r.into_inner();
        let mut check = Check::default();
        check.request_id(&m.request_id);
        check.id("network_id", &m.network_id);
        network::check_outline(&mut check, &m.outline);
        check.text("note", &m.note, 1..=2_000);
        check.finish()?;
        if !self.networks_of(&caller).await?.contains(&m.network_id) {
            return Err(not_found("network", &m.network_id));
        }
        let mut command = calls::command(&caller, "AddPlaceNote", &m.request_id, &m);
        let id = Uuid::now_v7().to_string();
        let note = self.seal_text(&mut command, &id, &m.note);
        let done = self.place_notes.create(command, &id, |_, _| {
            let outline = m.outline.clone();
            let added = network::add_note(&id, &m.network_id, outline, note.clone());
            Ok::<_, Rejection>(added.into())
        });
        let Outcome { id, position, .. } = done.await.map_err(refused)?;
        Ok(Response::new(AddPlaceNoteResponse { id, position: Some(position) }))
    }

    async fn remove_place_note(
        &self,
        r: Request<RemovePlaceNoteRequest>,
    ) -> Answer<RemovePlaceNoteResponse> {
        let caller = caller(&r)?;
        let m = r.into_inner();
        let command = begin(&caller, "RemovePlaceNote", &m.request_id, &m.id, &m, |_| {})?;
        let mine = self.networks_of(&caller).await?;
        let may = |network: &str| caller.has(Role::Handler) || mine.contains(network);
        let done = self.place_notes.execute(command, &m.id, |state, _| {
            network::remove_note(state, &m.id, may).map(Into::into)
        });
        let position = Some(done.await.map_err(refused)?.position);
        Ok(Response::new(RemovePlaceNoteResponse { position }))
    }

    async fn list_place_notes(
        &self,
        r: Request<ListPlaceNotesRequest>,
    ) -> Answer<ListPlaceNotesResponse> {
        let caller = caller(&r)?;
        let m = r.into_inner();
        let mut check = Check::default();
        check::location(&mut check, m.near.as_ref());
        check.require(m.within <= 1_000, "within", "must be 1 to 1000 metres, or 0 for 100");
        let staff = caller.has(Role::Handler);
        check.require(m.near.is_some() || !staff, "near", "must be given by a handler");
        check.finish()?;
        wait(self, m.at_least.as_ref()).await?;
        let mine = self.networks_of(&caller).await?;
        let schema = self.store.schema();
        let within = f64::from(if m.within == 0 { NEAR } else { m.within });
        let found = match &m.near {
            Some(at) => places::near(&schema, at, within, MAX_NOTES).await,
            None => {
                let mine = mine.iter().map(String::as_str);
                places::of_networks(&schema, mine, MAX_NOTES).await
            }
        };
        // Who is no handler sees what their own networks know.
        let sees = |row: &PlaceRow| staff || mine.contains(&row.note.network_id);
        let mut notes = Vec::new();
        for PlaceRow { mut note, sealed } in found.map_err(reply::storage)?.into_iter().filter(sees)
        {
            let text: Option<Text> = self.open(&sealed).await?;
            note.note = text.map(|text| text.text).unwrap_or_default();
            notes.push(note);
        }
        Ok(Response::new(ListPlaceNotesResponse { notes }))
    }
}

impl Requests {
    /// The ids of the networks that the caller is a member of.
    async fn networks_of(&self, caller: &Caller) -> Result<BTreeSet<String>, Refusal> {
        let register = self.registered.newest().await?;
        Ok(register.networks_of(&caller.id).map(|network| network.id.clone()).collect())
    }

    /// The network that a request was offered to; NOT_FOUND where that is none
    /// of the caller's.
    pub async fn task_of(&self, caller: &Caller, id: &str) -> Result<String, Refusal> {
        let (request, _) = self.with_guard(id).await?;
        let mine = self.networks_of(caller).await?;
        let network = request.task.map(|task| task.network).filter(|n| mine.contains(n));
        network.ok_or_else(|| not_found("task", id))
    }

    /// Whether a network takes part now.
    pub async fn takes_part(&self, id: &str) -> Result<bool, Refusal> {
        let (state, _) = self.networks.get(id).await.map_err(refused)?;
        Ok(state.network.is_some() && !state.retired)
    }

    async fn on(
        &self,
        command: Command,
        id: &str,
        expected: u64,
        what: RequestCommand,
    ) -> Result<Outcome, Refusal> {
        does::command(self, command, id, Some(expected), what, Along::default()).await
    }
}

fn refused(error: CommandError<Rejection>) -> Refusal {
    reply::command(error)
}

fn begin(
    caller: &Caller,
    method: &'static str,
    request_id: &str,
    id: &str,
    message: &impl prost::Message,
    more: impl FnOnce(&mut Check),
) -> Result<Command, Refusal> {
    let mut check = Check::default();
    check.request_id(request_id);
    check.id("id", id);
    more(&mut check);
    check.finish()?;
    Ok(calls::command(caller, method, request_id, message))
}
