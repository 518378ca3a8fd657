//! What a reactor reads and writes of its own service's log: one aggregate.
//!
//! A trait, so that the logic of the reactors stands alone, over this log or a
//! simulated one.

use std::sync::Arc;

use samen_log::{Aggregate, Aggregates, Command, Record};
use uuid::Uuid;

use super::ReactError;
use crate::Regional;
use crate::domain::Rejection;

/// One aggregate, in the log of the service that reacts.
pub trait Own<A: Aggregate>: Send + Sync {
    /// How it stands, and the version of its stream.
    fn get(&self) -> impl Future<Output = Result<(A, u64), ReactError>> + Send;

    /// Records of its stream after a version, in order, at most `limit`.
    fn records(
        &self,
        after: u64,
        limit: usize,
    ) -> impl Future<Output = Result<Vec<Arc<Record>>, ReactError>> + Send;

    /// Appends what is decided on how it stands, and decides anew where
    /// somebody else was first.
    fn change(
        &self,
        decide: impl Fn(&A) -> Result<Vec<A::Event>, Rejection> + Send + Sync,
    ) -> impl Future<Output = Result<(), ReactError>> + Send;
}

/// An aggregate of the service that runs.
pub struct Stored<'a, A: Aggregate> {
    pub service: &'a Regional,
    pub aggregates: &'a Aggregates<A>,
    pub id: &'a str,
    /// Who changes it, and by what.
    pub actor: &'static str,
    pub method: &'static str,
}

impl<A: Aggregate> Own<A> for Stored<'_, A>
where
    A::Event: Send + Sync,
{
    async fn get(&self) -> Result<(A, u64), ReactError> {
        Ok(self.aggregates.get::<Rejection>(self.id).await?)
    }

    async fn records(&self, after: u64, limit: usize) -> Result<Vec<Arc<Record>>, ReactError> {
        let stream = format!("{}/{}", A::KIND, self.id);
        Ok(self.service.log.read_stream(&stream, after, limit).await?)
    }

    async fn change(
        &self,
        decide: impl Fn(&A) -> Result<Vec<A::Event>, Rejection> + Send + Sync,
    ) -> Result<(), ReactError> {
        // The decider sees by itself whether this was done: the id only has to
        // be new.
        let command = Command {
            actor: self.actor.to_owned(),
            method: self.method,
            request_id: Uuid::now_v7().to_string(),
            ..Command::default()
        };
        self.aggregates.execute(command, self.id, |state, _| decide(state).map(Into::into)).await?;
        Ok(())
    }
}
