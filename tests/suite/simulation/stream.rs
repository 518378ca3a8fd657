//! The stream of a simulated exchange, as its server has it.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use samen_log::Record;
use samen_log::exchange::{ExchangeError, Found, Published, Retention};
use tokio::time::Instant;

pub struct State {
    pub stream: Option<Stream>,
    pub made: i128,
    /// What the stream was at earlier moments.
    pub before: Vec<Option<Stream>>,
    pub frozen_until: Instant,
}

#[derive(Clone)]
pub struct Stream {
    pub made: i128,
    /// The last sequence that was given.
    pub last: u64,
    pub after: Option<Vec<u8>>,
    pub retention: Retention,
    pub unfit: Option<String>,
    pub messages: BTreeMap<u64, Message>,
}

#[derive(Clone)]
pub struct Message {
    pub record: Arc<Record>,
    pub previous: Option<Vec<u8>>,
    pub arrived: Instant,
}

pub fn gone() -> ExchangeError {
    ExchangeError("there is no stream".to_owned())
}

// === impl State ===

impl State {
    pub fn new() -> Self {
        State { stream: None, made: 0, before: Vec::new(), frozen_until: Instant::now() }
    }

    /// The stream, without what has become too old.
    pub fn stream(&mut self) -> Option<&mut Stream> {
        let stream = self.stream.as_mut()?;
        let age = stream.retention.max_age;
        if !age.is_zero() {
            stream.messages.retain(|_, message| message.arrived.elapsed() < age);
        }
        Some(stream)
    }

    /// Takes a message, if its place is free.
    pub fn accept(&mut self, record: Arc<Record>, previous: Vec<u8>) -> Result<u64, ExchangeError> {
        let stream = self.stream().ok_or_else(gone)?;
        if stream.last + 1 != record.position {
            return Err(ExchangeError(format!("wrong last sequence: {}", stream.last)));
        }
        stream.last += 1;
        let (previous, arrived) = (Some(previous), Instant::now());
        stream.messages.insert(stream.last, Message { record, previous, arrived });
        Ok(stream.last)
    }
}

// === impl Stream ===

impl Stream {
    pub fn new(made: i128, last: u64) -> Self {
        Stream {
            made,
            last,
            after: None,
            retention: Retention { max_age: Duration::ZERO, replicas: 1 },
            unfit: None,
            messages: BTreeMap::new(),
        }
    }

    pub fn found(&self) -> Found {
        Found {
            made: self.made,
            first: self.messages.keys().next().copied().unwrap_or(self.last + 1),
            last: self.last,
            messages: self.messages.len() as u64,
            after: self.after.clone(),
            retention: self.retention,
            unfit: self.unfit.clone(),
        }
    }

    pub fn next(&self, after: u64) -> Option<Published> {
        let (sequence, message) = self.messages.range(after + 1..).next()?;
        Some(Published {
            sequence: *sequence,
            record: message.record.clone(),
            previous: message.previous.clone(),
            newest: self.last,
        })
    }
}
