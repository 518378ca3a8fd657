//! What a term after closing erases: everything personal of a request, at
//! every door, and nothing of one that is open, opened again or held.
//!
//! - [`doors`]: at every door.

mod doors;

use samen_log::Record;
use samen_log::record::micros;
use samen_proto::privacy::*;
use samen_proto::requests::handling_service_client::HandlingServiceClient;
use samen_proto::requests::reporter_service_client::ReporterServiceClient;
use samen_tests::deployment::{Deployment, Setup};
use samen_tests::eventually;
use samen_tests::process::run;

use super::super::in_both_setups;
use super::kept::{hold, lift};
use super::*;

in_both_setups!(
    what_was_opened_again_is_kept_until_it_is_closed_again,
    parts_and_duplicates_go_by_their_own_closing_and_a_hold_defers_it,
    a_duty_keeps_one_text_longer_than_the_others,
    what_was_imported_is_closed_since_its_source_closed_it,
);

/// Stands in every text of somebody, and nowhere else.
const MARK: &str = "zoemarkeert";

/// Begins again with a term after closing, and these of fields.
async fn with_term(deployment: &mut Deployment, after: &str, fields: &str) {
    let file = deployment.path("retention.json");
    let closing =
        format!(r#"{{"stream": "request", "erased_after": "{after}", "ground": "een jaar"}}"#);
    let terms = format!(r#"{{"after_closing": [{closing}], "terms": [{fields}]}}"#);
    std::fs::write(&file, terms).expect("written");
    deployment.retention = file;
    deployment.stop().await;
    deployment.restart().await;
}

/// Somebody who handles.
struct Desk {
    requests: RequestServiceClient<Authorised>,
    handling: HandlingServiceClient<Authorised>,
}

impl Desk {
    async fn of(deployment: &Deployment) -> Self {
        let handling = deployment.at_requests("h", &["handler"]).await;
        Desk {
            requests: deployment.requests("h", &["handler"]).await,
            handling: HandlingServiceClient::new(handling),
        }
    }

    /// Files for a resident; gives the id.
    async fn filed(&mut self, deployment: &Deployment, text: &str) -> String {
        let mut zoe = deployment.requests("zoe", &["resident"]).await;
        zoe.file_request(report_by(MARK, text)).await.expect("filed").into_inner().id
    }

    async fn version(&mut self, id: &str) -> u64 {
        let get = GetRequestRequest { id: id.to_owned(), at_least: None };
        let seen = eventually(SOON, "it is there", async || {
            self.requests.get_request(get.clone()).await.ok()
        });
        seen.await.into_inner().request.expect("a request").version
    }

    /// To a status, whatever is projected meanwhile.
    async fn goes(&mut self, id: &str, status: Status) {
        eventually(SOON, "its status changes", async || {
            let change = ChangeStatusRequest {
                request_id: new_id(),
                id: id.to_owned(),
                expected_version: self.version(id).await,
                status: status.into(),
                explanation: format!("{MARK} {status:?}"),
                ..ChangeStatusRequest::default()
            };
            self.requests.change_status(change).await.ok()
        })
        .await;
    }

    async fn gone(&mut self, id: &str) {
        eventually(SOON, "it is gone", async || (self.texts(id).await == 0).then_some(())).await;
    }

    /// How many texts of a request can be read.
    async fn texts(&mut self, id: &str) -> usize {
        let ask = RevealRequestRequest { id: id.to_owned(), purpose: Purpose::Handling.into() };
        let all = eventually(SOON, "it is there", async || {
            self.requests.reveal_request(ask.clone()).await.ok()
        });
        let all = all.await.into_inner();
        let own = [all.description.is_some(), all.reporter.is_some(), all.address.is_some()];
        let own = own.into_iter().filter(|is| *is).count();
        own + all.texts.iter().filter(|text| text.text.is_some()).count()
    }
}

async fn what_was_opened_again_is_kept_until_it_is_closed_again(setup: Setup) {
    let mut deployment = Deployment::start(setup).await;
    let mut desk = Desk::of(&deployment).await;
    let (again, closed) =
        (desk.filed(&deployment, "Weer").await, desk.filed(&deployment, "Dicht").await);
    desk.goes(&again, Status::Resolved).await;
    desk.goes(&closed, Status::Resolved).await;
    desk.goes(&closed, Status::Closed).await;
    desk.goes(&again, Status::Reopened).await;
    with_term(&mut deployment, "PT3S", "").await;
    let mut desk = Desk::of(&deployment).await;
    desk.gone(&closed).await;
    assert_eq!(desk.texts(&again).await, 4);
    desk.goes(&again, Status::Rejected).await;
    desk.gone(&again).await;
    // What is said of it later is kept as long, from then on.
    let mut reporter =
        ReporterServiceClient::new(deployment.at_requests("zoe", &["resident"]).await);
    let (request_id, id, message) = (new_id(), again.clone(), "Later".to_owned());
    reporter.write_message(WriteMessageRequest { request_id, id, message }).await.expect("written");
    eventually(SOON, "it is there", async || (desk.texts(&again).await == 1).then_some(())).await;
    desk.gone(&again).await;

    // Stopped in the middle, it is completed before it answers again.
    deployment.stop().await;
    deployment.restart().await;
    deployment.stop().await;
    let records = records(&deployment, "requests").await;
    let stream = format!("request/{again}");
    let when = |kind: &str, stream: &str| -> Vec<i64> {
        let of = |record: &&std::sync::Arc<Record>| {
            record.r#type.ends_with(kind) && record.stream == stream
        };
        records.iter().filter(of).map(|record| micros(record)).collect()
    };
    let erased = when("ContentErased", &format!("erasure/{stream}"));
    let changed = when("StatusChanged", &stream);
    let written = when("MessageReceived", &stream);
    assert_eq!((erased.len(), changed.len()), (2, 3));
    assert!(erased[0] - changed[2] >= 3_000_000, "{erased:?} {changed:?}");
    assert!(erased[1] - written[0] >= 3_000_000, "{erased:?} {written:?}");
}

async fn parts_and_duplicates_go_by_their_own_closing_and_a_hold_defers_it(setup: Setup) {
    let mut deployment = Deployment::start(setup).await;
    let mut desk = Desk::of(&deployment).await;
    let whole = desk.filed(&deployment, "Twee dingen").await;
    let part = |text: &str| Part {
        category: "verlichting/lamp".to_owned(),
        description: text.to_owned(),
        location: None,
    };
    let split = SplitRequestRequest {
        request_id: new_id(),
        id: whole.clone(),
        expected_version: desk.version(&whole).await,
        parts: vec![part("Een"), part("Ander")],
    };
    let parts = desk.handling.split_request(split).await.expect("divided").into_inner().part_ids;
    let (other, duplicate) =
        (desk.filed(&deployment, "Gat").await, desk.filed(&deployment, "Zelfde gat").await);
    desk.version(&duplicate).await;
    eventually(SOON, "it goes on in another", async || {
        let merge = MergeRequestRequest {
            request_id: new_id(),
            id: duplicate.clone(),
            expected_version: desk.version(&duplicate).await,
            into_id: other.clone(),
        };
        desk.handling.merge_request(merge).await.ok()
    })
    .await;
    desk.goes(&parts[0], Status::Resolved).await;
    let held = desk.filed(&deployment, "Bezwaar").await;
    desk.goes(&held, Status::Resolved).await;
    let mut officer = deployment.requests_privacy("officer", OFFICER).await;
    let stream = format!("request/{held}");
    let place = PlaceHoldRequest { stream, ..hold(HoldGround::LegalClaim, "bezwaar 7") };
    let placed = officer.place_hold(place).await.expect("placed").into_inner();

    with_term(&mut deployment, "PT2S", "").await;
    let mut desk = Desk::of(&deployment).await;
    let mut officer = deployment.requests_privacy("officer", OFFICER).await;
    desk.gone(&parts[0]).await;
    desk.gone(&duplicate).await;
    // The whole and the other part, what it goes on in, and what is held.
    for (id, texts) in [(&whole, 2), (&parts[1], 1), (&other, 2), (&held, 3)] {
        assert_eq!(desk.texts(id).await, texts);
    }
    // The whole is closed with the last of its parts.
    desk.goes(&parts[1], Status::Resolved).await;
    desk.gone(&parts[1]).await;
    desk.gone(&whole).await;
    assert_eq!(desk.texts(&held).await, 3);
    lift(&mut officer, &placed.id).await.expect("lifted");
    desk.gone(&held).await;
    assert_eq!(desk.texts(&other).await, 2);
    let (status, output) = run(deployment.operator(["verify"]), SOON).await;
    assert!(status.success(), "{output}");

    // Once each, whoever looks again.
    deployment.stop().await;
    deployment.restart().await;
    let later = Desk::of(&deployment).await.filed(&deployment, "Laatste").await;
    let mut desk = Desk::of(&deployment).await;
    desk.goes(&later, Status::Resolved).await;
    desk.gone(&later).await;
    deployment.stop().await;
    deployment.restart().await;
    deployment.stop().await;
    let told = self::told(&records(&deployment, "requests").await);
    let gone = [&parts[0], &parts[1], &duplicate, &whole, &held, &later];
    assert_eq!(told.len(), gone.len());
    for id in gone {
        assert_eq!(told.get(&format!("request/{id}")), Some(&1), "{told:?}");
    }
}

async fn a_duty_keeps_one_text_longer_than_the_others(setup: Setup) {
    let mut deployment = Deployment::start(setup).await;
    let duty = r#"{"event": "samen.requests.v1.RequestFiled", "field": "description",
                   "kept_at_least": "PT20S", "ground": "selectielijst 3"}"#;
    with_term(&mut deployment, "PT1S", duty).await;
    let mut desk = Desk::of(&deployment).await;
    let id = desk.filed(&deployment, "Bewaard").await;
    desk.goes(&id, Status::Resolved).await;
    let left = (Some("Bewaard".to_owned()), None);
    eventually(SOON, "who reported it is gone", async || {
        (reveal(&mut desk.requests, &id).await == left).then_some(())
    })
    .await;
    desk.gone(&id).await;
}

async fn what_was_imported_is_closed_since_its_source_closed_it(setup: Setup) {
    let mut deployment = Deployment::start(setup).await;
    with_term(&mut deployment, "P365D", "").await;
    let mut importer = deployment.requests("i", &["importer"]).await;
    let day = |ago: i64| {
        let seconds = jiff::Timestamp::now().as_second() - ago * 86_400;
        Some(prost_types::Timestamp { seconds, nanos: 0 })
    };
    let mut ids = Vec::new();
    for (number, closed) in [("lately", Some(364)), ("long ago", Some(366)), ("open", None)] {
        let import = ImportRequestRequest {
            request_id: new_id(),
            source: "oud".to_owned(),
            source_number: number.to_owned(),
            category: "verlichting/lamp".to_owned(),
            channel: Channel::Phone.into(),
            create_time: day(1_000),
            close_time: closed.and_then(day),
            description: number.to_owned(),
            ..Default::default()
        };
        ids.push(importer.import_request(import).await.expect("imported").into_inner().id);
    }
    // Closed here, it is closed since now.
    let mut desk = Desk::of(&deployment).await;
    desk.goes(&ids[2], Status::Resolved).await;
    desk.goes(&ids[0], Status::Reopened).await;
    // A process that begins anew looks at once.
    deployment.stop().await;
    deployment.restart().await;
    let mut desk = Desk::of(&deployment).await;
    desk.gone(&ids[1]).await;
    for (id, texts) in [(&ids[0], 2), (&ids[2], 2)] {
        assert_eq!(desk.texts(id).await, texts);
    }
}
