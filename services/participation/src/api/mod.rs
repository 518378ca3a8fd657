//! The gRPC handlers: check the message, ask the domain or the store, answer.

use samen_proto::participation::participation_service_server::ParticipationService;
use samen_proto::participation::*;
use samen_server::streams::Outgoing;
use tonic::{Request, Response, Status as Refusal};

use crate::Participation;

mod check;
mod commands;
mod queries;
pub mod watch;

type Answer<T> = Result<Response<T>, Refusal>;

#[tonic::async_trait]
impl ParticipationService for Participation {
    type WatchProcessesStream = Outgoing<WatchProcessesResponse>;

    async fn start_process(&self, r: Request<StartProcessRequest>) -> Answer<StartProcessResponse> {
        commands::start(self, r).await.map(Response::new)
    }

    async fn publish_process(
        &self,
        r: Request<PublishProcessRequest>,
    ) -> Answer<PublishProcessResponse> {
        commands::publish(self, r).await.map(Response::new)
    }

    async fn get_process(&self, r: Request<GetProcessRequest>) -> Answer<GetProcessResponse> {
        queries::get(self, r).await.map(Response::new)
    }

    async fn list_processes(
        &self,
        r: Request<ListProcessesRequest>,
    ) -> Answer<ListProcessesResponse> {
        queries::list(self, r).await.map(Response::new)
    }

    async fn submit_contribution(
        &self,
        r: Request<SubmitContributionRequest>,
    ) -> Answer<SubmitContributionResponse> {
        commands::submit(self, r).await.map(Response::new)
    }

    async fn list_contributions(
        &self,
        r: Request<ListContributionsRequest>,
    ) -> Answer<ListContributionsResponse> {
        queries::contributions(self, r).await.map(Response::new)
    }

    async fn watch_processes(
        &self,
        r: Request<WatchProcessesRequest>,
    ) -> Answer<Self::WatchProcessesStream> {
        watch::processes(self, r).await.map(Response::new)
    }
}
