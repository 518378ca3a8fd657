//! By which names a person can be meant.

use samen_proto::privacy::*;
use samen_tests::deployment::{Deployment, Setup};
use tonic::{Code, Status};

use super::super::in_both_setups;
use super::super::shared::{new_id, refused};
use super::*;

in_both_setups!(only_who_is_known_is_named_and_in_one_way);

fn by_id(id: &str) -> Option<Person> {
    Some(Person { person: Some(person::Person::Id(id.to_owned())) })
}

/// What becomes of each call that names a person, when it names this one.
async fn named(officer: &mut Privacy, person: Option<Person>) -> Vec<Result<(), Status>> {
    let export = ExportPersonRequest { person: person.clone() };
    let forget =
        ForgetPersonRequest { request_id: new_id(), person: person.clone(), ..Default::default() };
    let place = PlaceHoldRequest {
        request_id: new_id(),
        person: person.clone(),
        ground: HoldGround::Archiving.into(),
        reference: "selectielijst 12".to_owned(),
        ..Default::default()
    };
    vec![
        officer.export_person(export).await.map(drop),
        officer.forget_person(forget).await.map(drop),
        officer.place_hold(place).await.map(drop),
    ]
}

async fn only_who_is_known_is_named_and_in_one_way(setup: Setup) {
    let mut deployment = Deployment::start(setup).await;
    let mut zoe = deployment.requests("zoe", &["resident"]).await;
    zoe.file_request(report_by("Zoe", "Een")).await.expect("filed");
    let mut officer = deployment.requests_privacy("officer", OFFICER).await;

    // What no person is called: it would stand in a key's name, and on the list.
    let long = "a".repeat(100);
    for id in [
        "",
        "zoe",
        "a b",
        "a\nb",
        "a\ngm0384.requests text/1 2026-03-02T09:15:00Z request",
        "abcdefghijklmnopqrstu A",
        "abcdefghijklmnopqrst+A",
        "abcdefghijklmnopqrstuvA",
        // As many characters, but not as base64url ends them.
        "abcdefghijklmnopqrstuv",
        &long,
    ] {
        for answer in named(&mut officer, by_id(id)).await {
            let fields = refused(answer, Code::InvalidArgument, "INVALID_FIELD");
            assert_eq!(fields, ["person"], "{id:?}");
        }
        let ask = ListHoldsRequest { person: by_id(id), ..Default::default() };
        refused(officer.list_holds(ask).await, Code::InvalidArgument, "INVALID_FIELD");
    }
    // And who is called so, but whom this log does not know.
    for person in [by_id("abcdefghijklmnopqrstuA"), subject(&deployment, "Zoe")] {
        for answer in named(&mut officer, person.clone()).await {
            assert_eq!(answer.expect_err("nobody").code(), Code::NotFound, "{person:?}");
        }
    }
    // Oneself, a resident can always mean.
    let mut new = deployment.requests_privacy("new", &["resident"]).await;
    let forget_me = ForgetPersonRequest { request_id: new_id(), ..Default::default() };
    let done = new.forget_person(forget_me).await.expect("nothing to forget").into_inner();
    assert_eq!(done.keys, 0);

    // Nothing of it changed anything, and the service starts again.
    deployment.stop().await;
    let records = records(&deployment, "requests").await;
    let kinds = records.iter().map(|record| record.r#type.rsplit('.').next().expect("a name"));
    let kinds: Vec<_> = kinds.skip_while(|kind| *kind == "CategoryDefined").collect();
    let expected =
        ["RequestFiled", "NoticeSent", "PersonForgotten", "ContentErased", "ErasuresCompleted"];
    assert_eq!(kinds, expected);
    deployment.restart().await;
}
