//! Holds and terms refuse, and defer.

use std::time::Duration;

use prost::Message;
use samen_proto::privacy::*;
use samen_proto::requests::FileRequestRequest;
use samen_tests::deployment::{Deployment, Setup};
use samen_tests::eventually;
use samen_tests::process::Signal;
use tonic::{Code, Status};
use tonic_types::StatusExt;

use super::super::in_both_setups;
use super::super::shared::{new_id, refused};
use super::given::exported;
use super::steps::list;
use super::*;

in_both_setups!(
    a_hold_refuses_with_its_ground_until_it_is_lifted_or_over,
    a_hold_is_placed_on_what_there_is_and_by_officers,
    a_hold_that_comes_at_the_same_moment_is_never_missed,
    what_is_being_erased_takes_no_hold_and_keeps_no_process,
    what_must_be_kept_is_not_erased_before_its_term,
    what_was_kept_long_enough_is_erased_once_and_holds_defer_it,
    what_was_imported_is_kept_from_when_it_was,
);

/// Why something is kept: the kind, what it is on, and the words.
fn ground<T: std::fmt::Debug>(answer: Result<T, Status>) -> (String, String, String) {
    let refusal = answer.expect_err("something keeps it");
    assert_eq!(refusal.code(), Code::FailedPrecondition, "{refusal:?}");
    let details = refusal.get_error_details();
    let failure = details.precondition_failure().expect("what stands in the way");
    let violation = failure.violations[0].clone();
    (violation.r#type, violation.subject, violation.description)
}

fn hold(ground: HoldGround, reference: &str) -> PlaceHoldRequest {
    PlaceHoldRequest {
        request_id: new_id(),
        ground: ground.into(),
        reference: reference.to_owned(),
        ..Default::default()
    }
}

async fn lift(officer: &mut Privacy, id: &str) -> Result<(), Status> {
    let lift = LiftHoldRequest { request_id: new_id(), id: id.to_owned() };
    officer.lift_hold(lift).await.map(drop)
}

async fn a_hold_refuses_with_its_ground_until_it_is_lifted_or_over(setup: Setup) {
    let deployment = Deployment::start(setup).await;
    let mut zoe = deployment.requests("zoe", &["resident"]).await;
    let mut handler = deployment.requests("h", &["handler"]).await;
    let mut officer = deployment.requests_privacy("officer", OFFICER).await;
    let mut mine = deployment.requests_privacy("zoe", &["resident"]).await;
    let mut ids = Vec::new();
    for text in ["Een", "Twee"] {
        let filed = zoe.file_request(report_by("Zoe", text)).await.expect("filed");
        ids.push(filed.into_inner().id);
    }
    let stream = format!("request/{}", ids[0]);
    let all = RedactTextRequest { request_id: new_id(), stream, versions: Vec::new() };
    let stream = all.stream.clone();
    let all = || RedactTextRequest { request_id: new_id(), ..all.clone() };
    let me = ForgetPersonRequest { request_id: new_id(), person: None };

    // On one request: it refuses the person's forgetting too, and names both.
    let place =
        PlaceHoldRequest { stream: stream.clone(), ..hold(HoldGround::LegalClaim, "zaak 2026-17") };
    let placed = officer.place_hold(place.clone()).await.expect("placed").into_inner();
    assert_eq!(officer.place_hold(place).await.expect("the same").into_inner().id, placed.id);
    for (kind, on, words) in
        [ground(mine.forget_person(me.clone()).await), ground(officer.redact_text(all()).await)]
    {
        assert_eq!((kind.as_str(), on.as_str()), ("HOLD", stream.as_str()));
        assert!(words.contains("a legal claim") && words.contains("zaak 2026-17"), "{words}");
    }
    // Nothing of theirs went.
    assert_eq!(reveal(&mut handler, &ids[0]).await, is("Een", "Zoe"));
    assert_eq!(reveal(&mut handler, &ids[1]).await, is("Twee", "Zoe"));
    lift(&mut officer, &placed.id).await.expect("lifted");
    let refusal = lift(&mut officer, &placed.id).await.expect_err("it is gone");
    assert_eq!(refusal.code(), Code::NotFound);

    // On the person, until a moment: it ends by the clock.
    let until = jiff::Timestamp::now() + Duration::from_secs(5);
    let place = PlaceHoldRequest {
        person: subject(&deployment, "zoe"),
        until: Some(prost_types::Timestamp { seconds: until.as_second(), nanos: 0 }),
        ..hold(HoldGround::Archiving, "Archiefwet art. 3")
    };
    officer.place_hold(place).await.expect("placed");
    let (kind, on, words) = ground(mine.forget_person(me.clone()).await);
    assert!(kind == "HOLD" && on.starts_with("person/"), "{kind} {on}");
    assert!(words.contains("an archiving duty (Archiefwet art. 3)"), "{words}");
    assert_eq!(ground(officer.redact_text(all()).await).0, "HOLD");
    // Another person is not held.
    let mut other = deployment.requests("other", &["resident"]).await;
    other.file_request(report_by("Ander", "Drie")).await.expect("filed");
    let done = officer.forget_person(forget(&deployment, "other")).await;
    done.expect("nothing to hold");
    let ask = ListHoldsRequest::default();
    assert_eq!(officer.list_holds(ask.clone()).await.expect("one").into_inner().holds.len(), 1);
    eventually(SOON, "the hold is over", async || {
        let holds = officer.list_holds(ask.clone()).await.expect("a list").into_inner().holds;
        holds.is_empty().then_some(())
    })
    .await;
    // The same command that was refused is done now: nothing was written.
    mine.forget_person(me.clone()).await.expect("forgotten");
    for id in &ids {
        assert_eq!(reveal(&mut handler, id).await, NOTHING);
    }

    // What was done stays done, whatever is held later.
    let person = subject(&deployment, "zoe");
    let place = PlaceHoldRequest { person, ..hold(HoldGround::LegalObligation, "bevel 9") };
    officer.place_hold(place).await.expect("placed");
    mine.forget_person(me).await.expect("its first result");
}

async fn a_hold_is_placed_on_what_there_is_and_by_officers(setup: Setup) {
    let deployment = Deployment::start(setup).await;
    let mut zoe = deployment.requests("zoe", &["resident"]).await;
    let mut officer = deployment.requests_privacy("officer", OFFICER).await;
    let filed = zoe.file_request(report_by("Zoe", "Een")).await.expect("filed").into_inner();
    let stream = format!("request/{}", filed.id);
    let person = subject(&deployment, "zoe");
    let good = hold(HoldGround::Archiving, "selectielijst 12");

    for (field, place) in [
        ("person", good.clone()),
        (
            "person",
            PlaceHoldRequest { person: person.clone(), stream: stream.clone(), ..good.clone() },
        ),
        ("ground", PlaceHoldRequest { person: person.clone(), ground: 0, ..good.clone() }),
        (
            "reference",
            PlaceHoldRequest { person: person.clone(), reference: String::new(), ..good.clone() },
        ),
        (
            "until",
            PlaceHoldRequest {
                person: person.clone(),
                until: Some(prost_types::Timestamp { seconds: 1, nanos: 0 }),
                ..good.clone()
            },
        ),
    ] {
        let place = PlaceHoldRequest { request_id: new_id(), ..place };
        let fields =
            refused(officer.place_hold(place).await, Code::InvalidArgument, "INVALID_FIELD");
        assert_eq!(fields, [field]);
    }
    let nowhere = PlaceHoldRequest { stream: "request/nothing".into(), ..good.clone() };
    let refusal = officer.place_hold(nowhere).await.expect_err("there is none");
    assert_eq!(refusal.code(), Code::NotFound);
    let mut mine = deployment.requests_privacy("zoe", &["resident"]).await;
    let place = PlaceHoldRequest { person: person.clone(), ..good.clone() };
    refused(mine.place_hold(place).await, Code::PermissionDenied, "ROLE_MISSING");

    let on_stream = PlaceHoldRequest { stream: stream.clone(), ..good.clone() };
    let on_stream = officer.place_hold(on_stream).await.expect("placed").into_inner();
    let place = PlaceHoldRequest { request_id: new_id(), person: person.clone(), ..good };
    let on_person = officer.place_hold(place).await.expect("placed").into_inner();
    for (ask, expected) in [
        (ListHoldsRequest::default(), vec![&on_stream.id, &on_person.id]),
        (ListHoldsRequest { person, ..Default::default() }, vec![&on_person.id]),
        (ListHoldsRequest { stream, ..Default::default() }, vec![&on_stream.id]),
        (ListHoldsRequest { stream: "request/x".into(), ..Default::default() }, vec![]),
    ] {
        let holds = officer.list_holds(ask).await.expect("a list").into_inner().holds;
        assert_eq!(holds.iter().map(|hold| &hold.id).collect::<Vec<_>>(), expected);
        for hold in holds {
            assert_eq!(
                (hold.ground(), hold.reference.as_str()),
                (HoldGround::Archiving, "selectielijst 12")
            );
            let placed = hold.create_time.expect("when").seconds;
            assert!((jiff::Timestamp::now().as_second() - placed).abs() < 120);
        }
    }
}

async fn a_hold_that_comes_at_the_same_moment_is_never_missed(setup: Setup) {
    const ROUNDS: usize = 25;
    let mut deployment = Deployment::start(setup).await;
    let mut handler = deployment.requests("h", &["handler"]).await;
    let mut ids = Vec::new();
    for round in 0..ROUNDS {
        let filed = handler.file_request(phoned("Beller", &format!("{round}"))).await;
        ids.push(filed.expect("filed").into_inner().id);
    }
    let officer = deployment.requests_privacy("officer", OFFICER).await;
    let mut outcomes = Vec::new();
    for id in &ids {
        let stream = format!("request/{id}");
        let redact = RedactTextRequest {
            request_id: new_id(),
            stream: stream.clone(),
            versions: Vec::new(),
        };
        let place = PlaceHoldRequest { stream, ..hold(HoldGround::LegalClaim, "bezwaar") };
        let (mut one, mut other) = (officer.clone(), officer.clone());
        let (redacted, placed) = tokio::join!(one.redact_text(redact), other.place_hold(place));
        // It is placed, unless the other was there first and is not done yet.
        if placed.is_err() {
            assert_eq!(ground(placed).0, "BEING_ERASED");
            assert!(redacted.is_ok(), "neither was done");
        }
        outcomes.push(redacted.is_ok());
    }
    deployment.stop().await;
    // In the log, nothing is asked of what was held by then.
    let mut held = std::collections::HashSet::new();
    let mut redacted = std::collections::HashSet::new();
    for record in records(&deployment, "requests").await {
        if record.r#type == HoldPlaced::full_name() {
            held.insert(HoldPlaced::decode(record.data.as_slice()).expect("an event").stream);
        } else if record.r#type == TextRedacted::full_name() {
            let stream = TextRedacted::decode(record.data.as_slice()).expect("an event").stream;
            assert!(!held.contains(&stream), "{stream} was held");
            redacted.insert(stream);
        }
    }
    for (id, done) in ids.iter().zip(outcomes) {
        assert_eq!(redacted.contains(&format!("request/{id}")), done);
    }
}

async fn what_is_being_erased_takes_no_hold_and_keeps_no_process(setup: Setup) {
    let mut deployment = Deployment::start(setup).await;
    let mut handler = deployment.requests("h", &["handler"]).await;
    let mut officer = deployment.requests_privacy("officer", OFFICER).await;
    let mut filed = Vec::new();
    for name in ["zoe", "other"] {
        let mut resident = deployment.requests(name, &["resident"]).await;
        for text in ["Een", "Twee"] {
            let answer = resident.file_request(report_by(name, text)).await.expect("filed");
            filed.push(format!("request/{}", answer.into_inner().id));
        }
    }
    let on = |stream: &str| PlaceHoldRequest {
        stream: stream.to_owned(),
        ..hold(HoldGround::LegalClaim, "bezwaar")
    };
    let whose = |name: &str| PlaceHoldRequest {
        person: subject(&deployment, name),
        ..hold(HoldGround::LegalClaim, "bezwaar")
    };

    // As long as somebody else holds the list, nothing is carried out.
    let list = std::fs::File::open(list(&deployment)).expect("the list");
    list.lock().expect("locked");
    let forgetting = tokio::spawn({
        let (mut officer, forget) = (officer.clone(), forget(&deployment, "zoe"));
        async move { officer.forget_person(forget).await }
    });
    logged(&mut officer, subject(&deployment, "zoe"), "PersonForgotten").await;
    for place in [whose("zoe"), on(&filed[0]), on(&filed[1])] {
        assert_eq!(ground(officer.place_hold(place).await).0, "BEING_ERASED");
    }
    // Nobody else's is.
    let placed = officer.place_hold(whose("other")).await.expect("placed").into_inner();
    lift(&mut officer, &placed.id).await.expect("lifted");
    list.unlock().expect("unlocked");
    assert_eq!(forgetting.await.expect("an answer").expect("forgotten").into_inner().keys, 4);
    officer.place_hold(whose("zoe")).await.expect("for what is still to come");

    // Likewise what an officer takes back.
    list.lock().expect("locked");
    let stream = filed[2].clone();
    let redact = RedactTextRequest { request_id: new_id(), stream, versions: Vec::new() };
    let redacting = tokio::spawn({
        let mut officer = officer.clone();
        async move { officer.redact_text(redact).await }
    });
    logged(&mut officer, subject(&deployment, "officer"), "TextRedacted").await;
    for place in [whose("other"), on(&filed[2])] {
        assert_eq!(ground(officer.place_hold(place).await).0, "BEING_ERASED");
    }
    officer.place_hold(on(&filed[3])).await.expect("placed");

    // What waits for the list does not keep a process that is to stop, nor one
    // that has just begun; and is done when the list is free.
    let process = deployment.requests_process();
    process.signal(Signal::TERM);
    assert!(process.ended(Duration::from_secs(10)).await.success(), "{}", process.output());
    redacting.await.expect("an answer").expect_err("it is not done yet");
    deployment.stop().await;
    deployment.restart_without_waiting().await;
    let process = deployment.requests_process();
    eventually(SOON, "it waits for the list", async || {
        let locks = std::fs::read_to_string("/proc/locks").expect("locks");
        let waits = format!(" FLOCK  ADVISORY  WRITE {} ", process.id());
        locks.lines().any(|line| line.contains("->") && line.contains(&waits)).then_some(())
    })
    .await;
    process.signal(Signal::TERM);
    assert!(process.ended(Duration::from_secs(10)).await.success(), "{}", process.output());
    list.unlock().expect("unlocked");
    deployment.stop().await;
    deployment.restart().await;
    let id = filed[2].strip_prefix("request/").expect("an id");
    assert_eq!(reveal(&mut handler, id).await, NOTHING);
}

/// Waits until a person's records have one of this kind.
async fn logged(officer: &mut Privacy, person: Option<Person>, kind: &str) {
    eventually(SOON, "it is recorded", async || {
        let records = exported(officer, person.clone()).await;
        records.iter().any(|(record, _)| record.r#type.ends_with(kind)).then_some(())
    })
    .await;
}

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
    let redact = RedactTextRequest { request_id: new_id(), stream, versions: Vec::new() };
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
