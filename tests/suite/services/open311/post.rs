//! Reports, as apps send them.

use samen_tests::web;
use serde_json::json;

use super::super::in_both_setups;
use super::super::photos::{located, picture};
use super::*;

in_both_setups!(
    what_an_app_reports_is_filed_and_none_of_it_comes_out,
    what_is_wrong_with_a_report_is_named_and_nothing_is_filed,
    who_has_no_key_reports_nothing_and_who_has_one_so_much,
    photos_come_with_a_report_or_it_is_not_taken,
);

/// What must not come out.
const PERSONAL: [&str; 7] =
    ["Anne", "Bakker", "anne@example.org", "0612345678", "Dorpsstraat", "kapot", "example.com"];

/// As an app sends it.
const FORM: [(&str, &str); 19] = [
    ("jurisdiction_id", "GM0384"),
    ("api_key", KEY),
    ("service_code", "verlichting/lamp"),
    ("lat", "52.352"),
    ("long", "4.971"),
    ("address_string", "Dorpsstraat 7"),
    ("address_id", "0384200000001"),
    ("email", "anne@example.org"),
    ("device_id", "device-1"),
    ("account_id", "account-1"),
    ("first_name", "Anne"),
    ("last_name", "Bakker"),
    ("phone", "0612345678"),
    ("description", "Lamp is kapot.\r\nAl lang"),
    ("media_url", "https://example.com/lamp.jpg"),
    ("attribute[aantal]", "meer"),
    ("attribute[wanneer][]", "dag"),
    ("attribute[wanneer][]", "nacht"),
    ("attribute[sinds]", "2026-03-26T23:30:00Z"),
];

/// The form with a field that says something else; without it, where it says
/// nothing.
fn with<'a>(name: &'a str, value: &'a str) -> Vec<(&'a str, &'a str)> {
    let mut form: Vec<_> = FORM.into_iter().filter(|(field, _)| *field != name).collect();
    form.push((name, value));
    form
}

async fn all(deployment: &Deployment) -> Vec<ServiceRequest> {
    let mut handler = deployment.requests("h", &["handler"]).await;
    super::super::shared::all(&mut handler, RequestFilter::default()).await
}

async fn what_an_app_reports_is_filed_and_none_of_it_comes_out(setup: Setup) {
    let (deployment, _folder) = start(setup).await;
    let answer = post(&deployment, "requests.json", &FORM).await;
    let items = answer.items();
    let number = items[0]["service_request_id"].as_str().expect("a number").to_owned();
    let expected = json!(
        [{"service_request_id": number, "service_notice": null, "account_id": null}]
    );
    assert_eq!(answer.json(), expected);

    let filed = all(&deployment).await.remove(0);
    assert_eq!(filed.number.to_string(), number);
    assert_eq!((filed.channel(), filed.status()), (Channel::Open311, Status::Received));
    assert_eq!(filed.neighbourhood, "BU03840101");
    let reveal = RevealRequestRequest { id: filed.id.clone(), purpose: Purpose::Handling.into() };
    let mut handler = deployment.requests("h", &["handler"]).await;
    let revealed = handler.reveal_request(reveal).await.expect("revealed").into_inner();
    let text = |text: Option<Text>| text.expect("a text").text;
    let description = "Lamp is kapot.\nAl lang\nhttps://example.com/lamp.jpg";
    assert_eq!(text(revealed.description), description);
    assert_eq!(text(revealed.address), "Dorpsstraat 7 (address_id 0384200000001)");
    let reporter = Reporter {
        name: "Anne Bakker".to_owned(),
        email: "anne@example.org".to_owned(),
        phone: "0612345678".to_owned(),
    };
    assert_eq!(revealed.reporter, Some(reporter));
    assert!(filed.handling.expect("seen by staff").contact_consent);
    let answers = revealed.answers.expect("answers").answers;
    let answers: Vec<_> =
        answers.iter().map(|a| (a.question.as_str(), a.values.join(","))).collect();
    let meant = [("aantal", "meer"), ("wanneer", "dag,nacht"), ("sinds", "2026-03-27")];
    assert_eq!(answers, meant.map(|(question, values)| (question, values.to_owned())));

    // It is there at once, and says nothing of anybody.
    for path in [
        format!("requests/{number}.json?extensions=true"),
        format!("requests/{number}.xml?extensions=true"),
        "requests.json".to_owned(),
        format!("tokens/{number}.json"),
        format!("tokens/{}.xml", filed.id),
    ] {
        let answer = get(&deployment, &path).await;
        assert_eq!(answer.status, 200, "{path}: {}", answer.body);
        assert!(answer.body.contains(&number), "{path}: {}", answer.body);
        for personal in PERSONAL {
            assert!(!answer.body.contains(personal), "{path}: {}", answer.body);
        }
    }
    let token = get(&deployment, &format!("tokens/{}.json", filed.id)).await.json();
    assert_eq!(token, json!([{"service_request_id": number, "token": filed.id}]));

    // The same again is the same; without a description, it says what it is.
    let path = "/open311/v2/requests.xml";
    let again = async |form: &[(&str, &str)]| {
        let address = deployment.reports_address();
        let answer = web::post_with(&address, path, "Idempotency-Key: 7\r\n", form).await;
        Answer::of(&answer.expect("an answer"))
    };
    let form = [("api_key", KEY), ("service_code", "groen-en-water/boom"), ("address_id", "1")];
    let first = again(&form).await;
    let beginning = "<service_requests><request><service_request_id>";
    assert!(first.xml().starts_with(beginning), "{}", first.body);
    assert_eq!(again(&form).await.body, first.body);
    let other = [form[0], form[1], ("address_id", "2")];
    let other = again(&other).await;
    assert_eq!(other.status, 400);
    assert!(other.body.contains("Idempotency-Key: was used"), "{}", other.body);
    let filed = all(&deployment).await;
    assert_eq!(filed.len(), 2);
    let reveal =
        RevealRequestRequest { id: filed[0].id.clone(), purpose: Purpose::Handling.into() };
    let revealed = handler.reveal_request(reveal).await.expect("revealed").into_inner();
    assert_eq!(text(revealed.description), "Boom");
    assert_eq!((revealed.reporter, text(revealed.address)), (None, "(address_id 1)".to_owned()));
}

async fn what_is_wrong_with_a_report_is_named_and_nothing_is_filed(setup: Setup) {
    let (deployment, _folder) = start(setup).await;
    let long = "x".repeat(4_001);
    for (name, value, named) in [
        ("service_code", "", "service_code: must be given"),
        ("description", long.as_str(), "description: must have 0 to 4000"),
        ("description", "a\u{7}b", "description: must not contain control"),
        ("lat", "north", "lat: must be degrees"),
        ("lat", "91", "lat: must be -90 to 90"),
        ("lat", "", "lat: must be given with long"),
        ("long", "", "long: must be given with lat"),
        ("email", "nobody", "email: must be an e-mail address"),
        ("phone", &long[..31], "phone: must have 0 to 30"),
        ("first_name", &long[..100], "first_name: must have"),
        ("account_id", &long[..201], "account_id: must have"),
        ("address_string", &long[..401], "address_string: must have"),
        ("media_url", "file:///etc/passwd", "media_url: must be an http or https"),
        ("attribute[aantal]", "", "attribute[aantal]: must be answered"),
        ("attribute[aantal]", "veel", "attribute[aantal]: must be one of: een, meer"),
        ("attribute[aantal][]", "een", "attribute[aantal]: must be one value"),
        ("attribute[wanneer]", "ooit", "attribute[wanneer]: must be some of: dag, nacht"),
        ("attribute[hoog]", "hoog", "attribute[hoog]: must be a number"),
        ("attribute[sinds]", "gisteren", "attribute[sinds]: must be a date"),
        ("attribute[x]", "1", "attribute[x]: is not an attribute"),
        ("attribute[mast", "1", "attribute[mast: is not an attribute"),
    ] {
        post(&deployment, "requests.json", &with(name, value)).await.refused(400, &[named]);
    }
    let swapped = [&with("lat", "4.971")[..], &[]].concat();
    let swapped: Vec<_> =
        swapped.into_iter().map(|(n, v)| (n, if n == "long" { "52.352" } else { v })).collect();
    let answer = post(&deployment, "requests.json", &swapped).await;
    answer.refused(400, &["lat: has latitude and longitude swapped"]);
    for code in ["zorg/iemand", "x", "x/y"] {
        let answer = post(&deployment, "requests.json", &with("service_code", code)).await;
        answer.refused(404, &[&format!("service_code: {code} was not found")]);
    }
    let answer = post(&deployment, "requests.json", &with("jurisdiction_id", "x")).await;
    answer.refused(404, &["jurisdiction_id: "]);
    let two = [("api_key", KEY), ("service_code", "groen-en-water/boom"), ("phone", &long)];
    let answer = post(&deployment, "requests.json", &two).await;
    answer.refused(400, &["lat: must be given with long, or else", "phone: must have"]);
    let huge = "x".repeat(200_000);
    let answer = post(&deployment, "requests.json", &with("description", &huge)).await;
    answer.refused(413, &["the body must be at most"]);
    assert_eq!(all(&deployment).await.len(), 0);
}

async fn who_has_no_key_reports_nothing_and_who_has_one_so_much(setup: Setup) {
    let (deployment, _folder) = start(setup).await;
    let answer = post(&deployment, "requests.json", &with("api_key", "")).await;
    answer.refused(403, &["api_key: must be given"]);
    let answer = post(&deployment, "requests.xml", &with("api_key", "another")).await;
    let expected = "<errors><error><code>403</code><description>api_key: is not known \
                    here</description></error></errors>";
    assert_eq!((answer.status, answer.xml()), (403, expected));
    let own = with("api_key", SMALL_KEY);
    for _ in 0..3 {
        assert_eq!(post(&deployment, "requests.json", &own).await.status, 200);
    }
    let answer = post(&deployment, "requests.json", &own).await;
    answer.refused(429, &["api_key: its reports of this minute are used up"]);
    assert!(answer.head.contains("retry-after: "), "{}", answer.head);
    // Another key has its own, and reading needs none.
    let answer = post(&deployment, "requests.json", &FORM).await;
    let notice = &answer.items()[0]["service_notice"];
    assert_eq!(notice, "Dit is misschien al gemeld.");
    assert_eq!(numbers(&get(&deployment, "requests.json").await).len(), 4);
}

async fn photos_come_with_a_report_or_it_is_not_taken(setup: Setup) {
    let (deployment, _folder) = start(setup).await;
    let send = async |fields: &[(&str, &str)], files: &[(&str, &str, Vec<u8>)]| {
        let address = deployment.reports_address();
        let answer = web::multipart(&address, "/open311/v2/requests.json", fields, files).await;
        Answer::of(&answer.expect("an answer"))
    };
    let (jpeg, png) = (located(), picture(image::ImageFormat::Png));
    let files =
        [("media", "a.jpg", jpeg.clone()), ("media[]", "b.png", png), ("media", "", Vec::new())];
    let number = numbers(&send(&FORM, &files).await).remove(0);
    let filed = all(&deployment).await.remove(0);
    assert_eq!((filed.number.to_string(), filed.photo_ids.len()), (number.clone(), 2));
    let shown = get(&deployment, &format!("requests/{number}.json?extensions=true")).await;
    let shown = &shown.items()[0];
    assert_eq!(shown["extended_attributes"]["photos"], 2);
    assert_eq!(shown["media_url"], Value::Null);

    let text = ("media", "a.jpg", b"This is no photo".to_vec());
    let answer = send(&FORM, &[files[0].clone(), text]).await;
    answer.refused(400, &["media: "]);
    let answer = send(&FORM, &[("photo", "a.jpg", jpeg.clone())]).await;
    answer.refused(400, &["photo: photos come as media"]);
    let many = vec![("media", "a.jpg", jpeg); 11];
    send(&FORM, &many).await.refused(400, &["media: must be at most 10 photos"]);
    send(&with("api_key", ""), &files).await.refused(403, &["api_key: "]);
    assert_eq!(all(&deployment).await.len(), 1);

    // A key in the address will do as well.
    let address = deployment.reports_address();
    let path = format!("/open311/v2/requests.json?api_key={KEY}");
    let answer = web::multipart(&address, &path, &with("api_key", ""), &files[..1]).await;
    assert_eq!(numbers(&Answer::of(&answer.expect("an answer"))).len(), 1);
    let text = [("text/plain", "api_key=x"), ("multipart/form-data", "x")];
    for (kind, body) in text {
        let path = "/open311/v2/requests.json";
        let answer = web::send(&address, path, kind, "", body.as_bytes()).await;
        Answer::of(&answer.expect("an answer")).refused(400, &["Content-Type: must "]);
    }
}
