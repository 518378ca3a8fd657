//! What the tests of the log have in common.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use futures::StreamExt;
use futures::future::join_all;
use samen_log::{
    Append, AppendError, Appended, CommandId, Cursor, Follow, FollowError, Item, Log, NewEvent,
    Record, on_db,
};
use sha2::{Digest, Sha256};
use sqlx::Row;

/// The log that most tests use.
pub const LOG: &str = "gm0384.requests";
/// A type that leaves the house.
pub const EXCHANGED: &str = "samen.requests.v1.StatusChanged";
/// A type that stays at home.
pub const AT_HOME: &str = "samen.participation.v1.ProcessStarted";
/// For conditions that a busy machine reaches late.
pub const SOON: Duration = Duration::from_secs(60);

/// An event whose type leaves the house.
pub fn event(stream: &str, data: impl ToString) -> NewEvent {
    NewEvent {
        stream: stream.to_owned(),
        kind: EXCHANGED.to_owned(),
        data: data.to_string().into_bytes(),
    }
}

/// A command of one event that takes any version.
pub fn write(stream: &str, data: impl ToString) -> Append {
    Append { actor: "person/1".to_owned(), events: vec![event(stream, data)], ..Append::default() }
}

pub fn command(id: &str) -> Option<CommandId> {
    Some(CommandId { id: id.to_owned(), fingerprint: b"same".to_vec(), key_id: None })
}

/// Appends this many records, of which every third stays at home.
pub async fn fill(log: &Log, records: u64) {
    let mut filled = 0;
    while filled < records {
        let some = (records - filled).min(200);
        let appends = (filled..filled + some).map(|number| {
            let mut append = write(&format!("request/{}", number % 7), number);
            if number % 3 == 0 {
                append.events[0].kind = AT_HOME.to_owned();
            }
            log.append(append)
        });
        for appended in join_all(appends).await {
            appended.expect("nothing conflicts");
        }
        filled += some;
    }
}

/// Everything that a log holds.
pub async fn read_all(log: &Log) -> Vec<Arc<Record>> {
    log.read(0, usize::MAX >> 1).await.expect("the log")
}

/// Walks the tables with SQL and arithmetic of its own: positions and the
/// versions of each stream are gapless, times never run backwards, and each
/// hash is what the contract says. Gives the number of records.
pub async fn verify(log: &Log) -> u64 {
    let sql = log.schema().sql(
        "SELECT position, epoch, stream, version, type, actor, recorded_at, data, salt, hash
         FROM {s}.record ORDER BY position",
    );
    let mut previous = vec![0; 32];
    let mut versions = HashMap::new();
    let mut position = 0;
    let mut recorded_at = 0;
    on_db!(&log.schema().db, pool => {
        for row in sqlx::query(sql).fetch_all(pool).await.expect("the records") {
            position += 1;
            assert_eq!(row.get::<i64, _>(0), position, "positions are gapless");
            let (stream, at): (String, i64) = (row.get(2), row.get(6));
            let version = versions.entry(stream.clone()).or_insert(0);
            *version += 1;
            assert_eq!(row.get::<i64, _>(3), *version, "versions of {stream} are gapless");
            assert!(at >= recorded_at, "time runs backwards at {position}");
            recorded_at = at;

            let salt: Vec<u8> = row.get(8);
            assert_eq!(salt.len(), 16, "every record is salted");
            let mut sha = Sha256::new();
            for field in [
                previous.as_slice(),
                &salt,
                log.id().as_bytes(),
                &row.get::<i64, _>(1).to_be_bytes(),
                &position.to_be_bytes(),
                stream.as_bytes(),
                &version.to_be_bytes(),
                row.get::<String, _>(4).as_bytes(),
                row.get::<String, _>(5).as_bytes(),
                &at.to_be_bytes(),
                &row.get::<Vec<u8>, _>(7),
            ] {
                sha.update((field.len() as u64).to_be_bytes());
                sha.update(field);
            }
            previous = sha.finalize().to_vec();
            assert_eq!(row.get::<Vec<u8>, _>(9), previous, "the chain breaks at {position}");
        }
        let head = log.schema().sql("SELECT position, hash FROM {s}.head");
        let head = sqlx::query(head).fetch_one(pool).await.expect("the head");
        assert_eq!(head.get::<i64, _>(0), position, "the head is the last record");
        assert_eq!(head.get::<Vec<u8>, _>(1), previous, "the head's hash is the last record's");
    });
    position as u64
}

/// The commands that a log knows, and where their first event is.
pub async fn commands(log: &Log) -> HashMap<String, u64> {
    let sql = log.schema().sql("SELECT id, first_position FROM {s}.command");
    on_db!(&log.schema().db, pool => {
        let rows = sqlx::query(sql).fetch_all(pool).await.expect("the commands");
        rows.iter().map(|row| (row.get(0), row.get::<i64, _>(1) as u64)).collect()
    })
}

/// Appends as a client does that wants one result: again with the same id for
/// as long as it is not known whether it was done.
pub async fn until_accepted(log: &Log, append: Append) -> Appended {
    let asking = async {
        loop {
            match log.append(append.clone()).await {
                Ok(appended) => return appended,
                Err(
                    AppendError::Unavailable { .. } | AppendError::Overloaded | AppendError::Full,
                ) => tokio::time::sleep(Duration::from_millis(20)).await,
                Err(error) => panic!("{error}"),
            }
        }
    };
    tokio::time::timeout(SOON, asking).await.expect("it is accepted in the end")
}

/// Follows to a position as every follower does: in order, without a gap, and
/// again from the last record after an error.
pub async fn follow_to(source: &dyn Follow, after: Cursor, last: u64) -> Vec<Arc<Record>> {
    let mut seen = after;
    let mut records = Vec::new();
    let follow = async {
        while seen.position < last {
            let mut items = source.follow(seen.clone());
            while seen.position < last {
                match items.next().await {
                    Some(Ok(Item::Record(record))) => {
                        assert_eq!(record.position, seen.position + 1, "a gap");
                        seen = Cursor::at(&record);
                        records.push(record);
                    }
                    Some(Ok(Item::CaughtUp(_))) => {}
                    Some(Err(error @ FollowError::NotInHistory { .. })) => panic!("{error}"),
                    Some(Err(_)) | None => {
                        tokio::time::sleep(Duration::from_millis(50)).await;
                        break;
                    }
                }
            }
        }
    };
    tokio::time::timeout(SOON, follow).await.unwrap_or_else(|_| panic!("not at {last} in time"));
    records
}

/// The only one of these results that was accepted, and why the others were not.
pub fn accepted<E>(results: Vec<Result<Appended, E>>) -> (Appended, Vec<E>) {
    let mut accepted = Vec::new();
    let mut refused = Vec::new();
    for result in results {
        match result {
            Ok(appended) => accepted.push(appended),
            Err(error) => refused.push(error),
        }
    }
    assert_eq!(accepted.len(), 1, "exactly one is accepted");
    (accepted.remove(0), refused)
}
