//! The way to the database breaks, and replicas do not hear of each other.

use std::time::Duration;

use rand::RngExt;
use samen_tests::{Lost, Proxy, Service, eventually, postgres};
use sqlx::{Connection, PgConnection};

use super::{Clients, SOON, Told, chance_of, file, see, see_all};

#[tokio::test(flavor = "multi_thread")]
async fn a_client_whose_commit_was_cut_asks_again_and_gets_one_result() {
    const CUTS: usize = 30;
    let mut chance = chance_of("a client whose commit was cut");
    let database = postgres::database().await;
    let proxy = Proxy::before(&database).await;
    let service = Service::start(proxy.url(), 1, 8).await;
    let told = Told::default();
    let resident = service.client(0, "r", "resident").await;
    let clients = Clients::start(vec![resident; 16], &told);
    eventually(SOON, "it was cut often", async || {
        // One statement carries its stream's name; a transaction ends so.
        let bytes: &[u8] = [b"COMMIT\0", b"request/".as_slice()][chance.random_range(0..2)];
        let lost = [Lost::Request, Lost::Answer][chance.random_range(0..2)];
        proxy.cut_at(bytes, lost);
        tokio::time::sleep(Duration::from_millis(chance.random_range(1..60))).await;
        (proxy.cuts() >= CUTS).then_some(())
    })
    .await;
    // All at once, and then without a word.
    proxy.cut();
    let before = told.filed();
    eventually(SOON, "it goes on", async || (told.filed() > before + 20).then_some(())).await;
    proxy.lose_open();
    let before = told.filed();
    eventually(SOON, "it goes on again", async || (told.filed() > before + 20).then_some(())).await;
    clients.stop().await;
    assert!(told.refused(tonic::Code::Unavailable, "STORAGE") > 0, "clients were told");
    see_all(service.client(0, "h", "handler").await, &told).await;
    told.check(&(database, "requests".to_owned())).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_one_replica_wrote_another_shows_also_when_it_was_not_told() {
    let database = postgres::database().await;
    let service = Service::start(&database, 2, 4).await;
    let told = Told::default();
    let resident = service.client(0, "r", "resident").await;
    let mut handlers =
        [service.client(0, "h", "handler").await, service.client(1, "h", "handler").await];
    let mut operator = PgConnection::connect(&database).await.expect("the database");
    for round in 0..6 {
        file(resident.clone(), &told).await;
        let (id, last) = {
            let told = told.lock();
            let (id, _) = told.filed.iter().max_by_key(|(_, number)| **number).expect("one");
            (id.clone(), told.last.clone())
        };
        for handler in &mut handlers {
            see(handler, &id, last.clone()).await;
        }
        if round % 2 == 0 {
            // Whoever listens is deaf for a moment.
            let sql = "SELECT pg_terminate_backend(pid) FROM pg_stat_activity
                       WHERE datname = current_database() AND pid <> pg_backend_pid()
                         AND (query LIKE 'LISTEN%' OR query LIKE 'SELECT epoch, position FROM%')";
            sqlx::query(sql).fetch_all(&mut operator).await.expect("ended");
        }
    }
    told.check(&(database, "requests".to_owned())).await;
}
