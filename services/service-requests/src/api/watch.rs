//! Requests as they are, then as they change.

use std::collections::BTreeSet;

use futures::StreamExt;
use samen_log::{Cursor, Follow, Item};
use samen_proto::log::{CaughtUp, Heartbeat};
use samen_proto::requests::watch_requests_response::Item as Sent;
use samen_proto::requests::*;
use samen_server::Deployment;
use samen_server::access::caller;
use samen_server::reply::{self, Check};
use samen_server::streams::{Outgoing, outgoing};
use samen_server::time::micros;
use tonic::{Request, Status as Refusal};

use super::check;
use super::queries::visible_to;
use crate::Requests;
use crate::domain::request::RequestEvent;
use crate::projection::queries::{self, PageEnd};
use crate::projection::row;

/// Rows of the snapshot read at once; changes looked at together.
const PAGE: usize = 500;

pub async fn requests(
    service: &Requests,
    request: Request<WatchRequestsRequest>,
) -> Result<Outgoing<WatchRequestsResponse>, Refusal> {
    let caller = caller(&request)?;
    let message = request.into_inner();
    let filter = message.filter.unwrap_or_default();
    let mut check = Check::default();
    check::filter(&mut check, &filter);
    check.finish()?;
    let id = service.log.id().to_owned();
    let resume = message
        .resume_after
        .map(|position| Cursor::from_position(&id, position))
        .transpose()
        .map_err(reply::follow)?;
    let visible = visible_to(&caller);
    let service = service.clone();
    let Deployment { heartbeat, shutdown, .. } = service.deployment.clone();
    let log = service.log.clone();
    let items = async_stream::try_stream! {
        let schema = service.store.schema();
        let from = match resume {
            Some(from) => from,
            None => {
                // Whatever changes while the snapshot is read comes again
                // after it: the mark is where the store was before.
                let mark = service.store.cursor(&id);
                let mut end: Option<PageEnd> = None;
                loop {
                    let newest = mark.position;
                    let page =
                        queries::list(schema, &visible, &filter, newest, end.as_ref(), PAGE)
                            .await
                            .map_err(reply::unavailable)?;
                    let Some(last) = page.last() else { break };
                    let created_at = last.create_time.as_ref().map_or(0, micros);
                    end = Some(PageEnd { created_at, newest, id: last.id.clone() });
                    for request in page {
                        yield sent(Sent::Request(request));
                    }
                }
                mark
            }
        };
        let mut changes = service.log.follow(from).ready_chunks(PAGE);
        let mut caught_up = false;
        while let Some(items) = changes.next().await {
            let mut ids = BTreeSet::new();
            let mut mark = None;
            let mut last = None;
            for item in items {
                match item.map_err(reply::follow)? {
                    Item::Record(record) => {
                        let event = samen_log::command::decode::<RequestEvent>(&record);
                        if let Some(event) = event.map_err(reply::unavailable)? {
                            ids.insert(row::id(&event).to_owned());
                        }
                        last = Some(Cursor::at(&record));
                    }
                    Item::CaughtUp(at) => mark = Some(at),
                }
            }
            if let Some(last) = last {
                service.store.wait_for(&last.to_position(&id)).await.map_err(reply::wait)?;
            }
            let ids: Vec<_> = ids.into_iter().collect();
            if !ids.is_empty() {
                let changed = queries::get_all(schema, &visible, &filter, &ids).await;
                for request in changed.map_err(reply::unavailable)? {
                    yield sent(Sent::Request(request));
                }
            }
            if let Some(at) = mark && !caught_up {
                caught_up = true;
                yield sent(Sent::CaughtUp(CaughtUp { position: Some(at.to_position(&id)) }));
            }
        }
    };
    let beat = move || {
        let head = Cursor { epoch: log.epoch(), position: log.head(), hash: None };
        sent(Sent::Heartbeat(Heartbeat { position: Some(head.to_position(log.id())) }))
    };
    Ok(outgoing(items, heartbeat, beat, shutdown))
}

fn sent(item: Sent) -> WatchRequestsResponse {
    WatchRequestsResponse { item: Some(item) }
}
