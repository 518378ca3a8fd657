//! Gives shared records of the other services their place in each agreement's
//! feed.
//!
//! It begins from what the feed's own stream says. One task follows one source
//! for one agreement, each by itself; an agreement that is new begins with the
//! source's history.

use std::collections::HashSet;
use std::sync::Arc;

use samen_log::react::{self, Reactor};
use samen_log::{Cursor, Follow, FollowError, Record};
use tokio::task::JoinSet;

use super::own::{Own, Stored};
use super::progress::Progress;
use super::{NOTE_EVERY, PERIOD, ReactError, history, read};
use crate::Regional;
use crate::domain::Rejection;
use crate::domain::feed::{Assign, Feed, FeedCommand, FeedEvent, Restore, decide};
use crate::projection::queries;

pub const NAME: &str = "assigner";

/// Runs until the deployment shuts down.
pub async fn run(service: Regional, sources: Vec<Arc<dyn Follow>>, progress: Arc<Progress>) {
    let shutdown = service.deployment.shutdown.clone();
    let mut changed = service.store.watch();
    let mut running: HashSet<String> = HashSet::new();
    let mut tasks = JoinSet::new();
    loop {
        match queries::agreements_in_force(&service.store.schema()).await {
            Ok(agreements) => {
                for id in agreements {
                    if running.insert(id.clone()) {
                        for source in &sources {
                            let (service, source) = (service.clone(), source.clone());
                            tasks.spawn(assign(service, id.clone(), source, progress.clone()));
                        }
                    }
                }
            }
            Err(error) => tracing::error!(%error, "agreements cannot be read"),
        }
        tokio::select! {
            () = shutdown.cancelled() => return,
            _ = tokio::time::timeout(PERIOD, changed.changed()) => {}
            Some(ended) = tasks.join_next() => {
                // Its agreement has ended, unless it panicked: then everything
                // begins again, by the one who supervises this.
                if let Err(error) = ended {
                    tracing::error!(%error, "assigning failed");
                    return;
                }
            }
        }
    }
}

/// Follows one source for one agreement, until the agreement ends.
async fn assign(
    service: Regional,
    agreement: String,
    source: Arc<dyn Follow>,
    progress: Arc<Progress>,
) {
    let own = service.feed_of(&agreement);
    let mut assigner = Assigner::new(&agreement, source.as_ref(), own, &progress);
    tokio::select! {
        () = service.deployment.shutdown.cancelled() => {}
        () = react::run(source.as_ref(), &mut assigner) => {}
    }
}

/// A feed, as the assigner needs it.
pub trait Feeding: Own<Feed> {
    /// The types of events that belong into it; `None` once its agreement has
    /// ended.
    fn wanted(&self) -> impl Future<Output = Result<Option<Vec<String>>, ReactError>> + Send;
}

/// Gives records of one source their place in one agreement's feed.
pub struct Assigner<'a, F> {
    agreement: &'a str,
    source: &'a dyn Follow,
    own: F,
    progress: &'a Progress,
    reader: Reader,
}

// === impl Assigner ===

impl<'a, F: Feeding> Assigner<'a, F> {
    pub fn new(agreement: &'a str, source: &'a dyn Follow, own: F, progress: &'a Progress) -> Self {
        Assigner { agreement, source, own, progress, reader: Reader::from(Cursor::START) }
    }
}

impl<F: Feeding> Reactor for Assigner<'_, F> {
    type Error = ReactError;

    async fn through(&mut self) -> Result<Cursor, ReactError> {
        let (feed, _) = self.own.get().await?;
        self.reader = Reader::from(feed.through(self.source.log()));
        Ok(self.reader.offered.clone())
    }

    async fn offer(&mut self, records: &[Arc<Record>]) -> Result<bool, ReactError> {
        let log = self.source.log();
        let Some(types) = self.own.wanted().await? else {
            self.progress.ended(log, self.agreement);
            return Ok(false);
        };
        let wanted = |record: &Record| types.contains(&record.r#type);
        for Looked { after, positions, through } in self.reader.look(records, wanted) {
            let assign = FeedCommand::Assign(Assign {
                agreement_id: self.agreement.to_owned(),
                source_log: log.to_owned(),
                after,
                source_positions: positions,
                through,
            });
            self.own.change(|feed| decide(feed, assign.clone())).await?;
        }
        Ok(true)
    }

    async fn restored(&mut self, _: FollowError) -> Result<(), ReactError> {
        settle(&self.own, self.agreement, self.source, self.progress).await
    }

    fn saw(&mut self, seen: &Cursor) {
        self.progress.saw(self.source.log(), self.agreement, seen.clone());
    }

    fn failed(&mut self, error: ReactError) {
        self.progress.failed(self.source.log(), self.agreement, &error);
    }
}

/// Withdraws the places of records that are not in the source's history any
/// more, if there are such; an agreement that has ended has places too.
pub async fn settle(
    own: &impl Own<Feed>,
    agreement: &str,
    source: &dyn Follow,
    progress: &Progress,
) -> Result<(), ReactError> {
    let log = source.log();
    let (feed, version) = own.get().await?;
    let marks = history::marks(own, version, |record| {
        let event: FeedEvent = read(record)?;
        let (about, through) = event.through();
        Ok((about == log).then_some(through))
    });
    let Some(shared) = history::last_shared(source, marks).await? else { return Ok(()) };
    progress.restored(log, &shared);
    let restore = FeedCommand::Restore(Restore {
        agreement_id: agreement.to_owned(),
        source_log: log.to_owned(),
        lost: feed.through(log),
        shared,
    });
    own.change(|feed| decide(feed, restore.clone())).await
}

impl Feeding for Stored<'_, Feed> {
    async fn wanted(&self) -> Result<Option<Vec<String>>, ReactError> {
        let (agreement, _) = self.service.agreements.get::<Rejection>(self.id).await?;
        Ok(agreement.in_force().map(|terms| terms.event_types.clone()))
    }
}

impl Regional {
    /// An agreement's feed, which this reactor changes.
    pub(super) fn feed_of<'a>(&'a self, id: &'a str) -> Stored<'a, Feed> {
        let (aggregates, method) = (&self.feeds, "ChangeFeed");
        Stored { service: self, aggregates, id, actor: NAME, method }
    }
}

/// How far a source was looked through.
pub struct Reader {
    /// Up to what the feed knows of.
    pub offered: Cursor,
    seen: Cursor,
}

/// What the feed is told: records of one epoch were looked through.
pub struct Looked {
    pub after: Cursor,
    /// Those that belong into it.
    pub positions: Vec<u64>,
    pub through: Cursor,
}

impl Reader {
    pub fn from(through: Cursor) -> Self {
        Reader { offered: through.clone(), seen: through }
    }

    /// Looks at the records that come next.
    pub fn look(
        &mut self,
        records: &[Arc<Record>],
        wanted: impl Fn(&Record) -> bool,
    ) -> Vec<Looked> {
        let mut found = Vec::new();
        for run in records.chunk_by(|a, b| a.epoch == b.epoch) {
            let (Some(first), Some(last)) = (run.first(), run.last()) else { continue };
            if first.epoch != self.seen.epoch && self.seen != self.offered {
                found.push(self.offer(Vec::new()));
            }
            self.seen = Cursor::at(last);
            let positions: Vec<_> =
                run.iter().filter(|record| wanted(record)).map(|record| record.position).collect();
            if !positions.is_empty() || last.position - self.offered.position >= NOTE_EVERY {
                found.push(self.offer(positions));
            }
        }
        found
    }

    fn offer(&mut self, positions: Vec<u64>) -> Looked {
        let after = std::mem::replace(&mut self.offered, self.seen.clone());
        Looked { after, positions, through: self.seen.clone() }
    }
}
