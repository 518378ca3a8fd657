//! What this service does by itself. Reconcilers all: they look at what is,
//! and doing something twice changes nothing.
//!
//! - [`clock`]: norms, reactions and answers that come to their end;
//! - [`hotspots`]: many requests of one kind in one neighbourhood;
//! - [`notices`]: who is told of what.

use std::time::Duration;

use samen_log::{Command, CommandError, Task, supervise};
use samen_proto::operations::TaskKind;
use samen_server::notices::teller;
use uuid::Uuid;

use crate::Requests;
use crate::domain::{hotspot, request};

mod clock;
mod hotspots;
pub mod notices;

/// How long a task rests after a failure.
const REST: Duration = Duration::from_secs(1);

/// Starts all of them, once the store that they look at is built; they end with
/// the deployment. Each runs in one process at a time.
pub fn start(service: &Requests) {
    let service = service.clone();
    tokio::spawn(async move {
        service.built().await;
        lead(&service, clock::NAME, clock::run);
        lead(&service, hotspots::NAME, hotspots::run);
        teller::start(&service, notices::Telling::new(&service));
    });
}

/// Runs a reactor while this process holds its lease.
fn lead<F: Future<Output = ()> + Send + 'static>(
    service: &Requests,
    name: &'static str,
    run: impl Fn(Requests, Task) -> F + Send + Sync + 'static,
) {
    let shutdown = service.deployment.shutdown.clone();
    let service = service.clone();
    supervise(name, shutdown.clone(), async move {
        let task = service.tasks.add(TaskKind::Reactor, name);
        let work = || run(service.clone(), task.clone());
        service.leases.hold(name, &task, &shutdown, work).await;
    });
}

#[derive(Debug, thiserror::Error)]
enum ReactError {
    #[error(transparent)]
    Request(#[from] CommandError<request::Rejection>),
    #[error(transparent)]
    Hotspot(#[from] CommandError<hotspot::Rejection>),
    #[error("the store cannot be read: {0}")]
    Store(#[from] sqlx::Error),
}

/// A command of this service's own whose decider sees by itself whether it was
/// done: its id only has to be new.
fn command(actor: &str, method: &'static str) -> Command {
    Command {
        actor: actor.to_owned(),
        method,
        request_id: Uuid::now_v7().to_string(),
        ..Command::default()
    }
}
