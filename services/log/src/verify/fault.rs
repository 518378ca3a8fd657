//! What can be wrong with a log.

/// The first thing that is wrong with a log.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("log {log}, record {position}: {kind}")]
pub struct Fault {
    /// The log's id, as its head has it.
    pub log: String,
    pub position: i64,
    pub kind: Kind,
}

/// In which way a record is wrong.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Kind {
    /// It was dropped, or its position was altered.
    #[error("missing, {}", match found {
        Some(found) => format!("the next one is {found}"),
        None => "and nothing follows".to_owned(),
    })]
    Gap { found: Option<i64> },
    /// Its hash does not follow from the one before it and what it holds.
    #[error("altered, or the one that belongs before it was dropped: its hash does not hold")]
    Altered,
    /// The one after it follows from the one before it.
    #[error("inserted: the one after it follows from the one before it")]
    Inserted,
    #[error("version {found} of {stream:?}, where {expected} should follow")]
    Version { stream: String, found: u64, expected: u64 },
    #[error("of epoch {found}, after one of epoch {before}")]
    Epoch { found: u64, before: u64 },
    #[error("recorded before the one before it")]
    Time,
    /// It holds what its type does not allow.
    #[error("its {column} cannot be read")]
    Unreadable { column: &'static str },
    #[error("cannot be decoded: {reason}")]
    Undecodable { reason: String },
    /// A destroyed key is not missing: its row is there.
    #[error("the key {id:?} of its sealed content is missing")]
    KeyMissing { id: String },
    #[error("beyond the head, which is at {head}")]
    BeyondHead { head: i64 },
    #[error("the last one, and the head says otherwise")]
    Head,
    #[error("not the one that the checkpoint was signed for: history was rewritten")]
    Rewritten,
    #[error("missing, and the checkpoint was signed for it: history was cut off")]
    BeforeCheckpoint,
}

/// Why a log was not found in order.
#[derive(Debug, thiserror::Error)]
pub enum VerifyError {
    #[error(transparent)]
    Fault(#[from] Fault),
    #[error("the log has no head: it was never opened, or was altered")]
    NoHead,
    #[error("the checkpoint is of the log {log}, and this is {found}")]
    OtherLog { log: String, found: String },
    /// The database itself says that it is broken, or is not there.
    #[error("log {log} cannot be read after record {after}: {cause}")]
    Unreadable { log: String, after: i64, cause: sqlx::Error },
    #[error("the log cannot be read: {0}")]
    Storage(#[from] sqlx::Error),
}
