//! What comes to its end by the clock: a norm that is nearly or wholly over, a
//! reporter who did not react, an answer that becomes final. Whatever passed
//! while nobody looked is done when somebody does.

use std::time::Duration;

use jiff::Timestamp;
use samen_log::{Cursor, Task};

use super::{REST, ReactError, command};
use crate::Requests;
use crate::domain::request::{Rejection, RequestCommand, decide};
use crate::projection::queries;

pub const NAME: &str = "clock of requests";
/// How often it looks at least: how late something can be.
const PERIOD: Duration = Duration::from_secs(5);
/// How often at most, however much changes.
const LEAST: Duration = Duration::from_millis(200);
/// Requests looked at at once.
const PAGE: usize = 100;

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
            // There may be more.
            Ok(PAGE) => continue,
            Ok(_) => {
                let own = service.log.id();
                task.saw(own, &service.store.cursor(own), service.log.head());
                task.running();
            }
            Err(error) => {
                tracing::warn!(%error, task = NAME, "what is due is not looked after");
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

/// Looks at what is due, and says how many requests that were.
async fn look(service: &Requests) -> Result<usize, ReactError> {
    let now = Timestamp::now();
    let due = queries::due(&service.store.schema(), now, PAGE).await?;
    let mut last = None;
    for id in &due {
        for what in
            [RequestCommand::CheckNorm, RequestCommand::ExpireReaction, RequestCommand::Close]
        {
            let known = service.current();
            let done = service.requests.execute(command(NAME, "Clock"), id, |request, version| {
                decide(request, version, id, None, what.clone(), &known).map(Into::into)
            });
            match done.await {
                Ok(outcome) => last = Some(outcome.position),
                // What somebody did in the meantime is looked at next time.
                Err(samen_log::CommandError::Rejected(Rejection::Missing { .. })) => {}
                Err(error) => return Err(error.into()),
            }
        }
    }
    if let Some(at) = last {
        // Before it looks again, so that it does not find the same.
        let at = Cursor { epoch: at.epoch, position: at.position, hash: None };
        let seeing = service.store.see(service.log.id(), &at);
        let _: Result<_, _> = tokio::time::timeout(PERIOD, seeing).await;
    }
    Ok(due.len())
}
