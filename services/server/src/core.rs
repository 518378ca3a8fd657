//! What every service stands on: its log, its keys, its projection store, and
//! the tasks in the background.

use std::sync::Arc;
use std::time::Duration;

use samen_log::lease::Kept;
use samen_log::{
    Cursor, Follow, Keyring, Leases, Location, Log, Projection, Store, Tasks, supervise,
};
use samen_proto::operations::{Task, TaskKind, TaskState};
use tokio::sync::watch;
use tokio_util::sync::{CancellationToken, DropGuard};
use tonic::Status;
use tonic::service::Routes;

use crate::deployment::Deployment;
use crate::log_service::LogDoor;
use crate::operations::OperationsDoor;
use crate::reply;

/// How often a store that is being built is looked at.
const LOOK: Duration = Duration::from_millis(100);

/// One service of a deployment. Cheap to clone.
#[derive(Clone)]
pub struct Core {
    pub deployment: Deployment,
    pub log: Log,
    pub keyring: Keyring,
    pub store: Store,
    pub leases: Leases,
    pub tasks: Tasks,
    /// Whether the store has held what the log did when this process began.
    built: watch::Sender<bool>,
    /// By which others see that this process lives.
    _alive: Arc<Kept>,
    /// Ends the projector with the last who answers from its store: calls that
    /// are drained at shutdown still wait for it.
    answering: Arc<DropGuard>,
}

impl Core {
    /// Opens the log and the store of the service with this name. Its
    /// projection may open what is sealed.
    pub async fn open<P: Projection>(
        deployment: Deployment,
        location: &Location,
        name: &str,
        projection: impl FnOnce(&Keyring) -> P,
    ) -> sqlx::Result<Self> {
        let id = deployment.log_id(name);
        let leases = Leases::open(location).await?;
        // Before the log is looked at: see `Backup::restore`.
        let alive = Arc::new(leases.keep("process").await?);
        let log = Log::open(location, &id, deployment.shutdown.clone()).await?;
        let tasks = Tasks::default();
        let keyring = Keyring::new(log.schema().clone(), &deployment.master, &id);
        let store = Store::open(location, &leases, &tasks, projection(&keyring)).await?;
        Ok(Core {
            deployment,
            log,
            keyring,
            store,
            leases,
            tasks,
            built: watch::Sender::new(false),
            _alive: alive,
            answering: Arc::new(CancellationToken::new().drop_guard()),
        })
    }

    /// Begins to project the service's own log and these others. The store is
    /// [`built`](Self::built) when it holds what its own log does now: nothing is
    /// answered from one that is still being built for the first time, or that
    /// holds what the log lost when a backup was restored. A record that cannot
    /// be handled is not waited for: the rest of the service goes on.
    pub async fn project(&self, others: &[Arc<dyn Follow>]) -> sqlx::Result<()> {
        let mut follows = others.to_vec();
        follows.push(Arc::new(self.log.clone()));
        let projecting = self.store.clone().run(follows, self.answering.token().clone());
        let shutdown = &self.deployment.shutdown;
        supervise("projector", shutdown.clone(), projecting);
        let newest = self.log.newest().await?.unwrap_or_default();
        let core = self.clone();
        tokio::spawn(async move {
            tokio::select! {
                () = core.holds(&newest) => {}
                () = core.stops() => tracing::warn!("answering from a store that goes no further"),
                () = core.deployment.shutdown.cancelled() => return,
            }
            core.built.send_replace(true);
        });
        Ok(())
    }

    /// Waits until queries are answered.
    pub async fn built(&self) {
        // It cannot fail while this has a sender.
        let _ = self.built.subscribe().wait_for(|built| *built).await;
    }

    /// Whether they are.
    pub fn is_built(&self) -> bool {
        *self.built.borrow()
    }

    /// Refuses a query, with when to come back, until they are.
    pub fn check_built(&self) -> Result<(), Status> {
        if self.is_built() { Ok(()) } else { Err(reply::building()) }
    }

    /// Waits until the store has seen the newest record, and nothing that the
    /// log does not have.
    async fn holds(&self, newest: &Cursor) {
        loop {
            self.see(newest).await;
            match self.log.knows(&self.store.cursor(self.log.id())).await {
                Ok(true) => return,
                Ok(false) => {}
                Err(error) => tracing::warn!(%error, "the log cannot be compared with the store"),
            }
            tokio::time::sleep(LOOK).await;
        }
    }

    /// Waits until a projector has met a record that it cannot handle.
    async fn stops(&self) {
        let stopped =
            |task: &Task| task.kind() == TaskKind::Projector && task.state() == TaskState::Stopped;
        while !self.tasks.shown().iter().any(stopped) {
            tokio::time::sleep(LOOK).await;
        }
    }

    /// Waits until the store has seen this place of the service's own log.
    pub async fn see(&self, at: &Cursor) {
        self.store.see(self.log.id(), at).await;
    }

    /// Adds the doors that every service has: its log, for the others, and its
    /// status, for operators.
    pub fn routes(&self, own: Routes) -> Routes {
        own.add_service(LogDoor::new(self.log.clone(), self.deployment.clone()))
            .add_service(OperationsDoor::new(self.clone()))
    }
}
