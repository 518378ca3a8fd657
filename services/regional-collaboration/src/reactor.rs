//! Gives shared records of the other services their place in each agreement's
//! feed.
//!
//! A reconciler: it begins from what the feed's own stream says, and offering
//! the same records twice changes nothing. One task follows one source for one
//! agreement; an agreement that is new begins with the source's history.

use std::collections::HashSet;
use std::sync::Arc;
use std::time::Duration;

use samen_log::react::{self, Reactor, command_id};
use samen_log::{Command, CommandError, Cursor, Follow, Record};
use samen_proto::operations::TaskKind;
use tokio::task::JoinSet;

use crate::Regional;
use crate::domain::Rejection;
use crate::domain::feed::{Assign, decide};
use crate::projection::queries;

/// Records that may be looked through without a match before that is noted, so
/// that a restart does not look through them again.
const NOTE_EVERY: u64 = 10_000;
/// How often agreements are looked at although nothing changed.
const PERIOD: Duration = Duration::from_secs(5);

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
    let task = service.tasks.add(TaskKind::Reactor, "assigner");
    let mut assigner = Assigner { service, agreement, source: source.clone() };
    tokio::select! {
        () = shutdown.cancelled() => {}
        () = react::run(&*source, &mut assigner, &task) => {}
    }
}

/// Gives records of one source their place in one agreement's feed.
struct Assigner {
    service: Regional,
    agreement: String,
    source: Arc<dyn Follow>,
}

impl Reactor for Assigner {
    type Error = CommandError<Rejection>;

    async fn through(&mut self) -> Result<Cursor, Self::Error> {
        let (feed, _) = self.service.feeds.get::<Rejection>(&self.agreement).await?;
        Ok(feed.through(self.source.log()))
    }

    async fn offer(&mut self, records: &[Arc<Record>]) -> Result<bool, Self::Error> {
        let (agreed, _) = self.service.agreements.get::<Rejection>(&self.agreement).await?;
        let Some(terms) = agreed.in_force() else { return Ok(false) };
        let Some(last) = records.last() else { return Ok(true) };
        let shared = |record: &&Arc<Record>| terms.event_types.contains(&record.r#type);
        let positions: Vec<_> = records.iter().filter(shared).map(|r| r.position).collect();
        if !positions.is_empty() || last.position - self.through().await?.position >= NOTE_EVERY {
            let offer = Assign {
                agreement_id: self.agreement.clone(),
                source_log: self.source.log().to_owned(),
                source_epoch: last.epoch,
                source_positions: positions,
                source_through: last.position,
                source_hash: last.hash.clone(),
            };
            self.service.offer(offer, &Cursor::at(last)).await?;
        }
        Ok(true)
    }
}

impl Regional {
    async fn offer(&self, offer: Assign, through: &Cursor) -> Result<(), CommandError<Rejection>> {
        let command = Command {
            actor: "assigner".to_owned(),
            method: "Assign",
            request_id: command_id(&offer.agreement_id, &offer.source_log, through),
            ..Command::default()
        };
        let agreement = offer.agreement_id.clone();
        let decide = |feed: &_, _| Ok(decide(feed, offer.clone()).into());
        self.feeds.execute(command, &agreement, decide).await.map(drop)
    }
}
