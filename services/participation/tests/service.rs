//! The whole service on SQLite, called as behind the access layer.

use std::sync::Arc;
use std::time::Duration;

use futures::StreamExt;
use samen_log::{Location, MasterKey};
use samen_participation::{NAME, Participation};
use samen_proto::log::Position;
use samen_proto::options::Role;
use samen_proto::participation::participation_service_server::ParticipationService;
use samen_proto::participation::watch_processes_response::Item;
use samen_proto::participation::*;
use samen_server::area::Area;
use samen_server::identity::{Issuer, KeySource, Verifier};
use samen_server::paging::Pages;
use samen_server::{Caller, Deployment};
use tonic::{Code, Request, Status};
use uuid::Uuid;

const BUYTENSTEE: &str = "BU03840101";

#[tokio::test]
async fn drafts_are_for_process_leads_alone() {
    let (service, _folder) = service(Area::shipped("GM0384").expect("an area")).await;
    let draft = start(&service, Level::Consult).await;
    let at_least = draft.position.clone();

    let get = |role| {
        let get = GetProcessRequest { id: draft.id.clone(), at_least: at_least.clone() };
        service.get_process(by(role, get))
    };
    let seen = get(Role::ProcessLead).await.expect("a lead sees it").into_inner().process;
    let seen = seen.expect("a process");
    assert_eq!((seen.status(), seen.version), (ProcessStatus::Draft, 1));
    assert_eq!(seen.neighbourhoods, [BUYTENSTEE]);
    for role in [Role::Resident, Role::Handler, Role::Manager] {
        assert_eq!(get(role).await.expect_err("hidden").code(), Code::NotFound);
        assert!(list(&service, role, 10, &at_least).await.is_empty());
    }
    assert_eq!(list(&service, Role::ProcessLead, 10, &at_least).await.len(), 1);
    let refusal = service.submit_contribution(by(Role::Resident, idea(&draft.id))).await;
    assert_eq!(refusal.expect_err("hidden").code(), Code::NotFound);
    let letter = SubmitContributionRequest { channel: Channel::Letter.into(), ..idea(&draft.id) };
    let refusal = service.submit_contribution(by(Role::ProcessLead, letter)).await;
    assert_eq!(refusal.expect_err("too early").code(), Code::FailedPrecondition);
    let of_draft = service.list_contributions(by(Role::Resident, of(&draft.id, 0, "", None))).await;
    assert_eq!(of_draft.expect_err("hidden").code(), Code::NotFound);

    assert_eq!(publish(&service, &draft.id, 2).await.expect_err("moved").code(), Code::Aborted);
    let published = publish(&service, &draft.id, 1).await.expect("published");
    let again = publish(&service, &draft.id, published.version).await;
    assert_eq!(again.expect_err("once").code(), Code::FailedPrecondition);
    let seen = list(&service, Role::Resident, 10, &published.position).await;
    assert_eq!((seen[0].status(), seen[0].version), (ProcessStatus::Published, 2));
    assert!(seen[0].publish_time.is_some());
}

#[tokio::test]
async fn contributions_count_once_and_every_page_adds_up() {
    let (service, _folder) = service(Area::none()).await;
    let process = start(&service, Level::Advise).await;
    let informs = start(&service, Level::Inform).await;
    publish(&service, &process.id, 1).await.expect("published");
    publish(&service, &informs.id, 1).await.expect("published");
    let refusal = service.submit_contribution(by(Role::Resident, idea(&informs.id))).await;
    assert_eq!(refusal.expect_err("asks nothing").code(), Code::FailedPrecondition);

    let mut sent = Vec::new();
    for _ in 0..7 {
        let idea = idea(&process.id);
        let first = service.submit_contribution(by(Role::Resident, idea.clone())).await;
        let again = service.submit_contribution(by(Role::Resident, idea)).await;
        let first = first.expect("taken").into_inner();
        assert_eq!(first, again.expect("the same").into_inner());
        sent.push(first);
    }
    let at_least = sent.last().and_then(|last| last.position.clone());
    let processes = list(&service, Role::Resident, 1, &at_least).await;
    let counts: Vec<_> = processes.iter().map(|p| (p.id.clone(), p.contribution_count)).collect();
    assert_eq!(counts, [(informs.id, 0), (process.id.clone(), 7)]);

    let mut ids = Vec::new();
    let mut token = String::new();
    loop {
        let ask = of(&process.id, 3, &token, at_least.clone());
        let page =
            service.list_contributions(by(Role::Manager, ask.clone())).await.expect("a page");
        let page = page.into_inner();
        // What comes meanwhile is on no later page, nor on this one again.
        service.submit_contribution(by(Role::Resident, idea(&process.id))).await.expect("taken");
        if !token.is_empty() {
            let again = service.list_contributions(by(Role::Manager, ask)).await.expect("a page");
            assert_eq!(again.into_inner(), page);
        }
        assert!(page.contributions.iter().all(|c| c.text == "Meer bomen"));
        ids.extend(page.contributions.into_iter().map(|c| c.id));
        token = page.next_page_token;
        if token.is_empty() {
            break;
        }
        let other = service.list_contributions(by(Role::Manager, of(&process.id, 3, "x", None)));
        assert_eq!(other.await.expect_err("no token of ours").code(), Code::InvalidArgument);
    }
    let newest_first: Vec<_> = sent.into_iter().rev().map(|s| s.id).collect();
    assert_eq!(ids, newest_first);
}

#[tokio::test]
async fn long_texts_make_shorter_pages() {
    let (service, _folder) = service(Area::none()).await;
    let process = start(&service, Level::CoDecide).await;
    publish(&service, &process.id, 1).await.expect("published");
    let mut last = None;
    for _ in 0..100 {
        let long = SubmitContributionRequest { text: "€".repeat(10_000), ..idea(&process.id) };
        let sent = service.submit_contribution(by(Role::Resident, long)).await.expect("taken");
        last = sent.into_inner().position;
    }
    let mut found = 0;
    let mut token = String::new();
    loop {
        let ask = of(&process.id, 1_000, &token, last.clone());
        let page = service.list_contributions(by(Role::Resident, ask)).await.expect("a page");
        let page = page.into_inner();
        assert!(prost::Message::encoded_len(&page) < 4 << 20);
        found += page.contributions.len();
        token = page.next_page_token;
        if token.is_empty() {
            break;
        }
    }
    assert_eq!(found, 100);
}

#[tokio::test]
async fn a_text_whose_key_was_destroyed_is_empty() {
    let (service, _folder) = service(Area::none()).await;
    let process = start(&service, Level::Consult).await;
    publish(&service, &process.id, 1).await.expect("published");
    let mut sent = Vec::new();
    for _ in 0..2 {
        let idea = service.submit_contribution(by(Role::Resident, idea(&process.id))).await;
        sent.push(idea.expect("taken").into_inner());
    }
    let schema = service.log().schema();
    samen_log::on_db!(&schema.db, pool => {
        sqlx::query(schema.sql("UPDATE {s}.sealing_key SET wrapped = NULL WHERE id = $1"))
            .bind(format!("text/{}", sent[0].id))
            .execute(pool)
            .await
            .expect("destroyed");
    });
    let ask = of(&process.id, 0, "", sent[1].position.clone());
    let page = service.list_contributions(by(Role::Resident, ask)).await.expect("a page");
    let found = page.into_inner().contributions;
    let texts: Vec<_> = found.iter().map(|c| (c.id.as_str(), c.text.as_str())).collect();
    assert_eq!(texts, [(sent[1].id.as_str(), "Meer bomen"), (sent[0].id.as_str(), "")]);
}

#[tokio::test]
async fn what_is_wrong_is_named() {
    let (service, _folder) = service(Area::shipped("GM0384").expect("an area")).await;
    let good = StartProcessRequest {
        request_id: Uuid::new_v4().to_string(),
        title: "Groen".into(),
        question: "Wat wilt u?".into(),
        level: Level::Consult.into(),
        neighbourhoods: Vec::new(),
    };
    let twice = vec![BUYTENSTEE.to_owned(); 2];
    for (field, wrong) in [
        ("request_id", StartProcessRequest { request_id: "1".into(), ..good.clone() }),
        ("title", StartProcessRequest { title: "x".repeat(201), ..good.clone() }),
        ("question", StartProcessRequest { question: " ".into(), ..good.clone() }),
        ("level", StartProcessRequest { level: 9, ..good.clone() }),
        ("neighbourhoods", StartProcessRequest { neighbourhoods: twice, ..good.clone() }),
        (
            "neighbourhoods",
            StartProcessRequest { neighbourhoods: vec!["BU03639999".into()], ..good.clone() },
        ),
    ] {
        let refusal = service.start_process(by(Role::ProcessLead, wrong)).await;
        assert_names(refusal.expect_err("wrong"), field);
    }
    let good = idea(&Uuid::now_v7().to_string());
    let desk = SubmitContributionRequest { channel: Channel::Desk.into(), ..good.clone() };
    for (role, field, wrong) in [
        (Role::Resident, "channel", desk),
        (Role::ProcessLead, "channel", good.clone()),
        (Role::Resident, "kind", SubmitContributionRequest { kind: 0, ..good.clone() }),
        (Role::Resident, "text", SubmitContributionRequest { text: String::new(), ..good.clone() }),
        (
            Role::Resident,
            "neighbourhood",
            SubmitContributionRequest { neighbourhood: "BU1".into(), ..good.clone() },
        ),
    ] {
        let refusal = service.submit_contribution(by(role, wrong)).await;
        assert_names(refusal.expect_err("wrong"), field);
    }
    let unknown = service.submit_contribution(by(Role::Resident, good)).await;
    assert_eq!(unknown.expect_err("unknown").code(), Code::NotFound);
}

#[tokio::test]
async fn watchers_see_published_processes_and_what_changes() {
    let (service, _folder) = service(Area::none()).await;
    let first = start(&service, Level::Consult).await;
    let draft = start(&service, Level::Consult).await;
    let published = publish(&service, &first.id, 1).await.expect("published");
    list(&service, Role::ProcessLead, 10, &published.position).await;

    let watch = |resume_after| {
        let watch = WatchProcessesRequest { resume_after };
        let stream = service.watch_processes(by(Role::ProcessLead, watch));
        async { stream.await.expect("a stream").into_inner() }
    };
    let mut watched = watch(None).await;
    let mut next = async || watched.next().await.expect("goes on").expect("an item").item;
    let Some(Item::Process(seen)) = next().await else { panic!("a process") };
    assert_eq!(seen.id, first.id);
    let Some(Item::CaughtUp(mark)) = next().await else { panic!("a mark") };
    assert_eq!(mark.position, published.position);

    // Nothing is sent of a draft, and the heartbeat goes on from there.
    let Some(Item::Heartbeat(beat)) = next().await else { panic!("a heartbeat") };
    assert_eq!(beat.position, mark.position);
    service.submit_contribution(by(Role::Resident, idea(&first.id))).await.expect("taken");
    loop {
        match next().await {
            Some(Item::Process(seen)) => break assert_eq!(seen.contribution_count, 1),
            Some(Item::Heartbeat(_)) => {}
            other => panic!("{other:?}"),
        }
    }
    publish(&service, &draft.id, 1).await.expect("published");
    let mut resumed = watch(mark.position).await;
    let mut seen = Vec::new();
    while seen.len() < 2 {
        let item = resumed.next().await.expect("goes on").expect("an item").item;
        if let Some(Item::Process(process)) = item {
            seen.push(process.id);
        }
    }
    assert_eq!(seen, [first.id, draft.id]);
}

// What the tests have in common.

async fn service(area: Area) -> (Participation, tempfile::TempDir) {
    let folder = tempfile::tempdir().expect("a folder");
    let master = MasterKey::generate(true);
    let issuer = Issuer::generate("test", true).expect("keys");
    let keys = folder.path().join("keys.json");
    std::fs::write(&keys, issuer.key_set()).expect("written");
    let verifier = Verifier::new("test", KeySource::File(keys), &master, true).await;
    let deployment = Deployment {
        municipality: "GM0384".into(),
        oin: "00000001001299757000".into(),
        area,
        verifier: Arc::new(verifier.expect("a verifier")),
        pages: Pages::new(&master),
        master,
        heartbeat: Duration::from_millis(200),
        shutdown: Default::default(),
    };
    let location = Location::Folder(folder.path().to_owned());
    let service = Participation::start(deployment, &location).await.expect("starts");
    assert_eq!(service.log().id(), format!("gm0384.{NAME}"));
    (service, folder)
}

fn by<T>(role: Role, message: T) -> Request<T> {
    let caller = Caller { id: format!("{role:?}"), roles: vec![role], certificate: None };
    let mut request = Request::new(message);
    request.extensions_mut().insert(Arc::new(caller));
    request
}

async fn start(service: &Participation, level: Level) -> StartProcessResponse {
    let start = StartProcessRequest {
        request_id: Uuid::new_v4().to_string(),
        title: "Groen in Buytenstee".into(),
        question: "Wat wilt u op het plein?".into(),
        level: level.into(),
        neighbourhoods: vec![BUYTENSTEE.into()],
    };
    service.start_process(by(Role::ProcessLead, start)).await.expect("started").into_inner()
}

async fn publish(
    service: &Participation,
    id: &str,
    expected_version: u64,
) -> Result<PublishProcessResponse, Status> {
    let request_id = Uuid::new_v4().to_string();
    let publish = PublishProcessRequest { request_id, id: id.to_owned(), expected_version };
    service.publish_process(by(Role::ProcessLead, publish)).await.map(|r| r.into_inner())
}

fn idea(process_id: &str) -> SubmitContributionRequest {
    SubmitContributionRequest {
        request_id: Uuid::new_v4().to_string(),
        process_id: process_id.to_owned(),
        kind: ContributionKind::Idea.into(),
        text: "Meer bomen".into(),
        channel: Channel::Online.into(),
        neighbourhood: String::new(),
    }
}

fn of(
    process_id: &str,
    page_size: i32,
    page_token: &str,
    at_least: Option<Position>,
) -> ListContributionsRequest {
    let (process_id, page_token) = (process_id.to_owned(), page_token.to_owned());
    ListContributionsRequest { process_id, page_size, page_token, at_least }
}

/// All processes, page by page.
async fn list(
    service: &Participation,
    role: Role,
    page_size: i32,
    at_least: &Option<Position>,
) -> Vec<Process> {
    let mut found = Vec::new();
    let mut page_token = String::new();
    loop {
        let at_least = at_least.clone();
        let ask = ListProcessesRequest { page_size, page_token, at_least };
        let page = service.list_processes(by(role, ask)).await.expect("a page").into_inner();
        found.extend(page.processes);
        page_token = page.next_page_token;
        if page_token.is_empty() {
            return found;
        }
    }
}

fn assert_names(refusal: Status, field: &str) {
    assert_eq!(refusal.code(), Code::InvalidArgument);
    assert!(refusal.message().starts_with(&format!("{field}: ")), "{refusal:?}");
}
