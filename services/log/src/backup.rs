//! Backups: a log with its commands and keys in files that belong to no
//! database, and back from them into an empty one, of either kind.
//!
//! - [`write`]: a backup, of logs that go on growing meanwhile;
//! - [`restore`]: the way back, all or nothing; [`empty`]: into what;
//! - [`manifest`]: what a backup says about itself, signed;
//! - [`files`]: private files that are on the disk when it is said so.
//!
//! ```text
//! MANIFEST                        written last: without it there is no backup
//! gm0384.requests/records-000001  BackupRecord, in order, length-delimited
//! gm0384.requests/commands-000001 BackupCommand
//! gm0384.requests/keys-000001     BackupKey
//! gm0384.requests/checkpoint      the log's head, as a signed note
//! ```

use std::path::PathBuf;
use std::time::Duration;

use crate::note::NoteError;
use crate::record::{GENESIS, Record, hash};

mod empty;
mod files;
mod manifest;
mod restore;
mod write;

pub use empty::EmptyLog;
pub use manifest::{Entry, LogManifest, Manifest};
pub use restore::Backup;
pub use write::back_up;

/// The file that makes a folder a backup.
pub const MANIFEST: &str = "MANIFEST";
/// The epoch of a head whose log is being restored: nobody appends to it, and
/// nobody opens it. A log's own epochs begin at 1.
pub(crate) const RESTORING: i64 = 0;

/// What has been done of a log: its id, records so far, records in all.
pub type Progress<'a> = &'a (dyn Fn(&str, u64, u64) + Send + Sync);

/// A log that was backed up or restored.
#[derive(Clone, Debug)]
pub struct Done {
    pub log: String,
    pub records: u64,
    /// In the backup's files.
    pub bytes: u64,
    pub took: Duration,
}

/// Why there is no backup, or nothing was restored from it.
#[derive(Debug, thiserror::Error)]
pub enum BackupError {
    #[error("{}: {cause}", path.display())]
    File { path: PathBuf, cause: std::io::Error },
    #[error("{} exists and is not empty", path.display())]
    NotEmpty { path: PathBuf },
    #[error("{} is missing: this is not a whole backup", path.display())]
    NoManifest { path: PathBuf },
    #[error("{}: {cause}", path.display())]
    Signature { path: PathBuf, cause: NoteError },
    #[error("{}: {reason}", path.display())]
    Altered { path: PathBuf, reason: String },
    #[error("a log is of {found}, and another of {expected}")]
    OtherMunicipality { found: String, expected: String },
    #[error("the backup holds none of these logs")]
    NoLog,
    #[error("the database holds the log {found}, not {expected}")]
    OtherLog { found: String, expected: String },
    #[error("the log {0} is not empty; a backup is restored into an empty one only")]
    Occupied(String),
    #[error(
        "the log {log} is in use by {processes}: stop all processes of its service, and restore \
         again"
    )]
    InUse { log: String, processes: String },
    #[error("the log {0} is being restored by another process")]
    Busy(String),
    #[error("the log {0} was not restored to its end; restore it again")]
    HalfRestored(String),
    #[error("the log {log} is broken at record {position}: {reason}")]
    Broken { log: String, position: u64, reason: &'static str },
    #[error(transparent)]
    Note(#[from] NoteError),
    #[error("the database failed: {0}")]
    Storage(#[from] sqlx::Error),
}

/// A log as it is read from its beginning: each record must follow the one
/// before.
struct Chain<'a> {
    log: &'a str,
    position: u64,
    hash: Vec<u8>,
}

impl<'a> Chain<'a> {
    fn new(log: &'a str) -> Self {
        Chain { log, position: 0, hash: GENESIS.to_vec() }
    }

    fn step(&mut self, record: &Record, salt: &[u8]) -> Result<(), BackupError> {
        if record.log != self.log {
            return Err(self.broken("it is another log's"));
        }
        if record.position != self.position + 1 {
            return Err(self.broken("it is missing"));
        }
        if record.hash != hash(&self.hash, salt, record) {
            return Err(self.broken("its hash is not that of its content"));
        }
        self.position = record.position;
        self.hash.clone_from(&record.hash);
        Ok(())
    }

    /// What is wrong with the record that should come next.
    fn broken(&self, reason: &'static str) -> BackupError {
        BackupError::Broken { log: self.log.to_owned(), position: self.position + 1, reason }
    }
}
