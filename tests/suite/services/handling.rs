//! What handlers do with requests, and what reporters do besides.

use samen_proto::requests::handling_service_client::HandlingServiceClient;
use samen_proto::requests::reporter_service_client::ReporterServiceClient;
use samen_proto::requests::request_service_client::RequestServiceClient;
use samen_proto::requests::target::Target as To;
use samen_proto::requests::*;
use samen_tests::deployment::{Authorised, Deployment, Setup};
use tonic::Code;

use super::in_both_setups;
use super::shared::{new_id, refused, report};

in_both_setups!(
    a_change_of_category_and_place_routes_once,
    a_reporter_who_is_asked_is_waited_for,
    a_whole_is_resolved_with_the_last_of_its_parts,
    duplicates_are_suggested_and_go_on_in_one,
    who_handled_it_and_when_is_told_to_each_as_far_as_they_may,
    who_is_not_satisfied_has_it_opened_again_once,
    what_needs_more_than_a_status_is_asked_for,
);

/// Somebody who handles, and the deployment's other doors.
struct Desk {
    requests: RequestServiceClient<Authorised>,
    handling: HandlingServiceClient<Authorised>,
    resident: RequestServiceClient<Authorised>,
    reporter: ReporterServiceClient<Authorised>,
}

impl Desk {
    async fn of(deployment: &Deployment) -> Self {
        let handler = deployment.at_requests("h", &["handler"]).await;
        let resident = deployment.at_requests("r", &["resident"]).await;
        Desk {
            requests: deployment.requests("h", &["handler"]).await,
            handling: HandlingServiceClient::new(handler),
            resident: deployment.requests("r", &["resident"]).await,
            reporter: ReporterServiceClient::new(resident),
        }
    }

    async fn file(&mut self, asks: FileRequestRequest) -> ServiceRequest {
        let filed = self.resident.file_request(asks).await.expect("filed").into_inner();
        self.see(&filed.id, filed.position).await
    }

    async fn see(
        &mut self,
        id: &str,
        at_least: Option<samen_proto::log::Position>,
    ) -> ServiceRequest {
        let get = GetRequestRequest { id: id.to_owned(), at_least };
        let seen = self.requests.get_request(get).await.expect("seen").into_inner();
        seen.request.expect("a request")
    }

    async fn change(
        &mut self,
        request: &ServiceRequest,
        status: Status,
        explanation: &str,
    ) -> ServiceRequest {
        let change = ChangeStatusRequest {
            request_id: new_id(),
            id: request.id.clone(),
            expected_version: request.version,
            status: status.into(),
            explanation: explanation.to_owned(),
            ..ChangeStatusRequest::default()
        };
        let changed = self.requests.change_status(change).await.expect("changed").into_inner();
        self.see(&request.id, changed.position).await
    }
}

const SHIPPED: [(&str, &str); 1] = [("SAMEN_CATALOGUE", "shipped")];

fn contactable(text: &str) -> FileRequestRequest {
    FileRequestRequest { contact_consent: true, ..report(text) }
}

fn bulky(text: &str) -> FileRequestRequest {
    FileRequestRequest { category: "afval/grofvuil".into(), contact_consent: true, ..report(text) }
}

async fn a_change_of_category_and_place_routes_once(setup: Setup) {
    let deployment = Deployment::start_with(setup, &SHIPPED).await;
    let mut desk = Desk::of(&deployment).await;
    let filed = desk.file(bulky("Een omgevallen boom")).await;
    let amend = AmendRequestRequest {
        request_id: new_id(),
        id: filed.id.clone(),
        expected_version: filed.version,
        category: "groen/boom".into(),
        location: Some(Location { latitude: 52.3396, longitude: 4.9619 }),
        urgency: Urgency::High.into(),
        address: "Bij de vijver".into(),
    };
    let amended = desk.handling.amend_request(amend.clone()).await.expect("amended").into_inner();
    assert_eq!(desk.handling.amend_request(amend).await.expect("the same").into_inner(), amended);
    let now = desk.see(&filed.id, amended.position.clone()).await;
    assert_eq!((now.category.as_str(), now.urgency()), ("groen/boom", Urgency::High));
    assert_ne!(now.neighbourhood, filed.neighbourhood);
    assert_ne!(now.due_time, filed.due_time);
    let handling = now.handling.expect("staff see it");
    assert_eq!((handling.team.as_str(), handling.rule.as_str()), ("calamiteiten", "gevaar"));
    let list = ListHistoryRequest { id: filed.id.clone(), at_least: amended.position };
    let history = desk.handling.list_history(list).await.expect("a history").into_inner();
    let kinds: Vec<_> = history.entries.iter().map(|entry| entry.kind.as_str()).collect();
    let first = ["RequestFiled", "RequestRouted", "NormSet"];
    assert_eq!(kinds, [&first[..], &["RequestAmended", "RequestRouted", "NormSet"]].concat());
    let reveal = RevealRequestRequest { id: filed.id, purpose: Purpose::Handling.into() };
    let revealed = desk.requests.reveal_request(reveal).await.expect("revealed").into_inner();
    assert_eq!(revealed.address.expect("an address").text, "Bij de vijver");
}

async fn a_reporter_who_is_asked_is_waited_for(setup: Setup) {
    let deployment = Deployment::start_with(setup, &SHIPPED).await;
    let mut desk = Desk::of(&deployment).await;
    let silent = desk.file(FileRequestRequest { contact_consent: false, ..bulky("Bank") }).await;
    let ask = |request: &ServiceRequest, ask_reaction| SendMessageRequest {
        request_id: new_id(),
        id: request.id.clone(),
        expected_version: request.version,
        message: "Waar staat de bank?".into(),
        ask_reaction,
    };
    let refusal = desk.handling.send_message(ask(&silent, false)).await.expect_err("no consent");
    assert_eq!(refusal.code(), Code::FailedPrecondition);

    let filed = desk.file(bulky("Bank")).await;
    let sent = desk.handling.send_message(ask(&filed, true)).await.expect("sent").into_inner();
    let waiting = desk.see(&filed.id, sent.position.clone()).await;
    assert_eq!(waiting.status(), Status::Waiting);
    let react_before = waiting.handling.as_ref().and_then(|h| h.react_before);
    let until =
        react_before.expect("until then").seconds - waiting.update_time.expect("now").seconds;
    assert!((until - 5 * 86_400).abs() <= 3_600, "{until}");

    let write = WriteMessageRequest {
        request_id: new_id(),
        id: filed.id.clone(),
        message: "Voor nummer 5".into(),
    };
    let mut other = ReporterServiceClient::new(deployment.at_requests("x", &["resident"]).await);
    let refusal = other.write_message(write.clone()).await.expect_err("not theirs");
    assert_eq!(refusal.code(), Code::NotFound);
    let wrote = desk.reporter.write_message(write.clone()).await.expect("written").into_inner();
    assert_eq!(desk.reporter.write_message(write).await.expect("the same").into_inner(), wrote);
    let now = desk.see(&filed.id, wrote.position.clone()).await;
    assert_eq!(now.status(), Status::InProgress);
    assert_eq!(now.handling.expect("staff see it").react_before, None);

    let get = GetConversationRequest { id: filed.id.clone(), at_least: wrote.position };
    let refusal = other.get_conversation(get.clone()).await.expect_err("not theirs");
    assert_eq!(refusal.code(), Code::NotFound);
    let said = desk.reporter.get_conversation(get).await.expect("said").into_inner().entries;
    let said: Vec<_> = said.iter().map(|entry| (entry.own, entry.text.as_str())).collect();
    assert_eq!(said, [(false, "Waar staat de bank?"), (true, "Voor nummer 5")]);
}

async fn a_whole_is_resolved_with_the_last_of_its_parts(setup: Setup) {
    let deployment = Deployment::start_with(setup, &SHIPPED).await;
    let mut desk = Desk::of(&deployment).await;
    let whole = desk.file(bulky("Bank en een gat")).await;
    let part = |category: &str| Part {
        category: category.to_owned(),
        description: "Een deel".into(),
        location: None,
    };
    let split = |request: &ServiceRequest, count: usize| SplitRequestRequest {
        request_id: new_id(),
        id: request.id.clone(),
        expected_version: request.version,
        parts: (0..count).map(|n| part(["afval/grofvuil", "wegen/gat-in-weg"][n % 2])).collect(),
    };
    for count in [1, 11] {
        let refusal = desk.handling.split_request(split(&whole, count)).await;
        assert_eq!(refused(refusal, Code::InvalidArgument, "INVALID_FIELD"), ["parts"]);
    }
    let asks = split(&whole, 3);
    let made = desk.handling.split_request(asks.clone()).await.expect("divided").into_inner();
    assert_eq!(made.part_ids.len(), 3);
    let again = desk.handling.split_request(asks).await.expect("the same").into_inner();
    assert_eq!(again, made);
    let divided = desk.see(&whole.id, made.position.clone()).await;
    assert_eq!(divided.part_ids, made.part_ids);
    let mut parts = Vec::new();
    for id in &made.part_ids {
        let part = desk.see(id, made.position.clone()).await;
        assert_eq!((&part.parent_id, &part.neighbourhood), (&whole.id, &whole.neighbourhood));
        assert!(part.due_time.is_some() && part.number > whole.number);
        parts.push(part);
    }
    // One level deep, and ten at most.
    let refusal = desk.handling.split_request(split(&parts[0], 2)).await.expect_err("a part");
    assert_eq!(refusal.code(), Code::FailedPrecondition);
    let refusal = desk.handling.split_request(split(&divided, 8)).await.expect_err("eleven");
    assert_eq!(refusal.code(), Code::FailedPrecondition);
    let early = ChangeStatusRequest {
        request_id: new_id(),
        id: whole.id.clone(),
        expected_version: divided.version,
        status: Status::Resolved.into(),
        explanation: "Klaar".into(),
        ..ChangeStatusRequest::default()
    };
    let refusal = desk.requests.change_status(early).await.expect_err("parts are open");
    assert_eq!(refusal.code(), Code::FailedPrecondition);

    desk.change(&parts[0], Status::Resolved, "Weg").await;
    let rejected = desk.change(&parts[1], Status::Rejected, "Niet van ons").await;
    let reopened = desk.change(&rejected, Status::Reopened, "Toch wel").await;
    desk.change(&parts[2], Status::Resolved, "Weg").await;
    let open = desk.see(&whole.id, None).await;
    assert_eq!(open.status(), Status::Received, "one part is open again");
    let last = desk.change(&reopened, Status::Resolved, "Gedicht").await;
    let at = last.update_time;
    let now = desk.see(&whole.id, None).await;
    assert_eq!((now.status(), now.close_time), (Status::Resolved, at));
}

async fn duplicates_are_suggested_and_go_on_in_one(setup: Setup) {
    let deployment = Deployment::start(setup).await;
    let mut desk = Desk::of(&deployment).await;
    let first = desk.file(contactable("Lamp")).await;
    let [near, far] = [0.0003, 0.0006].map(|north| Location {
        latitude: super::shared::BUYTENSTEE.latitude + north,
        ..super::shared::BUYTENSTEE
    });
    let asks = FileRequestRequest { location: Some(near), ..contactable("Lamp") };
    let filed = desk.resident.file_request(asks).await.expect("not blocked").into_inner();
    let suggested: Vec<_> = filed.duplicates.iter().map(|duplicate| &duplicate.id).collect();
    assert_eq!(suggested, [&first.id]);
    assert!((filed.duplicates[0].distance - 33.4).abs() < 0.5, "{:?}", filed.duplicates);
    let far = FileRequestRequest { location: Some(far), ..contactable("Lamp") };
    let far = desk.resident.file_request(far).await.expect("filed").into_inner();
    let suggested: Vec<_> = far.duplicates.iter().map(|duplicate| &duplicate.id).collect();
    assert_eq!(suggested, [&filed.id], "67 metres are too far");
    let another = FileRequestRequest { category: "proef/a".into(), ..contactable("Lamp") };
    let another = desk.resident.file_request(another).await.expect("filed").into_inner();
    assert_eq!(another.duplicates, []);

    let duplicate = desk.see(&filed.id, far.position).await;
    let merge = |into: &str| MergeRequestRequest {
        request_id: new_id(),
        id: duplicate.id.clone(),
        expected_version: duplicate.version,
        into_id: into.to_owned(),
    };
    let itself = desk.handling.merge_request(merge(&duplicate.id)).await;
    assert_eq!(refused(itself, Code::InvalidArgument, "INVALID_FIELD"), ["into_id"]);
    let nothing = desk.handling.merge_request(merge(&new_id())).await.expect_err("nothing");
    assert_eq!(nothing.code(), Code::NotFound);
    let merged = desk.handling.merge_request(merge(&first.id)).await.expect("merged").into_inner();
    let now = desk.see(&duplicate.id, merged.position.clone()).await;
    assert_eq!((now.status(), &now.merged_into_id), (Status::Merged, &first.id));
    let main = desk.see(&first.id, merged.position).await;
    assert_eq!(main.linked_ids, std::slice::from_ref(&duplicate.id));
    // What is closed does not take another one.
    desk.change(&main, Status::Resolved, "Gemaakt").await;
    let other = desk.see(&far.id, None).await;
    let late = MergeRequestRequest {
        request_id: new_id(),
        id: other.id,
        expected_version: other.version,
        into_id: first.id,
    };
    let refusal = desk.handling.merge_request(late).await.expect_err("it is closed");
    assert_eq!(refusal.code(), Code::FailedPrecondition);
}

async fn who_handled_it_and_when_is_told_to_each_as_far_as_they_may(setup: Setup) {
    let deployment = Deployment::start(setup).await;
    let mut desk = Desk::of(&deployment).await;
    let filed = desk.file(contactable("Lamp")).await;
    let note = AddNoteRequest {
        request_id: new_id(),
        id: filed.id.clone(),
        expected_version: filed.version,
        note: "Melder belt vaak".into(),
    };
    let noted = desk.handling.add_note(note).await.expect("noted").into_inner();
    let now = desk.see(&filed.id, noted.position).await;
    let now = desk.change(&now, Status::Resolved, "Nieuwe lamp").await;
    let list = ListHistoryRequest { id: filed.id.clone(), at_least: None };
    let staff = desk.handling.list_history(list.clone()).await.expect("a history").into_inner();
    let kinds: Vec<_> = staff.entries.iter().map(|entry| entry.kind.as_str()).collect();
    assert_eq!(kinds, ["RequestFiled", "NoteAdded", "StatusChanged", "FeedbackAsked"]);
    assert!(staff.entries.iter().all(|entry| !entry.actor.is_empty() && entry.time.is_some()));
    assert_eq!(staff.entries[2].status(), Status::Resolved);

    let resident = deployment.at_requests("r", &["resident"]).await;
    let mut resident = HandlingServiceClient::new(resident);
    let own = resident.list_history(list.clone()).await.expect("their own").into_inner();
    let kinds: Vec<_> = own.entries.iter().map(|entry| entry.kind.as_str()).collect();
    assert_eq!(kinds, ["RequestFiled", "StatusChanged", "FeedbackAsked"]);
    assert_eq!(own.entries[0].actor, staff.entries[0].actor);
    assert_eq!(own.entries[1].actor, "", "an employee's id is not theirs to know");
    let other = deployment.at_requests("x", &["resident"]).await;
    let refusal = HandlingServiceClient::new(other).list_history(list).await;
    assert_eq!(refusal.expect_err("not theirs").code(), Code::NotFound);

    let reveal = RevealRequestRequest { id: now.id, purpose: Purpose::Handling.into() };
    let revealed = desk.requests.reveal_request(reveal).await.expect("revealed").into_inner();
    let texts: Vec<_> = revealed.texts.into_iter().map(|t| t.text.expect("a text").text).collect();
    assert_eq!(texts, ["Melder belt vaak", "Nieuwe lamp"]);
}

async fn who_is_not_satisfied_has_it_opened_again_once(setup: Setup) {
    let deployment = Deployment::start(setup).await;
    let mut desk = Desk::of(&deployment).await;
    let filed = desk.file(contactable("Lamp")).await;
    let rate = |satisfaction, words: &str, reopen| RateRequestRequest {
        request_id: new_id(),
        id: filed.id.clone(),
        satisfaction,
        words: words.to_owned(),
        reopen,
    };
    let early = desk.reporter.rate_request(rate(5, "", false)).await.expect_err("not asked");
    assert_eq!(early.code(), Code::FailedPrecondition);
    let closed = desk.change(&filed, Status::Resolved, "Nieuwe lamp").await;
    for (field, asks) in [
        ("satisfaction", rate(0, "", false)),
        ("satisfaction", rate(6, "", false)),
        ("satisfaction", rate(3, "Hij is weer stuk", true)),
        ("words", rate(1, " ", true)),
    ] {
        let refusal = desk.reporter.rate_request(asks).await;
        assert_eq!(refused(refusal, Code::InvalidArgument, "INVALID_FIELD"), [field]);
    }
    // Clicked twice, said once.
    let asks = rate(1, "Hij is weer stuk", true);
    let clicks = [asks.clone(), asks.clone(), rate(1, "Hij is weer stuk", true)].map(|asks| {
        let mut reporter = desk.reporter.clone();
        async move { reporter.rate_request(asks).await.map(|said| said.into_inner()) }
    });
    let said = futures::future::join_all(clicks).await;
    let positions: std::collections::BTreeSet<_> =
        said.iter().flatten().map(|said| said.position.as_ref().map(|p| p.position)).collect();
    assert_eq!(positions.len(), 1, "{said:?}");
    let at = said.into_iter().flatten().next().expect("one was taken").position;
    let again = desk.see(&filed.id, at).await;
    assert_eq!((again.status(), again.satisfaction), (Status::Reopened, 1));
    assert!(again.version > closed.version);
    // Asked anew about the next closure; opened again by the reporter no more.
    desk.change(&again, Status::Resolved, "Nog een lamp").await;
    let refusal = desk.reporter.rate_request(rate(2, "Nog steeds", true)).await;
    assert_eq!(refusal.expect_err("once").code(), Code::FailedPrecondition);
    let said = desk.reporter.rate_request(rate(4, "", false)).await.expect("said").into_inner();
    assert_eq!(desk.see(&filed.id, said.position).await.satisfaction, 4);
}

async fn what_needs_more_than_a_status_is_asked_for(setup: Setup) {
    let deployment = Deployment::start_with(setup, &SHIPPED).await;
    let mut desk = Desk::of(&deployment).await;
    let filed = desk.file(bulky("Bank")).await;
    let change = |status: Status| ChangeStatusRequest {
        request_id: new_id(),
        id: filed.id.clone(),
        expected_version: filed.version,
        status: status.into(),
        ..ChangeStatusRequest::default()
    };
    for (field, asks) in [
        ("external_party", change(Status::External)),
        ("planned_date", change(Status::Planned)),
        (
            "planned_date",
            ChangeStatusRequest { planned_date: "2020-01-01".into(), ..change(Status::Planned) },
        ),
        ("explanation", change(Status::Rejected)),
        ("status", change(Status::Merged)),
        ("status", change(Status::Transferred)),
        ("status", change(Status::Waiting)),
    ] {
        let refusal = desk.requests.change_status(asks).await;
        assert_eq!(refused(refusal, Code::InvalidArgument, "INVALID_FIELD"), [field]);
    }
    let assign = |assignee: &str| AssignRequestRequest {
        request_id: new_id(),
        id: filed.id.clone(),
        expected_version: filed.version,
        assignee: assignee.to_owned(),
    };
    let stranger = desk.handling.assign_request(assign("iemand")).await;
    assert_eq!(refused(stranger, Code::InvalidArgument, "INVALID_FIELD"), ["assignee"]);
    let route = |target| RouteRequestRequest {
        request_id: new_id(),
        id: filed.id.clone(),
        expected_version: filed.version,
        target: Some(Target { target: Some(target) }),
    };
    for target in [To::Team("geen".into()), To::Network(new_id()), To::Partner("437".into())] {
        let refusal = desk.handling.route_request(route(target)).await;
        assert_eq!(refused(refusal, Code::InvalidArgument, "INVALID_FIELD"), ["target"]);
    }
    let routed = desk.handling.route_request(route(To::Team("verkeer".into()))).await;
    let now = desk.see(&filed.id, routed.expect("routed").into_inner().position).await;
    assert_eq!(now.handling.as_ref().expect("staff").team, "verkeer");
    let transfer = |municipality: &str| TransferRequestRequest {
        request_id: new_id(),
        id: filed.id.clone(),
        expected_version: now.version,
        municipality: municipality.to_owned(),
        explanation: "Het ligt net over de grens".into(),
    };
    let own = desk.handling.transfer_request(transfer("GM0384")).await;
    assert_eq!(refused(own, Code::InvalidArgument, "INVALID_FIELD"), ["municipality"]);
    let gone = desk.handling.transfer_request(transfer("GM0437")).await.expect("transferred");
    let now = desk.see(&filed.id, gone.into_inner().position).await;
    assert_eq!((now.status(), now.transferred_to.as_str()), (Status::Transferred, "GM0437"));
}
