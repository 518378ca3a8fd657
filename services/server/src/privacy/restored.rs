//! The list of destroyed keys, applied before a service answers: so that a log
//! and keys that were put back from an old backup revive nobody.

use std::collections::{BTreeSet, HashSet};
use std::pin::pin;

use futures::TryStreamExt;
use prost::{Message, Name};
use samen_log::Log;
use samen_log::destroyed::{self, DestroyedKeys, DestroyedKeysError};
use samen_log::scan::Wanted;
use samen_proto::privacy::{ContentErased, ErasureReason};

use super::eraser::{self, Completed, Eraser, Keys};
use super::{DestroyedList, Failure, content};

// === impl DestroyedList ===

impl DestroyedList {
    /// The keys of one log.
    async fn of_log(&self, log: &str) -> Result<BTreeSet<String>, Failure> {
        let (path, log) = (self.path.clone(), log.to_owned());
        let read = tokio::task::spawn_blocking(move || {
            let keys = DestroyedKeys::load(&path)?;
            Ok::<_, DestroyedKeysError>(keys.of_log(&log).map(str::to_owned).collect())
        });
        Ok(read.await.map_err(std::io::Error::other)??)
    }

    /// It is not there, although keys of this log were destroyed.
    pub fn missing(&self, log: &str) -> Failure {
        Failure::ListMissing { path: self.path.to_path_buf(), log: log.to_owned() }
    }

    /// The keys of one log, from a list that is made where nothing was ever
    /// destroyed. It is missing where the log says that something was: the
    /// whole of it, or, where another log's service has begun a new one since,
    /// this log's part.
    async fn begin(
        &self,
        log: &str,
        last: Option<&Completed>,
    ) -> Result<BTreeSet<String>, Failure> {
        if last.is_some() && !self.path.exists() {
            return Err(self.missing(log));
        }
        let path = self.path.clone();
        let made = tokio::task::spawn_blocking(move || destroyed::create(&path));
        made.await.map_err(std::io::Error::other)??;
        let listed = self.of_log(log).await?;
        if listed.is_empty() && last.is_some_and(|last| last.keys > 0) {
            return Err(self.missing(log));
        }
        Ok(listed)
    }
}

/// Carries out what is left from before, and destroys what the list names and
/// the log still has. What the log does not say was destroyed is told again:
/// the records that said so may be lost, and with them who was told.
pub async fn apply(eraser: &Eraser) -> Result<(), Failure> {
    let (log, keyring) = (&eraser.log, &eraser.keyring);
    let completed = eraser::completed(log).await?;
    eraser.destroyed.begin(log.id(), completed.as_ref()).await?;
    // A log that was restored has begun another epoch. Who restored it may
    // have applied the list already, so that only the log can say what was
    // told.
    let restored = log.epoch() > 1 && completed.as_ref().is_none_or(|c| c.epoch < log.epoch());
    if !restored {
        // First: what a crash left listed and not destroyed is no old backup.
        eraser.catch_up().await?;
    }
    let listed = eraser.destroyed.of_log(log.id()).await?;
    let revived = keyring.alive(listed.iter().map(String::as_str)).await?;
    if !revived.is_empty() {
        tracing::warn!(log = log.id(), keys = revived.len(), "destroyed keys had come back");
    }
    let untold: BTreeSet<String> = if restored {
        let told = told(log).await?;
        listed.iter().filter(|key| !told.contains(*key)).cloned().collect()
    } else {
        revived.into_iter().collect()
    };
    let id = format!("restored {} {} {}", log.id(), log.epoch(), head(log).await?);
    if !untold.is_empty() {
        // Told first: were they destroyed first, a crash would leave it untold.
        let keys = streams_of(log, &untold).await?;
        eraser::tell(log, &id, &keys, ErasureReason::Restored).await?;
    }
    if !listed.is_empty() {
        keyring.destroy(listed.iter().map(String::as_str)).await?;
    }
    if restored {
        let done = completed.map_or(0, |completed| completed.position);
        eraser::complete(log, &id, done, untold.len()).await?;
        eraser.catch_up().await?;
    }
    Ok(())
}

/// Every key that the log says was destroyed.
async fn told(log: &Log) -> Result<HashSet<String>, Failure> {
    let kinds = Wanted::Kinds(vec![ContentErased::full_name()]);
    let mut told = HashSet::new();
    let mut pages = pin!(log.scan(kinds, 0, head(log).await?));
    while let Some(page) = pages.try_next().await? {
        for record in page.records {
            let erased = ContentErased::decode(record.data.as_slice())
                .map_err(|_| content::unreadable(&record))?;
            told.extend(erased.key_ids);
        }
    }
    Ok(told)
}

/// Which streams have content under these keys.
async fn streams_of(log: &Log, keys: &BTreeSet<String>) -> Result<Keys, Failure> {
    let mut found = Keys::new();
    for key in keys.iter().filter(|key| key.starts_with("person/")) {
        found.insert(key.clone(), BTreeSet::from([key.clone()]));
    }
    let mut pages = pin!(log.scan(Wanted::All, 0, head(log).await?));
    while let Some(page) = pages.try_next().await? {
        for record in page.records {
            for content in content::of(&record)? {
                let key = content.sealed.key_id;
                if keys.contains(&key) {
                    found.entry(record.stream.clone()).or_default().insert(key);
                }
            }
        }
    }
    Ok(found)
}

async fn head(log: &Log) -> sqlx::Result<u64> {
    Ok(log.newest().await?.map_or(0, |newest| newest.position))
}
