//! More callers than there is room for: in the appender's queue, and in the
//! pool of connections.

use std::time::Duration;

use futures::future::join_all;
use rand::RngExt;
use samen_proto::requests::ListRequestsRequest;
use samen_tests::{Service, eventually, postgres};
use sqlx::{Connection, PgConnection};
use tokio::task::JoinSet;
use tonic::Code;

use super::super::shared::report;
use super::{SOON, Told, chance_of, file, see_all};

/// More than the queue and one batch.
const FLOOD: usize = 6_000;

#[tokio::test(flavor = "multi_thread")]
async fn a_full_queue_is_told_when_to_come_back_and_keeps_what_it_took() {
    let database = postgres::database().await;
    let service = Service::start(&database, 1, 8).await;
    // As many connections as hold all these calls at once.
    let residents = join_all((0..8).map(|_| service.client(0, "r", "resident"))).await;
    let told = Told::default();
    file(residents[0].clone(), &told).await;

    let mut operator = PgConnection::connect(&database).await.expect("the database");
    let mut held = operator.begin().await.expect("a transaction");
    let lock = "SELECT 1 FROM requests_log.head FOR UPDATE";
    sqlx::query(lock).execute(&mut *held).await.expect("held");
    let mut calls = JoinSet::new();
    for number in 0..FLOOD {
        let (resident, told) = (residents[number % residents.len()].clone(), told.clone());
        // Each asks until it is told, as the answer says.
        calls.spawn(async move { file(resident, &told).await });
    }
    let refused = || told.refused(Code::ResourceExhausted, "TOO_MANY_COMMANDS");
    eventually(SOON, "some are refused", async || (refused() > 100).then_some(())).await;
    held.rollback().await.expect("let go");
    tokio::time::timeout(SOON, calls.join_all()).await.expect("everybody is told in the end");

    see_all(service.client(0, "h", "handler").await, &told).await;
    assert_eq!(told.filed(), FLOOD + 1);
    told.check(&(database, "requests".to_owned())).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn two_connections_serve_callers_who_give_up_at_any_moment() {
    const ROUNDS: usize = 20;
    let mut chance = chance_of("two connections serve");
    let database = postgres::database().await;
    let mut service = Service::start(&database, 1, 2).await;
    let resident = service.client(0, "r", "resident").await;
    let handler = service.client(0, "h", "handler").await;
    let told = Told::default();
    for _ in 0..ROUNDS {
        let mut calls = JoinSet::new();
        for number in 0..50 {
            let patience = Duration::from_micros(chance.random_range(0..60_000));
            let (mut resident, mut handler) = (resident.clone(), handler.clone());
            let told = told.clone();
            calls.spawn(async move {
                let call = async {
                    // What is begun here and given up may be filed or not.
                    let filed = resident.file_request(report("vol")).await.ok()?.into_inner();
                    told.accept(&filed);
                    let ask =
                        ListRequestsRequest { at_least: filed.position, ..Default::default() };
                    let listed = handler.list_requests(ask).await.expect("it is read");
                    assert!(listed.get_ref().requests.len() > 1 || number == 0);
                    Some(())
                };
                let _ = tokio::time::timeout(patience, call).await;
            });
        }
        calls.join_all().await;
    }
    // Then everything is prompt, and no connection is in the middle of
    // something.
    let promptly = Duration::from_secs(10);
    let fresh = Told::default();
    for _ in 0..10 {
        let filed = tokio::time::timeout(promptly, file(resident.clone(), &fresh));
        filed.await.expect("a command is prompt");
    }
    // After so many that were given up, one may be asked to come back; by the
    // connection perhaps, since it was seen without a reason of ours.
    let refusals = fresh.lock().refusals.clone();
    assert!(refusals.keys().all(|(code, _)| *code == Code::ResourceExhausted), "{refusals:?}");
    let mut operator = PgConnection::connect(&database).await.expect("the database");
    eventually(promptly, "no connection is stuck", async || {
        let sql = "SELECT count(*) FROM pg_stat_activity
                   WHERE datname = current_database() AND pid <> pg_backend_pid()
                     AND (state LIKE 'idle in transaction%'
                          OR state = 'active' AND query_start < now() - interval '2 s')";
        let stuck: i64 = sqlx::query_scalar(sql).fetch_one(&mut operator).await.expect("a count");
        (stuck == 0).then_some(())
    })
    .await;
    let (id, last) = {
        let fresh = fresh.lock();
        (fresh.filed.keys().next().expect("one").clone(), fresh.last.clone())
    };
    super::see(&mut handler.clone(), &id, last).await;
    told.check_told(&(database, "requests".to_owned())).await;
    assert!(service.replicas[0].process.status().is_none());
}
