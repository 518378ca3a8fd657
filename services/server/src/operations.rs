//! How a service does, at the operators' door.

use jiff::Timestamp;
use samen_log::record::timestamp;
use samen_log::store::{Shown, ShownState};
use samen_proto::operations::operations_service_server::{
    OperationsService, OperationsServiceServer,
};
use samen_proto::operations::{
    GetStatusRequest, GetStatusResponse, ListProjectionsRequest, ListProjectionsResponse, Progress,
    Projection, ProjectionState, RebuildProjectionRequest, RebuildProjectionResponse,
};
use tonic::{Request, Response, Status};

use crate::core::Core;
use crate::reply;

/// The operators' door of one service.
pub struct OperationsDoor(Core);

impl OperationsDoor {
    pub fn new(core: Core) -> OperationsServiceServer<Self> {
        OperationsServiceServer::new(OperationsDoor(core))
    }
}

/// What a service shows of itself.
pub fn status(core: &Core) -> GetStatusResponse {
    GetStatusResponse {
        process: core.leases.holder().to_owned(),
        log: core.log.id().to_owned(),
        epoch: core.log.epoch(),
        head: core.log.head(),
        tasks: core.tasks.shown(),
    }
}

#[tonic::async_trait]
impl OperationsService for OperationsDoor {
    async fn get_status(
        &self,
        _: Request<GetStatusRequest>,
    ) -> Result<Response<GetStatusResponse>, Status> {
        Ok(Response::new(status(&self.0)))
    }

    async fn list_projections(
        &self,
        _: Request<ListProjectionsRequest>,
    ) -> Result<Response<ListProjectionsResponse>, Status> {
        let stores = self.0.store.list().await.map_err(reply::unavailable)?;
        let projections = stores.into_iter().map(|store| shown(store, Timestamp::now())).collect();
        Ok(Response::new(ListProjectionsResponse { projections }))
    }

    async fn rebuild_projection(
        &self,
        _: Request<RebuildProjectionRequest>,
    ) -> Result<Response<RebuildProjectionResponse>, Status> {
        let name = self.0.store.rebuild("an operator asked").await.map_err(reply::unavailable)?;
        Ok(Response::new(RebuildProjectionResponse { name }))
    }
}

fn shown(store: Shown, now: Timestamp) -> Projection {
    let state = match store.state {
        ShownState::Building => ProjectionState::Building,
        ShownState::Serving => ProjectionState::Serving,
        ShownState::Retired => ProjectionState::Retired,
    };
    let done: u64 = store.progress.iter().map(|(_, cursor, _)| cursor.position).sum();
    let all: u64 = store.progress.iter().map(|(_, _, head)| head).sum();
    let estimated_time = store
        .created_at
        .filter(|_| state == ProjectionState::Building)
        .and_then(|begun| estimate(begun, now.as_microsecond(), done, all));
    let progress = store.progress.into_iter().map(|(log, cursor, head)| Progress {
        log,
        epoch: cursor.epoch,
        position: cursor.position,
        head,
    });
    Projection {
        name: store.name,
        state: state.into(),
        progress: progress.collect(),
        create_time: store.created_at.map(timestamp),
        estimated_time: estimated_time.map(timestamp),
    }
}

/// When all of it will be done, at the rate so far; in microseconds since 1970.
/// `None` before there is a rate.
fn estimate(begun: i64, now: i64, done: u64, all: u64) -> Option<i64> {
    let took = now.checked_sub(begun).filter(|took| *took > 0)?;
    let left = all.checked_sub(done)?;
    let needs = i128::from(took) * i128::from(left) / i128::from(done.max(1));
    (done > 0).then(|| now.checked_add(i64::try_from(needs).ok()?)).flatten()
}

#[cfg(test)]
mod tests {
    use super::estimate;

    #[test]
    fn the_end_is_reckoned_from_the_rate_so_far() {
        assert_eq!(estimate(1_000, 3_000, 50, 100), Some(5_000));
        assert_eq!(estimate(1_000, 3_000, 100, 100), Some(3_000));
        assert_eq!(estimate(1_000, 3_000, 0, 100), None);
        assert_eq!(estimate(1_000, 1_000, 10, 100), None);
        assert_eq!(estimate(0, i64::MAX, 1, u64::MAX), None);
    }
}
