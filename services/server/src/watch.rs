//! What there is, then what changes, for anybody who watches.
//!
//! What a change leaves is read once, for all who watch: a thousand watchers
//! cost the database no more than one. Each then looks at it with its own eyes
//! ([`Watched::seen`]). Whoever is behind what is kept reads for itself, from
//! the database, at its own pace.

use std::collections::{BTreeSet, VecDeque};
use std::sync::Arc;
use std::time::Duration;

use futures::StreamExt;
use prost::{DecodeError, Name};
use samen_log::record::Position;
use samen_log::{Cursor, Follow, FollowError, Item, Log, Record, Store, supervise};
use samen_proto::log::{CaughtUp, Heartbeat};
use tokio::sync::watch;
use tokio::time::sleep;
use tonic::Status;

use crate::core::Core;
use crate::deployment::Deployment;
use crate::identity::Caller;
use crate::paging::{Page, PageEnd};
use crate::reply;
use crate::streams::{Outgoing, outgoing};

/// Records that are looked at together, at most: for all who watch, and for
/// one who is behind (which is what a slow reader holds).
const BATCH: usize = 500;
const OWN_BATCH: usize = 100;
/// Rows that are kept for who is not quite there yet; a batch counts for one
/// more. Some megabytes at most.
const KEPT: usize = 4_096;
/// How long changes are gathered after some were told: the first one of a
/// quiet time goes out at once, and a busy time wakes nobody more often.
const GATHER: Duration = Duration::from_millis(50);
/// How long to rest when changes could not be read.
const REST: Duration = Duration::from_secs(1);

/// What a service lets its callers watch. `self` is one who watches.
pub trait Watched: Send + Sync + 'static {
    /// What changed, as it is now.
    type Row: Send + Sync + 'static;
    /// What the stream sends.
    type Message: Name + Send + 'static;

    /// What a record is about. `None` where the reader does not look at it.
    fn subject(record: &Record) -> Result<Option<String>, DecodeError>;

    /// These as they are now, whoever watches.
    fn rows(
        store: &Store,
        ids: &BTreeSet<String>,
    ) -> impl Future<Output = sqlx::Result<Vec<Self::Row>>> + Send;

    /// What there is to see: the page after `from`.
    fn page(
        &self,
        store: &Store,
        from: &PageEnd,
    ) -> impl Future<Output = sqlx::Result<Page<Self::Message>>> + Send;

    /// What this watcher is told of what changed. `None`: nothing.
    fn seen(&self, row: &Self::Row) -> Option<Self::Message>;

    fn caught_up(mark: CaughtUp) -> Self::Message;
    fn heartbeat(beat: Heartbeat) -> Self::Message;
}

/// The changes of a store that follows one log, for all who watch.
pub struct Changes<W: Watched> {
    log: Log,
    store: Store,
    recent: watch::Sender<Recent<W::Row>>,
}

/// The last changes, one batch after another.
struct Recent<R> {
    /// Up to where changes were read.
    newest: Cursor,
    batches: VecDeque<Arc<Batch<R>>>,
    kept: usize,
}

/// What records after a position, up to another, have left.
struct Batch<R> {
    after: u64,
    at: Cursor,
    rows: Vec<R>,
}

/// What comes after a position.
enum Next<R> {
    Batch(Arc<Batch<R>>),
    /// Nothing yet.
    Nothing,
    /// More than is kept.
    More,
}

// === impl Recent ===

impl<R> Recent<R> {
    fn new(newest: Cursor) -> Self {
        Recent { newest, batches: VecDeque::new(), kept: 0 }
    }

    fn push(&mut self, batch: Batch<R>) {
        self.newest = batch.at.clone();
        self.kept += batch.rows.len() + 1;
        self.batches.push_back(Arc::new(batch));
        while self.kept > KEPT {
            let Some(oldest) = self.batches.pop_front() else { break };
            self.kept -= oldest.rows.len() + 1;
        }
    }

    /// The batch with what follows a position; it may begin before it.
    fn after(&self, position: u64) -> Next<R> {
        let from = self.batches.front().map_or(self.newest.position, |first| first.after);
        if position < from {
            return Next::More;
        }
        let next = self.batches.partition_point(|batch| batch.at.position <= position);
        self.batches.get(next).map_or(Next::Nothing, |batch| Next::Batch(batch.clone()))
    }
}

// === impl Changes ===

impl<W: Watched> Changes<W> {
    /// Begins to read what changes, once the store is built; ends, like the
    /// streams, at shutdown.
    pub fn start(core: &Core) -> Arc<Self> {
        let (log, store) = (core.log.clone(), core.store.clone());
        let recent = watch::Sender::new(Recent::new(store.cursor(log.id())));
        let changes = Arc::new(Changes { log, store, recent });
        let shutdown = core.deployment.shutdown.clone();
        let core = core.clone();
        let reader = changes.clone();
        supervise("watch", shutdown.clone(), async move {
            tokio::select! {
                () = shutdown.cancelled() => {}
                () = async { core.built().await; reader.run().await } => {}
            }
        });
        changes
    }

    async fn run(&self) {
        // Nobody could watch before.
        self.recent.send_replace(Recent::new(self.store.cursor(self.log.id())));
        loop {
            if let Err(error) = self.read().await {
                tracing::warn!(%error, "changes cannot be read");
            }
            sleep(REST).await;
        }
    }

    /// Reads changes, once for all, until something fails.
    async fn read(&self) -> Result<(), Status> {
        let from = self.recent.borrow().newest.clone();
        let mut items = self.log.follow(from).ready_chunks(BATCH);
        while let Some(items) = items.next().await {
            let items: Vec<Item> =
                items.into_iter().collect::<Result<_, _>>().map_err(reply::follow)?;
            let all = items.len() < BATCH;
            let records: Vec<_> = items.into_iter().filter_map(record).collect();
            let Some(last) = records.last() else { continue };
            let at = Cursor::at(last);
            // Who begins to watch meanwhile is behind, and reads for itself.
            if self.recent.receiver_count() == 0 {
                self.recent.send_replace(Recent::new(at));
                continue;
            }
            let rows = self.rows(&records, &at).await?;
            self.recent.send_modify(|recent| {
                let after = recent.newest.position;
                recent.push(Batch { after, at, rows });
            });
            if all {
                sleep(GATHER).await;
            }
        }
        Ok(())
    }

    /// What these records have left, which end at a place.
    async fn rows(&self, records: &[Arc<Record>], at: &Cursor) -> Result<Vec<W::Row>, Status> {
        let mut ids = BTreeSet::new();
        for record in records {
            ids.extend(W::subject(record).map_err(reply::unavailable)?);
        }
        self.store.see(self.log.id(), at).await;
        if ids.is_empty() {
            return Ok(Vec::new());
        }
        W::rows(&self.store, &ids).await.map_err(reply::unavailable)
    }

    /// What follows a place, at most so many records, for one who cannot be
    /// given what is kept: who is behind it, or in the middle of a batch.
    async fn own(&self, after: &Cursor, limit: usize) -> Result<Batch<W::Row>, Status> {
        let limit = limit.min(OWN_BATCH);
        let records = self.log.read(after.position, limit).await.map_err(reply::unavailable)?;
        let at = records.last().map(|last| Cursor::at(last));
        let at = at.ok_or_else(|| reply::unavailable("records that were there are gone"))?;
        let rows = self.rows(&records, &at).await?;
        Ok(Batch { after: after.position, at, rows })
    }

    /// What there is, a caught-up mark, then what changes; only what changes
    /// for one who resumes.
    pub fn watch(
        self: &Arc<Self>,
        watched: W,
        resume_after: Option<Position>,
        deployment: &Deployment,
        caller: &Caller,
    ) -> Result<Outgoing<W::Message>, Status> {
        let id: Arc<str> = self.log.id().into();
        let resume = resume_after.map(|position| Cursor::from_position(&id, position));
        let resume = resume.transpose().map_err(reply::follow)?;
        let (told, heard) = watch::channel(resume.clone().unwrap_or_default());
        let changes = self.clone();
        let items = async_stream::try_stream! {
            let Changes { log, store, recent } = &*changes;
            // Before the first look: from here on, changes are kept.
            let mut recent = recent.subscribe();
            let mut at = match resume {
                Some(from) => {
                    known(log, &from).await?;
                    from
                }
                None => {
                    // Whatever changes while this is read comes again after it:
                    // the mark is where the store was before.
                    let mark = store.cursor(log.id());
                    let mut from = Some(PageEnd::before_all(mark.position));
                    while let Some(place) = from {
                        let page = watched.page(store, &place).await.map_err(reply::unavailable)?;
                        for item in page.items {
                            yield item;
                        }
                        from = page.end;
                    }
                    mark
                }
            };
            let live = log.head();
            let mut caught_up = false;
            loop {
                told.send_replace(at.clone());
                if !caught_up && at.position >= live {
                    caught_up = true;
                    yield W::caught_up(CaughtUp { position: Some(at.to_position(log.id())) });
                }
                let next = recent.borrow_and_update().after(at.position);
                let batch = match next {
                    // To its end and no further: the next one is shared again.
                    Next::Batch(batch) if batch.after < at.position => {
                        let left = (batch.at.position - at.position) as usize;
                        Arc::new(changes.own(&at, left).await?)
                    }
                    Next::Batch(batch) => batch,
                    Next::More => Arc::new(changes.own(&at, OWN_BATCH).await?),
                    Next::Nothing => {
                        if recent.changed().await.is_err() {
                            return;
                        }
                        continue;
                    }
                };
                for row in &batch.rows {
                    if let Some(item) = watched.seen(row) {
                        yield item;
                    }
                }
                at = batch.at.clone();
            }
        };
        // Not where the log is: who resumes there would miss what is on its way.
        let place = move || heard.borrow().to_position(&id);
        let heartbeat = |position| W::heartbeat(Heartbeat { position: Some(position) });
        Ok(outgoing(items, place, heartbeat, deployment, caller))
    }
}

/// Refuses a place that is not in the log's history.
pub(crate) async fn known(log: &Log, at: &Cursor) -> Result<(), Status> {
    if log.knows(at).await.map_err(reply::follow)? {
        return Ok(());
    }
    let Cursor { epoch, position, .. } = *at;
    let log = log.id().to_owned();
    Err(reply::follow(FollowError::NotInHistory { log, epoch, position }))
}

fn record(item: Item) -> Option<Arc<Record>> {
    match item {
        Item::Record(record) => Some(record),
        Item::CaughtUp(_) => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(position: u64) -> Cursor {
        Cursor { epoch: 1, position, hash: None }
    }

    /// What comes after a position: where the batch ends.
    fn next(recent: &Recent<u64>, position: u64) -> Result<u64, &'static str> {
        match recent.after(position) {
            Next::Batch(batch) => Ok(batch.at.position),
            Next::Nothing => Err("nothing"),
            Next::More => Err("more"),
        }
    }

    #[test]
    fn a_position_is_followed_by_the_batch_that_goes_on_after_it() {
        let mut recent = Recent::new(at(10));
        assert_eq!(next(&recent, 9), Err("more"));
        assert_eq!(next(&recent, 10), Err("nothing"));
        // One that was told of a later place than changes were read up to.
        assert_eq!(next(&recent, 12), Err("nothing"));
        recent.push(Batch { after: 10, at: at(13), rows: vec![1, 2, 3] });
        recent.push(Batch { after: 13, at: at(14), rows: vec![] });
        for (position, expected) in
            [(9, Err("more")), (10, Ok(13)), (12, Ok(13)), (13, Ok(14)), (14, Err("nothing"))]
        {
            assert_eq!(next(&recent, position), expected, "{position}");
        }
    }

    #[test]
    fn what_is_kept_is_bounded_and_connects() {
        let mut recent = Recent::new(at(0));
        for position in 1..=10_000 {
            let rows = vec![position; (position % 7) as usize];
            recent.push(Batch { after: position - 1, at: at(position), rows });
            let kept: usize = recent.batches.iter().map(|batch| batch.rows.len() + 1).sum();
            assert_eq!(kept, recent.kept);
            assert!(kept <= KEPT);
        }
        let first = recent.batches.front().unwrap().after;
        assert_eq!(next(&recent, first - 1), Err("more"));
        for position in first..10_000 {
            assert_eq!(next(&recent, position), Ok(position + 1));
        }
        // A batch that is too large by itself is for who reads for themselves.
        recent.push(Batch { after: 10_000, at: at(10_001), rows: vec![0; KEPT] });
        assert_eq!(next(&recent, 10_000), Err("more"));
        assert_eq!(next(&recent, 10_001), Err("nothing"));
    }
}
