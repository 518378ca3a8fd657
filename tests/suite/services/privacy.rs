//! What a person asks about their own data, through the doors.

use samen_proto::privacy::{ForgetPersonRequest, Person, Subject, person};
use samen_proto::requests::{Purpose, RevealRequestRequest};
use samen_tests::deployment::{Deployment, Setup};
use tonic::Code;

use super::in_both_setups;
use super::shared::{new_id, report};

in_both_setups!(who_is_forgotten_is_gone_and_nobody_else,);

async fn who_is_forgotten_is_gone_and_nobody_else(setup: Setup) {
    let deployment = Deployment::start(setup).await;
    let mut zoe = deployment.requests("zoe", &["resident"]).await;
    let mut other = deployment.requests("other", &["resident"]).await;
    let mut handler = deployment.requests("h", &["handler"]).await;
    let gone = zoe.file_request(report("Van Zoë")).await.expect("filed").into_inner();
    let kept = other.file_request(report("Van een ander")).await.expect("filed").into_inner();

    // A resident cannot forget somebody else.
    let subject = Subject { issuer: deployment.issuer().to_owned(), subject: "zoe".to_owned() };
    let zoes = Person { person: Some(person::Person::Subject(subject)) };
    let mut privacy = deployment.requests_privacy("other", &["resident"]).await;
    let forget = ForgetPersonRequest { request_id: new_id(), person: Some(zoes) };
    let refusal = privacy.forget_person(forget).await.expect_err("not theirs");
    assert_eq!(refusal.code(), Code::PermissionDenied, "{refusal:?}");

    let mut privacy = deployment.requests_privacy("zoe", &["resident"]).await;
    let forget = ForgetPersonRequest { request_id: new_id(), person: None };
    let forgotten = privacy.forget_person(forget).await.expect("forgotten").into_inner();
    assert!(forgotten.keys > 0);
    let reveal = |id: String| RevealRequestRequest { id, purpose: Purpose::Handling.into() };
    let revealed = handler.reveal_request(reveal(gone.id)).await.expect("seen").into_inner();
    assert_eq!(revealed.reporter, None);
    assert_eq!(revealed.description.map(|d| d.text).unwrap_or_default(), "");
    let revealed = handler.reveal_request(reveal(kept.id)).await.expect("seen").into_inner();
    assert_eq!(revealed.description.expect("kept").text, "Van een ander");
}
