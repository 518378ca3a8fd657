//! Counts by neighbourhood, live. They are read once for all who watch, after
//! each change, and each watcher is sent what differs from what it has.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use samen_log::store::Checkpoints;
use samen_log::{Cursor, Store, supervise};
use samen_proto::log::{CaughtUp, Heartbeat, Position};
use samen_proto::requests::watch_statistics_response::Item as Sent;
use samen_proto::requests::{NeighbourhoodCount, WatchStatisticsResponse};
use samen_server::area::Area;
use samen_server::streams::{Outgoing, outgoing};
use samen_server::{Caller, Core, Deployment};
use tokio::sync::watch;

use crate::projection::queries;

/// Changes that follow each other faster than this are sent as one.
const COALESCE: Duration = Duration::from_millis(100);
/// How often another process's projecting is looked for.
const LOOK: Duration = Duration::from_secs(1);

/// Counts by code, and up to where they were counted.
#[derive(Clone, Debug, PartialEq)]
struct Counted {
    at: Cursor,
    counts: BTreeMap<String, NeighbourhoodCount>,
}

/// The counts of this moment, shared.
#[derive(Clone)]
pub struct Statistics {
    log: Arc<str>,
    /// `None` until they are counted for the first time.
    counted: watch::Receiver<Option<Arc<Counted>>>,
}

impl Statistics {
    /// Begins to count, once the store is built; ends, like the streams, at
    /// shutdown.
    pub fn start(core: &Core) -> Self {
        let (sender, counted) = watch::channel(None);
        let area = core.deployment.area.clone();
        let log: Arc<str> = core.log.id().into();
        let id = log.clone();
        let shutdown = core.deployment.shutdown.clone();
        let core = core.clone();
        supervise("statistics", shutdown.clone(), async move {
            let _ = shutdown.run_until_cancelled(core.built()).await;
            let store = core.store;
            let mut changed = store.watch();
            while !shutdown.is_cancelled() {
                read(&store, &area, &id, &sender).await;
                tokio::select! {
                    () = shutdown.cancelled() => {}
                    () = settle(&mut changed) => {}
                }
            }
        });
        Statistics { log, counted }
    }

    /// All counts, a mark, then each that changes.
    pub fn watch(
        &self,
        deployment: &Deployment,
        caller: &Caller,
    ) -> Outgoing<WatchStatisticsResponse> {
        let mut counted = self.counted.clone();
        let log = self.log.clone();
        let items = async_stream::stream! {
            let mut sent: BTreeMap<String, NeighbourhoodCount> = BTreeMap::new();
            let mut caught_up = false;
            loop {
                let now = counted.borrow_and_update().clone();
                if let Some(now) = now {
                    for (code, count) in &now.counts {
                        if sent.get(code) != Some(count) {
                            sent.insert(code.clone(), count.clone());
                            yield Ok(item(Sent::Count(count.clone())));
                        }
                    }
                    if !caught_up {
                        caught_up = true;
                        let position = Some(now.at.to_position(&log));
                        yield Ok(item(Sent::CaughtUp(CaughtUp { position })));
                    }
                }
                if counted.changed().await.is_err() {
                    return;
                }
            }
        };
        let counted = self.counted.clone();
        let log = self.log.clone();
        let at = move || match &*counted.borrow() {
            Some(now) => now.at.to_position(&log),
            None => Position::default(),
        };
        let heartbeat = |at| item(Sent::Heartbeat(Heartbeat { position: Some(at) }));
        outgoing(items, at, heartbeat, deployment, caller)
    }
}

/// Waits for a change, and for those that follow at once.
async fn settle(changed: &mut watch::Receiver<Checkpoints>) {
    let waited = tokio::time::timeout(LOOK, changed.changed()).await;
    if waited.is_ok() {
        tokio::time::sleep(COALESCE).await;
        changed.borrow_and_update();
    }
}

async fn read(store: &Store, area: &Area, log: &str, to: &watch::Sender<Option<Arc<Counted>>>) {
    let at = store.cursor(log);
    match queries::counts(&store.schema()).await {
        Ok(found) => {
            let named = found.into_iter().map(|mut count| {
                let known = area.get(&count.neighbourhood);
                count.name = known.map(|n| n.name.clone()).unwrap_or_default();
                (count.neighbourhood.clone(), count)
            });
            let counts: BTreeMap<_, _> = named.collect();
            to.send_if_modified(|old| {
                let now = Counted { at, counts };
                let changed = old.as_deref() != Some(&now);
                *old = Some(Arc::new(now));
                changed
            });
        }
        Err(error) => tracing::warn!(%error, "counts cannot be read"),
    }
}

fn item(item: Sent) -> WatchStatisticsResponse {
    WatchStatisticsResponse { item: Some(item) }
}
