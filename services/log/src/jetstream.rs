//! The exchange as NATS JetStream has it.

use std::sync::Arc;
use std::time::Duration;

use async_nats::header::NATS_EXPECTED_LAST_SEQUENCE;
use async_nats::jetstream::consumer::DeliverPolicy;
use async_nats::jetstream::consumer::pull::OrderedConfig;
use async_nats::jetstream::context::{ContextBuilder, GetStreamErrorKind};
use async_nats::jetstream::stream::{
    Config, DiscardPolicy, Info, RawMessageErrorKind, RetentionPolicy, StorageType, Stream,
};
use async_nats::jetstream::{Context, ErrorCode, Message as Sent};
use async_nats::{Client, HeaderMap};
use base64::Engine;
use base64::prelude::BASE64_STANDARD;
use futures::future::BoxFuture;
use futures::stream::BoxStream;
use futures::{FutureExt, StreamExt};
use prost::Message;

use crate::exchange::{Exchange, ExchangeError, Found, Published, Retention};
use crate::follow::{Cursor, Follow};
use crate::record::{GENESIS, Record};
use crate::relay::IN_FLIGHT;
use crate::streamed::Streamed;

/// How long an acknowledgement may take before the relay looks again.
const ACK_TIMEOUT: Duration = Duration::from_secs(2);
/// How long any other answer may take.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(10);
/// The oldest server, by its major and minor version, that makes a stream
/// begin at a sequence and keeps what is noted with it.
const NEEDED: (i64, i64) = (2, 10);
/// Header with the hash of the record before, by which a follower sees that
/// this one continues what it has.
const PREVIOUS: &str = "Samen-Previous";
/// Metadata of a stream: the hash of the record before the first one that it
/// was made for.
const AFTER: &str = "samen-after";

/// The stream of one log on a NATS server.
#[derive(Clone)]
pub struct JetStream {
    log: Arc<str>,
    client: Client,
    /// For everything but publishing: its patience is longer.
    context: Context,
    publishing: Context,
}

/// A log followed through its JetStream stream.
pub type JetStreamLog = Streamed<JetStream>;

/// The stream of a log: `gm0384.requests` is `SAMEN_GM0384_REQUESTS`.
pub fn stream_name(log: &str) -> String {
    format!("SAMEN_{}", log.to_uppercase().replace('.', "_"))
}

/// The subjects of a log: `samen.gm0384.requests.` and the event's name.
fn subject_prefix(log: &str) -> String {
    format!("samen.{log}")
}

// === impl JetStream ===

impl JetStream {
    /// The stream of the log with this id.
    pub fn new(client: Client, log: &str) -> Self {
        let context = ContextBuilder::new().timeout(ANSWER_TIMEOUT).build(client.clone());
        let publishing = ContextBuilder::new()
            .max_ack_inflight(IN_FLIGHT * 2)
            .timeout(ACK_TIMEOUT)
            .ack_timeout(ACK_TIMEOUT)
            .build(client.clone());
        JetStream { log: log.into(), client, context, publishing }
    }

    /// How a stream is made: nothing may be lost from it but by its age.
    fn config(&self, after: &Cursor, retention: &Retention) -> Config {
        let first = (after.position > 0).then_some(after.position + 1);
        let hash = after.hash.as_deref().unwrap_or(&GENESIS);
        Config {
            first_sequence: first,
            max_age: retention.max_age,
            num_replicas: retention.replicas,
            metadata: [(AFTER.to_owned(), encode_hash(hash))].into(),
            ..self.fit(Config::default())
        }
    }

    /// A configuration with what a stream must have, and what else it has.
    fn fit(&self, config: Config) -> Config {
        Config {
            name: stream_name(&self.log),
            subjects: vec![format!("{}.*", subject_prefix(&self.log))],
            retention: RetentionPolicy::Limits,
            discard: DiscardPolicy::Old,
            discard_new_per_subject: false,
            storage: StorageType::File,
            max_messages: -1,
            max_messages_per_subject: -1,
            max_bytes: -1,
            max_message_size: -1,
            max_consumers: -1,
            no_ack: false,
            sealed: false,
            deny_delete: true,
            deny_purge: true,
            allow_rollup: false,
            mirror: None,
            sources: None,
            subject_transform: None,
            republish: None,
            ..config
        }
    }

    fn found(&self, info: &Info) -> Found {
        let Info { config, state, .. } = info;
        let after = config.metadata.get(AFTER).and_then(|hash| BASE64_STANDARD.decode(hash).ok());
        Found {
            made: info.created.unix_timestamp_nanos(),
            first: state.first_sequence,
            last: state.last_sequence,
            messages: state.messages,
            after,
            retention: Retention { max_age: config.max_age, replicas: config.num_replicas },
            unfit: difference(config, &self.fit(config.clone())),
        }
    }

    fn stream_name(&self) -> String {
        stream_name(&self.log)
    }

    /// Fails where the server is older than what a stream needs of it, which
    /// it would leave out without a word. One that was never reached has no
    /// version yet.
    fn is_new_enough(&self) -> Result<(), ExchangeError> {
        let (major, minor) = NEEDED;
        let found = self.client.server_info().version;
        if found.is_empty() || self.client.is_server_compatible(major, minor, 0) {
            return Ok(());
        }
        Err(ExchangeError(format!("NATS {found} is too old: {major}.{minor} or newer is needed")))
    }

    /// The stream, to ask something of it. Asks nothing yet.
    async fn stream(&self) -> Result<Stream<()>, ExchangeError> {
        self.context.get_stream_no_info(self.stream_name()).await.map_err(ExchangeError::of)
    }
}

impl Exchange for JetStream {
    type Ack = BoxFuture<'static, Result<u64, ExchangeError>>;

    fn log(&self) -> &str {
        &self.log
    }

    async fn find(&self) -> Result<Option<Found>, ExchangeError> {
        let found = self.context.get_stream(self.stream_name()).await;
        // It answers to older ones, and keeps less than it was asked.
        self.is_new_enough()?;
        match found {
            Ok(stream) => Ok(Some(self.found(stream.cached_info()))),
            Err(error) => match error.kind() {
                GetStreamErrorKind::JetStream(error)
                    if error.error_code() == ErrorCode::STREAM_NOT_FOUND =>
                {
                    Ok(None)
                }
                _ => Err(ExchangeError::of(error)),
            },
        }
    }

    async fn record(&self, sequence: u64) -> Result<Option<Record>, ExchangeError> {
        match self.stream().await?.get_raw_message(sequence).await {
            Ok(message) => Ok(Record::decode(message.payload).ok()),
            Err(error) if error.kind() == RawMessageErrorKind::NoMessageFound => Ok(None),
            Err(error) => Err(ExchangeError::of(error)),
        }
    }

    fn messages(&self, after: u64) -> BoxStream<'static, Result<Published, ExchangeError>> {
        let this = self.clone();
        Box::pin(async_stream::try_stream! {
            let config = OrderedConfig {
                deliver_policy: DeliverPolicy::ByStartSequence { start_sequence: after + 1 },
                ..OrderedConfig::default()
            };
            let consumer = this.stream().await?.create_consumer(config).await;
            let consumer = consumer.map_err(ExchangeError::of)?;
            let mut messages = consumer.messages().await.map_err(ExchangeError::of)?;
            while let Some(message) = messages.next().await {
                yield published(message.map_err(ExchangeError::of)?)?;
            }
        })
    }

    async fn make(&self, after: &Cursor, retention: &Retention) -> Result<Found, ExchangeError> {
        let config = self.config(after, retention);
        let made = self.context.create_stream(config.clone()).await.map_err(ExchangeError::of)?;
        let info = made.cached_info();
        let ignored = difference(&info.config, &self.fit(info.config.clone())).or_else(|| {
            // A server that does not know a setting leaves it out.
            let first = info.config.first_sequence.filter(|first| *first > 1);
            let known = first == config.first_sequence && info.config.metadata.contains_key(AFTER);
            (!known).then(|| "first_seq".to_owned())
        });
        match ignored {
            None => Ok(self.found(info)),
            Some(setting) => Err(ExchangeError(format!(
                "NATS {} does not keep a stream's {setting}",
                self.client.server_info().version
            ))),
        }
    }

    async fn keep(&self, retention: &Retention) -> Result<(), ExchangeError> {
        let stream = self.context.get_stream(self.stream_name()).await;
        let stream = stream.map_err(ExchangeError::of)?;
        let config = Config {
            max_age: retention.max_age,
            num_replicas: retention.replicas,
            ..stream.cached_info().config.clone()
        };
        self.context.update_stream(config).await.map_err(ExchangeError::of)?;
        Ok(())
    }

    async fn delete(&self) -> Result<(), ExchangeError> {
        let deleted = self.context.delete_stream(self.stream_name()).await;
        deleted.map_err(ExchangeError::of)?;
        Ok(())
    }

    async fn publish(&self, record: &Record, after: &Cursor) -> Result<Self::Ack, ExchangeError> {
        let mut headers = HeaderMap::new();
        headers.insert(NATS_EXPECTED_LAST_SEQUENCE, (record.position - 1).to_string());
        headers.insert("Samen-Log", record.log.as_str());
        headers.insert("Samen-Epoch", record.epoch.to_string());
        headers.insert("Samen-Position", record.position.to_string());
        headers.insert(PREVIOUS, encode_hash(after.hash.as_deref().unwrap_or(&GENESIS)));
        let name = record.r#type.rsplit('.').next().filter(|name| !name.is_empty()).unwrap_or("_");
        let subject = format!("{}.{name}", subject_prefix(&record.log));
        let payload = record.encode_to_vec().into();
        let ack = self.publishing.publish_with_headers(subject, headers, payload).await;
        let ack = ack.map_err(ExchangeError::of)?.into_future();
        Ok(ack.map(|ack| ack.map(|ack| ack.sequence).map_err(ExchangeError::of)).boxed())
    }
}

// === impl JetStreamLog ===

impl JetStreamLog {
    /// Follows the log with this id. Records that have left the stream are
    /// read from `owner`, where there is one.
    pub fn new(client: Client, log: &str, owner: Option<Arc<dyn Follow>>) -> Self {
        Streamed::over(JetStream::new(client, log), owner)
    }
}

fn published(message: Sent) -> Result<Published, ExchangeError> {
    let info = message.info().map_err(|error| ExchangeError(error.to_string()))?;
    let (sequence, newest) = (info.stream_sequence, info.stream_sequence + info.pending);
    let previous = message.headers.as_ref().and_then(|headers| headers.get(PREVIOUS));
    let previous = previous.and_then(|hash| BASE64_STANDARD.decode(hash.as_str()).ok());
    let record = Record::decode(message.payload.clone()).map_err(ExchangeError::of)?;
    Ok(Published { sequence, record: Arc::new(record), previous, newest })
}

/// A hash as headers and metadata have it.
fn encode_hash(hash: &[u8]) -> String {
    BASE64_STANDARD.encode(hash)
}

/// The first setting in which two configurations differ.
fn difference(found: &Config, wanted: &Config) -> Option<String> {
    let fields = |config: &Config| match serde_json::to_value(config) {
        Ok(serde_json::Value::Object(fields)) => fields,
        _ => serde_json::Map::new(),
    };
    let (found, wanted) = (fields(found), fields(wanted));
    let differs = |name: &&String| found.get(*name) != wanted.get(*name);
    found.keys().chain(wanted.keys()).find(differs).cloned()
}
