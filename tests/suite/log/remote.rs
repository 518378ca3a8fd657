//! Following a log at its owner's door: what an owner's refusal means.

use std::net::Ipv4Addr;

use futures::StreamExt;
use futures::stream::BoxStream;
use samen_log::remote::RemoteLog;
use samen_log::{Cursor, Follow, FollowError};
use samen_proto::log::log_service_server::{LogService, LogServiceServer};
use samen_proto::log::{SubscribeRequest, SubscribeResponse};
use tokio::net::TcpListener;
use tokio_stream::wrappers::TcpListenerStream;
use tonic::transport::{Channel, Endpoint, Server};
use tonic::{Code, Request, Response, Status};
use tonic_types::{ErrorDetails, StatusExt};

use super::shared::LOG;

/// An owner that refuses everybody.
struct Owner(Status);

#[tonic::async_trait]
impl LogService for Owner {
    type SubscribeStream = BoxStream<'static, Result<SubscribeResponse, Status>>;

    async fn subscribe(
        &self,
        _: Request<SubscribeRequest>,
    ) -> Result<Response<Self::SubscribeStream>, Status> {
        Err(self.0.clone())
    }
}

/// A channel to such an owner.
async fn owner(answer: Status) -> Channel {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.expect("a free port");
    let url = format!("http://{}", listener.local_addr().expect("an address"));
    let serving = Server::builder().add_service(LogServiceServer::new(Owner(answer)));
    tokio::spawn(serving.serve_with_incoming(TcpListenerStream::new(listener)));
    Endpoint::from_shared(url).expect("a valid address").connect_lazy()
}

/// What one is told who has seen something.
async fn told(answer: Status) -> FollowError {
    let log = RemoteLog::new(LOG, owner(answer).await);
    let seen = Cursor { epoch: 1, position: 7, hash: Some(vec![7; 32]) };
    let first = log.follow(seen).next().await.expect("an answer");
    first.expect_err("it is refused")
}

fn status(code: Code, reason: &str) -> Status {
    let mut details = ErrorDetails::new();
    details.set_error_info(reason, "samen", []);
    Status::with_error_details(code, "as it says", details)
}

#[tokio::test]
async fn only_the_owners_own_word_means_another_history() {
    let error = told(status(Code::FailedPrecondition, "NOT_IN_HISTORY")).await;
    assert!(matches!(error, FollowError::NotInHistory { position: 7, .. }), "{error}");
    // Whatever stands between may use the same code.
    for other in [
        status(Code::FailedPrecondition, "SOMETHING_ELSE"),
        Status::failed_precondition("says a proxy"),
    ] {
        let error = told(other).await;
        assert!(matches!(error, FollowError::Refused { .. }), "{error}");
    }
}

#[tokio::test]
async fn who_is_refused_is_told_so_and_who_cannot_ask_something_else() {
    for code in [Code::PermissionDenied, Code::Unauthenticated, Code::Unimplemented] {
        let error = told(status(code, "ROLE_MISSING")).await;
        assert!(matches!(error, FollowError::Refused { .. }), "{error}");
        let said = error.to_string();
        for part in [LOG, "not given to this service by its owner", "ROLE_MISSING"] {
            assert!(said.contains(part), "{part} is not in {said}");
        }
    }
    for code in [Code::Unavailable, Code::Internal, Code::ResourceExhausted, Code::Cancelled] {
        let error = told(status(code, "SHUTTING_DOWN")).await;
        assert!(matches!(error, FollowError::Unavailable { .. }), "{error}");
    }
}
