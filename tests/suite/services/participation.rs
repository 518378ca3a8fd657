//! Participation: drafts stay at home, people take part in what is published.

use std::collections::HashSet;

use futures::StreamExt;
use futures::future::join_all;
use prost::Message;
use samen_proto::participation::participation_service_client::ParticipationServiceClient;
use samen_proto::participation::watch_processes_response::Item;
use samen_proto::participation::*;
use samen_tests::deployment::{Authorised, Deployment, Setup};
use sqlx::{AssertSqlSafe, Connection, PgConnection, SqliteConnection};
use tonic::Code;

use super::in_both_setups;
use super::shared::{SOON, new_id, refused};

in_both_setups!(
    a_draft_is_seen_by_process_leads_alone,
    what_is_wrong_with_a_process_is_named,
    people_contribute_to_what_is_published_and_open_to_it,
    contributions_are_counted_once_and_every_page_adds_up,
    long_texts_make_shorter_pages,
    a_text_whose_key_was_destroyed_is_empty,
    watchers_see_processes_as_they_are_published,
);

fn start(title: &str, level: Level) -> StartProcessRequest {
    StartProcessRequest {
        request_id: new_id(),
        title: title.to_owned(),
        question: "Wat wilt u op het plein?".to_owned(),
        level: level.into(),
        neighbourhoods: vec!["BU03840101".to_owned()],
    }
}

fn publish(id: &str, expected_version: u64) -> PublishProcessRequest {
    PublishProcessRequest { request_id: new_id(), id: id.to_owned(), expected_version }
}

pub fn contribute(process: &str, text: &str) -> SubmitContributionRequest {
    SubmitContributionRequest {
        request_id: new_id(),
        process_id: process.to_owned(),
        kind: ContributionKind::Idea.into(),
        text: text.to_owned(),
        channel: Channel::Online.into(),
        neighbourhood: "BU03840101".to_owned(),
    }
}

/// A process that asks people, published; gives its id.
pub async fn published(lead: &mut ParticipationServiceClient<Authorised>) -> String {
    let started = lead.start_process(start("Het plein", Level::Consult)).await.expect("started");
    let id = started.into_inner().id;
    lead.publish_process(publish(&id, 1)).await.expect("published");
    id
}

async fn a_draft_is_seen_by_process_leads_alone(setup: Setup) {
    let deployment = Deployment::start(setup).await;
    let mut lead = deployment.participation("l", &["process_lead"]).await;
    let mut resident = deployment.participation("r", &["resident"]).await;
    let command = start("Het plein", Level::Consult);
    let started = lead.start_process(command.clone()).await.expect("started").into_inner();
    let again = lead.start_process(command).await.expect("the same").into_inner();
    assert_eq!(started, again);

    let get = |at_least| GetProcessRequest { id: started.id.clone(), at_least };
    let list = |at_least| ListProcessesRequest { at_least, ..Default::default() };
    let of_draft =
        ListContributionsRequest { process_id: started.id.clone(), ..Default::default() };
    let position = started.position.clone();
    let seen = lead.get_process(get(position.clone())).await.expect("hers").into_inner();
    let seen = seen.process.expect("a process");
    assert_eq!((seen.status(), seen.version), (ProcessStatus::Draft, 1));
    assert_eq!(seen.neighbourhoods, ["BU03840101"]);
    let all = lead.list_processes(list(position.clone())).await.expect("a list").into_inner();
    assert_eq!(all.processes, [seen]);
    for role in ["resident", "handler", "manager"] {
        let mut other = deployment.participation("o", &[role]).await;
        let refusal = other.get_process(get(position.clone())).await.expect_err("not yet");
        assert_eq!(refusal.code(), Code::NotFound);
        let all = other.list_processes(list(position.clone())).await.expect("a list");
        assert_eq!(all.into_inner().processes, []);
        let refusal = other.list_contributions(of_draft.clone()).await.expect_err("not yet");
        assert_eq!(refusal.code(), Code::NotFound);
    }
    let idea = contribute(&started.id, "Een boom");
    let refusal = resident.submit_contribution(idea.clone()).await.expect_err("not yet");
    assert_eq!(refusal.code(), Code::NotFound);
    let letter = SubmitContributionRequest { channel: Channel::Letter.into(), ..idea };
    let refusal = lead.submit_contribution(letter).await.expect_err("not yet");
    assert_eq!(refusal.code(), Code::FailedPrecondition);

    refused(lead.publish_process(publish(&started.id, 7)).await, Code::Aborted, "VERSION_MOVED");
    let answer = resident.publish_process(publish(&started.id, 1)).await;
    refused(answer, Code::PermissionDenied, "ROLE_MISSING");
    let published = lead.publish_process(publish(&started.id, 1)).await.expect("published");
    let position = published.into_inner().position;
    let seen = resident.get_process(get(position)).await.expect("everybody's").into_inner();
    let seen = seen.process.expect("a process");
    assert_eq!((seen.status(), seen.version), (ProcessStatus::Published, 2));
    assert_eq!(seen.title, "Het plein");
    assert!(seen.publish_time.is_some());
    let again = lead.publish_process(publish(&started.id, 2)).await.expect_err("once");
    assert_eq!(again.code(), Code::FailedPrecondition);
}

async fn what_is_wrong_with_a_process_is_named(setup: Setup) {
    let deployment = Deployment::start(setup).await;
    let mut lead = deployment.participation("l", &["process_lead"]).await;
    let good = start("Het plein", Level::Consult);
    let places = |codes: &[&str]| codes.iter().map(|code| (*code).to_owned()).collect();
    let twice = places(&["BU03840101", "BU03840101"]);
    let elsewhere = places(&["BU03639999"]);
    for (field, wrong) in [
        ("request_id", StartProcessRequest { request_id: "1".into(), ..good.clone() }),
        ("title", StartProcessRequest { title: "x".repeat(201), ..good.clone() }),
        ("question", StartProcessRequest { question: " ".into(), ..good.clone() }),
        ("level", StartProcessRequest { level: 9, ..good.clone() }),
        ("neighbourhoods", StartProcessRequest { neighbourhoods: twice, ..good.clone() }),
        ("neighbourhoods", StartProcessRequest { neighbourhoods: elsewhere, ..good }),
    ] {
        let answer = lead.start_process(wrong).await;
        assert_eq!(refused(answer, Code::InvalidArgument, "INVALID_FIELD"), [field]);
    }
    let all = lead.list_processes(ListProcessesRequest::default()).await.expect("a list");
    assert_eq!(all.into_inner().processes, []);
}

async fn people_contribute_to_what_is_published_and_open_to_it(setup: Setup) {
    let deployment = Deployment::start(setup).await;
    let mut lead = deployment.participation("l", &["process_lead"]).await;
    let mut resident = deployment.participation("r", &["resident"]).await;
    let mut ids = Vec::new();
    for level in [Level::Consult, Level::Inform] {
        let started = lead.start_process(start("Het plein", level)).await.expect("started");
        let id = started.into_inner().id;
        lead.publish_process(publish(&id, 1)).await.expect("published");
        ids.push(id);
    }
    let command = contribute(&ids[0], "Een boom, zei Łukasz (Luuk) Ó Briain");
    let submitted = resident.submit_contribution(command.clone()).await.expect("submitted");
    let submitted = submitted.into_inner();
    let again = resident.submit_contribution(command).await.expect("the same").into_inner();
    assert_eq!(submitted, again);
    // To inform is not to ask.
    let refusal =
        resident.submit_contribution(contribute(&ids[1], "Een boom")).await.expect_err("no");
    assert_eq!(refusal.code(), Code::FailedPrecondition);
    let refusal =
        resident.submit_contribution(contribute(&new_id(), "Een boom")).await.expect_err("no");
    assert_eq!(refusal.code(), Code::NotFound);

    let good = contribute(&ids[0], "Een boom");
    for (field, command) in [
        ("text", SubmitContributionRequest { text: " ".into(), ..good.clone() }),
        ("text", SubmitContributionRequest { text: "x".repeat(10_001), ..good.clone() }),
        ("kind", SubmitContributionRequest { kind: 0, ..good.clone() }),
        ("channel", SubmitContributionRequest { channel: Channel::Desk.into(), ..good.clone() }),
        ("neighbourhood", SubmitContributionRequest { neighbourhood: "BU1".into(), ..good }),
    ] {
        let answer = resident.submit_contribution(command).await;
        let fields = refused(answer, Code::InvalidArgument, "INVALID_FIELD");
        assert_eq!(fields, [field]);
    }
    // Online is how people come themselves.
    let online = lead.submit_contribution(contribute(&ids[0], "Een boom")).await;
    assert_eq!(refused(online, Code::InvalidArgument, "INVALID_FIELD"), ["channel"]);
    let at_desk = SubmitContributionRequest {
        channel: Channel::Desk.into(),
        ..contribute(&ids[0], "Aan de balie")
    };
    let last = lead.submit_contribution(at_desk).await.expect("entered").into_inner();

    let ask = ListContributionsRequest {
        process_id: ids[0].clone(),
        at_least: last.position,
        ..Default::default()
    };
    let list = resident.list_contributions(ask).await.expect("a list").into_inner();
    let texts: Vec<_> = list.contributions.iter().map(|c| c.text.as_str()).collect();
    assert_eq!(texts, ["Aan de balie", "Een boom, zei Łukasz (Luuk) Ó Briain"]);
}

async fn contributions_are_counted_once_and_every_page_adds_up(setup: Setup) {
    let deployment = Deployment::start(setup).await;
    let mut lead = deployment.participation("l", &["process_lead"]).await;
    let resident = deployment.participation("r", &["resident"]).await;
    let started = lead.start_process(start("Het plein", Level::Advise)).await.expect("started");
    let id = started.into_inner().id;
    lead.publish_process(publish(&id, 1)).await.expect("published");
    let submitted = join_all((0..40).map(|n| {
        let mut resident = resident.clone();
        let command = contribute(&id, &format!("idee {n}"));
        async move {
            // Asked twice, as after a lost answer.
            let first = resident.submit_contribution(command.clone()).await.expect("submitted");
            let again = resident.submit_contribution(command).await.expect("the same");
            assert_eq!(first.get_ref(), again.get_ref());
            first.into_inner()
        }
    }))
    .await;
    let newest = submitted.iter().filter_map(|s| s.position.clone()).max_by_key(|p| p.position);
    let informs = lead.start_process(start("Ter info", Level::Inform)).await.expect("started");
    let informs = informs.into_inner().id;
    let position = lead.publish_process(publish(&informs, 1)).await.expect("published");
    let mut ask = ListProcessesRequest {
        page_size: 1,
        page_token: String::new(),
        at_least: position.into_inner().position,
    };
    let mut counts = Vec::new();
    loop {
        let page = lead.list_processes(ask.clone()).await.expect("a page").into_inner();
        counts.extend(page.processes.into_iter().map(|p| (p.id, p.contribution_count)));
        ask.page_token = page.next_page_token;
        if ask.page_token.is_empty() {
            break;
        }
    }
    assert_eq!(counts, [(informs, 0), (id.clone(), 40)]);

    let mut resident = resident;
    let mut seen = Vec::new();
    let mut ask = ListContributionsRequest {
        process_id: id.clone(),
        page_size: 7,
        page_token: String::new(),
        at_least: newest,
    };
    loop {
        let page = resident.list_contributions(ask.clone()).await.expect("a page").into_inner();
        if !ask.page_token.is_empty() {
            // The same token gives the same page.
            let again = resident.list_contributions(ask.clone()).await.expect("a page");
            assert_eq!(again.into_inner(), page);
            let page_token = "x".to_owned();
            let ours = ListContributionsRequest { page_token, ..ask.clone() };
            let answer = resident.list_contributions(ours).await;
            let fields = refused(answer, Code::InvalidArgument, "INVALID_FIELD");
            assert_eq!(fields, ["page_token"]);
        }
        // What comes meanwhile is on no later page.
        resident.submit_contribution(contribute(&id, "later")).await.expect("submitted");
        seen.extend(page.contributions);
        ask.page_token = page.next_page_token;
        if ask.page_token.is_empty() {
            break;
        }
    }
    let moment = |c: &Contribution| c.create_time.map(|t| (t.seconds, t.nanos));
    assert!(seen.is_sorted_by(|a, b| moment(a) >= moment(b)), "newest first");
    assert_eq!(seen.len(), 40);
    let seen: HashSet<_> = seen.into_iter().map(|c| c.id).collect();
    assert_eq!(seen, submitted.into_iter().map(|s| s.id).collect::<HashSet<_>>());
}

async fn long_texts_make_shorter_pages(setup: Setup) {
    const COUNT: usize = 150;
    let deployment = Deployment::start(setup).await;
    let mut lead = deployment.participation("l", &["process_lead"]).await;
    let mut resident = deployment.participation("r", &["resident"]).await;
    let id = published(&mut lead).await;
    let long = "€".repeat(10_000);
    let submitted =
        join_all(
            (0..COUNT).map(|_| {
                let mut resident = resident.clone();
                let command = contribute(&id, &long);
                async move {
                    resident.submit_contribution(command).await.expect("submitted").into_inner()
                }
            }),
        )
        .await;
    let newest = submitted.iter().filter_map(|s| s.position.clone()).max_by_key(|p| p.position);
    let mut ask = ListContributionsRequest {
        process_id: id,
        page_size: 1_000,
        page_token: String::new(),
        at_least: newest,
    };
    let mut seen = HashSet::new();
    let mut pages = 0;
    loop {
        let page = resident.list_contributions(ask.clone()).await.expect("a page").into_inner();
        assert!(page.encoded_len() < 4 << 20);
        assert!(page.contributions.iter().all(|c| c.text == long));
        seen.extend(page.contributions.into_iter().map(|c| c.id));
        pages += 1;
        ask.page_token = page.next_page_token;
        if ask.page_token.is_empty() {
            break;
        }
    }
    assert_eq!((seen.len(), pages), (COUNT, 2));
}

async fn a_text_whose_key_was_destroyed_is_empty(setup: Setup) {
    let deployment = Deployment::start(setup).await;
    let mut lead = deployment.participation("l", &["process_lead"]).await;
    let mut resident = deployment.participation("r", &["resident"]).await;
    let id = published(&mut lead).await;
    let mut submitted = Vec::new();
    for text in ["Neem ik terug", "Een boom"] {
        let answer = resident.submit_contribution(contribute(&id, text)).await;
        submitted.push(answer.expect("submitted").into_inner());
    }
    destroy_key(&deployment, &format!("text/{}", submitted[0].id)).await;
    let ask = ListContributionsRequest {
        process_id: id,
        at_least: submitted[1].position.clone(),
        ..Default::default()
    };
    let list = resident.list_contributions(ask).await.expect("a list").into_inner();
    let texts: Vec<_> =
        list.contributions.iter().map(|c| (c.id.as_str(), c.text.as_str())).collect();
    assert_eq!(texts, [(submitted[1].id.as_str(), "Een boom"), (submitted[0].id.as_str(), "")]);
}

/// Destroys a key of this service, as forgetting will.
async fn destroy_key(deployment: &Deployment, id: &str) {
    let sql = |schema: &str| {
        AssertSqlSafe(format!("UPDATE {schema}.sealing_key SET wrapped = NULL WHERE id = $1"))
    };
    let destroyed = match deployment.database() {
        Some(url) => {
            let mut database = PgConnection::connect(url).await.expect("the database");
            let update = sqlx::query(sql("participation_log")).bind(id);
            update.execute(&mut database).await.expect("destroyed").rows_affected()
        }
        None => {
            let file = deployment.path("data/participation/log.db");
            let mut database = SqliteConnection::connect(&file).await.expect("the database");
            let update = sqlx::query(sql("main")).bind(id);
            update.execute(&mut database).await.expect("destroyed").rows_affected()
        }
    };
    assert_eq!(destroyed, 1);
}

async fn watchers_see_processes_as_they_are_published(setup: Setup) {
    let deployment = Deployment::start(setup).await;
    let mut lead = deployment.participation("l", &["process_lead"]).await;
    let mut resident = deployment.participation("r", &["resident"]).await;
    let draft = lead.start_process(start("Concept", Level::Consult)).await.expect("started");
    let draft = draft.into_inner().id;
    let started = lead.start_process(start("Het plein", Level::Consult)).await.expect("started");
    let id = started.into_inner().id;
    let published = lead.publish_process(publish(&id, 1)).await.expect("published").into_inner();
    let see = GetProcessRequest { id: id.clone(), at_least: published.position.clone() };
    resident.get_process(see).await.expect("visible");

    // A process lead sees no more of drafts here than anybody.
    let watched = lead.watch_processes(WatchProcessesRequest::default()).await;
    let mut watched = watched.expect("a stream").into_inner();
    let seen = async {
        let mut next = async || watched.next().await.expect("goes on").expect("an item").item;
        let mut snapshot = Vec::new();
        let mark = loop {
            match next().await {
                Some(Item::Process(process)) => snapshot.push(process.id),
                Some(Item::CaughtUp(mark)) => break mark.position,
                _ => {}
            }
        };
        assert_eq!(snapshot, [id.as_str()]);
        assert_eq!(mark, published.position);
        // Who resumes at a heartbeat misses nothing.
        match next().await {
            Some(Item::Heartbeat(beat)) => assert_eq!(beat.position, mark),
            other => panic!("{other:?}"),
        }
        resident.submit_contribution(contribute(&id, "Een boom")).await.expect("submitted");
        loop {
            match next().await {
                Some(Item::Process(process)) => {
                    assert_eq!((process.id, process.contribution_count), (id.clone(), 1));
                    break;
                }
                Some(Item::Heartbeat(_)) => {}
                other => panic!("{other:?}"),
            }
        }
        lead.publish_process(publish(&draft, 1)).await.expect("published");
        let resume = WatchProcessesRequest { resume_after: mark };
        let mut resumed = resident.watch_processes(resume).await.expect("a stream").into_inner();
        let mut changed = HashSet::new();
        while changed.len() < 2 {
            let item = resumed.next().await.expect("goes on").expect("an item").item;
            if let Some(Item::Process(process)) = item {
                assert_eq!(process.status(), ProcessStatus::Published);
                changed.insert(process.id);
            }
        }
        assert_eq!(changed, HashSet::from([id.clone(), draft.clone()]));
    };
    tokio::time::timeout(SOON, seen).await.expect("all of it comes");
}
