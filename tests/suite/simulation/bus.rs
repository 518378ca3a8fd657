//! An exchange that loses, delays, doubles, reorders and forgets.

use std::pin::pin;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use futures::future::BoxFuture;
use futures::stream::BoxStream;
use samen_log::exchange::{Exchange, ExchangeError, Found, Published, Retention};
use samen_log::{Cursor, Record};
use tokio::sync::{Notify, oneshot};
use tokio::time::{Instant, sleep, sleep_until, timeout};

use super::stream::{State, Stream, gone};
use super::world::{World, lock};

/// How long a publisher waits for an acknowledgement, and anybody for an
/// answer.
const PATIENCE: Duration = Duration::from_secs(2);

/// Records by their sequences, in order.
pub type Held = Vec<(u64, Arc<Record>)>;

/// A connection to the exchange, for one log.
#[derive(Clone)]
pub struct SimBus {
    world: World,
    log: Arc<str>,
    server: Arc<Server>,
    /// When the last message of this connection arrives: those after it come
    /// later.
    arrives: Arc<Mutex<Instant>>,
}

struct Server {
    state: Mutex<State>,
    /// Wakes those who wait in the order in which they came.
    changed: Notify,
}

// === impl SimBus ===

impl SimBus {
    pub fn new(world: &World, log: &str) -> Self {
        let server = Server { state: Mutex::new(State::new()), changed: Notify::new() };
        SimBus {
            world: world.clone(),
            log: log.into(),
            server: Arc::new(server),
            arrives: Arc::new(Mutex::new(Instant::now())),
        }
    }

    /// Another connection to the same server.
    pub fn connect(&self) -> Self {
        SimBus { arrives: Arc::new(Mutex::new(Instant::now())), ..self.clone() }
    }

    /// The sequences and records that the stream holds, and its last sequence.
    pub fn holds(&self) -> Option<(u64, Held)> {
        let mut state = lock(&self.server.state);
        let stream = state.stream()?;
        let messages = stream.messages.iter().map(|(seq, m)| (*seq, m.record.clone())).collect();
        Some((stream.last, messages))
    }

    /// Something happens to the stream.
    pub fn harm(&self) {
        let world = &self.world;
        let mut state = lock(&self.server.state);
        let State { stream, made, before, frozen_until } = &mut *state;
        let harm = world.below(11);
        world.tell(|| format!("the exchange suffers {harm}"));
        *made += 1;
        match (harm, stream) {
            // It is unreachable for a while.
            (0, _) => *frozen_until = Instant::now() + world.millis(20_000),
            // It loses its disk, or somebody deletes the stream.
            (1, stream) => *stream = None,
            // A power failure takes what was not synced.
            (2 | 3, Some(stream)) => {
                let lost = world.below(40);
                stream.last = stream.last.saturating_sub(lost);
                stream.messages.split_off(&(stream.last + 1));
            }
            // Purged: the last sequence stays.
            (4, Some(stream)) => stream.messages.clear(),
            // One message is deleted.
            (5, Some(stream)) => {
                let which = world.below(stream.messages.len() as u64) as usize;
                if let Some(sequence) = stream.messages.keys().nth(which).copied() {
                    stream.messages.remove(&sequence);
                }
            }
            // Another setting, as it is or of a new stream.
            (6, Some(stream)) => stream.unfit = Some("discard".to_owned()),
            (7, stream) => {
                let unfit = Some("max_msgs".to_owned());
                *stream = Some(Stream { unfit, ..Stream::new(*made, world.below(100)) });
            }
            // A stream of somebody else's making, which looks well.
            (8, stream) => *stream = Some(Stream::new(*made, world.below(100))),
            // A backup of the server is restored.
            (9 | 10, stream) if !before.is_empty() => {
                let which = world.below(before.len() as u64) as usize;
                *stream = before[which].clone();
                if harm == 10
                    && let Some(stream) = stream
                {
                    stream.made = *made;
                }
            }
            _ => {}
        }
        drop(state);
        self.server.changed.notify_waiters();
    }

    /// Keeps what the stream is now, for backups and reads that come late.
    pub fn remember(&self) {
        let mut state = lock(&self.server.state);
        let stream = state.stream.clone();
        if state.before.len() == 4 {
            let oldest = self.world.below(4) as usize;
            state.before.remove(oldest);
        }
        state.before.push(stream);
    }

    /// Asks the server to do something.
    async fn call<T: Send + 'static>(
        &self,
        what: &'static str,
        ask: impl FnOnce(&mut State) -> Result<T, ExchangeError> + Send + 'static,
    ) -> Result<T, ExchangeError> {
        self.thaw().await;
        self.world.wire().await;
        if self.world.fails(0.04) {
            if self.world.below(2) == 0 {
                // Nobody waits for it any more when it arrives.
                let (server, world) = (self.server.clone(), self.world.clone());
                tokio::spawn(async move {
                    sleep(world.millis(5_000)).await;
                    let done = ask(&mut lock(&server.state)).is_ok();
                    world.tell(|| format!("{what} arrives late: {done}"));
                    server.changed.notify_waiters();
                });
            }
            sleep(PATIENCE).await;
            return Err(ExchangeError(format!("{what}: no answer")));
        }
        let (made, answer) = {
            let mut state = lock(&self.server.state);
            let before = state.made;
            let answer = ask(&mut state);
            (state.made != before, answer)
        };
        if made {
            self.server.changed.notify_waiters();
        }
        self.world.wire().await;
        if self.world.fails(0.03) {
            return Err(ExchangeError(format!("{what}: the answer was lost")));
        }
        answer
    }

    /// Waits while the server stands still.
    async fn thaw(&self) {
        loop {
            let until = lock(&self.server.state).frozen_until;
            if until <= Instant::now() {
                return;
            }
            sleep_until(until).await;
        }
    }

    /// A server that is behind the others answers a read.
    fn late_read(&self) -> Option<Option<Stream>> {
        let state = lock(&self.server.state);
        (!state.before.is_empty() && self.world.fails(0.02))
            .then(|| state.before[self.world.below(state.before.len() as u64) as usize].clone())
    }
}

impl Exchange for SimBus {
    type Ack = BoxFuture<'static, Result<u64, ExchangeError>>;

    fn log(&self) -> &str {
        &self.log
    }

    async fn find(&self) -> Result<Option<Found>, ExchangeError> {
        let late = self.late_read();
        self.call("find", move |state| {
            Ok(match &late {
                Some(late) => late.as_ref().map(Stream::found),
                None => state.stream().map(|stream| stream.found()),
            })
        })
        .await
    }

    async fn record(&self, sequence: u64) -> Result<Option<Record>, ExchangeError> {
        let late = self.late_read();
        self.call("record", move |state| {
            let stream = match &late {
                Some(late) => late.as_ref(),
                None => state.stream().map(|stream| &*stream),
            };
            let message = stream.and_then(|stream| stream.messages.get(&sequence));
            Ok(message.map(|message| (*message.record).clone()))
        })
        .await
    }

    fn messages(&self, after: u64) -> BoxStream<'static, Result<Published, ExchangeError>> {
        let this = self.clone();
        Box::pin(async_stream::try_stream! {
            let mut last = after;
            let mut again = None;
            loop {
                this.thaw().await;
                if this.world.fails(0.01) {
                    Err(ExchangeError("messages: simulated".to_owned()))?;
                }
                let mut changed = pin!(this.server.changed.notified());
                changed.as_mut().enable();
                let next = {
                    let mut state = lock(&this.server.state);
                    // One that skips, or goes back to what was sent.
                    let skipped = u64::from(this.world.fails(0.005));
                    state.stream().and_then(|stream| stream.next(last + skipped))
                };
                match next {
                    Some(message) => {
                        this.world.wire().await;
                        last = message.sequence;
                        if this.world.fails(0.01) {
                            again = Some(message.clone());
                        }
                        yield message;
                        if let Some(message) = again.take() {
                            yield message;
                        }
                    }
                    None => changed.await,
                }
            }
        })
    }

    async fn make(&self, after: &Cursor, retention: &Retention) -> Result<Found, ExchangeError> {
        let (after, retention) = (after.clone(), *retention);
        let world = self.world.clone();
        self.call("make", move |state| {
            if state.stream.is_some() {
                return Err(ExchangeError("make: there is one".to_owned()));
            }
            world.tell(|| format!("a stream is made after {}", after.position));
            state.made += 1;
            let hash = after.hash.unwrap_or_else(|| vec![0; 32]);
            let mut stream = Stream::new(state.made, after.position);
            stream.after = Some(hash);
            stream.retention = retention;
            let found = stream.found();
            state.stream = Some(stream);
            Ok(found)
        })
        .await
    }

    async fn keep(&self, retention: &Retention) -> Result<(), ExchangeError> {
        let retention = *retention;
        self.call("keep", move |state| {
            let stream = state.stream.as_mut().ok_or_else(gone)?;
            stream.retention = retention;
            Ok(())
        })
        .await
    }

    async fn delete(&self) -> Result<(), ExchangeError> {
        let world = self.world.clone();
        self.call("delete", move |state| {
            world.tell(|| "the stream is deleted".to_owned());
            state.stream.take().map(drop).ok_or_else(gone)
        })
        .await
    }

    async fn publish(&self, record: &Record, after: &Cursor) -> Result<Self::Ack, ExchangeError> {
        let world = &self.world;
        let now = Instant::now();
        let mut arrives = {
            let mut last = lock(&self.arrives);
            *last = (*last).max(now) + world.millis(2);
            *last
        };
        if world.fails(0.01) {
            // It overtakes, or is overtaken.
            arrives = now + world.millis(4_000);
        }
        let times = if world.fails(0.005) { 0 } else { 1 + u64::from(world.fails(0.01)) };
        let (reply, answer) = oneshot::channel();
        let mut reply = Some(reply);
        let previous = after.hash.clone().unwrap_or_else(|| vec![0; 32]);
        for _ in 0..times {
            let (this, record, previous) =
                (self.clone(), Arc::new(record.clone()), previous.clone());
            let reply = reply.take();
            tokio::spawn(async move {
                sleep_until(arrives).await;
                this.thaw().await;
                let (epoch, position) = (record.epoch, record.position);
                let answer = lock(&this.server.state).accept(record, previous);
                this.world.tell(|| match &answer {
                    Ok(_) => format!("the stream takes {position} of epoch {epoch}"),
                    Err(error) => format!("the stream refuses {position}: {error}"),
                });
                this.server.changed.notify_waiters();
                this.world.wire().await;
                if let Some(reply) = reply
                    && !this.world.fails(0.005)
                {
                    let _ = reply.send(answer);
                }
            });
        }
        // Lost together with its acknowledgement, which then takes its time.
        let lost = reply;
        Ok(Box::pin(async move {
            let _lost = lost;
            match timeout(PATIENCE, answer).await {
                Ok(Ok(answer)) => answer,
                Ok(Err(_)) | Err(_) => Err(ExchangeError("publish: no answer".to_owned())),
            }
        }))
    }
}
