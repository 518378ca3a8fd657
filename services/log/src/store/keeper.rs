//! Which generations of a store there are, are built, serve and go.
//!
//! A reconciler: what it does follows from the stores that exist and from what
//! their own tables say. Each process has one. They agree without talking: the
//! newest store that is ready serves, a newer one is being built, and whatever
//! no process uses is dropped.

use std::collections::{BTreeMap, HashSet};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, PoisonError};
use std::time::{Duration, Instant};

use samen_proto::operations::TaskKind;
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;
use tokio_util::task::AbortOnDropHandle;

use super::generation::{self, Generation, GenerationRows, KIND};
use super::{Inner, Projection};
use crate::db::{Location, within};
use crate::follow::{Cursor, Follow, FollowError};
use crate::lease::Leases;
use crate::projector::Lane;
use crate::tasks::Task;

/// How often the stores are looked at although nobody asked.
const LOOK: Duration = Duration::from_secs(1);
/// How long a look may take, and whatever else is asked of the stores' own
/// tables: it is done again.
const LOOK_TIMEOUT: Duration = Duration::from_secs(10);
/// How long queries that began before a switch may go on reading the store
/// that served until then: longer than any call may take.
const GRACE: Duration = Duration::from_secs(35);
/// How often a process that does not project looks how far the one that does
/// has come: while somebody waits for it, and otherwise.
const MIRROR: [Duration; 2] = [Duration::from_millis(20), Duration::from_millis(250)];
/// How long that may take.
const MIRROR_TIMEOUT: Duration = Duration::from_secs(2);
/// Why a store is built anew.
const DROPPED: &str = "the one before was dropped while it served";
const REPLACED: &str = "a log that it follows was restored or replaced";

/// A store, as operators see it.
#[derive(Clone, Debug)]
pub struct Shown {
    pub name: String,
    pub state: ShownState,
    /// How far each log was followed, and the newest position that is known.
    pub progress: Vec<(String, Cursor, u64)>,
    /// Microseconds since 1970; `None` where it cannot be read.
    pub created_at: Option<i64>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ShownState {
    Building,
    Serving,
    Retired,
}

struct Running {
    generation: Arc<Generation>,
    projecting: AbortOnDropHandle<()>,
}

/// The generation that answers first: the newest that is ready, or else the
/// newest, or else a new one.
pub(super) async fn first(
    location: &Location,
    leases: &Leases,
    fingerprint: &str,
    tables: &str,
    projection: &Arc<dyn Projection>,
) -> sqlx::Result<Generation> {
    let open =
        |number| Generation::open(location, leases, fingerprint, number, tables, "", projection);
    let mut newest = None;
    for number in numbers(location, fingerprint).await?.into_iter().rev() {
        let generation = open(number).await?;
        if generation.state().await?.ready {
            return Ok(generation);
        }
        newest.get_or_insert(generation);
    }
    match newest {
        Some(generation) => Ok(generation),
        None => open(1).await,
    }
}

/// Keeps the stores until `shutdown`, or until one is projected no more: that
/// never ends but by a panic, and whoever supervises this sees it.
pub(super) async fn run(
    inner: Arc<Inner>,
    logs: Vec<Arc<dyn Follow>>,
    shutdown: CancellationToken,
) {
    let mut running = BTreeMap::new();
    let mut leaving: Vec<(Instant, Running)> = Vec::new();
    loop {
        let look = look(&inner, &logs, &mut running, &mut leaving);
        if let Err(error) = within(LOOK_TIMEOUT, look).await {
            tracing::warn!(%error, "the projection stores cannot be looked at");
        }
        if running.values().any(|running| running.projecting.is_finished()) {
            return;
        }
        tokio::select! {
            () = shutdown.cancelled() => return,
            () = inner.look.notified() => {}
            () = tokio::time::sleep(LOOK) => {}
        }
    }
}

async fn look(
    inner: &Arc<Inner>,
    logs: &[Arc<dyn Follow>],
    running: &mut BTreeMap<u64, Running>,
    leaving: &mut Vec<(Instant, Running)>,
) -> sqlx::Result<()> {
    let serving = inner.serving();
    project_unless_running(inner, logs, running, serving.clone());
    let begun = std::mem::take(&mut *inner.begun.lock().unwrap_or_else(PoisonError::into_inner));
    for generation in begun {
        project_unless_running(inner, logs, running, Arc::new(generation));
    }
    // Others of this release may have begun, or finished, a newer one.
    let stores = inner.location.stores(KIND).await?;
    let own = stores.iter().filter_map(|name| generation::number(name, &inner.fingerprint));
    let newer: Vec<u64> = own.filter(|number| *number > serving.number).collect();
    // What they began before the newest is of no use any more.
    let newest = newer.iter().copied().max();
    if let Some(number) = newest.filter(|number| !running.contains_key(number)) {
        let generation = open(inner, number, "").await?;
        project_unless_running(inner, logs, running, Arc::new(generation));
    }
    let mut ready = None;
    let mut following = false;
    for number in &newer {
        if let Some(Running { generation, .. }) = running.get(number) {
            let state = generation.state().await?;
            following |= !state.lost;
            ready = ready.max(state.ready.then_some(*number));
        }
    }
    // Others drop what they believe that nobody uses.
    let dropped = !stores.contains(&serving.name);
    let lost = dropped || serving.state().await?.lost;
    if let Some(Running { generation, .. }) = ready.and_then(|number| running.get(&number))
        && (lost || reaches(generation, &serving))
    {
        tracing::info!(store = generation.name, before = serving.name, "a new store serves");
        inner.switch(generation);
    }
    if lost && !following {
        let reason = if dropped { DROPPED } else { REPLACED };
        begin_another(inner, reason).await?;
        inner.look.notify_one();
    }

    // The one that serves, and what is being built after it; the rest leaves.
    let serving = inner.serving();
    let wanted = |number: u64| number == serving.number || [newest, ready].contains(&Some(number));
    let unwanted: Vec<u64> = running.keys().copied().filter(|number| !wanted(*number)).collect();
    for number in unwanted {
        if let Some(leaves) = running.remove(&number) {
            // How it does is of no interest any more: it is among the stores
            // until it goes.
            inner.tasks.remove(&task_name(&leaves.generation.name));
            leaving.push((Instant::now() + GRACE, leaves));
        }
    }
    let now = Instant::now();
    for (_, gone) in leaving.extract_if(.., |(until, _)| *until <= now) {
        gone.generation.schema.close_own().await;
    }
    let used: HashSet<&str> = (running.values())
        .chain(leaving.iter().map(|(_, leaves)| leaves))
        .map(|running| running.generation.name.as_str())
        .collect();
    for name in &stores {
        let number = generation::number(name, &inner.fingerprint);
        if used.contains(name.as_str())
            || number.is_some_and(|number| number >= serving.number)
            || inner.leases.is_kept(&used_by(name)).await?
        {
            continue;
        }
        tracing::info!(store = name, "a store that nobody uses is dropped");
        inner.location.drop_store(name).await?;
    }
    Ok(())
}

/// Whether one has all that the other shows.
fn reaches(generation: &Generation, other: &Generation) -> bool {
    let seen = generation.seen();
    let has = |log: &str, at: &Cursor| {
        seen.get(log).is_some_and(|to| (to.epoch, to.position) >= (at.epoch, at.position))
    };
    other.seen().iter().all(|(log, at)| has(log, at))
}

fn project_unless_running(
    inner: &Arc<Inner>,
    logs: &[Arc<dyn Follow>],
    running: &mut BTreeMap<u64, Running>,
    generation: Arc<Generation>,
) {
    running.entry(generation.number).or_insert_with(|| {
        let projecting = project(inner.clone(), logs.to_vec(), generation.clone());
        Running { generation, projecting: AbortOnDropHandle::new(tokio::spawn(projecting)) }
    });
}

/// Projects into one generation, or follows how another process does.
async fn project(inner: Arc<Inner>, logs: Vec<Arc<dyn Follow>>, generation: Arc<Generation>) {
    let name = task_name(&generation.name);
    let task = inner.tasks.add(TaskKind::Projector, &name);
    if let Ok(state) = within(LOOK_TIMEOUT, generation.state()).await
        && !state.reason.is_empty()
    {
        task.note(format!("built anew: {}", state.reason));
    }
    let here = AtomicBool::new(false);
    let lost = watch::Sender::new(None);
    let work = async || {
        here.store(true, Ordering::Relaxed);
        let _here = scopeguard(&here);
        let why = lanes(&inner, &logs, &generation, &task).await;
        lost.send_replace(Some(why));
    };
    let projecting = async {
        let never = CancellationToken::new();
        inner.leases.hold(&name, &task, &never, work).await;
        let why = lost.borrow().as_ref().map(ToString::to_string).unwrap_or_default();
        tracing::warn!(store = generation.name, why, "the store is built anew");
        task.failed(&why);
        while let Err(error) = within(LOOK_TIMEOUT, lose(&inner, &generation, &why)).await {
            tracing::error!(%error, "another store cannot be begun");
            tokio::time::sleep(LOOK).await;
        }
        std::future::pending::<()>().await;
    };
    tokio::join!(projecting, mirror(&inner, &generation, &task, &logs, &here));
}

/// Has another store built in its place, unless somebody saw before that it has
/// to be: the other process may be done with it by now.
///
/// Another is begun first: whoever finds one that is lost, and none after it,
/// begins another without knowing why.
async fn lose(inner: &Arc<Inner>, generation: &Generation, why: &str) -> sqlx::Result<()> {
    if !generation.state().await?.lost {
        begin_after(inner, generation.number, why).await?;
        generation.set_lost().await?;
    }
    inner.look.notify_one();
    Ok(())
}

/// Follows all logs into the rows; says why they have to be built anew.
async fn lanes(
    inner: &Arc<Inner>,
    logs: &[Arc<dyn Follow>],
    generation: &Arc<Generation>,
    task: &Task,
) -> FollowError {
    let behind: HashSet<String> = logs.iter().map(|log| log.log().to_owned()).collect();
    let behind = watch::Sender::new(behind);
    let rows = GenerationRows {
        generation,
        saw: |log: &str, cursor: &Cursor, caught_up: bool| {
            if generation.note(log, cursor) {
                inner.publish(generation);
            }
            if caught_up {
                behind.send_if_modified(|behind| behind.remove(log));
            }
        },
    };
    let following = logs.iter().map(|source| {
        let lane = Lane { source: source.as_ref(), rows: &rows, task };
        Box::pin(async move { lane.run().await })
    });
    let ready = async {
        let mut behind = behind.subscribe();
        let _ = behind.wait_for(HashSet::is_empty).await;
        while let Err(error) = within(LOOK_TIMEOUT, generation.set_ready()).await {
            tracing::warn!(%error, "a store that has caught up cannot say so yet");
            tokio::time::sleep(LOOK).await;
        }
        inner.look.notify_one();
        std::future::pending::<()>().await
    };
    tokio::select! {
        (lost, _, _) = futures::future::select_all(following) => lost,
        () = ready => unreachable!("it never ends"),
    }
}

/// Learns how far the process has come that projects, while it is not this one.
async fn mirror(
    inner: &Arc<Inner>,
    generation: &Arc<Generation>,
    task: &Task,
    logs: &[Arc<dyn Follow>],
    here: &AtomicBool,
) {
    let [soon, later] = MIRROR;
    loop {
        if !here.load(Ordering::Relaxed)
            && let Ok(found) =
                within(MIRROR_TIMEOUT, generation::checkpoints(&generation.schema)).await
        {
            let mut changed = false;
            for (log, cursor) in &found {
                changed |= generation.note(log, cursor);
                let newest = logs.iter().find(|l| l.log() == log).and_then(|l| l.newest());
                task.saw(log, cursor, newest.unwrap_or(cursor.position));
            }
            if changed {
                inner.publish(generation);
            }
        }
        let waits = inner.waits.notified();
        if inner.waiting.load(Ordering::Relaxed) > 0 && !here.load(Ordering::Relaxed) {
            tokio::time::sleep(soon).await;
        } else {
            let _ = tokio::time::timeout(later, waits).await;
        }
    }
}

/// Begins to build another store, unless one is being built; gives its name.
pub(super) async fn begin_another(inner: &Arc<Inner>, reason: &str) -> sqlx::Result<String> {
    begin_after(inner, inner.serving().number, reason).await
}

/// Begins to build another store, unless one after this is being built.
async fn begin_after(inner: &Arc<Inner>, number: u64, reason: &str) -> sqlx::Result<String> {
    let last = numbers(&inner.location, &inner.fingerprint).await?.into_iter().max();
    let last = last.unwrap_or(number);
    if last > number {
        let name = generation::name(&inner.fingerprint, last);
        if let Ok(schema) = inner.location.find(&name).await {
            let state = generation::state(&schema).await;
            schema.close_own().await;
            if state.is_ok_and(|state| !state.ready && !state.lost) {
                return Ok(name);
            }
        }
    }
    let generation = open(inner, last + 1, reason).await?;
    let name = generation.name.clone();
    inner.begun.lock().unwrap_or_else(PoisonError::into_inner).push(generation);
    Ok(name)
}

/// What operators see of all stores.
pub(super) async fn list(inner: &Arc<Inner>) -> sqlx::Result<Vec<Shown>> {
    let serving = inner.serving();
    let mut list = Vec::new();
    for name in inner.location.stores(KIND).await? {
        let number = generation::number(&name, &inner.fingerprint);
        let state = match number {
            Some(number) if number == serving.number => ShownState::Serving,
            Some(number) if number > serving.number => ShownState::Building,
            _ => ShownState::Retired,
        };
        let mut shown = Shown { name, state, progress: Vec::new(), created_at: None };
        // It may be gone by now.
        let Ok(schema) = inner.location.find(&shown.name).await else { continue };
        // One of another release may look otherwise.
        if let (Ok(seen), Ok(state)) =
            (generation::checkpoints(&schema).await, generation::state(&schema).await)
        {
            let newest = |log: &str| {
                let follows = inner.follows.get()?;
                follows.iter().find(|source| source.log() == log)?.newest()
            };
            let progress = seen.into_iter().map(|(log, cursor)| {
                let newest = newest(&log).unwrap_or_default().max(cursor.position);
                (log, cursor, newest)
            });
            shown.progress = progress.collect();
            shown.progress.sort_by(|a, b| a.0.cmp(&b.0));
            shown.created_at = Some(state.created_at);
        }
        schema.close_own().await;
        list.push(shown);
    }
    list.sort_by(|a, b| a.name.cmp(&b.name));
    Ok(list)
}

async fn open(inner: &Inner, number: u64, reason: &str) -> sqlx::Result<Generation> {
    let Inner { location, leases, fingerprint, tables, projection, .. } = inner;
    Generation::open(location, leases, fingerprint, number, tables, reason, projection).await
}

async fn numbers(location: &Location, fingerprint: &str) -> sqlx::Result<Vec<u64>> {
    let stores = location.stores(KIND).await?;
    let own = stores.iter().filter_map(|name| generation::number(name, fingerprint));
    let mut own: Vec<u64> = own.collect();
    own.sort_unstable();
    Ok(own)
}

/// The lease by which a process shows that it uses a store.
pub(super) fn used_by(name: &str) -> String {
    format!("use {name}")
}

fn task_name(store: &str) -> String {
    format!("projector {store}")
}

/// Says that the work is not done here any more, however it ends.
fn scopeguard(here: &AtomicBool) -> impl Drop + '_ {
    struct Away<'a>(&'a AtomicBool);
    impl Drop for Away<'_> {
        fn drop(&mut self) {
            self.0.store(false, Ordering::Relaxed);
        }
    }
    Away(here)
}
