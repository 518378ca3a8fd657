//! Gives shared records of the other services their place in each agreement's
//! feed.
//!
//! It begins from what the feed's own stream says. One task follows one source
//! for one agreement, each by itself; an agreement that is new begins with the
//! source's history.

use std::collections::HashSet;
use std::sync::Arc;

use futures::StreamExt;
use samen_log::{Aggregate, Cursor, Follow, FollowError, Item, Record};
use tokio::task::JoinSet;

use super::progress::Progress;
use super::{NOTE_EVERY, PERIOD, REST, ReactError, command, history, read};
use crate::Regional;
use crate::domain::Rejection;
use crate::domain::feed::{Assign, Feed, FeedCommand, FeedEvent, Restore, decide};
use crate::projection::queries;

pub const NAME: &str = "assigner";
/// Records of a source that are offered together.
const BATCH: usize = 500;

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
    let shutdown = service.deployment.shutdown.clone();
    let log = source.log();
    loop {
        let reading = read_on(&service, &agreement, source.as_ref(), &progress);
        let result = tokio::select! {
            () = shutdown.cancelled() => return,
            result = reading => result,
        };
        let failed = match result {
            Ok(()) => {
                progress.ended(log, &agreement);
                return;
            }
            Err(ReactError::Follow(FollowError::NotInHistory { .. })) => {
                settle(&service, &agreement, source.as_ref(), &progress).await.err()
            }
            Err(error) => Some(error),
        };
        // Where others were faster, this one only has to look again.
        if let Some(error) = failed.filter(|error| !error.is_elsewhere()) {
            tracing::warn!(%error, agreement, log, "assigning begins again");
            progress.failed(log, &agreement, error);
        }
        tokio::select! {
            () = shutdown.cancelled() => return,
            () = tokio::time::sleep(REST) => {}
        }
    }
}

/// Follows from where the feed stands, until the agreement ends.
async fn read_on(
    service: &Regional,
    agreement: &str,
    source: &dyn Follow,
    progress: &Progress,
) -> Result<(), ReactError> {
    let (feed, _) = service.feeds.get::<Rejection>(agreement).await?;
    let mut reader = Reader::from(feed.through(source.log()));
    let mut batches = source.follow(reader.offered.clone()).ready_chunks(BATCH);
    while let Some(batch) = batches.next().await {
        let (agreed, _) = service.agreements.get::<Rejection>(agreement).await?;
        let Some(terms) = agreed.in_force() else { return Ok(()) };
        let mut records = Vec::new();
        let mut failed = None;
        for item in batch {
            match item {
                Ok(Item::Record(record)) => records.push(record),
                Ok(Item::CaughtUp(_)) => {}
                Err(error) => failed = Some(error),
            }
        }
        let wanted = |record: &Record| terms.event_types.contains(&record.r#type);
        for Looked { after, positions, through } in reader.look(&records, wanted) {
            let assign = Assign {
                agreement_id: agreement.to_owned(),
                source_log: source.log().to_owned(),
                after,
                source_positions: positions,
                through,
            };
            service.change_feed(agreement, FeedCommand::Assign(assign)).await?;
        }
        if let Some(error) = failed {
            return Err(error.into());
        }
        progress.saw(source.log(), agreement, reader.seen.clone());
    }
    Err(history::ended(source).into())
}

/// Withdraws the places of records that are not in the source's history any
/// more, if there are such; an agreement that has ended has places too.
pub async fn settle(
    service: &Regional,
    agreement: &str,
    source: &dyn Follow,
    progress: &Progress,
) -> Result<(), ReactError> {
    let log = source.log();
    let (feed, version) = service.feeds.get::<Rejection>(agreement).await?;
    let lost = feed.through(log);
    let stream = format!("{}/{agreement}", Feed::KIND);
    let marks = history::marks(&service.log, &stream, version, |record| {
        let event: FeedEvent = read(record)?;
        let (about, through) = event.through();
        Ok((about == log).then_some(through))
    });
    let Some(shared) = history::last_shared(source, marks).await? else { return Ok(()) };
    let (agreement_id, source_log) = (agreement.to_owned(), log.to_owned());
    tracing::warn!(agreement, log, position = shared.position, "a source was restored");
    progress.restored(log, &shared);
    let restore = Restore { agreement_id, source_log, lost, shared };
    service.change_feed(agreement, FeedCommand::Restore(restore)).await
}

impl Regional {
    async fn change_feed(&self, agreement: &str, change: FeedCommand) -> Result<(), ReactError> {
        let decide = |feed: &_, _| decide(feed, change.clone()).map(Into::into);
        self.feeds.execute(command(NAME, "ChangeFeed"), agreement, decide).await?;
        Ok(())
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
