//! A log's way out: one JetStream stream for each log, whose sequence is the
//! position.
//!
//! Every message is published with the sequence that must be the stream's
//! last, so that the server itself refuses duplicates and gaps, and the relay
//! keeps no cursor: it goes on after the stream's last message. A stream that
//! does not hold this log's history is made anew and filled again.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;

use async_nats::HeaderMap;
use async_nats::header::NATS_EXPECTED_LAST_SEQUENCE;
use async_nats::jetstream::context::{ContextBuilder, PublishAckFuture};
use async_nats::jetstream::stream::{Config, DiscardPolicy, RetentionPolicy, StorageType};
use async_nats::jetstream::{Context, ErrorCode};
use base64::Engine;
use base64::prelude::BASE64_STANDARD;
use futures::StreamExt;
use prost::Message;
use tokio_util::sync::CancellationToken;

use crate::follow::{Cursor, Follow, Item};
use crate::log::Log;
use crate::mask::Exchanged;
use crate::record::{GENESIS, Record};

/// Messages on their way without an acknowledgement.
const IN_FLIGHT: usize = 512;
/// How long an acknowledgement may take before the relay looks again.
const ACK_TIMEOUT: Duration = Duration::from_secs(2);
/// How often an idle relay looks whether the stream still ends where it was
/// left: an exchange that lost it says nothing.
const LOOK: Duration = Duration::from_secs(5);
/// Header with the hash of the record before, by which a follower sees that
/// this one continues what it has.
pub(crate) const PREVIOUS: &str = "Samen-Previous";
/// How long the relay rests after a failure.
const REST: Duration = Duration::from_millis(250);

/// How the exchange keeps a log.
#[derive(Clone, Debug)]
pub struct Retention {
    /// Messages older than this leave the stream; who needs them asks the
    /// log's owner. Zero: none.
    pub max_age: Duration,
    /// Copies among the NATS servers: 1, or 3 in a cluster.
    pub replicas: usize,
}

#[derive(Debug, thiserror::Error)]
#[error("{0}")]
struct RelayError(String);

/// The stream of a log: `gm0384.requests` is `SAMEN_GM0384_REQUESTS`.
pub fn stream_name(log: &str) -> String {
    format!("SAMEN_{}", log.to_uppercase().replace('.', "_"))
}

/// The subjects of a log: `samen.gm0384.requests.` and the event's name.
fn subject_prefix(log: &str) -> String {
    format!("samen.{log}")
}

/// Publishes a log until `shutdown`, whatever happens to the exchange.
pub async fn run(
    log: Log,
    client: async_nats::Client,
    retention: Retention,
    shutdown: CancellationToken,
) {
    let jetstream = ContextBuilder::new()
        .max_ack_inflight(IN_FLIGHT * 2)
        .ack_timeout(ACK_TIMEOUT)
        .build(client);
    loop {
        let failed = tokio::select! {
            () = shutdown.cancelled() => return,
            result = publish(&log, &jetstream, &retention) => result,
        };
        if let Err(error) = failed {
            tracing::warn!(log = log.id(), %error, "the relay begins again");
        }
        tokio::select! {
            () = shutdown.cancelled() => return,
            () = tokio::time::sleep(REST) => {}
        }
    }
}

/// Publishes from the stream's end until something fails.
async fn publish(log: &Log, jetstream: &Context, retention: &Retention) -> Result<(), RelayError> {
    let mut last = prepare(log, jetstream, retention).await?;
    let mut items = Exchanged(log.clone()).follow(last.clone());
    let mut waiting: VecDeque<(u64, PublishAckFuture)> = VecDeque::new();
    loop {
        let next = if waiting.is_empty() {
            match tokio::time::timeout(LOOK, items.next()).await {
                Ok(next) => next,
                Err(_) => {
                    look(log, jetstream, &last).await?;
                    continue;
                }
            }
        } else {
            // Send what is ready; otherwise settle what was sent.
            tokio::select! {
                biased;
                next = items.next(), if waiting.len() < IN_FLIGHT => next,
                () = std::future::ready(()) => {
                    settle(&mut waiting).await?;
                    continue;
                }
            }
        };
        match next {
            Some(Ok(Item::Record(record))) => {
                let ack = send(jetstream, &record, &last).await?;
                waiting.push_back((record.position, ack));
                last = Cursor::at(&record);
            }
            Some(Ok(Item::CaughtUp(_))) => {}
            Some(Err(error)) => return Err(failure(error)),
            None => return Ok(()),
        }
    }
}

/// Waits for the oldest acknowledgement, and checks that it is the position.
async fn settle(waiting: &mut VecDeque<(u64, PublishAckFuture)>) -> Result<(), RelayError> {
    if let Some((position, ack)) = waiting.pop_front() {
        let ack = ack.await.map_err(failure)?;
        if ack.sequence != position {
            let sequence = ack.sequence;
            return Err(RelayError(format!("position {position} got sequence {sequence}")));
        }
    }
    Ok(())
}

/// Fails where the stream lost what was published.
async fn look(log: &Log, jetstream: &Context, last: &Cursor) -> Result<(), RelayError> {
    let stream = jetstream.get_stream(stream_name(log.id())).await.map_err(failure)?;
    let end = stream.cached_info().state.last_sequence;
    if end < last.position {
        let position = last.position;
        return Err(RelayError(format!("the stream ends at {end}, not at {position}")));
    }
    Ok(())
}

async fn send(
    jetstream: &Context,
    record: &Arc<Record>,
    last: &Cursor,
) -> Result<PublishAckFuture, RelayError> {
    let mut headers = HeaderMap::new();
    headers.insert(NATS_EXPECTED_LAST_SEQUENCE, (record.position - 1).to_string());
    headers.insert("Samen-Log", record.log.as_str());
    headers.insert("Samen-Epoch", record.epoch.to_string());
    headers.insert("Samen-Position", record.position.to_string());
    headers.insert(PREVIOUS, encode_hash(last.hash.as_deref().unwrap_or(&GENESIS)));
    let name = record.r#type.rsplit('.').next().filter(|name| !name.is_empty()).unwrap_or("_");
    let subject = format!("{}.{name}", subject_prefix(&record.log));
    let payload = record.encode_to_vec().into();
    jetstream.publish_with_headers(subject, headers, payload).await.map_err(failure)
}

/// A hash as a header has it.
pub(crate) fn encode_hash(hash: &[u8]) -> String {
    BASE64_STANDARD.encode(hash)
}

/// Finds the stream's end, and makes the stream, or makes it anew, where it
/// does not hold this log's history.
async fn prepare(
    log: &Log,
    jetstream: &Context,
    retention: &Retention,
) -> Result<Cursor, RelayError> {
    let config = Config {
        name: stream_name(log.id()),
        subjects: vec![format!("{}.*", subject_prefix(log.id()))],
        retention: RetentionPolicy::Limits,
        discard: DiscardPolicy::Old,
        storage: StorageType::File,
        max_age: retention.max_age,
        num_replicas: retention.replicas,
        deny_delete: true,
        deny_purge: true,
        ..Config::default()
    };
    let stream = match jetstream.get_stream(&config.name).await {
        Ok(stream) => stream,
        Err(error) if not_found(&error) => {
            jetstream.create_stream(config).await.map_err(failure)?;
            return Ok(Cursor::START);
        }
        Err(error) => return Err(failure(error)),
    };
    let info = stream.cached_info();
    if (info.config.max_age, info.config.num_replicas) != (config.max_age, config.num_replicas) {
        let (max_age, num_replicas) = (config.max_age, config.num_replicas);
        let changed = Config { max_age, num_replicas, ..info.config.clone() };
        jetstream.update_stream(changed).await.map_err(failure)?;
    }
    let state = &info.state;
    if state.last_sequence == 0 {
        return Ok(Cursor::START);
    }
    let recorded = log.read(state.last_sequence - 1, 1).await.map_err(failure)?;
    let recorded = recorded.first().filter(|r| r.position == state.last_sequence);
    match recorded {
        // Emptied, by age or by somebody: older records are the owner's to
        // give, and followers see by the next record whether it follows.
        Some(recorded) if state.messages == 0 => return Ok(Cursor::at(recorded)),
        Some(recorded) => {
            let last = stream.get_raw_message(state.last_sequence).await.map_err(failure)?;
            let published = Record::decode(last.payload).ok();
            if published
                .is_some_and(|p| (p.position, &p.hash) == (recorded.position, &recorded.hash))
            {
                return Ok(Cursor::at(recorded));
            }
        }
        None => {}
    }
    tracing::warn!(
        log = log.id(),
        last = state.last_sequence,
        "the stream holds another history and is made anew"
    );
    jetstream.delete_stream(&config.name).await.map_err(failure)?;
    jetstream.create_stream(config).await.map_err(failure)?;
    Ok(Cursor::START)
}

fn not_found(error: &async_nats::jetstream::context::GetStreamError) -> bool {
    use async_nats::jetstream::context::GetStreamErrorKind::JetStream;
    matches!(error.kind(), JetStream(error) if error.error_code() == ErrorCode::STREAM_NOT_FOUND)
}

fn failure(error: impl std::error::Error) -> RelayError {
    RelayError(error.to_string())
}
