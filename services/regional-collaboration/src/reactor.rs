//! Gives shared records of the other services their place in each agreement's
//! feed.
//!
//! A reconciler: it begins from what the feed's own stream says, and offering
//! the same records twice changes nothing. One task follows one source for one
//! agreement; an agreement that is new begins with the source's history.

use std::collections::HashSet;
use std::sync::Arc;
use std::time::Duration;

use futures::StreamExt;
use samen_log::{Command, CommandError, Follow, FollowError, Item};
use tokio::task::JoinSet;
use uuid::Uuid;

use crate::Regional;
use crate::domain::Rejection;
use crate::domain::feed::{Assign, decide};
use crate::projection::queries;

/// Records of a source that are offered together.
const BATCH: usize = 500;
/// Records that may be looked through without a match before that is noted, so
/// that a restart does not look through them again.
const NOTE_EVERY: u64 = 10_000;
/// How often agreements are looked at although nothing changed.
const PERIOD: Duration = Duration::from_secs(5);
/// How long a task rests after a failure.
const REST: Duration = Duration::from_secs(1);

#[derive(Debug, thiserror::Error)]
enum AssignError {
    #[error(transparent)]
    Follow(#[from] FollowError),
    #[error(transparent)]
    Command(#[from] CommandError<Rejection>),
}

/// Runs until the deployment shuts down.
pub async fn run(service: Regional, sources: Vec<Arc<dyn Follow>>) {
    let shutdown = service.deployment.shutdown.clone();
    let mut changed = service.store.watch();
    let mut running: HashSet<String> = HashSet::new();
    let mut tasks = JoinSet::new();
    loop {
        match queries::agreements_in_force(&service.store.schema()).await {
            Ok(agreements) => {
                for id in agreements {
                    if running.insert(id.clone()) {
                        for source in &sources {
                            tasks.spawn(assign(service.clone(), id.clone(), source.clone()));
                        }
                    }
                }
            }
            Err(error) => tracing::error!(%error, "agreements cannot be read"),
        }
        tokio::select! {
            () = shutdown.cancelled() => return,
            _ = tokio::time::timeout(PERIOD, changed.changed()) => {}
            Some(ended) = tasks.join_next() => {
                // Its agreement has ended, unless it panicked: then everything
                // begins again, by the one who supervises this.
                if let Err(error) = ended {
                    tracing::error!(%error, "assigning failed");
                    return;
                }
            }
        }
    }
}

/// Follows one source for one agreement, until the agreement ends.
async fn assign(service: Regional, agreement: String, source: Arc<dyn Follow>) {
    let shutdown = service.deployment.shutdown.clone();
    loop {
        let failed = tokio::select! {
            () = shutdown.cancelled() => return,
            result = assign_from_where_it_stopped(&service, &agreement, &source) => result,
        };
        match failed {
            Ok(()) => return,
            Err(error) => {
                tracing::warn!(%error, agreement, log = source.log(), "assigning begins again");
            }
        }
        tokio::select! {
            () = shutdown.cancelled() => return,
            () = tokio::time::sleep(REST) => {}
        }
    }
}

async fn assign_from_where_it_stopped(
    service: &Regional,
    agreement: &str,
    source: &Arc<dyn Follow>,
) -> Result<(), AssignError> {
    let (feed, _) = service.feeds.get::<Rejection>(agreement).await?;
    let through = feed.through(source.log());
    let mut noted = through.position;
    let mut batches = source.follow(through).ready_chunks(BATCH);
    while let Some(batch) = batches.next().await {
        let (agreed, _) = service.agreements.get::<Rejection>(agreement).await?;
        let Some(terms) = agreed.in_force() else { return Ok(()) };
        let mut last = None;
        let mut failed = None;
        let mut positions = Vec::new();
        for item in batch {
            match item {
                Ok(Item::Record(record)) => {
                    if terms.event_types.contains(&record.r#type) {
                        positions.push(record.position);
                    }
                    last = Some(record);
                }
                Ok(Item::CaughtUp(_)) => {}
                Err(error) => failed = Some(error),
            }
        }
        if let Some(last) = last
            && (!positions.is_empty() || last.position - noted >= NOTE_EVERY)
        {
            noted = last.position;
            let offer = Assign {
                agreement_id: agreement.to_owned(),
                source_log: source.log().to_owned(),
                source_epoch: last.epoch,
                source_positions: positions,
                source_through: last.position,
                source_hash: last.hash.clone(),
            };
            service.offer(offer).await?;
        }
        if let Some(error) = failed {
            return Err(error.into());
        }
    }
    Ok(())
}

impl Regional {
    async fn offer(&self, offer: Assign) -> Result<(), CommandError<Rejection>> {
        // Made from what was read, so that the same offer is the same command.
        let from = format!(
            "{} {} {} {}",
            offer.agreement_id, offer.source_log, offer.source_epoch, offer.source_through
        );
        let command = Command {
            actor: "assigner".to_owned(),
            method: "Assign",
            request_id: Uuid::new_v5(&Uuid::NAMESPACE_OID, from.as_bytes()).to_string(),
            ..Command::default()
        };
        let agreement = offer.agreement_id.clone();
        let decide = |feed: &_, _| Ok(decide(feed, offer.clone()).into());
        self.feeds.execute(command, &agreement, decide).await.map(drop)
    }
}
