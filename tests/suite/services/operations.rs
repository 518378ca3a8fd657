//! What operators rely on: starting, stopping, starting again, and being told
//! what is wrong.

use std::time::{Duration, Instant};

use futures::StreamExt;
use samen_proto::requests::{WatchRequestsRequest, WatchStatisticsRequest};
use samen_tests::deployment::{Deployment, Setup};
use samen_tests::process::{Signal, run};
use samen_tests::samen::samen;
use samen_tests::scratch::free_port;
use samen_tests::{Process, eventually};
use tonic::Code;
use tonic_health::pb::HealthCheckRequest;
use tonic_health::pb::health_check_response::ServingStatus;
use tonic_health::pb::health_client::HealthClient;
use tonic_reflection::pb::v1::ServerReflectionRequest;
use tonic_reflection::pb::v1::server_reflection_client::ServerReflectionClient;
use tonic_reflection::pb::v1::server_reflection_request::MessageRequest;
use tonic_reflection::pb::v1::server_reflection_response::MessageResponse;

use super::in_both_setups;
use super::shared::{SOON, count, report};

in_both_setups!(
    it_stops_within_ten_seconds_and_goes_on_where_it_stopped,
    anybody_may_ask_for_health_and_the_contract,
);

async fn it_stops_within_ten_seconds_and_goes_on_where_it_stopped(setup: Setup) {
    let mut deployment = Deployment::start(setup).await;
    let mut resident = deployment.requests("r", &["resident"]).await;
    let mut handler = deployment.requests("h", &["handler"]).await;
    let first = resident.file_request(report("een")).await.expect("filed").into_inner();
    // Open streams do not hold it up: each ends with a reason.
    let mut requests = handler
        .watch_requests(WatchRequestsRequest::default())
        .await
        .expect("a stream")
        .into_inner();
    let mut counts =
        handler.watch_statistics(WatchStatisticsRequest {}).await.expect("a stream").into_inner();
    let asked = Instant::now();
    deployment.stop().await;
    assert!(asked.elapsed() < Duration::from_secs(10), "{:?}", asked.elapsed());
    let ended = async {
        loop {
            if let Err(refusal) = requests.next().await.expect("it ends with a reason") {
                assert_eq!(refusal.code(), Code::Unavailable);
                break;
            }
        }
        loop {
            if let Err(refusal) = counts.next().await.expect("it ends with a reason") {
                assert_eq!(refusal.code(), Code::Unavailable);
                break;
            }
        }
    };
    tokio::time::timeout(SOON, ended).await.expect("streams end");

    deployment.restart().await;
    let mut handler = deployment.requests("h", &["handler"]).await;
    assert_eq!(count(&mut handler).await, 1);
    let mut resident = deployment.requests("r", &["resident"]).await;
    let filed = resident.file_request(report("twee")).await.expect("filed").into_inner();
    assert!(filed.number > first.number);
}

async fn anybody_may_ask_for_health_and_the_contract(setup: Setup) {
    let deployment = Deployment::start(setup).await;
    let channel = deployment.requests_channel();
    for service in ["", "samen.requests.v1.RequestService"] {
        // Commands are taken a moment before: while the store is built.
        eventually(SOON, "it serves", async || {
            let ask = HealthCheckRequest { service: service.to_owned() };
            let answer = HealthClient::new(channel.clone()).check(ask).await.expect("an answer");
            (answer.into_inner().status() == ServingStatus::Serving).then_some(())
        })
        .await;
    }
    let ask = ServerReflectionRequest {
        host: String::new(),
        message_request: Some(MessageRequest::ListServices(String::new())),
    };
    let mut answers = ServerReflectionClient::new(channel)
        .server_reflection_info(futures::stream::iter([ask]))
        .await
        .expect("an answer")
        .into_inner();
    let answer = answers.next().await.expect("one").expect("an answer");
    let Some(MessageResponse::ListServicesResponse(list)) = answer.message_response else {
        panic!("{answer:?}")
    };
    assert!(list.service.iter().any(|s| s.name == "samen.requests.v1.RequestService"));

    // gRPC-Web, as a browser speaks it: over HTTP/1.1, closed without a token.
    let lead = deployment.token("l", &["handler", "process_lead", "manager"]).await;
    for (url, method) in [
        (
            deployment.participation_url(),
            "samen.participation.v1.ParticipationService/ListProcesses",
        ),
        (deployment.requests_url(), "samen.requests.v1.RequestService/ListRequests"),
        (deployment.regional_url(), "samen.regional.v1.RegionalService/ListPartners"),
    ] {
        let url = format!("{url}/{method}");
        let answer = samen_tests::web::grpc_web(&url, None, &[]).await;
        assert_eq!(answer.grpc_status, Some(Code::Unauthenticated as i32), "{answer:?}");
        let answer = samen_tests::web::grpc_web(&url, Some(&lead), &[]).await;
        assert_eq!(answer.grpc_status, Some(Code::Ok as i32), "{answer:?}");
    }

    for url in [
        deployment.participation_url(),
        deployment.requests_url(),
        deployment.regional_url(),
        format!("{}/healthz", deployment.dashboard_url()),
    ] {
        eventually(SOON, &url, async || {
            let (status, _) = run(samen(["health", "--url", &url]), SOON).await;
            status.success().then_some(())
        })
        .await;
    }
    let nobody = format!("http://127.0.0.1:{}", free_port());
    let (status, _) = run(samen(["health", "--url", &nobody]), SOON).await;
    assert_eq!(status.code(), Some(1));
}

#[tokio::test]
async fn a_data_folder_in_use_is_refused() {
    let deployment = Deployment::start(Setup::AllInOne).await;
    let data = deployment.path("data");
    let (status, output) = run(samen(["up", "--data", &data]), SOON).await;
    assert_eq!(status.code(), Some(1));
    assert!(output.contains("in use by another samen process: stop that first"), "{output}");
}

#[tokio::test]
async fn the_first_start_tells_what_an_operator_must_know() {
    let deployment = Deployment::start(Setup::AllInOne).await;
    let output = deployment.processes[0].output();
    for told in [
        "participation   http://",
        "requests        http://",
        "regional        http://",
        "partners        https://",
        "dashboard       http://",
        "samen token --role handler",
        "keys/master.key",
        "Back it up",
    ] {
        assert!(output.contains(told), "{told} is not in\n{output}");
    }
}

#[tokio::test]
async fn a_lost_master_key_is_not_replaced() {
    let mut deployment = Deployment::start(Setup::AllInOne).await;
    deployment.stop().await;
    std::fs::remove_file(deployment.path("data/keys/master.key")).expect("it was made");
    let data = deployment.path("data");
    let (status, output) = run(samen(["up", "--data", &data]), SOON).await;
    assert_eq!(status.code(), Some(1));
    assert!(output.contains("master.key is missing"), "{output}");
}

#[tokio::test]
async fn wrong_configuration_is_one_line_that_names_the_variable() {
    let deployment = Deployment::start(Setup::Separate).await;
    let mut trial = Deployment::start(Setup::AllInOne).await;
    trial.stop().await;
    let trial_key = trial.path("data/keys/master.key");
    let trial_issuer = trial.path("data/keys/issuer.jwks.json");
    let good = deployment.environment(free_port());
    let needed = [
        "SAMEN_MUNICIPALITY",
        "SAMEN_OIN",
        "SAMEN_MASTER_KEY",
        "SAMEN_DESTROYED_KEYS",
        "SAMEN_OIDC_ISSUER",
        "SAMEN_OIDC_JWKS",
        "SAMEN_DATABASE_URL",
        "SAMEN_NATS_URL",
        "SAMEN_LISTEN",
    ];
    let missing = needed.map(|variable| (variable, None));
    let wrong = [
        ("SAMEN_MUNICIPALITY", "Diemen"),
        ("SAMEN_OIN", "123"),
        ("SAMEN_LISTEN", "nowhere"),
        ("SAMEN_AREA", "/nothing/there"),
        ("SAMEN_MASTER_KEY", "/nothing/there"),
        ("SAMEN_MASTER_KEY", &trial_key),
        ("SAMEN_DESTROYED_KEYS", "/nothing/there"),
        ("SAMEN_RETENTION", "/nothing/there"),
        ("SAMEN_OIDC_JWKS", "/nothing/there"),
        ("SAMEN_OIDC_JWKS", &trial_issuer),
        ("SAMEN_DATABASE_URL", "postgres://127.0.0.1:1/nothing"),
        ("SAMEN_NATS_CREDENTIALS", "/nothing/there"),
        ("SAMEN_HEARTBEAT", "0"),
        // A switch that is off is not a switch that is on.
        ("SAMEN_PLAINTEXT", "false"),
    ]
    .map(|(variable, value)| (variable, Some(value)));
    for (variable, value) in missing.into_iter().chain(wrong) {
        let mut command = samen(["serve", "service-requests"]);
        for (name, value) in good.iter().filter(|(name, _)| *name != variable) {
            command.env(name, value);
        }
        if let Some(value) = value {
            command.env(variable, value);
        }
        let (status, output) = run(command, SOON).await;
        assert_eq!(status.code(), Some(2), "{variable}={value:?}: {output}");
        assert_eq!(output.lines().count(), 1, "{output}");
        assert!(output.contains(variable), "{output}");
    }
}

#[tokio::test]
async fn control_c_stops_it_too() {
    let mut deployment = Deployment::start(Setup::AllInOne).await;
    let process: &mut Process = &mut deployment.processes[0];
    process.signal(Signal::INT);
    assert!(process.ended(Duration::from_secs(10)).await.success());
    assert!(process.output().contains("Everything that was accepted is in the logs"));
}
