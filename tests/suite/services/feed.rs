//! The feed: a partner gets each shared event once, in order, without a gap,
//! whatever is restarted; and nothing else.

use futures::StreamExt;
use samen_proto::cloudevents::CloudEvent;
use samen_proto::cloudevents::cloud_event::Data;
use samen_proto::cloudevents::cloud_event::cloud_event_attribute_value::Attr;
use samen_proto::regional::subscribe_response::Item;
use samen_proto::regional::*;
use samen_proto::requests::{ChangeStatusRequest, RequestFiled, Status};
use samen_tests::deployment::{Deployment, Partner, Setup};
use samen_tests::{Process, eventually};
use tokio::time::timeout;
use tonic::Code;

use super::in_both_setups;
use super::shared::{SOON, agree, all, new_id, refused, report};

const FILED: &str = "samen.requests.v1.RequestFiled";
const CHANGED: &str = "samen.requests.v1.StatusChanged";
const PUBLISHED: &str = "samen.participation.v1.ProcessPublished";

in_both_setups!(
    a_certificate_is_one_partners_alone,
    a_partner_gets_each_event_once_across_restarts,
    only_what_was_agreed_leaves_and_only_to_whom,
    a_partner_in_another_language_gets_the_same,
    a_rebuilt_store_gives_the_same_feed,
);

/// Reads the feed after a position until it is caught up, and at least to
/// `until`.
pub async fn read(
    deployment: &Deployment,
    partner: &Partner,
    agreement: &str,
    after: u64,
    until: u64,
) -> Vec<SubscribeResponse> {
    let epoch = u64::from(after > 0);
    let subscribe = SubscribeRequest { agreement_id: agreement.to_owned(), after, epoch };
    let reading = async {
        let mut feed = deployment.feed(partner, true);
        let mut items = feed.subscribe(subscribe).await.expect("a feed").into_inner();
        let mut got = Vec::new();
        let mut caught_up = false;
        while !caught_up || after + (got.len() as u64) < until {
            let item = items.next().await.expect("it goes on").expect("an item");
            match &item.item {
                Some(Item::CaughtUp(_)) => caught_up = true,
                Some(Item::Heartbeat(_)) | None => {}
                Some(_) => got.push(item),
            }
        }
        got
    };
    timeout(SOON, reading).await.expect("the feed gives what there is")
}

async fn a_partner_gets_each_event_once_across_restarts(setup: Setup) {
    let mut deployment = Deployment::start(setup).await;
    let partner = deployment.partner("GM0437", "00000001001566575001").await;
    let mut filed = Vec::new();
    for round in 0..3 {
        let mut resident = deployment.requests("r", &["resident"]).await;
        for n in 0..10 {
            let answer = resident.file_request(report(&format!("{round}.{n}"))).await;
            filed.push(answer.expect("filed").into_inner().id);
        }
        // The first ten are history when the agreement is made.
        if round == 0 {
            agree(&deployment, &partner, &[FILED]).await;
        }
        let feeds = deployment.feed(&partner, true).list_feeds(ListFeedsRequest {}).await;
        let agreement = feeds.expect("feeds").into_inner().feeds.remove(0).agreement_id;
        let after = round * 10;
        let got = read(&deployment, &partner, &agreement, after, after + 10).await;
        let positions: Vec<u64> = got.iter().map(|item| item.position).collect();
        assert_eq!(positions, (after + 1..=after + 10).collect::<Vec<_>>());
        // From the beginning it is all of it, in the order it was filed.
        let all = read(&deployment, &partner, &agreement, 0, after + 10).await;
        let subjects: Vec<String> = all.iter().map(subject).collect();
        assert_eq!(subjects, filed);
        match round {
            0 => deployment.stop().await,
            _ => deployment.kill(),
        }
        deployment.restart().await;
    }

    let mut regional = deployment.regional("m").await;
    let feeds = deployment.feed(&partner, true).list_feeds(ListFeedsRequest {}).await;
    let agreement = feeds.expect("feeds").into_inner().feeds.remove(0).agreement_id;
    let ask = ListDisclosuresRequest { agreement_id: agreement.clone(), ..Default::default() };
    let disclosed = regional.list_disclosures(ask).await.expect("a list").into_inner();
    let mut first: Vec<u64> = Vec::new();
    for disclosure in disclosed.disclosures.iter().rev() {
        assert_eq!(disclosure.purpose, "afstemming van beheer");
        if disclosure.kind() == DisclosureKind::First {
            first.extend(disclosure.first_position..=disclosure.last_position);
        }
    }
    assert_eq!(first, (1..=30).collect::<Vec<_>>());
    for (after, epoch) in [(31, 1), (30, 2), (30, 0)] {
        let ask = SubscribeRequest { agreement_id: agreement.clone(), after, epoch };
        let refusal = deployment.feed(&partner, true).subscribe(ask).await.expect_err("refused");
        assert_eq!(refusal.code(), Code::FailedPrecondition, "{after} {epoch}");
    }
}

async fn only_what_was_agreed_leaves_and_only_to_whom(setup: Setup) {
    let deployment = Deployment::start(setup).await;
    let partner = deployment.partner("GM0437", "00000001001566575001").await;
    let stranger = deployment.partner("GM0451", "00000001001566575002").await;
    // The right OIN, with a certificate that was not registered.
    let impostor = deployment.partner("IMPOSTOR", "00000001001566575001").await;
    let agreement = agree(&deployment, &partner, &[CHANGED, FILED]).await;
    let others = agree(&deployment, &stranger, &[FILED]).await;

    let mut resident = deployment.requests("r", &["resident"]).await;
    let mut handler = deployment.requests("h", &["handler"]).await;
    let filed = resident.file_request(report("Geheim van Zoë")).await.expect("filed").into_inner();
    let change = ChangeStatusRequest {
        request_id: new_id(),
        id: filed.id.clone(),
        expected_version: 1,
        status: Status::Resolved.into(),
        explanation: "Beste Zoë, gemaakt".into(),
        ..ChangeStatusRequest::default()
    };
    handler.change_status(change).await.expect("changed");

    let items = read(&deployment, &partner, &agreement, 0, 2).await;
    let Some(Item::Event(event)) = &items[0].item else { panic!("{items:?}") };
    assert_eq!(event.spec_version, "1.0");
    assert_eq!(event.r#type, format!("nl.{FILED}"));
    assert_eq!(event.source, "urn:nld:oin:00000001001566575000:systeem:gm0384.requests");
    let sequence = event.attributes["sequence"].attr.clone();
    assert_eq!(sequence, Some(Attr::CeString("00000000000000000001".to_owned())));
    let Some(Data::ProtoData(any)) = &event.data else { panic!("{event:?}") };
    assert_eq!(any.type_url, format!("type.googleapis.com/{FILED}"));
    let content: RequestFiled = prost::Message::decode(any.value.as_slice()).expect("the event");
    assert_eq!(content.category, "verlichting/lamp");
    assert_eq!(content.neighbourhood, "BU03840101");
    assert_eq!((content.description, content.reporter), (None, None));
    let Some(Item::Event(event)) = &items[1].item else { panic!("{items:?}") };
    assert_eq!(event.r#type, format!("nl.{CHANGED}"));

    let subscribe = |agreement: &str| SubscribeRequest {
        agreement_id: agreement.to_owned(),
        after: 0,
        epoch: 0,
    };
    for (who, with_certificate) in [(&partner, false), (&impostor, true)] {
        let mut feed = deployment.feed(who, with_certificate);
        let refusal = feed.subscribe(subscribe(&agreement)).await.expect_err("refused");
        assert_eq!(refusal.code(), Code::Unauthenticated, "{refusal:?}");
        let refusal = feed.list_feeds(ListFeedsRequest {}).await.expect_err("refused");
        assert_eq!(refusal.code(), Code::Unauthenticated, "{refusal:?}");
    }
    let refusal = deployment.feed(&partner, true).subscribe(subscribe(&others)).await;
    assert_eq!(refusal.expect_err("another's").code(), Code::NotFound);

    let mut regional = deployment.regional("m").await;
    let conclude = |event_type: &str| ConcludeAgreementRequest {
        request_id: new_id(),
        partner: partner.code.clone(),
        event_types: vec![event_type.to_owned()],
        purpose: "p".into(),
        legal_basis: "b".into(),
    };
    for event_type in ["samen.participation.v1.ProcessStarted", "samen.requests.v1.Nothing"] {
        let answer = regional.conclude_agreement(conclude(event_type)).await;
        let fields = refused(answer, Code::InvalidArgument, "INVALID_FIELD");
        assert_eq!(fields, ["event_types"]);
    }
    let with_nobody = ConcludeAgreementRequest { partner: "GM9999".into(), ..conclude(FILED) };
    let refusal = regional.conclude_agreement(with_nobody).await.expect_err("nobody we know");
    assert_eq!(refusal.code(), Code::NotFound);
    regional.conclude_agreement(conclude(PUBLISHED)).await.expect("agreed");

    // An agreement that ends, ends its stream; nothing more is disclosed.
    let mut open = deployment.feed(&partner, true);
    let mut open = open.subscribe(subscribe(&agreement)).await.expect("a feed").into_inner();
    let end = EndAgreementRequest {
        request_id: new_id(),
        id: agreement.clone(),
        reason: "niet meer nodig".into(),
    };
    regional.end_agreement(end).await.expect("ended");
    resident.file_request(report("Daarna")).await.expect("filed");
    let ended = async {
        loop {
            match open.next().await {
                Some(Ok(item)) => assert!(item.position <= 2, "{item:?}"),
                Some(Err(refusal)) => return refusal.code(),
                None => panic!("it ends with a reason"),
            }
        }
    };
    assert_eq!(timeout(SOON, ended).await.expect("it ends"), Code::NotFound);
    let refusal = deployment.feed(&partner, true).subscribe(subscribe(&agreement)).await;
    assert_eq!(refusal.expect_err("it has ended").code(), Code::NotFound);
}

async fn a_partner_in_another_language_gets_the_same(setup: Setup) {
    // Its stream ends again and again, and it goes on.
    let deployment = Deployment::start_with(setup, &[("SAMEN_STREAM_AGE", "1")]).await;
    let partner = deployment.partner("GM0437", "00000001001566575001").await;
    let agreement = agree(&deployment, &partner, &[FILED]).await;
    let mut resident = deployment.requests("r", &["resident"]).await;
    for n in 0..5 {
        resident.file_request(report(&n.to_string())).await.expect("filed");
    }
    let checkpoint = deployment.path("checkpoint");
    let consume = |until: u64| {
        let mut python = samen_tests::servers::python();
        python
            .arg(samen_tests::servers::script("partner.py"))
            .args(["--address", &deployment.partners_address()])
            .args(["--agreement", &agreement, "--checkpoint", &checkpoint])
            .args(["--until", &until.to_string()])
            .arg("--root")
            .arg(&partner.root)
            .arg("--certificate")
            .arg(&partner.certificate)
            .arg("--key")
            .arg(&partner.key);
        Process::start(python)
    };
    let mut first = consume(5);
    assert!(first.ended(SOON).await.success(), "{}", first.output());
    assert_eq!(first.lines().len(), 5);

    // It goes on where it stopped, and then gets what happens while it looks.
    let mut second = consume(8);
    second.line(SOON, |line| line == "caught up at 5").await;
    let mut ids = Vec::new();
    for n in 5..8 {
        let filed = resident.file_request(report(&n.to_string())).await.expect("filed");
        ids.push(filed.into_inner().id);
    }
    assert!(second.ended(SOON).await.success(), "{}", second.output());
    let got = second.lines();
    let expected = ids.iter().zip(6..).map(|(id, n)| format!("{n} nl.{FILED} {id}"));
    assert_eq!(got, expected.collect::<Vec<_>>());
}

async fn a_rebuilt_store_gives_the_same_feed(setup: Setup) {
    let mut deployment = Deployment::start(setup).await;
    let partner = deployment.partner("GM0437", "00000001001566575001").await;
    let mut resident = deployment.requests("r", &["resident"]).await;
    for n in 0..20 {
        resident.file_request(report(&n.to_string())).await.expect("filed");
    }
    let agreement = agree(&deployment, &partner, &[FILED]).await;
    let before = read(&deployment, &partner, &agreement, 0, 20).await;
    let requests = all(&mut deployment.requests("h", &["handler"]).await, Default::default()).await;

    // Everything that can be made again goes, and the exchange with it: it
    // begins again after the last record, so that the owner has to be asked.
    deployment.stop().await;
    deployment.forget_projections().await;
    if setup == Setup::Separate {
        let client = deployment.nats().client().await;
        let exchange = async_nats::jetstream::new(client);
        let stream = exchange.get_stream("SAMEN_GM0384_REQUESTS").await.expect("a stream");
        let info = stream.get_info().await.expect("its state");
        exchange.delete_stream("SAMEN_GM0384_REQUESTS").await.expect("deleted");
        let first_sequence = Some(info.state.last_sequence + 1);
        let config = async_nats::jetstream::stream::Config { first_sequence, ..info.config };
        exchange.create_stream(config).await.expect("made");
    }
    deployment.restart().await;
    let after = read(&deployment, &partner, &agreement, 0, 20).await;
    assert_eq!(before, after);
    let mut handler = deployment.requests("h", &["handler"]).await;
    let rebuilt = eventually(SOON, "requests are there again", async || {
        let found = all(&mut handler, Default::default()).await;
        (found.len() == requests.len()).then_some(found)
    });
    assert_eq!(rebuilt.await, requests);
}

fn subject(item: &SubscribeResponse) -> String {
    match &item.item {
        Some(Item::Event(event)) => subject_of(event),
        other => panic!("{other:?}"),
    }
}

/// What an event is about.
pub fn subject_of(event: &CloudEvent) -> String {
    match &event.attributes["subject"].attr {
        Some(Attr::CeString(subject)) => subject.clone(),
        other => panic!("{other:?}"),
    }
}

async fn a_certificate_is_one_partners_alone(setup: Setup) {
    let deployment = Deployment::start(setup).await;
    let regional = deployment.regional("m").await;
    let register = |code: &str, oin: &str, thumbprint: &str| RegisterPartnerRequest {
        request_id: new_id(),
        code: code.to_owned(),
        name: code.to_owned(),
        oin: oin.to_owned(),
        layer: Layer::DuoPlus.into(),
        certificate_thumbprints: vec![thumbprint.to_owned()],
    };
    let change = |code: &str, thumbprint: &str| ChangePartnerCertificatesRequest {
        request_id: new_id(),
        code: code.to_owned(),
        certificate_thumbprints: vec![thumbprint.to_owned()],
    };
    let (oin, other) = ("00000001001566575001", "00000001001566575002");
    let (one, two) = ("a".repeat(64), "b".repeat(64));
    let mut door = regional.clone();
    door.register_partner(register("A", oin, &one)).await.expect("registered");
    // Whatever the letters' case, and by whichever call.
    for taken in [&one, &one.to_uppercase()] {
        let answer = door.register_partner(register("B", oin, taken)).await;
        refused(answer, Code::AlreadyExists, "CERTIFICATE_TAKEN");
    }
    door.register_partner(register("B", oin, &two)).await.expect("with one of its own");
    let answer = door.change_partner_certificates(change("B", &one)).await;
    refused(answer, Code::AlreadyExists, "CERTIFICATE_TAKEN");
    door.register_partner(register("C", other, &one)).await.expect("somebody else's OIN");
    // What a partner gives up, another may have.
    door.change_partner_certificates(change("A", &"c".repeat(64))).await.expect("changed");
    door.change_partner_certificates(change("B", &one)).await.expect("it is free");

    // Of those who come at once, one has it.
    for round in 0..5 {
        let thumbprint = format!("{round}").repeat(64);
        let calls = (0..4).map(|n| {
            let mut door = regional.clone();
            let register = register(&format!("R{round}N{n}"), oin, &thumbprint);
            async move { door.register_partner(register).await }
        });
        let answers = futures::future::join_all(calls).await;
        assert_eq!(answers.iter().filter(|answer| answer.is_ok()).count(), 1);
        for answer in answers.into_iter().filter(Result::is_err) {
            refused(answer, Code::AlreadyExists, "CERTIFICATE_TAKEN");
        }
    }
}
