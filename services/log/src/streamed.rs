//! A log followed through the exchange, and from its owner where the exchange
//! does not have it.
//!
//! The stream is where records come from; the owner is who knows the truth.
//! Where the stream does not reach back or forward to what the follower needs,
//! or does not continue what it has seen, the owner is asked: it refuses a
//! follower that is not in its history, and gives the records otherwise, until
//! the stream serves again.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use futures::StreamExt;
use futures::stream::BoxStream;
use tokio::sync::watch;
use tokio::time::Instant;

use crate::exchange::{Exchange, ExchangeError, Found, Published};
use crate::follow::{Cursor, Follow, FollowError, Item};
use crate::record::Record;

/// How often one who reads from the owner, or waits, looks whether the stream
/// serves again.
const POLL: Duration = Duration::from_millis(250);
/// How often one to whom nothing comes looks whether the stream is still the
/// one that it reads: one that was made anew says nothing.
const LOOK: Duration = Duration::from_secs(5);
/// How long one without an owner to ask waits for the relay to bring the
/// stream to where it is, before it says so.
const PATIENCE: Duration = Duration::from_secs(5);

/// A log as its stream has it, and its owner.
#[derive(Clone)]
pub struct Streamed<E> {
    exchange: E,
    owner: Option<Arc<dyn Follow>>,
    newest: Arc<AtomicU64>,
}

/// What comes from one of the two, until the other should be asked.
enum Part {
    Record(Arc<Record>),
    CaughtUp,
    /// The stream cannot be right. What is to be said of it, where nobody else
    /// can be asked.
    Doubt(FollowError),
}

type Parts = BoxStream<'static, Result<Part, FollowError>>;

/// What the stream can do for a follower.
#[derive(Debug)]
enum Serves {
    /// It has what comes next, or will have.
    Yes(Found),
    /// It has nothing to compare with what was seen, and nothing after it: it
    /// cannot tell whether it is of the same history.
    Unsure(Found),
    /// Records that come next have left it.
    NotBack(Found),
    /// It ends before what was seen; with its last record's epoch.
    NotYet { end: u64, epoch: Option<u64> },
    /// Another record stands where one was seen.
    Other,
    /// There is none.
    Gone,
}

// === impl Streamed ===

impl<E: Exchange> Streamed<E> {
    /// Follows a log through this exchange. Records that the stream does not
    /// have are read from `owner`, where there is one.
    pub fn over(exchange: E, owner: Option<Arc<dyn Follow>>) -> Self {
        Streamed { exchange, owner, newest: Arc::default() }
    }

    /// What the stream can do for somebody who has seen this much.
    async fn serves(&self, seen: &Cursor) -> Result<Serves, ExchangeError> {
        let Some(found) = self.exchange.find().await? else { return Ok(Serves::Gone) };
        self.newest.store(found.last, Ordering::Relaxed);
        if found.last < seen.position {
            let last = match found.messages {
                0 => None,
                _ => self.exchange.record(found.last).await?,
            };
            let epoch = last.map(|record| record.epoch);
            return Ok(Serves::NotYet { end: found.last, epoch });
        }
        if found.first > seen.position + 1 {
            return Ok(Serves::NotBack(found));
        }
        let there = match found.messages > 0 && found.first <= seen.position {
            true => self.exchange.record(seen.position).await?,
            false => None,
        };
        Ok(match there {
            Some(there) if seen.matches(&there) => Serves::Yes(found),
            Some(_) => Serves::Other,
            // It has left. What comes next names it, if something does.
            None if seen.position > 0 && found.last == seen.position => Serves::Unsure(found),
            None => Serves::Yes(found),
        })
    }

    /// Reads the stream, until it is another one or does not continue.
    fn by_stream(&self, mut seen: Cursor, found: Found) -> Parts {
        let this = self.clone();
        Box::pin(async_stream::try_stream! {
            let mut messages = this.exchange.messages(seen.position);
            if seen.position >= found.last {
                yield Part::CaughtUp;
            }
            loop {
                let Ok(message) = tokio::time::timeout(LOOK, messages.next()).await else {
                    let now = this.exchange.find().await.map_err(|e| this.unavailable(e))?;
                    match now {
                        Some(now) if now.made == found.made && now.last == seen.position => {
                            this.newest.store(now.last, Ordering::Relaxed);
                            continue;
                        }
                        // Or it has more, which nobody brings any more.
                        _ => return,
                    }
                };
                let ended = || Err(ExchangeError("its stream ended".to_owned()));
                let message = message.unwrap_or_else(ended).map_err(|e| this.unavailable(e))?;
                this.newest.store(message.newest, Ordering::Relaxed);
                if let Some(doubt) = this.doubt(&seen, &message) {
                    yield Part::Doubt(doubt);
                    return;
                }
                seen = Cursor::at(&message.record);
                yield Part::Record(message.record);
                if seen.position == found.last {
                    yield Part::CaughtUp;
                }
            }
        })
    }

    /// Reads from the owner, until the stream serves.
    fn by_owner(&self, seen: Cursor, owner: Arc<dyn Follow>) -> Parts {
        let this = self.clone();
        Box::pin(async_stream::try_stream! {
            let mut items = owner.follow(seen.clone());
            // Asked beside, since an exchange that is gone takes long to say so.
            let (at, mut now) = watch::channel(seen.clone());
            let serves = async {
                loop {
                    tokio::time::sleep(POLL).await;
                    let seen = now.borrow_and_update().clone();
                    // An exchange that cannot be asked does not serve.
                    if let Ok(Serves::Yes(_) | Serves::Unsure(_)) = this.serves(&seen).await {
                        return;
                    }
                }
            };
            let mut serves = std::pin::pin!(serves);
            loop {
                let item = tokio::select! {
                    biased;
                    () = &mut serves => return,
                    item = items.next() => item,
                };
                match item {
                    Some(Ok(Item::Record(record))) => {
                        at.send_replace(Cursor::at(&record));
                        yield Part::Record(record);
                    }
                    Some(Ok(Item::CaughtUp(_))) => yield Part::CaughtUp,
                    Some(Err(error)) => Err(this.of_owner(error))?,
                    None => Err(this.unavailable("its owner ended the stream"))?,
                }
            }
        })
    }

    /// Asks the owner whether what was seen is in its history.
    async fn is_in(&self, seen: &Cursor, owner: &dyn Follow) -> Result<(), FollowError> {
        match owner.follow(seen.clone()).next().await {
            Some(Ok(_)) => Ok(()),
            Some(Err(error)) => Err(self.of_owner(error)),
            None => Err(self.unavailable("its owner ended the stream")),
        }
    }

    /// Says of what cannot be had from the owner why it was asked.
    fn of_owner(&self, error: FollowError) -> FollowError {
        match error {
            FollowError::Unavailable { reason, .. } => self.unavailable(format!(
                "what its stream does not have must come from its owner: {reason}"
            )),
            refused => refused,
        }
    }

    /// Why a message cannot come next: the stream has holes, or was made anew
    /// while it was read.
    fn doubt(&self, seen: &Cursor, message: &Published) -> Option<FollowError> {
        let log = self.exchange.log();
        let expected = seen.position + 1;
        if message.sequence != expected || message.record.position != expected {
            return Some(FollowError::Gap {
                log: log.to_owned(),
                expected,
                found: message.sequence,
            });
        }
        match (&message.previous, &seen.hash) {
            (Some(previous), Some(hash)) if previous != hash => Some(seen.not_in(log)),
            _ => None,
        }
    }

    /// Without an owner: what can be said to somebody whom the stream does not
    /// serve. `None`: that it may, before long.
    fn alone(&self, seen: &Cursor, serves: &Serves, waits: Duration) -> Option<FollowError> {
        let log = self.exchange.log();
        match serves {
            Serves::Yes(_) | Serves::Unsure(_) => None,
            Serves::NotBack(found) => Some(FollowError::Gap {
                log: log.to_owned(),
                expected: seen.position + 1,
                found: found.first,
            }),
            Serves::Other => Some(seen.not_in(log)),
            // Epochs only rise within a history: one that began before this
            // position cannot hold what was seen there.
            Serves::NotYet { epoch: Some(epoch), .. } if *epoch > seen.epoch => {
                Some(seen.not_in(log))
            }
            Serves::NotYet { end, .. } if waits > PATIENCE => Some(self.unavailable(format!(
                "its stream ends at {end}, before {}, and nobody else can be asked",
                seen.position
            ))),
            Serves::Gone if waits > PATIENCE => Some(self.unavailable("it has no stream")),
            Serves::NotYet { .. } | Serves::Gone => None,
        }
    }

    fn unavailable(&self, reason: impl ToString) -> FollowError {
        FollowError::Unavailable { log: self.exchange.log().to_owned(), reason: reason.to_string() }
    }
}

impl<E: Exchange> Follow for Streamed<E> {
    fn log(&self) -> &str {
        self.exchange.log()
    }

    fn follow(&self, after: Cursor) -> BoxStream<'static, Result<Item, FollowError>> {
        let this = self.clone();
        Box::pin(async_stream::try_stream! {
            let log = this.exchange.log();
            let mut seen = after;
            let mut caught_up = false;
            let mut served = Instant::now();
            // Why the stream is not trusted, although it seems to serve.
            let mut doubt = None;
            loop {
                let serves = match this.serves(&seen).await {
                    Ok(serves) => serves,
                    Err(_) if this.owner.is_some() => Serves::Gone,
                    Err(error) => Err(this.unavailable(error))?,
                };
                let mut parts = match (serves, doubt.take(), &this.owner) {
                    (Serves::Yes(found), None, _) => this.by_stream(seen.clone(), found),
                    (Serves::Unsure(found), None, owner) => {
                        if let Some(owner) = owner {
                            this.is_in(&seen, owner.as_ref()).await?;
                        }
                        this.by_stream(seen.clone(), found)
                    }
                    (_, _, Some(owner)) => this.by_owner(seen.clone(), owner.clone()),
                    (serves, doubt, None) => {
                        let error = doubt.or_else(|| this.alone(&seen, &serves, served.elapsed()));
                        if let Some(error) = error {
                            Err(error)?;
                        }
                        tokio::time::sleep(POLL).await;
                        continue;
                    }
                };
                while let Some(part) = parts.next().await {
                    match part? {
                        Part::Record(record) => {
                            seen.step(log, &record)?;
                            yield Item::Record(record);
                        }
                        Part::CaughtUp if !caught_up => {
                            caught_up = true;
                            yield Item::CaughtUp(seen.clone());
                        }
                        Part::CaughtUp => {}
                        Part::Doubt(error) => doubt = Some(error),
                    }
                }
                served = Instant::now();
            }
        })
    }

    fn newest(&self) -> Option<u64> {
        match self.newest.load(Ordering::Relaxed) {
            0 => None,
            newest => Some(newest),
        }
    }
}
