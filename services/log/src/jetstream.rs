//! A log followed through its JetStream stream.

use std::sync::Arc;
use std::time::Duration;

use async_nats::jetstream::consumer::DeliverPolicy;
use async_nats::jetstream::consumer::pull::OrderedConfig;
use async_nats::jetstream::{Context, Message as Sent};
use futures::StreamExt;
use futures::stream::BoxStream;
use prost::Message;

use crate::follow::{Cursor, Follow, FollowError, Item};
use crate::record::Record;
use crate::relay::{PREVIOUS, encode_hash, stream_name};

/// How often a follower looks whether the relay has brought the stream to
/// where the follower already is.
const POLL: Duration = Duration::from_millis(250);

/// A log as its JetStream stream has it, and as its owner has what the stream
/// no longer holds.
pub struct JetStreamLog {
    log: Arc<str>,
    context: Context,
    owner: Option<Arc<dyn Follow>>,
}

impl JetStreamLog {
    /// Follows the log with this id. Records that have left the stream are
    /// read from `owner`, where there is one.
    pub fn new(context: Context, log: &str, owner: Option<Arc<dyn Follow>>) -> Self {
        JetStreamLog { log: log.into(), context, owner }
    }
}

impl Follow for JetStreamLog {
    fn log(&self) -> &str {
        &self.log
    }

    fn follow(&self, after: Cursor) -> BoxStream<'static, Result<Item, FollowError>> {
        let log = self.log.clone();
        let context = self.context.clone();
        let owner = self.owner.clone();
        Box::pin(async_stream::try_stream! {
            let unavailable = |reason: String| FollowError::Unavailable {
                log: log.to_string(),
                reason,
            };
            let failed = |error: &dyn std::error::Error| unavailable(error.to_string());
            let mut seen = after;

            let stream = context.get_stream(stream_name(&log)).await.map_err(|e| failed(&e))?;
            let mut state = stream.cached_info().state.clone();
            if state.last_sequence < seen.position && let Some(owner) = &owner {
                // The exchange lost its end and the relay is filling it again,
                // or this is another history: the owner knows which.
                if let Some(Err(error)) = owner.follow(seen.clone()).next().await {
                    Err(error)?;
                }
            }
            while state.last_sequence < seen.position {
                tokio::time::sleep(POLL).await;
                state = stream.get_info().await.map_err(|e| failed(&e))?.state;
            }
            if seen.position > 0 && state.first_sequence <= seen.position {
                let message =
                    stream.get_raw_message(seen.position).await.map_err(|e| failed(&e))?;
                let record = Record::decode(message.payload).map_err(|e| failed(&e))?;
                if !seen.matches(&record) {
                    Err(seen.not_in(&log))?;
                }
            }

            if state.first_sequence > seen.position + 1 {
                let gap = FollowError::Gap {
                    log: log.to_string(),
                    expected: seen.position + 1,
                    found: state.first_sequence,
                };
                let mut missing = owner.ok_or(gap)?.follow(seen.clone());
                while seen.position + 1 < state.first_sequence {
                    match missing.next().await {
                        Some(Ok(Item::Record(record))) => {
                            seen.step(&log, &record)?;
                            yield Item::Record(record);
                        }
                        Some(Ok(Item::CaughtUp(_))) => {}
                        Some(Err(error)) => Err(error)?,
                        None => Err(unavailable("its owner ended the stream".to_owned()))?,
                    }
                }
            }

            let config = OrderedConfig {
                deliver_policy: DeliverPolicy::ByStartSequence {
                    start_sequence: seen.position + 1,
                },
                ..OrderedConfig::default()
            };
            let consumer = stream.create_consumer(config).await.map_err(|e| failed(&e))?;
            let mut messages = consumer.messages().await.map_err(|e| failed(&e))?;
            let history = state.last_sequence;
            let mut caught_up = false;
            loop {
                if !caught_up && seen.position >= history {
                    caught_up = true;
                    yield Item::CaughtUp(seen.clone());
                }
                let message = match messages.next().await {
                    Some(message) => message.map_err(|e| failed(&e))?,
                    None => Err(unavailable("its consumer ended".to_owned()))?,
                };
                let record = Record::decode(message.payload.clone()).map_err(|e| failed(&e))?;
                // The consumer comes back by itself after the stream was made
                // anew, and would go on in another history.
                if !continues(&message, &seen) {
                    Err(seen.not_in(&log))?;
                }
                seen.step(&log, &record)?;
                yield Item::Record(Arc::new(record));
            }
        })
    }
}

/// Whether the record in a message comes after the one that was seen, as far
/// as both say what that is.
fn continues(message: &Sent, seen: &Cursor) -> bool {
    let previous = message.headers.as_ref().and_then(|headers| headers.get(PREVIOUS));
    match (previous, &seen.hash) {
        (Some(previous), Some(hash)) => previous.as_str() == encode_hash(hash),
        _ => true,
    }
}
