//! Terms refuse, and erase by themselves; holds defer them.

use samen_proto::privacy::*;
use samen_proto::requests::FileRequestRequest;
use samen_tests::deployment::{Deployment, Setup};
use samen_tests::eventually;

use super::super::in_both_setups;
use super::super::shared::new_id;
use super::kept::{ground, hold, lift};
use super::*;

in_both_setups!(
    what_must_be_kept_is_not_erased_before_its_term,
    what_was_kept_long_enough_is_erased_once_and_holds_defer_it,
    what_was_imported_is_kept_from_when_it_was,
);

/// Terms for the reporter and the text of a request.
async fn with_terms(deployment: &mut Deployment, reporter: &str, text: &str) {
    let file = deployment.path("retention.json");
    let term = |field: &str, rest: &str| {
        format!(
            r#"{{"event": "samen.requests.v1.RequestFiled", "field": "{field}",
                 "ground": "selectielijst {field}" {rest}}}"#
        )
    };
    let terms = [term("reporter", reporter), term("description", text)].join(",");
    std::fs::write(&file, format!(r#"{{"terms": [{terms}]}}"#)).expect("written");
    deployment.retention = file;
    deployment.stop().await;
    deployment.restart().await;
}

async fn what_must_be_kept_is_not_erased_before_its_term(setup: Setup) {
    let mut deployment = Deployment::start(setup).await;
    with_terms(&mut deployment, "", r#", "kept_at_least": "PT8S""#).await;
    let mut zoe = deployment.requests("zoe", &["resident"]).await;
    let mut handler = deployment.requests("h", &["handler"]).await;
    let mut officer = deployment.requests_privacy("officer", OFFICER).await;
    let filed = zoe.file_request(report_by("Zoe", "Een")).await.expect("filed").into_inner();
    let stream = format!("request/{}", filed.id);
    let redact = RedactTextRequest { request_id: new_id(), stream, ..Default::default() };
    let me = forget(&deployment, "zoe");
    for (kind, on, words) in [
        ground(officer.forget_person(me.clone()).await),
        ground(officer.redact_text(redact.clone()).await),
    ] {
        assert_eq!((kind.as_str(), on.as_str()), ("RETENTION", redact.stream.as_str()));
        assert!(words.contains("RequestFiled.description"), "{words}");
        assert!(words.contains("selectielijst description"), "{words}");
    }
    assert_eq!(reveal(&mut handler, &filed.id).await, is("Een", "Zoe"));
    eventually(SOON, "its term is over", async || {
        officer.forget_person(me.clone()).await.ok().map(drop)
    })
    .await;
    assert_eq!(reveal(&mut handler, &filed.id).await, NOTHING);
}

async fn what_was_kept_long_enough_is_erased_once_and_holds_defer_it(setup: Setup) {
    let mut deployment = Deployment::start(setup).await;
    let mut zoe = deployment.requests("zoe", &["resident"]).await;
    let mut officer = deployment.requests_privacy("officer", OFFICER).await;
    let mut filed = Vec::new();
    for name in ["Gewoon", "Vastgehouden"] {
        let answer = zoe.file_request(report_by(name, name)).await.expect("filed").into_inner();
        filed.push(answer.id);
    }
    let held = format!("request/{}", filed[1]);
    let place = PlaceHoldRequest { stream: held, ..hold(HoldGround::LegalClaim, "bezwaar 4") };
    let placed = officer.place_hold(place).await.expect("placed").into_inner();

    // The term was over before the service began again with it.
    with_terms(&mut deployment, r#", "erased_after": "PT2S""#, "").await;
    let mut handler = deployment.requests("h", &["handler"]).await;
    let mut officer = deployment.requests_privacy("officer", OFFICER).await;
    let gone = (Some("Gewoon".to_owned()), None);
    eventually(SOON, "what is over is erased", async || {
        (reveal(&mut handler, &filed[0]).await == gone).then_some(())
    })
    .await;
    // And what is filed now, when its time has come: after the one that is held.
    let mut zoe = deployment.requests("zoe", &["resident"]).await;
    let later = zoe.file_request(report_by("Later", "Later")).await.expect("filed").into_inner().id;
    let gone = (Some("Later".to_owned()), None);
    eventually(SOON, "what came later is erased too", async || {
        (reveal(&mut handler, &later).await == gone).then_some(())
    })
    .await;
    assert_eq!(reveal(&mut handler, &filed[1]).await, is("Vastgehouden", "Vastgehouden"));
    lift(&mut officer, &placed.id).await.expect("lifted");
    let gone = (Some("Vastgehouden".to_owned()), None);
    eventually(SOON, "what was held is erased", async || {
        (reveal(&mut handler, &filed[1]).await == gone).then_some(())
    })
    .await;
    // Who is not forgotten may go on to say who they are.
    let command: FileRequestRequest = report_by("Opnieuw", "Opnieuw");
    zoe.file_request(command).await.expect("filed");

    // Again, and by a process that begins anew: each was erased once.
    deployment.stop().await;
    deployment.restart().await;
    let mut zoe = deployment.requests("zoe", &["resident"]).await;
    let last = zoe.file_request(report_by("Laatste", "Laatste")).await.expect("filed").into_inner();
    let mut handler = deployment.requests("h", &["handler"]).await;
    let gone = (Some("Laatste".to_owned()), None);
    eventually(SOON, "the last is erased", async || {
        (reveal(&mut handler, &last.id).await == gone).then_some(())
    })
    .await;
    // Stopped in the middle, it is completed before it answers again.
    deployment.stop().await;
    deployment.restart().await;
    deployment.stop().await;
    let told = told(&records(&deployment, "requests").await);
    for id in filed.iter().chain([&later, &last.id]) {
        assert_eq!(told.get(&format!("request/{id}")), Some(&1), "{told:?}");
    }
}

async fn what_was_imported_is_kept_from_when_it_was(setup: Setup) {
    let mut deployment = Deployment::start(setup).await;
    let file = deployment.path("retention.json");
    let term = r#"{"terms": [{"event": "samen.requests.v1.RequestImported",
        "field": "description", "erased_after": "P1Y", "ground": "een jaar"}]}"#;
    std::fs::write(&file, term).expect("written");
    deployment.retention = file;
    deployment.stop().await;
    deployment.restart().await;
    let mut importer = deployment.requests("i", &["importer"]).await;
    let mut handler = deployment.requests("h", &["handler"]).await;
    let mut officer = deployment.requests_privacy("officer", OFFICER).await;
    let day = |ago: i64| {
        let seconds = jiff::Timestamp::now().as_second() - ago * 86_400;
        Some(prost_types::Timestamp { seconds, nanos: 0 })
    };
    let import = |number: &str, created: i64, closed: Option<i64>| ImportRequestRequest {
        request_id: new_id(),
        source: "oud".to_owned(),
        source_number: number.to_owned(),
        category: "verlichting/lamp".to_owned(),
        channel: Channel::Phone.into(),
        create_time: day(created),
        close_time: closed.and_then(day),
        description: number.to_owned(),
        ..Default::default()
    };
    // The young before the old, and between them.
    let mut ids = Vec::new();
    for (number, created, closed) in [
        ("young", 10, None),
        ("old", 800, Some(700)),
        ("closed lately", 800, Some(100)),
        ("held", 900, None),
        ("old and open", 1_000, None),
    ] {
        let imported = importer.import_request(import(number, created, closed)).await;
        ids.push((number, imported.expect("imported").into_inner().id));
        if number == "held" {
            let stream = format!("request/{}", ids[3].1);
            let place = PlaceHoldRequest { stream, ..hold(HoldGround::Archiving, "12") };
            // Unless it is asked for before it is held: then it is gone too.
            if officer.place_hold(place).await.is_err() {
                ids.remove(3);
            }
        }
    }
    // A process that begins anew looks at once.
    deployment.stop().await;
    deployment.restart().await;
    let text = async |handler: &mut RequestServiceClient<Authorised>, id: &str| {
        reveal(handler, id).await.0
    };
    for (number, id) in &ids {
        if number.starts_with("old") {
            eventually(SOON, "it is erased", async || {
                text(&mut handler, id).await.is_none().then_some(())
            })
            .await;
        }
    }
    for (number, id) in &ids {
        if !number.starts_with("old") && *number != "held" {
            assert_eq!(text(&mut handler, id).await.as_deref(), Some(*number));
        }
    }
    // What was erased is not brought in again, where the log lost it; other
    // rows are.
    if setup == Setup::AllInOne {
        deployment.stop().await;
        deployment.lose_logs().await;
        deployment.restart().await;
        let again = importer.import_request(import("old", 800, Some(700))).await;
        assert_eq!(ground(again).0, "FORGOTTEN");
        importer.import_request(import("young", 10, None)).await.expect("imported");
    }
}
