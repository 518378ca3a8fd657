//! What is held about a person, given to them.

use futures::StreamExt;
use samen_proto::privacy::export_person_response::Item;
use samen_proto::privacy::*;
use samen_tests::deployment::{Deployment, Setup};
use serde_json::Value;
use tonic::Code;

use super::super::in_both_setups;
use super::super::participation::published;
use super::super::shared::{new_id, refused};
use super::*;

in_both_setups!(
    a_person_gets_all_that_they_gave_readable_and_in_order,
    an_employee_is_not_given_what_others_told_them,
);

/// An export: its records, with their JSON read.
pub async fn exported(privacy: &mut Privacy, person: Option<Person>) -> Vec<(HeldRecord, Value)> {
    let answer = privacy.export_person(ExportPersonRequest { person }).await;
    let mut items = answer.expect("a stream").into_inner();
    let mut records = Vec::new();
    while let Some(item) = items.next().await {
        match item.expect("an item").item.expect("something") {
            Item::Record(record) => {
                let json = serde_json::from_str(&record.json).expect("JSON");
                records.push((record, json));
            }
            Item::Heartbeat(_) => {}
            Item::End(end) => {
                assert_eq!(end.records, records.len() as u64);
                let last = records.last().map_or(0, |(r, _)| position(r));
                assert!(end.position.expect("where").position >= last);
                assert!(items.next().await.is_none(), "the end is the last");
                let order: Vec<_> = records.iter().map(|(record, _)| position(record)).collect();
                assert!(order.is_sorted(), "{order:?}");
                return records;
            }
        }
    }
    panic!("it ended without an end")
}

fn position(record: &HeldRecord) -> u64 {
    record.position.as_ref().expect("where").position
}

fn of_kind<'a>(records: &'a [(HeldRecord, Value)], kind: &str) -> Vec<&'a Value> {
    let of_kind = records.iter().filter(|(record, _)| record.r#type.ends_with(kind));
    of_kind.map(|(_, json)| json).collect()
}

async fn a_person_gets_all_that_they_gave_readable_and_in_order(setup: Setup) {
    let deployment = Deployment::start(setup).await;
    let mut lead = deployment.participation("l", &["process_lead"]).await;
    let process = published(&mut lead).await;
    let mut zoe = deployment.requests("zoe", &["resident"]).await;
    let mut other = deployment.requests("other", &["resident"]).await;
    let mut handler = deployment.requests("handler", &["handler"]).await;
    for text in ["Een \"aanhaling\" & ë", "Twee"] {
        let hers = zoe.file_request(report_by("Zoë", text)).await.expect("filed");
        let others = other.file_request(report_by("Anders", "Niet van haar")).await.expect("filed");
        for (filed, explanation) in [(hers, "Dag Zoë"), (others, "Dag ander, niet van haar")] {
            let resolve = ChangeStatusRequest {
                request_id: new_id(),
                id: filed.into_inner().id,
                expected_version: 1,
                status: Status::Resolved.into(),
                explanation: explanation.to_owned(),
                ..Default::default()
            };
            handler.change_status(resolve).await.expect("resolved");
        }
    }
    contribute(&deployment, "zoe", &process, "Een boom").await;

    let mut mine = deployment.requests_privacy("zoe", &["resident"]).await;
    let records = exported(&mut mine, None).await;
    let filed = of_kind(&records, "RequestFiled");
    assert_eq!(filed.len(), 2);
    assert_eq!(filed[0]["description"]["text"], "Een \"aanhaling\" & ë");
    assert_eq!(filed[0]["reporter"]["name"], "Zoë");
    assert_eq!(filed[0]["reporter"]["email"], "Zoë@example.org");
    assert_eq!(filed[0]["channel"], "CHANNEL_WEB");
    assert_eq!(filed[0]["location"]["latitude"], 52.352);
    assert_eq!(filed[1]["description"]["text"], "Twee");
    assert!(records.iter().all(|(record, _)| !record.json.contains("van haar")));
    // What she was answered is hers too, whoever wrote it.
    let answered = of_kind(&records, "StatusChanged");
    let texts: Vec<_> = answered.iter().map(|a| a["explanation"]["text"].as_str()).collect();
    assert_eq!(texts, [Some("Dag Zoë"); 2]);
    let mut writes = deployment.requests_privacy("officer", OFFICER).await;
    let written = exported(&mut writes, subject(&deployment, "handler")).await;
    assert_eq!(of_kind(&written, "StatusChanged").len(), 4);
    assert!(written.iter().all(|(record, _)| !record.json.contains("Dag")));
    // That it was given is recorded, and given with the next.
    assert_eq!(of_kind(&records, "PersonExported").len(), 1);
    let mut officer = deployment.requests_privacy("officer", OFFICER).await;
    let records = exported(&mut officer, subject(&deployment, "zoe")).await;
    assert_eq!(of_kind(&records, "RequestFiled").len(), 2);
    assert_eq!(of_kind(&records, "PersonExported").len(), 2);
    let person = of_kind(&records, "PersonExported")[0]["person"].as_str().expect("an id");
    let by_id = Some(Person { person: Some(person::Person::Id(person.to_owned())) });
    let same = exported(&mut officer, by_id.clone()).await;
    assert_eq!(same.len(), records.len() + 1);

    let mut participation = deployment.participation_privacy("zoe", &["resident"]).await;
    let records = exported(&mut participation, None).await;
    assert_eq!(of_kind(&records, "ContributionSubmitted")[0]["text"]["text"], "Een boom");

    // Nobody else's, by any name.
    let mut others = deployment.requests_privacy("other", &["resident"]).await;
    for person in [by_id, subject(&deployment, "zoe")] {
        let answer = others.export_person(ExportPersonRequest { person }).await;
        refused(answer.map(drop), Code::PermissionDenied, "NOT_YOURSELF");
    }
    let mut handler = deployment.requests_privacy("h", &["handler"]).await;
    let answer = handler.export_person(ExportPersonRequest { person: None }).await;
    refused(answer.map(drop), Code::PermissionDenied, "ROLE_MISSING");

    // What was erased is left out; that there was something is not.
    let done = officer.forget_person(forget(&deployment, "zoe")).await.expect("forgotten");
    assert_eq!(done.into_inner().keys, 6);
    let records = exported(&mut mine, None).await;
    let answered = of_kind(&records, "StatusChanged");
    assert!(answered.len() == 2 && answered.iter().all(|a| a.get("explanation").is_none()));
    let theirs = exported(&mut officer, subject(&deployment, "other")).await;
    let answered = of_kind(&theirs, "StatusChanged");
    assert!(answered.iter().all(|a| a["explanation"]["text"] == "Dag ander, niet van haar"));
    let filed = of_kind(&records, "RequestFiled");
    assert_eq!(filed.len(), 2);
    assert!(filed.iter().all(|f| f.get("description").is_none() && f.get("reporter").is_none()));
    assert_eq!(of_kind(&records, "PersonForgotten").len(), 1);
}

async fn an_employee_is_not_given_what_others_told_them(setup: Setup) {
    let deployment = Deployment::start(setup).await;
    let mut handler = deployment.requests("handler", &["handler"]).await;
    handler.file_request(phoned("Mevrouw Bel", "Aan de telefoon")).await.expect("filed");
    let mut officer = deployment.requests_privacy("officer", OFFICER).await;
    let records = exported(&mut officer, subject(&deployment, "handler")).await;
    let filed = of_kind(&records, "RequestFiled");
    assert_eq!(filed.len(), 1);
    assert_eq!(filed[0]["channel"], "CHANNEL_PHONE");
    assert!(filed[0].get("description").is_none() && filed[0].get("reporter").is_none());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_officer_does_it_from_a_terminal() {
    let deployment = Deployment::start(Setup::AllInOne).await;
    let mut lead = deployment.participation("l", &["process_lead"]).await;
    let process = published(&mut lead).await;
    let mut zoe = deployment.requests("zoe", &["resident"]).await;
    zoe.file_request(report_by("Zoe", "Kapot")).await.expect("filed");
    contribute(&deployment, "zoe", &process, "Een boom").await;

    let export = deployment.officer(&["export", "--subject", "zoe"]).await;
    let lines: Vec<Value> =
        export.1.lines().map(|line| serde_json::from_str(line).expect("JSON")).collect();
    let texts: Vec<_> = lines
        .iter()
        .filter_map(|line| {
            let event = &line["event"];
            let text = event["description"]["text"].as_str().or(event["text"]["text"].as_str())?;
            Some((line["log"].as_str().expect("a log"), text))
        })
        .collect();
    let expected = [("gm0384.participation", "Een boom"), ("gm0384.requests", "Kapot")];
    assert_eq!(texts, expected);

    let (status, output) = deployment.officer(&["forget", "--subject", "zoe"]).await;
    assert!(status.success(), "{output}");
    assert!(output.contains("participation: forgotten (1 keys"), "{output}");
    assert!(output.contains("requests: forgotten (2 keys"), "{output}");
    let (_, export) = deployment.officer(&["export", "--subject", "zoe"]).await;
    assert!(!export.contains("Kapot") && !export.contains("Een boom"), "{export}");

    // What one keeps is told, with its ground, and by the exit code; and no other
    // has begun.
    contribute(&deployment, "zoe", &process, "Nog een boom").await;
    let mut officer = deployment.requests_privacy("officer", OFFICER).await;
    let place = PlaceHoldRequest {
        request_id: super::super::shared::new_id(),
        person: subject(&deployment, "zoe"),
        ground: HoldGround::Archiving.into(),
        reference: "selectielijst 12".to_owned(),
        ..Default::default()
    };
    officer.place_hold(place).await.expect("placed");
    let (status, output) = deployment.officer(&["forget", "--subject", "zoe"]).await;
    assert_eq!(status.code(), Some(1), "{output}");
    assert!(output.contains("requests: not forgotten: an archiving duty (selectielijst 12)"));
    assert_eq!(output.lines().count(), 1, "{output}");
    let (_, export) = deployment.officer(&["export", "--subject", "zoe"]).await;
    assert!(export.contains("Nog een boom"), "{export}");

    // Who is known to one service only is not missing.
    let mut yan = deployment.requests("yan", &["resident"]).await;
    yan.file_request(report_by("Yan", "Los")).await.expect("filed");
    let (status, output) = deployment.officer(&["forget", "--subject", "yan"]).await;
    assert!(status.success(), "{output}");
    assert!(output.contains("participation: knows nothing of this person"), "{output}");
    assert!(output.contains("requests: forgotten (2 keys"), "{output}");
    let (status, output) = deployment.officer(&["export", "--subject", "yan"]).await;
    assert!(status.success() && output.contains("RequestFiled"), "{output}");
    // A name that nobody has is not somebody who was forgotten.
    for what in ["forget", "export"] {
        let (status, output) = deployment.officer(&[what, "--subject", "Yan"]).await;
        assert_eq!(status.code(), Some(1), "{output}");
        assert!(output.contains("no service knows anything of this person"), "{output}");
        // With a token of another issuer, whose name it is must be said.
        let token = deployment.token("officer", OFFICER).await;
        let given = [what, "--subject", "yan", "--token", &token];
        let (status, output) = deployment.officer(&given).await;
        assert_eq!(status.code(), Some(2), "{output}");
        assert!(output.contains("SAMEN_OIDC_ISSUER"), "{output}");
    }
}
