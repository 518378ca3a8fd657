//! Tells people what happened: a reactor that follows the service's own log.
//!
//! It needs no cursor of its own: it goes on with the event that was told of
//! last. All that stands before that one was told of, since notices are
//! appended in the order of their events, many together, whole or not at all.
//! What it looks through from there to the log's end after a start are only
//! records of the types that somebody is told of, so that what tells nobody,
//! such as a million imported requests, costs a scan and is not read.
//!
//! Each notice is the first record of its stream, by an id that is made from
//! the event and the recipient: two processes that tell the same, tell it
//! once, and the one that comes second looks again.

use std::collections::BTreeSet;
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use futures::{StreamExt, TryStreamExt};
use samen_log::scan::Wanted;
use samen_log::{
    Aggregate, Append, AppendError, Cursor, Expected, Follow, FollowError, Item, NewEvent, Record,
    Task, supervise,
};
use samen_proto::notices::NoticeKind;
use samen_proto::operations::TaskKind;

use super::notice::{self, Notice, NoticeEvent};
use super::table;
use crate::core::Core;

/// What this reactor is called, in tasks, leases and records.
pub const NAME: &str = "notices";
/// Records that are looked at together.
const BATCH: usize = 200;
/// Notices in one append: half of what one command may hold.
const APPEND: usize = 500;
/// How long it rests after a failure.
const REST: Duration = Duration::from_secs(1);

/// Who is told of what: the service's own rule.
pub trait Tells: Clone + Send + Sync + 'static {
    /// The full names of the events that somebody may be told of.
    fn kinds() -> Vec<String>;

    /// Who is told of this record, each once. It may be asked more than once,
    /// and answers by what the log says up to the record.
    fn told(&self, record: &Record) -> impl Future<Output = Result<Vec<Told>, Failure>> + Send;
}

/// Somebody is told something.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Told {
    /// Pseudonymous id; empty for whoever has the secret of what it is about.
    pub recipient: String,
    /// The stream that it is about.
    pub about: String,
    pub kind: NoticeKind,
}

/// Why nobody can be told now.
#[derive(Debug, thiserror::Error)]
pub enum Failure {
    #[error(transparent)]
    Follow(#[from] FollowError),
    #[error(transparent)]
    Append(#[from] AppendError),
    #[error("the log or the store cannot be read: {0}")]
    Storage(#[from] sqlx::Error),
    #[error("what the service knows cannot be read: {0}")]
    Unavailable(String),
    #[error("record {position} of type {kind} cannot be read")]
    Unreadable { position: u64, kind: String },
}

impl Failure {
    pub fn unreadable(record: &Record) -> Self {
        Failure::Unreadable { position: record.position, kind: record.r#type.clone() }
    }

    /// Whether another process told first: this one looks again.
    fn is_elsewhere(&self) -> bool {
        matches!(self, Failure::Append(AppendError::Conflict { .. }))
    }
}

/// Starts telling; it ends with the deployment. One process does it at a time.
pub fn start<T: Tells>(core: &Core, tells: T) {
    let (core, shutdown) = (core.clone(), core.deployment.shutdown.clone());
    supervise(NAME, shutdown.clone(), async move {
        let task = core.tasks.add(TaskKind::Reactor, NAME);
        let work = || run(core.clone(), tells.clone(), task.clone());
        core.leases.hold(NAME, &task, &shutdown, work).await;
    });
}

async fn run<T: Tells>(core: Core, tells: T, task: Task) {
    let shutdown = &core.deployment.shutdown;
    loop {
        let result = tokio::select! {
            () = shutdown.cancelled() => return,
            result = follow(&core, &tells, &task) => result,
        };
        if let Err(error) = result
            && !error.is_elsewhere()
        {
            tracing::warn!(%error, log = core.log.id(), "telling people begins again");
            task.failed(error);
        }
        tokio::select! {
            () = shutdown.cancelled() => return,
            () = tokio::time::sleep(REST) => {}
        }
    }
}

/// Goes on with what was told of last, until something fails.
async fn follow<T: Tells>(core: &Core, tells: &T, task: &Task) -> Result<(), Failure> {
    let log = &core.log;
    let newest = log.newest().await?.unwrap_or_default();
    core.see(&newest).await;
    let last = table::last_told(&core.store.schema()).await?;
    let kinds = T::kinds();
    // The last one itself too: it may have been told to some of many.
    let from = last.position.saturating_sub(1);
    let mut pages = pin!(log.scan(Wanted::Kinds(kinds.clone()), from, newest.position));
    while let Some(page) = pages.try_next().await? {
        for records in page.records.chunks(BATCH) {
            tell(core, tells, records, &last.ids).await?;
        }
        let seen = Cursor { epoch: newest.epoch, position: page.seen, hash: None };
        task.saw(log.id(), &seen, log.head());
    }
    task.running();
    let mut batches = log.follow(newest).ready_chunks(BATCH);
    while let Some(items) = batches.next().await {
        let (mut records, mut seen) = (Vec::new(), None);
        for item in items {
            match item? {
                Item::Record(record) => {
                    seen = Some(Cursor::at(&record));
                    records.extend(kinds.contains(&record.r#type).then_some(record));
                }
                Item::CaughtUp(at) => seen = Some(at),
            }
        }
        tell(core, tells, &records, &last.ids).await?;
        if let Some(seen) = seen {
            task.saw(log.id(), &seen, log.head());
        }
    }
    Ok(())
}

/// Tells of these records, but for what was told before.
async fn tell<T: Tells>(
    core: &Core,
    tells: &T,
    records: &[Arc<Record>],
    before: &BTreeSet<String>,
) -> Result<(), Failure> {
    let mut notices = Vec::new();
    for record in records {
        for told in tells.told(record).await? {
            let sent = notice::of(record, told);
            if !before.contains(&sent.id) {
                notices.push((format!("{}/{}", Notice::KIND, sent.id), NoticeEvent::from(sent)));
            }
        }
    }
    for notices in notices.chunks(APPEND) {
        let new = |stream: &String| Expected { stream: stream.clone(), version: 0 };
        let append = Append {
            actor: NAME.to_owned(),
            expect: notices.iter().map(|(stream, _)| new(stream)).collect(),
            events: notices.iter().map(|(stream, event)| NewEvent::of(stream, event)).collect(),
            ..Append::default()
        };
        core.log.append(append).await?;
    }
    Ok(())
}
