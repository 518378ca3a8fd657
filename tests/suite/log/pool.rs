//! A pool that is too small for everybody who wants it: all wait, nobody for
//! ever, whoever gives up in the middle.

use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use futures::future::{BoxFuture, join_all};
use futures::{FutureExt, poll};
use rand::RngExt;
use samen_log::db::{Durability, Tx};
use samen_log::store::ApplyError;
use samen_log::{
    Db, Expected, Follow, Leases, Location, Log, Projection, Record, Schema, Store, Tasks, on_db,
    on_tx,
};
use samen_tests::{Place, eventually, on_both_databases, seeded};
use tokio_util::sync::CancellationToken;

use super::shared::{LOG, SOON, command, commands, verify, write};

on_both_databases!(
    two_connections_are_enough_for_everybody,
    what_is_written_after_a_begin_that_nobody_waited_for_is_committed,
);

/// Counts records.
pub(super) struct Count;

impl Projection for Count {
    fn tables(&self) -> &'static str {
        "CREATE TABLE IF NOT EXISTS {s}.seen (position bigint NOT NULL PRIMARY KEY);"
    }

    fn version(&self) -> u32 {
        1
    }

    fn apply<'a>(
        &'a self,
        tx: &'a mut Tx,
        schema: &'a Schema,
        records: &'a [Arc<Record>],
    ) -> BoxFuture<'a, Result<(), ApplyError>> {
        async move {
            for record in records {
                let sql = schema.sql("INSERT INTO {s}.seen (position) VALUES ($1)");
                on_tx!(tx, conn => {
                    sqlx::query(sql).bind(record.position as i64).execute(conn).await?;
                });
            }
            Ok(())
        }
        .boxed()
    }
}

/// How many it has counted.
pub(super) async fn count(store: &Store) -> i64 {
    let schema = store.schema();
    let sql = "SELECT count(*) FROM {s}.seen";
    on_db!(&schema.db, pool => {
        sqlx::query_scalar(schema.sql(sql)).fetch_one(pool).await.expect("the store")
    })
}

async fn two_connections_are_enough_for_everybody(place: Place) {
    const ROUNDS: usize = 20;
    const COMMANDS: usize = 50;
    let chance = seeded("two connections are enough");
    let location = match &place {
        Place::Postgres { url } => Location::postgres(url, "test", 2).await.expect("the database"),
        Place::Sqlite { .. } => place.location().await,
    };
    let log = Log::open(&location, LOG, CancellationToken::new()).await.expect("the log");
    let leases = Leases::open(&location).await.expect("the leases");
    let store = Store::open(&location, &leases, &Tasks::default(), Count).await.expect("the store");
    let work = async {
        let mut chance = chance;
        for round in 0..ROUNDS {
            let projecting = CancellationToken::new();
            let logs: Vec<Arc<dyn Follow>> = vec![Arc::new(log.clone())];
            // Stopped in the middle, as a process would be.
            let projector = tokio::spawn(store.clone().run(logs, projecting.clone()));
            let calls = (0..COMMANDS).map(|number| {
                let patience = Duration::from_micros(chance.random_range(0..30_000));
                let log = log.clone();
                tokio::spawn(async move {
                    let stream = format!("request/{}", number % 10);
                    let mut append = write(&stream, round);
                    append.command = command(&format!("{round}-{number}"));
                    let call = async {
                        log.find_command("another").await?;
                        let version = log.read_stream(&stream, 0, 1_000).await?.len() as u64;
                        if number % 3 == 0 {
                            append.expect = vec![Expected { stream, version }];
                        }
                        Ok::<_, sqlx::Error>(log.append(append).await)
                    };
                    tokio::time::timeout(patience, call).await.is_ok()
                })
            });
            join_all(calls.collect::<Vec<_>>()).await;
            projecting.cancel();
            projector.await.expect("no panic");
        }
    };
    tokio::time::timeout(SOON, work).await.expect("nobody waits for ever");

    // Afterwards everything works at once, on all connections.
    eventually(Duration::from_secs(10), "no connection is stuck", async || {
        match &log.schema().db {
            Db::Postgres(pool) => (pool.num_idle() == pool.size() as usize).then_some(()),
            Db::Sqlite(pool) => (pool.num_idle() == pool.size() as usize).then_some(()),
        }
    })
    .await;
    let promptly = Duration::from_secs(5);
    let mut append = write("request/last", "last");
    append.command = command("last");
    let last = tokio::time::timeout(promptly, log.append(append)).await.expect("it is prompt");
    let last = last.expect("it is accepted").last;
    let logs: Vec<Arc<dyn Follow>> = vec![Arc::new(log.clone())];
    tokio::spawn(store.clone().run(logs, CancellationToken::new()));
    eventually(SOON, "all is projected", async || {
        (store.cursor(LOG).position == last).then_some(())
    })
    .await;
    assert_eq!(count(&store).await as u64, last);
    assert_eq!(verify(&log).await, last);
    assert_eq!(commands(&log).await.len() as u64, last, "each that is there is there once");
}

async fn what_is_written_after_a_begin_that_nobody_waited_for_is_committed(place: Place) {
    // The connection that is given back is the one that is had next.
    let location = match &place {
        Place::Postgres { url } => Location::postgres(url, "test", 1).await.expect("the database"),
        Place::Sqlite { .. } => place.location().await,
    };
    let other = place.location().await;
    for durability in [Durability::Full, Durability::Rebuilt] {
        let name = format!("{durability:?}").to_lowercase();
        let tables = "CREATE TABLE {s}.written (number bigint NOT NULL);";
        let schema = location.open(&name, tables, durability).await.expect("a store");
        let read = other.find(&name).await.expect("the same");
        for number in 1..=40 {
            {
                let mut begin = pin!(schema.begin());
                // Given up at once, or later.
                for _ in 0..1 + number % 4 {
                    if poll!(&mut begin).is_ready() {
                        break;
                    }
                    tokio::task::yield_now().await;
                }
            }
            let insert = schema.sql("INSERT INTO {s}.written (number) VALUES ($1)");
            on_db!(&schema.db, pool => {
                sqlx::query(insert).bind(number).execute(pool).await.expect("it is written");
            });
            let count = read.sql("SELECT count(*) FROM {s}.written");
            let seen: i64 = on_db!(&read.db, pool => {
                sqlx::query_scalar(count).fetch_one(pool).await.expect("the table")
            });
            assert_eq!(seen, number, "{name}");
        }
    }
}
