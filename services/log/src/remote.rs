//! A log followed over gRPC, from the service that owns it.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use futures::StreamExt;
use futures::stream::BoxStream;
use samen_proto::log::log_service_client::LogServiceClient;
use samen_proto::log::subscribe_response::Item as Sent;
use samen_proto::log::{Position, SubscribeRequest};
use tonic::codegen::{Body, Bytes, StdError};
use tonic::{Code, Status, client::GrpcService};
use tonic_types::StatusExt;

use crate::backoff::Backoff;
use crate::follow::{Cursor, Follow, FollowError, Item, NOT_IN_HISTORY};

/// How long one whose stream was ended by its owner rests before it resumes:
/// at first, and at most.
const REST: [Duration; 2] = [Duration::from_millis(100), Duration::from_secs(5)];
/// How often it tries to, before the one who follows is told: an owner that
/// is started anew is back within a minute.
const RESUMPTIONS: u32 = 12;

/// A log at its owner's door. `T` is a channel that brings this service's
/// credentials.
pub struct RemoteLog<T> {
    log: Arc<str>,
    client: LogServiceClient<T>,
    newest: Arc<AtomicU64>,
}

impl<T> RemoteLog<T>
where
    T: GrpcService<tonic::body::Body>,
    T::Error: Into<StdError>,
    T::ResponseBody: Body<Data = Bytes> + Send + 'static,
    <T::ResponseBody as Body>::Error: Into<StdError> + Send,
{
    pub fn new(log: &str, channel: T) -> Self {
        let client = LogServiceClient::new(channel);
        RemoteLog { log: log.into(), client, newest: Arc::default() }
    }
}

impl<T> Follow for RemoteLog<T>
where
    T: GrpcService<tonic::body::Body> + Clone + Send + Sync + 'static,
    T::Error: Into<StdError>,
    T::Future: Send,
    T::ResponseBody: Body<Data = Bytes> + Send + 'static,
    <T::ResponseBody as Body>::Error: Into<StdError> + Send,
{
    fn log(&self) -> &str {
        &self.log
    }

    fn follow(&self, after: Cursor) -> BoxStream<'static, Result<Item, FollowError>> {
        let log = self.log.clone();
        let newest = self.newest.clone();
        let mut client = self.client.clone();
        Box::pin(async_stream::try_stream! {
            let mut seen = after;
            let mut caught_up = false;
            let mut backoff = Backoff::new(REST[0], REST[1]);
            // None, while no stream was open.
            let mut resumptions = 0;
            loop {
                let request = SubscribeRequest {
                    after: Some(seen.to_position(&log)),
                    hash: seen.hash.clone().unwrap_or_default(),
                };
                let ended = match client.subscribe(request).await {
                    Ok(answer) => {
                        let mut items = answer.into_inner();
                        loop {
                            let item = match items.next().await {
                                Some(Ok(item)) => item.item,
                                Some(Err(status)) => break status,
                                // A follower's stream never just ends.
                                None => break Status::unavailable("its owner ended the stream"),
                            };
                            resumptions = RESUMPTIONS;
                            backoff.reset();
                            match item {
                                Some(Sent::Record(record)) => {
                                    seen.step(&log, &record)?;
                                    newest.fetch_max(seen.position, Ordering::Relaxed);
                                    yield Item::Record(Arc::new(record));
                                }
                                Some(Sent::CaughtUp(mark)) => {
                                    let at = mark.position.unwrap_or_default();
                                    newest.store(at.position, Ordering::Relaxed);
                                    if !caught_up {
                                        caught_up = true;
                                        let Position { epoch, position, .. } = at;
                                        yield Item::CaughtUp(Cursor { epoch, position, hash: None });
                                    }
                                }
                                Some(Sent::Heartbeat(mark)) => {
                                    let at = mark.position.unwrap_or_default();
                                    newest.store(at.position, Ordering::Relaxed);
                                }
                                None => {}
                            }
                        }
                    }
                    Err(status) => status,
                };
                // It shuts down, or ends streams of a certain age: nothing
                // that anybody must know of, unless it stays away.
                if ended.code() == Code::Unavailable && resumptions > 0 {
                    resumptions -= 1;
                    tokio::time::sleep(backoff.next_jittered()).await;
                } else {
                    Err(why(&log, &seen, &ended))?;
                }
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

/// What an owner's answer means to one who has seen this much.
///
/// That it is not in the log's history is believed only from the owner itself,
/// by its reason: whoever hears it throws away what it has.
fn why(log: &str, seen: &Cursor, answer: &Status) -> FollowError {
    let told = answer.get_details_error_info().map(|info| info.reason).unwrap_or_default();
    let (log, code) = (log.to_owned(), answer.code());
    let reason = match told.as_str() {
        "" => format!("{code}: {}", answer.message()),
        told => format!("{code} ({told}): {}", answer.message()),
    };
    match code {
        Code::FailedPrecondition if told == NOT_IN_HISTORY => seen.not_in(&log),
        Code::FailedPrecondition
        | Code::InvalidArgument
        | Code::PermissionDenied
        | Code::Unauthenticated
        | Code::Unimplemented => FollowError::Refused { log, reason },
        _ => FollowError::Unavailable { log, reason },
    }
}
