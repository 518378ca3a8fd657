//! Projection stores: disposable tables that follow logs.
//!
//! A store's name carries a fingerprint of its tables and version, and a
//! number. A release with other tables, an operator, or a log whose history is
//! another than the one that was followed, has a new one built beside the one
//! that serves; queries go over to it when it has caught up, and the old one is
//! dropped when no process uses it any more.
//!
//! - this file: what queries and services see;
//! - [`generation`]: one set of tables, its checkpoints, and how both are
//!   written together;
//! - [`keeper`]: which generations there are, are built, serve and go.

use std::collections::HashMap;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, OnceLock, PoisonError, RwLock};
use std::time::Duration;

use futures::future::BoxFuture;
use sha2::{Digest, Sha256};
use tokio::sync::{Notify, watch};
use tokio_util::sync::CancellationToken;

use crate::db::{Location, Schema, Tx};
use crate::follow::{Cursor, Follow};
use crate::lease::Leases;
use crate::record::{Position, Record};
use crate::tasks::Tasks;

mod generation;
mod keeper;

use generation::Generation;
pub use keeper::{Shown, ShownState};

/// How long a log that did not answer is left alone.
const ASK_AGAIN: Duration = Duration::from_millis(500);

/// What records do to a store's tables.
pub trait Projection: Send + Sync + 'static {
    /// The tables: statements that may run twice, with `{s}` before names.
    fn tables(&self) -> &'static str;

    /// Raised when `apply` gives other rows in the same tables.
    fn version(&self) -> u32;

    /// Writes what the records of one log do, in their order. Called again
    /// with the same records when its transaction was not committed.
    fn apply<'a>(
        &'a self,
        tx: &'a mut Tx,
        schema: &'a Schema,
        records: &'a [Arc<Record>],
    ) -> BoxFuture<'a, Result<(), ApplyError>>;
}

/// Why records could not be projected. None of their batch is.
#[derive(Debug, thiserror::Error)]
pub enum ApplyError {
    #[error(transparent)]
    Storage(#[from] sqlx::Error),
    #[error("record {position} of type {kind} cannot be projected: {reason}")]
    Record { position: u64, kind: String, reason: String },
}

/// Why a query cannot see as much as was asked.
#[derive(Debug, thiserror::Error)]
pub enum WaitError {
    #[error("log {0} is not followed here")]
    UnknownLog(String),
    #[error("epoch {asked} of log {log} is not the present one, {now}")]
    OtherEpoch { log: String, asked: u64, now: u64 },
}

/// A store and how far it has followed each log. Clones share everything.
#[derive(Clone)]
pub struct Store {
    inner: Arc<Inner>,
}

struct Inner {
    location: Location,
    leases: Leases,
    tasks: Tasks,
    projection: Arc<dyn Projection>,
    tables: String,
    fingerprint: String,
    /// Answers queries.
    serving: RwLock<Arc<Generation>>,
    /// How far that one is.
    seen: watch::Sender<Checkpoints>,
    /// What is followed.
    follows: OnceLock<Vec<Arc<dyn Follow>>>,
    /// Who waits for something to be projected, and how it is told that
    /// somebody does.
    waiting: AtomicUsize,
    waits: Notify,
    /// Generations that were begun, for the keeper to take up.
    begun: Mutex<Vec<Generation>>,
    /// Asks the keeper to look at once.
    look: Notify,
}

/// The last record projected, by log.
pub type Checkpoints = HashMap<String, Cursor>;

// === impl ApplyError ===

impl ApplyError {
    pub fn of(record: &Record, reason: impl ToString) -> Self {
        ApplyError::Record {
            position: record.position,
            kind: record.r#type.clone(),
            reason: reason.to_string(),
        }
    }
}

// === impl Store ===

impl Store {
    /// Opens the store for this projection; makes it where it is new.
    pub async fn open(
        location: &Location,
        leases: &Leases,
        tasks: &Tasks,
        projection: impl Projection,
    ) -> sqlx::Result<Self> {
        let tables = format!("{}{}", generation::TABLES, projection.tables());
        let fingerprint = fingerprint(&tables, projection.version());
        let projection: Arc<dyn Projection> = Arc::new(projection);
        let first = keeper::first(location, leases, &fingerprint, &tables, &projection).await?;
        let seen = watch::Sender::new(first.seen());
        Ok(Store {
            inner: Arc::new(Inner {
                location: location.clone(),
                leases: leases.clone(),
                tasks: tasks.clone(),
                projection,
                tables,
                fingerprint,
                serving: RwLock::new(Arc::new(first)),
                seen,
                follows: OnceLock::new(),
                waiting: AtomicUsize::new(0),
                waits: Notify::new(),
                begun: Mutex::default(),
                look: Notify::new(),
            }),
        })
    }

    /// The tables that queries read at this moment. Asked for anew for each
    /// query: a store that was built anew takes the place of the one before.
    pub fn schema(&self) -> Schema {
        self.inner.serving().schema.clone()
    }

    /// Changes whenever something was projected.
    pub fn watch(&self) -> watch::Receiver<Checkpoints> {
        self.inner.seen.subscribe()
    }

    /// How far a log was followed.
    pub fn cursor(&self, log: &str) -> Cursor {
        self.inner.seen.borrow().get(log).cloned().unwrap_or_default()
    }

    /// Waits until the store has seen this much of a log, whichever process
    /// projects. The caller's deadline bounds it.
    pub async fn wait_for(&self, at_least: &Position) -> Result<(), WaitError> {
        let Position { log, epoch, position } = at_least;
        if self.inner.follows.get().is_some_and(|logs| logs.iter().all(|l| l.log() != log)) {
            return Err(WaitError::UnknownLog(log.clone()));
        }
        if *position == 0 {
            return Ok(());
        }
        let mut seen = self.inner.seen.subscribe();
        let _waiting = Waiting::new(&self.inner);
        let now = loop {
            if let Some(now) = seen.borrow_and_update().get(log) {
                if now.epoch > *epoch {
                    break now.epoch;
                }
                if now.epoch == *epoch && now.position >= *position {
                    return Ok(());
                }
            }
            if seen.changed().await.is_err() {
                std::future::pending::<()>().await;
            }
        };
        // What was restored stands before everything of a later epoch.
        let at = Cursor { epoch: *epoch, position: *position, hash: None };
        if self.inner.knows(log, &at).await {
            return Ok(());
        }
        Err(WaitError::OtherEpoch { log: log.clone(), asked: *epoch, now })
    }

    /// Waits until the store has seen a place that the log itself gave: it may
    /// be of an earlier epoch than the one that the store has come to.
    pub async fn see(&self, log: &str, at: &Cursor) {
        let seen = |there: &Cursor| there.epoch >= at.epoch && there.position >= at.position;
        if at.position > 0 && !seen(&self.cursor(log)) {
            let mut projected = self.inner.seen.subscribe();
            let _waiting = Waiting::new(&self.inner);
            // Fails only without a store.
            let _ = projected.wait_for(|logs| logs.get(log).is_some_and(seen)).await;
        }
    }

    /// Follows the logs until `shutdown`: restarts after each failure, builds
    /// what has to be built and drops what nobody uses.
    pub fn run(
        self,
        logs: Vec<Arc<dyn Follow>>,
        shutdown: CancellationToken,
    ) -> impl Future<Output = ()> + Send {
        // Known from here on, before the task has begun.
        let _ = self.inner.follows.set(logs.clone());
        keeper::run(self.inner, logs, shutdown)
    }

    /// Has the store built anew beside the one that serves; gives the name of
    /// the one that is being built.
    pub async fn rebuild(&self, reason: &str) -> sqlx::Result<String> {
        let name = keeper::begin_another(&self.inner, reason).await?;
        self.inner.look.notify_one();
        Ok(name)
    }

    /// The stores that there are, of this release and of others.
    pub async fn list(&self) -> sqlx::Result<Vec<Shown>> {
        keeper::list(&self.inner).await
    }
}

// === impl Inner ===

impl Inner {
    fn serving(&self) -> Arc<Generation> {
        self.serving.read().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Whether a log that is followed holds the record that the cursor saw, as
    /// far as it can be asked. While it does not answer, it is asked again.
    async fn knows(&self, log: &str, cursor: &Cursor) -> bool {
        let follows = self.follows.get().into_iter().flatten();
        let Some(source) = follows.into_iter().find(|source| source.log() == log) else {
            return false;
        };
        loop {
            match source.knows(cursor).await {
                Ok(known) => return known,
                Err(error) => tracing::warn!(%error, "whether a log knows a position is not said"),
            }
            tokio::time::sleep(ASK_AGAIN).await;
        }
    }

    /// Tells those who wait how far a generation is, if it is the one that
    /// serves.
    fn publish(&self, of: &Arc<Generation>) {
        let serving = self.serving.read().unwrap_or_else(PoisonError::into_inner);
        if Arc::ptr_eq(&serving, of) {
            self.seen.send_if_modified(|seen| of.update(seen));
        }
    }

    /// Queries read this one from here on.
    fn switch(&self, to: &Arc<Generation>) {
        let mut serving = self.serving.write().unwrap_or_else(PoisonError::into_inner);
        *serving = to.clone();
        self.seen.send_replace(to.seen());
    }
}

/// Somebody waits until this is dropped.
struct Waiting<'a>(&'a Inner);

impl<'a> Waiting<'a> {
    fn new(inner: &'a Inner) -> Self {
        inner.waiting.fetch_add(1, Ordering::Relaxed);
        inner.waits.notify_waiters();
        Waiting(inner)
    }
}

impl Drop for Waiting<'_> {
    fn drop(&mut self) {
        self.0.waiting.fetch_sub(1, Ordering::Relaxed);
    }
}

fn fingerprint(tables: &str, version: u32) -> String {
    let mut sha = Sha256::new();
    sha.update(version.to_be_bytes());
    sha.update(tables.as_bytes());
    sha.finalize().iter().take(6).map(|byte| format!("{byte:02x}")).collect()
}
