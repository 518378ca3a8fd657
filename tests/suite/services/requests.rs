//! Service requests: what is accepted, what is refused and how, who sees what.

use std::collections::HashSet;

use futures::StreamExt;
use futures::future::join_all;
use prost::Name;
use samen_proto::requests::watch_requests_response::Item;
use samen_proto::requests::watch_statistics_response::Item as Count;
use samen_proto::requests::*;
use samen_tests::deployment::{Deployment, Setup};
use tonic::Code;

use super::forgetting::records;
use super::in_both_setups;
use super::shared::{BUYTENSTEE, SOON, all, count, new_id, refused, report};

mod export;
mod figures;
mod lists;
mod real;

in_both_setups!(
    a_report_is_filed_once_and_seen_by_those_who_may,
    what_is_wrong_is_named_and_nothing_is_written,
    handlers_never_overwrite_each_other,
    numbers_are_unique_and_every_page_adds_up,
    what_is_personal_is_revealed_only_with_a_purpose,
    watchers_see_what_is_and_what_changes,
    watchers_are_told_what_leaves_their_filter,
    counts_come_before_the_mark_right_after_a_start_too,
);

async fn a_report_is_filed_once_and_seen_by_those_who_may(setup: Setup) {
    let deployment = Deployment::start(setup).await;
    let mut zoe = deployment.requests("zoe", &["resident"]).await;
    let mut other = deployment.requests("other", &["resident"]).await;
    let mut handler = deployment.requests("handler", &["handler"]).await;

    let command = report("De lamp is kapot");
    let filed = zoe.file_request(command.clone()).await.expect("filed").into_inner();
    let again = zoe.file_request(command.clone()).await.expect("the same").into_inner();
    assert_eq!(filed, again);
    // The same id, however it is spelled.
    let upper = command.request_id.to_uppercase();
    let bare = command.request_id.replace('-', "");
    for request_id in [upper, bare] {
        let spelled = FileRequestRequest { request_id, ..command.clone() };
        assert_eq!(filed, zoe.file_request(spelled).await.expect("the same").into_inner());
    }
    let changed = FileRequestRequest { description: "Iets anders".into(), ..command.clone() };
    let fields =
        refused(zoe.file_request(changed).await, Code::InvalidArgument, "REQUEST_ID_REUSED");
    assert_eq!(fields, ["request_id"]);
    // Ids are each caller's own.
    let others = other.file_request(command).await.expect("filed").into_inner();
    assert_ne!(filed.id, others.id);

    let get = |id: &str| GetRequestRequest { id: id.to_owned(), at_least: others.position.clone() };
    let seen = handler.get_request(get(&filed.id)).await.expect("seen").into_inner();
    let seen = seen.request.expect("a request");
    assert_eq!(seen.number, filed.number);
    assert_eq!(seen.neighbourhood, "BU03840101");
    assert_eq!(seen.status(), Status::Received);
    zoe.get_request(get(&filed.id)).await.expect("her own");
    let refusal = other.get_request(get(&filed.id)).await.expect_err("not theirs");
    assert_eq!(refusal.code(), Code::NotFound);
    assert_eq!(count(&mut zoe).await, 1);
    assert_eq!(count(&mut handler).await, 2);
}

async fn what_is_wrong_is_named_and_nothing_is_written(setup: Setup) {
    let deployment = Deployment::start(setup).await;
    let mut resident = deployment.requests("r", &["resident"]).await;
    let mut handler = deployment.requests("h", &["handler"]).await;
    let good = report("De lamp is kapot");

    let at = |latitude, longitude| Some(Location { latitude, longitude });
    let bad = [
        ("location", FileRequestRequest { location: at(4.971, 52.352), ..good.clone() }),
        ("location", FileRequestRequest { location: at(0.0, 0.0), ..good.clone() }),
        ("location", FileRequestRequest { location: None, ..good.clone() }),
        ("location.latitude", FileRequestRequest { location: at(91.0, 4.9), ..good.clone() }),
        ("location.longitude", FileRequestRequest { location: at(52.3, f64::NAN), ..good.clone() }),
        ("description", FileRequestRequest { description: "x".repeat(5_001), ..good.clone() }),
        ("description", FileRequestRequest { description: " ".into(), ..good.clone() }),
        ("category", FileRequestRequest { category: String::new(), ..good.clone() }),
        ("channel", FileRequestRequest { channel: 99, ..good.clone() }),
        ("channel", FileRequestRequest { channel: Channel::Phone.into(), ..good.clone() }),
        ("request_id", FileRequestRequest { request_id: "1".into(), ..good.clone() }),
    ];
    for (field, request) in bad {
        let fields =
            refused(resident.file_request(request).await, Code::InvalidArgument, "INVALID_FIELD");
        assert_eq!(fields, [field]);
    }
    // Nor is what a handler writes down the handler's own.
    for channel in [Channel::Web, Channel::App] {
        let command = FileRequestRequest { channel: channel.into(), ..good.clone() };
        let fields =
            refused(handler.file_request(command).await, Code::InvalidArgument, "INVALID_FIELD");
        assert_eq!(fields, ["channel"]);
    }
    // Everything that is wrong is told at once.
    let both = FileRequestRequest { category: String::new(), description: String::new(), ..good };
    let fields = refused(resident.file_request(both).await, Code::InvalidArgument, "INVALID_FIELD");
    assert_eq!(fields, ["category", "description"]);

    let unknown = GetRequestRequest { id: new_id(), at_least: None };
    let refusal = handler.get_request(unknown).await.expect_err("there is none");
    assert_eq!(refusal.code(), Code::NotFound);
    let malformed = GetRequestRequest { id: "12".into(), at_least: None };
    let fields =
        refused(handler.get_request(malformed).await, Code::InvalidArgument, "INVALID_FIELD");
    assert_eq!(fields, ["id"]);

    let mut importer = deployment.requests("i", &["importer"]).await;
    let missing_role = importer.file_request(report("x")).await;
    refused(missing_role, Code::PermissionDenied, "ROLE_MISSING");
    for token in ["", "rubbish", "a.b.c"] {
        let answer = deployment.requests_with(token).file_request(report("x")).await;
        refused(answer, Code::Unauthenticated, "TOKEN_INVALID");
    }
    // A token of another issuer, with a key id that ours has.
    let foreign = Deployment::start(Setup::AllInOne).await.token("h", &["handler"]).await;
    let answer = deployment.requests_with(&foreign).file_request(report("x")).await;
    refused(answer, Code::Unauthenticated, "TOKEN_INVALID");

    for filter in [
        RequestFilter { statuses: vec![77], ..Default::default() },
        RequestFilter { statuses: vec![Status::Received.into(); 17], ..Default::default() },
        RequestFilter { categories: vec![String::new()], ..Default::default() },
        RequestFilter { categories: vec!["verlichting\0".into()], ..Default::default() },
        RequestFilter { categories: vec!["x".repeat(201)], ..Default::default() },
        RequestFilter { neighbourhoods: vec!["BU0384\0".into()], ..Default::default() },
        RequestFilter { neighbourhoods: vec!["BU03840101".into(); 1_001], ..Default::default() },
    ] {
        let watch = WatchRequestsRequest { filter: Some(filter.clone()), resume_after: None };
        refused(handler.watch_requests(watch).await, Code::InvalidArgument, "INVALID_FIELD");
        let list = ListRequestsRequest { filter: Some(filter), ..Default::default() };
        refused(handler.list_requests(list).await, Code::InvalidArgument, "INVALID_FIELD");
    }
    let list = ListRequestsRequest { page_size: -1, ..Default::default() };
    let fields = refused(handler.list_requests(list).await, Code::InvalidArgument, "INVALID_FIELD");
    assert_eq!(fields, ["page_size"]);
    assert_eq!(count(&mut handler).await, 0);
}

async fn handlers_never_overwrite_each_other(setup: Setup) {
    let deployment = Deployment::start(setup).await;
    let mut handler = deployment.requests("h", &["handler"]).await;
    let mut resident = deployment.requests("r", &["resident"]).await;
    let filed = resident.file_request(report("Gat")).await.expect("filed").into_inner();
    let change = |version, status: Status, explanation: &str| ChangeStatusRequest {
        request_id: new_id(),
        id: filed.id.clone(),
        expected_version: version,
        status: status.into(),
        explanation: explanation.to_owned(),
        ..ChangeStatusRequest::default()
    };
    let answers = join_all((0..16).map(|_| {
        let mut handler = handler.clone();
        let change = change(1, Status::Resolved, "Gemaakt");
        async move { handler.change_status(change).await }
    }))
    .await;
    let (won, lost): (Vec<_>, Vec<_>) = answers.into_iter().partition(Result::is_ok);
    assert_eq!((won.len(), lost.len()), (1, 15));
    // Resolved, and the reporter asked how satisfied they are.
    let version = won[0].as_ref().expect("won").get_ref().version;
    for answer in lost {
        refused(answer, Code::Aborted, "VERSION_MOVED");
    }
    let unexplained = handler.change_status(change(version, Status::Reopened, " ")).await;
    let fields = refused(unexplained, Code::InvalidArgument, "INVALID_FIELD");
    assert_eq!(fields, ["explanation"]);
    let not_next = handler.change_status(change(version, Status::InProgress, "")).await;
    let not_next = not_next.expect_err("a closed request is reopened first");
    assert_eq!(not_next.code(), Code::FailedPrecondition);
    let reopened = handler.change_status(change(version, Status::Reopened, "Weer kapot")).await;
    let ChangeStatusResponse { version: last, position } = reopened.expect("reopened").into_inner();
    let get = GetRequestRequest { id: filed.id.clone(), at_least: position };
    let now = handler.get_request(get).await.expect("seen").into_inner().request;
    let now = now.expect("a request");
    assert_eq!((now.status(), now.version, now.close_time), (Status::Reopened, last, None));
}

async fn numbers_are_unique_and_every_page_adds_up(setup: Setup) {
    let deployment = Deployment::start(setup).await;
    let resident = deployment.requests("r", &["resident"]).await;
    let mut handler = deployment.requests("h", &["handler"]).await;
    let file = |n: usize| {
        let mut resident = resident.clone();
        async move {
            let filed = resident.file_request(report(&format!("nr {n}"))).await;
            filed.expect("filed").into_inner()
        }
    };
    let filed = join_all((0..64).map(file)).await;
    let numbers: HashSet<u64> = filed.iter().map(|f| f.number).collect();
    assert_eq!(numbers.len(), 64);
    let newest = filed.iter().max_by_key(|f| f.number).expect("some").position.clone();

    let mut pages = Vec::new();
    let mut list = ListRequestsRequest { page_size: 10, at_least: newest, ..Default::default() };
    loop {
        let page = handler.list_requests(list.clone()).await.expect("a page").into_inner();
        // The same token gives the same page.
        let again = handler.list_requests(list.clone()).await.expect("a page").into_inner();
        assert_eq!(page.requests, again.requests);
        pages.extend(page.requests.into_iter().map(|r| r.number));
        // What comes meanwhile is on no later page.
        file(100 + pages.len()).await;
        list.page_token = page.next_page_token;
        if list.page_token.is_empty() {
            break;
        }
        let mut tampered = list.clone();
        let flipped = if tampered.page_token.starts_with('A') { "B" } else { "A" };
        tampered.page_token.replace_range(0..1, flipped);
        let other_filter = ListRequestsRequest {
            filter: Some(RequestFilter {
                neighbourhoods: vec!["BU1".into()],
                ..Default::default()
            }),
            ..list.clone()
        };
        for wrong in [tampered, other_filter] {
            let answer = handler.list_requests(wrong).await;
            let fields = refused(answer, Code::InvalidArgument, "INVALID_FIELD");
            assert_eq!(fields, ["page_token"]);
        }
    }
    assert_eq!(pages.len(), 64);
    assert_eq!(pages.iter().copied().collect::<HashSet<_>>(), numbers);
}

async fn what_is_personal_is_revealed_only_with_a_purpose(setup: Setup) {
    let mut deployment = Deployment::start(setup).await;
    let mut resident = deployment.requests("r", &["resident"]).await;
    let mut handler = deployment.requests("h", &["handler"]).await;
    let filed = resident.file_request(report("Kapotte lamp bij nr 7")).await.expect("filed");
    let filed = filed.into_inner();
    let see = GetRequestRequest { id: filed.id.clone(), at_least: filed.position };
    handler.get_request(see).await.expect("visible");
    let reveal = |purpose: i32| RevealRequestRequest { id: filed.id.clone(), purpose };
    let answer = handler.reveal_request(reveal(0)).await;
    let fields = refused(answer, Code::InvalidArgument, "INVALID_FIELD");
    assert_eq!(fields, ["purpose"]);
    for _ in 0..2 {
        let revealed = handler.reveal_request(reveal(Purpose::Handling.into())).await;
        let revealed = revealed.expect("revealed").into_inner();
        assert_eq!(revealed.description.expect("a text").text, "Kapotte lamp bij nr 7");
        assert_eq!(revealed.reporter.expect("a reporter").name, "Zoë van 't Hof");
    }
    // Reading is no change: a handler who saw version 1 can go on.
    let change = ChangeStatusRequest {
        request_id: new_id(),
        id: filed.id.clone(),
        expected_version: 1,
        status: Status::InProgress.into(),
        explanation: String::new(),
        ..ChangeStatusRequest::default()
    };
    handler.change_status(change).await.expect("changed");
    // Each time that it was read is recorded.
    deployment.stop().await;
    let records = records(&deployment, "requests").await;
    let recorded = records.iter().filter(|r| r.r#type == RequestRevealed::full_name());
    assert_eq!(recorded.count(), 2);
}

async fn watchers_see_what_is_and_what_changes(setup: Setup) {
    let deployment = Deployment::start(setup).await;
    let mut resident = deployment.requests("r", &["resident"]).await;
    let mut handler = deployment.requests("h", &["handler"]).await;
    let first = resident.file_request(report("een")).await.expect("filed").into_inner();
    let see = GetRequestRequest { id: first.id.clone(), at_least: first.position };
    handler.get_request(see).await.expect("visible");

    let mut watched = handler
        .watch_requests(WatchRequestsRequest::default())
        .await
        .expect("a stream")
        .into_inner();
    let mut counts =
        handler.watch_statistics(WatchStatisticsRequest {}).await.expect("a stream").into_inner();
    let seen = async {
        let mut snapshot = Vec::new();
        let mark = loop {
            match watched.next().await.expect("goes on").expect("an item").item {
                Some(Item::Request(request)) => snapshot.push(request.id),
                Some(Item::CaughtUp(mark)) => break mark.position,
                _ => {}
            }
        };
        assert!(snapshot.contains(&first.id));
        let second = resident.file_request(report("twee")).await.expect("filed").into_inner();
        loop {
            if let Some(Item::Request(request)) =
                watched.next().await.expect("goes on").expect("an item").item
                && request.id == second.id
            {
                break;
            }
        }
        // Resumed from the mark, the change comes again, without a snapshot.
        let resume = WatchRequestsRequest { resume_after: mark, ..Default::default() };
        let mut resumed = handler.watch_requests(resume).await.expect("a stream").into_inner();
        let next = resumed.next().await.expect("goes on").expect("an item").item;
        match next {
            Some(Item::Request(request)) => assert_eq!(request.id, second.id),
            other => panic!("{other:?}"),
        }
        loop {
            if let Some(Count::Count(count)) =
                counts.next().await.expect("goes on").expect("an item").item
                && count.open == 2
            {
                assert_eq!(count.neighbourhood, "BU03840101");
                assert_eq!(count.name, "Buytenstee");
                break;
            }
        }
    };
    tokio::time::timeout(SOON, seen).await.expect("all of it comes");

    // Half-open: a request is in a window that begins at its moment, and not
    // in one that ends there.
    let one = all(&mut handler, RequestFilter::default()).await;
    let moment = one.iter().find(|r| r.id == first.id).and_then(|r| r.create_time);
    let from = RequestFilter { created_from: moment, ..Default::default() };
    let before = RequestFilter { created_before: moment, ..Default::default() };
    assert!(all(&mut handler, from).await.iter().any(|r| r.id == first.id));
    assert!(!all(&mut handler, before).await.iter().any(|r| r.id == first.id));
    assert_eq!(one[0].location, Some(BUYTENSTEE));
}

async fn watchers_are_told_what_leaves_their_filter(setup: Setup) {
    let deployment = Deployment::start(setup).await;
    let mut zoe = deployment.requests("zoe", &["resident"]).await;
    let mut other = deployment.requests("other", &["resident"]).await;
    let mut handler = deployment.requests("h", &["handler"]).await;
    let received = WatchRequestsRequest {
        filter: Some(RequestFilter {
            statuses: vec![Status::Received.into()],
            ..Default::default()
        }),
        resume_after: None,
    };
    let mut all = handler.watch_requests(received.clone()).await.expect("a stream").into_inner();
    let mut own = zoe.watch_requests(received).await.expect("a stream").into_inner();
    let others = other.file_request(report("van een ander")).await.expect("filed").into_inner();
    let hers = zoe.file_request(report("van Zoë")).await.expect("filed").into_inner();
    for id in [&others.id, &hers.id] {
        let change = ChangeStatusRequest {
            request_id: new_id(),
            id: id.clone(),
            expected_version: 1,
            status: Status::InProgress.into(),
            explanation: String::new(),
            ..ChangeStatusRequest::default()
        };
        handler.change_status(change).await.expect("changed");
    }
    let told = async {
        let mut left = HashSet::new();
        while left.len() < 2 {
            match all.next().await.expect("goes on").expect("an item").item {
                Some(Item::LeftId(id)) => drop(left.insert(id)),
                Some(Item::Request(request)) => assert_eq!(request.status(), Status::Received),
                _ => {}
            }
        }
        assert_eq!(left, HashSet::from([others.id, hers.id.clone()]));
        // A resident does not even learn that there are others.
        loop {
            match own.next().await.expect("goes on").expect("an item").item {
                Some(Item::LeftId(id)) => break assert_eq!(id, hers.id),
                Some(Item::Request(request)) => assert_eq!(request.id, hers.id),
                _ => {}
            }
        }
    };
    tokio::time::timeout(SOON, told).await.expect("they are told");
}

async fn counts_come_before_the_mark_right_after_a_start_too(setup: Setup) {
    let mut deployment = Deployment::start(setup).await;
    let mut resident = deployment.requests("r", &["resident"]).await;
    resident.file_request(report("een")).await.expect("filed");
    deployment.stop().await;
    deployment.forget_projections().await;
    deployment.restart().await;
    let mut manager = deployment.requests("m", &["manager"]).await;
    let counts = manager.watch_statistics(WatchStatisticsRequest {}).await;
    let mut counts = counts.expect("a stream").into_inner();
    let first = async {
        loop {
            match counts.next().await.expect("goes on").expect("an item").item {
                Some(Count::Count(count)) => break assert_eq!(count.open, 1),
                Some(Count::Heartbeat(_)) => {}
                other => panic!("{other:?}"),
            }
        }
    };
    tokio::time::timeout(SOON, first).await.expect("it comes");
}
