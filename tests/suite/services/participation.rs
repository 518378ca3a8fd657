//! Participation: drafts stay at home, people take part in what is published.

use std::collections::HashSet;

use futures::StreamExt;
use futures::future::join_all;
use samen_proto::participation::watch_processes_response::Item;
use samen_proto::participation::*;
use samen_tests::deployment::{Deployment, Setup};
use tonic::Code;

use super::in_both_setups;
use super::shared::{SOON, new_id, refused};

in_both_setups!(
    a_draft_is_seen_by_process_leads_alone,
    people_contribute_to_what_is_published_and_open_to_it,
    contributions_are_counted_once_and_every_page_adds_up,
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

fn contribute(process: &str, text: &str) -> SubmitContributionRequest {
    SubmitContributionRequest {
        request_id: new_id(),
        process_id: process.to_owned(),
        kind: ContributionKind::Idea.into(),
        text: text.to_owned(),
        channel: Channel::Online.into(),
        neighbourhood: "BU03840101".to_owned(),
    }
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
    let seen = lead.get_process(get(started.position.clone())).await.expect("hers").into_inner();
    assert_eq!(seen.process.expect("a process").status(), ProcessStatus::Draft);
    let refusal = resident.get_process(get(None)).await.expect_err("not yet");
    assert_eq!(refusal.code(), Code::NotFound);
    let list = resident.list_processes(ListProcessesRequest::default()).await.expect("a list");
    assert_eq!(list.into_inner().processes, []);
    let ask = ListContributionsRequest { process_id: started.id.clone(), ..Default::default() };
    let refusal = resident.list_contributions(ask).await.expect_err("not yet");
    assert_eq!(refusal.code(), Code::NotFound);
    let refusal =
        resident.submit_contribution(contribute(&started.id, "Een boom")).await.expect_err("no");
    assert!(matches!(refusal.code(), Code::NotFound | Code::FailedPrecondition), "{refusal:?}");

    refused(lead.publish_process(publish(&started.id, 7)).await, Code::Aborted, "VERSION_MOVED");
    let answer = resident.publish_process(publish(&started.id, 1)).await;
    refused(answer, Code::PermissionDenied, "ROLE_MISSING");
    let published = lead.publish_process(publish(&started.id, 1)).await.expect("published");
    let position = published.into_inner().position;
    let seen = resident.get_process(get(position)).await.expect("everybody's").into_inner();
    assert_eq!(seen.process.expect("a process").title, "Het plein");
    lead.publish_process(publish(&started.id, 2)).await.expect_err("published already");
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
    let get = GetProcessRequest { id: id.clone(), at_least: newest };
    let process = lead.get_process(get).await.expect("seen").into_inner().process;
    assert_eq!(process.expect("a process").contribution_count, 40);

    let mut resident = resident;
    let mut seen = HashSet::new();
    let mut page_token = String::new();
    loop {
        let ask = ListContributionsRequest {
            process_id: id.clone(),
            page_size: 7,
            page_token,
            at_least: None,
        };
        let page = resident.list_contributions(ask).await.expect("a page").into_inner();
        for contribution in page.contributions {
            assert!(seen.insert(contribution.id), "on two pages");
        }
        page_token = page.next_page_token;
        if page_token.is_empty() {
            break;
        }
    }
    assert_eq!(seen, submitted.into_iter().map(|s| s.id).collect::<HashSet<_>>());
}

async fn watchers_see_processes_as_they_are_published(setup: Setup) {
    let deployment = Deployment::start(setup).await;
    let mut lead = deployment.participation("l", &["process_lead"]).await;
    let mut resident = deployment.participation("r", &["resident"]).await;
    let watched = resident.watch_processes(WatchProcessesRequest::default()).await;
    let mut watched = watched.expect("a stream").into_inner();
    let draft = lead.start_process(start("Concept", Level::Consult)).await.expect("started");
    let started = lead.start_process(start("Het plein", Level::Consult)).await.expect("started");
    let id = started.into_inner().id;
    lead.publish_process(publish(&id, 1)).await.expect("published");
    let seen = async {
        loop {
            let item = watched.next().await.expect("it goes on").expect("an item").item;
            if let Some(Item::Process(process)) = item {
                assert_ne!(process.id, draft.get_ref().id);
                if process.id == id {
                    return process;
                }
            }
        }
    };
    let process = tokio::time::timeout(SOON, seen).await.expect("it comes");
    assert_eq!(process.status(), ProcessStatus::Published);
}
