//! Published processes as they are, then as they change.

use std::collections::BTreeSet;

use prost::DecodeError;
use samen_log::command::decode;
use samen_log::{Record, Store};
use samen_proto::log::{CaughtUp, Heartbeat};
use samen_proto::participation::watch_processes_response::Item as Sent;
use samen_proto::participation::*;
use samen_server::access::caller;
use samen_server::paging::{Page, PageEnd};
use samen_server::streams::Outgoing;
use samen_server::watch::Watched;
use tonic::{Request, Status as Refusal};

use crate::Participation;
use crate::projection::queries::{self, Visible};
use crate::projection::row::{ParticipationEvent, process_id};

/// Processes of the snapshot read at once.
const PAGE: usize = 100;
/// A draft changes nobody's dashboard, not even a process lead's.
const VISIBLE: Visible = Visible::Published;

pub async fn processes(
    service: &Participation,
    request: Request<WatchProcessesRequest>,
) -> Result<Outgoing<WatchProcessesResponse>, Refusal> {
    let caller = caller(&request)?;
    let WatchProcessesRequest { resume_after } = request.into_inner();
    service.check_built()?;
    service.changes.watch(WatchedProcesses, resume_after, &service.deployment, &caller)
}

/// The processes that are published.
pub struct WatchedProcesses;

impl Watched for WatchedProcesses {
    type Row = Process;
    type Message = WatchProcessesResponse;

    fn subject(record: &Record) -> Result<Option<String>, DecodeError> {
        let event: Option<ParticipationEvent> = decode(record)?;
        Ok(event.map(|event| process_id(&event).to_owned()))
    }

    async fn rows(store: &Store, ids: &BTreeSet<String>) -> sqlx::Result<Vec<Process>> {
        queries::get_all(&store.schema(), VISIBLE, ids).await
    }

    async fn page(
        &self,
        store: &Store,
        from: &PageEnd,
    ) -> sqlx::Result<Page<WatchProcessesResponse>> {
        let page = queries::list(&store.schema(), VISIBLE, from, PAGE).await?;
        Ok(page.map(|process| sent(Sent::Process(process))))
    }

    fn seen(&self, row: &Process) -> Option<WatchProcessesResponse> {
        Some(sent(Sent::Process(row.clone())))
    }

    fn caught_up(mark: CaughtUp) -> WatchProcessesResponse {
        sent(Sent::CaughtUp(mark))
    }

    fn heartbeat(beat: Heartbeat) -> WatchProcessesResponse {
        sent(Sent::Heartbeat(beat))
    }
}

fn sent(item: Sent) -> WatchProcessesResponse {
    WatchProcessesResponse { item: Some(item) }
}
