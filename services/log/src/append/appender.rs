//! The one task of a process that commits: one batch after another.

use std::sync::Arc;
use std::time::{Duration, Instant};

use tokio::sync::{mpsc, watch};

use super::batch::{Asked, Believed, Known, Results, accept_all};
use super::{Append, AppendError, Job, Reply, channel, postgres, sqlite};
use crate::db::{Db, Schema, Tx, disk_is_full, is_refusal};
use crate::log::REPLACED;
use crate::record::Record;
use crate::tail::Tail;

/// Commands in one transaction.
const MAX_BATCH: usize = 512;
/// Bytes of events in one transaction (the one that crosses it is still in).
const MAX_BATCH_BYTES: usize = 4 << 20;
/// How often other processes are told at most.
const NOTIFY_EVERY: Duration = Duration::from_millis(5);
/// How long a batch may take: longer than a lock is waited for. Whether it was
/// committed is then not known, and who asks again with the same id learns it.
const COMMIT_TIMEOUT: Duration = Duration::from_secs(12);
/// How long telling other processes may take.
const NOTIFY_TIMEOUT: Duration = Duration::from_secs(2);

/// Why there is nothing more to append.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum End {
    /// The last sender was dropped.
    Dropped,
    /// The log goes on in another epoch: what this process knows of it is of
    /// another history.
    Restored,
}

/// The appender task.
/// It commits on a connection of its own, and notifies on another.
pub(crate) async fn run(
    log: String,
    epoch: i64,
    schema: Schema,
    tail: Arc<Tail>,
    jobs: mpsc::Receiver<Job>,
) -> End {
    let grew = watch::Sender::new(0);
    if let Db::Postgres(pool) = &schema.db {
        tokio::spawn(notify(pool.clone(), channel(&schema), grew.subscribe()));
    }
    let origin = schema;
    let schema = origin.dedicated();
    let mut appender =
        Appender { log, epoch, origin, schema, tail, grew, believed: None, restored: false };
    let mut jobs = jobs;
    while let Some(first) = jobs.recv().await {
        let (appends, replies) = batch(first, &mut jobs);
        // Who stopped waiting is not there to answer: what was written stays.
        let mut replies = replies.into_iter();
        let mut parts = vec![appends.as_slice()];
        while let Some(part) = parts.pop() {
            match appender.append(part).await {
                // Only the one at fault is to be refused.
                Err(AppendError::Refused { .. }) if part.len() > 1 => {
                    let (first, second) = part.split_at(part.len() / 2);
                    parts.extend([second, first]);
                }
                Ok(results) => {
                    for (result, reply) in results.into_iter().zip(replies.by_ref()) {
                        let _ = reply.to.send(result);
                    }
                }
                Err(error) => {
                    for reply in replies.by_ref().take(part.len()) {
                        let _ = reply.to.send(Err(error.clone()));
                    }
                }
            }
        }
        if appender.restored {
            return End::Restored;
        }
    }
    End::Dropped
}

/// What waits, up to the limits of one transaction.
fn batch(first: Job, jobs: &mut mpsc::Receiver<Job>) -> (Vec<Append>, Vec<Reply>) {
    let (mut appends, mut replies, mut bytes) = (Vec::new(), Vec::new(), 0);
    let mut next = Some(first);
    while let Some(job) = next {
        // Nobody was told anything, and nobody waits: it need not be done.
        if !job.reply.to.is_closed() {
            bytes += job.append.bytes();
            appends.push(job.append);
            replies.push(job.reply);
        }
        let room = appends.len() < MAX_BATCH && bytes < MAX_BATCH_BYTES;
        next = room.then(|| jobs.try_recv().ok()).flatten();
    }
    (appends, replies)
}

/// Commits batches, one after another.
struct Appender {
    log: String,
    origin: Schema,
    /// The same on a connection of its own.
    schema: Schema,
    /// In which this process opened the log.
    epoch: i64,
    tail: Arc<Tail>,
    grew: watch::Sender<u64>,
    /// Where the log stands if nobody else has appended since we did.
    believed: Option<Believed>,
    /// Whether it turned out to go on in another epoch.
    restored: bool,
}

impl Appender {
    /// Commits a batch, tells those who follow, and says what became of each
    /// command; or why nothing is known to be written of any of them.
    async fn append(&mut self, batch: &[Append]) -> Result<Results, AppendError> {
        if batch.is_empty() {
            return Ok(Results::new());
        }
        // A server that fell silent is told from one that is slow.
        let committed = tokio::time::timeout(COMMIT_TIMEOUT, self.commit(batch)).await;
        let silent = || sqlx::Error::Protocol("the database did not answer in time".to_owned());
        let error = match committed.unwrap_or_else(|_| Err(silent())) {
            Ok((results, records)) => {
                self.tail.push(&records);
                if let Some(last) = records.last() {
                    self.grew.send_replace(last.position);
                }
                return Ok(results);
            }
            Err(error) => error,
        };
        let log = &self.log;
        if disk_is_full(&error) {
            tracing::error!(log, %error, "the disk is full: nothing is accepted until it has space");
            return Err(AppendError::Full);
        }
        let commands = batch.len();
        tracing::error!(log, %error, commands, "a batch could not be committed");
        let reason = error.to_string();
        if is_refusal(&error) {
            return Err(AppendError::Refused { reason });
        }
        // A connection that fell silent may be waited for without an end by
        // whoever takes it back: it is left behind, and the next batch gets
        // another.
        if let Db::Postgres(_) = &self.schema.db {
            self.schema = self.origin.dedicated();
        }
        Err(AppendError::Unavailable { reason })
    }

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
            self.restored = true;
            self.tail.found(head.epoch as u64, head.position as u64);
            return Err(sqlx::Error::Protocol(REPLACED.to_owned()));
        }
        // What is there may be more than we know of: a commit whose answer did
        // not come.
        self.tail.advance(head.position as u64);
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
            Ok(None) => Ok(None),
            // Nothing of it is there: the look will say which is at fault.
            Err(error) if is_refusal(&error) => Ok(None),
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
        let error = match tokio::time::timeout(NOTIFY_TIMEOUT, notify.execute(&pool)).await {
            Ok(notified) => notified.err().map(|error| error.to_string()),
            Err(late) => Some(late.to_string()),
        };
        if let Some(error) = error {
            tracing::warn!(error, "other processes were not notified; they look by themselves");
        }
        tokio::time::sleep(NOTIFY_EVERY).await;
    }
}
