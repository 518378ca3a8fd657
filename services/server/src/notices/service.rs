//! The inbox (berichtenbox), over gRPC.

use std::collections::HashMap;

use jiff::Timestamp;
use prost::Message;
use samen_log::{Aggregates, Schema};
use samen_proto::log::Position;
use samen_proto::notices::inbox_service_server::{InboxService, InboxServiceServer};
use samen_proto::notices::*;
use tonic::{Request, Response, Status as Refusal};

use super::notice::{self, Notice as State, Rejection};
use super::table::{self, NoticeRow};
use super::{INBOX, outgoing};
use crate::access::caller;
use crate::calls::{command, wait};
use crate::core::Core;
use crate::paging::{self, PAGE_BYTES, PageEnd};
use crate::reply::{self, Check};
use crate::streams::Outgoing;
use crate::time::to_proto;

/// Characters of a channel's name.
const CHANNEL: usize = 50;

/// What a service does for its inbox.
pub trait Inbox: Clone + Send + Sync + 'static {
    fn core(&self) -> &Core;

    /// The texts of the events at these positions, opened; without those that
    /// have none, or whose text was forgotten.
    fn texts(
        &self,
        positions: &[u64],
    ) -> impl Future<Output = Result<HashMap<u64, String>, Refusal>> + Send;

    /// How the recipient of a notice can be reached; nothing without their
    /// consent, or when that was forgotten.
    fn contact(&self, notice: &NoticeRow) -> impl Future<Output = Result<Contact, Refusal>> + Send;
}

/// How somebody can be reached. Empty where they cannot.
#[derive(Clone, Default)]
pub struct Contact {
    pub email: String,
    pub phone: String,
}

/// A service's inbox, as its port serves it. Cheap to clone.
#[derive(Clone)]
pub struct InboxDoor<I> {
    inbox: I,
    notices: Aggregates<State>,
}

impl<I: Inbox> InboxDoor<I> {
    pub fn server(inbox: I) -> InboxServiceServer<Self> {
        let Core { log, keyring, .. } = inbox.core();
        let notices = Aggregates::new(log.clone(), keyring.clone());
        InboxServiceServer::new(InboxDoor { inbox, notices })
    }
}

#[tonic::async_trait]
impl<I: Inbox> InboxService for InboxDoor<I> {
    type WatchNoticesStream = Outgoing<WatchNoticesResponse>;

    async fn list_notices(
        &self,
        request: Request<ListNoticesRequest>,
    ) -> Result<Response<ListNoticesResponse>, Refusal> {
        let caller = caller(&request)?;
        let ListNoticesRequest { page_size, page_token, at_least } = request.into_inner();
        let size = paging::size(page_size)?;
        let Core { deployment, store, log, .. } = self.inbox.core();
        // A token is good for these eyes only.
        let query = format!("ListNotices {}", caller.id).into_bytes();
        let from: Option<PageEnd> = deployment.pages.end(&query, &page_token)?;
        wait(self.inbox.core(), at_least.as_ref()).await?;
        let from = from.unwrap_or_else(|| PageEnd::now(store, log.id(), at_least.as_ref()));
        let schema = store.schema();
        let page = table::page(&schema, &caller.id, &from, size).await.map_err(reply::storage)?;
        let opened = open(&self.inbox, &schema, &page.items).await?;
        let (mut notices, mut end, mut bytes) = (Vec::new(), page.end, 0);
        for (row, notice) in page.items.iter().zip(opened) {
            bytes += notice.encoded_len();
            if bytes > PAGE_BYTES
                && let Some(last) = notices.len().checked_sub(1).map(|last| &page.items[last])
            {
                let (created_at, id) = (last.created_at, last.id.clone());
                end = Some(PageEnd { created_at, id, newest: from.newest });
                break;
            }
            debug_assert_eq!(row.id, notice.id);
            notices.push(notice);
        }
        let next_page_token = deployment.pages.next(&query, end.as_ref())?;
        Ok(Response::new(ListNoticesResponse { notices, next_page_token }))
    }

    async fn mark_read(
        &self,
        request: Request<MarkReadRequest>,
    ) -> Result<Response<MarkReadResponse>, Refusal> {
        let caller = caller(&request)?;
        let message = request.into_inner();
        let mut check = Check::default();
        check.request_id(&message.request_id);
        check.id("id", &message.id);
        check.finish()?;
        let id = canonical(&message.id);
        let command = command(&caller, "MarkRead", &message.request_id, &message);
        let read = self.notices.execute(command, &id, |state, _| {
            Ok::<_, Rejection>(notice::read(state, &id, &caller.id)?.into())
        });
        let position = Some(read.await.map_err(reply::command)?.position);
        Ok(Response::new(MarkReadResponse { position }))
    }

    async fn watch_notices(
        &self,
        request: Request<WatchNoticesRequest>,
    ) -> Result<Response<Self::WatchNoticesStream>, Refusal> {
        let caller = caller(&request)?;
        let resume_after: Option<Position> = request.into_inner().resume_after;
        self.inbox.core().check_built()?;
        outgoing::watch(self.inbox.clone(), resume_after, &caller).map(Response::new)
    }

    async fn report_delivery(
        &self,
        request: Request<ReportDeliveryRequest>,
    ) -> Result<Response<ReportDeliveryResponse>, Refusal> {
        let caller = caller(&request)?;
        let message = request.into_inner();
        let mut check = Check::default();
        check.request_id(&message.request_id);
        check.id("id", &message.id);
        let letters = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-';
        let named = (1..=CHANNEL).contains(&message.channel.len())
            && message.channel.chars().all(letters)
            && message.channel != INBOX;
        let allowed = "must be lower-case letters, digits and hyphens, at most 50, not inbox";
        check.require(named, "channel", allowed);
        let state = DeliveryState::try_from(message.state).ok().filter(|state| {
            use DeliveryState::{Delivered, Failed, Sent};
            matches!(state, Sent | Delivered | Failed)
        });
        check.require(state.is_some(), "state", "must be SENT, DELIVERED or FAILED");
        check.finish()?;
        let (id, state) = (canonical(&message.id), state.unwrap_or_default());
        let command = command(&caller, "ReportDelivery", &message.request_id, &message);
        let reported = self.notices.execute(command, &id, |known, _| {
            Ok::<_, Rejection>(notice::report(known, &id, &message.channel, state)?.into())
        });
        let position = Some(reported.await.map_err(reply::command)?.position);
        Ok(Response::new(ReportDeliveryResponse { position }))
    }
}

/// Notices with their texts, in this order. What was said to somebody before
/// they were forgotten, is forgotten.
pub async fn open(
    inbox: &impl Inbox,
    schema: &Schema,
    rows: &[NoticeRow],
) -> Result<Vec<Notice>, Refusal> {
    let people = rows.iter().map(|row| row.recipient.as_str()).filter(|id| !id.is_empty());
    let forgotten = table::forgotten(schema, people).await.map_err(reply::storage)?;
    let shown = |row: &&NoticeRow| {
        forgotten.get(&row.recipient).is_none_or(|position| row.told_of > *position)
    };
    let positions: Vec<u64> = rows.iter().filter(shown).map(|row| row.told_of).collect();
    let texts = inbox.texts(&positions).await?;
    let text = |row: &NoticeRow| texts.get(&row.told_of).filter(|_| shown(&row)).cloned();
    Ok(rows
        .iter()
        .map(|row| Notice {
            id: row.id.clone(),
            about: row.about.clone(),
            kind: row.kind.into(),
            text: text(row).unwrap_or_default(),
            create_time: Timestamp::from_microsecond(row.created_at).ok().map(to_proto),
            state: row.state.into(),
        })
        .collect())
}

/// An id as streams spell it.
fn canonical(id: &str) -> String {
    uuid::Uuid::parse_str(id).map_or_else(|_| id.to_owned(), |id| id.to_string())
}
