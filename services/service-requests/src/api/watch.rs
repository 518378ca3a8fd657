//! Requests as they are, then as they change.

use futures::StreamExt;
use prost::DecodeError;
use samen_log::command::decode;
use samen_log::{Cursor, Record};
use samen_proto::log::{CaughtUp, Heartbeat};
use samen_proto::requests::watch_requests_response::Item as Sent;
use samen_proto::requests::*;
use samen_server::Deployment;
use samen_server::access::caller;
use samen_server::reply::{self, Check};
use samen_server::streams::{Changed, Outgoing, changes, outgoing};
use samen_server::time::micros;
use tokio::sync::watch;
use tonic::{Request, Status as Refusal};

use super::check;
use super::queries::visible_to;
use crate::Requests;
use crate::domain::request::RequestEvent;
use crate::projection::queries::{self, PageEnd};
use crate::projection::row;

/// Rows of the snapshot read at once.
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
    let log = id.clone();
    let (told, heard) = watch::channel(resume.clone().unwrap_or_default());
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
        let follow = changes(service.log.clone(), service.store.clone(), from, subject);
        let mut follow = std::pin::pin!(follow);
        while let Some(changed) = follow.next().await {
            let Changed { ids, at, caught_up } = changed?;
            if !ids.is_empty() {
                let requests = queries::get_all(schema, &visible, &filter, &ids).await;
                for request in requests.map_err(reply::unavailable)? {
                    yield sent(Sent::Request(request));
                }
            }
            if caught_up {
                let position = Some(at.to_position(&id));
                yield sent(Sent::CaughtUp(CaughtUp { position }));
            }
            told.send_replace(at);
        }
    };
    // Not where the log is: who resumes there would miss what is on its way.
    let beat = move || {
        let position = Some(heard.borrow().to_position(&log));
        sent(Sent::Heartbeat(Heartbeat { position }))
    };
    Ok(outgoing(items, heartbeat, beat, shutdown))
}

/// The request that a record is about.
fn subject(record: &Record) -> Result<Option<String>, DecodeError> {
    let event: Option<RequestEvent> = decode(record)?;
    Ok(event.map(|event| row::id(&event).to_owned()))
}

fn sent(item: Sent) -> WatchRequestsResponse {
    WatchRequestsResponse { item: Some(item) }
}
