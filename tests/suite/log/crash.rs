//! Crashes: what was accepted is there, once.

use std::collections::HashMap;
use std::process::Command;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use rand::RngExt;
use samen_log::{Follow, Leases, Store, Tasks};
use samen_tests::{Place, Postgres, Process, eventually, on_both_databases, seeded};
use sqlx::{Connection, PgConnection};
use tokio_util::sync::CancellationToken;

use super::pool::Count;
use super::shared::{LOG, SOON, command, commands, read_all, until_accepted, verify, write};

on_both_databases!(a_process_that_is_killed_loses_nothing_that_it_accepted);

const ROUNDS: usize = 5;

async fn a_process_that_is_killed_loses_nothing_that_it_accepted(place: Place) {
    let mut chance = seeded("a process that is killed");
    let mut accepted = HashMap::new();
    for round in 0..ROUNDS {
        let mut appender = Command::new(env!("CARGO_BIN_EXE_appender"));
        appender.args([&place.name(), LOG, &format!("round{round}")]);
        let mut appender = Process::start(appender);
        // Killed somewhere in the middle.
        let mut lines = Vec::new();
        for _ in 0..chance.random_range(20..400) {
            lines.push(appender.line(SOON, |_| true).await);
        }
        appender.kill();
        appender.ended(SOON).await;
        lines.extend(appender.lines());
        for line in lines {
            let (position, id) = line.split_once(' ').expect("a position and an id");
            let position: u64 = position.parse().expect("a position");
            assert!(accepted.insert(id.to_owned(), position).is_none(), "{id} was said twice");
        }

        let log = place.log(LOG).await;
        // A server may still be committing for the one that was killed.
        let settled = eventually(SOON, "the last commit is over", async || {
            let known = commands(&log).await;
            let records = read_all(&log).await.len();
            (known.len() * 2 == records).then_some(known)
        })
        .await;
        verify(&log).await;
        let records = read_all(&log).await;
        for (id, position) in &accepted {
            assert_eq!(settled.get(id), Some(position), "{id} was accepted");
        }
        // Accepted or not: each command is there with both its events, or not at all.
        for (id, position) in settled {
            for record in &records[position as usize - 1..][..2] {
                assert_eq!(record.data, id.as_bytes());
            }
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_log_goes_on_after_its_database_was_killed() {
    const TASKS: u64 = 8;
    const COMMANDS: u64 = 150;
    let mut server = Postgres::start().await;
    let place = Place::Postgres { url: server.database().await };
    let log = place.log(LOG).await;
    let accepted = Arc::new(AtomicU64::new(0));
    let tasks: Vec<_> = (0..TASKS)
        .map(|task| {
            let (log, accepted) = (log.clone(), accepted.clone());
            tokio::spawn(async move {
                for number in 0..COMMANDS {
                    let mut append = write(&format!("request/{task}"), number);
                    append.command = command(&format!("{task}-{number}"));
                    until_accepted(&log, append).await;
                    accepted.fetch_add(1, Ordering::Relaxed);
                }
            })
        })
        .collect();
    for round in 1..=3 {
        eventually(SOON, "the next part is written", async || {
            (accepted.load(Ordering::Relaxed) >= round * TASKS * COMMANDS / 5).then_some(())
        })
        .await;
        server.kill();
        server.restart().await;
    }
    for task in tasks {
        tokio::time::timeout(SOON, task).await.expect("it goes on by itself").expect("no panic");
    }

    assert_eq!(verify(&log).await, TASKS * COMMANDS);
    assert_eq!(commands(&log).await.len() as u64, TASKS * COMMANDS);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_database_that_was_killed_has_all_that_was_said_to_be_projected() {
    let mut server = Postgres::start().await;
    let place = Place::Postgres { url: server.database().await };
    let (log, location) = (place.log(LOG).await, place.location().await);
    let leases = Leases::open(&location).await.expect("the leases");
    let store = Store::open(&location, &leases, &Tasks::default(), Count).await.expect("a store");
    let follows: Vec<Arc<dyn Follow>> = vec![Arc::new(log.clone())];
    tokio::spawn(store.clone().run(follows, CancellationToken::new()));
    for number in 1..=3 {
        let mut append = write("request/1", number);
        append.command = command(&number.to_string());
        until_accepted(&log, append).await;
        eventually(SOON, "it is projected", async || {
            (store.cursor(LOG).position == number).then_some(())
        })
        .await;
        server.kill();
        server.restart().await;
        let mut database = PgConnection::connect(&place.name()).await.expect("the database");
        let sql = store.schema().sql("SELECT count(*) FROM {s}.seen");
        let there: i64 = sqlx::query_scalar(sql).fetch_one(&mut database).await.expect("the store");
        assert_eq!(there as u64, number);
    }
}
