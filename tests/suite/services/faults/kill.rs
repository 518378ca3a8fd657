//! Killed, again and again, in the middle of the work.

use std::time::Duration;

use futures::future::join_all;
use rand::RngExt;
use samen_tests::deployment::{Deployment, Setup};
use samen_tests::{Postgres, Service, eventually, postgres};

use super::{Clients, SOON, Told, chance_of, see_all};

const ROUNDS: usize = 20;
const CLIENTS: usize = 24;

#[tokio::test(flavor = "multi_thread")]
async fn a_killed_suite_on_sqlite_loses_and_doubles_nothing() {
    let mut chance = chance_of("a killed suite on SQLite");
    let mut deployment = Deployment::start(Setup::AllInOne).await;
    let resident = deployment.requests("r", &["resident"]).await;
    let told = Told::default();
    let clients = Clients::start(vec![resident; CLIENTS], &told);
    for _ in 0..ROUNDS {
        some_more(&told, chance.random_range(1..80)).await;
        tokio::time::sleep(Duration::from_micros(chance.random_range(0..20_000))).await;
        deployment.kill();
        deployment.restart().await;
    }
    clients.stop().await;
    see_all(deployment.requests("h", &["handler"]).await, &told).await;
    deployment.kill();
    told.check(&deployment.log_place("requests")).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_killed_service_on_postgresql_loses_and_doubles_nothing() {
    let mut chance = chance_of("a killed service on PostgreSQL");
    let database = postgres::database().await;
    // Two replicas, so that one is killed while the other goes on.
    let mut service = Service::start(&database, 2, 8).await;
    let told = Told::default();
    let residents = join_all((0..2).map(|replica| service.client(replica, "r", "resident"))).await;
    let residents = residents.into_iter().cycle().take(CLIENTS).collect();
    let clients = Clients::start(residents, &told);
    for round in 0..ROUNDS {
        some_more(&told, chance.random_range(1..80)).await;
        tokio::time::sleep(Duration::from_micros(chance.random_range(0..20_000))).await;
        // One while it starts, the other at work; or both.
        let both = round % 10 == 5;
        for victim in if both { vec![0, 1] } else { vec![round % 2] } {
            service.replicas[victim].process.kill();
            service.restart(victim);
        }
    }
    clients.stop().await;
    for replica in 0..2 {
        see_all(service.client(replica, "h", "handler").await, &told).await;
    }
    told.check(&(database, "requests".to_owned())).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_killed_postgresql_loses_and_doubles_nothing() {
    let mut chance = chance_of("a killed PostgreSQL");
    let mut server = Postgres::start().await;
    let database = server.database().await;
    let mut service = Service::start(&database, 1, 8).await;
    let pid = service.replicas[0].process.id();
    let told = Told::default();
    let resident = service.client(0, "r", "resident").await;
    let clients = Clients::start(vec![resident; CLIENTS], &told);
    for _ in 0..4 {
        some_more(&told, chance.random_range(50..200)).await;
        tokio::time::sleep(Duration::from_micros(chance.random_range(0..20_000))).await;
        server.kill();
        server.restart().await;
    }
    some_more(&told, 100).await;
    clients.stop().await;
    // The service went on by itself.
    assert_eq!(service.replicas[0].process.id(), pid);
    assert!(service.replicas[0].process.status().is_none());
    see_all(service.client(0, "h", "handler").await, &told).await;
    told.check(&(database, "requests".to_owned())).await;
}

/// Waits until this many more were told that theirs was filed.
async fn some_more(told: &Told, more: usize) {
    let until = told.filed() + more;
    eventually(SOON, "the work goes on", async || (told.filed() >= until).then_some(())).await;
}
