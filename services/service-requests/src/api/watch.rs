//! Requests as they are, then as they change.

use std::collections::BTreeSet;

use prost::DecodeError;
use samen_log::command::decode;
use samen_log::{Record, Store};
use samen_proto::log::{CaughtUp, Heartbeat};
use samen_proto::requests::watch_requests_response::Item as Sent;
use samen_proto::requests::*;
use samen_server::access::caller;
use samen_server::paging::{Page, PageEnd};
use samen_server::reply::Check;
use samen_server::streams::{self, Outgoing, Watched};
use tonic::{Request, Status as Refusal};

use super::check;
use super::queries::visible_to;
use crate::Requests;
use crate::projection::queries::{self, Change, Visible};
use crate::projection::row::{self, ProjectedEvent};

/// Requests of the snapshot read at once.
const PAGE: usize = 100;

pub async fn requests(
    service: &Requests,
    request: Request<WatchRequestsRequest>,
) -> Result<Outgoing<WatchRequestsResponse>, Refusal> {
    let caller = caller(&request)?;
    let WatchRequestsRequest { filter, resume_after } = request.into_inner();
    let filter = filter.unwrap_or_default();
    let mut check = Check::default();
    check::filter(&mut check, &filter);
    check.finish()?;
    let Requests { log, store, deployment, .. } = service;
    let watched = WatchedRequests { store: store.clone(), visible: visible_to(&caller), filter };
    streams::watch(watched, log, store, resume_after, deployment, &caller)
}

/// The requests that match, as far as somebody may see them.
struct WatchedRequests {
    store: Store,
    visible: Visible,
    filter: RequestFilter,
}

impl Watched for WatchedRequests {
    type Message = WatchRequestsResponse;

    async fn page(&self, from: &PageEnd) -> sqlx::Result<Page<WatchRequestsResponse>> {
        let page =
            queries::list(&self.store.schema(), &self.visible, &self.filter, from, PAGE).await?;
        Ok(page.map(|request| sent(Sent::Request(request))))
    }

    async fn changed(&self, ids: &BTreeSet<String>) -> sqlx::Result<Vec<WatchRequestsResponse>> {
        let changes =
            queries::changes(&self.store.schema(), &self.visible, &self.filter, ids).await?;
        let items = changes.into_iter().map(|change| match change {
            Change::Now(request) => sent(Sent::Request(*request)),
            Change::Left(id) => sent(Sent::LeftId(id)),
        });
        Ok(items.collect())
    }

    fn subject(record: &Record) -> Result<Option<String>, DecodeError> {
        let event: Option<ProjectedEvent> = decode(record)?;
        Ok(event.as_ref().and_then(row::id).map(str::to_owned))
    }

    fn caught_up(mark: CaughtUp) -> WatchRequestsResponse {
        sent(Sent::CaughtUp(mark))
    }

    fn heartbeat(beat: Heartbeat) -> WatchRequestsResponse {
        sent(Sent::Heartbeat(beat))
    }
}

fn sent(item: Sent) -> WatchRequestsResponse {
    WatchRequestsResponse { item: Some(item) }
}
