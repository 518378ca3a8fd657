//! Requests as they are, then as they change.

use std::collections::BTreeSet;

use prost::DecodeError;
use samen_log::{Record, Store};
use samen_proto::log::{CaughtUp, Heartbeat};
use samen_proto::requests::watch_requests_response::Item as Sent;
use samen_proto::requests::*;
use samen_server::access::caller;
use samen_server::paging::{Page, PageEnd};
use samen_server::reply::Check;
use samen_server::streams::Outgoing;
use samen_server::watch::Watched;
use tonic::{Request, Status as Refusal};

use super::filter::filter;
use super::queries::visible_to;
use crate::Requests;
use crate::projection::filter::Filter;
use crate::projection::queries::{self, Visible};
use crate::projection::row::{ProjectedEvent, RequestRow};

/// Requests of the snapshot read at once.
const PAGE: usize = 100;

pub async fn requests(
    service: &Requests,
    request: Request<WatchRequestsRequest>,
) -> Result<Outgoing<WatchRequestsResponse>, Refusal> {
    let caller = caller(&request)?;
    let WatchRequestsRequest { filter, resume_after } = request.into_inner();
    let visible = visible_to(&caller);
    let mut check = Check::default();
    let staff = matches!(visible, Visible::All);
    let filter = self::filter(&mut check, &service.words, filter, staff);
    check.finish()?;
    service.check_built()?;
    let watched = WatchedRequests { visible, filter };
    service.changes.watch(watched, resume_after, &service.deployment, &caller)
}

/// The requests that match, as far as somebody may see them.
pub struct WatchedRequests {
    visible: Visible,
    filter: Filter,
}

impl Watched for WatchedRequests {
    type Row = RequestRow;
    type Message = WatchRequestsResponse;

    fn subject(record: &Record) -> Result<Option<String>, DecodeError> {
        let event = ProjectedEvent::of(record)?;
        Ok(event.map(|event| event.id(record).to_owned()))
    }

    async fn rows(store: &Store, ids: &BTreeSet<String>) -> sqlx::Result<Vec<RequestRow>> {
        queries::get_all(&store.schema(), ids).await
    }

    async fn page(
        &self,
        store: &Store,
        from: &PageEnd,
    ) -> sqlx::Result<Page<WatchRequestsResponse>> {
        let page = queries::list(&store.schema(), &self.visible, &self.filter, from, PAGE).await?;
        Ok(page.map(|request| sent(Sent::Request(request))))
    }

    fn seen(&self, row: &RequestRow) -> Option<WatchRequestsResponse> {
        self.visible.sees(row).then(|| match self.filter.matches(row) {
            true => sent(Sent::Request(self.visible.shown(row.body.clone()))),
            false => sent(Sent::LeftId(row.body.id.clone())),
        })
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
