//! Who is told of what.

use std::collections::{BTreeMap, BTreeSet};

use samen_proto::requests::catalogue_service_client::CatalogueServiceClient;
use samen_proto::requests::target::Target as To;
use samen_tests::deployment::Setup;

use super::super::in_both_setups;
use super::*;

in_both_setups!(
    reporters_of_all_duplicates_are_each_told_once_how_it_ends,
    whoever_is_killed_before_or_after_telling_each_is_told_once,
    norms_are_told_to_who_leads_and_to_no_reporter,
    who_was_brought_in_from_the_past_is_told_nothing,
);

async fn reporters_of_all_duplicates_are_each_told_once_how_it_ends(setup: Setup) {
    let deployment = Deployment::start(setup).await;
    let main = file(&deployment, "zoe", "Lamp").await;
    let again = file(&deployment, "zoe", "Lamp, nog eens").await;
    let adams = file(&deployment, "adam", "Lantaarn").await;
    let mut handler = deployment.requests("h", &["handler"]).await;
    let phoned = FileRequestRequest {
        channel: Channel::Phone.into(),
        contact_consent: true,
        ..report("Iemand belde over de lamp")
    };
    let phoned = handler.file_request(phoned).await.expect("filed").into_inner();
    let apart = file(&deployment, "adam", "Heel iets anders").await;

    // Two steps from the main one.
    let mut handling = handling(&deployment).await;
    for (id, into) in [(&phoned, &adams), (&adams, &main), (&again, &main)] {
        let merge = MergeRequestRequest {
            request_id: new_id(),
            id: id.id.clone(),
            expected_version: version(&deployment, &id.id).await,
            into_id: into.id.clone(),
        };
        handling.merge_request(merge).await.expect("merged");
    }
    resolve(&deployment, &main.id, "Er zit een nieuwe lamp in").await;
    let told = all_told(&deployment).await;

    let of = |kind: NoticeKind| {
        let notices = told.iter().filter_map(|told| told.notice.as_ref());
        let notices = notices.filter(move |notice| notice.kind() == kind);
        notices.map(|notice| (notice.about.clone(), notice.text.clone())).collect::<Vec<_>>()
    };
    let about = |filed: &FileRequestResponse| format!("request/{}", filed.id);
    let text = "Er zit een nieuwe lamp in".to_owned();
    // Zoë once, though she reported it twice.
    let mut expected = [&main, &adams, &phoned].map(|filed| (about(filed), text.clone())).to_vec();
    expected.sort();
    let mut status = of(NoticeKind::Status);
    status.sort();
    assert_eq!(status, expected);
    let merged: Vec<_> = of(NoticeKind::Merged).into_iter().map(|(about, _)| about).collect();
    // Who phoned is told of each step.
    assert_eq!(merged, [about(&phoned), about(&adams), about(&phoned), about(&again)]);
    let received: BTreeSet<_> = of(NoticeKind::Received).into_iter().map(|(a, _)| a).collect();
    assert!([&main, &again, &adams, &phoned, &apart].iter().all(|f| received.contains(&about(f))));

    let zoes = list(&mut inbox(&deployment, "zoe").await).await;
    let statuses: Vec<_> = zoes.iter().filter(|n| n.kind() == NoticeKind::Status).collect();
    assert_eq!(statuses.len(), 1);
    assert_eq!((&statuses[0].about, &statuses[0].text), (&about(&main), &text));
    // Whom nobody knows reads it by the secret.
    let page = page::get(&deployment, &phoned.secret).await;
    assert!(page.contains("Er zit een nieuwe lamp in"), "{page}");
    let page = page::get(&deployment, &apart.secret).await;
    assert!(!page.contains("Er zit een nieuwe lamp in"), "{page}");
}

async fn whoever_is_killed_before_or_after_telling_each_is_told_once(setup: Setup) {
    let mut deployment = Deployment::start(setup).await;
    let mut filed = BTreeSet::new();
    for round in 0..6 {
        for number in 0..=round * 2 {
            let filing = file(&deployment, "zoe", &format!("{round} {number}")).await;
            filed.insert(format!("request/{}", filing.id));
        }
        // Whatever was told by now.
        deployment.kill();
        deployment.restart().await;
    }
    let told = all_told(&deployment).await;
    let mut times: BTreeMap<_, usize> = BTreeMap::new();
    let mut order = Vec::new();
    for OutgoingNotice { notice, position, .. } in told {
        *times.entry(notice.expect("a notice").about).or_default() += 1;
        order.push(position.expect("a position").position);
    }
    assert!(order.is_sorted(), "{order:?}");
    for about in &filed {
        assert_eq!(times.get(about), Some(&1), "{about}");
    }
    assert_eq!(list(&mut inbox(&deployment, "zoe").await).await.len(), filed.len());
    // It shows how far it is.
    let mut operations = deployment.operations("service-requests").await;
    eventually(SOON, "it is where the log is", async || {
        let ask = samen_proto::operations::GetStatusRequest {};
        let status = operations.get_status(ask).await.expect("a status").into_inner();
        let task = status.tasks.iter().find(|task| task.name == "notices")?.clone();
        (task.progress.first()?.position == status.head).then_some(())
    })
    .await;
}

async fn norms_are_told_to_who_leads_and_to_no_reporter(setup: Setup) {
    let mut deployment = Deployment::start(setup).await;
    let (lead, head) = (deployment.pseudonym("lead"), deployment.pseudonym("head"));
    let department = Department {
        code: "beheer".into(),
        name: "Beheer".into(),
        heads: vec![head],
        ..Default::default()
    };
    let team = Team {
        code: "licht".into(),
        department: "beheer".into(),
        name: "Licht".into(),
        leads: vec![lead],
        ..Default::default()
    };
    let mut catalogue =
        CatalogueServiceClient::new(deployment.at_requests("a", &["administrator"]).await);
    let organisation = DefineOrganisationRequest {
        request_id: new_id(),
        organisation: Some(Organisation { departments: vec![department], teams: vec![team] }),
        ..Default::default()
    };
    catalogue.define_organisation(organisation).await.expect("defined");
    let category = Category {
        code: "licht/lamp".into(),
        name: Some(LocalText { nl: "Lamp".into(), en: "Lamp".into() }),
        department: "beheer".into(),
        ..Default::default()
    };
    let category = Some(category);
    let define = DefineCategoryRequest { request_id: new_id(), category, ..Default::default() };
    catalogue.define_category(define).await.expect("defined");

    let mut zoe = deployment.requests("zoe", &["resident"]).await;
    let command = FileRequestRequest { category: "licht/lamp".into(), ..report("Lamp") };
    let filed = zoe.file_request(command).await.expect("filed").into_inner();
    let route = RouteRequestRequest {
        request_id: new_id(),
        id: filed.id.clone(),
        expected_version: version(&deployment, &filed.id).await,
        target: Some(Target { target: Some(To::Team("licht".into())) }),
    };
    handling(&deployment).await.route_request(route).await.expect("routed");
    for role in [EscalationRole::TeamLead, EscalationRole::DepartmentHead] {
        let breached =
            NormBreached { id: filed.id.clone(), escalated_to: role.into(), ..Default::default() };
        happens(&mut deployment, &filed.id, &Reconciled::from(breached)).await;
    }
    for who in ["lead", "head"] {
        let at = deployment.at_requests(who, &["handler"]).await;
        let told = listed(&mut Inbox::new(at), 1).await;
        assert_eq!(told.len(), 1, "{who}");
        assert_eq!(told[0].kind(), NoticeKind::Escalation);
        assert_eq!(told[0].about, format!("request/{}", filed.id));
    }
    let mut told = all_told(&deployment).await;
    told.retain(|told| told.notice.as_ref().is_some_and(|n| n.kind() == NoticeKind::Escalation));
    assert_eq!(told.len(), 2);
    assert!(told.iter().all(|told| told.email.is_empty()), "staff is no reporter");
    let zoes = list(&mut inbox(&deployment, "zoe").await).await;
    assert!(zoes.iter().all(|notice| notice.kind() == NoticeKind::Received), "{zoes:?}");
}

async fn who_was_brought_in_from_the_past_is_told_nothing(setup: Setup) {
    let deployment = Deployment::start(setup).await;
    let mut importer = deployment.requests("i", &["importer"]).await;
    let mut imported = Vec::new();
    for number in ["1", "2"] {
        let import = ImportRequestRequest {
            request_id: new_id(),
            source: "oud".into(),
            source_number: number.into(),
            category: "Lamp".into(),
            channel: Channel::Web.into(),
            create_time: Some(prost_types::Timestamp { seconds: 1_700_000_000, nanos: 0 }),
            ..Default::default()
        };
        imported.push(importer.import_request(import).await.expect("imported").into_inner());
    }
    resolve(&deployment, &imported[0].id, "Gemaakt").await;
    assert_eq!(all_told(&deployment).await.len(), 1, "who comes last");
    assert!(list(&mut inbox(&deployment, "i").await).await.is_empty());
}
