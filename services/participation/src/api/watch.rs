//! Published processes as they are, then as they change.

use futures::StreamExt;
use prost::DecodeError;
use samen_log::command::decode;
use samen_log::{Cursor, Record};
use samen_proto::log::{CaughtUp, Heartbeat};
use samen_proto::participation::watch_processes_response::Item as Sent;
use samen_proto::participation::*;
use samen_server::Deployment;
use samen_server::reply;
use samen_server::streams::{Changed, Outgoing, changes, outgoing};
use samen_server::time::micros;
use tokio::sync::watch;
use tonic::{Request, Status as Refusal};

use crate::Participation;
use crate::projection::queries::{self, PageEnd, Visible};
use crate::projection::row::{ParticipationEvent, process_id};

/// Rows of the snapshot read at once.
const PAGE: usize = 500;
/// A draft changes nobody's dashboard, not even a process lead's.
const VISIBLE: Visible = Visible::Published;

pub async fn processes(
    service: &Participation,
    request: Request<WatchProcessesRequest>,
) -> Result<Outgoing<WatchProcessesResponse>, Refusal> {
    let message = request.into_inner();
    let id = service.log.id().to_owned();
    let resume = message
        .resume_after
        .map(|position| Cursor::from_position(&id, position))
        .transpose()
        .map_err(reply::follow)?;
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
                let newest = mark.position;
                let mut end: Option<PageEnd> = None;
                loop {
                    let page = queries::list(schema, VISIBLE, newest, end.as_ref(), PAGE)
                        .await
                        .map_err(reply::unavailable)?;
                    let Some(last) = page.last() else { break };
                    let created_at = last.create_time.as_ref().map_or(0, micros);
                    end = Some(PageEnd { created_at, newest, id: last.id.clone() });
                    for process in page {
                        yield sent(Sent::Process(process));
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
                let processes = queries::get_all(schema, VISIBLE, &ids).await;
                for process in processes.map_err(reply::unavailable)? {
                    yield sent(Sent::Process(process));
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

/// The process that a record is about.
fn subject(record: &Record) -> Result<Option<String>, DecodeError> {
    let event: Option<ParticipationEvent> = decode(record)?;
    Ok(event.map(|event| process_id(&event).to_owned()))
}

fn sent(item: Sent) -> WatchProcessesResponse {
    WatchProcessesResponse { item: Some(item) }
}
