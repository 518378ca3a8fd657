//! Server streams that heed shutdown and their caller's token, show that they
//! live, and tell what there is and what changes.

use std::collections::BTreeSet;
use std::pin::Pin;
use std::time::Duration;

use futures::{Stream, StreamExt};
use jiff::Timestamp;
use prost::DecodeError;
use samen_log::record::Position;
use samen_log::{Cursor, Follow, Item, Log, Record, Store};
use samen_proto::log::{CaughtUp, Heartbeat};
use samen_proto::options::Role;
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;
use tonic::{Code, Status};

use crate::deployment::Deployment;
use crate::identity::Caller;
use crate::paging::{Page, PageEnd};
use crate::reply::{self, status};

/// Changes that are looked at together, at most.
const BATCH: usize = 500;

/// A server stream as tonic takes it.
pub type Outgoing<T> = Pin<Box<dyn Stream<Item = Result<T, Status>> + Send>>;

/// Sends the items, a heartbeat whenever nothing was sent for a while, and at
/// shutdown UNAVAILABLE: the reader resumes elsewhere from the last position
/// that it has seen. When the caller's token has expired, the stream ends with
/// UNAUTHENTICATED: the reader resumes with a new one.
///
/// Nothing is queued here: a reader that is slow makes the source wait.
pub fn outgoing<T, S>(
    items: S,
    heartbeat: impl Fn() -> T + Send + 'static,
    deployment: &Deployment,
    caller: &Caller,
) -> Outgoing<T>
where
    T: Send + 'static,
    S: Stream<Item = Result<T, Status>> + Send + 'static,
{
    let every = deployment.heartbeat;
    // A service renews its token with every call, and a follower's call lasts.
    let expires = caller.expires.filter(|_| !caller.has(Role::Service));
    let ending = ending(deployment.shutdown.clone(), expires);
    Box::pin(async_stream::stream! {
        let mut items = std::pin::pin!(items);
        let mut ending = std::pin::pin!(ending);
        loop {
            let next = tokio::select! {
                biased;
                reason = &mut ending => {
                    yield Err(reason);
                    return;
                }
                next = items.next() => next,
                () = tokio::time::sleep(every) => {
                    yield Ok(heartbeat());
                    continue;
                }
            };
            match next {
                Some(Ok(item)) => yield Ok(item),
                Some(Err(error)) => {
                    yield Err(error);
                    return;
                }
                None => return,
            }
        }
    })
}

/// Waits until a stream must end although it has more to say, and tells why.
async fn ending(shutdown: CancellationToken, expires: Option<i64>) -> Status {
    tokio::select! {
        () = shutdown.cancelled() => {
            let message = "the server stops; resume from the last position you have";
            status(Code::Unavailable, "SHUTTING_DOWN", message)
        }
        () = reached(expires) => {
            let message = "the token has expired; resume with a new one";
            status(Code::Unauthenticated, "TOKEN_EXPIRED", message)
        }
    }
}

/// Waits for a moment, in seconds since 1970; for ever without one.
async fn reached(moment: Option<i64>) {
    match moment.map(Timestamp::from_second) {
        Some(Ok(moment)) => {
            let left = moment.duration_since(Timestamp::now());
            // None is left of what has passed.
            tokio::time::sleep(Duration::try_from(left).unwrap_or_default()).await;
        }
        // After the end of all calendars.
        Some(Err(_)) | None => std::future::pending().await,
    }
}

/// What a service lets its callers watch: what there is, then what changes.
pub trait Watched: Send + Sync + 'static {
    /// What the stream sends.
    type Message: Send + 'static;

    /// What there is: the page after `from`.
    fn page(
        &self,
        from: &PageEnd,
    ) -> impl Future<Output = sqlx::Result<Page<Self::Message>>> + Send;

    /// What became of those that changed.
    fn changed(
        &self,
        ids: &BTreeSet<String>,
    ) -> impl Future<Output = sqlx::Result<Vec<Self::Message>>> + Send;

    /// What a record is about. `None` where the reader does not look at it.
    fn subject(record: &Record) -> Result<Option<String>, DecodeError>;

    fn caught_up(mark: CaughtUp) -> Self::Message;
    fn heartbeat(beat: Heartbeat) -> Self::Message;
}

/// What there is in a store that follows this log, a caught-up mark, then what
/// changes; only the changes for one who resumes.
pub fn watch<W: Watched>(
    watched: W,
    log: &Log,
    store: &Store,
    resume_after: Option<Position>,
    deployment: &Deployment,
    caller: &Caller,
) -> Result<Outgoing<W::Message>, Status> {
    let resume = resume_after.map(|position| Cursor::from_position(log.id(), position));
    let resume = resume.transpose().map_err(reply::follow)?;
    let (told, heard) = watch::channel(resume.clone().unwrap_or_default());
    let (log, store) = (log.clone(), store.clone());
    let id = log.id().to_owned();
    let items = async_stream::try_stream! {
        let from = match resume {
            Some(from) => from,
            None => {
                // Whatever changes while this is read comes again after it:
                // the mark is where the store was before.
                let mark = store.cursor(log.id());
                let mut from = Some(PageEnd::before_all(mark.position));
                while let Some(place) = from {
                    let page = watched.page(&place).await.map_err(reply::unavailable)?;
                    for item in page.items {
                        yield item;
                    }
                    from = page.end;
                }
                mark
            }
        };
        let mut batches = log.follow(from).ready_chunks(BATCH);
        while let Some(items) = batches.next().await {
            let Changed { ids, at, caught_up } = look::<W>(items)?;
            store.see(log.id(), &at).await;
            if !ids.is_empty() {
                for item in watched.changed(&ids).await.map_err(reply::unavailable)? {
                    yield item;
                }
            }
            if caught_up {
                yield W::caught_up(CaughtUp { position: Some(at.to_position(log.id())) });
            }
            told.send_replace(at);
        }
    };
    // Not where the log is: who resumes there would miss what is on its way.
    let heartbeat = move || {
        let position = Some(heard.borrow().to_position(&id));
        W::heartbeat(Heartbeat { position })
    };
    Ok(outgoing(items, heartbeat, deployment, caller))
}

/// Some of what changed.
#[derive(Debug, Default)]
struct Changed {
    /// What changed, each once.
    ids: BTreeSet<String>,
    /// The last record of these changes. Who was sent them can resume here.
    at: Cursor,
    /// What comes after these changes is live. True once in a stream.
    caught_up: bool,
}

fn look<W: Watched>(items: Vec<Result<Item, samen_log::FollowError>>) -> Result<Changed, Status> {
    let mut changed = Changed::default();
    for item in items {
        match item.map_err(reply::follow)? {
            Item::Record(record) => {
                changed.ids.extend(W::subject(&record).map_err(reply::unavailable)?);
                changed.at = Cursor::at(&record);
            }
            Item::CaughtUp(at) => {
                changed.at = at;
                changed.caught_up = true;
            }
        }
    }
    Ok(changed)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_stream_ends_with_its_token_or_with_the_server() {
        let now = Timestamp::now();
        let shutdown = CancellationToken::new();
        for left in [-1, 1] {
            let moment = now.as_second() + left;
            let ended = ending(shutdown.clone(), Some(moment)).await;
            assert_eq!(ended.code(), Code::Unauthenticated);
            assert!(Timestamp::now().as_second() >= moment);
        }
        assert!(Timestamp::now().duration_since(now).as_secs() < 10);

        shutdown.cancel();
        for never in [None, Some(i64::MAX)] {
            assert_eq!(ending(shutdown.clone(), never).await.code(), Code::Unavailable);
        }
    }
}
