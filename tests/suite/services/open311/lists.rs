//! What was reported, by filter.

use futures::StreamExt;
use jiff::{SignedDuration, Timestamp};
use samen_proto::requests::catalogue_service_client::CatalogueServiceClient;
use samen_proto::requests::handling_service_client::HandlingServiceClient;
use samen_tests::eventually;
use serde_json::json;

use super::super::in_both_setups;
use super::super::shared::{SOON, all};
use super::*;

in_both_setups!(
    a_list_holds_what_was_asked_and_no_more,
    who_asks_for_nothing_gets_ninety_days_and_a_thousand,
    what_changed_is_found_however_old_it_is,
    what_is_not_public_any_more_is_gone_and_what_was_retired_stays,
    a_value_that_nothing_has_is_an_error,
);

const LAMP: &str = "verlichting/lamp";
const TREE: &str = "groen-en-water/boom";

async fn a_list_holds_what_was_asked_and_no_more(setup: Setup) {
    let (deployment, _folder) = start(setup).await;
    // Over the change to summer time, of which the shown seconds count.
    let early = import(&deployment, LAMP, "2026-03-28T22:59:59.9Z", None).await;
    let first = import(&deployment, LAMP, "2026-03-28T23:00:00.4Z", None).await;
    let (created, closed) = ("2026-03-29T10:00:00.7Z", "2026-03-30T09:00:00Z");
    let tree = import(&deployment, TREE, created, Some(closed)).await;
    let hidden = import(&deployment, "zorg/iemand", "2026-03-29T11:00:00Z", None).await;
    let strange = import(&deployment, "Iets anders", "2026-03-29T11:00:00Z", None).await;
    let last = import(&deployment, LAMP, "2026-03-29T12:00:00Z", Some(closed)).await;

    let listed = async |query: &str| {
        let path = format!("requests.json?start_date=2026-03-01T00:00:00Z&{query}");
        numbers(&get(&deployment, &path).await)
    };
    assert_eq!(listed("").await, [&last, &tree, &first, &early].map(String::clone));
    assert_eq!(listed("service_code=").await.len(), 4);
    assert_eq!(listed("status=&end_date=&page=&page_size=&updated_after=").await.len(), 4);
    assert_eq!(listed(&format!("service_code={TREE}")).await, [tree.as_str()]);
    assert_eq!(listed(&format!("service_code={LAMP},{TREE}")).await.len(), 4);
    assert_eq!(listed(&format!("service_code={LAMP}&service_code={TREE}")).await.len(), 4);
    assert_eq!(listed("status=open").await, [first.as_str(), &early]);
    assert_eq!(listed("status=closed").await, [last.as_str(), &tree]);
    assert_eq!(listed("status=open,closed").await.len(), 4);
    let both = format!("status=closed&service_code={LAMP}");
    assert_eq!(listed(&both).await, [last.as_str()]);
    assert_eq!(listed("page_size=3").await, [last.as_str(), &tree, &first]);
    assert_eq!(listed("page_size=3&page=2").await, [early.as_str()]);
    assert!(listed("page_size=3&page=3").await.is_empty());

    // Both ends are in, by the seconds that are shown.
    let between = async |start: &str, end: &str| {
        let path = format!("requests.json?start_date={start}&end_date={end}");
        numbers(&get(&deployment, &path).await)
    };
    let from = "2026-03-29T00:00:00%2B01:00";
    assert_eq!(between(from, "2026-03-29T12:00:00%2B02:00").await, [tree.as_str(), &first]);
    assert_eq!(between(from, "2026-03-29T11:59:59+02:00").await, [first.as_str()]);
    assert_eq!(between("2026-03-28T23:00:01Z", "2026-03-29T10:00:00Z").await, [tree.as_str()]);
    assert_eq!(between("2026-03-29", "2026-03-29").await.len(), 3);

    // By number, whatever else is asked: what everybody may see.
    let ids = format!("{early},{hidden},{strange},{tree},999");
    let path = format!("requests.json?service_request_id={ids}&status=nonsense&page_size=1");
    assert_eq!(numbers(&get(&deployment, &path).await), [tree.as_str(), &early]);
    let path = format!("requests/{ids}.json");
    assert_eq!(numbers(&get(&deployment, &path).await), [tree.as_str(), &early]);
    for id in [&hidden, &strange] {
        let answer = get(&deployment, &format!("requests/{id}.json")).await;
        answer.refused(404, &[&format!("service_request_id: {id} was not found")]);
        let answer = get(&deployment, &format!("tokens/{id}.json")).await;
        answer.refused(404, &["token: "]);
    }

    let path = format!("requests/{tree}.json");
    let shown = json!([{
        "service_request_id": tree, "status": "closed", "status_notes": "Opgelost",
        "service_name": "Boom", "service_code": TREE, "description": null,
        "agency_responsible": null, "service_notice": null,
        "requested_datetime": "2026-03-29T12:00:00+02:00",
        "updated_datetime": "2026-03-30T11:00:00+02:00", "expected_datetime": null,
        "address": null, "address_id": null, "zipcode": null, "lat": 52.352, "long": 4.971,
        "media_url": null,
    }]);
    assert_eq!(get(&deployment, &path).await.json(), shown);
    let extended = get(&deployment, &format!("{path}?extensions=true")).await;
    let expected = json!({
        "detailed_status": "resolved", "channel": "phone", "neighbourhood_code": "BU03840101",
        "neighbourhood_name": "Buytenstee", "planned_date": null,
        "closed_datetime": "2026-03-30T11:00:00+02:00", "photos": 0,
    });
    assert_eq!(extended.items()[0]["extended_attributes"], expected);
    let xml = get(&deployment, &format!("requests/{early}.xml")).await;
    let expected = format!(
        "<service_requests><request><service_request_id>{early}</service_request_id>\
         <status>open</status><status_notes>Ontvangen</status_notes>\
         <service_name>Lamp &amp; &lt;mast&gt;</service_name>\
         <service_code>{LAMP}</service_code><description/>\
         <agency_responsible>Openbare ruimte</agency_responsible><service_notice/>\
         <requested_datetime>2026-03-28T23:59:59+01:00</requested_datetime>"
    );
    assert!(xml.xml().starts_with(&expected), "{}", xml.body);
    assert!(xml.xml().contains("<lat>52.352</lat><long>4.971</long>"), "{}", xml.body);
    let none = get(&deployment, "requests.xml?start_date=2020-01-01T00:00:00Z").await;
    assert_eq!(none.xml(), "<service_requests></service_requests>");
}

async fn who_asks_for_nothing_gets_ninety_days_and_a_thousand(setup: Setup) {
    let (deployment, _folder) = start(setup).await;
    let ago = |hours: i64| (Timestamp::now() - SignedDuration::from_hours(hours)).to_string();
    let old = import(&deployment, LAMP, &ago(90 * 24 + 1), None).await;
    let young = import(&deployment, LAMP, &ago(90 * 24 - 1), None).await;
    assert_eq!(numbers(&get(&deployment, "requests.json").await), [young.as_str()]);
    let until = ago(90 * 24);
    let path = format!("requests.json?end_date={until}");
    assert_eq!(numbers(&get(&deployment, &path).await), [old.as_str()]);
    let path = format!("requests.json?start_date={}", ago(180 * 24));
    assert_eq!(numbers(&get(&deployment, &path).await), [old.as_str()]);

    let importer = deployment.requests("i", &["importer"]).await;
    let imports = futures::stream::iter(0..1_000).map(|_| {
        let command = past(TREE, &ago(1), None);
        let mut importer = importer.clone();
        async move { importer.import_request(command).await.expect("imported").into_inner() }
    });
    let done: Vec<_> = imports.buffer_unordered(16).collect().await;
    let last = done.iter().max_by_key(|done| done.number).expect("the last");
    see(&deployment, last).await;
    let all = numbers(&get(&deployment, "requests.json").await);
    assert_eq!(all.len(), 1_000);
    assert!(!all.contains(&young));
    let rest = numbers(&get(&deployment, "requests.json?page=2").await);
    assert_eq!(rest, [young.as_str()]);
}

async fn what_changed_is_found_however_old_it_is(setup: Setup) {
    let (deployment, _folder) = start(setup).await;
    let closed = Some("2025-02-01T12:00:00Z");
    let old = import(&deployment, LAMP, "2025-01-01T12:00:00Z", closed).await;
    let open = import(&deployment, LAMP, "2025-01-02T12:00:00Z", None).await;
    let changed =
        async |query: &str| numbers(&get(&deployment, &format!("requests.json?{query}")).await);
    assert!(changed("").await.is_empty());
    let at = "2025-02-01T13:00:00%2B01:00";
    assert_eq!(changed(&format!("updated_after={at}&updated_before={at}")).await, [old.as_str()]);
    assert!(changed("updated_before=2025-02-01T11:59:59Z").await.iter().all(|n| *n == open));
    let later = changed("updated_after=2025-02-01T12:00:01Z").await;
    assert!(!later.contains(&old), "{later:?}");

    let mut handler = deployment.requests("h", &["handler"]).await;
    let filter = RequestFilter {
        numbers: vec![open.parse().expect("a number")],
        ..RequestFilter::default()
    };
    let found = all(&mut handler, filter).await.remove(0);
    let change = ChangeStatusRequest {
        request_id: new_id(),
        id: found.id.clone(),
        expected_version: found.version,
        status: Status::Resolved.into(),
        explanation: "Gemaakt bij Zoë".to_owned(),
        ..ChangeStatusRequest::default()
    };
    let since = Timestamp::now() - SignedDuration::from_secs(5);
    let done = handler.change_status(change).await.expect("changed").into_inner();
    let see = GetRequestRequest { id: found.id, at_least: done.position };
    handler.get_request(see).await.expect("it is visible");
    let answer = get(&deployment, &format!("requests.json?updated_after={since}")).await;
    assert_eq!(numbers(&answer), [open.as_str()]);
    assert_eq!(answer.items()[0]["status"], "closed");
    assert!(!answer.body.contains("Gemaakt"), "{}", answer.body);
    let and = "start_date=2025-01-01T00:00:00Z&end_date=2025-01-01T23:59:59Z";
    assert!(changed(&format!("updated_after={since}&{and}")).await.is_empty());
}

async fn what_is_not_public_any_more_is_gone_and_what_was_retired_stays(setup: Setup) {
    let (deployment, _folder) = start(setup).await;
    let lamp = import(&deployment, LAMP, &Timestamp::now().to_string(), None).await;
    let form = [("api_key", KEY), ("service_code", TREE), ("lat", "52.352"), ("long", "4.971")];
    let tree = numbers(&post(&deployment, "requests.json", &form).await).remove(0);

    // The parts in which something is done are not what was reported.
    let mut handler = deployment.requests("h", &["handler"]).await;
    let filter = RequestFilter { categories: vec![TREE.to_owned()], ..RequestFilter::default() };
    let whole = all(&mut handler, filter).await.remove(0);
    let part =
        Part { category: TREE.to_owned(), description: "Een deel".to_owned(), ..Part::default() };
    let split = SplitRequestRequest {
        request_id: new_id(),
        id: whole.id.clone(),
        expected_version: whole.version,
        parts: vec![part.clone(), part],
    };
    let mut handling = HandlingServiceClient::new(deployment.at_requests("h", &["handler"]).await);
    let split = handling.split_request(split).await.expect("divided").into_inner();
    let see = GetRequestRequest { id: split.part_ids[0].clone(), at_least: split.position };
    let part = handler.get_request(see).await.expect("seen").into_inner().request.expect("one");
    assert_eq!(numbers(&get(&deployment, "requests.json").await), [tree.as_str(), &lamp]);
    let path = format!("requests/{}.json", part.number);
    assert_eq!(get(&deployment, &path).await.status, 404);
    assert_eq!(get(&deployment, &format!("tokens/{}.json", part.id)).await.status, 404);

    let mut catalogue =
        CatalogueServiceClient::new(deployment.at_requests("b", &["administrator"]).await);
    let retire =
        RetireCategoryRequest { request_id: new_id(), code: TREE.to_owned(), expected_version: 1 };
    catalogue.retire_category(retire).await.expect("retired");
    let list = catalogue.list_categories(ListCategoriesRequest::default()).await;
    let views = list.expect("a list").into_inner().categories;
    let of_lamps =
        |view: &CategoryView| view.category.clone().filter(|category| category.code == LAMP);
    let category = views.iter().find_map(of_lamps).expect("lamps");
    let define = DefineCategoryRequest {
        request_id: new_id(),
        expected_version: 1,
        category: Some(Category { public: false, ..category }),
    };
    catalogue.define_category(define).await.expect("defined");
    eventually(SOON, "the door goes by it", async || {
        Some(get(&deployment, "services.json").await.items()).filter(Vec::is_empty)
    })
    .await;
    assert_eq!(numbers(&get(&deployment, "requests.json").await), [tree.as_str()]);
    let shown = get(&deployment, &format!("requests.json?service_code={TREE}")).await;
    assert_eq!(shown.items()[0]["service_name"], "Boom");
    assert_eq!(get(&deployment, &format!("requests/{lamp}.json")).await.status, 404);
    let answer = get(&deployment, &format!("requests.json?service_code={LAMP}")).await;
    answer.refused(400, &["service_code: verlichting/lamp was not found"]);
    let answer = post(&deployment, "requests.json", &form).await;
    answer.refused(404, &["service_code: groen-en-water/boom was not found"]);
}

async fn a_value_that_nothing_has_is_an_error(setup: Setup) {
    let (deployment, _folder) = start(setup).await;
    import(&deployment, LAMP, &Timestamp::now().to_string(), None).await;
    for (query, named) in [
        ("status=nonsense", "status: must be open, closed, or both"),
        ("status=open,x", "status: "),
        ("service_code=x", "service_code: x was not found"),
        ("service_code=verlichting/lamp,zorg/iemand", "service_code: zorg/iemand was not found"),
        ("start_date=yesterday", "start_date: must be a date and time with its offset"),
        ("end_date=2026-01-01T00:00:00", "end_date: "),
        ("start_date=2026-01-02T00:00:00Z&end_date=2026-01-01T00:00:00Z", "end_date: must not be"),
        ("start_date=2026-01-01T00:00:00Z&end_date=2026-04-02T00:00:00Z", "end_date: must be at"),
        ("updated_after=x", "updated_after: "),
        ("updated_before=x", "updated_before: "),
        ("page=0", "page: must be a number from 1"),
        ("page_size=1001", "page_size: must be a number from 1 to 1000"),
        ("page_size=-1", "page_size: "),
        ("extensions=yes", "extensions: must be true or false"),
        ("service_request_id=abc", "service_request_id: must be numbers"),
        ("service_request_id=0", "service_request_id: "),
        ("q=lamp", "q: is not a parameter of this list"),
        ("page=1&page=2", "page: must be given once"),
    ] {
        get(&deployment, &format!("requests.json?{query}")).await.refused(400, &[named]);
    }
    let answer = get(&deployment, "requests.json?status=x&page=0").await;
    answer.refused(400, &["status: ", "page: "]);
}
