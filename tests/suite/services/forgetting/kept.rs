//! Holds refuse.

use std::time::Duration;

use prost::Message;
use samen_proto::privacy::*;
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
);

/// Why something is kept: the kind, what it is on, and the words.
pub fn ground<T: std::fmt::Debug>(answer: Result<T, Status>) -> (String, String, String) {
    let refusal = answer.expect_err("something keeps it");
    assert_eq!(refusal.code(), Code::FailedPrecondition, "{refusal:?}");
    let details = refusal.get_error_details();
    let failure = details.precondition_failure().expect("what stands in the way");
    let violation = failure.violations[0].clone();
    (violation.r#type, violation.subject, violation.description)
}

pub fn hold(ground: HoldGround, reference: &str) -> PlaceHoldRequest {
    PlaceHoldRequest {
        request_id: new_id(),
        ground: ground.into(),
        reference: reference.to_owned(),
        ..Default::default()
    }
}

pub async fn lift(officer: &mut Privacy, id: &str) -> Result<(), Status> {
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
    let all = RedactTextRequest { request_id: new_id(), stream, ..Default::default() };
    let stream = all.stream.clone();
    let all = || RedactTextRequest { request_id: new_id(), ..all.clone() };
    let me = ForgetPersonRequest { request_id: new_id(), ..Default::default() };

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
    // Who only asks whether it would be done is told the same.
    let whether = || ForgetPersonRequest { validate_only: true, ..me.clone() };
    let whether_all = || RedactTextRequest { validate_only: true, ..all() };
    for (kind, on, _) in [
        ground(mine.forget_person(whether()).await),
        ground(officer.redact_text(whether_all()).await),
    ] {
        assert_eq!((kind.as_str(), on.as_str()), ("HOLD", stream.as_str()));
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
    // It would be done, and that is all.
    let answer = mine.forget_person(whether()).await.expect("it may be").into_inner();
    assert_eq!(answer, ForgetPersonResponse::default());
    let answer = officer.redact_text(whether_all()).await.expect("it may be").into_inner();
    assert_eq!(answer, RedactTextResponse::default());
    for (id, text) in ids.iter().zip(["Een", "Twee"]) {
        assert_eq!(reveal(&mut handler, id).await, is(text, "Zoe"));
    }
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
            ..Default::default()
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
    let redact = RedactTextRequest { request_id: new_id(), stream, ..Default::default() };
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
