//! What is gone, is gone with the partners too: they are told, once, and get
//! nothing of it any more. And a feed goes on when a log was restored.

use std::collections::BTreeSet;
use std::sync::Arc;

use futures::StreamExt;
use prost::Name;
use samen_log::Record;
use samen_log::db::Durability;
use samen_log::on_db;
use samen_proto::privacy::ForgetPersonRequest;
use samen_proto::regional::subscribe_erasures_response::Item as Sent;
use samen_proto::regional::subscribe_response::Item;
use samen_proto::regional::*;
use samen_proto::requests::RequestFiled;
use samen_tests::deployment::{Deployment, Partner, Setup};
use samen_tests::place::location_of;
use samen_tests::{Process, eventually};
use sqlx::Row;
use tokio::time::timeout;
use tonic::Code;

use super::feed::read;
use super::forgetting::records;
use super::in_both_setups;
use super::participation::published;
use super::shared::{SOON, agree, new_id, report};

const FILED: &str = "samen.requests.v1.RequestFiled";
const PUBLISHED: &str = "samen.participation.v1.ProcessPublished";
const OIN: &str = "00000001001566575001";

in_both_setups!(
    who_received_it_is_told_and_nobody_else,
    a_live_feed_gives_nothing_that_was_erased_before_it_came_there,
    whatever_is_killed_an_erasure_is_told_once,
    a_partner_in_another_language_deletes_what_it_kept,
    when_a_source_was_restored_its_lost_events_are_withdrawn,
    when_the_feed_was_restored_who_goes_on_from_what_was_lost_is_told,
);

/// A partner's erasures after a number, until it is caught up, and at least to
/// `until`.
async fn erasures(
    deployment: &Deployment,
    partner: &Partner,
    (after, epoch): (u64, u64),
    until: u64,
) -> Vec<SubscribeErasuresResponse> {
    let reading = async {
        let mut door = deployment.feed(partner, true);
        let ask = SubscribeErasuresRequest { after, epoch };
        let mut items = door.subscribe_erasures(ask).await.expect("erasures").into_inner();
        let mut got = Vec::new();
        let mut caught_up = false;
        while !caught_up || after + (got.len() as u64) < until {
            let item = items.next().await.expect("it goes on").expect("an item");
            match &item.item {
                Some(Sent::CaughtUp(_)) => caught_up = true,
                Some(Sent::Heartbeat(_)) | None => {}
                Some(Sent::Erasure(_)) => got.push(item),
            }
        }
        got
    };
    timeout(SOON, reading).await.expect("what there is")
}

fn erasure(sent: &SubscribeErasuresResponse) -> &PartnerErasure {
    match &sent.item {
        Some(Sent::Erasure(erasure)) => erasure,
        other => panic!("{other:?}"),
    }
}

/// What a feed holds at each position: the event's subject, or nothing.
fn subjects(items: &[SubscribeResponse]) -> Vec<Option<String>> {
    let of = |item: &SubscribeResponse| match &item.item {
        Some(Item::Event(event)) => Some(super::feed::subject_of(event)),
        Some(Item::Tombstone(_)) => None,
        other => panic!("{other:?}"),
    };
    items.iter().map(of).collect()
}

async fn file(deployment: &Deployment, who: &str) -> String {
    let mut resident = deployment.requests(who, &["resident"]).await;
    resident.file_request(report(who)).await.expect("filed").into_inner().id
}

async fn forget(deployment: &Deployment, who: &str) {
    let mut privacy = deployment.requests_privacy(who, &["resident"]).await;
    let forget = ForgetPersonRequest { request_id: new_id(), ..Default::default() };
    privacy.forget_person(forget).await.expect("forgotten");
}

async fn end(deployment: &Deployment, agreement: &str) {
    let end = EndAgreementRequest {
        request_id: new_id(),
        id: agreement.to_owned(),
        reason: "niet meer nodig".into(),
    };
    deployment.regional("m").await.end_agreement(end).await.expect("ended");
}

/// All erasures, or those that were not confirmed.
async fn listed(deployment: &Deployment, partner: &str, only_unconfirmed: bool) -> Vec<Erasure> {
    let ask = ListErasuresRequest {
        partner: partner.to_owned(),
        only_unconfirmed,
        ..ListErasuresRequest::default()
    };
    let mut regional = deployment.regional("m").await;
    regional.list_erasures(ask).await.expect("a list").into_inner().erasures
}

async fn who_received_it_is_told_and_nobody_else(setup: Setup) {
    let mut deployment = Deployment::start(setup).await;
    let partner = deployment.partner("GM0437", OIN).await;
    let late = deployment.partner("GM0451", "00000001001566575002").await;
    let agreement = agree(&deployment, &partner, &[FILED]).await;
    let others = agree(&deployment, &late, &[FILED]).await;
    file(&deployment, "zoe").await;
    let kept = file(&deployment, "ann").await;
    file(&deployment, "zoe").await;
    let before = read(&deployment, &partner, &agreement, 0, 3).await;
    assert!(subjects(&before).iter().all(Option::is_some));
    end(&deployment, &agreement).await;

    // Its agreement has ended: what it was sent it still has.
    forget(&deployment, "zoe").await;
    let told = erasures(&deployment, &partner, (0, 0), 2).await;
    assert_eq!(told.iter().map(|sent| sent.number).collect::<Vec<_>>(), [1, 2]);
    let mut positions: Vec<u64> = Vec::new();
    for sent in &told {
        let erasure = erasure(sent);
        assert_eq!(erasure.agreement_id, agreement);
        assert_eq!(erasure.reason(), ErasureReason::Request);
        positions.extend(&erasure.positions);
    }
    positions.sort_unstable();
    assert_eq!(positions, [1, 3]);

    // The other one gets places with nothing in them, and has nothing to
    // delete: not now, and not when it is looked at again.
    let got = read(&deployment, &late, &others, 0, 3).await;
    assert_eq!(subjects(&got), [None, Some(kept), None]);
    deployment.stop().await;
    deployment.restart().await;
    forget(&deployment, "ann").await;
    let told = erasures(&deployment, &late, (0, 0), 1).await;
    assert_eq!(told.len(), 1);
    assert_eq!(erasure(&told[0]).positions, [2]);
    let again = read(&deployment, &late, &others, 0, 3).await;
    assert_eq!(subjects(&again), [None, None, None]);

    // Only what was sent can be confirmed, by whom it was sent to.
    let confirm = |epoch, number| ConfirmErasureRequest { epoch, number };
    let mut door = deployment.feed(&partner, true);
    let third = erasures(&deployment, &partner, (2, 1), 3).await;
    assert_eq!(erasure(&third[0]).positions, [2]);
    assert_eq!(listed(&deployment, "GM0437", true).await.len(), 3);
    for (epoch, number) in [(1, 4), (2, 1), (1, 0)] {
        let refusal = door.confirm_erasure(confirm(epoch, number)).await.expect_err("unknown");
        assert_eq!(refusal.code(), Code::NotFound, "{epoch} {number}");
    }
    for _ in 0..2 {
        door.confirm_erasure(confirm(1, 2)).await.expect("confirmed");
    }
    let open = eventually(SOON, "it is confirmed", async || {
        let open = listed(&deployment, "GM0437", true).await;
        (open.len() == 2).then_some(open)
    });
    assert_eq!(open.await.iter().map(|erasure| erasure.number).collect::<Vec<_>>(), [3, 1]);
    let all = listed(&deployment, "", false).await;
    assert_eq!(all.len(), 4);
    for erasure in all {
        assert_eq!(erasure.places, 1);
        assert!(erasure.due_time.is_some() && erasure.send_time.is_some(), "{erasure:?}");
        let confirmed = (erasure.partner.as_str(), erasure.number) == ("GM0437", 2);
        assert_eq!(erasure.confirm_time.is_some(), confirmed, "{erasure:?}");
    }

    // One can go on from what one has, and from nothing else.
    for (after, epoch) in [(4, 1), (3, 2), (3, 0)] {
        let ask = SubscribeErasuresRequest { after, epoch };
        let refusal = door.subscribe_erasures(ask).await.expect_err("refused");
        assert_eq!(refusal.code(), Code::FailedPrecondition, "{after} {epoch}");
    }
    let stranger = deployment.partner("IMPOSTOR", OIN).await;
    let ask = SubscribeErasuresRequest::default();
    let refusal = deployment.feed(&stranger, true).subscribe_erasures(ask).await;
    assert_eq!(refusal.expect_err("unknown").code(), Code::Unauthenticated);
}

async fn a_live_feed_gives_nothing_that_was_erased_before_it_came_there(setup: Setup) {
    let deployment = Deployment::start(setup).await;
    let partner = deployment.partner("GM0437", OIN).await;
    let agreement = agree(&deployment, &partner, &[FILED]).await;
    let mut live = deployment.feed(&partner, true);
    let ask = SubscribeRequest { agreement_id: agreement.clone(), after: 0, epoch: 0 };
    let mut live = live.subscribe(ask).await.expect("a feed").into_inner();
    let mut told = deployment.feed(&partner, true);
    let told = told.subscribe_erasures(SubscribeErasuresRequest::default()).await;
    let mut told = told.expect("erasures").into_inner();

    // Whatever wins: an event that went out is told of, and one that did not
    // is not.
    let mut sent = BTreeSet::new();
    for round in 1..=10 {
        let who = format!("resident {round}");
        file(&deployment, &who).await;
        forget(&deployment, &who).await;
        file(&deployment, "ann").await;
        let reading = async {
            loop {
                let item = live.next().await.expect("it goes on").expect("an item");
                let stands = matches!(item.item, Some(Item::Event(_)));
                if stands && item.position % 2 == 1 {
                    sent.insert(item.position);
                }
                if item.position == round * 2 && stands {
                    break;
                }
            }
        };
        timeout(SOON, reading).await.expect("the feed goes on");
    }
    let mut erased = BTreeSet::new();
    let reading = async {
        while !sent.is_subset(&erased) {
            let item = told.next().await.expect("it goes on").expect("an item");
            if let Some(Sent::Erasure(erasure)) = item.item {
                let new: BTreeSet<u64> = erasure.positions.into_iter().collect();
                assert!(erased.is_disjoint(&new), "{new:?} was told before");
                erased.extend(new);
            }
        }
    };
    timeout(SOON, reading).await.expect("it is told what to delete");
    // Beyond that there may be what was recorded as sent, and did not leave.
    assert!(erased.iter().all(|position| position % 2 == 1), "{erased:?}");

    let replayed = read(&deployment, &partner, &agreement, 0, 20).await;
    for (position, subject) in (1..).zip(subjects(&replayed)) {
        assert_eq!(subject.is_some(), position % 2 == 0, "{position}");
    }
}

async fn whatever_is_killed_an_erasure_is_told_once(setup: Setup) {
    let mut deployment = Deployment::start(setup).await;
    let partner = deployment.partner("GM0437", OIN).await;
    let agreement = agree(&deployment, &partner, &[FILED]).await;
    for round in 1..=6u64 {
        let who = format!("resident {round}");
        file(&deployment, &who).await;
        read(&deployment, &partner, &agreement, round - 1, round).await;
        let mut privacy = deployment.requests_privacy(&who, &["resident"]).await;
        let forget = ForgetPersonRequest { request_id: new_id(), ..Default::default() };
        let asked = tokio::spawn({
            let forget = forget.clone();
            async move { privacy.forget_person(forget).await }
        });
        // At one moment or another of what follows.
        match round % 3 {
            0 => drop(asked.await),
            1 => {
                let forgotten = asked.await.expect("no panic").expect("forgotten");
                eventually(SOON, "regional hears of it", async || {
                    let position = forgotten.get_ref().position.clone()?.position;
                    let status = deployment.operate(&["status"]).await;
                    status.contains(&position.to_string()).then_some(())
                })
                .await;
            }
            _ => tokio::task::yield_now().await,
        }
        deployment.kill();
        deployment.restart().await;
        let mut privacy = deployment.requests_privacy(&who, &["resident"]).await;
        privacy.forget_person(forget).await.expect("forgotten, then or now");
    }
    let told = erasures(&deployment, &partner, (0, 0), 6).await;
    deployment.stop().await;
    deployment.restart().await;
    // Another erasure after the last: nothing came in between.
    file(&deployment, "ann").await;
    read(&deployment, &partner, &agreement, 6, 7).await;
    forget(&deployment, "ann").await;
    let last = erasures(&deployment, &partner, (6, 1), 7).await;
    let all: Vec<u64> = told.iter().chain(&last).map(|sent| sent.number).collect();
    assert_eq!(all, [1, 2, 3, 4, 5, 6, 7]);
    let places: Vec<u64> =
        told.iter().chain(&last).flat_map(|sent| erasure(sent).positions.clone()).collect();
    assert_eq!(places, [1, 2, 3, 4, 5, 6, 7]);
}

async fn a_partner_in_another_language_deletes_what_it_kept(setup: Setup) {
    let deployment = Deployment::start(setup).await;
    let partner = deployment.partner("GM0437", OIN).await;
    let agreement = agree(&deployment, &partner, &[FILED]).await;
    for who in ["zoe", "ann", "bas"] {
        file(&deployment, who).await;
    }
    let kept = deployment.path("kept");
    let consume = |what: &[&str], checkpoint: &str, until: u64| {
        let mut python = samen_tests::servers::python();
        python
            .arg(samen_tests::servers::script("partner.py"))
            .args(["--address", &deployment.partners_address(), "--keep", &kept])
            .args(["--checkpoint", &deployment.path(checkpoint), "--until", &until.to_string()])
            .args(what)
            .arg("--root")
            .arg(&partner.root)
            .arg("--certificate")
            .arg(&partner.certificate)
            .arg("--key")
            .arg(&partner.key);
        Process::start(python)
    };
    let mut feed = consume(&["--agreement", &agreement], "place", 3);
    assert!(feed.ended(SOON).await.success(), "{}", feed.output());
    let files = || -> BTreeSet<String> {
        let folder = std::fs::read_dir(format!("{kept}/{agreement}")).expect("a folder");
        folder.flatten().map(|file| file.file_name().into_string().expect("text")).collect()
    };
    assert_eq!(files(), BTreeSet::from(["1", "2", "3"].map(str::to_owned)));

    forget(&deployment, "ann").await;
    let mut deletes = consume(&["--erasures"], "number", 1);
    assert!(deletes.ended(SOON).await.success(), "{}", deletes.output());
    assert_eq!(deletes.lines(), [format!("1 {agreement} 2 ERASURE_REASON_REQUEST")]);
    assert_eq!(files(), BTreeSet::from(["1", "3"].map(str::to_owned)));
    eventually(SOON, "it has confirmed", async || {
        listed(&deployment, "GM0437", true).await.is_empty().then_some(())
    })
    .await;
    // It goes on where it stopped.
    forget(&deployment, "zoe").await;
    let mut deletes = consume(&["--erasures"], "number", 2);
    assert!(deletes.ended(SOON).await.success(), "{}", deletes.output());
    assert_eq!(files(), BTreeSet::from(["3".to_owned()]));
}

/// Puts a service's log back to where it was at this position, in a new epoch:
/// what restoring a backup does. Only while nothing runs.
async fn put_back(deployment: &Deployment, service: &str, position: u64) {
    let location = location_of(&deployment.log_place(service)).await;
    let schema = location.open("log", "", Durability::Full).await.expect("the log");
    let head = "UPDATE {s}.head SET epoch = epoch + 1, position = $1,
        hash = (SELECT hash FROM {s}.record WHERE position = $1),
        recorded_at = (SELECT recorded_at FROM {s}.record WHERE position = $1)";
    on_db!(&schema.db, pool => {
        for sql in [
            "DELETE FROM {s}.record WHERE position > $1",
            "DELETE FROM {s}.command WHERE last_position > $1",
            head,
        ] {
            let done = sqlx::query(schema.sql(sql)).bind(position as i64).execute(pool).await;
            assert!(done.expect("done").rows_affected() > 0, "{sql}");
        }
        pool.close().await;
    });
}

/// The newest position of a service's log. Only while nothing runs.
async fn newest(deployment: &Deployment, service: &str) -> u64 {
    let location = location_of(&deployment.log_place(service)).await;
    let schema = location.open_to_read("log").await.expect("the log").expect("it is there");
    on_db!(&schema.db, pool => {
        let sql = schema.sql("SELECT position FROM {s}.head");
        let row = sqlx::query(sql).fetch_one(pool).await.expect("a head");
        let position = row.get::<i64, _>(0) as u64;
        pool.close().await;
        position
    })
}

async fn when_a_source_was_restored_its_lost_events_are_withdrawn(setup: Setup) {
    let mut deployment = Deployment::start(setup).await;
    let partner = deployment.partner("GM0437", OIN).await;
    let former = deployment.partner("GM0451", "00000001001566575002").await;
    let agreement = agree(&deployment, &partner, &[FILED, PUBLISHED]).await;
    let ended = agree(&deployment, &former, &[FILED]).await;
    let mut filed = Vec::new();
    for who in ["a", "b", "c", "d"] {
        filed.push(file(&deployment, who).await);
    }
    read(&deployment, &partner, &agreement, 0, 4).await;
    deployment.stop().await;
    let backup = newest(&deployment, "requests").await;
    deployment.restart().await;
    for who in ["e", "f", "g"] {
        file(&deployment, who).await;
    }
    let sent = read(&deployment, &partner, &agreement, 4, 7).await;
    assert_eq!(sent.len(), 3);
    read(&deployment, &former, &ended, 0, 6).await;
    end(&deployment, &ended).await;
    deployment.stop().await;
    put_back(&deployment, "requests", backup).await;
    deployment.restart().await;

    // Nothing was filed yet, and other sources go on behind the empty places.
    let process = published(&mut deployment.participation("l", &["process_lead"]).await).await;
    let got = read(&deployment, &partner, &agreement, 7, 8).await;
    assert_eq!(subjects(&got), [Some(process.clone())]);
    let after = [file(&deployment, "h").await, file(&deployment, "i").await];
    let got = read(&deployment, &partner, &agreement, 8, 10).await;
    assert_eq!(subjects(&got), after.clone().map(Some));
    let all = read(&deployment, &partner, &agreement, 0, 10).await;
    let mut expected: Vec<_> = filed.iter().cloned().map(Some).collect();
    expected.extend([None, None, None, Some(process)]);
    expected.extend(after.map(Some));
    assert_eq!(subjects(&all), expected);

    let told = erasures(&deployment, &partner, (0, 0), 1).await;
    assert_eq!(erasure(&told[0]).positions, [5, 6, 7]);
    assert_eq!(erasure(&told[0]).reason(), ErasureReason::Withdrawn);
    let told = erasures(&deployment, &former, (0, 0), 1).await;
    let lost: Vec<u64> = (5..=7).collect();
    assert!(lost.starts_with(&erasure(&told[0]).positions), "{told:?}");
    assert!(erasure(&told[0]).positions.len() >= 2, "{told:?}");
    // Operators are told of it too. Nothing fails, although the store of
    // before is still there.
    eventually(SOON, "status says so, and that all is well", async || {
        let (status, output) = deployment.try_operate(&["status"]).await;
        let said = output.contains("gm0384.requests was restored from a backup");
        (status.success() && said).then_some(())
    })
    .await;

    // Once more: what was withdrawn stays so, and is not told again.
    deployment.stop().await;
    let records = records(&deployment, "requests").await;
    let filed = |record: &&Arc<Record>| record.r#type == RequestFiled::full_name();
    let backup = records.iter().rfind(filed).expect("the last one").position - 1;
    put_back(&deployment, "requests", backup).await;
    deployment.restart().await;
    let last = file(&deployment, "j").await;
    read(&deployment, &partner, &agreement, 0, 11).await;
    let all = read(&deployment, &partner, &agreement, 0, 11).await;
    expected[9] = None;
    expected.push(Some(last));
    assert_eq!(subjects(&all), expected);
    let told = erasures(&deployment, &partner, (1, 1), 2).await;
    assert_eq!(erasure(&told[0]).positions, [10]);
}

async fn when_the_feed_was_restored_who_goes_on_from_what_was_lost_is_told(setup: Setup) {
    let mut deployment = Deployment::start(setup).await;
    let partner = deployment.partner("GM0437", OIN).await;
    let agreement = agree(&deployment, &partner, &[FILED]).await;
    for who in ["a", "b"] {
        file(&deployment, who).await;
    }
    let before = read(&deployment, &partner, &agreement, 0, 2).await;
    deployment.stop().await;
    let backup = newest(&deployment, "regional").await;
    deployment.restart().await;
    for who in ["c", "d"] {
        file(&deployment, who).await;
    }
    let lost = read(&deployment, &partner, &agreement, 2, 4).await;
    deployment.stop().await;
    put_back(&deployment, "regional", backup).await;
    deployment.restart().await;

    // The same places are given again, in another epoch.
    let got = read(&deployment, &partner, &agreement, 2, 4).await;
    assert_eq!(subjects(&got), subjects(&lost));
    assert!(got.iter().all(|item| item.epoch == 2), "{got:?}");
    let all = read(&deployment, &partner, &agreement, 0, 4).await;
    assert_eq!(all[..2], before);
    let mut door = deployment.feed(&partner, true);
    let ask = SubscribeRequest { agreement_id: agreement, after: 4, epoch: 1 };
    let refusal = door.subscribe(ask.clone()).await.expect_err("it was lost");
    assert_eq!(refusal.code(), Code::FailedPrecondition);
    door.subscribe(SubscribeRequest { epoch: 2, ..ask }).await.expect("it goes on");
}
