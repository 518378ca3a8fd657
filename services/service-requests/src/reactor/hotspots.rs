//! Sees where many requests of one kind in one neighbourhood are one problem,
//! and where they are not any more.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use jiff::{Timestamp, ToSpan};
use samen_log::Task;
use samen_proto::requests::HotspotRule;

use super::{REST, ReactError, command};
use crate::Requests;
use crate::domain::hotspot::{Sighting, decide};
use crate::projection::queries;

pub const NAME: &str = "hotspots";
/// How often it looks although nothing changed: one cools by the clock.
const PERIOD: Duration = Duration::from_secs(60);
/// How often at most, however much changes.
const LEAST: Duration = Duration::from_secs(2);

/// Runs until the deployment shuts down.
pub async fn run(service: Requests, task: Task) {
    let shutdown = service.deployment.shutdown.clone();
    let mut changed = service.store.watch();
    loop {
        changed.borrow_and_update();
        let looked = tokio::select! {
            () = shutdown.cancelled() => return,
            looked = look(&service) => looked,
        };
        match looked {
            Ok(()) => {
                let own = service.log.id();
                task.saw(own, &service.store.cursor(own), service.log.head());
                task.running();
            }
            Err(error) => {
                tracing::warn!(%error, task = NAME, "hotspots are not looked for");
                task.failed(error);
                tokio::time::sleep(REST).await;
            }
        }
        tokio::select! {
            () = shutdown.cancelled() => return,
            _ = tokio::time::timeout(PERIOD, changed.changed()) => {}
        }
        tokio::time::sleep(LEAST).await;
    }
}

async fn look(service: &Requests) -> Result<(), ReactError> {
    let register = service.registered.now();
    let schema = service.store.schema();
    let until = Timestamp::now();
    // Categories with the same window are counted together.
    let mut by_days: BTreeMap<u32, BTreeMap<&str, HotspotRule>> = BTreeMap::new();
    for (code, view) in &register.categories {
        if let Some(rule) = view.category.as_ref().and_then(|category| category.hotspot) {
            by_days.entry(rule.days).or_default().insert(code, rule);
        }
    }
    let mut hot: BTreeSet<(String, String)> = queries::hotspots(&schema).await?;
    for (days, rules) in by_days {
        let from = until.checked_sub((i64::from(days) * 24).hours()).unwrap_or(until);
        let counts = queries::filed_since(&schema, rules.keys().copied(), from).await?;
        for (category, neighbourhood, requests) in counts {
            let Some(rule) = rules.get(category.as_str()) else { continue };
            let there = hot.remove(&(category.clone(), neighbourhood.clone()));
            let many = requests >= rule.requests;
            if many != there {
                see(service, Sighting { category, neighbourhood, requests, many, from, until })
                    .await?;
            }
        }
    }
    // Where there is nothing left, or no rule.
    for (category, neighbourhood) in hot {
        let (requests, many, from) = (0, false, until);
        see(service, Sighting { category, neighbourhood, requests, many, from, until }).await?;
    }
    Ok(())
}

async fn see(service: &Requests, sighting: Sighting) -> Result<(), ReactError> {
    let id = format!("{}/{}", sighting.category, sighting.neighbourhood);
    let done = service
        .hotspots
        .execute(command(NAME, "See"), &id, |state, _| decide(state, &sighting).map(Into::into));
    done.await?;
    Ok(())
}
