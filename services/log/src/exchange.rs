//! What the relay and the followers need of the exchange: one stream for each
//! log, whose sequence is the position.
//!
//! A trait, so that the logic around it stands alone: [`crate::jetstream`] is
//! what it is in production, and the simulation has one that fails at will.

use std::sync::Arc;
use std::time::Duration;

use futures::stream::BoxStream;

use crate::follow::Cursor;
use crate::record::Record;

/// How the exchange keeps a log.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Retention {
    /// Messages older than this leave the stream; who needs them asks the
    /// log's owner. Zero: none.
    pub max_age: Duration,
    /// Copies among the servers: 1, or 3 in a cluster.
    pub replicas: usize,
}

/// A stream as it was found.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Found {
    /// Tells it from another stream of the same name, before or after.
    pub made: i128,
    /// The sequences of its first and its last message. Of an empty stream the
    /// last is what it was, and the first comes after it.
    pub first: u64,
    pub last: u64,
    pub messages: u64,
    /// The hash of the record before the first one it was made for, as
    /// whoever made it says.
    pub after: Option<Vec<u8>>,
    pub retention: Retention,
    /// A setting with which it may lose, refuse or alter messages.
    pub unfit: Option<String>,
}

/// A message of the stream.
#[derive(Clone, Debug)]
pub struct Published {
    pub sequence: u64,
    pub record: Arc<Record>,
    /// The hash of the record before it, where the message says so.
    pub previous: Option<Vec<u8>>,
    /// The stream's last sequence, as far as was known when it was sent.
    pub newest: u64,
}

/// Why the exchange did not do what was asked. Whether it did it after all is
/// not known.
#[derive(Clone, Debug, thiserror::Error)]
#[error("{0}")]
pub struct ExchangeError(pub String);

/// The stream of one log. Clones speak to the same one.
pub trait Exchange: Clone + Send + Sync + 'static {
    /// Becomes the sequence that the server gave.
    type Ack: Future<Output = Result<u64, ExchangeError>> + Send + Unpin;

    /// The log's id.
    fn log(&self) -> &str;

    /// The stream, where there is one.
    fn find(&self) -> impl Future<Output = Result<Option<Found>, ExchangeError>> + Send;

    /// The record at a sequence, where there is one that can be read.
    fn record(
        &self,
        sequence: u64,
    ) -> impl Future<Output = Result<Option<Record>, ExchangeError>> + Send;

    /// The messages after a sequence, as they come, until something fails.
    fn messages(&self, after: u64) -> BoxStream<'static, Result<Published, ExchangeError>>;

    /// Makes the stream, for the records after this one.
    fn make(
        &self,
        after: &Cursor,
        retention: &Retention,
    ) -> impl Future<Output = Result<Found, ExchangeError>> + Send;

    /// Changes how long messages are kept.
    fn keep(&self, retention: &Retention)
    -> impl Future<Output = Result<(), ExchangeError>> + Send;

    fn delete(&self) -> impl Future<Output = Result<(), ExchangeError>> + Send;

    /// Sends a record that comes after this one, on condition that it gets its
    /// position as its sequence.
    fn publish(
        &self,
        record: &Record,
        after: &Cursor,
    ) -> impl Future<Output = Result<Self::Ack, ExchangeError>> + Send;
}

// === impl Found ===

impl Found {
    /// Whether messages are missing between the first and the last.
    pub fn has_holes(&self) -> bool {
        self.messages > 0 && self.first + self.messages != self.last + 1
    }
}

// === impl ExchangeError ===

impl ExchangeError {
    pub(crate) fn of(error: impl std::error::Error) -> Self {
        ExchangeError(error.to_string())
    }
}
