//! Whether a log is whole: what was altered, dropped or inserted is named.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use futures::future::join_all;
use proptest::prelude::*;
use proptest::test_runner::{Config, TestRunner};
use prost::{Message, Name};
use samen_log::record::{GENESIS, Record, hash, timestamp};
use samen_log::verify::{Fault, Kind, Verified, VerifyError, verify};
use samen_log::{Append, Checkpoint, Keyring, Log, MasterKey, NewEvent, on_db};
use samen_proto::requests::{Reporter, RequestFiled, Status, StatusChanged, Text};
use samen_tests::{Place, on_both_databases};
use sqlx::Row as _;
use tokio::runtime::Handle;

use super::shared::LOG;

on_both_databases!(
    a_log_that_nobody_touched_passes,
    a_bit_flipped_in_any_column_is_named_at_its_record,
    a_record_that_was_dropped_is_named,
    a_record_that_was_inserted_is_named,
    a_forged_head_is_named,
    sealed_content_without_its_key_is_named_and_a_destroyed_key_is_not,
    what_no_service_would_write_is_named_although_its_hash_holds,
    the_first_of_several_faults_is_named,
    a_history_that_was_rewritten_fails_only_its_checkpoint,
    it_can_begin_in_the_middle,
    it_goes_on_beside_a_log_that_grows,
    any_single_change_is_found,
);

/// Records of most of these logs.
const RECORDS: u64 = 60;
/// More than are read at once, twice.
const MANY: u64 = 4_500;

/// Where a record's position is that tests look at: neither first nor last.
const MIDDLE: i64 = 31;

/// A log with sealed content and streams of several versions.
async fn filled(place: &Place, records: u64) -> Log {
    let log = place.log(LOG).await;
    let keyring = Keyring::new(log.schema().clone(), &MasterKey::generate(false), LOG);
    let person = keyring.of_person("one").await.expect("stored").expect("not destroyed");
    let reporter = person.seal(&Reporter { name: "Zoë".to_owned(), ..Reporter::default() });
    let mut filled = 0;
    while filled < records {
        let some = (records - filled).min(300);
        // Three records for each request, one after the other.
        let appends = (filled..filled + some).filter(|number| number % 3 == 0).map(|number| {
            let id = format!("{number}");
            let (key, new) = keyring.create(&format!("text/{id}"));
            let text = key.seal(&Text { text: "de lantaarn is stuk".to_owned() });
            let filed = RequestFiled {
                id: id.clone(),
                category: "verlichting/lamp".to_owned(),
                description: Some(text),
                reporter: Some(reporter.clone()),
                ..RequestFiled::default()
            };
            let changed = |to: Status| StatusChanged {
                id: id.clone(),
                to: to.into(),
                ..StatusChanged::default()
            };
            let event = |kind, data| NewEvent { stream: format!("request/{id}"), kind, data };
            log.append(Append {
                actor: "person/1".to_owned(),
                events: vec![
                    event(RequestFiled::full_name(), filed.encode_to_vec()),
                    event(StatusChanged::full_name(), changed(Status::InProgress).encode_to_vec()),
                    event(StatusChanged::full_name(), changed(Status::Resolved).encode_to_vec()),
                ],
                keys: vec![new],
                ..Append::default()
            })
        });
        for appended in join_all(appends).await {
            appended.expect("nothing conflicts");
        }
        filled += some;
    }
    assert_eq!(super::shared::verify(&log).await, records);
    log
}

/// As another process would, with nothing but the database.
async fn verify_from(
    place: &Place,
    from: u64,
    checkpoints: &[&Checkpoint],
) -> Result<Verified, VerifyError> {
    let schema = place.location().await.open_to_read("log").await.expect("the database");
    verify(&schema.expect("the log was made"), from, checkpoints, |_| {}).await
}

/// The fault that is named; the log is put back as it was.
async fn fault(place: &Place, log: &Log) -> (i64, Kind) {
    match verify_from(place, 1, &[]).await {
        Err(VerifyError::Fault(Fault { position, kind, .. })) => {
            restore(log).await;
            (position, kind)
        }
        other => panic!("it is not found: {other:?}"),
    }
}

/// Runs statements of ours.
async fn change(log: &Log, sql: &str) {
    on_db!(&log.schema().db, pool => {
        sqlx::raw_sql(log.schema().sql(sql)).execute(pool).await.expect(sql);
    });
}

const TABLES: [&str; 3] = ["head", "record", "sealing_key"];

/// Keeps a copy of the log as it is now.
async fn keep(log: &Log) {
    for table in TABLES {
        change(log, &format!("CREATE TABLE {{s}}.kept_{table} AS SELECT * FROM {{s}}.{table}"))
            .await;
    }
}

/// Puts that back.
async fn restore(log: &Log) {
    for table in TABLES {
        change(
            log,
            &format!(
                "DELETE FROM {{s}}.{table};
                 INSERT INTO {{s}}.{table} SELECT * FROM {{s}}.kept_{table}"
            ),
        )
        .await;
    }
}

/// A row of `record`.
struct Row {
    record: Record,
    recorded_at: i64,
    salt: Vec<u8>,
}

async fn rows(log: &Log) -> Vec<Row> {
    let sql = log.schema().sql(
        "SELECT position, epoch, stream, version, type, actor, recorded_at, data, salt, hash
         FROM {s}.record ORDER BY position",
    );
    on_db!(&log.schema().db, pool => {
        let rows = sqlx::query(sql).fetch_all(pool).await.expect("the records");
        rows.iter().map(|row| Row {
            record: Record {
                log: LOG.to_owned(),
                position: row.get::<i64, _>(0) as u64,
                epoch: row.get::<i64, _>(1) as u64,
                stream: row.get(2),
                version: row.get::<i64, _>(3) as u64,
                r#type: row.get(4),
                actor: row.get(5),
                recorded_at: Some(timestamp(row.get(6))),
                data: row.get(7),
                hash: row.get(9),
            },
            recorded_at: row.get(6),
            salt: row.get(8),
        }).collect()
    })
}

/// Puts these rows in the place of all that there were.
async fn replace(log: &Log, rows: &[Row]) {
    change(log, "DELETE FROM {s}.record").await;
    let sql = "INSERT INTO {s}.record
                   (position, epoch, stream, version, type, actor, recorded_at, data, salt, hash)
               VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10)";
    on_db!(&log.schema().db, pool => {
        for Row { record, recorded_at, salt } in rows {
            sqlx::query(log.schema().sql(sql))
                .bind(record.position as i64)
                .bind(record.epoch as i64)
                .bind(&record.stream)
                .bind(record.version as i64)
                .bind(&record.r#type)
                .bind(&record.actor)
                .bind(recorded_at)
                .bind(&record.data)
                .bind(salt)
                .bind(&record.hash)
                .execute(pool)
                .await
                .expect("a row");
        }
    });
}

/// Alters history as somebody would who knows how hashes are made, and may
/// write everything: all hashes hold, and the head is the last record.
async fn rewrite(log: &Log, alter: impl FnOnce(&mut Vec<Row>)) {
    let mut rows = rows(log).await;
    alter(&mut rows);
    let mut previous = GENESIS.to_vec();
    for Row { record, recorded_at, salt } in &mut rows {
        record.recorded_at = Some(timestamp(*recorded_at));
        record.hash = hash(&previous, salt, record).to_vec();
        previous.clone_from(&record.hash);
    }
    replace(log, &rows).await;
    change(
        log,
        "UPDATE {s}.head SET
             position = (SELECT max(position) FROM {s}.record),
             hash = (SELECT hash FROM {s}.record ORDER BY position DESC LIMIT 1),
             recorded_at = (SELECT recorded_at FROM {s}.record ORDER BY position DESC LIMIT 1)",
    )
    .await;
}

/// The row at a position, in memory.
fn at(rows: &mut [Row], position: i64) -> &mut Row {
    &mut rows[position as usize - 1]
}

async fn a_log_that_nobody_touched_passes(place: Place) {
    let nothing = place.location().await.open_to_read("log").await.expect("the database");
    assert!(nothing.is_none(), "looking makes no log");

    let log = place.log(LOG).await;
    let empty = verify_from(&place, 1, &[]).await.expect("an empty log is whole");
    assert_eq!((empty.records, empty.last.position), (0, 0));
    let of_nothing = Checkpoint::take(log.schema()).await.expect("the head");
    verify_from(&place, 1, &[&of_nothing]).await.expect("still empty");

    let log = filled(&place, MANY).await;
    let verified = verify_from(&place, 1, &[&of_nothing]).await.expect("it is whole");
    assert_eq!(verified.log, LOG);
    assert_eq!(verified.records, MANY);
    assert_eq!(Some(verified.last), log.newest().await.expect("the newest"));

    let schema = place.location().await.open_to_read("log").await.expect("the database");
    let mut seen = Vec::new();
    verify(&schema.expect("the log"), 1, &[], |progress| seen.push(progress)).await.expect("whole");
    assert!(seen.len() > 1, "{seen:?}");
    assert!(seen.windows(2).all(|two| two[0].done < two[1].done), "{seen:?}");
    assert!(seen.iter().all(|progress| progress.of == MANY), "{seen:?}");
}

async fn a_bit_flipped_in_any_column_is_named_at_its_record(place: Place) {
    let log = filled(&place, RECORDS).await;
    keep(&log).await;
    for position in [1, MIDDLE, RECORDS as i64] {
        for column in
            ["epoch", "version", "recorded_at", "stream", "type", "actor", "data", "salt", "hash"]
        {
            let bits = match column {
                // Another version of the stream is refused by the database.
                "version" => 7..8,
                _ => 0..3,
            };
            for bit in bits {
                assert!(flip(&log, "record", column, position, bit).await, "{column} {bit}");
                let (found, kind) = fault(&place, &log).await;
                assert_eq!((found, kind), (position, Kind::Altered), "{column} {bit}");
            }
        }
        // Where the number itself is altered, it is missing where it was.
        assert!(flip(&log, "record", "position", position, 40).await);
        let (found, kind) = fault(&place, &log).await;
        assert!(matches!(kind, Kind::Gap { .. }), "{kind:?}");
        assert_eq!(found, position);
    }
    // A time that no calendar has.
    assert!(flip(&log, "record", "recorded_at", MIDDLE, 62).await);
    let unreadable = Kind::Unreadable { column: "recorded_at" };
    assert_eq!(fault(&place, &log).await, (MIDDLE, unreadable));
}

async fn a_record_that_was_dropped_is_named(place: Place) {
    let log = filled(&place, RECORDS).await;
    keep(&log).await;
    for position in [1, MIDDLE] {
        change(&log, &format!("DELETE FROM {{s}}.record WHERE position = {position}")).await;
        let gap = Kind::Gap { found: Some(position + 1) };
        assert_eq!(fault(&place, &log).await, (position, gap));
    }
    // The last one.
    change(&log, &format!("DELETE FROM {{s}}.record WHERE position = {RECORDS}")).await;
    let gap = Kind::Gap { found: None };
    assert_eq!(fault(&place, &log).await, (RECORDS as i64, gap.clone()));
    change(&log, "DELETE FROM {s}.record").await;
    assert_eq!(fault(&place, &log).await, (1, gap));

    // Closing the gap does not help.
    let mut rest = rows(&log).await;
    rest.remove(MIDDLE as usize - 1);
    rest.iter_mut().skip(MIDDLE as usize - 1).for_each(|row| row.record.position -= 1);
    replace(&log, &rest).await;
    change(&log, "UPDATE {s}.head SET position = position - 1").await;
    assert_eq!(fault(&place, &log).await, (MIDDLE, Kind::Altered));
}

async fn a_record_that_was_inserted_is_named(place: Place) {
    let log = filled(&place, RECORDS).await;
    keep(&log).await;
    let last = RECORDS as i64;
    let copy = |position: i64| {
        format!(
            "INSERT INTO {{s}}.record
                 (position, epoch, stream, version, type, actor, recorded_at, data, salt, hash)
             SELECT {position}, epoch, 'request/forged', 1, type, actor, recorded_at, data, salt,
                    hash
             FROM {{s}}.record WHERE position = {MIDDLE}"
        )
    };
    for beyond in [last + 1, last + 1_000] {
        change(&log, &copy(beyond)).await;
        let kind = Kind::BeyondHead { head: last };
        assert_eq!(fault(&place, &log).await, (beyond, kind));
    }
    change(&log, &copy(0)).await;
    assert_eq!(fault(&place, &log).await, (1, Kind::Gap { found: Some(0) }));

    // In the middle, those after it moved on: with a hash that holds, and with
    // one that does not.
    for holds in [true, false] {
        let mut rows = rows(&log).await;
        let mut forged = self::rows(&log).await.remove(MIDDLE as usize - 1);
        for row in rows.iter_mut().skip(MIDDLE as usize - 1) {
            row.record.position += 1;
        }
        forged.record.stream = "request/forged".to_owned();
        forged.record.version = 1;
        if holds {
            let before = &at(&mut rows, MIDDLE - 1).record.hash;
            forged.record.hash = hash(before, &forged.salt, &forged.record).to_vec();
        }
        rows.insert(MIDDLE as usize - 1, forged);
        replace(&log, &rows).await;
        change(&log, "UPDATE {s}.head SET position = position + 1").await;
        let kind = if holds { Kind::Inserted } else { Kind::Altered };
        assert_eq!(fault(&place, &log).await, (MIDDLE, kind));
    }
}

async fn a_forged_head_is_named(place: Place) {
    let log = filled(&place, RECORDS).await;
    keep(&log).await;
    let last = RECORDS as i64;
    for sql in [
        "UPDATE {s}.head SET hash = (SELECT hash FROM {s}.record WHERE position = 7)",
        "UPDATE {s}.head SET recorded_at = recorded_at + 1",
        "UPDATE {s}.head SET epoch = 0",
    ] {
        change(&log, sql).await;
        assert_eq!(fault(&place, &log).await, (last, Kind::Head), "{sql}");
    }
    change(&log, "UPDATE {s}.head SET position = position + 1").await;
    assert_eq!(fault(&place, &log).await, (last + 1, Kind::Gap { found: None }));
    change(
        &log,
        "UPDATE {s}.head SET position = 7,
             hash = (SELECT hash FROM {s}.record WHERE position = 7),
             recorded_at = (SELECT recorded_at FROM {s}.record WHERE position = 7)",
    )
    .await;
    assert_eq!(fault(&place, &log).await, (8, Kind::BeyondHead { head: 7 }));
    change(&log, "UPDATE {s}.head SET log = 'gm0437.requests'").await;
    assert_eq!(fault(&place, &log).await, (1, Kind::Altered));
    change(&log, "DELETE FROM {s}.head").await;
    assert!(matches!(verify_from(&place, 1, &[]).await, Err(VerifyError::NoHead)));
}

async fn sealed_content_without_its_key_is_named_and_a_destroyed_key_is_not(place: Place) {
    let log = filled(&place, RECORDS).await;
    keep(&log).await;
    change(&log, "DELETE FROM {s}.sealing_key WHERE id = 'text/30'").await;
    let filed = rows(&log).await.into_iter().find(|row| row.record.stream == "request/30");
    let position = filed.expect("it was filed").record.position as i64;
    let kind = Kind::KeyMissing { id: "text/30".to_owned() };
    assert_eq!(fault(&place, &log).await, (position, kind));
    // Somebody's key is missing from the first record that needs it on.
    change(&log, "DELETE FROM {s}.sealing_key WHERE id = 'person/one'").await;
    let kind = Kind::KeyMissing { id: "person/one".to_owned() };
    assert_eq!(fault(&place, &log).await, (1, kind));

    change(&log, "UPDATE {s}.sealing_key SET wrapped = NULL").await;
    verify_from(&place, 1, &[]).await.expect("forgetting leaves the log whole");
}

async fn what_no_service_would_write_is_named_although_its_hash_holds(place: Place) {
    let log = filled(&place, RECORDS).await;
    keep(&log).await;

    rewrite(&log, |rows| at(rows, MIDDLE).record.epoch = 2).await;
    let kind = Kind::Epoch { found: 1, before: 2 };
    assert_eq!(fault(&place, &log).await, (MIDDLE + 1, kind));

    rewrite(&log, |rows| at(rows, MIDDLE).recorded_at -= 3_600_000_000).await;
    assert_eq!(fault(&place, &log).await, (MIDDLE, Kind::Time));

    let mut stream = String::new();
    rewrite(&log, |rows| {
        let row = at(rows, MIDDLE);
        row.record.version += 10;
        stream = row.record.stream.clone();
    })
    .await;
    let (position, kind) = fault(&place, &log).await;
    assert_eq!(position, MIDDLE);
    assert!(matches!(kind, Kind::Version { stream: found, .. } if found == stream));

    rewrite(&log, |rows| at(rows, MIDDLE).record.stream = "request/other".to_owned()).await;
    let (position, kind) = fault(&place, &log).await;
    let first = position == MIDDLE || position == MIDDLE + 1;
    assert!(first && matches!(kind, Kind::Version { .. }), "{position}: {kind:?}");

    for (alter, part) in [
        (
            Box::new(|row: &mut Row| row.record.r#type = "samen.requests.v1.Gone".to_owned())
                as Box<dyn FnOnce(&mut Row)>,
            "Gone",
        ),
        // A message of the contract that is no event.
        (Box::new(|row| row.record.r#type = Text::full_name()), "Text"),
        (Box::new(|row| row.record.data.truncate(1)), "StatusChanged"),
        // Field 99.
        (Box::new(|row| row.record.data.extend([0x98, 0x06, 0x01])), "99"),
    ] {
        // The last one is a change of status, which no version depends on.
        rewrite(&log, |rows| alter(at(rows, RECORDS as i64))).await;
        let (position, kind) = fault(&place, &log).await;
        assert_eq!(position, RECORDS as i64);
        let Kind::Undecodable { reason } = kind else { panic!("{kind:?}") };
        assert!(reason.contains(part), "{reason}");
    }
}

async fn the_first_of_several_faults_is_named(place: Place) {
    let log = filled(&place, MANY).await;
    keep(&log).await;
    // One page on, so that it is not the first look that finds it.
    let needs = rows(&log).await.into_iter().find(|row| row.record.stream == "request/3000");
    let position = needs.expect("it was filed").record.position as i64;
    let forget = "DELETE FROM {s}.sealing_key WHERE id = 'text/3000'";
    let drop = |at: i64| format!("DELETE FROM {{s}}.record WHERE position = {at}");

    change(&log, forget).await;
    change(&log, &drop(position + 5)).await;
    let kind = Kind::KeyMissing { id: "text/3000".to_owned() };
    assert_eq!(fault(&place, &log).await, (position, kind));

    change(&log, forget).await;
    change(&log, &drop(position - 1)).await;
    let kind = Kind::Gap { found: Some(position) };
    assert_eq!(fault(&place, &log).await, (position - 1, kind));
}

async fn a_history_that_was_rewritten_fails_only_its_checkpoint(place: Place) {
    let log = filled(&place, RECORDS).await;
    let checkpoint = Checkpoint::take(log.schema()).await.expect("the head");
    assert_eq!((checkpoint.log.as_str(), checkpoint.position), (LOG, RECORDS));
    assert_eq!(checkpoint, Checkpoint::parse(&checkpoint.to_string()).expect("its own text"));
    let early = rows(&log).await.swap_remove(9).record;
    let early = Checkpoint {
        position: early.position,
        hash: early.hash.try_into().expect("32 bytes"),
        ..checkpoint.clone()
    };
    verify_from(&place, 1, &[&early, &checkpoint]).await.expect("as it was signed for");
    let other = Checkpoint { log: "gm0437.requests".to_owned(), ..checkpoint.clone() };
    let refused = verify_from(&place, 1, &[&other]).await;
    assert!(matches!(refused, Err(VerifyError::OtherLog { .. })), "{refused:?}");

    // The log goes on, and then somebody alters the past.
    filled_further(&log).await;
    verify_from(&place, 1, &[&early, &checkpoint]).await.expect("it only grew");
    keep(&log).await;
    rewrite(&log, |rows| at(rows, MIDDLE).record.actor = "person/2".to_owned()).await;
    verify_from(&place, 1, &[]).await.expect("every hash holds");
    verify_from(&place, 1, &[&early]).await.expect("nothing before it was altered");
    let refused = verify_from(&place, 1, &[&early, &checkpoint]).await;
    let Err(VerifyError::Fault(fault)) = refused else { panic!("{refused:?}") };
    assert_eq!((fault.position, fault.kind), (RECORDS as i64, Kind::Rewritten));

    // Or cuts it off.
    restore(&log).await;
    rewrite(&log, |rows| rows.truncate(20)).await;
    verify_from(&place, 1, &[]).await.expect("every hash holds");
    let refused = verify_from(&place, 1, &[&early, &checkpoint]).await;
    let Err(VerifyError::Fault(fault)) = refused else { panic!("{refused:?}") };
    assert_eq!((fault.position, fault.kind), (RECORDS as i64, Kind::BeforeCheckpoint));
}

/// One more record.
async fn filled_further(log: &Log) {
    let event = NewEvent {
        stream: "request/further".to_owned(),
        kind: StatusChanged::full_name(),
        data: StatusChanged::default().encode_to_vec(),
    };
    log.append(Append { actor: "test".to_owned(), events: vec![event], ..Append::default() })
        .await
        .expect("appended");
}

async fn it_can_begin_in_the_middle(place: Place) {
    let log = filled(&place, RECORDS).await;
    for from in 1..=RECORDS + 1 {
        let verified = verify_from(&place, from, &[]).await.expect("it is whole");
        assert_eq!(verified.records, RECORDS + 1 - from, "from {from}");
        assert_eq!(verified.last.position, RECORDS, "from {from}");
    }
    // Beyond its end there is no record to read, and still the head is looked at.
    for from in [RECORDS + 2, u64::MAX] {
        let verified = verify_from(&place, from, &[]).await.expect("it is whole");
        assert_eq!((verified.records, verified.last.position), (0, RECORDS));
    }
    keep(&log).await;
    let head = |to: i64| {
        format!(
            "UPDATE {{s}}.head SET position = {to},
                 hash = (SELECT hash FROM {{s}}.record WHERE position = {to}),
                 recorded_at = (SELECT recorded_at FROM {{s}}.record WHERE position = {to})"
        )
    };
    for (sql, position, kind) in [
        (head(MIDDLE), MIDDLE + 1, Kind::BeyondHead { head: MIDDLE }),
        (
            "UPDATE {s}.head SET hash = (SELECT hash FROM {s}.record WHERE position = 7)"
                .to_owned(),
            RECORDS as i64,
            Kind::Head,
        ),
    ] {
        change(&log, &sql).await;
        let refused = verify_from(&place, RECORDS + 2, &[]).await;
        restore(&log).await;
        let Err(VerifyError::Fault(fault)) = refused else { panic!("{refused:?}") };
        assert_eq!((fault.position, fault.kind), (position, kind));
    }

    // What is before it is taken as it is, also as what a version follows.
    assert!(flip(&log, "record", "data", 7, 1).await);
    verify_from(&place, 8, &[]).await.expect("the fault is before it");
    assert!(verify_from(&place, 7, &[]).await.is_err());
    restore(&log).await;
    let second = rows(&log)
        .await
        .into_iter()
        .find(|row| row.record.position as i64 >= MIDDLE && row.record.version == 2);
    let second = second.expect("each stream has three").record.position;
    rewrite(&log, |rows| at(rows, second as i64).record.version = 9).await;
    let refused = verify_from(&place, second, &[]).await;
    let Err(VerifyError::Fault(fault)) = refused else { panic!("{refused:?}") };
    assert_eq!(fault.position, second as i64);
    assert!(matches!(fault.kind, Kind::Version { found: 9, expected: 2, .. }), "{:?}", fault.kind);
}

async fn it_goes_on_beside_a_log_that_grows(place: Place) {
    let log = filled(&place, RECORDS).await;
    let stop = Arc::new(AtomicBool::new(false));
    let growing = tokio::spawn({
        let (log, stop) = (log.clone(), stop.clone());
        async move {
            let mut grown = 0;
            // No further: each look takes as long as the log is.
            while !stop.load(Ordering::Relaxed) && grown < 20 * RECORDS {
                join_all((0..50).map(|_| filled_further(&log))).await;
                grown += 50;
            }
            grown
        }
    });
    let mut last = 0;
    for _ in 0..20 {
        let verified = verify_from(&place, 1, &[]).await.expect("whole at each moment");
        assert!(verified.last.position >= last);
        last = verified.last.position;
        let checkpoint = Checkpoint::take(log.schema()).await.expect("the head");
        verify_from(&place, 1, &[&checkpoint]).await.expect("it only grew");
    }
    assert!(last > RECORDS, "it grew meanwhile");
    stop.store(true, Ordering::Relaxed);
    let grown = growing.await.expect("it appended");
    let verified = verify_from(&place, 1, &[]).await.expect("whole");
    assert_eq!(verified.records, RECORDS + grown);
}

/// A change to one row of the database.
#[derive(Clone, Debug)]
enum Change {
    Flip { table: &'static str, column: &'static str, row: u64, bit: usize },
    Drop { row: u64 },
    DropKey { row: u64 },
    Copy { row: u64, to: i64 },
}

fn any_change() -> impl Strategy<Value = Change> {
    let of_record = prop::sample::select(vec![
        "position",
        "epoch",
        "stream",
        "version",
        "type",
        "actor",
        "recorded_at",
        "data",
        "salt",
        "hash",
    ]);
    // The head's epoch may be ahead of the last record's.
    let of_head = prop::sample::select(vec!["log", "position", "hash", "recorded_at"]);
    let row = 1..=RECORDS;
    prop_oneof![
        6 => (of_record, row.clone(), any::<usize>()).prop_map(|(column, row, bit)| Change::Flip {
            table: "record", column, row, bit,
        }),
        2 => (of_head, any::<usize>()).prop_map(|(column, bit)| Change::Flip {
            table: "head", column, row: 1, bit,
        }),
        1 => row.clone().prop_map(|row| Change::Drop { row }),
        1 => row.clone().prop_map(|row| Change::DropKey { row }),
        1 => (row, prop_oneof![Just(0), Just(-1), Just(RECORDS as i64 + 1), any::<i64>()])
            .prop_map(|(row, to)| Change::Copy { row, to }),
    ]
}

async fn any_single_change_is_found(place: Place) {
    let log = filled(&place, RECORDS).await;
    keep(&log).await;
    let config = Config { cases: 150, failure_persistence: None, ..Config::default() };
    let mut runner = TestRunner::new(config);
    let made = AtomicU64::new(0);
    let tried = runner.run(&any_change(), |change| {
        let found = tokio::task::block_in_place(|| {
            Handle::current().block_on(async {
                let changed = make(&log, &change).await;
                let verified = verify_from(&place, 1, &[]).await;
                restore(&log).await;
                changed.then_some(verified)
            })
        });
        // The database refuses some, and those are no changes.
        let Some(verified) = found else { return Ok(()) };
        made.fetch_add(1, Ordering::Relaxed);
        prop_assert!(verified.is_err(), "{verified:?}");
        Ok(())
    });
    tried.expect("each change is found");
    assert!(made.into_inner() > 75, "most changes can be made");
    // Nor does it see what is not there.
    verify_from(&place, 1, &[]).await.expect("all was put back");
}

/// Makes a change, unless the database refuses it.
async fn make(log: &Log, change: &Change) -> bool {
    let sql = match change {
        Change::Flip { table, column, row, bit } => {
            return flip(log, table, column, *row as i64, *bit).await;
        }
        Change::Drop { row } => format!("DELETE FROM {{s}}.record WHERE position = {row}"),
        Change::DropKey { row } => {
            format!("DELETE FROM {{s}}.sealing_key WHERE id = 'text/{}'", (row - 1) / 3 * 3)
        }
        Change::Copy { row, to } => format!(
            "INSERT INTO {{s}}.record
                 (position, epoch, stream, version, type, actor, recorded_at, data, salt, hash)
             SELECT {to}, epoch, stream, version + 100, type, actor, recorded_at, data, salt, hash
             FROM {{s}}.record WHERE position = {row}"
        ),
    };
    on_db!(&log.schema().db, pool => {
        let done = sqlx::query(log.schema().sql(&sql)).execute(pool).await;
        done.is_ok_and(|done| done.rows_affected() == 1)
    })
}

/// Flips one bit of a column, of the record at this position or of the head,
/// unless the database refuses what comes out.
async fn flip(log: &Log, table: &str, column: &str, position: i64, bit: usize) -> bool {
    let row = if table == "head" { "one = 1".to_owned() } else { format!("position = {position}") };
    let read = format!("SELECT {column} FROM {{s}}.{table} WHERE {row}");
    let write = |value: &str| format!("UPDATE {{s}}.{table} SET {column} = {value} WHERE {row}");
    let done = match column {
        "position" | "epoch" | "version" | "recorded_at" => {
            on_db!(&log.schema().db, pool => {
                let before: i64 = sqlx::query_scalar(log.schema().sql(&read))
                    .fetch_one(pool)
                    .await
                    .expect("a number");
                sqlx::query(log.schema().sql(&write("$1")))
                    .bind(before ^ (1 << (bit % 64)))
                    .execute(pool)
                    .await
                    .map(|_| ())
            })
        }
        _ => {
            let text = matches!(column, "stream" | "type" | "actor" | "log");
            let (from, to) = match (&log.schema().db, text) {
                (_, false) => (column.to_owned(), "$1"),
                (samen_log::Db::Postgres(_), true) => {
                    (format!("convert_to({column}, 'UTF8')"), "convert_from($1, 'UTF8')")
                }
                (samen_log::Db::Sqlite(_), true) => {
                    (format!("CAST({column} AS BLOB)"), "CAST($1 AS TEXT)")
                }
            };
            let read = format!("SELECT {from} FROM {{s}}.{table} WHERE {row}");
            on_db!(&log.schema().db, pool => {
                let mut bytes: Vec<u8> = sqlx::query_scalar(log.schema().sql(&read))
                    .fetch_one(pool)
                    .await
                    .expect("bytes");
                let at = bit % (bytes.len() * 8);
                bytes[at / 8] ^= 1 << (at % 8);
                sqlx::query(log.schema().sql(&write(to)))
                    .bind(bytes)
                    .execute(pool)
                    .await
                    .map(|_| ())
            })
        }
    };
    done.is_ok()
}
