//! The relay: a stream is its log, masked, whatever happens to the exchange.

use std::time::Duration;

use async_nats::Client;
use async_nats::jetstream::{self, Context, consumer, stream};
use futures::StreamExt;
use prost::Message;
use samen_log::jetstream::{JetStream, stream_name};
use samen_log::relay::{self, Retention};
use samen_log::{Log, Record, Task};
use samen_proto::contract;
use samen_proto::operations::TaskKind;
use samen_tests::{Nats, Place, eventually, on_both_databases};
use tokio_util::sync::{CancellationToken, DropGuard};

use super::shared::{LOG, SOON, fill, read_all};

on_both_databases!(
    a_stream_is_the_masked_log_although_its_server_is_killed,
    a_stream_that_is_lost_is_filled_again_although_nothing_happens,
);

/// Keeps everything.
pub const FOR_EVER: Duration = Duration::ZERO;

/// A relay at work, until it is dropped.
pub struct Relay {
    /// What it shows of itself.
    pub task: Task,
    running: tokio::task::JoinHandle<()>,
    shutdown: DropGuard,
}

impl Relay {
    pub async fn start(log: &Log, nats: &Nats, max_age: Duration) -> Self {
        Self::start_on(log, nats.client().await, max_age)
    }

    /// On a connection of the caller's making.
    pub fn start_on(log: &Log, client: Client, max_age: Duration) -> Self {
        let shutdown = CancellationToken::new();
        let retention = Retention { max_age, replicas: 1 };
        let exchange = JetStream::new(client, log.id());
        let task = Task::new(TaskKind::Relay, "relay");
        let run = relay::run(log.clone(), exchange, retention, task.clone(), shutdown.clone());
        Relay { task, running: tokio::spawn(run), shutdown: shutdown.drop_guard() }
    }

    /// Waits until it has made the stream anew, and says so with these words.
    pub async fn made_anew(&self, why: &str) {
        eventually(SOON, &format!("the stream is made anew: {why}"), async || {
            let note = self.task.shown().note;
            (note.contains("made anew") && note.contains(why)).then_some(())
        })
        .await;
    }

    pub async fn stop(self) {
        drop(self.shutdown);
        self.running.await.expect("no panic");
    }
}

pub async fn context(nats: &Nats) -> Context {
    jetstream::new(nats.client().await)
}

/// The state of the log's stream; `None` where it cannot be had at the moment.
pub async fn state(context: &Context) -> Option<stream::State> {
    let stream = context.get_stream(stream_name(LOG)).await.ok()?;
    Some(stream.cached_info().state.clone())
}

/// Waits until the stream's last sequence is this.
pub async fn published(context: &Context, last: u64) {
    eventually(SOON, &format!("the stream is at {last}"), async || {
        (state(context).await?.last_sequence == last).then_some(())
    })
    .await;
}

/// Reads the whole stream and compares it with the log: once, in order, each
/// sequence its position, and nothing of what stays at home.
pub async fn assert_is_the_log(context: &Context, log: &Log) {
    assert_is_the_log_from(context, log, 1).await;
}

/// The same for a stream that begins at a later position.
pub async fn assert_is_the_log_from(context: &Context, log: &Log, first: u64) {
    let mut records = read_all(log).await;
    let last = records.len() as u64;
    published(context, last).await;
    records.drain(..first as usize - 1);
    let stream = context.get_stream(stream_name(LOG)).await.expect("the stream");
    let config = consumer::pull::OrderedConfig::default();
    let messages = stream.create_consumer(config).await.expect("a consumer");
    let messages = messages.messages().await.expect("its messages");
    let mut messages = messages.take(records.len());
    for record in &records {
        let message = messages.next().await.expect("another message").expect("no error");
        let sequence = message.info().expect("it comes from a stream").stream_sequence;
        assert_eq!(sequence, record.position);
        let sent = Record::decode(message.payload.clone()).expect("a record");
        if contract::is_exchanged(&record.r#type) {
            assert_eq!(sent, **record);
        } else {
            let Record { log, epoch, position, hash, .. } = (**record).clone();
            assert_eq!(sent, Record { log, epoch, position, hash, ..Record::default() });
        }
    }
    let state = state(context).await.expect("the stream");
    assert_eq!((state.first_sequence, state.last_sequence), (first, last));
    assert_eq!(state.messages, records.len() as u64);
}

async fn a_stream_is_the_masked_log_although_its_server_is_killed(place: Place) {
    let log = place.log(LOG).await;
    let mut nats = Nats::start().await;
    let context = context(&nats).await;
    let _relay = Relay::start(&log, &nats, FOR_EVER).await;
    let appending = tokio::spawn({
        let log = log.clone();
        async move { fill(&log, 5_000).await }
    });
    for round in 1..=3 {
        eventually(SOON, "the next part is published", async || {
            (state(&context).await?.last_sequence >= round * 1_000).then_some(())
        })
        .await;
        nats.kill();
        nats.restart().await;
    }
    appending.await.expect("no panic");
    assert_is_the_log(&context, &log).await;
}

async fn a_stream_that_is_lost_is_filled_again_although_nothing_happens(place: Place) {
    let log = place.log(LOG).await;
    let mut nats = Nats::start().await;
    let context = context(&nats).await;
    let _relay = Relay::start(&log, &nats, FOR_EVER).await;
    fill(&log, 1_000).await;
    published(&context, 1_000).await;

    context.delete_stream(stream_name(LOG)).await.expect("it exists");
    assert_is_the_log(&context, &log).await;
    // And when the server has lost its disk.
    nats.restart_empty().await;
    assert_is_the_log(&context, &log).await;
    // Publishing goes on there.
    fill(&log, 10).await;
    assert_is_the_log(&context, &log).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stream_of_another_history_is_made_anew() {
    let nats = Nats::start().await;
    let context = context(&nats).await;
    // Shorter, longer, and as long as the one before.
    for records in [300, 200, 500, 500] {
        let place = Place::sqlite().await;
        let log = place.log(LOG).await;
        fill(&log, records).await;
        let relay = Relay::start(&log, &nats, FOR_EVER).await;
        eventually(SOON, "the stream holds this history", async || {
            let stream = context.get_stream(stream_name(LOG)).await.ok()?;
            let last = stream.get_raw_message(records).await.ok()?;
            let last = Record::decode(last.payload).expect("a record");
            (last.hash == log.read(records - 1, 1).await.expect("the log")[0].hash).then_some(())
        })
        .await;
        assert_is_the_log(&context, &log).await;
        relay.stop().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn two_relays_publish_each_record_once() {
    let place = Place::postgres().await;
    let nats = Nats::start().await;
    let context = context(&nats).await;
    let replicas = [place.log(LOG).await, place.log(LOG).await];
    let _relays = [
        Relay::start(&replicas[0], &nats, FOR_EVER).await,
        Relay::start(&replicas[1], &nats, FOR_EVER).await,
    ];
    futures::join!(fill(&replicas[0], 1_500), fill(&replicas[1], 1_500));
    assert_is_the_log(&context, &replicas[0]).await;
}
