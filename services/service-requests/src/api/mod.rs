//! The gRPC handlers: check the message, ask the domain or the store, answer.

use samen_proto::requests::request_service_server::RequestService;
use samen_proto::requests::statistics_service_server::StatisticsService;
use samen_proto::requests::*;
use samen_server::access::caller;
use samen_server::streams::Outgoing;
use tonic::{Request, Response, Status as Refusal};

use crate::Requests;

pub mod catalogue;
pub(crate) mod check;
mod does;
mod export;
pub mod figures;
mod filter;
mod handling;
mod history;
mod inbox;
pub(crate) mod intake;
mod networks;
pub mod photos;
mod queries;
mod reporter;
pub mod statistics;
pub mod watch;

type Answer<T> = Result<Response<T>, Refusal>;

#[tonic::async_trait]
impl RequestService for Requests {
    type WatchRequestsStream = Outgoing<WatchRequestsResponse>;
    type WatchStatisticsStream = Outgoing<WatchStatisticsResponse>;

    async fn file_request(&self, r: Request<FileRequestRequest>) -> Answer<FileRequestResponse> {
        intake::file(self, r).await.map(Response::new)
    }

    async fn import_request(
        &self,
        r: Request<ImportRequestRequest>,
    ) -> Answer<ImportRequestResponse> {
        intake::import(self, r).await.map(Response::new)
    }

    async fn change_status(&self, r: Request<ChangeStatusRequest>) -> Answer<ChangeStatusResponse> {
        handling::change_status(self, r).await.map(Response::new)
    }

    async fn reveal_request(
        &self,
        r: Request<RevealRequestRequest>,
    ) -> Answer<RevealRequestResponse> {
        history::reveal(self, r).await.map(Response::new)
    }

    async fn get_request(&self, r: Request<GetRequestRequest>) -> Answer<GetRequestResponse> {
        queries::get(self, r).await.map(Response::new)
    }

    async fn list_requests(&self, r: Request<ListRequestsRequest>) -> Answer<ListRequestsResponse> {
        queries::list(self, r).await.map(Response::new)
    }

    async fn watch_requests(
        &self,
        r: Request<WatchRequestsRequest>,
    ) -> Answer<Self::WatchRequestsStream> {
        watch::requests(self, r).await.map(Response::new)
    }

    async fn watch_statistics(
        &self,
        r: Request<WatchStatisticsRequest>,
    ) -> Answer<Self::WatchStatisticsStream> {
        let caller = caller(&r)?;
        self.check_built()?;
        Ok(Response::new(self.statistics.watch(&self.deployment, &caller)))
    }
}

#[tonic::async_trait]
impl StatisticsService for Requests {
    type WatchFiguresStream = Outgoing<WatchFiguresResponse>;
    type ExportRequestsStream = Outgoing<ExportRequestsResponse>;

    async fn get_statistics(
        &self,
        r: Request<GetStatisticsRequest>,
    ) -> Answer<GetStatisticsResponse> {
        figures::get(self, r).await.map(Response::new)
    }

    async fn watch_figures(
        &self,
        r: Request<WatchFiguresRequest>,
    ) -> Answer<Self::WatchFiguresStream> {
        figures::watch(self, r).await.map(Response::new)
    }

    async fn export_requests(
        &self,
        r: Request<ExportRequestsRequest>,
    ) -> Answer<Self::ExportRequestsStream> {
        export::requests(self, r).await.map(Response::new)
    }
}
