//! A backup, of logs that go on growing meanwhile.
//!
//! Each log is copied up to the head that it had at the beginning, in short
//! reads, and its keys last: a key is written together with the first record
//! that needs it, so that every text in the backup has its key with it. The
//! heads are read followers first: a log in the backup knows nothing of another
//! that the backup does not have.

use std::path::Path;
use std::time::Instant;

use jiff::Timestamp;
use samen_proto::log::{BackupCommand, BackupKey, BackupRecord};
use sqlx::Row;

use super::files::{self, Files};
use super::manifest::{Entry, LogManifest, Manifest};
use super::{BackupError, Chain, Done, MANIFEST, Progress, RESTORING};
use crate::db::Schema;
use crate::follow::PAGE;
use crate::note::Signer;
use crate::on_db;
use crate::record::{Record, timestamp};
use crate::seal::MasterKey;

/// Commands or keys that are read at once.
const ROWS: i64 = 5_000;

/// Writes a backup of these logs, of one municipality, into a folder that is
/// new or empty. A log stands before those that follow it.
pub async fn back_up(
    folder: &Path,
    master: &MasterKey,
    logs: &[Schema],
    progress: Progress<'_>,
) -> Result<(Manifest, Vec<Done>), BackupError> {
    let mut manifest = begin(logs).await?;
    let signer = Signer::new(master, &manifest.key_name())?;
    files::make_folder(folder.to_owned()).await?;
    if !files::names(folder.to_owned()).await?.is_empty() {
        return Err(BackupError::NotEmpty { path: folder.to_owned() });
    }
    let mut done = Vec::new();
    for (log, schema) in manifest.logs.iter_mut().zip(logs) {
        let began = Instant::now();
        let folder = folder.join(&log.id);
        files::make_folder(folder.clone()).await?;
        log.files = records(&folder, log, schema, progress).await?;
        log.files.extend(commands(&folder, log, schema).await?);
        log.files.extend(keys(&folder, schema).await?);
        let note = signer.sign(&log.checkpoint(manifest.taken)?.to_string())?;
        log.files.push(files::write_entry(&folder, "checkpoint", 1, note.into_bytes()).await?);
        files::sync_folder(folder).await?;
        let (log, records, bytes) = (log.id.clone(), log.position, log.bytes());
        done.push(Done { log, records, bytes, took: began.elapsed() });
    }

    // Until it has its name there is no backup.
    let note = signer.sign(&manifest.to_text())?;
    let unnamed = folder.join(format!("{MANIFEST}.new"));
    files::write_file(unnamed.clone(), note.into_bytes()).await?;
    files::rename(unnamed, folder.join(MANIFEST)).await?;
    files::sync_folder(folder.to_owned()).await?;
    if let Some(parent) = folder.canonicalize().ok().as_deref().and_then(Path::parent) {
        files::sync_folder(parent.to_owned()).await?;
    }
    Ok((manifest, done))
}

/// Where the logs stand now: what is to be copied.
async fn begin(logs: &[Schema]) -> Result<Manifest, BackupError> {
    let taken = Timestamp::now();
    let mut heads = Vec::new();
    for schema in logs.iter().rev() {
        heads.push(head(schema).await?);
    }
    heads.reverse();
    let municipality = heads.first().map(LogManifest::municipality).unwrap_or_default();
    if let Some(other) = heads.iter().find(|head| head.municipality() != municipality) {
        let (found, expected) = (other.municipality(), municipality);
        return Err(BackupError::OtherMunicipality { found, expected });
    }
    Ok(Manifest { municipality, taken, logs: heads })
}

/// Where a log stands now.
async fn head(schema: &Schema) -> Result<LogManifest, BackupError> {
    let sql = schema.sql("SELECT log, epoch, position, hash FROM {s}.head WHERE one = 1");
    on_db!(&schema.db, pool => {
        // Tables alone: a restore that had only just begun.
        let row = sqlx::query(sql).fetch_optional(pool).await?;
        let Some(row) = row else {
            return Err(BackupError::HalfRestored(schema.place()));
        };
        let found: String = row.get(0);
        let epoch: i64 = row.get(1);
        if epoch == RESTORING {
            return Err(BackupError::HalfRestored(found));
        }
        Ok(LogManifest {
            id: found,
            epoch: epoch as u64,
            position: row.get::<i64, _>(2) as u64,
            hash: row.get(3),
            files: Vec::new(),
        })
    })
}

async fn records(
    folder: &Path,
    log: &LogManifest,
    schema: &Schema,
    progress: Progress<'_>,
) -> Result<Vec<Entry>, BackupError> {
    let mut files = Files::new(folder, "records");
    // A log that is broken is told now, not when its backup is needed.
    let mut chain = Chain::new(&log.id);
    progress(&log.id, 0, log.position);
    while chain.position < log.position {
        let page = page(log, schema, chain.position).await?;
        let before = chain.position;
        for entry in page {
            chain.step(entry.record.as_ref().unwrap_or(&Record::default()), &entry.salt)?;
            files.push(&entry).await?;
        }
        if chain.position == before {
            return Err(chain.broken("it is missing"));
        }
        progress(&log.id, chain.position, log.position);
    }
    if chain.hash != log.hash {
        return Err(chain.broken("the head does not stand at the record before it"));
    }
    files.finish().await
}

async fn page(
    log: &LogManifest,
    schema: &Schema,
    after: u64,
) -> Result<Vec<BackupRecord>, BackupError> {
    let sql = schema.sql(
        "SELECT position, epoch, stream, version, type, actor, recorded_at, data, hash, salt
         FROM {s}.record WHERE position > $1 AND position <= $2 ORDER BY position LIMIT $3",
    );
    on_db!(&schema.db, pool => {
        let rows = sqlx::query(sql)
            .bind(after as i64)
            .bind(log.position as i64)
            .bind(PAGE as i64)
            .fetch_all(pool)
            .await?;
        let entries = rows.iter().map(|row| BackupRecord {
            record: Some(Record {
                log: log.id.clone(),
                position: row.get::<i64, _>(0) as u64,
                epoch: row.get::<i64, _>(1) as u64,
                stream: row.get(2),
                version: row.get::<i64, _>(3) as u64,
                r#type: row.get(4),
                actor: row.get(5),
                recorded_at: Some(timestamp(row.get(6))),
                data: row.get(7),
                hash: row.get(8),
            }),
            salt: row.get(9),
        });
        Ok(entries.collect())
    })
}

/// The commands of the records that are in the backup.
async fn commands(
    folder: &Path,
    log: &LogManifest,
    schema: &Schema,
) -> Result<Vec<Entry>, BackupError> {
    let text = "SELECT id, fingerprint, key_id, first_position, last_position FROM {s}.command
                WHERE id > $1 AND last_position <= $2 ORDER BY id LIMIT $3";
    let mut files = Files::new(folder, "commands");
    let mut after = String::new();
    loop {
        let page: Vec<BackupCommand> = on_db!(&schema.db, pool => {
            let rows = sqlx::query(schema.sql(text))
                .bind(&after)
                .bind(log.position as i64)
                .bind(ROWS)
                .fetch_all(pool)
                .await?;
            let commands = rows.iter().map(|row| BackupCommand {
                id: row.get(0),
                fingerprint: row.get(1),
                key_id: row.get(2),
                first_position: row.get::<i64, _>(3) as u64,
                last_position: row.get::<i64, _>(4) as u64,
            });
            commands.collect()
        });
        for command in &page {
            files.push(command).await?;
        }
        match page.into_iter().next_back() {
            Some(last) => after = last.id,
            None => return files.finish().await,
        }
    }
}

async fn keys(folder: &Path, schema: &Schema) -> Result<Vec<Entry>, BackupError> {
    let text = "SELECT id, wrapped FROM {s}.sealing_key WHERE id > $1 ORDER BY id LIMIT $2";
    let mut files = Files::new(folder, "keys");
    let mut after = String::new();
    loop {
        let page: Vec<BackupKey> = on_db!(&schema.db, pool => {
            let rows =
                sqlx::query(schema.sql(text)).bind(&after).bind(ROWS).fetch_all(pool).await?;
            rows.iter().map(|row| BackupKey { id: row.get(0), wrapped: row.get(1) }).collect()
        });
        for key in &page {
            files.push(key).await?;
        }
        match page.into_iter().next_back() {
            Some(last) => after = last.id,
            None => return files.finish().await,
        }
    }
}
