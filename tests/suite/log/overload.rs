//! More than the appender can take, and what it cannot take at all: it refuses
//! what it must, and nothing else.

use std::time::Duration;

use futures::future::join_all;
use futures::poll;
use jiff::Timestamp;
use samen_log::append::{MAX_COMMAND_BYTES, MAX_EVENT_BYTES, MAX_NAME_BYTES, NewKey};
use samen_log::{Append, AppendError, Appended, Db, Expected, Log, on_db};
use samen_tests::{Place, eventually, on_both_databases};
use sqlx::{Postgres, Sqlite, Transaction};

use super::shared::{LOG, command, commands, event, read_all, until_accepted, verify, write};

on_both_databases!(
    a_full_queue_refuses_and_keeps_what_it_accepted,
    a_queue_of_large_commands_is_bounded_by_their_bytes,
    commands_that_nobody_waits_for_are_not_done,
    what_the_database_refuses_is_refused_alone,
    names_that_no_database_could_keep_are_refused_alone,
    time_does_not_run_backwards_when_the_clock_does,
    a_commit_that_nobody_heard_of_is_followed,
);

/// Holds the log's lock, until it is dropped.
enum Held {
    Postgres(#[allow(dead_code)] Transaction<'static, Postgres>),
    Sqlite(#[allow(dead_code)] Transaction<'static, Sqlite>),
}

async fn hold(log: &Log) -> Held {
    match &log.schema().db {
        Db::Postgres(pool) => {
            let mut tx = pool.begin().await.expect("a transaction");
            let sql = log.schema().sql("SELECT 1 FROM {s}.head FOR UPDATE");
            sqlx::query(sql).execute(&mut *tx).await.expect("the lock");
            Held::Postgres(tx)
        }
        Db::Sqlite(pool) => Held::Sqlite(pool.begin_with("BEGIN IMMEDIATE").await.expect("it")),
    }
}

/// What is known of commands that were sent all at once while the log was held.
async fn flood(log: &Log, appends: &[Append]) -> Vec<Result<Appended, AppendError>> {
    let held = hold(log).await;
    let mut answers = Box::pin(join_all(appends.iter().map(|append| log.append(append.clone()))));
    // All of them are asked by this; none can have been done.
    assert!(poll!(&mut answers).is_pending(), "the lock is held");
    drop(held);
    answers.await
}

/// Those that were accepted are there once, and the others after they are asked
/// again; gives how many were refused.
async fn settle(
    log: &Log,
    appends: &[Append],
    answers: Vec<Result<Appended, AppendError>>,
) -> usize {
    let known = commands(log).await;
    let (mut refused, mut unknown) = (Vec::new(), Vec::new());
    for (append, answer) in appends.iter().zip(answers) {
        let id = &append.command.as_ref().expect("each has one").id;
        match answer {
            Ok(appended) => assert_eq!(known.get(id), Some(&appended.first), "{id}"),
            Err(AppendError::Overloaded) => {
                assert!(!known.contains_key(id), "{id} was refused");
                refused.push(append);
            }
            // On a machine that is too busy to write it in time.
            Err(AppendError::Unavailable { .. }) => unknown.push(append),
            Err(error) => panic!("{error}"),
        }
    }
    let again = refused.iter().chain(&unknown).map(|append| until_accepted(log, (*append).clone()));
    join_all(again).await;
    assert_eq!(commands(log).await.len(), appends.len());
    assert_eq!(verify(log).await, appends.len() as u64);
    refused.len()
}

fn many(count: usize, bytes: usize) -> Vec<Append> {
    let append = |number: usize| {
        let mut append = write(&format!("request/{}", number % 50), "x".repeat(bytes));
        append.command = command(&number.to_string());
        append
    };
    (0..count).map(append).collect()
}

async fn a_full_queue_refuses_and_keeps_what_it_accepted(place: Place) {
    let log = place.log(LOG).await;
    let appends = many(6_000, 10);
    let answers = flood(&log, &appends).await;
    let refused = settle(&log, &appends, answers).await;
    // The queue holds 4,096, and one batch is being written.
    assert!((6_000 - 4_096 - 512..=6_000 - 4_096).contains(&refused), "{refused}");
}

async fn a_queue_of_large_commands_is_bounded_by_their_bytes(place: Place) {
    let log = place.log(LOG).await;
    let appends = many(300, MAX_EVENT_BYTES);
    let answers = flood(&log, &appends).await;
    let refused = settle(&log, &appends, answers).await;
    // 64 MiB hold not quite 256 of them.
    assert!((45..=50).contains(&refused), "{refused}");
}

async fn commands_that_nobody_waits_for_are_not_done(place: Place) {
    let log = place.log(LOG).await;
    let held = hold(&log).await;
    // More than half of what a command may hold is a batch of its own: whoever
    // comes after it is not written with it.
    let events = MAX_COMMAND_BYTES / MAX_EVENT_BYTES / 2 + 1;
    let large = Append {
        events: vec![event("request/1", "x".repeat(MAX_EVENT_BYTES)); events],
        ..write("request/1", "large")
    };
    let mut first = Box::pin(log.append(large));
    assert!(poll!(&mut first).is_pending(), "the lock is held");
    let appends = many(200, 10);
    let mut others = Box::pin(join_all(appends.iter().map(|append| log.append(append.clone()))));
    assert!(poll!(&mut others).is_pending(), "the lock is held");
    drop(others);
    drop(held);
    first.await.expect("it waited");
    // Nor are they in the way of those who do wait.
    let last = log.append(write("request/1", "last")).await.expect("there is room");
    assert_eq!(last.first, events as u64 + 1);
    assert_eq!(verify(&log).await, events as u64 + 1);
}

async fn what_the_database_refuses_is_refused_alone(place: Place) {
    let log = place.log(LOG).await;
    // A rule that this release knows nothing of.
    let rule = match &log.schema().db {
        Db::Postgres(_) => "ALTER TABLE {s}.record ADD CHECK (actor <> 'unwanted')",
        Db::Sqlite(_) => {
            "CREATE TRIGGER {s}.rule BEFORE INSERT ON record WHEN new.actor = 'unwanted'
             BEGIN SELECT raise(ABORT, 'unwanted'); END"
        }
    };
    on_db!(&log.schema().db, pool => {
        sqlx::raw_sql(log.schema().sql(rule)).execute(pool).await.expect("the rule");
    });
    let mut appends = many(300, 10);
    for number in [7, 8, 150, 299] {
        appends[number].actor = "unwanted".to_owned();
    }
    let answers = flood(&log, &appends).await;
    for (append, answer) in appends.iter().zip(answers) {
        match answer {
            Ok(_) => assert_ne!(append.actor, "unwanted"),
            Err(AppendError::Refused { .. }) => assert_eq!(append.actor, "unwanted"),
            Err(error) => panic!("{error}"),
        }
    }
    assert_eq!(verify(&log).await, 296);
    // Also where the log is as it was left, and only looked at when it is not.
    let expect = |version| vec![Expected { stream: "request/new".to_owned(), version }];
    let mut append = write("request/new", "wanted");
    append.expect = expect(0);
    log.append(append.clone()).await.expect("it is wanted");
    append.actor = "unwanted".to_owned();
    append.expect = expect(1);
    assert!(matches!(log.append(append).await, Err(AppendError::Refused { .. })));
    assert_eq!(verify(&log).await, 297);
}

async fn names_that_no_database_could_keep_are_refused_alone(place: Place) {
    let log = place.log(LOG).await;
    let longest = format!("request/{}", "x".repeat(MAX_NAME_BYTES - 8));
    let key = |id: &str| NewKey { id: id.to_owned(), wrapped: Vec::new() };
    let mut zero = write("request/1", "zero");
    zero.actor = "a\0b".to_owned();
    let mut twice = write("request/1", "twice");
    twice.keys = vec![key("text/1"), key("text/1")];
    let mut beyond = write("request/2", "beyond");
    beyond.expect = vec![Expected { stream: "request/2".to_owned(), version: u64::MAX }];
    let mut large = write("request/1", "large");
    large.events =
        vec![event("request/1", "x".repeat(MAX_EVENT_BYTES)); MAX_COMMAND_BYTES / MAX_EVENT_BYTES];
    let appends = [
        write(&longest, "longest"),
        write(&format!("{longest}x"), "longer"),
        write("", "none"),
        zero,
        twice,
        beyond,
        large,
        write("request/1", "plain"),
    ];
    // Twice: also when it is believed where the log stands.
    for round in 0..2 {
        let answers = join_all(appends.iter().map(|append| log.append(append.clone()))).await;
        for (number, answer) in answers.iter().enumerate() {
            match number {
                0 | 7 => assert!(answer.is_ok(), "{number}: {answer:?}"),
                4 => assert!(matches!(answer, Err(AppendError::KeyExists { .. })), "{answer:?}"),
                5 => assert!(matches!(answer, Err(AppendError::Conflict { .. })), "{answer:?}"),
                6 => assert!(matches!(answer, Err(AppendError::TooMuch { .. })), "{answer:?}"),
                _ => assert!(matches!(answer, Err(AppendError::Name { .. })), "{answer:?}"),
            }
        }
        // And alone, by one who believes to know where the log stands.
        let mut plain = write("request/3", "plain");
        plain.expect = vec![Expected { stream: "request/3".to_owned(), version: round }];
        log.append(plain).await.expect("it is as expected");
        let refused = log.append(appends[5].clone()).await;
        assert!(matches!(refused, Err(AppendError::Conflict { .. })), "{refused:?}");
        assert_eq!(verify(&log).await, 3 * (round + 1));
    }
}

async fn time_does_not_run_backwards_when_the_clock_does(place: Place) {
    const HOUR: i64 = 3_600_000_000;
    let log = place.log(LOG).await;
    let follow = |number: u64| {
        let mut append = write("request/1", number);
        append.expect = vec![Expected { stream: "request/1".to_owned(), version: number }];
        append
    };
    log.append(follow(0)).await.expect("it is new");
    // As a clock that was an hour ahead would have left it.
    let ahead = Timestamp::now().as_microsecond() + HOUR;
    for sql in ["UPDATE {s}.head SET recorded_at = $1"] {
        on_db!(&log.schema().db, pool => {
            sqlx::query(log.schema().sql(sql)).bind(ahead).execute(pool).await.expect("set");
        });
    }
    // Another process finds it so, and then goes by what it believes.
    let other = place.log(LOG).await;
    for number in 1..4 {
        other.append(follow(number)).await.expect("time is no reason to refuse");
    }
    assert_eq!(verify(&log).await, 4);
    let records = read_all(&log).await;
    assert!(records[1..].iter().all(|record| samen_log::record::micros(record) == ahead));
    // What must be in time goes by the log's own.
    let mut late = write("request/1", "late");
    late.not_after = Some(Timestamp::from_microsecond(ahead - 1).expect("a time"));
    assert_eq!(log.append(late).await, Err(AppendError::TooLate));
}

/// A commit whose answer was lost moves the log for those who follow it here,
/// at the latest when its command is asked again.
async fn a_commit_that_nobody_heard_of_is_followed(place: Place) {
    let log = place.log(LOG).await;
    let mut append = write("request/1", "filed");
    append.command = command("once");
    // As if this process had not heard: another handle on the same file.
    let first = place.log(LOG).await.append(append.clone()).await.expect("it is new");
    let again = log.append(append).await.expect("it is the same command");
    assert_eq!((again.first, again.replayed.is_some()), (first.first, true));
    eventually(Duration::from_secs(10), "it is known here", async || {
        (log.head() == first.last).then_some(())
    })
    .await;
}
