//! Group commit: all commands that wait are checked, numbered and committed in
//! one transaction.
//!
//! One appender task per process takes them from a bounded queue. An idle
//! appender commits at once; a batch forms while the one before it is being
//! synced, never by waiting. A command that conflicts is refused alone. A
//! reply is sent only after the commit is durable.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;
use std::time::Instant;

use jiff::Timestamp;
use tokio::sync::{mpsc, oneshot, watch};

use crate::db::{Db, Schema, Tx};
use crate::record::{Record, SALT_BYTES, hash, timestamp};
use crate::tail::Tail;

mod postgres;
mod sqlite;

/// Commands that may wait for the appender; one more is told to come back.
pub(crate) const QUEUE: usize = 4_096;
/// Commands in one transaction.
const MAX_BATCH: usize = 512;
/// Bytes of events in one transaction (the one that crosses it is still in).
const MAX_BATCH_BYTES: usize = 4 << 20;
/// How often other processes are told at most.
const NOTIFY_EVERY: std::time::Duration = std::time::Duration::from_millis(5);
/// How long a batch may take. Whether it was committed is then not known, and
/// who asks again with the same id learns it.
const COMMIT_TIMEOUT: std::time::Duration = std::time::Duration::from_secs(20);
/// The largest event: well under what NATS and gRPC carry by default.
pub const MAX_EVENT_BYTES: usize = 256 << 10;
/// Events of one command.
pub const MAX_EVENTS: usize = 1_000;

/// What one command wants written, and on which conditions.
#[derive(Clone, Debug, Default)]
pub struct Append {
    /// Who does it.
    pub actor: String,
    /// By which the same command writes once.
    pub command: Option<CommandId>,
    /// The version that each stream must have, written or only relied upon.
    /// A stream that is written and not named here takes any version.
    pub expect: Vec<Expected>,
    pub events: Vec<NewEvent>,
    /// Keys that the events' sealed content needs.
    pub keys: Vec<NewKey>,
    /// Refused when the database's clock is past this.
    pub not_after: Option<Timestamp>,
}

/// A command's identity.
#[derive(Clone, Debug)]
pub struct CommandId {
    /// Unique by caller, method and request id.
    pub id: String,
    /// HMAC of the request's content.
    pub fingerprint: Vec<u8>,
    /// The sealing key from which the HMAC's key was made; the deployment's
    /// own where there is none.
    pub key_id: Option<String>,
}

/// A stream and the version it must have; 0 means that it must be new.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Expected {
    pub stream: String,
    pub version: u64,
}

/// One event to write.
#[derive(Clone, Debug)]
pub struct NewEvent {
    pub stream: String,
    /// Full protobuf name.
    pub kind: String,
    pub data: Vec<u8>,
}

/// A wrapped key to keep. Refused when its id exists, so that nobody's
/// content is sealed with a key that was then lost.
#[derive(Clone, Debug)]
pub struct NewKey {
    pub id: String,
    pub wrapped: Vec<u8>,
}

/// What was written, now or by the same command before.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Appended {
    pub first: u64,
    pub last: u64,
    /// Where the same command had been accepted before: by which its content
    /// is compared.
    pub replayed: Option<Replayed>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Replayed {
    pub fingerprint: Vec<u8>,
    pub key_id: Option<String>,
}

/// Why nothing was written.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum AppendError {
    #[error("stream {stream} is at version {actual}, not {expected}")]
    Conflict { stream: String, expected: u64, actual: u64 },
    /// Somebody else made this key first: seal with theirs.
    #[error("key {id} exists")]
    KeyExists { id: String },
    #[error("the time for this is over")]
    TooLate,
    #[error("an event of {bytes} bytes is over the limit of {MAX_EVENT_BYTES}")]
    TooLarge { bytes: usize },
    #[error("a command must write something")]
    Empty,
    #[error("{events} events in one command are over the limit of {MAX_EVENTS}")]
    TooMany { events: usize },
    #[error("too many commands are waiting")]
    Overloaded,
    /// Whether it was written is not known: ask again with the same id.
    #[error("the log cannot be written: {reason}")]
    Unavailable { reason: String },
}

/// A command on its way to the appender.
pub(crate) struct Job {
    pub append: Append,
    pub reply: oneshot::Sender<Result<Appended, AppendError>>,
}

/// Where the log stands, under its lock.
#[derive(Clone)]
struct Head {
    log: String,
    epoch: i64,
    position: i64,
    hash: Vec<u8>,
    recorded_at: i64,
}

/// What the batch's checks need to know.
#[derive(Default)]
struct Known {
    /// The database's clock, read under the lock.
    now: i64,
    versions: HashMap<String, u64>,
    commands: HashMap<String, Appended>,
    keys: HashSet<String>,
}

/// What the batch writes.
#[derive(Default)]
struct Written {
    records: Vec<Record>,
    salts: Vec<[u8; SALT_BYTES]>,
    commands: Vec<(CommandId, Appended)>,
    keys: Vec<NewKey>,
}

/// What a batch asks about, each once.
struct Asked {
    streams: Vec<String>,
    commands: Vec<String>,
    keys: Vec<String>,
}

// === impl Append ===

impl Append {
    /// The limits that hold whatever the log's state is.
    pub(crate) fn check(&self) -> Result<(), AppendError> {
        if self.events.is_empty() {
            return Err(AppendError::Empty);
        }
        if self.events.len() > MAX_EVENTS {
            return Err(AppendError::TooMany { events: self.events.len() });
        }
        match self.events.iter().map(|e| e.data.len()).max() {
            Some(bytes) if bytes > MAX_EVENT_BYTES => Err(AppendError::TooLarge { bytes }),
            _ => Ok(()),
        }
    }
}

// === impl Appended ===

impl Appended {
    pub(crate) fn replayed(
        fingerprint: Vec<u8>,
        key_id: Option<String>,
        first: i64,
        last: i64,
    ) -> Self {
        let replayed = Some(Replayed { fingerprint, key_id });
        Appended { first: first as u64, last: last as u64, replayed }
    }
}

// === impl AppendError ===

impl AppendError {
    pub(crate) fn stopped() -> Self {
        AppendError::Unavailable { reason: "the appender has stopped".to_owned() }
    }
}

/// The channel on which other processes hear that a log grew.
pub(crate) fn channel(schema: &Schema) -> String {
    schema.name().to_owned()
}

/// The appender task: ends when the last sender is dropped.
pub(crate) async fn run(log: String, schema: Schema, tail: Arc<Tail>, jobs: mpsc::Receiver<Job>) {
    let grew = watch::Sender::new(0);
    if let Db::Postgres(pool) = &schema.db {
        tokio::spawn(notify(pool.clone(), channel(&schema), grew.subscribe()));
    }
    let mut appender = Appender { schema, believed: None };
    let mut jobs = jobs;
    while let Some(first) = jobs.recv().await {
        let mut bytes = size(&first.append);
        let mut batch = vec![first];
        while batch.len() < MAX_BATCH && bytes < MAX_BATCH_BYTES {
            let Ok(next) = jobs.try_recv() else { break };
            bytes += size(&next.append);
            batch.push(next);
        }
        let (appends, replies): (Vec<_>, Vec<_>) =
            batch.into_iter().map(|job| (job.append, job.reply)).unzip();
        // A server that fell silent is told from one that is slow.
        let committed = tokio::time::timeout(COMMIT_TIMEOUT, appender.commit(&appends)).await;
        match committed.unwrap_or(Err(sqlx::Error::PoolTimedOut)) {
            Ok((results, records)) => {
                tail.push(&records);
                if let Some(last) = records.last() {
                    grew.send_replace(last.position);
                }
                for (reply, result) in replies.into_iter().zip(results) {
                    // Nobody may be waiting any more: what was written stays.
                    let _ = reply.send(result);
                }
            }
            Err(error) => {
                tracing::error!(log, %error, "a batch could not be committed");
                let error = AppendError::Unavailable { reason: error.to_string() };
                for reply in replies {
                    let _ = reply.send(Err(error.clone()));
                }
            }
        }
    }
}

fn size(append: &Append) -> usize {
    append.events.iter().map(|e| e.data.len()).sum()
}

type Results = Vec<Result<Appended, AppendError>>;

/// Commits batches, one after another.
struct Appender {
    schema: Schema,
    /// Where the log stands if nobody else has appended since we did.
    believed: Option<Believed>,
}

struct Believed {
    head: Head,
    /// The database's clock, and when it said so.
    now: i64,
    at: Instant,
}

impl Appender {
    /// Commits a batch, and says what became of each command.
    async fn commit(&mut self, batch: &[Append]) -> sqlx::Result<(Results, Vec<Arc<Record>>)> {
        if let Some(done) = self.commit_as_believed(batch).await? {
            return Ok(done);
        }
        let asked = Asked::by(batch);
        let mut tx = match &self.schema.db {
            Db::Postgres(pool) => Tx::Postgres(postgres::begin(&self.schema, pool).await?),
            Db::Sqlite(_) => self.schema.begin().await?,
        };
        let (head, known) = match &mut tx {
            Tx::Postgres(tx) => postgres::look_up(&self.schema, tx, &asked).await?,
            Tx::Sqlite(tx) => sqlite::look_up(&self.schema, tx, &asked).await?,
        };
        let (now, at) = (known.now, Instant::now());
        let (results, head, written) = accept_all(batch, head, known);
        if !written.records.is_empty() {
            match &mut tx {
                Tx::Postgres(tx) => postgres::write(&self.schema, tx, &head, &written).await?,
                Tx::Sqlite(tx) => sqlite::write(&self.schema, tx, &head, &written).await?,
            }
            tx.commit().await?;
        }
        self.believed = Some(Believed { head, now, at });
        Ok((results, written.records.into_iter().map(Arc::new).collect()))
    }

    /// Commits a batch on PostgreSQL in one round trip, on the belief that
    /// nobody else appended and that every stream is where its command expects
    /// it. One statement writes all of it if that is so, and otherwise nothing;
    /// `None` then, and where a command needs to be looked at first.
    async fn commit_as_believed(
        &mut self,
        batch: &[Append],
    ) -> sqlx::Result<Option<(Results, Vec<Arc<Record>>)>> {
        let Db::Postgres(pool) = &self.schema.db else { return Ok(None) };
        let Some(believed) = self.believed.take() else { return Ok(None) };
        let Some(known) = Known::believed(batch, &believed) else { return Ok(None) };
        let streams: Vec<_> = known.versions.clone().into_iter().collect();
        let before = believed.head.clone();
        let (results, head, written) = accept_all(batch, believed.head, known);
        if written.records.is_empty() {
            return Ok(None);
        }
        let at = Instant::now();
        let wrote =
            postgres::write_if(&self.schema, pool, &before, &streams, &head, &written).await;
        match wrote {
            Ok(Some(now)) => {
                self.believed = Some(Believed { head, now, at });
                Ok(Some((results, written.records.into_iter().map(Arc::new).collect())))
            }
            // Refused by the server, so nothing of it is there.
            Ok(None) | Err(sqlx::Error::Database(_)) => Ok(None),
            Err(error) => Err(error),
        }
    }
}

/// Checks a batch command by command: what became of each, where the log then
/// stands, and what is to be written.
fn accept_all(batch: &[Append], mut head: Head, mut known: Known) -> (Results, Head, Written) {
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
    if let Some(key) = append.keys.iter().find(|key| known.keys.contains(&key.id)) {
        return Err(AppendError::KeyExists { id: key.id.clone() });
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
    fn believed(batch: &[Append], believed: &Believed) -> Option<Self> {
        let since = believed.at.elapsed().as_micros() as i64;
        let mut known = Known { now: believed.now + since, ..Known::default() };
        for append in batch {
            if append.not_after.is_some() {
                return None;
            }
            for Expected { stream, version } in &append.expect {
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
    fn by(batch: &[Append]) -> Self {
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

/// Tells other processes that the log grew: after the commit, outside its
/// transaction (NOTIFY inside one takes a lock on the whole server), and once
/// for all that was committed meanwhile.
async fn notify(pool: sqlx::PgPool, channel: String, mut grew: watch::Receiver<u64>) {
    while grew.changed().await.is_ok() {
        let head = grew.borrow_and_update().to_string();
        let notify = sqlx::query("SELECT pg_notify($1, $2)").bind(&channel).bind(head);
        let notified = notify.execute(&pool).await;
        tokio::time::sleep(NOTIFY_EVERY).await;
        if let Err(error) = notified {
            tracing::warn!(%error, "other processes were not notified; they look by themselves");
        }
    }
}
