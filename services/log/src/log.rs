//! A log in SQL: open, append, read, follow.

use std::sync::Arc;
use std::time::Duration;

use futures::future::BoxFuture;
use futures::stream::BoxStream;
use sqlx::Row;
use sqlx::postgres::PgListener;
use tokio::sync::{Semaphore, mpsc, oneshot};
use tokio::time::{Instant, timeout, timeout_at};
use tokio_util::sync::CancellationToken;

use crate::append::{
    self, Append, AppendError, Appended, Job, QUEUE, QUEUE_BYTES, Reply, appender,
};
use crate::backup::{BackupError, RESTORING};
use crate::db::{Db, Durability, Location, Schema};
use crate::follow::{Cursor, Follow, FollowError, Item, PAGE};
use crate::on_db;
use crate::record::{GENESIS, Record, timestamp};
use crate::supervise::supervise;
use crate::tail::Tail;

/// How often the head is read although nobody said that it moved: what a lost
/// notification costs at most.
const POLL: Duration = Duration::from_secs(1);
/// How long that may take before the connection is taken for dead.
const LOOK_TIMEOUT: Duration = Duration::from_secs(2);
/// How long a follower waits for a page, likewise.
const READ_TIMEOUT: Duration = Duration::from_secs(10);
const HEAD: &str = "SELECT epoch, position FROM {s}.head WHERE one = 1";

/// Why a process cannot go on with the log that it opened.
pub(crate) const REPLACED: &str =
    "the log was restored from a backup: this process must start again";

/// A row of `record` as the contract has it. A macro, because the row's type
/// differs by driver.
macro_rules! record {
    ($log:expr, $row:expr) => {
        Arc::new(Record {
            log: $log.to_string(),
            position: $row.get::<i64, _>(0) as u64,
            epoch: $row.get::<i64, _>(1) as u64,
            stream: $row.get(2),
            version: $row.get::<i64, _>(3) as u64,
            r#type: $row.get(4),
            actor: $row.get(5),
            recorded_at: Some(timestamp($row.get(6))),
            data: $row.get(7),
            hash: $row.get(8),
        })
    };
}

/// One service's log. Clones share everything.
#[derive(Clone)]
pub struct Log {
    inner: Arc<Inner>,
}

struct Inner {
    id: Arc<str>,
    epoch: u64,
    schema: Schema,
    tail: Arc<Tail>,
    appender: mpsc::Sender<Job>,
    /// What is left of [`QUEUE_BYTES`].
    room: Arc<Semaphore>,
}

impl Log {
    /// Opens the log with this id, such as `gm0384.requests`, and makes it
    /// where it is new. Its tasks end with `shutdown`.
    pub async fn open(
        location: &Location,
        id: &str,
        shutdown: CancellationToken,
    ) -> sqlx::Result<Self> {
        let schema = Self::tables(location).await?;
        let insert = "INSERT INTO {s}.head (one, log, epoch, position, hash, recorded_at)
             VALUES (1, $1, 1, 0, $2, 0) ON CONFLICT (one) DO NOTHING";
        let select = "SELECT log, epoch, position FROM {s}.head";
        let (found, epoch, head) = on_db!(&schema.db, pool => {
            let genesis = &GENESIS[..];
            sqlx::query(schema.sql(insert)).bind(id).bind(genesis).execute(pool).await?;
            let row = sqlx::query(schema.sql(select)).fetch_one(pool).await?;
            (row.get::<String, _>(0), row.get::<i64, _>(1), row.get::<i64, _>(2))
        });
        if found != id {
            return Err(sqlx::Error::Configuration(
                format!("the database holds the log {found}, not {id}").into(),
            ));
        }
        if epoch == RESTORING {
            let error = BackupError::HalfRestored(found);
            return Err(sqlx::Error::Configuration(error.into()));
        }
        let tail = Arc::new(Tail::new(epoch as u64, head as u64));
        let (appender, jobs) = mpsc::channel(QUEUE);
        let log = Log {
            inner: Arc::new(Inner {
                id: id.into(),
                epoch: epoch as u64,
                schema: schema.clone(),
                tail: tail.clone(),
                appender,
                room: Arc::new(Semaphore::new(QUEUE_BYTES)),
            }),
        };
        // That the last handle was dropped is no failure.
        let appending = appender::run(id.to_owned(), epoch, schema.clone(), tail.clone(), jobs);
        let until = shutdown.clone();
        supervise("appender", shutdown.clone(), async move {
            if appending.await == appender::End::Dropped {
                until.cancelled().await;
            }
        });
        tokio::spawn(watch_head(schema, tail, shutdown));
        Ok(log)
    }

    /// Refuses a log that was not restored to its end, as [`open`](Self::open)
    /// does, and makes none.
    pub async fn check(location: &Location) -> Result<(), BackupError> {
        let schema = Self::tables(location).await?;
        let select = "SELECT log FROM {s}.head WHERE epoch = $1";
        let half: Option<String> = on_db!(&schema.db, pool => {
            sqlx::query_scalar(schema.sql(select)).bind(RESTORING).fetch_optional(pool).await?
        });
        schema.close_own().await;
        half.map_or(Ok(()), |log| Err(BackupError::HalfRestored(log)))
    }

    /// A log's tables, made where they are new: no log as yet.
    pub async fn tables(location: &Location) -> sqlx::Result<Schema> {
        location.open("log", include_str!("schema.sql"), Durability::Full).await
    }

    /// The log's id.
    pub fn id(&self) -> &str {
        &self.inner.id
    }

    /// The epoch in which this process appends.
    pub fn epoch(&self) -> u64 {
        self.inner.epoch
    }

    /// Where the log's tables are.
    pub fn schema(&self) -> &Schema {
        &self.inner.schema
    }

    /// The newest position that this process knows to be committed.
    pub fn head(&self) -> u64 {
        self.inner.tail.head()
    }

    /// Appends, and answers when it is durable.
    pub async fn append(&self, append: Append) -> Result<Appended, AppendError> {
        append.check()?;
        // Far less than a semaphore can count.
        let room = self.inner.room.clone().try_acquire_many_owned(append.bytes() as u32);
        let room = room.map_err(|_| AppendError::Overloaded)?;
        let (to, answer) = oneshot::channel();
        let job = Job { append, reply: Reply { to, _room: room } };
        self.inner.appender.try_send(job).map_err(|error| match error {
            mpsc::error::TrySendError::Full(_) => AppendError::Overloaded,
            mpsc::error::TrySendError::Closed(_) => AppendError::stopped(),
        })?;
        answer.await.map_err(|_| AppendError::stopped())?
    }

    /// Where the log stands now, whoever appended last; `None` while it is
    /// empty.
    pub async fn newest(&self) -> sqlx::Result<Option<Cursor>> {
        let sql = self
            .inner
            .schema
            .sql("SELECT epoch, position, hash FROM {s}.record ORDER BY position DESC LIMIT 1");
        on_db!(&self.inner.schema.db, pool => {
            let row = sqlx::query(sql).fetch_optional(pool).await?;
            Ok(row.map(|row| Cursor {
                epoch: row.get::<i64, _>(0) as u64,
                position: row.get::<i64, _>(1) as u64,
                hash: Some(row.get(2)),
            }))
        })
    }

    /// Records after a position, in order, at most `limit`.
    pub async fn read(&self, after: u64, limit: usize) -> sqlx::Result<Vec<Arc<Record>>> {
        let sql = self.inner.schema.sql(
            "SELECT position, epoch, stream, version, type, actor, recorded_at, data, hash
             FROM {s}.record WHERE position > $1 ORDER BY position LIMIT $2",
        );
        on_db!(&self.inner.schema.db, pool => {
            let rows =
                sqlx::query(sql).bind(after as i64).bind(limit as i64).fetch_all(pool).await?;
            Ok(rows.iter().map(|row| record!(self.inner.id, row)).collect())
        })
    }

    /// A stream's records after a version, in order, at most `limit`.
    pub async fn read_stream(
        &self,
        stream: &str,
        after: u64,
        limit: usize,
    ) -> sqlx::Result<Vec<Arc<Record>>> {
        let sql = self.inner.schema.sql(
            "SELECT position, epoch, stream, version, type, actor, recorded_at, data, hash
             FROM {s}.record WHERE stream = $1 AND version > $2 ORDER BY version LIMIT $3",
        );
        on_db!(&self.inner.schema.db, pool => {
            let rows = sqlx::query(sql)
                .bind(stream)
                .bind(after as i64)
                .bind(limit as i64)
                .fetch_all(pool)
                .await?;
            Ok(rows.iter().map(|row| record!(self.inner.id, row)).collect())
        })
    }

    /// The result of a command that was accepted before.
    pub async fn find_command(&self, id: &str) -> sqlx::Result<Option<Appended>> {
        let sql = self.inner.schema.sql(
            "SELECT fingerprint, key_id, first_position, last_position
             FROM {s}.command WHERE id = $1",
        );
        on_db!(&self.inner.schema.db, pool => {
            let row = sqlx::query(sql).bind(id).fetch_optional(pool).await?;
            Ok(row.map(|row| Appended::replayed(row.get(0), row.get(1), row.get(2), row.get(3))))
        })
    }

    /// Whether the record that the cursor saw last stands in this log.
    pub async fn knows(&self, cursor: &Cursor) -> Result<bool, FollowError> {
        if cursor.position == 0 {
            return Ok(true);
        }
        let found = self.page(cursor.position - 1, 1).await?;
        Ok(found.first().is_some_and(|r| r.position == cursor.position && cursor.matches(r)))
    }

    /// Reads for a follower, who has no deadline of its own.
    pub(crate) async fn page(
        &self,
        after: u64,
        limit: usize,
    ) -> Result<Vec<Arc<Record>>, FollowError> {
        let read = timeout(READ_TIMEOUT, self.read(after, limit)).await;
        read.unwrap_or_else(|_| Err(silent())).map_err(|error| self.unavailable(error))
    }

    fn unavailable(&self, error: impl ToString) -> FollowError {
        FollowError::Unavailable { log: self.id().to_owned(), reason: error.to_string() }
    }

    /// What this process knows, and has in memory, is of another history than
    /// what is in the database.
    fn replaced(&self) -> FollowError {
        self.unavailable(REPLACED)
    }
}

impl Follow for Log {
    fn log(&self) -> &str {
        &self.inner.id
    }

    fn newest(&self) -> Option<u64> {
        Some(self.head())
    }

    fn knows<'a>(&'a self, cursor: &'a Cursor) -> BoxFuture<'a, Result<bool, FollowError>> {
        Box::pin(Log::knows(self, cursor))
    }

    fn follow(&self, after: Cursor) -> BoxStream<'static, Result<Item, FollowError>> {
        let log = self.clone();
        Box::pin(async_stream::try_stream! {
            if !log.knows(&after).await? {
                Err(after.not_in(log.id()))?;
            }
            let tail = log.inner.tail.clone();
            let mut head = tail.watch();
            let mut seen = after;
            let mut caught_up = false;
            loop {
                let known = *head.borrow_and_update();
                if tail.is_replaced() {
                    Err(log.replaced())?;
                }
                while seen.position < known {
                    let mut page = tail.after(seen.position, PAGE);
                    if page.is_empty() {
                        page = log.page(seen.position, PAGE).await?;
                    }
                    // Somebody took records away: a backup is being restored.
                    if page.is_empty() {
                        let reason = format!("it ends at {}, before {known}", seen.position);
                        Err(FollowError::Unavailable { log: log.id().to_owned(), reason })?;
                    }
                    for record in page {
                        // The same, seen before the head was looked at.
                        if record.epoch > log.inner.epoch {
                            Err(log.replaced())?;
                        }
                        seen.step(log.id(), &record)?;
                        yield Item::Record(record);
                    }
                }
                if !caught_up {
                    caught_up = true;
                    yield Item::CaughtUp(seen.clone());
                }
                if head.changed().await.is_err() {
                    return;
                }
            }
        })
    }
}

/// Learns what other processes append: by notification, and by looking.
async fn watch_head(schema: Schema, tail: Arc<Tail>, shutdown: CancellationToken) {
    // An SQLite file belongs to one process: there is nobody else to hear.
    if matches!(schema.db, Db::Sqlite(_)) {
        return;
    }
    let watching = async {
        loop {
            // As long as nothing can be heard, others' connections look.
            let listening = listen(&schema);
            let looking = async {
                loop {
                    if let Err(error) = look(&schema, &tail).await {
                        tracing::warn!(%error, "the log's head cannot be read");
                    }
                    tokio::time::sleep(POLL).await;
                }
            };
            let listening = tokio::select! {
                listening = listening => listening,
                () = looking => unreachable!("it looks for ever"),
            };
            let heard = match listening {
                Ok(listener) => hear(listener, &schema, &tail).await,
                Err(error) => Err(error),
            };
            if let Err(error) = heard {
                tracing::warn!(%error, "notifications are not heard; listening again");
            }
            tokio::time::sleep(POLL).await;
        }
    };
    tokio::select! {
        () = shutdown.cancelled() => {}
        () = watching => {}
    }
}

/// Listens on a connection of its own.
async fn listen(schema: &Schema) -> sqlx::Result<PgListener> {
    let Db::Postgres(own) = schema.dedicated().db else { return Err(sqlx::Error::PoolClosed) };
    let mut listener = PgListener::connect_with(&own).await?;
    listener.eager_reconnect(false);
    listener.listen(&append::channel(schema)).await?;
    Ok(listener)
}

/// Hears others, and looks over the same connection: so that one whose other
/// side is gone without a word is found. Ends when it fails.
async fn hear(mut listener: PgListener, schema: &Schema, tail: &Tail) -> sqlx::Result<()> {
    loop {
        let head = sqlx::query_as(schema.sql(HEAD)).fetch_one(&mut listener);
        let (epoch, head): (i64, i64) =
            timeout(LOOK_TIMEOUT, head).await.map_err(|_| silent())??;
        tail.found(epoch as u64, head as u64);
        let look_again = Instant::now() + POLL;
        // Others' are looked at: anybody who may use the database can notify.
        while let Ok(notice) = timeout_at(look_again, listener.try_recv()).await {
            let notice = notice?.ok_or_else(silent)?;
            // Our own are known.
            if !notice.payload().parse().is_ok_and(|p: u64| p <= tail.head()) {
                break;
            }
        }
    }
}

async fn look(schema: &Schema, tail: &Tail) -> sqlx::Result<()> {
    let Db::Postgres(pool) = &schema.db else { return Ok(()) };
    let head = sqlx::query_as(schema.sql(HEAD)).fetch_one(pool);
    let (epoch, head): (i64, i64) = timeout(LOOK_TIMEOUT, head).await.map_err(|_| silent())??;
    tail.found(epoch as u64, head as u64);
    Ok(())
}

fn silent() -> sqlx::Error {
    sqlx::Error::Protocol("the database fell silent".to_owned())
}
