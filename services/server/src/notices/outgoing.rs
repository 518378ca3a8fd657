//! Notices as they come, for channels that deliver them.
//!
//! The log itself is followed, so that each comes once and in order, and a
//! channel that resumes misses nothing. What is not a notice is looked for in
//! the database and not read.

use std::collections::HashMap;
use std::pin::pin;
use std::sync::Arc;

use futures::{StreamExt, TryStreamExt};
use prost::Name;
use samen_log::command::{decode, is};
use samen_log::record::position;
use samen_log::scan::Wanted;
use samen_log::{Cursor, Follow, Item, Record};
use samen_proto::log::{CaughtUp, Heartbeat, Position};
use samen_proto::notices::watch_notices_response::Item as Sent;
use samen_proto::notices::{Notice, NoticeSent, OutgoingNotice, WatchNoticesResponse};
use tokio::sync::watch;
use tonic::Status as Refusal;

use super::notice::NoticeEvent;
use super::service::{Inbox, open};
use super::table::{self, NoticeRow};
use crate::core::Core;
use crate::identity::Caller;
use crate::reply;
use crate::streams::{Outgoing, outgoing};
use crate::watch::known;

/// Notices that are opened together: what a slow reader holds.
const BATCH: usize = 100;

pub fn watch<I: Inbox>(
    inbox: I,
    resume_after: Option<Position>,
    caller: &Caller,
) -> Result<Outgoing<WatchNoticesResponse>, Refusal> {
    let deployment = inbox.core().deployment.clone();
    let id: Arc<str> = inbox.core().log.id().into();
    let resume = resume_after.map(|position| Cursor::from_position(&id, position));
    let resume = resume.transpose().map_err(reply::follow)?.unwrap_or(Cursor::START);
    let (told, heard) = watch::channel(resume.clone());
    let items = async_stream::try_stream! {
        let log = inbox.core().log.clone();
        known(&log, &resume).await?;
        let newest = log.newest().await.map_err(reply::storage)?.unwrap_or_default();
        let wanted = Wanted::Kinds(vec![NoticeSent::full_name()]);
        let mut pages = pin!(log.scan(wanted, resume.position, newest.position));
        while let Some(page) = pages.try_next().await.map_err(reply::storage)? {
            for records in page.records.chunks(BATCH) {
                for (at, item) in outgoing_of(&inbox, records).await? {
                    yield item;
                    told.send_replace(at);
                }
            }
        }
        told.send_replace(newest.clone());
        yield sent(Sent::CaughtUp(CaughtUp { position: Some(newest.to_position(log.id())) }));
        let mut batches = log.follow(newest).ready_chunks(BATCH);
        while let Some(items) = batches.next().await {
            let (mut records, mut seen) = (Vec::new(), None);
            for item in items {
                if let Item::Record(record) = item.map_err(reply::follow)? {
                    seen = Some(Cursor::at(&record));
                    records.extend(is::<NoticeSent>(&record.r#type).then_some(record));
                }
            }
            for (at, item) in outgoing_of(&inbox, &records).await? {
                yield item;
                told.send_replace(at);
            }
            if let Some(seen) = seen {
                told.send_replace(seen);
            }
        }
    };
    let place = move || heard.borrow().to_position(&id);
    let heartbeat = |at| sent(Sent::Heartbeat(Heartbeat { position: Some(at) }));
    Ok(outgoing(items, place, heartbeat, &deployment, caller))
}

/// What these records have a channel deliver, and where each stands.
async fn outgoing_of<I: Inbox>(
    inbox: &I,
    records: &[Arc<Record>],
) -> Result<Vec<(Cursor, WatchNoticesResponse)>, Refusal> {
    let Some(last) = records.last() else { return Ok(Vec::new()) };
    let core: &Core = inbox.core();
    core.see(&Cursor::at(last)).await;
    let mut ids = Vec::new();
    for record in records {
        if let Some(NoticeEvent::NoticeSent(sent)) = decode(record).map_err(reply::unavailable)? {
            ids.push((record, sent.id));
        }
    }
    let schema = core.store.schema();
    let rows = table::get_all(&schema, ids.iter().map(|(_, id)| id.as_str())).await;
    let rows = rows.map_err(reply::storage)?;
    let notices = open(inbox, &schema, &rows).await?;
    let mut known: HashMap<String, (NoticeRow, Notice)> = rows
        .into_iter()
        .zip(notices)
        .map(|(row, notice)| (row.id.clone(), (row, notice)))
        .collect();
    let mut items = Vec::new();
    for (record, id) in ids {
        let found = known.remove(&id);
        let (row, notice) = found.ok_or_else(|| reply::unavailable("a notice is not known"))?;
        let contact = inbox.contact(&row).await?;
        let outgoing = OutgoingNotice {
            notice: Some(notice),
            position: Some(position(record)),
            email: contact.email,
            phone: contact.phone,
        };
        items.push((Cursor::at(record), sent(Sent::Notice(outgoing))));
    }
    Ok(items)
}

fn sent(item: Sent) -> WatchNoticesResponse {
    WatchNoticesResponse { item: Some(item) }
}
