//! Group commit: all commands that wait are checked, numbered and committed in
//! one transaction.
//!
//! One appender task per process takes them from a bounded queue. An idle
//! appender commits at once; a batch forms while the one before it is being
//! synced, never by waiting. A command that conflicts is refused alone. A
//! reply is sent only after the commit is durable.
//!
//! - [`appender`]: the one task of a process that commits;
//! - [`batch`]: how a batch's commands are checked, and what it writes;
//! - [`postgres`] and [`sqlite`]: a batch's statements.

use jiff::Timestamp;
use tokio::sync::{OwnedSemaphorePermit, oneshot};

use crate::db::{Schema, Tx};

pub(crate) mod appender;
mod batch;
mod postgres;
mod sqlite;

pub(crate) use batch::{Head, Written};

/// Commands that may wait for the appender; one more is told to come back.
pub(crate) const QUEUE: usize = 4_096;
/// Bytes of commands that may wait, or be written at this moment: what a queue
/// of large ones may take in memory.
pub(crate) const QUEUE_BYTES: usize = 64 << 20;
/// The largest event: well under what NATS and gRPC carry by default.
pub const MAX_EVENT_BYTES: usize = 256 << 10;
/// Events of one command.
pub const MAX_EVENTS: usize = 1_000;
/// Bytes of one command: twice what a gRPC message carries by default.
pub const MAX_COMMAND_BYTES: usize = 8 << 20;
/// Bytes of a name (of a stream, a type, an actor, a command, a key): well
/// under the 2,704 that an index of PostgreSQL takes.
pub const MAX_NAME_BYTES: usize = 1_024;
/// Letters of a name that an error shows.
const MAX_SHOWN: usize = 80;

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
    #[error("a command of {bytes} bytes is over the limit of {MAX_COMMAND_BYTES}")]
    TooMuch { bytes: usize },
    #[error("a name must have 1 to {MAX_NAME_BYTES} bytes, none of them zero: {name:?}")]
    Name { name: String },
    #[error("too many commands are waiting")]
    Overloaded,
    /// Nothing was written, and nothing will be until there is space.
    #[error("the disk of the log is full")]
    Full,
    /// The database does not take what was to be written, whenever it is asked.
    #[error("the database refuses it: {reason}")]
    Refused { reason: String },
    /// Whether it was written is not known: ask again with the same id.
    #[error("the log cannot be written: {reason}")]
    Unavailable { reason: String },
}

/// A command on its way to the appender.
pub(crate) struct Job {
    pub append: Append,
    pub reply: Reply,
}

/// Who waits for what became of a command.
pub(crate) struct Reply {
    pub to: oneshot::Sender<Result<Appended, AppendError>>,
    /// The command's part of [`QUEUE_BYTES`], until it is answered.
    pub _room: OwnedSemaphorePermit,
}

// === impl Append ===

impl Append {
    /// Checks the limits that hold whatever the log's state is.
    pub(crate) fn check(&self) -> Result<(), AppendError> {
        if self.events.is_empty() {
            return Err(AppendError::Empty);
        }
        if self.events.len() > MAX_EVENTS {
            return Err(AppendError::TooMany { events: self.events.len() });
        }
        if let Some(name) = self.names().find(|name| !is_name(name)) {
            return Err(AppendError::Name { name: name.chars().take(MAX_SHOWN).collect() });
        }
        match self.events.iter().map(|e| e.data.len()).max() {
            Some(bytes) if bytes > MAX_EVENT_BYTES => return Err(AppendError::TooLarge { bytes }),
            _ => {}
        }
        match self.bytes() {
            bytes if bytes > MAX_COMMAND_BYTES => Err(AppendError::TooMuch { bytes }),
            _ => Ok(()),
        }
    }

    /// What it takes in memory, nearly.
    pub(crate) fn bytes(&self) -> usize {
        let data: usize = self.events.iter().map(|e| e.data.len()).sum();
        let wrapped: usize = self.keys.iter().map(|k| k.wrapped.len()).sum();
        size_of::<Job>()
            + size_of_val(self.events.as_slice())
            + size_of_val(self.expect.as_slice())
            + size_of_val(self.keys.as_slice())
            + self.names().map(str::len).sum::<usize>()
            + data
            + wrapped
    }

    /// All that the database keeps as a name, by which it is also found.
    fn names(&self) -> impl Iterator<Item = &str> {
        let of_events = self.events.iter().flat_map(|e| [&e.stream, &e.kind]);
        let of_command = self.command.iter().flat_map(|c| [Some(&c.id), c.key_id.as_ref()]);
        of_events
            .chain([&self.actor])
            .chain(of_command.flatten())
            .chain(self.expect.iter().map(|e| &e.stream))
            .chain(self.keys.iter().map(|k| &k.id))
            .map(String::as_str)
    }
}

/// PostgreSQL's text cannot hold a zero.
fn is_name(name: &str) -> bool {
    (1..=MAX_NAME_BYTES).contains(&name.len()) && !name.contains('\0')
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

/// Writes rows and moves the head.
pub(crate) async fn write(
    schema: &Schema,
    tx: &mut Tx,
    head: &Head,
    written: &Written,
) -> sqlx::Result<()> {
    match tx {
        Tx::Postgres(tx) => postgres::write(schema, tx, head, written).await,
        Tx::Sqlite(tx) => sqlite::write(schema, tx, head, written).await,
    }
}

/// The channel on which other processes hear that a log grew.
pub(crate) fn channel(schema: &Schema) -> String {
    schema.name().to_owned()
}
