//! A log in SQL: open, append, read, follow.

use std::sync::Arc;
use std::time::Duration;

use futures::stream::BoxStream;
use sqlx::Row;
use sqlx::postgres::PgListener;
use tokio::sync::{mpsc, oneshot};
use tokio_util::sync::CancellationToken;

use crate::append::{self, Append, AppendError, Appended, Job, QUEUE, appender};
use crate::db::{Db, Durability, Location, Schema};
use crate::follow::{Cursor, Follow, FollowError, Item, PAGE};
use crate::on_db;
use crate::record::{GENESIS, Record, timestamp};
use crate::supervise::supervise;
use crate::tail::Tail;

/// How often the head is read although nobody said that it moved: what a lost
/// notification costs at most.
const POLL: Duration = Duration::from_secs(1);

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
}

impl Log {
    /// Opens the log with this id, such as `gm0384.requests`, and makes it
    /// where it is new. Its tasks end with `shutdown`.
    pub async fn open(
        location: &Location,
        id: &str,
        shutdown: CancellationToken,
    ) -> sqlx::Result<Self> {
        let schema = location.open("log", include_str!("schema.sql"), Durability::Full).await?;
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
        let tail = Arc::new(Tail::new(head as u64));
        let (appender, jobs) = mpsc::channel(QUEUE);
        let log = Log {
            inner: Arc::new(Inner {
                id: id.into(),
                epoch: epoch as u64,
                schema: schema.clone(),
                tail: tail.clone(),
                appender,
            }),
        };
        // The appender ends when the last handle is dropped, not before: that
        // is no failure.
        let appending = appender::run(id.to_owned(), schema.clone(), tail.clone(), jobs);
        let until = shutdown.clone();
        supervise("appender", shutdown.clone(), async move {
            appending.await;
            until.cancelled().await;
        });
        tokio::spawn(watch_head(schema, tail, shutdown));
        Ok(log)
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
        let (reply, answer) = oneshot::channel();
        self.inner.appender.try_send(Job { append, reply }).map_err(|error| match error {
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
        let found = self.read(cursor.position - 1, 1).await.map_err(|e| self.unavailable(e))?;
        Ok(found.first().is_some_and(|r| r.position == cursor.position && cursor.matches(r)))
    }

    fn unavailable(&self, error: sqlx::Error) -> FollowError {
        FollowError::Unavailable { log: self.id().to_owned(), reason: error.to_string() }
    }
}

impl Follow for Log {
    fn log(&self) -> &str {
        &self.inner.id
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
                while seen.position < known {
                    let mut page = tail.after(seen.position, PAGE);
                    if page.is_empty() {
                        page = log.read(seen.position, PAGE).await.map_err(|e| log.unavailable(e))?;
                    }
                    for record in page {
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
    let Db::Postgres(pool) = &schema.db else { return };
    // Kept for good by the listener.
    let Db::Postgres(own) = schema.dedicated().db else { return };
    let channel = append::channel(&schema);
    let mut listener = None;
    loop {
        if listener.is_none() {
            listener = listen(&own, &channel).await;
        }
        let heard = async {
            match &mut listener {
                Some(listener) => listener.recv().await.ok(),
                None => std::future::pending().await,
            }
        };
        tokio::select! {
            () = shutdown.cancelled() => return,
            heard = heard => match heard {
                // Our own appends are known. Others' are looked at: anybody who
                // may use the database can notify.
                Some(notice) if notice.payload().parse().is_ok_and(|p: u64| p <= tail.head()) => {
                    continue;
                }
                Some(_) => {}
                None => listener = None,
            },
            () = tokio::time::sleep(POLL) => {}
        }
        let head = schema.sql("SELECT position FROM {s}.head WHERE one = 1");
        match sqlx::query_scalar::<_, i64>(head).fetch_one(pool).await {
            Ok(head) => tail.advance(head as u64),
            Err(error) => {
                tracing::warn!(%error, "the log's head cannot be read");
                tokio::time::sleep(POLL).await;
            }
        }
    }
}

async fn listen(pool: &sqlx::PgPool, channel: &str) -> Option<PgListener> {
    let mut listener = PgListener::connect_with(pool).await.ok()?;
    listener.listen(channel).await.ok()?;
    Some(listener)
}
