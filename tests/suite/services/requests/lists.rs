//! Lists: by every property, by words, page by page.

use std::collections::BTreeSet;

use futures::StreamExt;
use futures::future::join_all;
use samen_proto::log::Position;
use samen_proto::privacy::RedactTextRequest;
use samen_proto::requests::request_service_client::RequestServiceClient;
use samen_proto::requests::statistics_service_client::StatisticsServiceClient;
use samen_proto::requests::watch_requests_response::Item;
use samen_proto::requests::*;
use samen_tests::deployment::{Authorised, Deployment, Setup};
use samen_tests::eventually;
use tokio::time::timeout;
use tonic::Code;

use super::super::in_both_setups;
use super::super::shared::{SOON, all, new_id, refused, report};

in_both_setups!(
    a_value_that_no_request_can_have_is_named,
    what_is_for_staff_is_neither_asked_nor_shown,
    a_window_has_its_beginning_and_not_its_end,
    a_word_is_found_in_any_form_until_its_text_is_erased,
    pages_of_one_moment_hold_each_request_once,
);

/// 10 March 2026, 10:00 UTC.
const TEN: i64 = 1_773_136_800;

pub fn at(seconds: i64) -> Option<prost_types::Timestamp> {
    Some(prost_types::Timestamp { seconds, nanos: 0 })
}

/// A request of the past, reported at a moment.
pub fn past(number: impl ToString, created: i64) -> ImportRequestRequest {
    ImportRequestRequest {
        request_id: new_id(),
        source: "oud".to_owned(),
        source_number: number.to_string(),
        category: "Groen/Boom".to_owned(),
        channel: Channel::Phone.into(),
        create_time: at(created),
        ..ImportRequestRequest::default()
    }
}

/// Brings these in, all at once; gives the last one's position.
pub async fn import(
    importer: &RequestServiceClient<Authorised>,
    requests: impl IntoIterator<Item = ImportRequestRequest>,
) -> Option<Position> {
    let imported = requests.into_iter().map(|request| {
        let mut importer = importer.clone();
        async move { importer.import_request(request).await.expect("imported").into_inner() }
    });
    let imported = join_all(imported).await;
    imported.into_iter().filter_map(|i| i.position).max_by_key(|p| p.position)
}

async fn a_value_that_no_request_can_have_is_named(setup: Setup) {
    let deployment = Deployment::start(setup).await;
    let mut handler = deployment.requests("h", &["handler"]).await;
    let mut figures = StatisticsServiceClient::new(deployment.at_requests("h", &["handler"]).await);
    let of = |latitude, longitude| Some(Location { latitude, longitude });
    let region = |south_west, north_east| Some(BoundingBox { south_west, north_east });
    let invalid = Some(prost_types::Timestamp { seconds: 0, nanos: -1 });
    let none = RequestFilter::default;
    for (field, filter) in [
        ("filter.statuses", RequestFilter { statuses: vec![0], ..none() }),
        ("filter.channels", RequestFilter { channels: vec![11], ..none() }),
        ("filter.urgencies", RequestFilter { urgencies: vec![2, 4], ..none() }),
        ("filter.norm_states", RequestFilter { norm_states: vec![-1], ..none() }),
        ("filter.categories", RequestFilter { categories: vec![" ".into()], ..none() }),
        ("filter.teams", RequestFilter { teams: vec![String::new()], ..none() }),
        ("filter.assignees", RequestFilter { assignees: vec!["x".repeat(201)], ..none() }),
        ("filter.networks", RequestFilter { networks: vec!["1".into()], ..none() }),
        ("filter.sources", RequestFilter { sources: vec!["x".repeat(101)], ..none() }),
        ("filter.satisfactions", RequestFilter { satisfactions: vec![6], ..none() }),
        ("filter.satisfactions", RequestFilter { satisfactions: vec![1; 6], ..none() }),
        ("filter.numbers", RequestFilter { numbers: vec![0], ..none() }),
        ("filter.numbers", RequestFilter { numbers: vec![u64::MAX], ..none() }),
        ("filter.parent_id", RequestFilter { parent_id: "1".into(), ..none() }),
        ("filter.created_from", RequestFilter { created_from: invalid, ..none() }),
        ("filter.updated_before", RequestFilter { updated_before: invalid, ..none() }),
        ("filter.closed_from", RequestFilter { closed_from: invalid, ..none() }),
        (
            "filter.due_before",
            RequestFilter { due_from: at(TEN), due_before: at(TEN - 1), ..none() },
        ),
        ("filter.box", RequestFilter { r#box: region(of(52.0, 4.0), None), ..none() }),
        ("filter.box", RequestFilter { r#box: region(of(52.4, 4.9), of(52.3, 5.0)), ..none() }),
        (
            "filter.box.north_east",
            RequestFilter { r#box: region(of(0.0, 0.0), of(52.3, f64::NAN)), ..none() },
        ),
        ("filter.text", RequestFilter { text: " ".into(), ..none() }),
        ("filter.text", RequestFilter { text: "het is van ons".into(), ..none() }),
        ("filter.text", RequestFilter { text: "0 1 2 3 4 5 6 7 8 9 10".into(), ..none() }),
    ] {
        let filter = Some(filter);
        let list = ListRequestsRequest { filter: filter.clone(), ..Default::default() };
        let watch = WatchRequestsRequest { filter: filter.clone(), resume_after: None };
        let get = GetStatisticsRequest { filter: filter.clone(), ..Default::default() };
        let live = WatchFiguresRequest { filter: filter.clone(), group_by: 0 };
        let export = ExportRequestsRequest { filter, format: ExportFormat::Csv.into() };
        let (code, reason) = (Code::InvalidArgument, "INVALID_FIELD");
        for mut fields in [
            refused(handler.list_requests(list).await, code, reason),
            refused(handler.watch_requests(watch).await, code, reason),
            refused(figures.get_statistics(get).await, code, reason),
            refused(figures.watch_figures(live).await, code, reason),
            refused(figures.export_requests(export).await, code, reason),
        ] {
            // A corner that is none is not south-west of anything either.
            fields.retain(|found| found != "filter.box" || field == "filter.box");
            assert_eq!(fields, [field]);
        }
    }
    let by = GetStatisticsRequest { group_by: 9, ..Default::default() };
    let fields = refused(figures.get_statistics(by).await, Code::InvalidArgument, "INVALID_FIELD");
    assert_eq!(fields, ["group_by"]);
}

async fn what_is_for_staff_is_neither_asked_nor_shown(setup: Setup) {
    let deployment = Deployment::start(setup).await;
    let mut handler = deployment.requests("h", &["handler"]).await;
    let mut resident = deployment.requests("r", &["resident"]).await;
    let filed = resident.file_request(report("Kapot")).await.expect("filed").into_inner();
    let none = RequestFilter::default;
    for (field, filter) in [
        ("filter.teams", RequestFilter { teams: vec!["groen".into()], ..none() }),
        ("filter.assignees", RequestFilter { assignees: vec!["x".into()], ..none() }),
        ("filter.networks", RequestFilter { networks: vec![new_id()], ..none() }),
        ("filter.text", RequestFilter { text: "lamp".into(), ..none() }),
    ] {
        let list = ListRequestsRequest { filter: Some(filter.clone()), ..Default::default() };
        handler.list_requests(list.clone()).await.expect("staff may ask");
        let watch = WatchRequestsRequest { filter: Some(filter), resume_after: None };
        let (code, reason) = (Code::InvalidArgument, "INVALID_FIELD");
        assert_eq!(refused(resident.list_requests(list).await, code, reason), [field]);
        assert_eq!(refused(resident.watch_requests(watch).await, code, reason), [field]);
    }
    for (client, staff) in [(&mut resident, false), (&mut handler, true)] {
        let get = GetRequestRequest { id: filed.id.clone(), at_least: filed.position.clone() };
        let got = client.get_request(get).await.expect("theirs").into_inner().request;
        let listed = all(client, RequestFilter::default()).await;
        let watch = WatchRequestsRequest::default();
        let mut watched = client.watch_requests(watch).await.expect("a stream").into_inner();
        let first = timeout(SOON, watched.next()).await.expect("soon").expect("it goes on");
        let Some(Item::Request(watched)) = first.expect("an item").item else { panic!("none") };
        for seen in [got.expect("a request"), listed[0].clone(), watched] {
            assert_eq!(seen.handling.is_some(), staff, "{seen:?}");
        }
    }
}

async fn a_window_has_its_beginning_and_not_its_end(setup: Setup) {
    let deployment = Deployment::start(setup).await;
    let importer = deployment.requests("i", &["importer"]).await;
    let mut handler = deployment.requests("h", &["handler"]).await;
    let closed = |number: i64, created: i64, closed: i64| ImportRequestRequest {
        close_time: at(closed),
        ..past(number, created)
    };
    let newest = import(
        &importer,
        [
            past(1, TEN - 1),
            closed(2, TEN, TEN + 3_600),
            closed(3, TEN + 3_599, TEN + 7_200),
            closed(4, TEN + 3_600, TEN + 7_201),
        ],
    )
    .await;
    let mut numbers = async |filter| {
        let filter = Some(filter);
        let ask = ListRequestsRequest { filter, at_least: newest.clone(), ..Default::default() };
        let page = handler.list_requests(ask).await.expect("a page").into_inner();
        let numbers: Vec<_> = page.requests.into_iter().map(|r| r.source_number).collect();
        numbers.concat()
    };
    let (ten, eleven, noon) = (at(TEN), at(TEN + 3_600), at(TEN + 7_200));
    let none = RequestFilter::default;
    let window = RequestFilter { created_from: ten, created_before: eleven, ..none() };
    assert_eq!(numbers(window).await, "32");
    assert_eq!(numbers(RequestFilter { created_from: eleven, ..none() }).await, "4");
    assert_eq!(numbers(RequestFilter { created_before: ten, ..none() }).await, "1");
    assert_eq!(
        numbers(RequestFilter { created_from: ten, created_before: ten, ..none() }).await,
        ""
    );
    // What is open was closed at no moment.
    assert_eq!(numbers(RequestFilter { closed_from: eleven, ..none() }).await, "432");
    let window = RequestFilter { closed_from: eleven, closed_before: noon, ..none() };
    assert_eq!(numbers(window).await, "2");
    assert_eq!(numbers(RequestFilter { closed_before: at(TEN * 2), ..none() }).await, "432");
    assert_eq!(numbers(RequestFilter { due_from: at(0), ..none() }).await, "");
}

async fn a_word_is_found_in_any_form_until_its_text_is_erased(setup: Setup) {
    let mut deployment = Deployment::start(setup).await;
    let mut handler = deployment.requests("h", &["handler"]).await;
    let mut resident = deployment.requests("r", &["resident"]).await;
    let filter = RequestFilter { text: "kapotte lamp".into(), ..Default::default() };
    let watch = WatchRequestsRequest { filter: Some(filter.clone()), resume_after: None };
    let mut watched = handler.watch_requests(watch).await.expect("a stream").into_inner();
    let mut ids = Vec::new();
    for text in ["Twee lampen zijn kapot", "LAMP KAPOT!", "De lamp brandt", "Een kapotte bank"] {
        ids.push(resident.file_request(report(text)).await.expect("filed").into_inner().id);
    }
    let mut told = async |wanted: &str| {
        let telling = async {
            let mut seen = Vec::new();
            loop {
                let item = watched.next().await.expect("it goes on").expect("an item").item;
                match item {
                    Some(Item::Request(request)) => seen.push(format!("in {}", request.id)),
                    Some(Item::LeftId(id)) => seen.push(format!("out {id}")),
                    _ => {}
                }
                if seen.last().is_some_and(|last| last == wanted) {
                    return seen;
                }
            }
        };
        timeout(SOON, telling).await.expect("they are told")
    };
    let seen = told(&format!("out {}", ids[3])).await;
    let seen: Vec<_> = seen.iter().filter(|seen| seen.starts_with("in ")).collect();
    assert_eq!(seen, [&format!("in {}", ids[0]), &format!("in {}", ids[1])]);
    let found = |requests: Vec<ServiceRequest>| -> BTreeSet<String> {
        requests.into_iter().map(|request| request.id).collect()
    };
    let both = BTreeSet::from([ids[0].clone(), ids[1].clone()]);
    assert_eq!(found(all(&mut handler, filter.clone()).await), both);

    let mut officer = deployment.requests_privacy("o", &["privacy_officer"]).await;
    let stream = format!("request/{}", ids[0]);
    let redact = RedactTextRequest { request_id: new_id(), stream, ..Default::default() };
    officer.redact_text(redact).await.expect("redacted");
    told(&format!("out {}", ids[0])).await;
    let left = BTreeSet::from([ids[1].clone()]);
    assert_eq!(found(all(&mut handler, filter.clone()).await), left);

    deployment.stop().await;
    deployment.forget_projections().await;
    deployment.restart().await;
    let mut handler = deployment.requests("h", &["handler"]).await;
    let found = eventually(SOON, "it is built anew", async || {
        let found = found(all(&mut handler, filter.clone()).await);
        (!found.is_empty()).then_some(found)
    });
    assert_eq!(found.await, left);
}

async fn pages_of_one_moment_hold_each_request_once(setup: Setup) {
    let deployment = Deployment::start(setup).await;
    let importer = deployment.requests("i", &["importer"]).await;
    let mut handler = deployment.requests("h", &["handler"]).await;
    let originals: BTreeSet<String> = (0..250).map(|n| n.to_string()).collect();
    let at_least = import(&importer, originals.iter().map(|number| past(number, TEN))).await;
    let mut list = ListRequestsRequest { page_size: 20, at_least, ..Default::default() };
    let mut seen = Vec::new();
    for round in 0.. {
        let page = handler.list_requests(list.clone());
        // From the second page on: the first says what there was.
        let more = (0..if round == 0 { 0 } else { 10 })
            .map(|n| past(format!("later {round} {n}"), TEN - n % 2));
        let (page, _) = tokio::join!(page, import(&importer, more));
        let page = page.expect("a page").into_inner();
        seen.extend(page.requests.into_iter().map(|request| request.source_number));
        list.page_token = page.next_page_token;
        if list.page_token.is_empty() {
            break;
        }
    }
    assert_eq!(seen.len(), originals.len());
    assert_eq!(seen.into_iter().collect::<BTreeSet<_>>(), originals);
}
