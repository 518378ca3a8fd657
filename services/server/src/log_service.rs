//! A service's log at its owner's door, for the other services of the same
//! deployment.

use futures::StreamExt;
use samen_log::{Cursor, Exchanged, Follow, Item, Log};
use samen_proto::log::log_service_server::{LogService, LogServiceServer};
use samen_proto::log::subscribe_response::Item as Sent;
use samen_proto::log::{CaughtUp, Heartbeat, SubscribeRequest, SubscribeResponse};
use tokio::sync::watch;
use tonic::{Request, Response, Status};

use crate::access::caller;
use crate::deployment::Deployment;
use crate::reply;
use crate::streams::{Outgoing, outgoing};

/// The log's door: masked, like every way out.
pub struct LogDoor {
    log: Exchanged<Log>,
    deployment: Deployment,
}

impl LogDoor {
    pub fn new(log: Log, deployment: Deployment) -> LogServiceServer<Self> {
        LogServiceServer::new(LogDoor { log: Exchanged(log), deployment })
    }
}

#[tonic::async_trait]
impl LogService for LogDoor {
    type SubscribeStream = Outgoing<SubscribeResponse>;

    async fn subscribe(
        &self,
        request: Request<SubscribeRequest>,
    ) -> Result<Response<Self::SubscribeStream>, Status> {
        let caller = caller(&request)?;
        let SubscribeRequest { after, hash } = request.into_inner();
        let after = after.unwrap_or_default();
        let id = self.log.log().to_owned();
        let after = Cursor::from_position(&id, after).map_err(reply::follow)?;
        let after = Cursor { hash: (!hash.is_empty()).then_some(hash), ..after };
        // Not where the log is: who resumes there would miss what is on its way.
        let (told, heard) = watch::channel(after.clone());
        let name = id.clone();
        let items = self.log.follow(after).map(move |item| match item {
            Ok(Item::Record(record)) => {
                told.send_replace(Cursor::at(&record));
                Ok(sent(Sent::Record(record.as_ref().clone())))
            }
            Ok(Item::CaughtUp(at)) => {
                Ok(sent(Sent::CaughtUp(CaughtUp { position: Some(at.to_position(&name)) })))
            }
            Err(error) => Err(reply::follow(error)),
        });
        let place = move || heard.borrow().to_position(&id);
        let heartbeat = |position| sent(Sent::Heartbeat(Heartbeat { position: Some(position) }));
        Ok(Response::new(outgoing(items, place, heartbeat, &self.deployment, &caller)))
    }
}

fn sent(item: Sent) -> SubscribeResponse {
    SubscribeResponse { item: Some(item) }
}
