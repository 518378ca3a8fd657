//! Followers whose place has left the stream.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use futures::StreamExt;
use samen_log::exchange::Retention;
use samen_log::streamed::Streamed;
use samen_log::{Cursor, Follow, FollowError, Item, Task, relay};
use samen_proto::operations::TaskKind;
use tokio::time::{sleep, timeout};
use tokio_util::sync::CancellationToken;

use super::SOURCE;
use super::bus::SimBus;
use super::log::{Door, SimLog, Write};
use super::run::in_jumping_time;
use super::world::World;
use crate::log::shared::EXCHANGED;

async fn append(log: &SimLog, command: &str) {
    let (stream, kind) = ("request/1", EXCHANGED);
    let write = Write { command, stream, version: None, kind, data: Vec::new() };
    log.append(write).await.expect("nothing fails");
}

#[test]
fn what_left_the_stream_meanwhile_comes_though_nothing_more_is_written() {
    in_jumping_time(async {
        let world = World::new(0, false);
        world.calm_down();
        let (log, bus) = (SimLog::new(&world, SOURCE), SimBus::new(&world, SOURCE));
        let retention = Retention { max_age: Duration::from_secs(5), replicas: 1 };
        let (task, shutdown) = (Task::new(TaskKind::Relay, "relay"), CancellationToken::new());
        tokio::spawn(relay::run(log.clone(), bus.connect(), retention, task, shutdown));
        append(&log, "first").await;

        let owner = Door(Arc::new(Mutex::new(log.clone())));
        let source = Streamed::over(bus, Some(Arc::new(owner)));
        let mut items = source.follow(Cursor::START);
        while !matches!(items.next().await, Some(Ok(Item::CaughtUp(_)))) {}
        // Until it reads the stream, and has looked whether that is still the
        // same.
        timeout(Duration::from_secs(8), items.next()).await.expect_err("there is no more");

        append(&log, "second").await;
        sleep(Duration::from_secs(30)).await;
        let next = timeout(Duration::from_secs(60), items.next()).await.expect("an item in time");
        assert!(matches!(&next, Some(Ok(Item::Record(r))) if r.position == 2), "{next:?}");
    });
}

/// The stream ends where the follower is, and has nothing any more by which to
/// tell whether that is the same place.
#[test]
fn a_stream_that_holds_nothing_vouches_for_nobody() {
    in_jumping_time(async {
        let world = World::new(0, false);
        world.calm_down();
        let lost = SimLog::new(&world, SOURCE);
        append(&lost, "first").await;
        append(&lost, "lost").await;
        let (log, bus) = (lost.restored(1), SimBus::new(&world, SOURCE));
        append(&log, "other").await;
        let retention = Retention { max_age: Duration::from_secs(5), replicas: 1 };
        let (task, shutdown) = (Task::new(TaskKind::Relay, "relay"), CancellationToken::new());
        tokio::spawn(relay::run(log.clone(), bus.connect(), retention, task, shutdown));
        while !matches!(bus.holds(), Some((2, held)) if held.is_empty()) {
            sleep(Duration::from_secs(1)).await;
        }

        let owner = Door(Arc::new(Mutex::new(log.clone())));
        let source = Streamed::over(bus, Some(Arc::new(owner)));
        let at = |log: &SimLog| Cursor::at(log.records().last().expect("one"));
        let refused = source.follow(at(&lost)).next().await;
        assert!(matches!(refused, Some(Err(FollowError::NotInHistory { .. }))), "{refused:?}");
        let mut items = source.follow(at(&log));
        let caught_up = items.next().await;
        assert!(matches!(caught_up, Some(Ok(Item::CaughtUp(_)))), "{caught_up:?}");
        append(&log, "next").await;
        let next = timeout(Duration::from_secs(60), items.next()).await.expect("an item in time");
        assert!(matches!(&next, Some(Ok(Item::Record(r))) if r.position == 3), "{next:?}");
    });
}
