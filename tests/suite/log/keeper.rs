//! Which stores there are, and who keeps them, when something goes wrong.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use futures::StreamExt;
use futures::future::BoxFuture;
use futures::stream::{self, BoxStream};
use samen_log::db::{Durability, Tx};
use samen_log::record::Position;
use samen_log::store::{ApplyError, ShownState};
use samen_log::{
    Cursor, Follow, FollowError, Item, Leases, Location, Log, Projection, Record, Schema, Store,
    Tasks,
};
use samen_tests::{Place, Proxy, eventually, on_both_databases};
use sqlx::{Connection, PgConnection};
use tokio_util::sync::CancellationToken;
use tokio_util::task::AbortOnDropHandle;

use super::pool::{Count, count};
use super::shared::{LOG, SOON, fill, write};

on_both_databases!(
    a_store_that_was_dropped_while_it_served_is_built_anew,
    of_stores_that_are_not_finished_only_the_newest_is_built,
);

async fn open(location: &Location, projection: impl Projection) -> Store {
    let leases = Leases::open(location).await.expect("the leases");
    Store::open(location, &leases, &Tasks::default(), projection).await.expect("the store")
}

/// Follows until it is dropped.
fn follow(store: &Store, source: impl Follow) -> AbortOnDropHandle<()> {
    let logs: Vec<Arc<dyn Follow>> = vec![Arc::new(source)];
    AbortOnDropHandle::new(tokio::spawn(store.clone().run(logs, CancellationToken::new())))
}

/// Waits until a store has seen this much.
async fn until(store: &Store, log: &Log, position: u64) {
    let at_least = Position { log: LOG.to_owned(), epoch: log.epoch(), position };
    let seen = tokio::time::timeout(SOON, store.wait_for(&at_least)).await;
    seen.unwrap_or_else(|_| panic!("{position} is not seen")).expect("it is followed");
}

/// The name of the store that answers.
async fn serving(store: &Store) -> String {
    let stores = store.list().await.expect("a list");
    let serving = stores.into_iter().find(|shown| shown.state == ShownState::Serving);
    serving.map(|shown| shown.name).unwrap_or_default()
}

async fn a_store_that_was_dropped_while_it_served_is_built_anew(place: Place) {
    let log = place.log(LOG).await;
    let location = place.location().await;
    let store = open(&location, Count).await;
    let _following = follow(&store, log.clone());
    fill(&log, 300).await;
    until(&store, &log, 300).await;
    let dropped = serving(&store).await;
    location.drop_store(&dropped).await.expect("dropped");
    eventually(SOON, "another serves", async || {
        let now = serving(&store).await;
        (!now.is_empty() && now != dropped).then_some(())
    })
    .await;
    fill(&log, 10).await;
    until(&store, &log, 310).await;
    assert_eq!(count(&store).await, 310);
}

/// Counts records as a later release does.
struct Later;

impl Projection for Later {
    fn tables(&self) -> &'static str {
        Count.tables()
    }

    fn version(&self) -> u32 {
        Count.version() + 1
    }

    fn apply<'a>(
        &'a self,
        tx: &'a mut Tx,
        schema: &'a Schema,
        records: &'a [Arc<Record>],
    ) -> BoxFuture<'a, Result<(), ApplyError>> {
        Count.apply(tx, schema, records)
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_store_is_not_dropped_under_a_process_that_cannot_be_heard_for_a_while() {
    let place = Place::postgres().await;
    let log = place.log(LOG).await;
    let proxy = Proxy::before(&place.name()).await;
    let wire = Location::postgres(proxy.url(), "test", 6).await.expect("the database");
    let store = open(&wire, Count).await;
    let _following = follow(&store, log.clone());
    fill(&log, 300).await;
    until(&store, &log, 300).await;
    let name = serving(&store).await;

    proxy.freeze();
    let mut database = PgConnection::connect(&place.name()).await.expect("the database");
    eventually(SOON, "its work may be another's", async || {
        let sql = "SELECT until < extract(epoch FROM clock_timestamp()) * 1000000
                   FROM test_lease.lease WHERE name LIKE 'projector %'";
        let over: bool = sqlx::query_scalar(sql).fetch_one(&mut database).await.expect("a lease");
        over.then_some(())
    })
    .await;
    // A later release comes, and looks what is of no use any more.
    let later = open(&place.location().await, Later).await;
    let _later_following = follow(&later, log.clone());
    let another = later.rebuild("a test").await.expect("begun");
    eventually(SOON, "it has looked", async || (serving(&later).await == another).then_some(()))
        .await;
    proxy.thaw();
    log.append(write("request/1", "after")).await.expect("accepted");
    until(&store, &log, 301).await;
    assert_eq!(serving(&store).await, name);
    assert_eq!(count(&store).await, 301);
}

/// A log of which two stores are told that its history is another; who asks
/// after that waits for ever.
struct Lost {
    log: Log,
    told: AtomicUsize,
    waiting: Arc<AtomicUsize>,
}

impl Follow for Lost {
    fn log(&self) -> &str {
        self.log.id()
    }

    fn follow(&self, after: Cursor) -> BoxStream<'static, Result<Item, FollowError>> {
        if self.told.fetch_add(1, Ordering::Relaxed) < 2 {
            let Cursor { epoch, position, .. } = after;
            let lost = FollowError::NotInHistory { log: LOG.to_owned(), epoch, position };
            return stream::iter([Err(lost)]).boxed();
        }
        self.waiting.fetch_add(1, Ordering::Relaxed);
        stream::pending().boxed()
    }
}

async fn of_stores_that_are_not_finished_only_the_newest_is_built(place: Place) {
    let log = place.log(LOG).await;
    let location = place.location().await;
    let store = open(&location, Count).await;
    let waiting = Arc::new(AtomicUsize::new(0));
    let lost = Lost { log: log.clone(), told: AtomicUsize::new(0), waiting: waiting.clone() };
    let _following = follow(&store, lost);
    eventually(SOON, "the third is being built", async || {
        (waiting.load(Ordering::Relaxed) > 0).then_some(())
    })
    .await;
    // Each look also drops what nobody uses.
    for look in 0..4 {
        let unused = format!("projection_unused_{look}");
        location.open(&unused, "", Durability::Rebuilt).await.expect("made");
        eventually(SOON, "it is looked at", async || {
            let stores = location.stores(&unused).await.expect("a list");
            stores.is_empty().then_some(())
        })
        .await;
    }
    assert_eq!(store.list().await.expect("a list").len(), 3);
    assert_eq!(waiting.load(Ordering::Relaxed), 1, "each that is begun again follows");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_lease_does_not_outlive_its_term_by_a_clock_that_went_back() {
    let place = Place::postgres().await;
    let log = place.log(LOG).await;
    let store = open(&place.location().await, Count).await;
    // As somebody had it who was killed, an hour from now.
    let mut database = PgConnection::connect(&place.name()).await.expect("the database");
    let sql = "INSERT INTO test_lease.lease (name, holder, until)
               VALUES ($1, 'gone', extract(epoch FROM clock_timestamp()) * 1000000 + 3600000000)";
    let name = format!("projector {}", serving(&store).await);
    sqlx::query(sql).bind(name).execute(&mut database).await.expect("a lease");
    let _following = follow(&store, log.clone());
    fill(&log, 10).await;
    until(&store, &log, 10).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn leases_of_processes_that_were_killed_are_swept() {
    let place = Place::postgres().await;
    let location = place.location().await;
    Leases::open(&location).await.expect("the leases");
    let mut database = PgConnection::connect(&place.name()).await.expect("the database");
    let sql = "INSERT INTO test_lease.lease (name, holder, until) VALUES ('use x', 'gone', 1)";
    sqlx::query(sql).execute(&mut database).await.expect("a lease");
    Leases::open(&location).await.expect("the leases");
    let sql = "SELECT count(*) FROM test_lease.lease";
    let left: i64 = sqlx::query_scalar(sql).fetch_one(&mut database).await.expect("a count");
    assert_eq!(left, 0);
}
