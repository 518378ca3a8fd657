//! Server streams: what ends them, and where their reader resumes.
//!
//! Nothing is queued for a reader: the source of a stream is asked for the
//! next item when the one before is on its way. So a reader that is slow is
//! served at its own pace, and costs what its source holds (some pages, see
//! [`crate::watch`]), one encoded message, and HTTP/2's window.
//!
//! A reader that stops reading is not asked for anything any more, and so
//! nothing inside its stream would notice. A watchdog does: it drops the
//! source, and leaves a refusal for whenever the reader comes back. What stays
//! until then, or until the connection ends, is the HTTP/2 stream itself: it
//! cannot be reset from here, and it counts among its own connection's streams.

use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, ready};
use std::time::Duration;

use futures::{Stream, StreamExt};
use jiff::Timestamp;
use prost::Name;
use samen_log::record::Position;
use samen_proto::contract;
use samen_proto::options::Role;
use tokio::time::{Instant, sleep, sleep_until};
use tokio_util::sync::CancellationToken;
use tokio_util::task::AbortOnDropHandle;
use tonic::{Code, Status};

use crate::deployment::Deployment;
use crate::identity::Caller;
use crate::metrics::{Count, Counts};
use crate::reply;

/// The shortest life of a stream, as a part of the longest: streams that began
/// together, after a restart, do not all come back together.
const YOUNGEST: f64 = 0.8;

/// A server stream as tonic takes it.
pub type Outgoing<T> = Pin<Box<dyn Stream<Item = Result<T, Status>> + Send>>;

/// What the streams of a process have in common: their limits, and how many
/// there are. Clones share the count.
#[derive(Clone, Debug)]
pub struct Streams {
    /// How long a stream may be silent.
    pub heartbeat: Duration,
    /// How long a reader may take nothing, counted from when the next
    /// heartbeat was due at the latest.
    pub stall: Duration,
    /// How long a stream lasts at most.
    pub age: Duration,
    open: Counts,
}

/// One of the streams that are counted.
struct Open {
    method: &'static str,
    count: Count,
}

/// Why a stream ends although it has more to say.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum End {
    ShuttingDown,
    Age,
    TokenExpired,
    Stalled,
}

/// A stream as its reader takes it.
struct Read<T> {
    reading: Arc<Mutex<Reading<T>>>,
    _watchdog: AbortOnDropHandle<()>,
}

/// How far the reading of a stream is.
struct Reading<T> {
    /// `None` when it has ended, or its reader has stalled.
    source: Option<Outgoing<T>>,
    /// What a reader is told that comes back after it has stalled.
    refusal: Option<Status>,
    /// When the reader last asked. One that takes what it is sent asks at each
    /// heartbeat at the latest.
    asked: Instant,
}

// === impl Streams ===

impl Streams {
    pub fn new(heartbeat: Duration, stall: Duration, age: Duration) -> Self {
        Streams { heartbeat, stall, age, open: Counts::default() }
    }

    /// How many streams are open, by method: those of stalled readers are not.
    pub fn open(&self) -> &Counts {
        &self.open
    }

    /// How many of one method are.
    pub fn open_of(&self, service: &str, method: &str) -> usize {
        let labels = vec![("service", service.to_owned()), ("method", method.to_owned())];
        self.open.get(&labels).map_or(0, |count| count.get() as usize)
    }

    /// Counts a stream that sends these messages.
    fn begin<T: Name>(&self) -> Open {
        let (service, method) = contract::answered_by(&T::full_name()).unwrap_or_default();
        let labels = vec![("service", service.to_owned()), ("method", method.to_owned())];
        let count = self.open.get_or_create_owned(&labels);
        count.inc();
        tracing::debug!(method, "a stream began");
        Open { method, count }
    }
}

impl Drop for Open {
    fn drop(&mut self) {
        self.count.dec();
        tracing::debug!(method = self.method, "a stream ended");
    }
}

/// Sends the items, and a heartbeat whenever nothing was sent for a while.
/// `at` tells where the reader can resume at this moment: having been sent all
/// up to there.
///
/// The stream ends, with that position in the status's `ErrorInfo`, when the
/// server shuts down or the stream has lasted long enough (UNAVAILABLE: resume,
/// there or elsewhere), when the caller's token has expired (UNAUTHENTICATED:
/// resume with a new one), and when its reader has stalled
/// (RESOURCE_EXHAUSTED).
pub fn outgoing<T, S>(
    items: S,
    at: impl Fn() -> Position + Clone + Send + Sync + 'static,
    heartbeat: impl Fn(Position) -> T + Send + 'static,
    deployment: &Deployment,
    caller: &Caller,
) -> Outgoing<T>
where
    T: Name + Send + 'static,
    S: Stream<Item = Result<T, Status>> + Send + 'static,
{
    let streams = &deployment.streams;
    let every = streams.heartbeat;
    // A service renews its token with every call, and a follower's call lasts.
    let expires = caller.expires.filter(|_| !caller.has(Role::Service));
    let lasts = streams.age.mul_f64(rand::random_range(YOUNGEST..=1.0));
    let ending = ending(deployment.shutdown.clone(), lasts, expires);
    let open = streams.begin::<T>();
    let place = at.clone();
    let source = async_stream::stream! {
        let _open = open;
        let mut items = std::pin::pin!(items);
        let mut ending = std::pin::pin!(ending);
        loop {
            let next = tokio::select! {
                // A source that always has more must not outlive its end.
                biased;
                end = &mut ending => {
                    yield Err(end.status(&place()));
                    return;
                }
                next = items.next() => next,
                () = sleep(every) => {
                    yield Ok(heartbeat(place()));
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
    };
    let reading = Reading { source: Some(Box::pin(source)), refusal: None, asked: Instant::now() };
    let reading = Arc::new(Mutex::new(reading));
    let watchdog = watch_over(reading.clone(), every + streams.stall, at);
    Box::pin(Read { reading, _watchdog: AbortOnDropHandle::new(tokio::spawn(watchdog)) })
}

/// Waits until a stream must end although it has more to say.
async fn ending(shutdown: CancellationToken, lasts: Duration, expires: Option<i64>) -> End {
    tokio::select! {
        () = shutdown.cancelled() => End::ShuttingDown,
        () = sleep(lasts) => End::Age,
        () = reached(expires) => End::TokenExpired,
    }
}

/// Waits for a moment, in seconds since 1970; for ever without one.
async fn reached(moment: Option<i64>) {
    match moment.map(Timestamp::from_second) {
        Some(Ok(moment)) => {
            let left = moment.duration_since(Timestamp::now());
            // None is left of what has passed.
            sleep(Duration::try_from(left).unwrap_or_default()).await;
        }
        // After the end of all calendars.
        Some(Err(_)) | None => std::future::pending().await,
    }
}

/// Drops the source when the reader has not asked for so long.
async fn watch_over<T>(
    reading: Arc<Mutex<Reading<T>>>,
    limit: Duration,
    at: impl Fn() -> Position,
) {
    let mut due = Instant::now() + limit;
    loop {
        sleep_until(due).await;
        let dropped = {
            let mut reading = lock(&reading);
            due = reading.asked + limit;
            if due > Instant::now() {
                continue;
            }
            let dropped = reading.source.take();
            if dropped.is_some() {
                reading.refusal = Some(End::Stalled.status(&at()));
            }
            dropped
        };
        if dropped.is_some() {
            tracing::info!(log = at().log, position = at().position, "a reader stalled");
        }
        return;
    }
}

fn lock<T>(reading: &Mutex<Reading<T>>) -> MutexGuard<'_, Reading<T>> {
    reading.lock().unwrap_or_else(PoisonError::into_inner)
}

// === impl Read ===

impl<T> Stream for Read<T> {
    type Item = Result<T, Status>;

    fn poll_next(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        let mut reading = lock(&self.reading);
        reading.asked = Instant::now();
        let Some(source) = &mut reading.source else {
            return Poll::Ready(reading.refusal.take().map(Err));
        };
        let item = ready!(source.as_mut().poll_next(cx));
        if item.is_none() {
            reading.source = None;
        }
        Poll::Ready(item)
    }
}

// === impl End ===

impl End {
    fn status(self, at: &Position) -> Status {
        let (code, reason, message) = match self {
            End::ShuttingDown => (
                Code::Unavailable,
                "SHUTTING_DOWN",
                "the server stops; resume from the last position you have",
            ),
            End::Age => (
                Code::Unavailable,
                "STREAM_AGE",
                "this stream has lasted long enough; resume from the last position you have",
            ),
            End::TokenExpired => (
                Code::Unauthenticated,
                "TOKEN_EXPIRED",
                "the token has expired; resume with a new one",
            ),
            End::Stalled => (
                Code::ResourceExhausted,
                "STALLED",
                "this stream was not read for too long; resume from the last position you have",
            ),
        };
        reply::ended(code, reason, message, at)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LONG: Duration = Duration::from_secs(3600);

    #[tokio::test]
    async fn a_stream_ends_with_its_token_with_its_age_or_with_the_server() {
        let now = Timestamp::now();
        let shutdown = CancellationToken::new();
        for left in [-1, 1] {
            let moment = now.as_second() + left;
            let ended = ending(shutdown.clone(), LONG, Some(moment)).await;
            assert_eq!(ended, End::TokenExpired);
            assert!(Timestamp::now().as_second() >= moment);
        }
        let ended = ending(shutdown.clone(), Duration::from_millis(1), None).await;
        assert_eq!(ended, End::Age);
        assert!(Timestamp::now().duration_since(now).as_secs() < 10);

        shutdown.cancel();
        for never in [None, Some(i64::MAX)] {
            assert_eq!(ending(shutdown.clone(), LONG, never).await, End::ShuttingDown);
        }
    }
}
