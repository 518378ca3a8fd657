//! From a backup into empty logs, all or nothing.
//!
//! Everything in the backup is checked before anything is written. While rows
//! are written, each log's head stands in the epoch [`RESTORING`], in which
//! nobody opens it or appends to it; that ends for all logs when all is there.
//! A restore that was killed leaves logs that refuse to serve, and the next
//! one begins again.
//!
//! What is restored goes on in an epoch of its own, so that nobody mistakes
//! what is appended from here on for what was lost.

use std::collections::HashSet;
use std::path::{Path, PathBuf};
use std::time::Instant;

use jiff::Timestamp;
use prost::Message;
use samen_proto::log::{BackupCommand, BackupKey, BackupRecord};

use super::empty::{EmptyLog, Found, check_empty, hold};
use super::files;
use super::manifest::{Entry, LogManifest, Manifest};
use super::{BackupError, Chain, Done, MANIFEST, Progress, RESTORING};
use crate::append::{self, Appended, CommandId, Head, NewKey, Written};
use crate::db::{Db, Schema};
use crate::destroyed::{self, DestroyedKeys};
use crate::note::Signer;
use crate::record::{GENESIS, SALT_BYTES, micros};
use crate::seal::MasterKey;
use crate::{on_db, on_tx};

/// Rows in one transaction.
const BATCH: usize = 2_000;

/// A backup of which everything was found as it was written.
pub struct Backup {
    folder: PathBuf,
    manifest: Manifest,
}

// === impl Backup ===

impl Backup {
    /// Checks a backup: that the deployment with this master key signed what
    /// it says about itself, and that its files are those, whole and unaltered.
    pub async fn open(folder: &Path, master: &MasterKey) -> Result<Self, BackupError> {
        let manifest = read_manifest(folder, master).await?;
        let logs = manifest.logs.iter().map(|log| log.id.as_str());
        nothing_else(folder, logs.chain([MANIFEST])).await?;
        for log in &manifest.logs {
            let folder = folder.join(&log.id);
            nothing_else(&folder, log.files.iter().map(|file| file.name.as_str())).await?;
            for entry in &log.files {
                files::read_entry(&folder, entry).await?;
            }
        }
        Ok(Backup { folder: folder.to_owned(), manifest })
    }

    /// What the backup holds.
    pub fn manifest(&self) -> &Manifest {
        &self.manifest
    }

    /// Writes the backup's part of these logs, by id, into them: all in one
    /// PostgreSQL database, or each in a file of its own. They must be empty,
    /// also those that the backup does not hold. A log stands before those that
    /// follow it. Their services must not run.
    pub async fn restore(
        &self,
        logs: &[EmptyLog],
        destroyed: &DestroyedKeys,
        progress: Progress<'_>,
    ) -> Result<Vec<Done>, BackupError> {
        // Held until all is done.
        let mut held = Vec::new();
        for log in logs {
            held.extend(hold(log).await?);
            log.check_unused().await?;
        }
        let found = check_empty(logs).await?;
        let targets: Vec<_> = logs
            .iter()
            .zip(found)
            .filter_map(|(EmptyLog { id, schema, .. }, found)| {
                let log = self.manifest.logs.iter().find(|log| log.id == *id)?;
                Some((log, schema, found))
            })
            .collect();
        if targets.is_empty() {
            return Err(BackupError::NoLog);
        }
        for (log, schema, found) in &targets {
            mark(&log.id, schema, *found).await?;
        }
        // A process shows that it lives, and then looks at the head: whoever
        // began meanwhile is seen here, or has seen the mark.
        for log in logs {
            log.check_unused().await?;
        }

        let mut done = Vec::new();
        for (log, schema, _) in &targets {
            let began = Instant::now();
            clear(schema).await?;
            let gone: HashSet<&str> = destroyed.of_log(&log.id).collect();
            self.load(log, schema, &gone, progress).await?;
            let (records, bytes) = (log.position, log.bytes());
            done.push(Done { log: log.id.clone(), records, bytes, took: began.elapsed() });
        }
        finish(&targets).await?;
        Ok(done)
    }

    /// Writes one log's records, commands and keys.
    async fn load(
        &self,
        log: &LogManifest,
        schema: &Schema,
        gone: &HashSet<&str>,
        progress: Progress<'_>,
    ) -> Result<(), BackupError> {
        let mut chain = Chain::new(&log.id);
        let mut head = Head {
            log: log.id.clone(),
            epoch: RESTORING,
            position: 0,
            hash: GENESIS.to_vec(),
            recorded_at: 0,
        };
        progress(&log.id, 0, log.position);
        for entry in log.files("records") {
            let records: Vec<BackupRecord> = self.read(log, entry).await?;
            for batch in batches(&records) {
                // The statements write one epoch at a time.
                head.epoch = epoch(&batch[0]) as i64;
                let mut written = Written::default();
                for BackupRecord { record, salt } in batch {
                    let record = record.clone().unwrap_or_default();
                    chain.step(&record, salt)?;
                    let salt: [u8; SALT_BYTES] = salt.as_slice().try_into().map_err(|_| {
                        chain.broken("its salt is not of the length that salts have")
                    })?;
                    head.recorded_at = micros(&record);
                    written.records.push(record);
                    written.salts.push(salt);
                }
                head.position = chain.position as i64;
                head.hash.clone_from(&chain.hash);
                write(schema, &head, &written).await?;
                progress(&log.id, chain.position, log.position);
            }
        }
        if (chain.position, &chain.hash) != (log.position, &log.hash) {
            return Err(chain.broken("the backup's manifest ends in another record"));
        }
        check_versions(log, schema).await?;

        for entry in log.files("commands") {
            let commands: Vec<BackupCommand> = self.read(log, entry).await?;
            for batch in commands.chunks(BATCH) {
                let commands = batch.iter().cloned().map(command).collect();
                write(schema, &head, &Written { commands, ..Written::default() }).await?;
            }
        }
        for entry in log.files("keys") {
            let keys: Vec<BackupKey> = self.read(log, entry).await?;
            for batch in keys.chunks(BATCH) {
                // A key that was destroyed since is not even written.
                let kept = |key: &&BackupKey| !gone.contains(key.id.as_str());
                let (there, not): (Vec<_>, Vec<_>) =
                    batch.iter().partition(|key| key.wrapped.is_some() && kept(key));
                let keys = there.into_iter().cloned().map(key).collect();
                write(schema, &head, &Written { keys, ..Written::default() }).await?;
                destroyed::apply(schema, not.into_iter().map(|key| key.id.as_str())).await?;
            }
        }
        destroyed::apply(schema, gone.iter().copied()).await?;
        Ok(())
    }

    /// The messages in one of a log's files: checked again, for it may have
    /// been altered since.
    async fn read<M: Message + Default>(
        &self,
        log: &LogManifest,
        entry: &Entry,
    ) -> Result<Vec<M>, BackupError> {
        let folder = self.folder.join(&log.id);
        let bytes = files::read_entry(&folder, entry).await?;
        files::decode(&folder, entry, &bytes)
    }
}

async fn read_manifest(folder: &Path, master: &MasterKey) -> Result<Manifest, BackupError> {
    let path = folder.join(MANIFEST);
    let note = match files::read(path.clone()).await {
        Err(BackupError::File { cause, .. }) if cause.kind() == std::io::ErrorKind::NotFound => {
            return Err(BackupError::NoManifest { path });
        }
        note => note?,
    };
    let altered = |reason: &str| BackupError::Altered { path: path.clone(), reason: reason.into() };
    let note = String::from_utf8(note).map_err(|_| altered("it is not text"))?;
    // Whose it says it is, to know which name to look for.
    let said = note.split("\n\n").next().unwrap_or_default();
    let name = Manifest::parse(path.clone(), said)?.key_name();
    let signer = Signer::new(master, &name).map_err(|error| altered(&error.to_string()))?;
    let text = signer.verifier().open(&note);
    let text = text.map_err(|cause| BackupError::Signature { path: path.clone(), cause })?;
    Manifest::parse(path, text)
}

/// Refuses a folder with names in it that the manifest does not know.
async fn nothing_else<'a>(
    folder: &Path,
    expected: impl IntoIterator<Item = &'a str>,
) -> Result<(), BackupError> {
    let expected: HashSet<&str> = expected.into_iter().collect();
    let names = files::names(folder.to_owned()).await?;
    match names.into_iter().find(|name| !expected.contains(name.as_str())) {
        None => Ok(()),
        Some(name) => {
            let reason = "it is not part of the backup".to_owned();
            Err(BackupError::Altered { path: folder.join(name), reason })
        }
    }
}

/// Records of one epoch, at most [`BATCH`] together.
fn batches(records: &[BackupRecord]) -> impl Iterator<Item = &[BackupRecord]> {
    records.chunk_by(|a, b| epoch(a) == epoch(b)).flat_map(|same| same.chunks(BATCH))
}

fn epoch(entry: &BackupRecord) -> u64 {
    entry.record.as_ref().map_or(0, |record| record.epoch)
}

fn command(command: BackupCommand) -> (CommandId, Appended) {
    let BackupCommand { id, fingerprint, key_id, first_position, last_position } = command;
    let appended = Appended { first: first_position, last: last_position, replayed: None };
    (CommandId { id, fingerprint, key_id }, appended)
}

fn key(key: BackupKey) -> NewKey {
    NewKey { id: key.id, wrapped: key.wrapped.unwrap_or_default() }
}

/// Writes rows as the appender does.
async fn write(schema: &Schema, head: &Head, written: &Written) -> sqlx::Result<()> {
    let mut tx = schema.begin().await?;
    append::write(schema, &mut tx, head, written).await?;
    tx.commit().await
}

/// Puts a log's head into the epoch in which nobody uses it, unless somebody
/// has since.
async fn mark(id: &str, schema: &Schema, found: Found) -> Result<(), BackupError> {
    let sql = schema.sql(
        "INSERT INTO {s}.head AS h (one, log, epoch, position, hash, recorded_at)
         VALUES (1, $1, $2, 0, $3, 0)
         ON CONFLICT (one) DO UPDATE SET epoch = $2, position = 0, hash = $3, recorded_at = 0
         WHERE h.epoch = $4 AND h.position = $5",
    );
    // Of a log without a head: what no head has.
    let (epoch, position) = found.unwrap_or((-1, -1));
    let marked = on_db!(&schema.db, pool => sqlx::query(sql)
        .bind(id)
        .bind(RESTORING)
        .bind(GENESIS.as_slice())
        .bind(epoch)
        .bind(position)
        .execute(pool)
        .await?
        .rows_affected());
    if marked == 1 { Ok(()) } else { Err(BackupError::Occupied(id.to_owned())) }
}

/// Removes what a restore that was interrupted has left.
async fn clear(schema: &Schema) -> sqlx::Result<()> {
    let statements: &[&str] = match &schema.db {
        Db::Postgres(_) => &["TRUNCATE {s}.record, {s}.command, {s}.sealing_key"],
        Db::Sqlite(_) => {
            &["DELETE FROM {s}.record", "DELETE FROM {s}.command", "DELETE FROM {s}.sealing_key"]
        }
    };
    let mut tx = schema.begin().await?;
    for statement in statements {
        on_tx!(&mut tx, conn => sqlx::query(schema.sql(statement)).execute(conn).await.map(drop)?);
    }
    tx.commit().await
}

/// Each stream's versions are 1, 2, 3 … in the log's order.
async fn check_versions(log: &LogManifest, schema: &Schema) -> Result<(), BackupError> {
    let sql = schema.sql(
        "SELECT position FROM (
             SELECT position, version,
                    row_number() OVER (PARTITION BY stream ORDER BY position) AS expected
             FROM {s}.record
         ) AS r WHERE version <> expected ORDER BY position LIMIT 1",
    );
    let wrong: Option<i64> =
        on_db!(&schema.db, pool => sqlx::query_scalar(sql).fetch_optional(pool).await?);
    match wrong {
        None => Ok(()),
        Some(position) => Err(BackupError::Broken {
            log: log.id.clone(),
            position: position as u64,
            reason: "its stream has a version before it that is missing",
        }),
    }
}

/// Opens the logs for use, each in a new epoch: in PostgreSQL all at once. In
/// files one after the other, those that follow others last; where that is
/// interrupted, none was used, because the all-in-one looks at all of them
/// before it opens one.
async fn finish(targets: &[(&LogManifest, &Schema, Found)]) -> Result<(), BackupError> {
    // To the millisecond: two restores of one backup share no epoch.
    let now = Timestamp::now().as_millisecond();
    let sql = "UPDATE {s}.head SET epoch = $1 WHERE one = 1 AND epoch = $2";
    let mut targets = targets.iter();
    while let Some((log, schema, _)) = targets.next() {
        let mut tx = schema.begin().await?;
        let mut with = vec![(log, schema)];
        if let Db::Postgres(_) = schema.db {
            with.extend(targets.by_ref().map(|(log, schema, _)| (log, schema)));
        }
        for (log, schema) in with {
            // A clock that is behind must not give an epoch again.
            let epoch = (log.epoch as i64 + 1).max(now);
            let opened = on_tx!(&mut tx, conn => sqlx::query(schema.sql(sql))
                .bind(epoch)
                .bind(RESTORING)
                .execute(conn)
                .await?
                .rows_affected());
            if opened != 1 {
                return Err(BackupError::Busy(log.id.clone()));
            }
        }
        tx.commit().await?;
    }
    Ok(())
}
