//! A log followed over gRPC, from the service that owns it.

use std::sync::Arc;

use futures::StreamExt;
use futures::stream::BoxStream;
use samen_proto::log::log_service_client::LogServiceClient;
use samen_proto::log::subscribe_response::Item as Sent;
use samen_proto::log::{Position, SubscribeRequest};
use tonic::codegen::{Body, Bytes, StdError};
use tonic::{Code, client::GrpcService};

use crate::follow::{Cursor, Follow, FollowError, Item};

/// A log at its owner's door. `T` is a channel that brings this service's
/// credentials.
pub struct RemoteLog<T> {
    log: Arc<str>,
    client: LogServiceClient<T>,
}

impl<T> RemoteLog<T>
where
    T: GrpcService<tonic::body::Body>,
    T::Error: Into<StdError>,
    T::ResponseBody: Body<Data = Bytes> + Send + 'static,
    <T::ResponseBody as Body>::Error: Into<StdError> + Send,
{
    pub fn new(log: &str, channel: T) -> Self {
        RemoteLog { log: log.into(), client: LogServiceClient::new(channel) }
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
        let mut client = self.client.clone();
        Box::pin(async_stream::try_stream! {
            let status = |status: tonic::Status| match status.code() {
                Code::FailedPrecondition => after.not_in(&log),
                _ => FollowError::Unavailable {
                    log: log.to_string(),
                    reason: format!("{}: {}", status.code(), status.message()),
                },
            };
            let request = SubscribeRequest {
                after: Some(after.to_position(&log)),
                hash: after.hash.clone().unwrap_or_default(),
            };
            let mut items = client.subscribe(request).await.map_err(status)?.into_inner();
            let mut seen = after.clone();
            while let Some(item) = items.next().await {
                match item.map_err(status)?.item {
                    Some(Sent::Record(record)) => {
                        seen.step(&log, &record)?;
                        yield Item::Record(Arc::new(record));
                    }
                    Some(Sent::CaughtUp(mark)) => {
                        let Position { epoch, position, .. } = mark.position.unwrap_or_default();
                        yield Item::CaughtUp(Cursor { epoch, position, hash: None });
                    }
                    Some(Sent::Heartbeat(_)) | None => {}
                }
            }
            // A follower's stream never just ends: its owner is going.
            Err(FollowError::Unavailable {
                log: log.to_string(),
                reason: "its owner ended the stream".to_owned(),
            })?;
        })
    }
}
