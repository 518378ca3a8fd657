//! What the service goes by, in memory: the catalogue, the organisation, the
//! routing and the networks, as the store has them.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use prost::Message;
use samen_log::{CommandError, supervise};
use samen_proto::requests::*;
use samen_server::{Core, reply};
use tokio::sync::watch;
use tonic::Status as Refusal;

use crate::Requests;
use crate::api::catalogue::ALL;
use crate::domain::catalogue::Rejection;
use crate::projection::register::{self as rows, RegisterRow};

/// How often another process's projecting is looked for.
const LOOK: Duration = Duration::from_secs(1);
/// How long a look-up waits for what was defined a moment ago.
const WAIT: Duration = Duration::from_secs(5);

/// What the service goes by at one moment.
#[derive(Clone, Debug, Default)]
pub struct Register {
    newest: u64,
    pub categories: BTreeMap<String, CategoryView>,
    pub organisation: Organisation,
    pub organisation_version: u64,
    pub routing: Routing,
    pub routing_version: u64,
    pub networks: BTreeMap<String, NetworkView>,
}

/// The register as it changes. Cheap to clone.
#[derive(Clone)]
pub struct Registered {
    core: Core,
    now: watch::Receiver<Arc<Register>>,
    send: Arc<watch::Sender<Arc<Register>>>,
}

impl Register {
    fn of(rows: Vec<RegisterRow>) -> Result<Self, prost::DecodeError> {
        let mut register = Register::default();
        for row in rows {
            register.newest = register.newest.max(row.position);
            let RegisterRow { version, retired, body, .. } = row;
            let body = body.as_slice();
            match row.stream.split_once('/') {
                Some(("category", code)) => {
                    let category = Some(Category::decode(body)?);
                    let view = CategoryView { category, retired, version };
                    register.categories.insert(code.to_owned(), view);
                }
                Some(("organisation", _)) => {
                    register.organisation = Organisation::decode(body)?;
                    register.organisation_version = version;
                }
                Some(("routing", _)) => {
                    register.routing = Routing::decode(body)?;
                    register.routing_version = version;
                }
                Some(("network", id)) => {
                    let network = Some(Network::decode(body)?);
                    let view = NetworkView { network, retired, version };
                    register.networks.insert(id.to_owned(), view);
                }
                _ => {}
            }
        }
        Ok(register)
    }

    /// A category under which something can be reported now.
    pub fn category(&self, code: &str) -> Option<&Category> {
        self.categories.get(code).filter(|view| !view.retired)?.category.as_ref()
    }

    /// Codes of the categories of which everybody may see the requests, also
    /// of those that were retired.
    pub fn public(&self) -> impl Iterator<Item = &str> {
        let codes = self.categories.keys().map(String::as_str);
        codes.filter(|code| self.is_public(code))
    }

    pub fn is_public(&self, code: &str) -> bool {
        let category = self.categories.get(code).and_then(|view| view.category.as_ref());
        category.is_some_and(|category| category.public)
    }

    /// A network that takes part now.
    pub fn network(&self, id: &str) -> Option<&Network> {
        self.networks.get(id).filter(|view| !view.retired)?.network.as_ref()
    }

    /// A team.
    pub fn team(&self, code: &str) -> Option<&Team> {
        self.organisation.teams.iter().find(|team| team.code == code)
    }

    /// A department.
    pub fn department(&self, code: &str) -> Option<&Department> {
        self.organisation.departments.iter().find(|department| department.code == code)
    }

    /// Codes of departments that a category names.
    pub fn departments_in_use(&self) -> BTreeSet<&str> {
        let categories = self.categories.values().filter(|view| !view.retired);
        let named = categories.filter_map(|view| Some(view.category.as_ref()?.department.as_str()));
        named.filter(|code| !code.is_empty()).collect()
    }

    /// Codes of teams that a rule names.
    pub fn teams_in_use(&self) -> BTreeSet<&str> {
        let targets = self.routing.rules.iter().filter_map(|rule| rule.target.as_ref());
        let team = |target: &'_ Target| match &target.target {
            Some(target::Target::Team(team)) => Some(team.clone()),
            _ => None,
        };
        let named: BTreeSet<_> = targets.filter_map(team).collect();
        self.organisation
            .teams
            .iter()
            .map(|t| t.code.as_str())
            .filter(|c| named.contains(*c))
            .collect()
    }

    /// Whether a rule leads to this network.
    pub fn routes_to_network(&self, id: &str) -> bool {
        let to = |target: &Target| match &target.target {
            Some(target::Target::Network(network)) => network == id,
            _ => false,
        };
        self.routing.rules.iter().any(|rule| rule.target.as_ref().is_some_and(to))
    }

    /// The networks that somebody is a member of.
    pub fn networks_of(&self, person: &str) -> impl Iterator<Item = &Network> {
        let taking_part = self.networks.values().filter(|view| !view.retired);
        taking_part
            .filter_map(|view| view.network.as_ref())
            .filter(move |network| network.members.iter().any(|member| member == person))
    }
}

impl Registered {
    /// Reads it, once the store is built, and follows what changes; ends at
    /// shutdown.
    pub fn start(core: &Core) -> Self {
        let (send, now) = watch::channel(Arc::default());
        let registered = Registered { core: core.clone(), now, send: Arc::new(send) };
        let following = registered.clone();
        let shutdown = core.deployment.shutdown.clone();
        supervise("register", shutdown.clone(), async move {
            let _ = shutdown.run_until_cancelled(following.core.built()).await;
            let mut changed = following.core.store.watch();
            while !shutdown.is_cancelled() {
                changed.borrow_and_update();
                if let Err(error) = following.read().await {
                    tracing::warn!(%error, "the register cannot be read");
                }
                tokio::select! {
                    () = shutdown.cancelled() => {}
                    _ = tokio::time::timeout(LOOK, changed.changed()) => {}
                }
            }
        });
        registered
    }

    /// As it is, as far as this process knows.
    pub fn now(&self) -> Arc<Register> {
        self.now.borrow().clone()
    }

    /// As far as this process knows, once it knows anything: refuses while the
    /// store is built.
    pub async fn known(&self) -> Result<Arc<Register>, Refusal> {
        self.core.check_built()?;
        let now = self.now();
        if now.newest == 0 { self.newest().await } else { Ok(now) }
    }

    /// As it is with everything that this process knows to be in the log: for
    /// who does not find what was defined a moment ago. Refuses while the store
    /// is built.
    pub async fn newest(&self) -> Result<Arc<Register>, Refusal> {
        self.core.check_built()?;
        let log = &self.core.log;
        let at = log.newest().await.map_err(reply::storage)?.unwrap_or_default();
        // Who waits in vain is told what is known so far.
        let _: Result<_, _> = tokio::time::timeout(WAIT, self.core.see(&at)).await;
        self.read().await.map_err(reply::storage)?;
        Ok(self.now())
    }

    /// Goes by what was just written from here on, where it can: that it
    /// cannot yet is no reason to refuse what was done.
    pub async fn catch_up(&self) {
        if let Err(refusal) = self.newest().await {
            tracing::debug!(%refusal, "the register follows later");
        }
    }

    async fn read(&self) -> sqlx::Result<()> {
        let schema = self.core.store.schema();
        if rows::newest(&schema).await? == self.now().newest {
            return Ok(());
        }
        let register = Register::of(rows::all(&schema).await?);
        let register = register.map_err(|error| sqlx::Error::Decode(error.into()))?;
        self.send.send_if_modified(|known| {
            // Another store, after a rebuild, says the same.
            let newer = register.newest != known.newest;
            if newer {
                *known = Arc::new(register);
            }
            newer
        });
        Ok(())
    }
}

impl Requests {
    /// What a filing in this category goes by: as it is known here, or else by
    /// the log itself, which also has what was defined a moment ago.
    pub async fn register_for(&self, category: &str) -> Result<Arc<Register>, Refusal> {
        let now = self.registered.now();
        if self.is_built() && now.category(category).is_some() {
            return Ok(now);
        }
        self.logged_register(&[category]).await.map(Arc::new)
    }

    /// These categories, the organisation and the routing as the log has them,
    /// also while the store is built, or stands still.
    pub async fn logged_register(&self, categories: &[&str]) -> Result<Register, Refusal> {
        let mut register = Register::default();
        for code in categories {
            let (state, version) = self.categories.get(code).await.map_err(refused)?;
            let view = CategoryView { category: state.category, retired: state.retired, version };
            register.categories.insert((*code).to_owned(), view);
        }
        let (organisation, version) = self.organisation.get(ALL).await.map_err(refused)?;
        (register.organisation, register.organisation_version) = (organisation.0, version);
        let (routing, version) = self.routing.get(ALL).await.map_err(refused)?;
        (register.routing, register.routing_version) = (routing.0, version);
        Ok(register)
    }
}

fn refused(error: CommandError<Rejection>) -> Refusal {
    reply::command(error)
}
