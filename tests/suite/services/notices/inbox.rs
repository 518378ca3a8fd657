//! The inbox, and the channels that deliver.

use std::collections::BTreeSet;

use samen_proto::privacy::ForgetPersonRequest;
use samen_tests::deployment::Setup;
use tonic::Code;

use super::super::in_both_setups;
use super::super::shared::refused;
use super::*;

in_both_setups!(
    an_inbox_is_its_owners_page_by_page,
    a_channel_gets_each_notice_once_and_says_how_far_it_is,
    who_is_forgotten_leaves_no_text_in_inbox_or_page,
);

async fn an_inbox_is_its_owners_page_by_page(setup: Setup) {
    let deployment = Deployment::start(setup).await;
    for number in 0..25 {
        file(&deployment, "zoe", &format!("{number}")).await;
    }
    file(&deployment, "adam", "Een").await;
    let mut zoe = inbox(&deployment, "zoe").await;
    let mut adam = inbox(&deployment, "adam").await;
    listed(&mut adam, 1).await;
    listed(&mut zoe, 25).await;

    let mut ask = ListNoticesRequest { page_size: 10, ..Default::default() };
    let (mut sizes, mut seen) = (Vec::new(), Vec::new());
    loop {
        let page = zoe.list_notices(ask.clone()).await.expect("a page").into_inner();
        sizes.push(page.notices.len());
        seen.extend(page.notices);
        if page.next_page_token.is_empty() {
            break;
        }
        ask.page_token = page.next_page_token;
        // What comes meanwhile is on no later page.
        if sizes.len() == 1 {
            file(&deployment, "zoe", "Later").await;
            listed(&mut zoe, 26).await;
        }
    }
    assert_eq!(sizes, [10, 10, 5]);
    assert_eq!(seen.iter().map(|notice| &notice.id).collect::<BTreeSet<_>>().len(), 25);
    let time = |notice: &Notice| notice.create_time.map(|time| (time.seconds, time.nanos));
    assert!(seen.is_sorted_by(|a, b| time(a) >= time(b)), "newest first");
    let fields = refused(adam.list_notices(ask).await, Code::InvalidArgument, "INVALID_FIELD");
    assert_eq!(fields, ["page_token"], "another's token");
    let negative = ListNoticesRequest { page_size: -1, ..Default::default() };
    refused(adam.list_notices(negative).await, Code::InvalidArgument, "INVALID_FIELD");

    // Theirs is no notice of anybody else.
    let read = MarkReadRequest { request_id: new_id(), id: seen[0].id.clone() };
    let refusal = adam.mark_read(read.clone()).await.expect_err("not theirs");
    assert_eq!(refusal.code(), Code::NotFound);
    let unknown = MarkReadRequest { request_id: new_id(), id: new_id() };
    let unknown = adam.mark_read(unknown).await.expect_err("there is none");
    assert_eq!(unknown.message().len(), refusal.message().len(), "no hint");
    let first = zoe.mark_read(read.clone()).await.expect("read").into_inner();
    assert_eq!(zoe.mark_read(read).await.expect("the same").into_inner(), first);
    let again = MarkReadRequest { request_id: new_id(), id: seen[0].id.clone() };
    zoe.mark_read(again).await.expect("it is read");
    let ask =
        ListNoticesRequest { page_size: 1000, at_least: first.position, ..Default::default() };
    let now = zoe.list_notices(ask).await.expect("a page").into_inner().notices;
    let read: Vec<_> = now.iter().filter(|n| n.state() == DeliveryState::Read).collect();
    assert_eq!((read.len(), &read[0].id), (1, &seen[0].id));
    assert!(now.iter().all(|n| n.id == seen[0].id || n.state() == DeliveryState::Pending));
}

async fn a_channel_gets_each_notice_once_and_says_how_far_it_is(setup: Setup) {
    let deployment = Deployment::start(setup).await;
    let mut zoe = deployment.requests("zoe", &["resident"]).await;
    let with = file(&deployment, "zoe", "Met toestemming").await;
    let without = zoe.file_request(report("Zonder")).await.expect("filed").into_inner();
    let told = all_told(&deployment).await;
    let of = |filed: &FileRequestResponse| {
        let about = format!("request/{}", filed.id);
        let found = told.iter().filter(|n| n.notice.as_ref().is_some_and(|n| n.about == about));
        let found: Vec<_> = found.collect();
        assert_eq!(found.len(), 1);
        found[0].clone()
    };
    let (with, without) = (of(&with), of(&without));
    assert_eq!(with.email, "zoe@example.org");
    assert_eq!(without.email, "", "nobody is contacted who did not agree");

    // Resumed after the first one, the rest comes, and nothing twice.
    let mut channel = channel(&deployment);
    let mut rest = watch(&mut channel, with.position.clone()).await;
    let place = told.iter().position(|n| *n == with).expect("it was told");
    for expected in &told[place + 1..] {
        let next = tokio::time::timeout(SOON, rest.next()).await.expect("it comes");
        assert_eq!(next.as_ref(), Some(expected));
    }

    let id = with.notice.expect("a notice").id;
    let report = |channel: &str, state: DeliveryState| ReportDeliveryRequest {
        request_id: new_id(),
        id: id.clone(),
        channel: channel.into(),
        state: state.into(),
    };
    let mut zoes = inbox(&deployment, "zoe").await;
    for state in [DeliveryState::Sent, DeliveryState::Sent, DeliveryState::Delivered] {
        let reported = channel.report_delivery(report("email", state)).await.expect("reported");
        let at_least = reported.into_inner().position;
        let ask = ListNoticesRequest { at_least, ..Default::default() };
        let now = zoes.list_notices(ask).await.expect("a page").into_inner().notices;
        let now = now.into_iter().find(|notice| notice.id == id).expect("it is there");
        assert_eq!(now.state(), state);
    }
    for (name, state, field) in [
        ("inbox", DeliveryState::Sent, "channel"),
        ("E-mail", DeliveryState::Sent, "channel"),
        ("", DeliveryState::Sent, "channel"),
        ("email", DeliveryState::Read, "state"),
        ("email", DeliveryState::Unspecified, "state"),
    ] {
        let answer = channel.report_delivery(report(name, state)).await;
        assert_eq!(refused(answer, Code::InvalidArgument, "INVALID_FIELD"), [field]);
    }
    let unknown = ReportDeliveryRequest { id: new_id(), ..report("email", DeliveryState::Sent) };
    let unknown = channel.report_delivery(unknown).await.expect_err("there is none");
    assert_eq!(unknown.code(), Code::NotFound);
    // People are no channels.
    let answer = zoes.report_delivery(report("email", DeliveryState::Sent)).await;
    refused(answer, Code::PermissionDenied, "ROLE_MISSING");
    let answer = zoes.watch_notices(WatchNoticesRequest::default()).await;
    refused(answer, Code::PermissionDenied, "ROLE_MISSING");
}

async fn who_is_forgotten_leaves_no_text_in_inbox_or_page(setup: Setup) {
    let deployment = Deployment::start(setup).await;
    let filed = file(&deployment, "zoe", "Lamp").await;
    let message = SendMessageRequest {
        request_id: new_id(),
        id: filed.id.clone(),
        expected_version: version(&deployment, &filed.id).await,
        message: "Beste Zoë, welke lamp?".into(),
        ask_reaction: true,
    };
    handling(&deployment).await.send_message(message).await.expect("sent");
    let answer = [("command", new_id()), ("message", "Die bij nummer zeven".to_owned())];
    let answer = answer.each_ref().map(|(name, value)| (*name, value.as_str()));
    page::post(&deployment, &filed.secret, "bericht", &answer).await;

    let mut zoe = inbox(&deployment, "zoe").await;
    let asked = eventually(SOON, "she is asked", async || {
        list(&mut zoe).await.into_iter().find(|n| n.kind() == NoticeKind::ReactionAsked)
    });
    assert_eq!(asked.await.text, "Beste Zoë, welke lamp?");
    let page = page::get(&deployment, &filed.secret).await;
    assert!(page.contains("Beste Zoë, welke lamp?") && page.contains("Die bij nummer zeven"));

    let mut mine = deployment.requests_privacy("zoe", &["resident"]).await;
    let forget = ForgetPersonRequest { request_id: new_id(), ..Default::default() };
    mine.forget_person(forget).await.expect("forgotten");
    eventually(SOON, "her inbox is empty of words", async || {
        list(&mut zoe).await.iter().all(|notice| notice.text.is_empty()).then_some(())
    })
    .await;
    let page = page::get(&deployment, &filed.secret).await;
    assert!(page.contains("gewist"), "{page}");
    for gone in ["Beste Zoë", "nummer zeven"] {
        assert!(!page.contains(gone), "{page}");
    }
    let told = all_told(&deployment).await;
    let about = format!("request/{}", filed.id);
    for told in &told {
        let notice = told.notice.as_ref().expect("a notice");
        assert!(notice.about != about || (notice.text.is_empty() && told.email.is_empty()));
    }
    // Whoever comes back is told anew.
    let mut back = deployment.requests("zoe", &["resident"]).await;
    let plain = FileRequestRequest { reporter: None, ..report("Weer een lamp") };
    let plain = back.file_request(plain).await.expect("filed").into_inner();
    resolve(&deployment, &plain.id, "Gemaakt").await;
    eventually(SOON, "she is told", async || {
        list(&mut zoe).await.iter().any(|notice| notice.text == "Gemaakt").then_some(())
    })
    .await;
}
