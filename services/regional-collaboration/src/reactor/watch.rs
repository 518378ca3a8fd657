//! Notices what the sources erase.
//!
//! Each erasure is recorded in this service's log, in the stream of its source,
//! before anything follows from it. That orders it against everything that is
//! sent: what a feed discloses is recorded too, and looked at once more against
//! these streams before it leaves. So whatever was disclosed before the record
//! may have been sent, and whatever is disclosed after it is read from a store
//! that has seen the erasure.

use std::sync::Arc;

use futures::future::join_all;
use prost::{Message, Name};
use samen_log::react::{self, Reactor};
use samen_log::{Cursor, Follow, FollowError, Record};
use samen_proto::privacy::ContentErased;

use super::own::{Own, Stored};
use super::progress::Progress;
use super::{NOTE_EVERY, ReactError, assign, history, read};
use crate::Regional;
use crate::domain::source::{Look, Source, SourceEvent, decide};
use crate::projection::queries;

pub const NAME: &str = "erasures";

/// Runs until the deployment shuts down.
pub async fn run(service: Regional, sources: Vec<Arc<dyn Follow>>, progress: Progress) {
    join_all(sources.iter().map(|source| watch(&service, source.as_ref(), &progress))).await;
}

async fn watch(service: &Regional, source: &dyn Follow, progress: &Progress) {
    let own = service.source_of(NAME, source.log());
    let mut watcher = Watcher::new(source, own, progress);
    tokio::select! {
        () = service.deployment.shutdown.cancelled() => {}
        () = react::run(source, &mut watcher) => {}
    }
}

/// How far a source was looked through, as the watcher needs it.
pub trait Watching: Own<Source> {
    /// The source may have been restored: settles the feeds whose agreements
    /// have ended. Those of the others look after themselves.
    fn settle_ended(
        &self,
        source: &dyn Follow,
        progress: &Progress,
    ) -> impl Future<Output = Result<(), ReactError>> + Send;
}

/// Records what one source erases.
pub struct Watcher<'a, W> {
    source: &'a dyn Follow,
    own: W,
    progress: &'a Progress,
    noted: Cursor,
    seen: Cursor,
}

// === impl Watcher ===

impl<'a, W: Watching> Watcher<'a, W> {
    pub fn new(source: &'a dyn Follow, own: W, progress: &'a Progress) -> Self {
        Watcher { source, own, progress, noted: Cursor::START, seen: Cursor::START }
    }

    async fn look(&mut self, record: &Record) -> Result<(), ReactError> {
        let restored = self.seen.position > 0 && record.epoch != self.seen.epoch;
        self.seen = Cursor::at(record);
        let erased = erased(record)?;
        if erased.is_some() || self.seen.position - self.noted.position >= NOTE_EVERY {
            let before = std::mem::replace(&mut self.noted, self.seen.clone());
            looked(&self.own, self.source.log(), before, self.seen.clone(), erased).await?;
        }
        if restored {
            self.own.settle_ended(self.source, self.progress).await?;
        }
        Ok(())
    }
}

impl<W: Watching> Reactor for Watcher<'_, W> {
    type Error = ReactError;

    async fn through(&mut self) -> Result<Cursor, ReactError> {
        self.noted = self.own.get().await?.0.through;
        self.seen = self.noted.clone();
        self.own.settle_ended(self.source, self.progress).await?;
        Ok(self.noted.clone())
    }

    async fn offer(&mut self, records: &[Arc<Record>]) -> Result<bool, ReactError> {
        for record in records {
            self.look(record).await?;
        }
        Ok(true)
    }

    /// Goes back to the newest place that the source's history still has.
    async fn restored(&mut self, _: FollowError) -> Result<(), ReactError> {
        let log = self.source.log();
        let (state, version) = self.own.get().await?;
        let marks = history::marks(&self.own, version, |record| {
            Ok(Some(read::<SourceEvent>(record)?.through()))
        });
        let (newest, lost) = history::newest_mark(self.source, marks).await?;
        if lost.is_none() {
            return Ok(());
        }
        self.progress.restored(log, &newest);
        looked(&self.own, log, state.through, newest, None).await
    }

    fn saw(&mut self, seen: &Cursor) {
        self.progress.saw(self.source.log(), "", seen.clone());
    }

    fn failed(&mut self, error: ReactError) {
        self.progress.failed(self.source.log(), "", &error);
    }
}

/// Records up to where a log was looked through, and what the record there
/// erases.
pub(super) async fn looked(
    own: &impl Own<Source>,
    log: &str,
    before: Cursor,
    at: Cursor,
    erased: Option<ContentErased>,
) -> Result<(), ReactError> {
    let look = Look { source_log: log.to_owned(), before, at, erased };
    own.change(|source| decide(source, look.clone())).await
}

impl Watching for Stored<'_, Source> {
    async fn settle_ended(
        &self,
        source: &dyn Follow,
        progress: &Progress,
    ) -> Result<(), ReactError> {
        let service = self.service;
        for agreement in queries::agreements_ended(&service.store.schema()).await? {
            assign::settle(&service.feed_of(&agreement), &agreement, source, progress).await?;
        }
        Ok(())
    }
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
    /// How far a log was looked through, which this reactor changes.
    pub(super) fn source_of<'a>(&'a self, actor: &'static str, id: &'a str) -> Stored<'a, Source> {
        Stored { service: self, aggregates: &self.sources, id, actor, method: "Look" }
    }
}
