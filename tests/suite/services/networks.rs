//! Neighbourhood networks take part in the care for public space.

use samen_proto::requests::handling_service_client::HandlingServiceClient;
use samen_proto::requests::network_service_client::NetworkServiceClient;
use samen_proto::requests::target::Target as To;
use samen_proto::requests::*;
use samen_tests::deployment::{Authorised, Deployment, Setup};
use tonic::Code;

use super::in_both_setups;
use super::shared::{BUYTENSTEE, new_id, refused, report};

in_both_setups!(
    a_network_takes_care_of_what_it_is_offered_and_sees_no_person,
    what_a_network_knows_about_a_place_is_told_to_who_comes_near,
);

type Networks = NetworkServiceClient<Authorised>;

/// The pseudonymous id of somebody, as their own report carries it.
async fn person(deployment: &Deployment, name: &str) -> String {
    let mut resident = deployment.requests(name, &["resident"]).await;
    let filed = resident.file_request(report("x")).await.expect("filed").into_inner();
    let handler = deployment.at_requests("h", &["handler"]).await;
    let list = ListHistoryRequest { id: filed.id, at_least: filed.position };
    let history = HandlingServiceClient::new(handler).list_history(list).await.expect("a history");
    history.into_inner().entries[0].actor.clone()
}

async fn network(deployment: &Deployment, members: &[&str]) -> Network {
    let mut ids = Vec::new();
    for member in members {
        ids.push(person(deployment, member).await);
    }
    let network = Network {
        id: new_id(),
        name: "Buurtbeheer Noord".into(),
        kind: NetworkKind::Stewards.into(),
        neighbourhoods: vec!["BU03840101".into()],
        categories: vec!["verlichting".into()],
        members: ids,
    };
    let administrator = deployment.at_requests("b", &["administrator"]).await;
    let define = DefineNetworkRequest {
        request_id: new_id(),
        expected_version: 0,
        network: Some(network.clone()),
    };
    Networks::new(administrator).define_network(define).await.expect("defined");
    network
}

async fn member(deployment: &Deployment, name: &str) -> Networks {
    Networks::new(deployment.at_requests(name, &["network"]).await)
}

async fn a_network_takes_care_of_what_it_is_offered_and_sees_no_person(setup: Setup) {
    let deployment = Deployment::start(setup).await;
    let ours = network(&deployment, &["jan", "piet"]).await;
    network(&deployment, &["klaas"]).await;
    let handler = deployment.at_requests("h", &["handler"]).await;
    let mut handling = HandlingServiceClient::new(handler.clone());
    let mut confirming = Networks::new(handler);
    let mut requests = deployment.requests("h", &["handler"]).await;
    let mut resident = deployment.requests("r", &["resident"]).await;
    let filed = resident.file_request(report("Zoë's lamp")).await.expect("filed").into_inner();
    let route = RouteRequestRequest {
        request_id: new_id(),
        id: filed.id.clone(),
        expected_version: 1,
        target: Some(Target { target: Some(To::Network(ours.id.clone())) }),
    };
    let offered = handling.route_request(route).await.expect("offered").into_inner();

    let [mut jan, mut piet, mut klaas] = [
        member(&deployment, "jan").await,
        member(&deployment, "piet").await,
        member(&deployment, "klaas").await,
    ];
    let list = ListTasksRequest { at_least: offered.position.clone(), ..Default::default() };
    let tasks = jan.list_tasks(list.clone()).await.expect("tasks").into_inner().tasks;
    assert_eq!(tasks.len(), 1);
    assert_eq!((tasks[0].state(), tasks[0].own), (TaskState::Open, false));
    assert!(!format!("{tasks:?}").contains("Zoë"));
    let theirs = klaas.list_tasks(list).await.expect("tasks").into_inner().tasks;
    assert_eq!(theirs, []);

    let claim = |version| ClaimTaskRequest {
        request_id: new_id(),
        id: filed.id.clone(),
        expected_version: version,
    };
    let refusal = klaas.claim_task(claim(offered.version)).await.expect_err("not theirs");
    assert_eq!(refusal.code(), Code::NotFound);
    let claimed = jan.claim_task(claim(offered.version)).await.expect("claimed").into_inner();
    refused(piet.claim_task(claim(claimed.version)).await, Code::Aborted, "TAKEN");
    let report_done = |version| ReportTaskRequest {
        request_id: new_id(),
        id: filed.id.clone(),
        expected_version: version,
        report: "De lamp doet het weer".into(),
    };
    refused(piet.report_task(report_done(claimed.version)).await, Code::Aborted, "TAKEN");
    let done = jan.report_task(report_done(claimed.version)).await.expect("done").into_inner();
    let give_back = ReturnTaskRequest {
        request_id: new_id(),
        id: filed.id.clone(),
        expected_version: done.version,
        reason: "Hij flikkert nog".into(),
    };
    let back = confirming.return_task(give_back).await.expect("returned").into_inner();
    let done = jan.report_task(report_done(back.version)).await.expect("done").into_inner();
    let confirm = ConfirmTaskRequest {
        request_id: new_id(),
        id: filed.id.clone(),
        expected_version: done.version,
        explanation: "De buurt heeft de lamp gemaakt".into(),
    };
    let confirmed = confirming.confirm_task(confirm).await.expect("confirmed").into_inner();
    let get = GetRequestRequest { id: filed.id.clone(), at_least: confirmed.position.clone() };
    let now = requests.get_request(get).await.expect("seen").into_inner().request;
    let now = now.expect("a request");
    assert_eq!(now.status(), Status::Resolved);
    assert_eq!(now.handling.as_ref().expect("staff").task(), TaskState::Confirmed);
    let list = ListTasksRequest { at_least: confirmed.position, ..Default::default() };
    let mine = jan.list_tasks(list.clone()).await.expect("tasks").into_inner().tasks;
    assert_eq!((mine.len(), mine[0].own), (1, true), "what they did stays theirs to see");
    assert_eq!(piet.list_tasks(list).await.expect("tasks").into_inner().tasks, []);
}

async fn what_a_network_knows_about_a_place_is_told_to_who_comes_near(setup: Setup) {
    let deployment = Deployment::start(setup).await;
    let ours = network(&deployment, &["jan"]).await;
    let mut jan = member(&deployment, "jan").await;
    let mut handler = Networks::new(deployment.at_requests("h", &["handler"]).await);
    let at = |north: f64, east: f64| Location {
        latitude: BUYTENSTEE.latitude + north,
        longitude: BUYTENSTEE.longitude + east,
    };
    let add = |outline, note: &str| AddPlaceNoteRequest {
        request_id: new_id(),
        network_id: ours.id.clone(),
        outline,
        note: note.to_owned(),
    };
    let open = vec![at(0.0, 0.0), at(0.001, 0.0), at(0.001, 0.001), at(0.0, 0.001)];
    let refusal = jan.add_place_note(add(open, "Niet dicht")).await;
    assert_eq!(refused(refusal, Code::InvalidArgument, "INVALID_FIELD"), ["outline"]);
    let mut klaas = member(&deployment, "klaas").await;
    let refusal = klaas.add_place_note(add(vec![at(0.0, 0.0)], "Van een ander")).await;
    assert_eq!(refusal.expect_err("not theirs").code(), Code::NotFound);

    let point = add(vec![at(0.0005, 0.0)], "De sleutel ligt bij nummer 4");
    let point = jan.add_place_note(point).await.expect("added").into_inner();
    let square =
        vec![at(0.001, 0.0), at(0.002, 0.0), at(0.002, 0.001), at(0.001, 0.001), at(0.001, 0.0)];
    let area = jan.add_place_note(add(square, "Hier broeden vogels")).await.expect("added");
    let area = area.into_inner();
    let near =
        |within, at_least| ListPlaceNotesRequest { near: Some(BUYTENSTEE), within, at_least };
    let found = handler.list_place_notes(near(0, area.position.clone())).await.expect("notes");
    let notes: Vec<_> = found.into_inner().notes;
    assert_eq!(notes.len(), 1);
    assert_eq!((&notes[0].id, notes[0].note.as_str()), (&point.id, "De sleutel ligt bij nummer 4"));
    assert!((notes[0].distance - 55.6).abs() < 0.5, "{}", notes[0].distance);
    let found = handler.list_place_notes(near(120, None)).await.expect("notes").into_inner();
    let ids: Vec<_> = found.notes.iter().map(|note| &note.id).collect();
    assert_eq!(ids, [&point.id, &area.id], "nearest first");

    let remove = |id: &str| RemovePlaceNoteRequest { request_id: new_id(), id: id.to_owned() };
    let refusal = klaas.remove_place_note(remove(&area.id)).await.expect_err("not theirs");
    assert_eq!(refusal.code(), Code::NotFound);
    let gone = handler.remove_place_note(remove(&area.id)).await.expect("removed").into_inner();
    let own = ListPlaceNotesRequest { at_least: gone.position, ..Default::default() };
    let left = jan.list_place_notes(own).await.expect("notes").into_inner().notes;
    assert_eq!(left.iter().map(|note| &note.id).collect::<Vec<_>>(), [&point.id]);
}
