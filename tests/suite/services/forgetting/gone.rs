//! What is forgotten is found nowhere, and nothing else is touched.

use futures::StreamExt;
use prost::Message;
use samen_proto::privacy::{ForgetPersonRequest, PersonForgotten, RedactTextRequest};
use samen_proto::requests::watch_requests_response::Item;
use samen_proto::requests::*;
use samen_tests::deployment::{Deployment, Setup};

use super::super::in_both_setups;
use super::super::participation::published;
use super::super::shared::{new_id, refused};
use super::*;

in_both_setups!(
    who_is_forgotten_is_gone_and_nobody_else,
    only_keys_of_a_person_are_lost_from_every_file,
    what_staff_wrote_down_goes_by_the_request_and_not_with_the_employee,
    some_texts_of_a_request_go_and_others_stay,
    projections_that_are_rebuilt_show_the_same,
);

async fn who_is_forgotten_is_gone_and_nobody_else(setup: Setup) {
    let mut deployment = Deployment::start(setup).await;
    let mut zoe = deployment.requests("zoe", &["resident"]).await;
    let mut other = deployment.requests("other", &["resident"]).await;
    let mut handler = deployment.requests("h", &["handler"]).await;
    let gone = zoe.file_request(report_by("Zoemarkeert", "Tekstvanzoe")).await.expect("filed");
    let gone = gone.into_inner();
    let kept = other.file_request(report_by("Anders", "Van een ander")).await.expect("filed");
    let kept = kept.into_inner();
    assert_eq!(reveal(&mut handler, &gone.id).await, is("Tekstvanzoe", "Zoemarkeert"));

    let watch = WatchRequestsRequest { filter: None, resume_after: kept.position.clone() };
    let mut watched = handler.watch_requests(watch).await.expect("a stream").into_inner();

    let mut mine = deployment.requests_privacy("zoe", &["resident"]).await;
    let command = ForgetPersonRequest { request_id: new_id(), ..Default::default() };
    let done = mine.forget_person(command.clone()).await.expect("forgotten").into_inner();
    // The text and the reporter.
    assert_eq!(done.keys, 2);
    let again = mine.forget_person(command).await.expect("the same").into_inner();
    assert_eq!(done, again);

    assert_eq!(reveal(&mut handler, &gone.id).await, NOTHING);
    assert_eq!(reveal(&mut handler, &kept.id).await, is("Van een ander", "Anders"));
    // The request is there as before, of the same version.
    let get = GetRequestRequest { id: gone.id.clone(), at_least: done.position.clone() };
    let seen = handler.get_request(get).await.expect("it is there").into_inner();
    assert_eq!(seen.request.expect("a request").version, 1);

    // Whoever watches gets it again.
    let seen = async {
        loop {
            match watched.next().await.expect("goes on").expect("an item").item {
                Some(Item::Request(request)) => break request.id,
                _ => continue,
            }
        }
    };
    assert_eq!(tokio::time::timeout(SOON, seen).await.expect("told"), gone.id);

    // Their details are not taken again; what they say without them is.
    let answer = zoe.file_request(report_by("Zoemarkeert", "Nog iets")).await;
    assert_eq!(answer.expect_err("forgotten").code(), Code::FailedPrecondition);
    let bare = FileRequestRequest { reporter: None, ..report_by("", "Zonder naam") };
    let later = zoe.file_request(bare).await.expect("filed").into_inner();
    let text = Some("Zonder naam".to_owned());
    assert_eq!(reveal(&mut handler, &later.id).await, (text.clone(), None));
    // Who comes back may ask again, and only what is new goes.
    let command = ForgetPersonRequest { request_id: new_id(), ..Default::default() };
    let done = mine.forget_person(command).await.expect("forgotten again").into_inner();
    assert_eq!(done.keys, 1);
    assert_eq!(reveal(&mut handler, &later.id).await, NOTHING);
    assert_eq!(reveal(&mut handler, &kept.id).await, is("Van een ander", "Anders"));

    // A command that came before gives its first answer, whatever its content:
    // that cannot be compared any more.
    deployment.stop().await;
    let records = records(&deployment, "requests").await;
    for record in records.iter().filter(|r| r.r#type == PersonForgotten::full_name()) {
        let forgotten = PersonForgotten::decode(record.data.as_slice()).expect("an event");
        assert_eq!(forgotten.up_to, record.position - 1, "what was looked at, and no more");
    }
    let told = told(&records);
    assert_eq!(told.get(&format!("request/{}", gone.id)), Some(&1), "told once: {told:?}");
    assert_eq!(told.get(&format!("request/{}", later.id)), Some(&1));
    assert_eq!(told.get(&format!("request/{}", kept.id)), None);
}

async fn only_keys_of_a_person_are_lost_from_every_file(setup: Setup) {
    let mut deployment = Deployment::start(setup).await;
    let mut lead = deployment.participation("l", &["process_lead"]).await;
    let process = published(&mut lead).await;
    let mut filed = Vec::new();
    // Others before and after, so that their keys lie around.
    for round in 0..40 {
        for name in ["zoemarkeert", "anders"] {
            let mut resident = deployment.requests(name, &["resident"]).await;
            let command = report_by(name, &format!("tekstvan{name} {round}"));
            let answer = resident.file_request(command).await.expect("filed").into_inner();
            filed.push((name, answer.id));
        }
    }
    let idea = contribute(&deployment, "zoemarkeert", &process, "ideevanzoemarkeert").await;
    let others = contribute(&deployment, "anders", &process, "ideevananders").await;

    let before = keys(&deployment, "requests").await;
    let mine: Vec<_> = filed.iter().filter(|(name, _)| *name == "zoemarkeert").collect();
    let lost: Vec<String> =
        mine.iter().flat_map(|(_, id)| [format!("text/{id}"), format!("reporter/{id}")]).collect();
    let wrapped = |key: &String| before[key].clone().expect("not destroyed yet");
    // Before, the search finds each in the database.
    let all = files(&mut deployment).await;
    assert!(!with_bytes(&all, &wrapped(&lost[0])).is_empty(), "the search finds nothing");
    let ideas = keys(&deployment, "participation").await;
    let idea_key = ideas[&format!("text/{idea}")].clone().expect("not destroyed yet");

    let mut officer = deployment.requests_privacy("officer", OFFICER).await;
    let done = officer.forget_person(forget(&deployment, "zoemarkeert")).await;
    assert_eq!(done.expect("forgotten").into_inner().keys, 80);
    let mut officer = deployment.participation_privacy("officer", OFFICER).await;
    let done = officer.forget_person(forget(&deployment, "zoemarkeert")).await;
    let done = done.expect("forgotten").into_inner();
    let texts = texts(&deployment, &process, done.position).await;
    assert_eq!(texts[&idea], "");
    assert_eq!(texts[&others], "ideevananders");

    // The database has no key of theirs any more, and every other one.
    let after = keys(&deployment, "requests").await;
    for (id, wrapped) in before.iter().filter(|(id, _)| !id.starts_with("person/")) {
        let expected = if lost.contains(id) { &None } else { wrapped };
        assert_eq!(&after[id], expected, "{id}");
    }
    let gone_people = after.iter().filter(|(id, key)| id.starts_with("person/") && key.is_none());
    assert_eq!(gone_people.count(), 1);

    let said: String = deployment.processes.iter().map(|process| process.output()).collect();
    deployment.stop().await;
    let all = files(&mut deployment).await;
    for word in ["zoemarkeert", "zoemarkeert@example.org", "tekstvanzoe", "ideevanzoe"] {
        assert_eq!(with_bytes(&all, word.as_bytes()), Vec::<PathBuf>::new(), "{word}");
        assert!(!said.contains(word), "a process said {word}");
    }
    if setup == Setup::AllInOne {
        // Not one byte of a key is left in a file, nor in what it wrote ahead.
        for key in &lost {
            assert_eq!(with_bytes(&all, &wrapped(key)), Vec::<PathBuf>::new(), "{key}");
        }
        assert_eq!(with_bytes(&all, &idea_key), Vec::<PathBuf>::new());
    }
    records(&deployment, "requests").await;
    records(&deployment, "participation").await;
}

async fn what_staff_wrote_down_goes_by_the_request_and_not_with_the_employee(setup: Setup) {
    let deployment = Deployment::start(setup).await;
    let mut handler = deployment.requests("handler", &["handler"]).await;
    let mut officer = deployment.requests_privacy("officer", OFFICER).await;
    let filed = handler.file_request(phoned("Mevrouw Bel", "Aan de telefoon")).await;
    let filed = filed.expect("filed").into_inner();
    let other = handler.file_request(phoned("Meneer Blijft", "Ook gebeld")).await;
    let other = other.expect("filed").into_inner();

    // Somebody who is both a resident and a handler speaks for themselves by
    // the channels of residents.
    let mut both = deployment.requests("handler", &["resident", "handler"]).await;
    let own = both.file_request(report_by("Handler", "Voor mijn deur")).await.expect("filed");
    let own = own.into_inner();

    // An employee who leaves takes nobody's report along.
    officer.forget_person(forget(&deployment, "handler")).await.expect("forgotten");
    assert_eq!(reveal(&mut handler, &own.id).await, NOTHING);
    assert_eq!(
        both.file_request(report_by("Handler", "Weer")).await.expect_err("forgotten").code(),
        Code::FailedPrecondition
    );
    let desk = phoned("Meneer Later", "Nog steeds in dienst");
    both.file_request(desk).await.expect("what others say is taken");
    assert_eq!(reveal(&mut handler, &filed.id).await, is("Aan de telefoon", "Mevrouw Bel"));

    let stream = format!("request/{}", filed.id);
    let command = RedactTextRequest { request_id: new_id(), stream, ..Default::default() };
    let done = officer.redact_text(command.clone()).await.expect("redacted").into_inner();
    assert_eq!(done.keys, 2);
    assert_eq!(officer.redact_text(command.clone()).await.expect("the same").into_inner(), done);
    assert_eq!(reveal(&mut handler, &filed.id).await, NOTHING);
    assert_eq!(reveal(&mut handler, &other.id).await, is("Ook gebeld", "Meneer Blijft"));

    // There is nothing left; and what never was is not found.
    let again = RedactTextRequest { request_id: new_id(), ..command.clone() };
    let refusal = officer.redact_text(again).await.expect_err("nothing is left");
    assert_eq!(refusal.code(), Code::FailedPrecondition);
    let stream = format!("request/{}", new_id());
    let nowhere = RedactTextRequest { request_id: new_id(), stream, ..Default::default() };
    let refusal = officer.redact_text(nowhere).await.expect_err("there is none");
    assert_eq!(refusal.code(), Code::NotFound);

    // Nobody else does this.
    let mut resident = deployment.requests_privacy("r", &["resident"]).await;
    let command = RedactTextRequest { request_id: new_id(), ..command };
    refused(resident.redact_text(command).await, Code::PermissionDenied, "ROLE_MISSING");
    let answer = resident.forget_person(forget(&deployment, "handler")).await;
    refused(answer, Code::PermissionDenied, "NOT_YOURSELF");
    // An officer who names nobody does not forget themselves.
    let nobody = ForgetPersonRequest { request_id: new_id(), ..Default::default() };
    let fields =
        refused(officer.forget_person(nobody).await, Code::InvalidArgument, "INVALID_FIELD");
    assert_eq!(fields, ["person"]);
}

async fn some_texts_of_a_request_go_and_others_stay(setup: Setup) {
    let deployment = Deployment::start(setup).await;
    let mut zoe = deployment.requests("zoe", &["resident"]).await;
    let mut handler = deployment.requests("h", &["handler"]).await;
    let mut officer = deployment.requests_privacy("officer", OFFICER).await;
    let filed = zoe.file_request(report_by("Zoe", "Kapot")).await.expect("filed").into_inner();
    let resolve = ChangeStatusRequest {
        request_id: new_id(),
        id: filed.id.clone(),
        expected_version: 1,
        status: Status::Resolved.into(),
        explanation: "Gemaakt voor mevrouw".to_owned(),
        ..ChangeStatusRequest::default()
    };
    let resolved = handler.change_status(resolve).await.expect("resolved").into_inner();
    let before = keys(&deployment, "requests").await;

    let stream = format!("request/{}", filed.id);
    let wrong = RedactTextRequest {
        request_id: new_id(),
        stream,
        versions: vec![2, resolved.version + 1],
        ..Default::default()
    };
    let fields =
        refused(officer.redact_text(wrong.clone()).await, Code::InvalidArgument, "INVALID_FIELD");
    assert_eq!(fields, ["versions"]);
    let answer = RedactTextRequest { request_id: new_id(), versions: vec![2], ..wrong };
    let done = officer.redact_text(answer).await.expect("redacted").into_inner();
    assert_eq!(done.keys, 1);
    assert_eq!(reveal(&mut handler, &filed.id).await, is("Kapot", "Zoe"));
    let after = keys(&deployment, "requests").await;
    let lost: Vec<_> = before.keys().filter(|id| before[*id] != after[*id]).collect();
    assert_eq!(lost.len(), 1);
    assert!(lost[0].starts_with("text/") && !lost[0].ends_with(&filed.id), "{lost:?}");
    // The answer's text went; that it was resolved did not, nor its version.
    let get = GetRequestRequest { id: filed.id, at_least: done.position };
    let request = handler.get_request(get).await.expect("there").into_inner().request;
    let request = request.expect("a request");
    assert_eq!((request.status(), request.version), (Status::Resolved, resolved.version));
}

async fn projections_that_are_rebuilt_show_the_same(setup: Setup) {
    let mut deployment = Deployment::start(setup).await;
    let mut lead = deployment.participation("l", &["process_lead"]).await;
    let process = published(&mut lead).await;
    let mut zoe = deployment.requests("zoe", &["resident"]).await;
    let mut other = deployment.requests("other", &["resident"]).await;
    let gone = zoe.file_request(report_by("Zoe", "Weg")).await.expect("filed").into_inner();
    let kept = other.file_request(report_by("Anders", "Blijft")).await.expect("filed").into_inner();
    let idea = contribute(&deployment, "zoe", &process, "Weg").await;
    let others = contribute(&deployment, "other", &process, "Blijft").await;
    for mut officer in [
        deployment.requests_privacy("officer", OFFICER).await,
        deployment.participation_privacy("officer", OFFICER).await,
    ] {
        officer.forget_person(forget(&deployment, "zoe")).await.expect("forgotten");
    }
    let expected = [(gone.id.clone(), true, true), (kept.id.clone(), false, false)];
    let kept_text = "Blijft".to_owned();
    eventually(SOON, "both are projected", async || {
        (rows(&deployment).await == (sorted(&expected), (idea.clone(), others.clone())))
            .then_some(())
    })
    .await;

    deployment.stop().await;
    deployment.forget_projections().await;
    deployment.restart().await;
    let mut handler = deployment.requests("h", &["handler"]).await;
    assert_eq!(rows(&deployment).await, (sorted(&expected), (idea.clone(), others.clone())));
    assert_eq!(reveal(&mut handler, &gone.id).await, NOTHING);
    assert_eq!(reveal(&mut handler, &kept.id).await, is("Blijft", "Anders"));
    let texts = texts(&deployment, &process, None).await;
    assert_eq!((&texts[&idea], &texts[&others]), (&String::new(), &kept_text));
}

fn sorted(rows: &[(String, bool, bool)]) -> Vec<(String, bool, bool)> {
    let mut rows = rows.to_vec();
    rows.sort();
    rows
}

/// What the stores hold sealed: requests with whether description and reporter
/// are empty, and which contribution has no text, and which has one.
async fn rows(deployment: &Deployment) -> (Vec<(String, bool, bool)>, (String, String)) {
    let requests = "SELECT id, length(description) = 0, length(reporter) = 0 FROM {s}.request
                    ORDER BY id";
    let texts = "SELECT id, length(text) = 0 FROM {s}.contribution ORDER BY length(text)";
    let (requests, texts) = (
        select(deployment, "requests", requests).await,
        select(deployment, "participation", texts).await,
    );
    let requests = requests.into_iter().map(|(id, flags)| (id, flags[0], flags[1])).collect();
    let contribution = |empty: bool| {
        let found = texts.iter().find(|(_, flags)| flags[0] == empty);
        found.map(|(id, _)| id.clone()).unwrap_or_default()
    };
    (requests, (contribution(true), contribution(false)))
}

/// An id and truths, from a service's newest projection store.
async fn select(deployment: &Deployment, service: &str, sql: &str) -> Vec<(String, Vec<bool>)> {
    match deployment.database() {
        Some(url) => {
            let mut database = PgConnection::connect(url).await.expect("the database");
            let name: String = sqlx::query_scalar(
                "SELECT nspname::text FROM pg_namespace
                 WHERE nspname LIKE $1 ORDER BY nspname DESC LIMIT 1",
            )
            .bind(format!("{service}\\_projection\\_%"))
            .fetch_one(&mut database)
            .await
            .expect("a store");
            let sql = AssertSqlSafe(sql.replace("{s}", &name));
            let rows = sqlx::query(sql).fetch_all(&mut database).await.expect("rows");
            let truths = |row: &sqlx::postgres::PgRow| (1..row.len()).map(|n| row.get(n)).collect();
            rows.iter().map(|row| (row.get(0), truths(row))).collect()
        }
        None => {
            let folder = deployment.path(&format!("data/{service}"));
            let mut stores: Vec<_> = std::fs::read_dir(folder)
                .expect("its data")
                .flatten()
                .map(|entry| entry.path())
                .filter(|path| {
                    let name = path.file_name().expect("a name").to_string_lossy();
                    name.starts_with("projection_") && name.ends_with(".db")
                })
                .collect();
            stores.sort();
            let file = stores.pop().expect("a store").display().to_string();
            let mut database = SqliteConnection::connect(&file).await.expect("the store");
            let sql = AssertSqlSafe(sql.replace("{s}", "main"));
            let rows = sqlx::query(sql).fetch_all(&mut database).await.expect("rows");
            let truths =
                |row: &sqlx::sqlite::SqliteRow| (1..row.len()).map(|n| row.get(n)).collect();
            rows.iter().map(|row| (row.get(0), truths(row))).collect()
        }
    }
}
