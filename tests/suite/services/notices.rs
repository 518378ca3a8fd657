//! What people are told: each once, theirs alone, and gone when it is
//! forgotten.
//!
//! - [`told`]: who is told of what, whatever happens meanwhile;
//! - [`inbox`]: how it is read, and delivered;
//! - [`page`]: the page that a secret link opens.

mod inbox;
mod page;
mod told;

use futures::StreamExt;
use samen_log::command::Event;
use samen_log::{Append, Log, NewEvent};
use samen_proto::notices::inbox_service_client::InboxServiceClient;
use samen_proto::notices::watch_notices_response::Item;
use samen_proto::notices::*;
use samen_proto::requests::handling_service_client::HandlingServiceClient;
use samen_proto::requests::*;
use samen_tests::deployment::{Authorised, Deployment};
use samen_tests::{eventually, place};
use tokio_util::sync::CancellationToken;

use super::shared::{SOON, new_id, report};

type Inbox = InboxServiceClient<Authorised>;
type Handling = HandlingServiceClient<Authorised>;

async fn inbox(deployment: &Deployment, subject: &str) -> Inbox {
    InboxServiceClient::new(deployment.at_requests(subject, &["resident"]).await)
}

/// A channel that delivers notices.
fn channel(deployment: &Deployment) -> Inbox {
    InboxServiceClient::new(deployment.service_at_requests("email"))
}

async fn handling(deployment: &Deployment) -> Handling {
    HandlingServiceClient::new(deployment.at_requests("h", &["handler"]).await)
}

/// Files a report by a resident, who may be contacted.
async fn file(deployment: &Deployment, subject: &str, text: &str) -> FileRequestResponse {
    let command = FileRequestRequest { contact_consent: true, ..report(text) };
    let mut resident = deployment.requests(subject, &["resident"]).await;
    resident.file_request(command).await.expect("filed").into_inner()
}

/// The newest notices in an inbox.
async fn list(inbox: &mut Inbox) -> Vec<Notice> {
    let ask = ListNoticesRequest { page_size: 1000, ..Default::default() };
    inbox.list_notices(ask).await.expect("a page").into_inner().notices
}

/// The same, once there are so many.
async fn listed(inbox: &mut Inbox, count: usize) -> Vec<Notice> {
    eventually(SOON, "the notices are there", async || {
        Some(list(inbox).await).filter(|notices| notices.len() >= count)
    })
    .await
}

/// All notices that channels have been told up to a report that is filed now,
/// with that report's last.
async fn all_told(deployment: &Deployment) -> Vec<OutgoingNotice> {
    let last = file(deployment, "somebody who comes last", "Ten slotte").await;
    let about = format!("request/{}", last.id);
    let mut told = watch(&mut channel(deployment), None).await;
    let reading = async {
        let mut notices = Vec::new();
        loop {
            let notice = told.next().await.expect("it goes on");
            let done = notice.notice.as_ref().is_some_and(|notice| notice.about == about);
            notices.push(notice);
            if done {
                return notices;
            }
        }
    };
    tokio::time::timeout(SOON, reading).await.expect("everybody is told")
}

/// Notices as they come, without marks and heartbeats.
async fn watch(
    channel: &mut Inbox,
    resume_after: Option<samen_proto::log::Position>,
) -> futures::stream::BoxStream<'static, OutgoingNotice> {
    let stream = channel.watch_notices(WatchNoticesRequest { resume_after }).await;
    let items = stream.expect("a stream").into_inner();
    Box::pin(items.filter_map(async |item| match item.expect("it goes on").item {
        Some(Item::Notice(notice)) => Some(notice),
        _ => None,
    }))
}

/// A request's version now.
async fn version(deployment: &Deployment, id: &str) -> u64 {
    let mut handler = deployment.requests("h", &["handler"]).await;
    eventually(SOON, "the request is there", async || {
        let ask = GetRequestRequest { id: id.to_owned(), at_least: None };
        Some(handler.get_request(ask).await.ok()?.into_inner().request?.version)
    })
    .await
}

/// Goes on from whichever version it is at.
async fn resolve(deployment: &Deployment, id: &str, explanation: &str) {
    let mut handler = deployment.requests("h", &["handler"]).await;
    let change = ChangeStatusRequest {
        request_id: new_id(),
        id: id.to_owned(),
        expected_version: version(deployment, id).await,
        status: Status::Resolved.into(),
        explanation: explanation.to_owned(),
        ..Default::default()
    };
    let position = handler.change_status(change).await.expect("resolved").into_inner().position;
    let see = GetRequestRequest { id: id.to_owned(), at_least: position };
    handler.get_request(see).await.expect("seen");
}

/// What a reconciler writes when its time has come, which no test waits for:
/// written while nothing runs.
async fn happens(deployment: &mut Deployment, id: &str, event: &impl Event) {
    deployment.stop().await;
    let location = place::location_of(&deployment.log_place("requests")).await;
    let stop = CancellationToken::new();
    let log = Log::open(&location, "gm0384.requests", stop.clone()).await.expect("the log");
    let events = vec![NewEvent::of(&format!("request/{id}"), event)];
    let append = Append { actor: "reconciler".into(), events, ..Append::default() };
    log.append(append).await.expect("appended");
    stop.cancel();
    drop(log);
    deployment.restart().await;
}

samen_log::events! {
    /// What reconcilers write.
    pub enum Reconciled { NormBreached }
}
