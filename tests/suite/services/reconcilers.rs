//! Background tasks: one process does the work, all show it, and another goes
//! on when it dies; stores are built anew without a gap.

use std::time::Duration;

use samen_log::{Append, NewEvent};
use samen_proto::operations::operations_service_client::OperationsServiceClient;
use samen_proto::operations::{
    GetStatusRequest, GetStatusResponse, ListProjectionsRequest, Projection, ProjectionState,
    RebuildProjectionRequest, Task, TaskState,
};
use samen_proto::requests::{GetRequestRequest, ListRequestsRequest, WatchRequestsRequest};
use samen_tests::deployment::{Authorised, Deployment, Setup};
use samen_tests::process::{Signal, run};
use samen_tests::samen::samen;
use samen_tests::{CATALOGUE_RECORDS, FILING_RECORDS};
use samen_tests::{eventually, place};
use sqlx::{Connection, PgConnection};
use tonic::Code;
use tonic_health::pb::HealthCheckRequest;
use tonic_health::pb::health_check_response::ServingStatus;
use tonic_health::pb::health_client::HealthClient;
use tonic_types::StatusExt;

use super::in_both_setups;
use super::shared::{SOON, all, count, refused, report};

in_both_setups!(
    tasks_show_how_far_they_are,
    a_store_is_built_anew_while_the_old_one_answers,
    a_record_that_cannot_be_handled_stops_its_projection_and_nothing_else,
    only_operators_see_how_it_does,
);

type Operations = OperationsServiceClient<Authorised>;

async fn status(operations: &mut Operations) -> GetStatusResponse {
    operations.get_status(GetStatusRequest {}).await.expect("a status").into_inner()
}

fn task<'a>(status: &'a GetStatusResponse, name: &str) -> &'a Task {
    let found = status.tasks.iter().find(|task| task.name.starts_with(name));
    found.unwrap_or_else(|| panic!("no task {name} in {status:?}"))
}

/// Waits until the reporters of so many requests were told, and gives where
/// the log then is.
async fn told(operations: &mut Operations, filed: u64) -> u64 {
    let head = CATALOGUE_RECORDS + filed * FILING_RECORDS;
    eventually(SOON, "reporters were told", async || {
        (status(operations).await.head == head).then_some(head)
    })
    .await
}

async fn projections(operations: &mut Operations) -> Vec<Projection> {
    let list = operations.list_projections(ListProjectionsRequest {}).await.expect("a list");
    list.into_inner().projections
}

fn serving(projections: &[Projection]) -> &Projection {
    let mut serving = projections.iter().filter(|p| p.state() == ProjectionState::Serving);
    let found = serving.next().expect("one serves");
    assert!(serving.next().is_none(), "one alone serves: {projections:?}");
    found
}

/// Everything that requests show, for a comparison.
async fn everything(deployment: &Deployment) -> Vec<samen_proto::requests::ServiceRequest> {
    let mut handler = deployment.requests("h", &["handler"]).await;
    all(&mut handler, Default::default()).await
}

async fn tasks_show_how_far_they_are(setup: Setup) {
    let deployment = Deployment::start(setup).await;
    let mut resident = deployment.requests("r", &["resident"]).await;
    for number in 0..20 {
        resident.file_request(report(&number.to_string())).await.expect("filed");
    }
    let mut operations = deployment.operations("service-requests").await;
    let head = told(&mut operations, 20).await;
    let names: &[&str] = match setup {
        Setup::AllInOne => &["projector"],
        Setup::Separate => &["projector", "relay"],
    };
    for name in names {
        eventually(SOON, "the task is where the log is", async || {
            let status = status(&mut operations).await;
            assert_eq!((status.log.as_str(), status.head), ("gm0384.requests", head));
            let task = task(&status, name);
            assert_eq!(task.state(), TaskState::Running, "{task:?}");
            assert_eq!(task.holder, status.process);
            let progress = task.progress.iter().find(|p| p.log == "gm0384.requests");
            progress.is_some_and(|p| (p.position, p.head) == (head, head)).then_some(())
        })
        .await;
    }
    // What follows others' logs, too.
    let mut operations = deployment.operations("regional-collaboration").await;
    eventually(SOON, "regional has seen the requests", async || {
        let status = status(&mut operations).await;
        let progress = task(&status, "projector").progress.clone();
        progress.iter().any(|p| p.log == "gm0384.requests" && p.position == head).then_some(())
    })
    .await;

    // What could not be reached while all began is over, too.
    let output = eventually(SOON, "nothing fails any more", async || {
        let (status, output) = deployment.try_operate(&["status"]).await;
        status.success().then_some(output)
    })
    .await;
    let position = format!("gm0384.requests: epoch 1, position {head}");
    for told in [&position, "projector", "lag 0", "assigner"] {
        assert!(output.contains(told), "{told} is not in\n{output}");
    }
    let metrics = deployment.page("service-requests", "/metrics").await;
    let measured = format!(r#"samen_log_head{{log="gm0384.requests"}} {head}.0"#);
    assert!(metrics.contains(&measured), "{metrics}");
    let address = deployment.requests_url().replace("http://", "");
    let connections = format!(r#"samen_open_connections{{address="{address}"}} "#);
    let count = metrics.lines().find_map(|line| line.strip_prefix(&connections));
    assert!(count.is_some_and(|count| count != "0"), "{metrics}");
    let health = deployment.page("service-requests", "/healthz").await;
    assert!(health.starts_with("HTTP/1.1 200"), "{health}");
    let ask = HealthCheckRequest { service: "tasks".to_owned() };
    let mut health = HealthClient::new(deployment.requests_channel());
    let answer = health.check(ask).await.expect("an answer").into_inner();
    assert_eq!(answer.status(), ServingStatus::Serving);
}

async fn a_store_is_built_anew_while_the_old_one_answers(setup: Setup) {
    let deployment = Deployment::start(setup).await;
    let mut resident = deployment.requests("r", &["resident"]).await;
    for number in 0..60 {
        resident.file_request(report(&number.to_string())).await.expect("filed");
    }
    let mut operations = deployment.operations("service-requests").await;
    let before = serving(&projections(&mut operations).await).name.clone();
    let rows = eventually(SOON, "all are listed", async || {
        let rows = everything(&deployment).await;
        (rows.len() == 60).then_some(rows)
    })
    .await;

    let output = deployment.operate(&["projections", "rebuild", "requests"]).await;
    let after = serving(&projections(&mut operations).await).name.clone();
    assert_ne!(before, after, "{output}");
    assert!(output.contains(&format!("{after} serves")), "{output}");
    assert_eq!(everything(&deployment).await, rows);

    // While another is built, commands and queries go on; what was written is
    // seen, whichever store answers.
    let rebuild = operations.rebuild_projection(RebuildProjectionRequest {}).await;
    let third = rebuild.expect("begun").into_inner().name;
    assert_ne!(third, after);
    let mut filed = 60;
    eventually(SOON, "the third store serves", async || {
        let done = resident.file_request(report("erbij")).await.expect("filed").into_inner();
        filed += 1;
        let ask = GetRequestRequest { id: done.id, at_least: done.position };
        resident.get_request(ask).await.expect("seen by who wrote it");
        (serving(&projections(&mut operations).await).name == third).then_some(())
    })
    .await;
    let mut handler = deployment.requests("h", &["handler"]).await;
    assert_eq!(count(&mut handler).await, filed);

    let output = deployment.operate(&["projections", "list"]).await;
    assert!(output.contains(&format!("{third} ")), "{output}");
    assert!(output.contains("serving"), "{output}");
    // Those before it go when nobody can be reading them any more.
    eventually(Duration::from_secs(90), "the old stores are dropped", async || {
        (projections(&mut operations).await.len() == 1).then_some(())
    })
    .await;
}

async fn a_record_that_cannot_be_handled_stops_its_projection_and_nothing_else(setup: Setup) {
    let mut deployment = Deployment::start(setup).await;
    let mut resident = deployment.requests("r", &["resident"]).await;
    for number in 0..5 {
        resident.file_request(report(&number.to_string())).await.expect("filed");
    }
    let before = told(&mut deployment.operations("service-requests").await, 5).await;
    // Written as only a defect, or a later release, would write it.
    deployment.stop().await;
    {
        let location = place::location_of(&deployment.log_place("requests")).await;
        let shutdown = tokio_util::sync::CancellationToken::new();
        let log = samen_log::Log::open(&location, "gm0384.requests", shutdown).await;
        let event = NewEvent {
            stream: "request/b0a7d6f2-0000-7000-8000-000000000000".into(),
            kind: "samen.requests.v1.StatusChanged".into(),
            data: b"\x0a\x24b0a7d6f2-0000-7000-8000-000000000000".into(),
        };
        let append = Append { actor: "x".into(), events: vec![event], ..Append::default() };
        log.expect("the log").append(append).await.expect("appended");
    }
    deployment.restart_without_waiting().await;

    let health = eventually(SOON, "health tells of it", async || {
        let page = deployment.try_page("service-requests", "/healthz").await?;
        page.starts_with("HTTP/1.1 503").then_some(page)
    })
    .await;
    let bad = before + 1;
    let position = format!("\"position\":{bad}");
    for told in [&position, "samen.requests.v1.StatusChanged", "its request is not known"] {
        assert!(health.contains(told), "{told} is not in\n{health}");
    }
    let mut operations = deployment.operations("service-requests").await;
    let now = status(&mut operations).await;
    let stopped = task(&now, "projector");
    assert_eq!(stopped.state(), TaskState::Stopped);
    let error = stopped.error.clone().expect("an error");
    assert_eq!((error.log.as_str(), error.position), ("gm0384.requests", bad));
    assert_eq!(error.r#type, "samen.requests.v1.StatusChanged");
    // Up to it, and no further.
    assert_eq!(stopped.progress[0].position, before);
    let (status, output) = deployment.try_operate(&["status"]).await;
    assert!(!status.success(), "{output}");
    let line = format!("gm0384.requests {bad} (samen.requests.v1.StatusChanged)");
    assert!(output.contains(&line), "{output}");

    // Calls still belong here, and those who must know are told.
    let mut health = HealthClient::new(deployment.requests_channel());
    for (name, expected) in [
        ("", ServingStatus::Serving),
        ("samen.requests.v1.RequestService", ServingStatus::Serving),
        ("tasks", ServingStatus::NotServing),
    ] {
        eventually(SOON, name, async || {
            let ask = HealthCheckRequest { service: name.to_owned() };
            let answer = health.check(ask).await.expect("an answer").into_inner();
            (answer.status() == expected).then_some(())
        })
        .await;
    }
    for (name, expected) in [("", 0), ("tasks", 1)] {
        let url = deployment.requests_url();
        let asked = samen(["health", "--url", &url, "--service", name]);
        let (status, output) = run(asked, SOON).await;
        assert_eq!(status.code(), Some(expected), "{name}: {output}");
    }
    // Commands are accepted, queries answered; what cannot be seen yet is said.
    let mut resident = deployment.requests("r", &["resident"]).await;
    let filed = resident.file_request(report("erna")).await.expect("filed").into_inner();
    assert!(filed.number > bad);
    let list = ListRequestsRequest { page_size: 100, ..Default::default() };
    let page = resident.list_requests(list).await.expect("a page").into_inner();
    assert_eq!(page.requests.len(), 5);
    let ask = GetRequestRequest { id: filed.id, at_least: filed.position };
    let mut ask = tonic::Request::new(ask);
    ask.set_timeout(Duration::from_secs(1));
    let answer = resident.get_request(ask).await.expect_err("it is not there yet");
    assert!(matches!(answer.code(), Code::DeadlineExceeded | Code::Cancelled), "{answer:?}");
    // The others go on, and see the record: it is only this store's trouble.
    let mut regional = deployment.operations("regional-collaboration").await;
    eventually(SOON, "regional goes on", async || {
        let now = self::status(&mut regional).await;
        let progress = &task(&now, "projector").progress;
        progress
            .iter()
            .any(|p| p.log == "gm0384.requests" && p.position >= filed.number)
            .then_some(())
    })
    .await;
}

async fn only_operators_see_how_it_does(setup: Setup) {
    let deployment = Deployment::start(setup).await;
    for service in ["participation", "service-requests", "regional-collaboration"] {
        let roles = ["resident", "handler", "process_lead", "manager", "privacy_officer"];
        let mut others = deployment.operations_as(service, "somebody", &roles).await;
        let answer = others.get_status(GetStatusRequest {}).await;
        refused(answer, Code::PermissionDenied, "ROLE_MISSING");
        let answer = others.rebuild_projection(RebuildProjectionRequest {}).await;
        refused(answer, Code::PermissionDenied, "ROLE_MISSING");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn commands_are_accepted_while_what_queries_read_is_built() {
    let mut deployment = Deployment::start(Setup::Separate).await;
    let mut resident = deployment.requests("r", &["resident"]).await;
    for number in 0..5 {
        resident.file_request(report(&number.to_string())).await.expect("filed");
    }
    let mut operations = deployment.operations("service-requests").await;
    let store = serving(&projections(&mut operations).await).name.clone();
    deployment.stop().await;
    deployment.forget_projections().await;
    // Somebody else is said to build it, for as long as the test wants.
    let database = deployment.database().expect("a database").to_owned();
    let mut elsewhere = PgConnection::connect(&database).await.expect("the database");
    let mut database = PgConnection::connect(&database).await.expect("the database");
    let lease = format!("projector {store}");
    let name = lease.clone();
    let mut take = async move || {
        let take = "INSERT INTO requests_lease.lease
                    VALUES ($1, 'elsewhere',
                            (extract(epoch FROM clock_timestamp()) * 1000000)::bigint + 3500000)
                    ON CONFLICT (name) DO UPDATE SET until = excluded.until";
        sqlx::query(take).bind(&name).execute(&mut elsewhere).await.expect("taken");
    };
    take().await;
    let taking = tokio::spawn(async move {
        loop {
            take().await;
            tokio::time::sleep(Duration::from_millis(300)).await;
        }
    });
    deployment.restart_without_waiting().await;

    let mut health = HealthClient::new(deployment.requests_channel());
    let mut serves = async || {
        let answer = health.check(HealthCheckRequest::default()).await.ok()?;
        Some(answer.into_inner().status() == ServingStatus::Serving)
    };
    assert!(!eventually(SOON, "it answers", &mut serves).await, "not to be called yet");
    let mut operations = deployment.operations("service-requests").await;
    eventually(SOON, "it is told who builds", async || {
        let now = status(&mut operations).await;
        assert_eq!(now.head, CATALOGUE_RECORDS + 5 * FILING_RECORDS);
        let mut tasks = now.tasks.iter();
        tasks.any(|task| task.name == lease && task.holder == "elsewhere").then_some(())
    })
    .await;
    let mut resident = deployment.requests("r", &["resident"]).await;
    let filed = resident.file_request(report("erbij")).await.expect("accepted").into_inner();
    assert_eq!(filed.number, CATALOGUE_RECORDS + 5 * FILING_RECORDS + 1);
    let get = GetRequestRequest { id: filed.id, at_least: filed.position };
    let refusal = resident.get_request(get.clone()).await.expect_err("it is being built");
    let retry = refusal.get_error_details().retry_info().and_then(|retry| retry.retry_delay);
    assert!(retry.is_some(), "{refusal:?}");
    refused(Err::<(), _>(refusal), Code::Unavailable, "PROJECTION_BUILDING");
    let list = resident.list_requests(ListRequestsRequest::default()).await;
    refused(list, Code::Unavailable, "PROJECTION_BUILDING");
    let watch = resident.watch_requests(WatchRequestsRequest::default()).await;
    refused(watch, Code::Unavailable, "PROJECTION_BUILDING");
    let said = deployment.service_process("service-requests").output();
    assert!(!said.contains("listens on"), "{said}");

    taking.abort();
    let _ = taking.await;
    let give = "DELETE FROM requests_lease.lease WHERE name = $1";
    sqlx::query(give).bind(&lease).execute(&mut database).await.expect("given back");
    let process = deployment.service_process("service-requests");
    process.line(SOON, |line| line.contains("listens on")).await;
    resident.get_request(get).await.expect("it is there");
    eventually(SOON, "it serves", async || serves().await?.then_some(())).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn another_process_takes_over_when_one_is_killed() {
    let mut deployment = Deployment::start(Setup::Separate).await;
    let replica = deployment.replica("service-requests").await;
    let mut here = deployment.operations("service-requests").await;
    let mut there = deployment.operations_at(replica, "o", &["operator"]).await;
    let mut resident = deployment.requests("r", &["resident"]).await;
    let mut also = deployment.requests_at(replica, "r", &["resident"]).await;

    // One does the work, and both know which.
    let (mine, others) = (status(&mut here).await, status(&mut there).await);
    assert_ne!(mine.process, others.process);
    for name in ["projector", "relay"] {
        eventually(SOON, "one waits for the other", async || {
            let (mine, others) = (status(&mut here).await, status(&mut there).await);
            let (mine, others) = (task(&mine, name), task(&others, name));
            assert_eq!(mine.state(), TaskState::Running, "{mine:?}");
            (others.state() == TaskState::Standby && others.holder == mine.holder).then_some(())
        })
        .await;
    }
    // Written here, seen there, and the other way round.
    for round in 0..10 {
        let (writes, reads) =
            if round % 2 == 0 { (&mut resident, &mut also) } else { (&mut also, &mut resident) };
        let filed = writes.file_request(report("x")).await.expect("filed").into_inner();
        let ask = GetRequestRequest { id: filed.id, at_least: filed.position };
        reads.get_request(ask).await.expect("seen by the other");
    }

    // The first is killed: the other goes on within ten seconds.
    let killed = std::time::Instant::now();
    deployment.kill_service("service-requests");
    let filed = also.file_request(report("erna")).await.expect("filed").into_inner();
    let ask = GetRequestRequest { id: filed.id, at_least: filed.position };
    also.get_request(ask).await.expect("projected by the other");
    for name in ["projector", "relay"] {
        eventually(SOON, "the other does the work", async || {
            let now = status(&mut there).await;
            let task = task(&now, name);
            let at = task.progress.iter().map(|p| p.position).max();
            (task.state() == TaskState::Running && at >= Some(filed.number)).then_some(())
        })
        .await;
    }
    assert!(killed.elapsed() < Duration::from_secs(10), "{:?}", killed.elapsed());
    // And what the exchange has is what the log has.
    let mut regional = deployment.operations("regional-collaboration").await;
    eventually(SOON, "regional has seen it", async || {
        let now = status(&mut regional).await;
        let progress = &task(&now, "projector").progress;
        progress
            .iter()
            .any(|p| p.log == "gm0384.requests" && p.position >= filed.number)
            .then_some(())
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_process_that_stops_leaves_its_work_at_once() {
    let mut deployment = Deployment::start(Setup::Separate).await;
    let replica = deployment.replica("service-requests").await;
    let mut there = deployment.operations_at(replica, "o", &["operator"]).await;
    let status_of = |name: &'static str| {
        let mut there = there.clone();
        async move { task(&status(&mut there).await, name).clone() }
    };
    eventually(SOON, "it waits", async || {
        (status_of("relay").await.state() == TaskState::Standby).then_some(())
    })
    .await;
    let process = deployment.service_process("service-requests");
    process.signal(Signal::TERM);
    assert!(process.ended(SOON).await.success());
    eventually(SOON, "the other has it", async || {
        (status_of("relay").await.state() == TaskState::Running).then_some(())
    })
    .await;
    let mut also = deployment.requests_at(replica, "r", &["resident"]).await;
    let filed = also.file_request(report("x")).await.expect("filed").into_inner();
    let now = status(&mut there).await;
    assert!(now.head >= filed.number, "{now:?}");
}

#[tokio::test]
async fn status_says_that_nobody_answers() {
    let nobody = format!("http://127.0.0.1:{}", samen_tests::scratch::free_port());
    let mut command = samen(["status", "--token", "x"]);
    for variable in ["SAMEN_PARTICIPATION_URL", "SAMEN_REQUESTS_URL", "SAMEN_REGIONAL_URL"] {
        command.env(variable, &nobody);
    }
    let (status, output) = run(command, SOON).await;
    assert_eq!(status.code(), Some(1), "{output}");
    assert_eq!(output.lines().count(), 3, "{output}");
}
