//! A follower that stood still while what it needs left the stream.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use futures::StreamExt;
use samen_log::exchange::Retention;
use samen_log::streamed::Streamed;
use samen_log::{Cursor, Follow, Item, Task, relay};
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
