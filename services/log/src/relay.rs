//! A log's way out: one stream of the exchange for each log, whose sequence is
//! the position.
//!
//! Every message is published with the sequence that must be the stream's
//! last, so that the server itself refuses duplicates and gaps, and the relay
//! keeps no cursor: it goes on after the stream's last message. Before it
//! does, it compares the end of the stream with the log. A stream that is not
//! this log's history, that has holes, or of which nothing can be proved
//! because it was emptied, is made anew, for the records that are young enough
//! to be kept; whoever needs older ones asks the log's owner.
//!
//! Any number of relays may run at once, also of different histories: each
//! sees what another did by a sequence that is refused, and looks again.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;

use futures::future::BoxFuture;
use futures::{StreamExt, TryStreamExt, stream};
use jiff::Timestamp;
use tokio::time::MissedTickBehavior;
use tokio_util::sync::CancellationToken;

use crate::backoff::Backoff;
use crate::exchange::{Exchange, ExchangeError, Found};
use crate::follow::{Cursor, Follow, FollowError, Item};
use crate::log::Log;
use crate::mask::Exchanged;
use crate::record::{Record, recorded_at};
use crate::tasks::Task;

pub use crate::exchange::Retention;

/// Messages on their way without an acknowledgement.
pub const IN_FLIGHT: usize = 512;
/// How often the relay looks whether the stream is still what it left: an
/// exchange that lost something says nothing.
const LOOK: Duration = Duration::from_secs(5);
/// How long the relay rests after a failure: at first, and at most.
const REST: [Duration; 2] = [Duration::from_millis(250), Duration::from_secs(5)];
/// Messages of the stream's end that are asked for at once.
const COMPARED_AT_ONCE: usize = 64;

/// A log as the relay reads it.
pub trait Source: Follow + Clone {
    /// Records after a position, in order, at most `limit`.
    fn read(
        &self,
        after: u64,
        limit: usize,
    ) -> BoxFuture<'_, Result<Vec<Arc<Record>>, FollowError>>;

    /// The last position whose record is older than this; 0 where none is.
    fn older_than(&self, age: Duration) -> BoxFuture<'_, Result<u64, FollowError>>;
}

/// Why the relay begins again.
#[derive(Debug, thiserror::Error)]
enum RelayError {
    #[error(transparent)]
    Exchange(#[from] ExchangeError),
    #[error(transparent)]
    Log(#[from] FollowError),
    #[error("position {position} got sequence {sequence}")]
    OtherSequence { position: u64, sequence: u64 },
    #[error("the stream is not as it was left: {0}")]
    Changed(&'static str),
}

/// Publishes a log until `shutdown`, whatever happens to the exchange.
pub async fn run<S: Source, E: Exchange>(
    log: S,
    exchange: E,
    retention: Retention,
    task: Task,
    shutdown: CancellationToken,
) {
    let relay = Relay { log, exchange, retention, task };
    let mut backoff = Backoff::new(REST[0], REST[1]);
    loop {
        let result = tokio::select! {
            biased;
            () = shutdown.cancelled() => return,
            result = relay.publish(&mut backoff) => result,
        };
        if let Err(error) = result {
            tracing::warn!(log = relay.log.log(), %error, "the relay begins again");
            relay.task.failed(error);
        }
        tokio::select! {
            biased;
            () = shutdown.cancelled() => return,
            () = tokio::time::sleep(backoff.rest()) => {}
        }
    }
}

struct Relay<S, E> {
    log: S,
    exchange: E,
    retention: Retention,
    task: Task,
}

/// A record on its way.
struct Sent<A> {
    record: Arc<Record>,
    ack: A,
}

// === impl Relay ===

impl<S: Source, E: Exchange> Relay<S, E> {
    /// Publishes from the stream's end until something fails.
    async fn publish(&self, backoff: &mut Backoff) -> Result<(), RelayError> {
        let (mut settled, made) = self.prepare().await?;
        self.task.running();
        self.saw(&settled);
        let mut last = settled.clone();
        let mut items = Exchanged(self.log.clone()).follow(last.clone());
        let mut waiting: VecDeque<Sent<E::Ack>> = VecDeque::with_capacity(IN_FLIGHT);
        let mut look = tokio::time::interval(LOOK);
        look.set_missed_tick_behavior(MissedTickBehavior::Delay);
        look.reset();
        loop {
            // Send what is ready; otherwise settle what was sent.
            tokio::select! {
                biased;
                _ = look.tick() => {
                    self.saw(&settled);
                    self.look(&settled, made, waiting.is_empty()).await?;
                }
                item = items.next(), if waiting.len() < IN_FLIGHT => match item {
                    Some(Ok(Item::Record(record))) => {
                        let ack = self.exchange.publish(&record, &last).await?;
                        last = Cursor::at(&record);
                        waiting.push_back(Sent { record, ack });
                    }
                    Some(Ok(Item::CaughtUp(_))) => {}
                    Some(Err(error)) => return Err(error.into()),
                    None => return Ok(()),
                },
                sequence = oldest(&mut waiting), if !waiting.is_empty() => {
                    let Some(Sent { record, .. }) = waiting.pop_front() else { continue };
                    let (position, sequence) = (record.position, sequence?);
                    if sequence != position {
                        return Err(RelayError::OtherSequence { position, sequence });
                    }
                    settled = Cursor::at(&record);
                    backoff.reset();
                    if waiting.is_empty() {
                        self.saw(&settled);
                    }
                }
            }
        }
    }

    /// Where to go on: after the end of a stream that holds this log's
    /// history, which is made, or made anew, where there is none. With the
    /// stream's identity.
    async fn prepare(&self) -> Result<(Cursor, i128), RelayError> {
        if let Some(found) = self.exchange.find().await? {
            match self.compare(&found).await? {
                Ok(end) => {
                    if found.retention != self.retention {
                        self.exchange.keep(&self.retention).await?;
                    }
                    return Ok((end, found.made));
                }
                Err(reason) => {
                    tracing::warn!(log = self.log.log(), last = found.last, reason, "made anew");
                    self.task.note(format!(
                        "the stream, which ended at {}, was made anew: {reason}",
                        found.last
                    ));
                    self.exchange.delete().await?;
                }
            }
        }
        let after = if self.retention.max_age.is_zero() {
            0
        } else {
            self.log.older_than(self.retention.max_age).await?
        };
        let after = self.cursor(after).await?.unwrap_or(Cursor::START);
        let made = self.exchange.make(&after, &self.retention).await?;
        Ok((after, made.made))
    }

    /// The end of a stream that holds this log's history, or why it must be
    /// made anew.
    ///
    /// Another relay, of another history, may have slipped in a message
    /// between those that this one had on their way: so not only the last
    /// message is compared, but as many as can be on their way.
    async fn compare(&self, found: &Found) -> Result<Result<Cursor, String>, RelayError> {
        if let Some(setting) = &found.unfit {
            return Ok(Err(format!("it had another setting, {setting}")));
        }
        if found.has_holes() {
            return Ok(Err("messages were deleted from it".to_owned()));
        }
        let Some(end) = self.cursor(found.last).await? else {
            return Ok(Err("it was longer than the log".to_owned()));
        };
        if found.messages == 0 {
            let proved = found.last == 0 || (found.after.is_some() && found.after == end.hash);
            let emptied = "it was emptied, and nothing proved whose history it had".to_owned();
            return Ok(if proved { Ok(end) } else { Err(emptied) });
        }
        let first = found.first.max(found.last.saturating_sub(IN_FLIGHT as u64 - 1));
        let recorded = self.log.read(first - 1, (found.last - first + 1) as usize).await?;
        let different = stream::iter(recorded)
            .map(async |record| {
                let published = self.exchange.record(record.position).await?;
                let same = published.is_some_and(|published| {
                    (published.position, published.epoch, &published.hash)
                        == (record.position, record.epoch, &record.hash)
                });
                Ok::<_, RelayError>((!same).then_some(record.position))
            })
            .buffered(COMPARED_AT_ONCE)
            .try_filter_map(async |different| Ok(different));
        let different = std::pin::pin!(different).try_next().await?;
        let Some(position) = different else { return Ok(Ok(end)) };
        match self.exchange.find().await? {
            Some(now) if now.made == found.made && now.first <= position => {
                Ok(Err(format!("it had another record at {position} than the log")))
            }
            // Made anew by another relay, or the message left it by its age.
            _ => Err(RelayError::Changed("it changed while it was compared")),
        }
    }

    /// Fails where the stream is not what was left there. What another relay
    /// added is compared like everything that is found: it may be of a log that
    /// was restored since.
    async fn look(&self, settled: &Cursor, made: i128, idle: bool) -> Result<(), RelayError> {
        match self.exchange.find().await? {
            None => Err(RelayError::Changed("it is gone")),
            Some(found) if found.made != made => Err(RelayError::Changed("it is another one")),
            Some(found) if found.unfit.is_some() => {
                Err(RelayError::Changed("it has other settings"))
            }
            Some(found) if found.last < settled.position => {
                Err(RelayError::Changed("it lost its end"))
            }
            Some(found) if idle && found.last > settled.position => {
                Err(RelayError::Changed("another relay added to it"))
            }
            Some(found) if found.has_holes() => Err(RelayError::Changed("it has holes")),
            Some(_) => Ok(()),
        }
    }

    /// The cursor of the record at a position, where the log has one.
    async fn cursor(&self, position: u64) -> Result<Option<Cursor>, RelayError> {
        if position == 0 {
            return Ok(Some(Cursor::START));
        }
        let found = self.log.read(position - 1, 1).await?;
        Ok(found.first().filter(|record| record.position == position).map(|r| Cursor::at(r)))
    }

    fn saw(&self, settled: &Cursor) {
        self.task.saw(self.log.log(), settled, self.log.newest().unwrap_or_default());
    }
}

/// The acknowledgement of the oldest record on its way.
async fn oldest<A: Future + Unpin>(waiting: &mut VecDeque<Sent<A>>) -> A::Output {
    match waiting.front_mut() {
        Some(sent) => (&mut sent.ack).await,
        None => std::future::pending().await,
    }
}

impl Source for Log {
    fn read(
        &self,
        after: u64,
        limit: usize,
    ) -> BoxFuture<'_, Result<Vec<Arc<Record>>, FollowError>> {
        Box::pin(self.page(after, limit))
    }

    /// Recorded time never runs backwards within a log, so that halving finds
    /// it.
    fn older_than(&self, age: Duration) -> BoxFuture<'_, Result<u64, FollowError>> {
        Box::pin(async move {
            let since = Timestamp::now().checked_sub(age).unwrap_or(Timestamp::UNIX_EPOCH);
            let (mut old, mut young) = (0, self.head() + 1);
            while young - old > 1 {
                let middle = old + (young - old) / 2;
                match Source::read(self, middle - 1, 1).await?.first() {
                    Some(record) if recorded_at(record) < since => old = middle,
                    _ => young = middle,
                }
            }
            Ok(old)
        })
    }
}
