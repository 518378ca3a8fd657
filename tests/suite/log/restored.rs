//! A log that is restored from a backup while others run: whoever followed it
//! further than the backup reaches learns it, though nothing new is written.

use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use futures::StreamExt;
use futures::stream::BoxStream;
use samen_log::jetstream::JetStreamLog;
use samen_log::{
    Backup, Cursor, DestroyedKeys, EmptyLog, Exchanged, Follow, FollowError, Item, Log, MasterKey,
    back_up, on_db,
};
use samen_tests::{Nats, Place, scratch};
use tokio::time::timeout;

use super::relay::{FOR_EVER, Relay, assert_is_the_log, context, published};
use super::shared::{LOG, SOON, fill, follow_to};

/// Brings a backup back to where the log stands, as an operator does who has
/// emptied the database first.
async fn restore_in_place(from: &Path, master: &MasterKey, place: &Place, log: &Log) {
    on_db!(&log.schema().db, pool => {
        let drop = sqlx::query(log.schema().sql("DROP SCHEMA {s} CASCADE"));
        drop.execute(pool).await.expect("it is dropped");
    });
    let backup = Backup::open(from, master).await.expect("a backup");
    let logs = [EmptyLog::at(&place.location().await, LOG).await.expect("tables")];
    let none = DestroyedKeys::default();
    backup.restore(&logs, &none, &|_, _, _| {}).await.expect("restored");
}

/// The owner's door: behind it stands whichever process runs at the moment.
struct Door(Arc<Mutex<Log>>);

impl Follow for Door {
    fn log(&self) -> &str {
        LOG
    }

    fn follow(&self, after: Cursor) -> BoxStream<'static, Result<Item, FollowError>> {
        let log = self.0.lock().unwrap_or_else(PoisonError::into_inner).clone();
        Exchanged(log).follow(after)
    }
}

/// A follower that has seen everything.
async fn live(
    source: &impl Follow,
    after: Cursor,
) -> BoxStream<'static, Result<Item, FollowError>> {
    let mut items = source.follow(after);
    let caught_up = timeout(SOON, items.next()).await.expect("an item in time");
    assert!(matches!(caught_up, Some(Ok(Item::CaughtUp(_)))), "{caught_up:?}");
    items
}

#[tokio::test(flavor = "multi_thread")]
async fn whoever_followed_further_learns_it_though_nothing_is_written() {
    let place = Place::postgres().await;
    let log = place.log(LOG).await;
    let nats = Nats::start().await;
    let context = context(&nats).await;
    let relay = Relay::start(&log, &nats, FOR_EVER).await;
    fill(&log, 200).await;
    let master = MasterKey::generate(false);
    let folder = scratch::folder("backup-");
    let to = folder.path().join("backup");
    back_up(&to, &master, &[log.schema().clone()], &|_, _, _| {}).await.expect("a backup");
    fill(&log, 100).await;
    published(&context, 300).await;

    let at = |records: Vec<Arc<samen_log::Record>>| Cursor::at(&records[records.len() - 1]);
    let last = at(follow_to(&log, Cursor::START, 300).await);
    let process = Arc::new(Mutex::new(log.clone()));
    let owner: Arc<dyn Follow> = Arc::new(Door(process.clone()));
    let source = JetStreamLog::new(nats.client().await, LOG, Some(owner));
    let mut by_sql = live(&log, last.clone()).await;
    let mut by_stream = live(&source, last.clone()).await;

    restore_in_place(&to, &master, &place, &log).await;

    // The process that runs on knows nothing of the log that is there now: it
    // says so to whoever follows it, and to whoever begins to.
    for answer in [
        timeout(SOON, by_sql.next()).await.expect("an answer in time"),
        log.follow(Cursor::START).next().await,
    ] {
        let Some(Err(error)) = answer else { panic!("it goes on with {answer:?}") };
        assert!(error.to_string().contains("restored from a backup"), "{error}");
    }

    relay.stop().await;
    let restored = place.log(LOG).await;
    *process.lock().unwrap_or_else(PoisonError::into_inner) = restored.clone();
    let _relay = Relay::start(&restored, &nats, FOR_EVER).await;
    let told = async {
        loop {
            match by_stream.next().await {
                Some(Err(FollowError::NotInHistory { position, .. })) => return position,
                Some(Err(FollowError::Unavailable { .. })) | None => {
                    tokio::time::sleep(Duration::from_millis(50)).await;
                    by_stream = source.follow(last.clone());
                }
                Some(Ok(Item::CaughtUp(_))) => {}
                other => panic!("it goes on with {other:?}"),
            }
        }
    };
    assert_eq!(timeout(SOON, told).await.expect("an answer in time"), 300);
    assert_is_the_log(&context, &restored).await;
    assert_eq!(restored.head(), 200);
}
