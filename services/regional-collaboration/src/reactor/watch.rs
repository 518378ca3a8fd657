//! Notices what the sources erase.
//!
//! Each erasure is recorded in this service's log, in the stream of its source,
//! before anything follows from it. That orders it against everything that is
//! sent: what a feed discloses is recorded too, and looked at once more against
//! these streams before it leaves. So whatever was disclosed before the record
//! may have been sent, and whatever is disclosed after it is read from a store
//! that has seen the erasure.

use std::sync::Arc;

use futures::StreamExt;
use futures::future::join_all;
use prost::{Message, Name};
use samen_log::{Aggregate, Cursor, Follow, FollowError, Item, Record};
use samen_proto::privacy::ContentErased;

use super::progress::Progress;
use super::{NOTE_EVERY, REST, ReactError, assign, command, history, read};
use crate::Regional;
use crate::domain::Rejection;
use crate::domain::source::{Look, Source, SourceEvent, decide};
use crate::projection::queries;

pub const NAME: &str = "erasures";

/// Runs until the deployment shuts down.
pub async fn run(service: Regional, sources: Vec<Arc<dyn Follow>>, progress: Progress) {
    join_all(sources.iter().map(|source| watch(&service, source.as_ref(), &progress))).await;
}

async fn watch(service: &Regional, source: &dyn Follow, progress: &Progress) {
    let shutdown = &service.deployment.shutdown;
    let log = source.log();
    loop {
        let result = tokio::select! {
            () = shutdown.cancelled() => return,
            result = read_on(service, source, progress) => result,
        };
        let failed = match result {
            Ok(()) => None,
            Err(ReactError::Follow(FollowError::NotInHistory { .. })) => {
                go_back(service, source, progress).await.err()
            }
            Err(error) => Some(error),
        };
        if let Some(error) = failed.filter(|error| !error.is_elsewhere()) {
            tracing::warn!(%error, log, "looking for erasures begins again");
            progress.failed(log, "", error);
        }
        tokio::select! {
            () = shutdown.cancelled() => return,
            () = tokio::time::sleep(REST) => {}
        }
    }
}

/// Follows from where the source was looked through to.
async fn read_on(
    service: &Regional,
    source: &dyn Follow,
    progress: &Progress,
) -> Result<(), ReactError> {
    let log = source.log();
    let (state, _) = service.sources.get::<Rejection>(log).await?;
    let mut noted = state.through;
    let mut seen = noted.clone();
    let mut items = source.follow(noted.clone());
    settle_ended(service, source, progress).await?;
    while let Some(item) = items.next().await {
        let Item::Record(record) = item? else {
            progress.saw(log, "", seen.clone());
            continue;
        };
        let restored = seen.position > 0 && record.epoch != seen.epoch;
        seen = Cursor::at(&record);
        let erased = erased(&record)?;
        if erased.is_some() || seen.position - noted.position >= NOTE_EVERY {
            service.looked(NAME, log, noted, seen.clone(), erased).await?;
            noted = seen.clone();
        }
        if restored {
            settle_ended(service, source, progress).await?;
        }
        progress.saw(log, "", seen.clone());
    }
    Err(history::ended(source).into())
}

/// The source was restored from a backup: goes back to the newest place that
/// its history still has.
async fn go_back(
    service: &Regional,
    source: &dyn Follow,
    progress: &Progress,
) -> Result<(), ReactError> {
    let log = source.log();
    let (state, version) = service.sources.get::<Rejection>(log).await?;
    let stream = format!("{}/{log}", Source::KIND);
    let marks = history::marks(&service.log, &stream, version, |record| {
        Ok(Some(read::<SourceEvent>(record)?.through()))
    });
    let (newest, lost) = history::newest_mark(source, marks).await?;
    if lost.is_none() {
        return Ok(());
    }
    tracing::warn!(log, position = newest.position, "a source was restored");
    progress.restored(log, &newest);
    service.looked(NAME, log, state.through, newest, None).await
}

/// Feeds whose agreements hold look after themselves.
async fn settle_ended(
    service: &Regional,
    source: &dyn Follow,
    progress: &Progress,
) -> Result<(), ReactError> {
    for agreement in queries::agreements_ended(&service.store.schema()).await? {
        assign::settle(service, &agreement, source, progress).await?;
    }
    Ok(())
}

/// What a record erases.
fn erased(record: &Record) -> Result<Option<ContentErased>, ReactError> {
    if record.r#type != ContentErased::full_name() {
        return Ok(None);
    }
    let (position, kind) = (record.position, record.r#type.clone());
    ContentErased::decode(record.data.as_slice())
        .map(Some)
        .map_err(|_| ReactError::Unreadable { position, kind })
}

impl Regional {
    /// Records up to where a log was looked through, and what the record there
    /// erases.
    pub(super) async fn looked(
        &self,
        who: &str,
        log: &str,
        before: Cursor,
        at: Cursor,
        erased: Option<ContentErased>,
    ) -> Result<(), ReactError> {
        let look = Look { source_log: log.to_owned(), before, at, erased };
        let decide = |source: &_, _| decide(source, look.clone()).map(Into::into);
        self.sources.execute(command(who, "Look"), log, decide).await?;
        Ok(())
    }
}
