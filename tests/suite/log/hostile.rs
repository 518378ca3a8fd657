//! What others do to a stream, and what becomes of a server's memory: the
//! stream is its log all the same, and followers miss nothing.

use std::net::Ipv4Addr;
use std::sync::Arc;
use std::time::Duration;

use async_nats::jetstream::Context;
use async_nats::jetstream::stream::{Config, Republish, RetentionPolicy, StorageType};
use futures::{StreamExt, TryStreamExt, future};
use samen_log::jetstream::{JetStreamLog, stream_name};
use samen_log::{Cursor, Follow, Record};
use samen_proto::operations::TaskState;
use samen_tests::{Nats, Place, eventually};
use tokio::io::{AsyncBufReadExt, AsyncWriteExt, BufReader};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinHandle;

use super::exchange::masked;
use super::relay::{FOR_EVER, Relay, assert_is_the_log, context, published, state};
use super::shared::{LOG, SOON, fill, follow_to};

/// Where a stranger's stream tells what was published to it.
const TOLD: &str = "stranger";

/// How this release makes the stream, as the server says.
async fn settings(context: &Context) -> Config {
    let stream = context.get_stream(stream_name(LOG)).await.expect("the stream");
    stream.cached_info().config.clone()
}

/// Followers that see everything up to a position, through the exchange alone.
async fn followers(nats: &Nats, number: usize, last: u64) -> Vec<JoinHandle<Vec<Arc<Record>>>> {
    let mut followers = Vec::new();
    for _ in 0..number {
        let source = JetStreamLog::new(nats.client().await, LOG, None);
        followers.push(tokio::spawn(async move { follow_to(&source, Cursor::START, last).await }));
    }
    followers
}

async fn consumers(context: &Context) -> Vec<String> {
    let stream = context.get_stream(stream_name(LOG)).await.expect("the stream");
    stream.consumer_names().try_collect().await.expect("their names")
}

#[tokio::test(flavor = "multi_thread")]
async fn followers_go_on_when_their_consumers_are_deleted_or_stand_still() {
    let place = Place::sqlite().await;
    let log = place.log(LOG).await;
    let nats = Nats::start().await;
    let context = context(&nats).await;
    let _relay = Relay::start(&log, &nats, FOR_EVER).await;
    fill(&log, 300).await;
    published(&context, 300).await;
    let followers = followers(&nats, 3, 1_500).await;

    for round in 0..4 {
        // Some have left what a round before it did to them.
        let found = eventually(SOON, "each has a consumer", async || {
            let found = consumers(&context).await;
            (found.len() >= 3).then_some(found)
        })
        .await;
        let stream = context.get_stream(stream_name(LOG)).await.expect("the stream");
        for consumer in found {
            if round % 2 == 0 {
                stream.delete_consumer(&consumer).await.expect("deleted");
            } else {
                // It lives, and says so, and brings nothing.
                let later = stream.cached_info().created + Duration::from_secs(3600);
                stream.pause_consumer(&consumer, later).await.expect("paused");
            }
        }
        fill(&log, 300).await;
    }
    for follower in followers {
        assert_eq!(follower.await.expect("no panic"), masked(&log).await);
    }
    assert_is_the_log(&context, &log).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stream_with_other_settings_is_made_anew_before_anything_is_published() {
    let place = Place::sqlite().await;
    let log = place.log(LOG).await;
    let nats = Nats::start().await;
    let context = context(&nats).await;
    fill(&log, 300).await;
    let relay = Relay::start(&log, &nats, FOR_EVER).await;
    published(&context, 300).await;
    relay.stop().await;
    let ours = settings(&context).await;
    let mut told = nats.client().await.subscribe(format!("{TOLD}.>")).await.expect("subscribed");

    let subjects = vec![format!("samen.{LOG}.>"), "others.*".to_owned()];
    let republish =
        Republish { source: ">".into(), destination: format!("{TOLD}.>"), headers_only: true };
    let republished = Config { republish: Some(republish), ..ours.clone() };
    let strange = [
        ("retention", Config { retention: RetentionPolicy::WorkQueue, ..ours.clone() }),
        ("deny_purge", Config { deny_purge: false, ..ours.clone() }),
        ("deny_delete", Config { deny_delete: false, ..ours.clone() }),
        ("subjects", Config { subjects, ..ours.clone() }),
        ("max_msgs", Config { max_messages: 100, ..ours.clone() }),
        ("storage", Config { storage: StorageType::Memory, ..ours.clone() }),
        ("no_ack", Config { no_ack: true, ..ours.clone() }),
        ("republish", republished.clone()),
    ];
    for (setting, config) in strange {
        context.delete_stream(stream_name(LOG)).await.expect("it exists");
        context.create_stream(config).await.expect(setting);
        let relay = Relay::start(&log, &nats, FOR_EVER).await;
        relay.made_anew(setting).await;
        assert_is_the_log(&context, &log).await;
        assert_eq!(settings(&context).await, ours, "{setting}");
        // While it runs, too.
        if setting == "retention" {
            context.delete_stream(stream_name(LOG)).await.expect("it exists");
            let config = Config { max_bytes: 1 << 30, ..ours.clone() };
            context.create_stream(config).await.expect("a stranger's stream");
            relay.made_anew("max_bytes").await;
            fill(&log, 10).await;
            assert_is_the_log(&context, &log).await;
        }
        relay.stop().await;
    }
    // The first that such a stream tells of is not from a relay.
    context.delete_stream(stream_name(LOG)).await.expect("it exists");
    context.create_stream(republished).await.expect("a stranger's stream");
    let subject = format!("samen.{LOG}.nobody");
    context.publish(subject.clone(), "".into()).await.expect("sent").await.expect("stored");
    let first = told.next().await.expect("it tells");
    assert_eq!(first.subject.as_str(), format!("{TOLD}.{subject}"));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stream_that_was_purged_is_made_anew() {
    let place = Place::sqlite().await;
    let log = place.log(LOG).await;
    let nats = Nats::start().await;
    let context = context(&nats).await;
    fill(&log, 300).await;
    let relay = Relay::start(&log, &nats, FOR_EVER).await;
    published(&context, 300).await;
    relay.stop().await;
    let ours = settings(&context).await;

    // Its own settings refuse it, and do not let go of that.
    let stream = context.get_stream(stream_name(LOG)).await.expect("the stream");
    stream.purge().await.expect_err("purging is denied");
    stream.delete_message(7).await.expect_err("deleting is denied");
    let loose = Config { deny_purge: false, ..ours.clone() };
    context.update_stream(loose.clone()).await.expect_err("that stays so");
    assert_is_the_log(&context, &log).await;

    // Somebody's that holds the same, and is purged: its last sequence stays.
    context.delete_stream(stream_name(LOG)).await.expect("it exists");
    let mut stream = context.create_stream(loose).await.expect("a stranger's stream");
    for _ in 0..300 {
        let subject = format!("samen.{LOG}.StatusChanged");
        context.publish(subject, "".into()).await.expect("sent").await.expect("stored");
    }
    stream.purge().await.expect("purged");
    let state = &stream.info().await.expect("its state").state;
    assert_eq!((state.messages, state.last_sequence), (0, 300));
    let relay = Relay::start(&log, &nats, FOR_EVER).await;
    relay.made_anew("deny_purge").await;
    assert_is_the_log(&context, &log).await;

    // And one that is as it should be, but that it is empty.
    relay.stop().await;
    context.delete_stream(stream_name(LOG)).await.expect("it exists");
    let emptied =
        Config { first_sequence: Some(301), metadata: Default::default(), ..ours.clone() };
    context.create_stream(emptied).await.expect("a stranger's stream");
    let relay = Relay::start(&log, &nats, FOR_EVER).await;
    relay.made_anew("it was emptied").await;
    assert_is_the_log(&context, &log).await;
    assert_eq!(settings(&context).await, ours);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_strangers_stream_with_the_same_subjects_is_left_alone_and_told_of() {
    let place = Place::sqlite().await;
    let log = place.log(LOG).await;
    let nats = Nats::start().await;
    let context = context(&nats).await;
    fill(&log, 30).await;
    let subjects = vec!["samen.>".to_owned()];
    let config = Config { name: "THEIRS".to_owned(), subjects, ..Config::default() };
    let mut theirs = context.create_stream(config).await.expect("a stranger's stream");

    let relay = Relay::start(&log, &nats, FOR_EVER).await;
    let error = eventually(SOON, "the relay says what is wrong", async || {
        let shown = relay.task.shown();
        (shown.state() == TaskState::Failing).then_some(shown.error?.message)
    })
    .await;
    assert!(error.contains("subjects overlap"), "{error}");
    assert_eq!(theirs.info().await.expect("its state").state.messages, 0);
    // Until somebody takes it away.
    context.delete_stream("THEIRS").await.expect("it exists");
    assert_is_the_log(&context, &log).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_that_went_back_in_time_is_brought_up_to_the_log() {
    let place = Place::sqlite().await;
    let log = place.log(LOG).await;
    let mut nats = Nats::start().await;
    let context = context(&nats).await;
    let relay = Relay::start(&log, &nats, FOR_EVER).await;
    fill(&log, 500).await;
    published(&context, 500).await;
    let followers = followers(&nats, 2, 2_500).await;
    let older = nats.copy();

    // Nothing is appended afterwards: the relay notices by itself.
    fill(&log, 500).await;
    published(&context, 1_000).await;
    nats.restart_from(&older).await;
    assert_is_the_log(&context, &log).await;
    // And while appends go on.
    let appending = tokio::spawn({
        let log = log.clone();
        async move { fill(&log, 1_000).await }
    });
    nats.restart_from(&older).await;
    appending.await.expect("no panic");
    assert_is_the_log(&context, &log).await;
    // And from a copy that the relay never sees the server leave: it was not
    // there.
    relay.stop().await;
    nats.restart_from(&older).await;
    fill(&log, 500).await;
    let relay = Relay::start(&log, &nats, FOR_EVER).await;
    assert_is_the_log(&context, &log).await;
    assert_eq!(relay.task.shown().note, "", "it was not made anew");

    let seen = future::join_all(followers).await;
    for follower in seen {
        assert_eq!(follower.expect("no panic"), masked(&log).await);
    }
}

/// Before a server, says that it is of this version.
async fn claims(url: &str, version: &'static str) -> String {
    let server = url.trim_start_matches("nats://").to_owned();
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.expect("a free port");
    let claims = format!("nats://{}", listener.local_addr().expect("an address"));
    tokio::spawn(async move {
        while let Ok((mut client, _)) = listener.accept().await {
            let mut server = BufReader::new(TcpStream::connect(&server).await.expect("it runs"));
            tokio::spawn(async move {
                // The first line is about the server, in JSON.
                let mut line = String::new();
                server.read_line(&mut line).await.expect("its first line");
                let mut info: serde_json::Value = serde_json::from_str(&line[5..]).expect("JSON");
                info["version"] = version.into();
                client.write_all(format!("INFO {info}\r\n").as_bytes()).await.expect("sent");
                let _ = tokio::io::copy_bidirectional(&mut client, &mut server).await;
            });
        }
    });
    claims
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_that_is_too_old_is_told_of_with_the_version_that_is_needed() {
    let place = Place::sqlite().await;
    let log = place.log(LOG).await;
    fill(&log, 30).await;
    let nats = Nats::start().await;
    let context = context(&nats).await;
    let old = claims(&nats.url(), "2.9.10").await;
    let client = async_nats::connect(&old).await.expect("it answers");

    let relay = Relay::start_on(&log, client.clone(), FOR_EVER);
    let error = eventually(SOON, "the relay says what is wrong", async || {
        Some(relay.task.shown().error?.message)
    })
    .await;
    assert_eq!(error, "NATS 2.9.10 is too old: 2.10 or newer is needed");
    let follower = JetStreamLog::new(client, LOG, None).follow(Cursor::START).next().await;
    let error = follower.expect("an answer").expect_err("nor can it be followed");
    assert!(error.to_string().contains("2.10 or newer is needed"), "{error}");
    assert!(state(&context).await.is_none(), "no stream was made");
    relay.stop().await;

    // The oldest that will do.
    let enough = claims(&nats.url(), "2.10.0").await;
    let client = async_nats::connect(&enough).await.expect("it answers");
    let _relay = Relay::start_on(&log, client, FOR_EVER);
    assert_is_the_log(&context, &log).await;
}
