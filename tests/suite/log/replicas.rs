//! Several processes on one PostgreSQL.

use std::collections::HashMap;
use std::process::Command;
use std::time::Duration;

use rand::RngExt;
use samen_log::{Cursor, Log};
use samen_tests::{Place, Process, eventually, seeded};
use sqlx::{AssertSqlSafe, Connection, PgConnection};

use super::shared::{LOG, SOON, commands, follow_to, read_all, verify, write};

fn appender(place: &Place, name: &str) -> Process {
    let mut appender = Command::new(env!("CARGO_BIN_EXE_appender"));
    appender.args([&place.name(), LOG, name]);
    Process::start(appender)
}

/// Takes what a process has said was accepted.
fn heard(process: &Process, accepted: &mut HashMap<String, u64>) {
    for line in process.lines() {
        let (position, id) = line.split_once(' ').expect("a position and an id");
        let position = position.parse().expect("a position");
        assert!(accepted.insert(id.to_owned(), position).is_none(), "{id} was said twice");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn processes_that_append_at_once_and_are_killed_leave_one_order() {
    const KILLS: usize = 12;
    let mut chance = seeded("processes that append at once");
    let place = Place::postgres().await;
    let log = place.log(LOG).await;
    let mut accepted = HashMap::new();
    let mut processes: Vec<_> = (0..3).map(|n| appender(&place, &format!("first{n}"))).collect();
    for kill in 0..KILLS {
        let victim = chance.random_range(0..processes.len());
        // In the middle of its work.
        let line = processes[victim].line(SOON, |_| true).await;
        let (position, id) = line.split_once(' ').expect("a position and an id");
        accepted.insert(id.to_owned(), position.parse().expect("a position"));
        tokio::time::sleep(Duration::from_millis(chance.random_range(0..80))).await;
        processes[victim].kill();
        processes[victim].ended(SOON).await;
        heard(&processes[victim], &mut accepted);
        processes[victim] = appender(&place, &format!("next{kill}"));
    }
    for mut process in processes {
        process.kill();
        process.ended(SOON).await;
        heard(&process, &mut accepted);
    }
    // The server may still be committing for those that were killed.
    let mut database = PgConnection::connect(&place.name()).await.expect("the database");
    eventually(SOON, "the last commit is over", async || {
        let sql = "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database()
                   AND pid <> pg_backend_pid() AND state NOT IN ('idle', 'disabled')
                   AND query LIKE '%_log.%' AND query NOT LIKE 'SELECT position FROM%'";
        let busy: i64 = sqlx::query_scalar(sql).fetch_one(&mut database).await.expect("a count");
        (busy == 0).then_some(())
    })
    .await;
    let known = commands(&log).await;
    let records = read_all(&log).await;
    assert_eq!(verify(&log).await, records.len() as u64);
    for (id, position) in &accepted {
        assert_eq!(known.get(id), Some(position), "{id} was accepted");
    }
    for (id, position) in known {
        assert!(records[position as usize - 1..][..2].iter().all(|r| r.data == id.as_bytes()));
    }
    // Who followed all the while saw the same.
    let followed = follow_to(&log, Cursor::START, records.len() as u64).await;
    assert_eq!(followed, records);
}

/// Sessions of processes that listen.
const LISTENING: &str = "FROM pg_stat_activity
    WHERE datname = current_database() AND pid <> pg_backend_pid()
      AND (query LIKE 'LISTEN%' OR query LIKE 'SELECT epoch, position FROM%')";

/// Ends each session that listens, once there are two.
async fn end_listening(database: &mut PgConnection) {
    let there = format!("SELECT count(*) {LISTENING}");
    eventually(SOON, "both listen", async || {
        let there: i64 = sqlx::query_scalar(AssertSqlSafe(there.as_str()))
            .fetch_one(&mut *database)
            .await
            .expect("a count");
        (there >= 2).then_some(())
    })
    .await;
    let end = format!("SELECT pg_terminate_backend(pid) {LISTENING}");
    sqlx::query(AssertSqlSafe(end)).execute(database).await.expect("they are ended");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_lost_notification_costs_no_more_than_a_look() {
    let place = Place::postgres().await;
    let (writer, reader): (Log, Log) = (place.log(LOG).await, place.log(LOG).await);
    let mut database = PgConnection::connect(&place.name()).await.expect("the database");
    let mut seen = Cursor::START;
    for number in 1..=5 {
        end_listening(&mut database).await;
        writer.append(write("request/1", number)).await.expect("it goes on");
        // A look a second; the rest is for a busy machine.
        let followed = follow_to(&reader, seen.clone(), number);
        let followed = tokio::time::timeout(Duration::from_secs(5), followed).await;
        seen = Cursor::at(followed.expect("it is seen").last().expect("one record"));
    }
}
