//! At every door, before and after.

use futures::StreamExt;
use image::ImageFormat;
use samen_proto::requests::photo_service_client::PhotoServiceClient;
use samen_proto::requests::statistics_service_client::StatisticsServiceClient;
use samen_tests::web;

use super::super::given::exported;
use super::*;
use crate::services::photos::{add, assert_nothing, link, picture, show};
use crate::services::shared::all;

in_both_setups!(what_was_closed_long_enough_is_gone_from_every_door);

/// What everybody who may sees of one request of many words.
#[derive(Debug, PartialEq)]
struct Seen {
    request: ServiceRequest,
    found: Vec<String>,
    history: Vec<HistoryEntry>,
    figures: Vec<Figures>,
    conversation: Vec<ConversationEntry>,
}

async fn seen(deployment: &Deployment, desk: &mut Desk, id: &str) -> Seen {
    let get = GetRequestRequest { id: id.to_owned(), at_least: None };
    let request = desk.requests.get_request(get).await.expect("it is there").into_inner();
    let filter = RequestFilter { text: MARK.to_owned(), ..Default::default() };
    let found = all(&mut desk.requests, filter).await;
    let list = ListHistoryRequest { id: id.to_owned(), at_least: None };
    let history = desk.handling.list_history(list).await.expect("a history").into_inner();
    let manager = deployment.at_requests("m", &["manager"]).await;
    let ask = GetStatisticsRequest { group_by: GroupBy::Category.into(), ..Default::default() };
    let figures = StatisticsServiceClient::new(manager).get_statistics(ask).await;
    let reporter = deployment.at_requests("zoe", &["resident"]).await;
    let ask = GetConversationRequest { id: id.to_owned(), at_least: None };
    let conversation = ReporterServiceClient::new(reporter).get_conversation(ask).await;
    Seen {
        request: request.request.expect("a request"),
        found: found.into_iter().map(|request| request.id).collect(),
        history: history.entries,
        figures: figures.expect("figures").into_inner().figures,
        conversation: conversation.expect("a conversation").into_inner().entries,
    }
}

/// All requests, as a file.
async fn file(deployment: &Deployment, format: ExportFormat) -> String {
    let manager = deployment.at_requests("m", &["manager"]).await;
    let ask = ExportRequestsRequest { filter: None, format: format.into() };
    let stream = StatisticsServiceClient::new(manager).export_requests(ask).await;
    let pieces = stream.expect("a file").into_inner().map(|piece| piece.expect("a piece").chunk);
    String::from_utf8(pieces.concat().await).expect("UTF-8")
}

async fn what_was_closed_long_enough_is_gone_from_every_door(setup: Setup) {
    let folder = tempfile::tempdir().expect("a folder");
    let place = folder.path().to_str().expect("a path in UTF-8");
    let mut deployment = Deployment::start_with(setup, &[("SAMEN_PHOTOS", place)]).await;
    let mut desk = Desk::of(&deployment).await;
    let mut zoe = deployment.requests("zoe", &["resident"]).await;
    let filed = zoe.file_request(FileRequestRequest {
        address: format!("Bij {MARK}"),
        contact_consent: true,
        ..report_by(MARK, &format!("De lamp van {MARK}"))
    });
    let filed = filed.await.expect("filed").into_inner();
    let id = filed.id.clone();
    let mut photos = PhotoServiceClient::new(deployment.at_requests("h", &["handler"]).await);
    let photo = photos.add_photo(add(&id, picture(ImageFormat::Png))).await.expect("added");
    let photo = photo.into_inner().photo_id;
    let note = AddNoteRequest {
        request_id: new_id(),
        id: id.clone(),
        expected_version: desk.version(&id).await,
        note: format!("{MARK} belde"),
    };
    eventually(SOON, "it is noted", async || {
        let note = AddNoteRequest { expected_version: desk.version(&id).await, ..note.clone() };
        desk.handling.add_note(note).await.ok()
    })
    .await;
    eventually(SOON, "it is sent", async || {
        let send = SendMessageRequest {
            request_id: note.request_id.clone(),
            id: id.clone(),
            expected_version: desk.version(&id).await,
            message: format!("Dag {MARK}"),
            ask_reaction: false,
        };
        desk.handling.send_message(send).await.ok()
    })
    .await;
    let mut reporter =
        ReporterServiceClient::new(deployment.at_requests("zoe", &["resident"]).await);
    let message = format!("Hier {MARK}");
    let write = WriteMessageRequest { request_id: new_id(), id: id.clone(), message };
    reporter.write_message(write).await.expect("written");
    desk.goes(&id, Status::InProgress).await;
    desk.goes(&id, Status::Resolved).await;
    let rate = RateRequestRequest {
        request_id: new_id(),
        id: id.clone(),
        satisfaction: 4,
        words: format!("Dank van {MARK}"),
        reopen: false,
    };
    reporter.rate_request(rate).await.expect("rated");
    let open = desk.filed(&deployment, &format!("Nog open van {MARK}")).await;
    desk.version(&open).await;
    // Description, reporter, address; note, two messages, two explanations and
    // the words of satisfaction.
    assert_eq!(desk.texts(&id).await, 9);
    let before = seen(&deployment, &mut desk, &id).await;
    assert_eq!(before.found.len(), 2);
    let csv = file(&deployment, ExportFormat::Csv).await;

    // The term was over before the service began again with it.
    tokio::time::sleep(std::time::Duration::from_secs(2)).await;
    with_term(&mut deployment, "PT2S", "").await;
    let mut desk = Desk::of(&deployment).await;
    desk.gone(&id).await;
    let after = eventually(SOON, "its words are not found", async || {
        let after = seen(&deployment, &mut desk, &id).await;
        (after.found.len() == 1).then_some(after)
    })
    .await;
    // It is there as before, without a word: open ones are as they were.
    assert_eq!(after.found, std::slice::from_ref(&open));
    assert_eq!(desk.texts(&open).await, 2);
    assert_eq!((&after.request, &after.figures), (&before.request, &before.figures));
    let told = |seen: &Seen| -> Vec<_> {
        seen.history.iter().map(|entry| (entry.position, entry.kind.clone())).collect()
    };
    assert_eq!(told(&after), told(&before));
    assert_eq!(before.history.iter().filter(|entry| entry.has_text).count(), 6);
    assert!(after.history.iter().all(|entry| !entry.has_text), "{:?}", after.history);
    assert!(before.conversation.iter().all(|said| said.text.contains(MARK)), "{before:?}");
    assert!(after.conversation.iter().all(|said| said.text.is_empty()), "{after:?}");
    assert_eq!((before.conversation.len(), after.conversation.len()), (5, 5));
    for format in [ExportFormat::Csv, ExportFormat::Json] {
        assert!(!file(&deployment, format).await.contains(MARK));
    }
    assert_eq!(file(&deployment, ExportFormat::Csv).await, csv);
    let path = format!("/melding/{}", filed.secret);
    let page = web::get(&deployment.reports_address(), &path).await.expect("a page");
    assert!(page.starts_with("HTTP/1.1 200") && !page.contains(MARK), "{page}");
    let mut photos = PhotoServiceClient::new(deployment.at_requests("h", &["handler"]).await);
    let shown = link(&mut photos, &id, &photo).await;
    assert_nothing(&deployment, &shown.path).await;
    // She is not forgotten: who she is, and what she said that is still open.
    let mut officer = deployment.requests_privacy("officer", OFFICER).await;
    let held = exported(&mut officer, subject(&deployment, "zoe")).await;
    let held: String = held.iter().map(|(_, json)| json.to_string()).collect();
    assert!(held.contains(&format!("Nog open van {MARK}")), "{held}");
    for gone in ["De lamp van", "Bij", "Hier", "Dank van"] {
        assert!(!held.contains(&format!("{gone} {MARK}")), "{held}");
    }

    // A projection that is built anew shows the same, and nothing is left of
    // the photo.
    deployment.stop().await;
    deployment.forget_projections().await;
    deployment.restart().await;
    let mut desk = Desk::of(&deployment).await;
    desk.version(&open).await;
    assert_eq!(seen(&deployment, &mut desk, &id).await, after);
    eventually(SOON, "the photo is gone", async || {
        let mut left = Vec::new();
        collect(folder.path(), &mut left);
        left.is_empty().then_some(())
    })
    .await;
    let (head, _) = show(&deployment, &shown.path).await;
    assert!(head.starts_with("http/1.1 404"), "{head}");
    deployment.stop().await;
    let told = super::told(&records(&deployment, "requests").await);
    assert_eq!(told.into_iter().collect::<Vec<_>>(), [(format!("request/{id}"), 1)]);
}
