//! Who holds the head's lock and dies, or does nothing: others go on, and no
//! position is skipped.

use std::process::Command;

use samen_log::{AppendError, Log};
use samen_tests::{Place, Process, Signal, eventually};
use sqlx::{Connection, PgConnection};

use super::shared::{LOG, SOON, command, commands, read_all, until_accepted, verify, write};

/// A log, and another process that was stopped while it held its lock.
async fn with_a_holder() -> (Log, Process, PgConnection) {
    let place = Place::postgres().await;
    let log = place.log(LOG).await;
    let mut appender = Command::new(env!("CARGO_BIN_EXE_appender"));
    appender.args([&place.name(), LOG, "holder"]);
    let mut holder = Process::start(appender);
    holder.line(SOON, |_| true).await;
    let mut watcher = PgConnection::connect(&place.name()).await.expect("the database");
    eventually(SOON, "it is stopped while it holds the lock", async || {
        holder.signal(Signal::STOP);
        if holds(&mut watcher).await {
            return Some(());
        }
        holder.signal(Signal::CONT);
        None
    })
    .await;
    (log, holder, watcher)
}

/// Whether a session holds the head's row and does nothing.
async fn holds(watcher: &mut PgConnection) -> bool {
    // What was under way when its process was stopped comes to its end first.
    sqlx::query("SELECT pg_sleep(0.1)").execute(&mut *watcher).await.expect("a nap");
    let sql = "SELECT count(*) FROM pg_stat_activity
               WHERE datname = current_database() AND state = 'idle in transaction'
                 AND query <> 'BEGIN' AND state_change < clock_timestamp() - interval '50 ms'";
    let holding: i64 = sqlx::query_scalar(sql).fetch_one(watcher).await.expect("the activity");
    holding > 0
}

/// Whether a session waits for a lock.
async fn waits(watcher: &mut PgConnection) -> bool {
    let sql = "SELECT EXISTS (SELECT 1 FROM pg_stat_activity
               WHERE datname = current_database() AND wait_event_type = 'Lock')";
    sqlx::query_scalar(sql).fetch_one(watcher).await.expect("the activity")
}

fn append(name: &str) -> samen_log::Append {
    let mut append = write("request/other", name);
    append.command = command(name);
    append
}

/// All of the log is as it must be: what `holder` said too.
async fn check(log: &Log, holder: &Process, positions: &[u64]) {
    let records = read_all(log).await;
    assert_eq!(verify(log).await, records.len() as u64);
    let known = commands(log).await;
    assert_eq!(known.len() * 2 - positions.len(), records.len(), "each is there with all it wrote");
    for line in holder.lines() {
        let (position, id) = line.split_once(' ').expect("a position and an id");
        assert_eq!(known[id].to_string(), position, "{id} was accepted");
    }
    for position in positions {
        assert_eq!(records[*position as usize - 1].stream, "request/other");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn others_go_on_when_a_process_that_holds_the_lock_is_killed() {
    let (log, mut holder, _) = with_a_holder().await;
    let waiting = tokio::spawn({
        let log = log.clone();
        async move { log.append(append("waits")).await }
    });
    holder.kill();
    holder.ended(SOON).await;
    let waited = waiting.await.expect("no panic").expect("the lock is free");
    let next = log.append(append("next")).await.expect("it goes on");
    assert_eq!(next.first, waited.first + 1);
    check(&log, &holder, &[waited.first, next.first]).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn others_get_the_lock_of_a_process_that_fell_silent() {
    let (log, mut holder, _) = with_a_holder().await;
    // It is waited for, and not refused.
    let waited = log.append(append("waits")).await.expect("the lock is taken from who is silent");
    // It wakes up, and what it had begun is not there.
    holder.signal(Signal::CONT);
    holder.ended(SOON).await;
    let next = log.append(append("next")).await.expect("it goes on");
    check(&log, &holder, &[waited.first, next.first]).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn somebody_who_holds_the_lock_for_long_is_waited_for_and_then_told() {
    let place = Place::postgres().await;
    let log = place.log(LOG).await;
    let first = log.append(append("first")).await.expect("the lock is free");
    // An operator at a prompt, whose session has no limits.
    let mut operator = PgConnection::connect(&place.name()).await.expect("the database");
    let mut watcher = PgConnection::connect(&place.name()).await.expect("the database");
    let mut held = operator.begin().await.expect("a transaction");
    sqlx::query("SELECT 1 FROM test_log.head FOR UPDATE").execute(&mut *held).await.expect("held");
    let told = log.append(append("second")).await;
    let reason = match told {
        Err(AppendError::Unavailable { reason }) => reason,
        other => panic!("{other:?}"),
    };
    assert!(reason.contains("lock timeout"), "{reason}");
    // Reads go on.
    assert_eq!(read_all(&log).await.len(), 1);

    let waiting = tokio::spawn({
        let log = log.clone();
        async move { until_accepted(&log, append("second")).await }
    });
    eventually(SOON, "it waits for the lock", async || waits(&mut watcher).await.then_some(()))
        .await;
    assert!(!waiting.is_finished());
    held.rollback().await.expect("let go");
    let second = waiting.await.expect("no panic");
    assert_eq!((second.first, second.replayed), (first.first + 1, None));
    assert_eq!(verify(&log).await, 2);
}
