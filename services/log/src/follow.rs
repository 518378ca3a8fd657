//! The one trait by which everything follows a log.

use std::sync::Arc;

use futures::future::BoxFuture;
use futures::stream::BoxStream;

use crate::record::{Position, Record};

/// How many records a follower that is behind reads at once.
pub const PAGE: usize = 500;

/// The reason of a refusal (`google.rpc.ErrorInfo`) to whoever has seen what is
/// not in the log's history.
pub const NOT_IN_HISTORY: &str = "NOT_IN_HISTORY";

/// Something that can be followed: a log in SQL, a JetStream stream, a log
/// over gRPC.
pub trait Follow: Send + Sync + 'static {
    /// The log's id.
    fn log(&self) -> &str;

    /// Every record after the cursor, without a gap: history, then
    /// [`Item::CaughtUp`] once, then live, until the reader drops it. After
    /// an error the stream ends, and can be begun again from the last record.
    fn follow(&self, after: Cursor) -> BoxStream<'static, Result<Item, FollowError>>;

    /// The newest position, as far as is known here without asking anybody.
    fn newest(&self) -> Option<u64> {
        None
    }

    /// Whether the record that the cursor saw stands in this log; false also
    /// where nobody here can tell.
    fn knows<'a>(&'a self, _cursor: &'a Cursor) -> BoxFuture<'a, Result<bool, FollowError>> {
        Box::pin(async { Ok(false) })
    }
}

/// What a follower sees.
#[derive(Clone, Debug)]
pub enum Item {
    Record(Arc<Record>),
    /// Everything up to here was seen; what comes next is live.
    CaughtUp(Cursor),
}

/// The last record somebody saw.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Cursor {
    pub epoch: u64,
    /// 0: nothing yet.
    pub position: u64,
    /// The record's hash, where the one who asks has kept it.
    pub hash: Option<Vec<u8>>,
}

/// Why a log cannot be followed from there.
#[derive(Debug, thiserror::Error)]
pub enum FollowError {
    /// The log was restored or replaced since: whoever followed it rebuilds.
    #[error("position {position} of epoch {epoch} is not in the history of log {log}")]
    NotInHistory { log: String, epoch: u64, position: u64 },
    #[error("log {log} has records {found} where {expected} should follow")]
    Gap { log: String, expected: u64, found: u64 },
    #[error("log {log} was asked for, and {found} was given")]
    OtherLog { log: String, found: String },
    #[error("log {log} cannot be read: {reason}")]
    Unavailable { log: String, reason: String },
    /// Its owner answers, and does not give it to this follower: somebody has
    /// to set something right.
    #[error("log {log} is not given to this service by its owner: {reason}")]
    Refused { log: String, reason: String },
}

// === impl Cursor ===

impl Cursor {
    /// Before the first record.
    pub const START: Cursor = Cursor { epoch: 0, position: 0, hash: None };

    /// The cursor of somebody who has just seen this record.
    pub fn at(record: &Record) -> Self {
        Cursor { epoch: record.epoch, position: record.position, hash: Some(record.hash.clone()) }
    }

    /// Moves on to a record, if it is this log's next one.
    pub(crate) fn step(&mut self, log: &str, record: &Record) -> Result<(), FollowError> {
        if record.log != log {
            let (log, found) = (log.to_owned(), record.log.clone());
            return Err(FollowError::OtherLog { log, found });
        }
        if record.position != self.position + 1 {
            let expected = self.position + 1;
            return Err(FollowError::Gap { log: log.to_owned(), expected, found: record.position });
        }
        *self = Cursor::at(record);
        Ok(())
    }

    pub fn to_position(&self, log: &str) -> Position {
        Position { log: log.to_owned(), epoch: self.epoch, position: self.position }
    }

    /// A cursor from the contract, for this log and no other.
    pub fn from_position(log: &str, position: Position) -> Result<Self, FollowError> {
        if position.position > 0 && position.log != log {
            return Err(FollowError::NotInHistory {
                log: log.to_owned(),
                epoch: position.epoch,
                position: position.position,
            });
        }
        Ok(Cursor { epoch: position.epoch, position: position.position, hash: None })
    }

    /// Whether the record that stands at this position is the one that was
    /// seen.
    pub(crate) fn matches(&self, record: &Record) -> bool {
        self.epoch == record.epoch && self.hash.as_ref().is_none_or(|hash| *hash == record.hash)
    }

    pub(crate) fn not_in(&self, log: &str) -> FollowError {
        FollowError::NotInHistory {
            log: log.to_owned(),
            epoch: self.epoch,
            position: self.position,
        }
    }
}
