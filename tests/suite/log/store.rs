//! Projection stores: each record counts exactly once.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use futures::future::{BoxFuture, join_all};
use futures::stream::BoxStream;
use futures::{FutureExt, StreamExt};
use samen_log::db::Tx;
use samen_log::record::Position;
use samen_log::store::{ApplyError, ShownState};
use samen_log::{
    Cursor, Follow, FollowError, Item, Leases, Log, Projection, Record, Schema, Store, Tasks,
    on_db, on_tx,
};
use samen_proto::operations::TaskState;
use samen_tests::{Place, eventually, on_both_databases};
use sqlx::Row;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

use super::shared::{LOG, SOON, command, fill, read_all, until_accepted, write};

on_both_databases!(
    a_query_waits_until_the_store_is_there,
    a_projector_that_is_killed_counts_each_record_once,
    a_store_that_is_built_again_has_the_same_rows,
    a_store_is_built_anew_for_another_history,
    a_source_that_ends_is_followed_again,
);

/// How often each type was seen: a record that counts twice shows.
struct Tally {
    version: u32,
}

impl Projection for Tally {
    fn tables(&self) -> &'static str {
        "CREATE TABLE IF NOT EXISTS {s}.tally (
             log text NOT NULL, type text NOT NULL, seen bigint NOT NULL, positions bigint NOT NULL,
             PRIMARY KEY (log, type)
         );"
    }

    fn version(&self) -> u32 {
        self.version
    }

    fn apply<'a>(
        &'a self,
        tx: &'a mut Tx,
        schema: &'a Schema,
        records: &'a [Arc<Record>],
    ) -> BoxFuture<'a, Result<(), ApplyError>> {
        async move {
            for record in records {
                let sql = schema.sql(
                    "INSERT INTO {s}.tally AS t (log, type, seen, positions) VALUES ($1, $2, 1, $3)
                     ON CONFLICT (log, type)
                     DO UPDATE SET seen = t.seen + 1, positions = t.positions + $3",
                );
                on_tx!(tx, conn => {
                    sqlx::query(sql)
                        .bind(&record.log)
                        .bind(&record.r#type)
                        .bind(record.position as i64)
                        .execute(conn)
                        .await?;
                });
            }
            Ok(())
        }
        .boxed()
    }
}

/// How many records of each log and type, and the sum of their positions.
type Rows = BTreeMap<(String, String), (i64, i64)>;

async fn rows(store: &Store) -> Rows {
    let sql = store.schema().sql("SELECT log, type, seen, positions FROM {s}.tally");
    on_db!(&store.schema().db, pool => {
        let rows = sqlx::query(sql).fetch_all(pool).await.expect("the store");
        rows.iter().map(|row| ((row.get(0), row.get(1)), (row.get(2), row.get(3)))).collect()
    })
}

async fn expected(log: &Log) -> Rows {
    let mut rows = Rows::new();
    for record in read_all(log).await {
        let row = rows.entry((record.log.clone(), record.r#type.clone())).or_default();
        row.0 += 1;
        row.1 += record.position as i64;
    }
    rows
}

async fn open(place: &Place, version: u32) -> Store {
    open_with(place, version, &Tasks::default()).await
}

async fn open_with(place: &Place, version: u32, tasks: &Tasks) -> Store {
    let location = place.location().await;
    let leases = Leases::open(&location).await.expect("the leases");
    Store::open(&location, &leases, tasks, Tally { version }).await.expect("the store")
}

/// Follows until the task is stopped.
fn project(store: &Store, logs: Vec<Arc<dyn Follow>>) -> JoinHandle<()> {
    tokio::spawn(store.clone().run(logs, CancellationToken::new()))
}

async fn until(store: &Store, log: &Log, position: u64) {
    let at_least = Position { log: log.id().to_owned(), epoch: log.epoch(), position };
    let waited = tokio::time::timeout(SOON, store.wait_for(&at_least)).await;
    waited.expect("projected in time").expect("the log is followed");
}

async fn a_query_waits_until_the_store_is_there(place: Place) {
    let log = place.log(LOG).await;
    let store = open(&place, 1).await;
    project(&store, vec![Arc::new(log.clone())]);
    for round in 1..=5 {
        fill(&log, 10).await;
        until(&store, &log, round * 10).await;
        assert_eq!(rows(&store).await, expected(&log).await);
    }

    // For what was not written yet it waits.
    let at_least = Position { log: LOG.to_owned(), epoch: log.epoch(), position: 51 };
    let early = tokio::time::timeout(Duration::from_millis(200), store.wait_for(&at_least)).await;
    assert!(early.is_err());
}

async fn a_projector_that_is_killed_counts_each_record_once(place: Place) {
    let log = place.log(LOG).await;
    // Goes on until it is done, however slow the machine: nothing would come.
    let appending = tokio::spawn({
        let log = log.clone();
        async move {
            for some in 0..15 {
                let appends = (0..200).map(|number| {
                    let mut append = write(&format!("request/{}", number % 7), number);
                    append.command = command(&format!("{some}-{number}"));
                    until_accepted(&log, append)
                });
                join_all(appends).await;
            }
        }
    });
    let mut killed_at = 0;
    for _ in 0..8 {
        let tasks = Tasks::default();
        let store = open_with(&place, 1, &tasks).await;
        let projector = project(&store, vec![Arc::new(log.clone())]);
        let begun = Instant::now();
        // Killed somewhere after it has begun, whatever it is doing then.
        let enough = (killed_at + rand::random_range(1..300)).min(3_000);
        eventually(SOON, "some records are projected", async || {
            killed_at = store.cursor(LOG).position;
            let late = begun.elapsed() > SOON / 2;
            assert!(!late, "{killed_at} of {}: {:?}", log.head(), tasks.shown());
            (killed_at >= enough).then_some(())
        })
        .await;
        projector.abort();
        let _ = projector.await;
    }
    appending.await.expect("no panic");

    let store = open(&place, 1).await;
    project(&store, vec![Arc::new(log.clone())]);
    until(&store, &log, 3_000).await;
    assert_eq!(rows(&store).await, expected(&log).await);
}

async fn a_store_that_is_built_again_has_the_same_rows(place: Place) {
    let log = place.log(LOG).await;
    let store = open(&place, 1).await;
    let projector = project(&store, vec![Arc::new(log.clone())]);
    fill(&log, 700).await;
    until(&store, &log, 700).await;
    let first = rows(&store).await;
    projector.abort();

    // Another version is another store, built from the beginning.
    let store = open(&place, 2).await;
    assert_eq!(rows(&store).await, Rows::new());
    project(&store, vec![Arc::new(log.clone())]);
    until(&store, &log, 700).await;
    assert_eq!(rows(&store).await, first);
}

async fn a_store_is_built_anew_for_another_history(place: Place) {
    let log = place.log(LOG).await;
    fill(&log, 300).await;
    let store = open(&place, 1).await;
    let projector = project(&store, vec![Arc::new(log.clone())]);
    until(&store, &log, 300).await;
    projector.abort();
    let _ = projector.await;

    // The same id, but not what the store has seen.
    let elsewhere = place.another().await;
    let restored = elsewhere.log(LOG).await;
    fill(&restored, 400).await;
    let tasks = Tasks::default();
    let store = open_with(&place, 1, &tasks).await;
    project(&store, vec![Arc::new(restored.clone())]);
    until(&store, &restored, 400).await;
    assert_eq!(rows(&store).await, expected(&restored).await);

    // The one before only waits to be dropped: how it does is not told, but
    // why there is another.
    let shown = eventually(SOON, "one store's projector is shown", async || {
        let shown = tasks.shown();
        (shown.len() == 1).then_some(shown)
    })
    .await;
    assert_eq!(shown[0].state(), TaskState::Running, "{shown:?}");
    assert!(shown[0].note.contains("is not in the history of log"), "{shown:?}");
    let stores = store.list().await.expect("a list");
    let retired = stores.iter().filter(|store| store.state == ShownState::Retired).count();
    assert_eq!((stores.len(), retired), (2, 1), "{stores:?}");
}

/// A log whose owner ends the first stream at once, as one that shuts down.
struct EndsOnce {
    log: Log,
    ended: AtomicBool,
}

impl Follow for EndsOnce {
    fn log(&self) -> &str {
        self.log.id()
    }

    fn follow(&self, after: Cursor) -> BoxStream<'static, Result<Item, FollowError>> {
        if self.ended.swap(true, Ordering::Relaxed) {
            self.log.follow(after)
        } else {
            self.log.follow(after).take(10).boxed()
        }
    }
}

async fn a_source_that_ends_is_followed_again(place: Place) {
    let log = place.log(LOG).await;
    let elsewhere = place.another().await;
    let other = elsewhere.log("gm0384.participation").await;
    fill(&other, 30).await;
    let store = open(&place, 1).await;
    let ends = EndsOnce { log: other.clone(), ended: AtomicBool::new(false) };
    project(&store, vec![Arc::new(log.clone()), Arc::new(ends)]);
    until(&store, &other, 30).await;
    fill(&log, 10).await;
    until(&store, &log, 10).await;

    let mut both = expected(&log).await;
    both.extend(expected(&other).await);
    assert_eq!(rows(&store).await, both);
}

#[tokio::test(flavor = "multi_thread")]
async fn two_projectors_of_one_store_count_each_record_once() {
    let place = Place::postgres().await;
    let log = place.log(LOG).await;
    let stores = [open(&place, 1).await, open(&place, 1).await];
    for store in &stores {
        project(store, vec![Arc::new(log.clone())]);
    }
    fill(&log, 2_000).await;
    for store in &stores {
        // Also where the other one has projected it.
        until(store, &log, 2_000).await;
        assert_eq!(rows(store).await, expected(&log).await);
    }
}
