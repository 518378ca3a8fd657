//! One batch: what it asks about, how its commands are checked against what is
//! known, and what it writes.

use std::collections::{HashMap, HashSet};
use std::time::{Duration, Instant};

use super::{Append, AppendError, Appended, CommandId, Expected, NewKey, Replayed};
use crate::record::{Record, SALT_BYTES, hash, timestamp};

/// How long the database's clock is reckoned from what it said last.
const MAX_BELIEF: Duration = Duration::from_secs(10);

/// What became of each command of a batch.
pub(super) type Results = Vec<Result<Appended, AppendError>>;

/// Where the log stands if nobody else has appended since we did.
pub(super) struct Believed {
    pub head: Head,
    /// The database's clock, and when it said so.
    pub now: i64,
    pub at: Instant,
}

/// Where the log stands, under its lock.
#[derive(Clone)]
pub(crate) struct Head {
    pub log: String,
    pub epoch: i64,
    pub position: i64,
    pub hash: Vec<u8>,
    pub recorded_at: i64,
}

/// What the batch's checks need to know.
#[derive(Default)]
pub(super) struct Known {
    /// The database's clock, read under the lock.
    pub now: i64,
    pub versions: HashMap<String, u64>,
    pub commands: HashMap<String, Appended>,
    pub keys: HashSet<String>,
}

/// What the batch writes.
#[derive(Default)]
pub(crate) struct Written {
    pub records: Vec<Record>,
    pub salts: Vec<[u8; SALT_BYTES]>,
    pub commands: Vec<(CommandId, Appended)>,
    pub keys: Vec<NewKey>,
}

/// What a batch asks about, each once.
pub(super) struct Asked {
    pub streams: Vec<String>,
    pub commands: Vec<String>,
    pub keys: Vec<String>,
}

/// Checks a batch command by command: what became of each, where the log then
/// stands, and what is to be written.
pub(super) fn accept_all(
    batch: &[Append],
    mut head: Head,
    mut known: Known,
) -> (Results, Head, Written) {
    // The clock of a server that was replaced may be behind.
    known.now = known.now.max(head.recorded_at);
    let mut written = Written::default();
    let results =
        batch.iter().map(|append| accept(append, &mut head, &mut known, &mut written)).collect();
    (results, head, written)
}

/// Checks one command against what is known, and adds what it writes to it.
fn accept(
    append: &Append,
    head: &mut Head,
    known: &mut Known,
    written: &mut Written,
) -> Result<Appended, AppendError> {
    if let Some(earlier) = append.command.as_ref().and_then(|c| known.commands.get(&c.id)) {
        return Ok(earlier.clone());
    }
    if append.not_after.is_some_and(|end| known.now > end.as_microsecond()) {
        return Err(AppendError::TooLate);
    }
    for Expected { stream, version } in &append.expect {
        let actual = known.versions.get(stream).copied().unwrap_or_default();
        if actual != *version {
            let stream = stream.clone();
            return Err(AppendError::Conflict { stream, expected: *version, actual });
        }
    }
    let mut own = HashSet::new();
    for NewKey { id, .. } in &append.keys {
        if known.keys.contains(id) || !own.insert(id) {
            return Err(AppendError::KeyExists { id: id.clone() });
        }
    }

    let first = head.position as u64 + 1;
    for event in &append.events {
        let version = known.versions.entry(event.stream.clone()).or_default();
        *version += 1;
        let mut record = Record {
            log: head.log.clone(),
            epoch: head.epoch as u64,
            position: head.position as u64 + 1,
            hash: Vec::new(),
            stream: event.stream.clone(),
            version: *version,
            r#type: event.kind.clone(),
            actor: append.actor.clone(),
            recorded_at: Some(timestamp(known.now)),
            data: event.data.clone(),
        };
        let salt: [u8; SALT_BYTES] = rand::random();
        record.hash = hash(&head.hash, &salt, &record).to_vec();
        head.position += 1;
        head.hash.clone_from(&record.hash);
        head.recorded_at = known.now;
        written.records.push(record);
        written.salts.push(salt);
    }
    for key in &append.keys {
        known.keys.insert(key.id.clone());
        written.keys.push(key.clone());
    }
    let appended = Appended { first, last: head.position as u64, replayed: None };
    if let Some(command) = &append.command {
        let replayed = Some(Replayed {
            fingerprint: command.fingerprint.clone(),
            key_id: command.key_id.clone(),
        });
        known.commands.insert(command.id.clone(), Appended { replayed, ..appended.clone() });
        written.commands.push((command.clone(), appended.clone()));
    }
    Ok(appended)
}

// === impl Known ===

impl Known {
    /// What a batch expects, taken as known. `None` where that is not enough:
    /// a stream whose version nobody named, or an end by the clock.
    pub(super) fn believed(batch: &[Append], believed: &Believed) -> Option<Self> {
        let since = believed.at.elapsed();
        if since > MAX_BELIEF {
            return None;
        }
        let now = believed.now + since.as_micros() as i64;
        let mut known = Known { now, ..Known::default() };
        for append in batch {
            if append.not_after.is_some() {
                return None;
            }
            for Expected { stream, version } in &append.expect {
                // No stream has such a version, nor could it go on from there.
                if i64::try_from(*version).is_err() || *version == i64::MAX as u64 {
                    return None;
                }
                known.versions.entry(stream.clone()).or_insert(*version);
            }
            if append.events.iter().any(|event| !known.versions.contains_key(&event.stream)) {
                return None;
            }
        }
        Some(known)
    }
}

// === impl Asked ===

impl Asked {
    pub(super) fn by(batch: &[Append]) -> Self {
        let mut streams = HashSet::new();
        let mut commands = HashSet::new();
        let mut keys = HashSet::new();
        for append in batch {
            streams.extend(append.events.iter().map(|e| e.stream.clone()));
            streams.extend(append.expect.iter().map(|e| e.stream.clone()));
            commands.extend(append.command.iter().map(|c| c.id.clone()));
            keys.extend(append.keys.iter().map(|k| k.id.clone()));
        }
        Asked {
            streams: streams.into_iter().collect(),
            commands: commands.into_iter().collect(),
            keys: keys.into_iter().collect(),
        }
    }
}
