//! What this service does on others' events. Reconcilers all: each begins from
//! what this service's log says, and doing something twice changes nothing.
//!
//! - [`assign`]: gives shared records their place in each agreement's feed;
//! - [`watch`]: notices what the sources erase;
//! - [`tell`]: finds who has received what is gone, and tells them;
//! - [`history`]: where a source goes on that was restored from a backup;
//! - [`own`]: what they read and write of this service's log;
//! - [`progress`]: how far they are, for operators.
//!
//! How they follow is [`samen_log::react`]'s.

use std::sync::Arc;
use std::time::Duration;

use samen_log::{CommandError, Event, Follow, FollowError, Record, supervise};
use samen_proto::operations::TaskKind;

use self::progress::Progress;
use crate::Regional;
use crate::domain::Rejection;

pub mod assign;
mod history;
pub mod own;
pub mod progress;
mod tell;
#[cfg(test)]
mod tests;
pub mod watch;

/// Records of a log that may be looked through without a match before that is
/// noted, so that a restart does not look through them again.
const NOTE_EVERY: u64 = 10_000;
/// How often what is stored is looked at although nothing changed.
const PERIOD: Duration = Duration::from_secs(5);

/// Starts all of them; they end with the deployment. Each runs in one process
/// at a time; two that do the same do it once, at the price of looking again.
pub fn start(service: &Regional, sources: Vec<Arc<dyn Follow>>) {
    let from = sources.clone();
    lead(service, assign::NAME, move |service, progress| {
        assign::run(service, from.clone(), progress.into())
    });
    lead(service, watch::NAME, move |service, progress| {
        watch::run(service, sources.clone(), progress)
    });
    lead(service, tell::NAME, tell::run);
}

/// Runs a reactor while this process holds its lease.
fn lead<F: Future<Output = ()> + Send + 'static>(
    service: &Regional,
    name: &'static str,
    run: impl Fn(Regional, Progress) -> F + Send + Sync + 'static,
) {
    let shutdown = service.deployment.shutdown.clone();
    let service = service.clone();
    supervise(name, shutdown.clone(), async move {
        let task = service.tasks.add(TaskKind::Reactor, name);
        let work = || run(service.clone(), Progress::new(task.clone()));
        service.leases.hold(name, &task, &shutdown, work).await;
    });
}

/// Why a reactor begins again.
#[derive(Debug, thiserror::Error)]
pub enum ReactError {
    #[error(transparent)]
    Follow(#[from] FollowError),
    #[error(transparent)]
    Command(#[from] CommandError<Rejection>),
    #[error("the store cannot be read: {0}")]
    Store(#[from] sqlx::Error),
    /// A record that this release does not know: a newer one wrote it.
    #[error("record {position} of type {kind} cannot be read")]
    Unreadable { position: u64, kind: String },
}

impl ReactError {
    /// Whether somebody else went on first: this one looks again.
    fn is_elsewhere(&self) -> bool {
        let ReactError::Command(error) = self else { return false };
        matches!(error, CommandError::Rejected(Rejection::Elsewhere { .. }))
    }
}

/// A record of a stream that holds nothing but these events.
fn read<E: Event>(record: &Record) -> Result<E, ReactError> {
    let event = E::decode(&record.r#type, &record.data).ok().flatten();
    let (position, kind) = (record.position, &record.r#type);
    event.ok_or_else(|| ReactError::Unreadable { position, kind: kind.clone() })
}
