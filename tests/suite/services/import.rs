//! The past, from a file: each row once, whatever is interrupted, and a
//! partner gets all of it.

use std::collections::BTreeMap;
use std::fmt::Write;

use samen_proto::cloudevents::cloud_event::Data;
use samen_proto::regional::subscribe_response::Item;
use samen_proto::requests::{RequestFilter, RequestImported, ServiceRequest, Status};
use samen_tests::Process;
use samen_tests::deployment::{Deployment, Setup};
use samen_tests::process::run;
use samen_tests::samen::samen;
use samen_tests::wait::eventually;

use super::feed::read;
use super::in_both_setups;
use super::shared::{SOON, agree, all, count};

const IMPORTED: &str = "samen.requests.v1.RequestImported";
const ROWS: usize = 400;

in_both_setups!(
    every_row_is_recorded_once_with_what_happened_when,
    an_interrupted_import_goes_on,
    rows_that_cannot_be_used_are_named_and_the_rest_goes_through,
);

/// A file of requests in and around Diemen: every third still open, every
/// seventh without a place, every eleventh far away.
fn file(rows: usize) -> String {
    let mut csv = String::from("id,category,subcategory,created_at,resolved_date,lat,lon\n");
    for n in 0..rows {
        let day = n % 28 + 1;
        let closed = if n % 3 == 0 { String::new() } else { format!("2025-04-{day:02}") };
        let (latitude, longitude) = match n {
            n if n % 7 == 0 => (String::new(), String::new()),
            n if n % 11 == 0 => ("37.791".to_owned(), "-122.4".to_owned()),
            n => (format!("52.35{}", n % 10), "4.971".to_owned()),
        };
        writeln!(
            csv,
            "nr-{n},Groen,\"Boom, \"\"scheef\"\" – café\",2025-03-{day:02}T{:02}:30:00.809179+00:00,{closed},{latitude},{longitude}",
            n % 24
        )
        .expect("a string takes it");
    }
    csv
}

async fn import(deployment: &Deployment, file: &str, arguments: &[&str]) -> std::process::Command {
    let token = deployment.token("importer", &["importer"]).await;
    let mut command = samen(["import", "requests", "--source", "oud"]);
    command.args(arguments).arg(file);
    command.env("SAMEN_TOKEN", token).env("SAMEN_REQUESTS_URL", deployment.requests_url());
    command
}

/// What is there once as many requests are as should be.
async fn imported(deployment: &Deployment, expected: usize) -> BTreeMap<String, ServiceRequest> {
    let mut handler = deployment.requests("h", &["handler"]).await;
    let found = eventually(SOON, "all requests are there", async || {
        let found = all(&mut handler, RequestFilter::default()).await;
        (found.len() == expected).then_some(found)
    });
    found.await.into_iter().map(|request| (request.source_number.clone(), request)).collect()
}

async fn every_row_is_recorded_once_with_what_happened_when(setup: Setup) {
    let deployment = Deployment::start(setup).await;
    let path = deployment.path("oud.csv");
    std::fs::write(&path, file(ROWS)).expect("written");
    for _ in 0..2 {
        let (status, output) = run(import(&deployment, &path, &[]).await, SOON).await;
        assert!(status.success(), "{status}\n{output}");
    }
    let requests = imported(&deployment, ROWS).await;
    assert_eq!(requests.len(), ROWS);
    let closed = &requests["nr-1"];
    assert_eq!(closed.category, "Groen/Boom, \"scheef\" – café");
    assert_eq!(closed.status(), Status::Resolved);
    assert_eq!(closed.source, "oud");
    // 2 March 2025, 01:30:00.809179 UTC.
    let created = closed.create_time.expect("a moment");
    assert_eq!((created.seconds, created.nanos), (1_740_879_000, 809_179_000));
    // The end of 2 April 2025 in Amsterdam, which is 22:00 UTC.
    let end = closed.close_time.expect("a moment").seconds;
    assert!((1_743_631_199..=1_743_631_200).contains(&end), "{end}");
    assert_eq!(requests["nr-3"].status(), Status::Received);
    assert_eq!(requests["nr-3"].close_time, None);
    assert_eq!(requests["nr-7"].location, None);
    assert!(!requests["nr-1"].neighbourhood.is_empty());
    // Outside the boundary is imported as such.
    assert_eq!(requests["nr-11"].neighbourhood, "");
    assert!(requests["nr-11"].location.is_some());

    let partner = deployment.partner("GM0437", "00000001001566575001").await;
    let agreement = agree(&deployment, &partner, &[IMPORTED]).await;
    let items = read(&deployment, &partner, &agreement, 0, ROWS as u64).await;
    assert_eq!(items.len(), ROWS);
    let mut numbers = Vec::new();
    for (item, position) in items.iter().zip(1..) {
        assert_eq!(item.position, position);
        let Some(Item::Event(event)) = &item.item else { panic!("{item:?}") };
        let Some(Data::ProtoData(any)) = &event.data else { panic!("{event:?}") };
        let event: RequestImported = prost::Message::decode(any.value.as_slice()).expect("it");
        let request = &requests[&event.source_number];
        assert_eq!(event.create_time, request.create_time);
        assert_eq!(event.close_time, request.close_time);
        numbers.push(event.source_number);
    }
    numbers.sort();
    assert_eq!(numbers, requests.into_keys().collect::<Vec<_>>());
}

async fn an_interrupted_import_goes_on(setup: Setup) {
    let deployment = Deployment::start(setup).await;
    let path = deployment.path("oud.csv");
    std::fs::write(&path, file(ROWS)).expect("written");
    let mut handler = deployment.requests("h", &["handler"]).await;
    let mut first = Process::start(import(&deployment, &path, &["--concurrency", "2"]).await);
    eventually(SOON, "some of it is there", async || {
        (count(&mut handler).await >= 20 || first.status().is_some()).then_some(())
    })
    .await;
    first.kill();
    let (status, output) = run(import(&deployment, &path, &[]).await, SOON).await;
    assert!(status.success(), "{status}\n{output}");
    assert_eq!(imported(&deployment, ROWS).await.len(), ROWS);
}

async fn rows_that_cannot_be_used_are_named_and_the_rest_goes_through(setup: Setup) {
    let deployment = Deployment::start_with_area(setup, "none").await;
    let path = deployment.path("oud.csv");
    let bad = [
        ("nr-100,Groen,Boom,gisteren,,52.35,4.97", "created_at"),
        ("nr-101,Groen,Boom,2025-03-01T10:00:00Z,2025-02-01,52.35,4.97", ""),
        ("nr-102,Groen,Boom,2025-03-01T10:00:00Z,,noord,4.97", "lat"),
        (",Groen,Boom,2025-03-01T10:00:00Z,,52.35,4.97", "id"),
        ("nr-104,Groen,Boom,2025-03-01T10:00:00Z,,4.97,52.35", "swapped"),
        ("nr-105,Groen,Boom,2099-03-01T10:00:00Z,,52.35,4.97", "create_time"),
    ];
    let mut csv = file(10);
    for (row, _) in bad {
        csv.push_str(row);
        csv.push('\n');
    }
    std::fs::write(&path, csv).expect("written");
    let rejects = deployment.path("rejects.csv");
    let command = import(&deployment, &path, &["--rejects", &rejects]).await;
    let (status, output) = run(command, SOON).await;
    assert_eq!(status.code(), Some(3), "{output}");
    let rejects = std::fs::read_to_string(rejects).expect("written");
    for ((_, reason), line) in bad.iter().zip(12..) {
        let found = rejects.lines().find(|l| l.starts_with(&format!("{line},")));
        let found = found.unwrap_or_else(|| panic!("line {line} is not in\n{rejects}"));
        assert!(found.contains(reason), "{found} does not say {reason}");
    }
    assert_eq!(rejects.lines().count(), 1 + bad.len(), "{rejects}");
    let requests = imported(&deployment, 10).await;
    // Without outlines, nothing has a neighbourhood.
    assert!(requests.values().all(|request| request.neighbourhood.is_empty()));

    let wrong_role = deployment.token("h", &["handler"]).await;
    let mut command = import(&deployment, &path, &[]).await;
    command.env("SAMEN_TOKEN", wrong_role);
    let (status, output) = run(command, SOON).await;
    assert_eq!(status.code(), Some(1), "{output}");
    assert!(output.contains("importer"), "{output}");
}
