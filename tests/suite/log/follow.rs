//! Following: history, caught up, live; masked, and never from elsewhere.

use futures::StreamExt;
use futures::future::join_all;
use samen_log::{Cursor, Exchanged, Follow, FollowError, Item, Record, on_db};
use samen_tests::{Place, on_both_databases};

use super::shared::{AT_HOME, EXCHANGED, LOG, SOON, fill, follow_to, read_all, verify, write};

on_both_databases!(
    a_follower_sees_history_then_caught_up_once_then_live,
    a_cursor_from_elsewhere_is_refused,
    what_is_not_exchanged_leaves_as_a_placeholder,
    a_log_that_became_shorter_is_not_asked_without_end,
);

async fn a_follower_sees_history_then_caught_up_once_then_live(place: Place) {
    let log = place.log(LOG).await;
    // More than a follower reads at once.
    fill(&log, 1_200).await;
    // Opened anew, so that history is not in memory.
    let log = place.log(LOG).await;
    let mut items = log.follow(Cursor::START);
    let mut seen = Vec::new();
    let mut caught_up = Vec::new();
    let follow = async {
        while seen.len() < 1_300 {
            match items.next().await.expect("a log does not end").expect("no error") {
                Item::Record(record) => seen.push(record),
                Item::CaughtUp(cursor) => {
                    assert_eq!(cursor, Cursor::at(seen.last().expect("history comes first")));
                    caught_up.push(cursor.position);
                    fill(&log, 100).await;
                }
            }
        }
    };
    tokio::time::timeout(SOON, follow).await.expect("all records in time");

    assert_eq!(caught_up, [1_200]);
    assert_eq!(seen, read_all(&log).await);
    // From the middle it is the rest.
    let rest = follow_to(&log, Cursor::at(&seen[699]), 1_300).await;
    assert_eq!(rest, seen[700..]);
}

async fn a_cursor_from_elsewhere_is_refused(place: Place) {
    let log = place.log(LOG).await;
    fill(&log, 10).await;
    let fifth = Cursor::at(&read_all(&log).await[4]);
    let here = log.follow(fifth.clone()).next().await;
    assert!(matches!(here, Some(Ok(Item::Record(record))) if record.position == 6));

    for elsewhere in [
        Cursor { hash: Some(vec![7; 32]), ..fifth.clone() },
        Cursor { epoch: fifth.epoch + 1, ..fifth.clone() },
        Cursor { position: 4, ..fifth.clone() },
        Cursor { position: 11, hash: None, ..fifth.clone() },
        Cursor { position: u64::MAX, hash: None, ..fifth },
    ] {
        let mut items = log.follow(elsewhere.clone());
        let refused = items.next().await;
        assert!(
            matches!(refused, Some(Err(FollowError::NotInHistory { .. }))),
            "{elsewhere:?} gave {refused:?}"
        );
        assert!(items.next().await.is_none(), "after an error a stream ends");
    }
}

async fn what_is_not_exchanged_leaves_as_a_placeholder(place: Place) {
    let log = place.log(LOG).await;
    fill(&log, 30).await;
    let inside = read_all(&log).await;
    let outside = follow_to(&Exchanged(log), Cursor::START, 30).await;

    for (inside, outside) in inside.iter().zip(&outside) {
        match inside.r#type.as_str() {
            EXCHANGED => assert_eq!(outside, inside),
            AT_HOME => {
                let placeholder = Record {
                    log: LOG.to_owned(),
                    epoch: inside.epoch,
                    position: inside.position,
                    hash: inside.hash.clone(),
                    stream: String::new(),
                    version: 0,
                    r#type: String::new(),
                    actor: String::new(),
                    recorded_at: None,
                    data: Vec::new(),
                };
                assert_eq!(**outside, placeholder);
            }
            other => panic!("nobody wrote {other}"),
        }
    }
    assert_eq!(outside.iter().filter(|record| record.r#type.is_empty()).count(), 10);
}

async fn a_log_that_became_shorter_is_not_asked_without_end(place: Place) {
    fill(&place.log(LOG).await, 10).await;
    // Opened anew, so that nothing is in memory but how far it reached.
    let log = place.log(LOG).await;
    let delete = log.schema().sql("DELETE FROM {s}.record WHERE position > 5");
    on_db!(&log.schema().db, pool => {
        sqlx::query(delete).execute(pool).await.expect("deleted");
    });
    let mut items = log.follow(Cursor::START);
    let mut seen = 0;
    let told = async {
        loop {
            match items.next().await.expect("an item") {
                Ok(Item::Record(record)) => seen = record.position,
                Ok(Item::CaughtUp(_)) => panic!("it has not caught up at {seen}"),
                Err(error) => return error,
            }
        }
    };
    let error = tokio::time::timeout(SOON, told).await.expect("it is told");
    assert!(matches!(error, FollowError::Unavailable { .. }), "{error:?}");
    assert_eq!(seen, 5);
}

#[tokio::test(flavor = "multi_thread")]
async fn two_replicas_append_to_one_log_and_each_sees_everything() {
    let place = Place::postgres().await;
    let replicas = [place.log(LOG).await, place.log(LOG).await];
    let followers: Vec<_> = replicas
        .iter()
        .cloned()
        .map(|log| tokio::spawn(async move { follow_to(&log, Cursor::START, 800).await }))
        .collect();
    let tasks = (0..16).map(|task| {
        let log = replicas[task % 2].clone();
        tokio::spawn(async move {
            for number in 0..50 {
                let stream = format!("request/{}", number % 3);
                log.append(write(&stream, format!("{task} {number}"))).await.expect("no conflict");
            }
        })
    });
    for task in join_all(tasks).await {
        task.expect("no panic");
    }

    assert_eq!(verify(&replicas[0]).await, 800);
    let records = read_all(&replicas[0]).await;
    for follower in followers {
        assert_eq!(follower.await.expect("no panic"), records);
    }
}
