//! Appending: versions, guards, command ids, limits, and the chain.

use std::time::Duration;

use futures::future::join_all;
use jiff::Timestamp;
use samen_log::append::{MAX_EVENT_BYTES, MAX_EVENTS};
use samen_log::{AppendError, Expected, Keyring, MasterKey};
use samen_tests::{Place, on_both_databases};

use super::shared::{LOG, accepted, command, event, fill, read_all, verify, write};

on_both_databases!(
    one_of_many_at_the_same_version_is_accepted,
    the_same_command_writes_once,
    a_guard_that_moved_refuses,
    a_conflict_is_refused_alone,
    what_comes_too_late_is_refused,
    what_is_too_large_is_refused,
    a_key_is_made_once,
    records_are_chained_and_in_the_order_of_time,
    another_log_is_not_opened,
);

fn at(stream: &str, version: u64) -> Vec<Expected> {
    vec![Expected { stream: stream.to_owned(), version }]
}

async fn one_of_many_at_the_same_version_is_accepted(place: Place) {
    let log = place.log(LOG).await;
    log.append(write("request/1", "filed")).await.expect("it is new");
    let tasks = (0..64).map(|number| {
        let log = log.clone();
        let mut append = write("request/1", number);
        append.expect = at("request/1", 1);
        tokio::spawn(async move { log.append(append).await })
    });
    let results = join_all(tasks).await.into_iter().map(|task| task.expect("no panic")).collect();

    let (appended, refused) = accepted(results);
    assert_eq!((appended.first, appended.last), (2, 2));
    assert_eq!(refused.len(), 63);
    let conflict = AppendError::Conflict { stream: "request/1".to_owned(), expected: 1, actual: 2 };
    assert!(refused.iter().all(|error| *error == conflict));
    assert_eq!(verify(&log).await, 2);
}

async fn the_same_command_writes_once(place: Place) {
    let log = place.log(LOG).await;
    fill(&log, 10).await;
    let tasks = (0..20).map(|_| {
        let log = log.clone();
        let mut append = write("request/new", "filed");
        append.expect = at("request/new", 0);
        append.events.push(event("request/new", "changed"));
        append.command = command("once");
        tokio::spawn(async move { log.append(append).await.expect("it is the same command") })
    });
    let results: Vec<_> =
        join_all(tasks).await.into_iter().map(|task| task.expect("no panic")).collect();

    assert!(results.iter().all(|a| (a.first, a.last) == (11, 12)));
    assert_eq!(results.iter().filter(|a| a.replayed.is_none()).count(), 1);
    assert_eq!(verify(&log).await, 12);

    // Also for a process that starts later.
    let mut again = write("request/new", "filed");
    again.command = command("once");
    let again = place.log(LOG).await.append(again).await.expect("it is the same command");
    assert_eq!((again.first, again.last), (11, 12));
    assert_eq!(again.replayed.expect("it was accepted before").fingerprint, b"same");
}

async fn a_guard_that_moved_refuses(place: Place) {
    let log = place.log(LOG).await;
    log.append(write("process/1", "published")).await.expect("it is new");
    let contribute = |version| {
        let mut append = write("contribution/1", "submitted");
        append.expect = at("process/1", version);
        append
    };
    log.append(contribute(1)).await.expect("the process did not move");
    log.append(write("process/1", "closed")).await.expect("any version");

    let refused = log.append(contribute(1)).await;
    let conflict = AppendError::Conflict { stream: "process/1".to_owned(), expected: 1, actual: 2 };
    assert_eq!(refused, Err(conflict));
    assert_eq!(verify(&log).await, 3);
}

async fn a_conflict_is_refused_alone(place: Place) {
    let log = place.log(LOG).await;
    let mut appends: Vec<_> =
        (0..300).map(|number| write(&format!("request/{number}"), "filed")).collect();
    appends[150].expect = at("request/150", 9);
    // All wait at the same time, so that they share batches.
    let results = join_all(appends.into_iter().map(|append| log.append(append))).await;

    let refused: Vec<_> = results.iter().enumerate().filter(|(_, r)| r.is_err()).collect();
    assert!(matches!(refused.as_slice(), [(150, Err(AppendError::Conflict { .. }))]));
    assert_eq!(verify(&log).await, 299);
    assert!(read_all(&log).await.iter().all(|record| record.stream != "request/150"));
}

async fn what_comes_too_late_is_refused(place: Place) {
    let log = place.log(LOG).await;
    let hour = Duration::from_secs(3_600);
    let mut append = write("process/1", "contributed");
    append.not_after = Some(Timestamp::now() - hour);
    append.command = command("late");
    assert_eq!(log.append(append.clone()).await, Err(AppendError::TooLate));
    assert_eq!(verify(&log).await, 0);

    append.not_after = Some(Timestamp::now() + hour);
    log.append(append.clone()).await.expect("it is in time");
    // What was accepted in time has its result for ever.
    append.not_after = Some(Timestamp::now() - hour);
    assert!(log.append(append).await.is_ok_and(|appended| appended.replayed.is_some()));
}

async fn what_is_too_large_is_refused(place: Place) {
    let log = place.log(LOG).await;
    let largest = write("request/1", "x".repeat(MAX_EVENT_BYTES));
    log.append(largest).await.expect("it is within the limit");
    let bytes = MAX_EVENT_BYTES + 1;
    let refused = log.append(write("request/1", "x".repeat(bytes))).await;
    assert_eq!(refused, Err(AppendError::TooLarge { bytes }));

    let mut many = write("request/1", "one");
    many.events = vec![event("request/1", "one of many"); MAX_EVENTS];
    log.append(many.clone()).await.expect("it is within the limit");
    many.events.push(event("request/1", "one more"));
    let refused = log.append(many).await;
    assert_eq!(refused, Err(AppendError::TooMany { events: MAX_EVENTS + 1 }));
    assert_eq!(verify(&log).await, 1 + MAX_EVENTS as u64);
}

async fn a_key_is_made_once(place: Place) {
    let log = place.log(LOG).await;
    let keys = Keyring::new(log.schema().clone(), &MasterKey::generate(false), LOG);
    let appends = (0..2).map(|_| {
        let mut append = write("request/1", "filed");
        append.keys = vec![keys.create("text/1").1];
        append
    });
    let results = join_all(appends.map(|append| log.append(append))).await;

    let (_, refused) = accepted(results);
    let exists = AppendError::KeyExists { id: "text/1".to_owned() };
    assert_eq!(refused, vec![exists.clone()]);
    // Nor when it was made long ago.
    let mut later = write("request/1", "changed");
    later.keys = vec![keys.create("text/1").1];
    assert_eq!(log.append(later).await, Err(exists));
    assert_eq!(verify(&log).await, 1);
}

async fn records_are_chained_and_in_the_order_of_time(place: Place) {
    let log = place.log(LOG).await;
    let tasks = (0..16).map(|task| {
        let log = log.clone();
        tokio::spawn(async move {
            for number in 0..25 {
                let stream = format!("request/{}", number % 5);
                log.append(write(&stream, format!("{task} {number}"))).await.expect("no conflict");
            }
        })
    });
    for task in join_all(tasks).await {
        task.expect("no panic");
    }
    assert_eq!(verify(&log).await, 400);
}

async fn another_log_is_not_opened(place: Place) {
    place.log(LOG).await;
    let shutdown = tokio_util::sync::CancellationToken::new();
    let other = samen_log::Log::open(&place.location().await, "gm0437.requests", shutdown).await;
    assert!(other.is_err_and(|error| error.to_string().contains(LOG)));
}
