//! Whatever step a crash interrupts, it is completed, once.

use std::time::Duration;

use prost::Message;
use rand::RngExt;
use samen_log::{Append, Keyring, MasterKey, NewEvent, destroyed};
use samen_proto::privacy::{
    ErasureReason, ErasuresCompleted, ForgetPersonRequest, PersonForgotten, RedactTextRequest,
    TextRedacted,
};
use samen_tests::deployment::{Deployment, Setup};

use super::super::in_both_setups;
use super::super::shared::new_id;
use super::*;

in_both_setups!(
    what_a_crash_left_after_any_step_is_completed_before_it_answers,
    killed_at_any_moment_it_is_done_once_by_those_that_come_after,
);

/// The steps of the eraser, done by hand as far as a crash let it come.
#[derive(Clone, Copy, Debug, PartialEq, PartialOrd)]
enum CrashedWhen {
    Asked,
    Listed,
    Destroyed,
    HalfTold,
}

/// Where the list of destroyed keys is.
pub fn list(deployment: &Deployment) -> PathBuf {
    let file = match deployment.setup {
        Setup::AllInOne => "data/keys/destroyed",
        Setup::Separate => "destroyed",
    };
    deployment.path(file).into()
}

async fn what_a_crash_left_after_any_step_is_completed_before_it_answers(setup: Setup) {
    use CrashedWhen::*;
    let mut deployment = Deployment::start(setup).await;
    let mut told_once = Vec::new();
    for crashed in [Asked, Listed, Destroyed, HalfTold] {
        let name = format!("{crashed:?}");
        let mut resident = deployment.requests(&name, &["resident"]).await;
        let mut ids = Vec::new();
        for text in ["Een", "Twee"] {
            let filed = resident.file_request(report_by("Iemand", text)).await.expect("filed");
            ids.push(filed.into_inner().id);
        }
        // Filed after it was looked at whether something must be kept, and
        // before it was recorded that she asked.
        let up_to = resident.file_request(report_by("Iemand", "Bijna")).await.expect("filed");
        let up_to = up_to.into_inner();
        ids.push(up_to.id.clone());
        let up_to = up_to.number;
        let since = resident.file_request(report_by("Iemand", "Sinds")).await.expect("filed");
        deployment.stop().await;

        let (log, stop) = log(&deployment, "requests").await;
        let person = crate::log::shared::read_all(&log)
            .await
            .iter()
            .find(|record| record.stream.ends_with(&ids[0]))
            .expect("it was filed")
            .actor
            .clone();
        let forgotten = PersonForgotten {
            person: person.clone(),
            reason: ErasureReason::Request.into(),
            up_to,
        };
        let intent = append(&log, &format!("person/{person}"), &forgotten, None).await;
        let keys: Vec<String> = ids
            .iter()
            .flat_map(|id| [format!("text/{id}"), format!("reporter/{id}")])
            .chain([format!("person/{person}")])
            .collect();
        if crashed >= Listed {
            let keys = keys.iter().map(|key| (key.as_str(), "request"));
            destroyed::append(&list(&deployment), REQUESTS, keys).expect("written");
        }
        if crashed >= Destroyed {
            let master = MasterKey::load(Path::new(&deployment.master_key())).expect("its key");
            let keyring = Keyring::new(log.schema().clone(), &master, REQUESTS);
            keyring.destroy(keys.iter().map(String::as_str)).await.expect("destroyed");
        }
        if crashed >= HalfTold {
            let stream = format!("request/{}", ids[0]);
            let key_ids = keys[..2].to_vec();
            let erased =
                ContentErased { stream: stream.clone(), key_ids, reason: forgotten.reason };
            let id = format!("erase {REQUESTS} 1 {intent} {stream}");
            append(&log, &format!("erasure/{stream}"), &erased, Some(id)).await;
        }
        stop.cancel();
        drop(log);

        deployment.restart().await;
        let mut handler = deployment.requests("h", &["handler"]).await;
        for id in &ids {
            assert_eq!(reveal(&mut handler, id).await, NOTHING, "{crashed:?}");
            told_once.push(format!("request/{id}"));
        }
        assert_eq!(reveal(&mut handler, &since.get_ref().id).await, is("Sinds", "Iemand"));
        told_once.push(format!("person/{person}"));
    }
    deployment.stop().await;
    let listed = std::fs::read_to_string(list(&deployment)).expect("the list");
    let records = records(&deployment, "requests").await;
    let told = told(&records);
    for stream in &told_once {
        assert_eq!(told.get(stream), Some(&1), "{stream}");
    }
    assert_eq!(told.len(), told_once.len());
    // They were asked for, not revived by an old backup.
    for record in records.iter().filter(|r| r.r#type == ContentErased::full_name()) {
        let erased = ContentErased::decode(record.data.as_slice()).expect("an event");
        assert_eq!(erased.reason(), ErasureReason::Request, "{erased:?}");
        for key in erased.key_ids {
            assert!(listed.contains(&format!("{REQUESTS} {key} ")), "{key} is not listed");
        }
    }
    let kind = ErasuresCompleted::full_name();
    assert_eq!(records.iter().filter(|record| record.r#type == kind).count(), 4);
}

async fn append<M: Message + Name>(
    log: &Log,
    stream: &str,
    event: &M,
    command: Option<String>,
) -> u64 {
    let command =
        command.map(|id| samen_log::CommandId { id, fingerprint: Vec::new(), key_id: None });
    let events = vec![NewEvent {
        stream: stream.to_owned(),
        kind: M::full_name(),
        data: event.encode_to_vec(),
    }];
    let append = Append { actor: "somebody".to_owned(), command, events, ..Append::default() };
    log.append(append).await.expect("appended").last
}

async fn killed_at_any_moment_it_is_done_once_by_those_that_come_after(setup: Setup) {
    const ROUNDS: usize = 8;
    let mut deployment = Deployment::start(setup).await;
    let mut ids = Vec::new();
    for round in 0..ROUNDS {
        let name = format!("resident {round}");
        let mut resident = deployment.requests(&name, &["resident"]).await;
        let mut handler = deployment.requests("handler", &["handler"]).await;
        let own = resident.file_request(report_by("Iemand", "Iets")).await.expect("filed");
        let own = own.into_inner().id;
        let phoned = handler.file_request(phoned("Beller", "Gebeld")).await.expect("filed");
        let phoned = phoned.into_inner().id;

        let forget = ForgetPersonRequest { request_id: new_id(), ..Default::default() };
        let stream = format!("request/{phoned}");
        let redact = RedactTextRequest { request_id: new_id(), stream, ..Default::default() };
        let mut mine = deployment.requests_privacy(&name, &["resident"]).await;
        let mut officer = deployment.requests_privacy("officer", OFFICER).await;
        let asking = tokio::spawn({
            let (mut mine, mut officer) = (mine.clone(), officer.clone());
            let (forget, redact) = (forget.clone(), redact.clone());
            async move { tokio::join!(mine.forget_person(forget), officer.redact_text(redact)) }
        });
        // Nothing to wait for: any moment will do, and each round has another.
        let moment = rand::rng().random_range(0..40_000);
        tokio::time::sleep(Duration::from_micros(moment)).await;
        deployment.kill();
        let _ = asking.await;
        deployment.restart().await;
        // Asked again, whether it had been recorded or not.
        let done = mine.forget_person(forget.clone()).await.expect("done").into_inner();
        assert_eq!(done.keys, 2);
        assert_eq!(mine.forget_person(forget).await.expect("the same").into_inner(), done);
        let done = officer.redact_text(redact).await.expect("done").into_inner();
        assert_eq!(done.keys, 2);
        let mut handler = deployment.requests("handler", &["handler"]).await;
        for id in [own, phoned] {
            assert_eq!(reveal(&mut handler, &id).await, NOTHING, "round {round}, {moment} µs");
            ids.push(id);
        }
    }
    deployment.stop().await;
    let records = records(&deployment, "requests").await;
    let told = told(&records);
    for id in &ids {
        assert_eq!(told.get(&format!("request/{id}")), Some(&1), "{id}");
    }
    for (kind, count) in [
        (PersonForgotten::full_name(), ROUNDS),
        (TextRedacted::full_name(), ROUNDS),
        (ErasuresCompleted::full_name(), 2 * ROUNDS),
    ] {
        assert_eq!(records.iter().filter(|record| record.r#type == kind).count(), count, "{kind}");
    }
}
