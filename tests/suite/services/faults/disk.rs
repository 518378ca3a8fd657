//! The disk is full: clients and operators are told so, reads go on, and when
//! there is space the work does too.

use std::path::Path;
use std::time::Duration;

use samen_tests::deployment::{Deployment, Setup};
use samen_tests::{Disk, Postgres, Service, eventually};
use tonic::Code;

use super::super::shared::count;
use super::{Client, Clients, SOON, Told, see_all};

const CLIENTS: usize = 8;
const MEGABYTES: u32 = 48;
const ROUNDS: usize = 3;

#[tokio::test(flavor = "multi_thread")]
async fn a_full_disk_under_sqlite_loses_nothing_and_heals() {
    let mut deployment = Deployment::start(Setup::AllInOne).await;
    deployment.stop().await;
    // Its data goes to a small disk.
    let (data, moved) = (deployment.path("data"), deployment.path("moved"));
    std::fs::rename(&data, &moved).expect("moved");
    std::fs::create_dir(&data).expect("an empty folder");
    let disk = Disk::mount(Path::new(&data), MEGABYTES, None);
    let mut copy = std::process::Command::new("cp");
    copy.args(["-a", &format!("{moved}/."), &data]);
    assert!(copy.status().expect("the program cp").success());
    deployment.restart().await;

    let told = Told::default();
    let resident = deployment.requests("r", &["resident"]).await;
    let mut handler = deployment.requests("h", &["handler"]).await;
    let clients = Clients::start(vec![resident; CLIENTS], &told);
    for _ in 0..ROUNDS {
        some_more(&told, 50).await;
        let before = told.refused(Code::ResourceExhausted, "STORAGE_FULL");
        disk.fill();
        eventually(SOON, "clients are told that there is no space", async || {
            let told = told.refused(Code::ResourceExhausted, "STORAGE_FULL");
            (told > before + CLIENTS).then_some(())
        })
        .await;
        reads_go_on(&mut handler).await;
        disk.free();
    }
    some_more(&told, 50).await;
    clients.stop().await;
    see_all(handler, &told).await;
    let output = deployment.processes[0].output();
    assert!(output.contains("the disk is full"), "{output}");
    // It was the same process all the while.
    deployment.stop().await;
    told.check(&deployment.log_place("requests")).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_full_disk_under_postgresql_loses_nothing_and_heals() {
    let mut server = Postgres::start_on_disk(3 * MEGABYTES).await;
    let database = server.database().await;
    let mut service = Service::start(&database, 1, 8).await;
    let told = Told::default();
    let resident = service.client(0, "r", "resident").await;
    let mut handler = service.client(0, "h", "handler").await;
    let clients = Clients::start(vec![resident; CLIENTS], &told);
    let mut told_full = 0;
    for _ in 0..ROUNDS {
        some_more(&told, 50).await;
        let before = told.lock().refusals.values().sum::<usize>();
        let full_before = told.refused(Code::ResourceExhausted, "STORAGE_FULL");
        server.disk().fill();
        eventually(SOON, "clients are told", async || {
            let now = told.lock().refusals.values().sum::<usize>();
            (now > before + CLIENTS).then_some(())
        })
        .await;
        // Without space for its write-ahead log the server gives up, and
        // nothing of it can be read.
        if !server.output().contains("PANIC") {
            reads_go_on(&mut handler).await;
        }
        told_full += told.refused(Code::ResourceExhausted, "STORAGE_FULL") - full_before;
        server.disk().free();
        if !server.runs() {
            // As an operator would.
            server.restart().await;
        }
    }
    some_more(&told, 50).await;
    clients.stop().await;
    assert!(told_full > 0, "{:?}", told.lock().refusals);
    see_all(handler, &told).await;
    assert!(service.replicas[0].process.status().is_none(), "it went on by itself");
    let output = service.replicas[0].process.output();
    assert!(output.contains("the disk is full"), "{output}");
    told.check(&(database, "requests".to_owned())).await;
}

async fn reads_go_on(handler: &mut Client) {
    let seen = tokio::time::timeout(Duration::from_secs(20), count(handler)).await;
    assert!(seen.expect("reads go on") > 0);
}

async fn some_more(told: &Told, more: usize) {
    let until = told.filed() + more;
    eventually(SOON, "the work goes on", async || (told.filed() >= until).then_some(())).await;
}
