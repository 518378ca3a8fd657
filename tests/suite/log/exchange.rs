//! Following a log through the exchange.

use std::sync::Arc;
use std::time::Duration;

use futures::StreamExt;
use samen_log::jetstream::{JetStreamLog, stream_name};
use samen_log::{Cursor, Exchanged, Follow, FollowError, Item, Record};
use samen_tests::{Nats, Place, eventually};

use super::relay::{FOR_EVER, Relay, context, published, state};
use super::shared::{LOG, SOON, fill, follow_to};

/// Every record as others see it.
pub async fn masked(log: &samen_log::Log) -> Vec<Arc<Record>> {
    follow_to(&Exchanged(log.clone()), Cursor::START, log.head()).await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_follower_sees_everything_whatever_happens_to_the_exchange() {
    let place = Place::sqlite().await;
    let log = place.log(LOG).await;
    let mut nats = Nats::start().await;
    let context = context(&nats).await;
    let _relay = Relay::start(&log, &nats, FOR_EVER).await;
    let source = JetStreamLog::new(nats.client().await, LOG, None);
    let follower = tokio::spawn(async move { follow_to(&source, Cursor::START, 3_000).await });

    fill(&log, 1_000).await;
    nats.kill();
    fill(&log, 500).await;
    nats.restart().await;
    fill(&log, 500).await;
    published(&context, 2_000).await;
    context.delete_stream(stream_name(LOG)).await.expect("it exists");
    fill(&log, 1_000).await;

    let seen = follower.await.expect("no panic");
    assert_eq!(seen, masked(&log).await);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_follower_is_told_once_that_it_has_caught_up() {
    let place = Place::sqlite().await;
    let log = place.log(LOG).await;
    let nats = Nats::start().await;
    let context = context(&nats).await;
    let _relay = Relay::start(&log, &nats, FOR_EVER).await;
    fill(&log, 300).await;
    published(&context, 300).await;

    let mut items = JetStreamLog::new(nats.client().await, LOG, None).follow(Cursor::START);
    let mut seen = 0;
    let mut caught_up = Vec::new();
    let follow = async {
        while seen < 400 {
            match items.next().await.expect("it does not end").expect("no error") {
                Item::Record(_) => seen += 1,
                Item::CaughtUp(cursor) => {
                    caught_up.push((seen, cursor.position));
                    fill(&log, 100).await;
                }
            }
        }
    };
    tokio::time::timeout(SOON, follow).await.expect("all records in time");
    assert_eq!(caught_up, [(300, 300)]);
}

#[tokio::test(flavor = "multi_thread")]
async fn records_that_have_left_the_stream_come_from_the_owner() {
    let place = Place::sqlite().await;
    let log = place.log(LOG).await;
    let nats = Nats::start().await;
    let context = context(&nats).await;
    let _relay = Relay::start(&log, &nats, Duration::from_secs(2)).await;
    fill(&log, 400).await;
    published(&context, 400).await;
    eventually(SOON, "the first records have left the stream", async || {
        (state(&context).await?.first_sequence > 400).then_some(())
    })
    .await;
    fill(&log, 100).await;
    published(&context, 500).await;

    let alone = JetStreamLog::new(nats.client().await, LOG, None);
    let gap = alone.follow(Cursor::START).next().await;
    assert!(matches!(gap, Some(Err(FollowError::Gap { expected: 1, .. }))), "{gap:?}");

    let owner: Arc<dyn Follow> = Arc::new(Exchanged(log.clone()));
    let source = JetStreamLog::new(nats.client().await, LOG, Some(owner));
    let follower = tokio::spawn(async move { follow_to(&source, Cursor::START, 600).await });
    fill(&log, 100).await;
    assert_eq!(follower.await.expect("no panic"), masked(&log).await);
}

/// What a follower with this cursor is told once it is told anything.
async fn first(source: &JetStreamLog, after: &Cursor) -> Result<Item, FollowError> {
    let first = async {
        loop {
            match source.follow(after.clone()).next().await.expect("an item") {
                // The stream is being made anew: begin again.
                Err(FollowError::Unavailable { .. }) => {
                    tokio::time::sleep(Duration::from_millis(50)).await;
                }
                item => return item,
            }
        }
    };
    tokio::time::timeout(SOON, first).await.expect("an answer in time")
}

#[tokio::test(flavor = "multi_thread")]
async fn a_follower_never_goes_on_silently_in_another_history() {
    let (place, elsewhere) = (Place::sqlite().await, Place::sqlite().await);
    let (log, restored) = (place.log(LOG).await, elsewhere.log(LOG).await);
    let nats = Nats::start().await;
    let context = context(&nats).await;
    let relay = Relay::start(&log, &nats, FOR_EVER).await;
    fill(&log, 300).await;
    let source = JetStreamLog::new(nats.client().await, LOG, None);
    let history = follow_to(&source, Cursor::START, 300).await;
    let mut live = source.follow(Cursor::at(&history[299]));
    let caught_up = live.next().await;
    assert!(matches!(caught_up, Some(Ok(Item::CaughtUp(_)))), "{caught_up:?}");
    fill(&log, 1).await;
    let record = live.next().await;
    assert!(matches!(record, Some(Ok(Item::Record(_)))), "{record:?}");

    relay.stop().await;
    fill(&restored, 600).await;
    let _relay = Relay::start(&restored, &nats, FOR_EVER).await;
    let next = tokio::time::timeout(SOON, live.next()).await.expect("an answer in time");
    assert!(matches!(next, Some(Err(_))), "it went on with {next:?}");
    published(&context, 600).await;
    for seen in [&history[0], &history[149], &history[299]] {
        let answer = first(&source, &Cursor::at(seen)).await;
        assert!(matches!(answer, Err(FollowError::NotInHistory { .. })), "{answer:?}");
    }
}
