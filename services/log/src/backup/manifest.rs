//! What a backup says about itself: a text that the deployment signs.
//!
//! ```text
//! samen-backup/1
//! municipality GM0384
//! taken 2026-03-02T09:15:00Z
//! log gm0384.requests 1 12345 <the head's hash>
//! file records-000001 16777301 12345 <SHA-256>
//! ```
//!
//! A log's line has its id, epoch and head position; a file's line, which
//! belongs to the log above it, its name, size in bytes and number of entries.

use std::fmt::Write;
use std::path::PathBuf;

use jiff::{Timestamp, Unit};

use super::BackupError;
use crate::checkpoint::{Checkpoint, key_name};

/// The first line: another number is another format.
const FORMAT: &str = "samen-backup/1";

/// What a backup holds.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Manifest {
    /// The municipality's CBS code.
    pub municipality: String,
    /// When it was begun.
    pub taken: Timestamp,
    pub logs: Vec<LogManifest>,
}

/// One log, up to its head as it was.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LogManifest {
    pub id: String,
    pub epoch: u64,
    pub position: u64,
    pub hash: Vec<u8>,
    pub files: Vec<Entry>,
}

/// One file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Entry {
    pub name: String,
    pub size: u64,
    pub count: u64,
    pub sha256: Vec<u8>,
}

// === impl LogManifest ===

impl LogManifest {
    /// The files of one kind, in order.
    pub(super) fn files<'a>(&'a self, kind: &'a str) -> impl Iterator<Item = &'a Entry> {
        let of_kind = move |entry: &&Entry| entry.name.split('-').next() == Some(kind);
        self.files.iter().filter(of_kind)
    }

    /// The CBS code of the municipality whose log it is.
    pub fn municipality(&self) -> String {
        self.id.split('.').next().unwrap_or_default().to_uppercase()
    }

    /// The log's head, to be signed for: to the second.
    pub(super) fn checkpoint(&self, taken: Timestamp) -> Result<Checkpoint, BackupError> {
        let broken = |_| BackupError::Broken {
            log: self.id.clone(),
            position: self.position,
            reason: "the head's hash is not one",
        };
        let hash = self.hash.as_slice().try_into().map_err(broken)?;
        let time = taken.round(Unit::Second).unwrap_or(taken);
        let (log, position, epoch) = (self.id.clone(), self.position, self.epoch);
        Ok(Checkpoint { log, position, hash, epoch, time })
    }

    /// Bytes of all files.
    pub fn bytes(&self) -> u64 {
        self.files.iter().map(|file| file.size).sum()
    }
}

// === impl Manifest ===

impl Manifest {
    /// The name of the key that signs.
    pub(super) fn key_name(&self) -> String {
        key_name(&self.municipality.to_lowercase())
    }

    pub(super) fn to_text(&self) -> String {
        let mut text =
            format!("{FORMAT}\nmunicipality {}\ntaken {}\n", self.municipality, self.taken);
        for LogManifest { id, epoch, position, hash, files } in &self.logs {
            // Writing to a String does not fail.
            let _ = writeln!(text, "log {id} {epoch} {position} {}", hex(hash));
            for Entry { name, size, count, sha256 } in files {
                let _ = writeln!(text, "file {name} {size} {count} {}", hex(sha256));
            }
        }
        text
    }

    pub(super) fn parse(path: PathBuf, text: &str) -> Result<Self, BackupError> {
        let malformed = |reason: String| BackupError::Altered { path: path.clone(), reason };
        let mut lines = text.lines().enumerate();
        if lines.next().map(|(_, line)| line) != Some(FORMAT) {
            return Err(malformed(format!("it does not begin with {FORMAT}")));
        }
        let mut manifest = Manifest {
            municipality: String::new(),
            taken: Timestamp::UNIX_EPOCH,
            logs: Vec::new(),
        };
        for (number, line) in lines {
            let words: Vec<&str> = line.split(' ').collect();
            let understood = manifest.take(&words);
            understood.ok_or_else(|| malformed(format!("line {} is not clear", number + 1)))?;
        }
        Ok(manifest)
    }

    /// Takes a line; `None` where it does not fit.
    fn take(&mut self, words: &[&str]) -> Option<()> {
        match words {
            ["municipality", code] => self.municipality = (*code).to_owned(),
            ["taken", time] => self.taken = time.parse().ok()?,
            ["log", id, epoch, position, hash] => self.logs.push(LogManifest {
                id: name(id)?,
                epoch: epoch.parse().ok()?,
                position: position.parse().ok()?,
                hash: unhex(hash)?,
                files: Vec::new(),
            }),
            ["file", file, size, count, sha256] => self.logs.last_mut()?.files.push(Entry {
                name: name(file)?,
                size: size.parse().ok()?,
                count: count.parse().ok()?,
                sha256: unhex(sha256)?,
            }),
            _ => return None,
        }
        Some(())
    }
}

/// A name that is one of a file, and leads nowhere else.
fn name(text: &str) -> Option<String> {
    let plain = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-' || c == '.';
    let named = text.starts_with(|c: char| c.is_ascii_lowercase()) && text.chars().all(plain);
    named.then(|| text.to_owned())
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

fn unhex(text: &str) -> Option<Vec<u8>> {
    let digits: Vec<u8> =
        text.chars().map(|c| c.to_digit(16).map(|d| d as u8)).collect::<Option<_>>()?;
    let (pairs, rest) = digits.as_chunks::<2>();
    rest.is_empty().then(|| pairs.iter().map(|[high, low]| high << 4 | low).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_manifest_is_read_as_it_was_written() {
        let file = |name: &str| Entry { name: name.into(), size: 7, count: 2, sha256: vec![9; 32] };
        let log = |id: &str, files| LogManifest {
            id: id.into(),
            epoch: 3,
            position: 2,
            hash: vec![1; 32],
            files,
        };
        let manifest = Manifest {
            municipality: "GM0384".into(),
            taken: "2026-03-02T09:15:00Z".parse().unwrap(),
            logs: vec![
                log("gm0384.requests", vec![file("records-000001"), file("keys-000001")]),
                log("gm0384.regional", vec![]),
            ],
        };
        assert_eq!(Manifest::parse("M".into(), &manifest.to_text()).unwrap(), manifest);
    }

    #[test]
    fn a_manifest_that_is_not_clear_is_refused() {
        for text in [
            "",
            "samen-backup/2\n",
            "samen-backup/1\nfile records-000001 1 1 00\n",
            "samen-backup/1\nlog ../up 1 1 00\n",
            "samen-backup/1\nlog a 1 1 0\n",
            "samen-backup/1\nlog a 1 x 00\n",
            "samen-backup/1\nlog a 1 1 00\nfile /etc/passwd 1 1 00\n",
            "samen-backup/1\nsomething else\n",
        ] {
            assert!(Manifest::parse("M".into(), text).is_err(), "{text:?}");
        }
    }
}
