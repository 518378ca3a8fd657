//! Health as gRPC has it (`grpc.health.v1`): whether calls should come here.
//!
//! They should not while the store is being built, where others can answer:
//! commands are accepted by then, but queries refused.
//!
//! A projection that has met a record that it cannot handle does not change
//! that: commands are accepted, queries answered from what there is, and a
//! restart would not help. It is told under a name of its own, [`TASKS`]; what
//! went wrong is in `/healthz` and `samen status`, for health is only a word.

use std::collections::HashMap;
use std::time::Duration;

use tonic_health::ServingStatus;
use tonic_health::server::HealthReporter;

use crate::core::Core;
use crate::metrics::stopped;
use crate::operations::status;

/// Serving while every background task of the port's service goes on.
const TASKS: &str = "tasks";
/// How often the tasks are looked at.
const LOOK: Duration = Duration::from_millis(500);

/// What is told, under names.
struct Told {
    reporter: HealthReporter,
    told: HashMap<String, bool>,
}

/// Tells under these names whether a port serves: from when the store is built,
/// until shutdown. Whoever chooses among servers looks elsewhere before that and
/// from then on. From when this returns on, each
/// name is known.
pub async fn tell(reporter: HealthReporter, names: Vec<String>, core: Core) {
    let mut told = Told { reporter, told: HashMap::new() };
    told.look(&names, &core).await;
    tokio::spawn(async move {
        let watching = async {
            loop {
                tokio::select! {
                    () = tokio::time::sleep(LOOK) => {}
                    () = core.built(), if !core.is_built() => {}
                }
                told.look(&names, &core).await;
            }
        };
        core.deployment.shutdown.run_until_cancelled(watching).await;
        for name in names.iter().map(String::as_str).chain([TASKS]) {
            told.tell(name, false).await;
        }
    });
}

// === impl Told ===

impl Told {
    async fn look(&mut self, names: &[String], core: &Core) {
        for name in names {
            self.tell(name, core.is_built()).await;
        }
        self.tell(TASKS, stopped(&status(core)).next().is_none()).await;
    }

    async fn tell(&mut self, name: &str, serving: bool) {
        // Whoever watches hears of changes only.
        if self.told.insert(name.to_owned(), serving) != Some(serving) {
            let status = if serving { ServingStatus::Serving } else { ServingStatus::NotServing };
            self.reporter.set_service_status(name, status).await;
        }
    }
}
