//! The one task of a process that commits: one batch after another.

use std::sync::Arc;
use std::time::{Duration, Instant};

use tokio::sync::{mpsc, watch};

use super::batch::{Asked, Believed, Known, Results, accept_all};
use super::{Append, AppendError, Job, channel, postgres, sqlite};
use crate::db::{Db, Schema, Tx};
use crate::record::Record;
use crate::tail::Tail;

/// Commands in one transaction.
const MAX_BATCH: usize = 512;
/// Bytes of events in one transaction (the one that crosses it is still in).
const MAX_BATCH_BYTES: usize = 4 << 20;
/// How often other processes are told at most.
const NOTIFY_EVERY: Duration = Duration::from_millis(5);
/// How long a batch may take. Whether it was committed is then not known, and
/// who asks again with the same id learns it.
const COMMIT_TIMEOUT: Duration = Duration::from_secs(20);

/// The appender task: ends when the last sender is dropped.
/// It commits on a connection of its own, and notifies on another.
pub(crate) async fn run(
    log: String,
    epoch: i64,
    schema: Schema,
    tail: Arc<Tail>,
    jobs: mpsc::Receiver<Job>,
) {
    let grew = watch::Sender::new(0);
    if let Db::Postgres(pool) = &schema.db {
        tokio::spawn(notify(pool.clone(), channel(&schema), grew.subscribe()));
    }
    let mut appender = Appender { schema: schema.dedicated(), epoch, believed: None };
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
        let silent = || sqlx::Error::Protocol("the database did not answer in time".to_owned());
        match committed.unwrap_or_else(|_| Err(silent())) {
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

/// Commits batches, one after another.
struct Appender {
    schema: Schema,
    /// In which this process opened the log.
    epoch: i64,
    /// Where the log stands if nobody else has appended since we did.
    believed: Option<Believed>,
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
        if head.epoch != self.epoch {
            let reason = "the log was restored from a backup: this process must start again";
            return Err(sqlx::Error::Protocol(reason.to_owned()));
        }
        let (now, at) = (known.now, Instant::now());
        let (results, head, written) = accept_all(batch, head, known);
        if !written.records.is_empty() {
            super::write(&self.schema, &mut tx, &head, &written).await?;
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
        // A refusal is told only after a look: its command may be one that was
        // accepted before.
        if written.records.is_empty() || results.iter().any(Result::is_err) {
            return Ok(None);
        }
        let wrote =
            postgres::write_if(&self.schema, pool, &before, &streams, &head, &written).await;
        match wrote {
            Ok(Some(now)) => {
                self.believed = Some(Believed { head, now, at: Instant::now() });
                Ok(Some((results, written.records.into_iter().map(Arc::new).collect())))
            }
            // Refused by the server, so nothing of it is there.
            Ok(None) | Err(sqlx::Error::Database(_)) => Ok(None),
            Err(error) => Err(error),
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
