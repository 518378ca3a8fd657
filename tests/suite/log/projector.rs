//! A projection that is at fault: it is seen, and holds up nothing else.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use futures::FutureExt;
use futures::future::BoxFuture;
use samen_log::db::Tx;
use samen_log::store::ApplyError;
use samen_log::{Follow, Leases, Log, Projection, Record, Schema, Store, Tasks, on_tx};
use samen_proto::operations::TaskState;
use samen_tests::{Place, eventually, on_both_databases};
use tokio_util::sync::CancellationToken;
use tokio_util::task::AbortOnDropHandle;

use super::pool::count;
use super::shared::{LOG, SOON, fill};

on_both_databases!(
    a_panic_stops_at_its_record_and_is_told,
    a_batch_that_takes_too_long_is_made_smaller,
);

const OTHER: &str = "gm0384.participation";

/// Counts records, but for what it cannot.
struct Faulty {
    /// Panics at the 250th record.
    panics: Arc<AtomicBool>,
    /// Records that it has time for.
    most: usize,
}

impl Projection for Faulty {
    fn tables(&self) -> &'static str {
        "CREATE TABLE IF NOT EXISTS {s}.seen (
             log text NOT NULL, position bigint NOT NULL, PRIMARY KEY (log, position)
         );"
    }

    fn version(&self) -> u32 {
        1
    }

    fn apply<'a>(
        &'a self,
        tx: &'a mut Tx,
        schema: &'a Schema,
        records: &'a [Arc<Record>],
    ) -> BoxFuture<'a, Result<(), ApplyError>> {
        async move {
            if records.len() > self.most {
                std::future::pending::<()>().await;
            }
            for record in records {
                let panics = self.panics.load(Ordering::Relaxed);
                assert!(!(panics && record.position == 250), "250 is too much");
                let sql = schema.sql("INSERT INTO {s}.seen (log, position) VALUES ($1, $2)");
                on_tx!(tx, conn => {
                    sqlx::query(sql)
                        .bind(&record.log)
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

/// A store that follows these logs, and what its projector shows.
async fn following(
    place: &Place,
    faulty: Faulty,
    logs: &[&Log],
) -> (Store, Tasks, AbortOnDropHandle<()>) {
    let location = place.location().await;
    let leases = Leases::open(&location).await.expect("the leases");
    let tasks = Tasks::default();
    let store = Store::open(&location, &leases, &tasks, faulty).await.expect("the store");
    let logs = logs.iter().map(|log| Arc::new((*log).clone()) as Arc<dyn Follow>).collect();
    let running = tokio::spawn(store.clone().run(logs, CancellationToken::new()));
    (store, tasks, AbortOnDropHandle::new(running))
}

/// Waits until a store has this much of a log.
async fn until(store: &Store, log: &str, position: u64) {
    eventually(SOON, &format!("{log} is projected to {position}"), async || {
        (store.cursor(log).position == position).then_some(())
    })
    .await;
}

async fn a_panic_stops_at_its_record_and_is_told(place: Place) {
    let elsewhere = place.another().await;
    let (log, other) = (place.log(LOG).await, elsewhere.log(OTHER).await);
    fill(&log, 300).await;
    let panics = Arc::new(AtomicBool::new(true));
    let faulty = Faulty { panics: panics.clone(), most: usize::MAX };
    let (store, tasks, _running) = following(&place, faulty, &[&log, &other]).await;
    let error = eventually(SOON, "it is told", async || {
        let shown = tasks.shown().pop()?;
        (shown.state() == TaskState::Stopped).then_some(shown.error?)
    })
    .await;
    assert_eq!((error.log.as_str(), error.position), (LOG, 250));
    assert!(error.message.contains("250 is too much"), "{error:?}");
    assert_eq!(store.cursor(LOG).position, 249);
    fill(&other, 10).await;
    until(&store, OTHER, 10).await;
    // A release that is mended goes on where it stopped.
    panics.store(false, Ordering::Relaxed);
    until(&store, LOG, 300).await;
    assert_eq!(count(&store).await, 310);
    let shown = tasks.shown().pop().expect("a task");
    assert_eq!(shown.state(), TaskState::Running);
}

async fn a_batch_that_takes_too_long_is_made_smaller(place: Place) {
    let log = place.log(LOG).await;
    fill(&log, 500).await;
    // Read from the database, all at once.
    let log = place.log(LOG).await;
    let faulty = Faulty { panics: Arc::default(), most: 300 };
    let (store, _tasks, _running) = following(&place, faulty, &[&log]).await;
    until(&store, LOG, 500).await;
    assert_eq!(count(&store).await, 500);
}
