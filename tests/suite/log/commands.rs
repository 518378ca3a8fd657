//! Commands on aggregates: done once, and only as the same command.

use std::sync::Arc;

use futures::future::join_all;
use samen_log::record::Position;
use samen_log::store::WaitError;
use samen_log::{
    Aggregate, Aggregates, Backup, Command, CommandError, DestroyedKeys, EmptyLog, Exchanged,
    Follow, Keyring, Leases, Log, MasterKey, Store, Tasks, back_up, events,
};
use samen_proto::requests::{RequestFiled, Status, StatusChanged};
use samen_tests::{Place, on_both_databases, scratch};
use tokio_util::sync::CancellationToken;

use super::pool::Count;
use super::shared::{LOG, SOON, verify};

on_both_databases!(
    the_same_command_has_one_outcome,
    the_same_id_with_other_content_is_refused,
    an_outcome_stays_after_the_aggregate_moved_on,
    a_lost_race_is_decided_again,
    an_outcome_from_before_a_restore_can_be_waited_for,
);

events! {
    /// What happens to a request in these tests.
    pub enum RequestEvent { RequestFiled, StatusChanged }
}

#[derive(Clone, Default)]
struct Request {
    filed: bool,
    status: i32,
    changes: usize,
}

impl Aggregate for Request {
    type Event = RequestEvent;
    const KIND: &'static str = "request";

    fn evolve(mut self, event: &RequestEvent) -> Self {
        match event {
            RequestEvent::RequestFiled(_) => self.filed = true,
            RequestEvent::StatusChanged(changed) => {
                self.status = changed.to;
                self.changes += 1;
            }
        }
        self
    }
}

type Rejection = &'static str;
type Requests = Aggregates<Request>;

fn aggregates(log: &Log, master: &MasterKey) -> Requests {
    Aggregates::new(log.clone(), Keyring::new(log.schema().clone(), master, LOG))
}

fn command(request_id: &str, content: &str) -> Command {
    Command {
        actor: "person/1".to_owned(),
        method: "ChangeStatus",
        request_id: request_id.to_owned(),
        content: content.as_bytes().to_vec(),
        keys: Vec::new(),
    }
}

async fn file(
    requests: &Requests,
    command: Command,
) -> Result<samen_log::Outcome, CommandError<Rejection>> {
    requests
        .execute(command, "1", |request, _| {
            if request.filed {
                return Err("it was filed before");
            }
            Ok(vec![RequestFiled { id: "1".to_owned(), ..RequestFiled::default() }.into()].into())
        })
        .await
}

async fn change(
    requests: &Requests,
    command: Command,
    to: Status,
) -> Result<samen_log::Outcome, CommandError<Rejection>> {
    requests
        .execute(command, "1", |request, _| {
            if !request.filed {
                return Err("there is no such request");
            }
            let (from, to) = (request.status, to.into());
            let id = "1".to_owned();
            Ok(vec![StatusChanged { id, from, to, ..StatusChanged::default() }.into()].into())
        })
        .await
}

async fn the_same_command_has_one_outcome(place: Place) {
    let log = place.log(LOG).await;
    let requests = aggregates(&log, &MasterKey::generate(false));
    let tasks = (0..20).map(|_| {
        let requests = requests.clone();
        tokio::spawn(async move { file(&requests, command("once", "a lamp is out")).await })
    });
    let outcomes: Vec<_> = join_all(tasks)
        .await
        .into_iter()
        .map(|task| task.expect("no panic").expect("it is the same command"))
        .collect();

    assert!(outcomes.iter().all(|outcome| *outcome == outcomes[0]));
    assert_eq!((outcomes[0].id.as_str(), outcomes[0].first, outcomes[0].version), ("1", 1, 1));
    assert_eq!(verify(&log).await, 1);
}

async fn the_same_id_with_other_content_is_refused(place: Place) {
    let log = place.log(LOG).await;
    let requests = aggregates(&log, &MasterKey::generate(false));
    file(&requests, command("once", "a lamp is out")).await.expect("it is new");
    let other = file(&requests, command("once", "a tree has fallen")).await;
    assert!(matches!(other, Err(CommandError::ContentDiffers)));

    // Nor where the domain would accept it, and nobody else's id is taken.
    change(&requests, command("change", "open"), Status::InProgress).await.expect("it is new");
    let other = change(&requests, command("change", "closed"), Status::Resolved).await;
    assert!(matches!(other, Err(CommandError::ContentDiffers)));
    let somebody_else = Command { actor: "person/2".to_owned(), ..command("change", "closed") };
    change(&requests, somebody_else, Status::Resolved).await.expect("ids are scoped by caller");
    assert_eq!(verify(&log).await, 3);
}

async fn an_outcome_stays_after_the_aggregate_moved_on(place: Place) {
    let log = place.log(LOG).await;
    let master = MasterKey::generate(false);
    let requests = aggregates(&log, &master);
    let filed = file(&requests, command("file", "lamp")).await.expect("it is new");
    let opened = change(&requests, command("open", "open"), Status::InProgress).await.expect("new");
    change(&requests, command("close", "closed"), Status::Resolved).await.expect("it is new");

    // One that remembers the state, and one that has just started.
    for requests in [requests, aggregates(&place.log(LOG).await, &master)] {
        // The domain would refuse this one now.
        let again = file(&requests, command("file", "lamp")).await.expect("its first outcome");
        assert_eq!(again, filed);
        let again = change(&requests, command("open", "open"), Status::InProgress).await;
        assert_eq!(again.expect("its first outcome"), opened);
        let other = file(&requests, command("another", "lamp")).await;
        assert!(matches!(other, Err(CommandError::Rejected("it was filed before"))));
    }
    assert_eq!(verify(&log).await, 3);
}

async fn a_lost_race_is_decided_again(place: Place) {
    let log = place.log(LOG).await;
    let requests = aggregates(&log, &MasterKey::generate(false));
    file(&requests, command("file", "lamp")).await.expect("it is new");
    let tasks = (0..20).map(|number| {
        let requests = requests.clone();
        tokio::spawn(async move {
            change(&requests, command(&number.to_string(), "open"), Status::InProgress).await
        })
    });
    let mut versions: Vec<_> = join_all(tasks)
        .await
        .into_iter()
        .map(|task| task.expect("no panic").expect("decided again").version)
        .collect();

    versions.sort_unstable();
    assert_eq!(versions, (2..22).collect::<Vec<_>>());
    let (request, version) = requests.get::<Rejection>("1").await.expect("the state");
    assert_eq!((request.changes, version), (20, 21));
    assert_eq!(verify(&log).await, 21);
}

/// Decides that nothing has to be done.
async fn nothing(requests: &Requests, request_id: &str) -> samen_log::Outcome {
    let nothing = requests
        .execute(command(request_id, ""), "1", |_, _| Ok::<_, Rejection>(Vec::new().into()));
    nothing.await.expect("nothing is refused")
}

async fn an_outcome_from_before_a_restore_can_be_waited_for(place: Place) {
    let log = place.log(LOG).await;
    let master = MasterKey::generate(false);
    let requests = aggregates(&log, &master);
    let first = file(&requests, command("file", "lamp")).await.expect("it is new");
    let folder = scratch::folder("backup-");
    let to = folder.path().join("backup");
    let logs = [log.schema().clone()];
    back_up(&to, &master, &logs, &|_, _, _| {}).await.expect("a backup");
    let there = place.another().await;
    let empty = EmptyLog::at(&there.location().await, LOG).await.expect("tables");
    let backup = Backup::open(&to, &master).await.expect("a backup");
    let logs = [empty];
    backup.restore(&logs, &DestroyedKeys::default(), &|_, _, _| {}).await.expect("restored");

    let (log, location) = (there.log(LOG).await, there.location().await);
    let requests = aggregates(&log, &master);
    let leases = Leases::open(&location).await.expect("the leases");
    let store = Store::open(&location, &leases, &Tasks::default(), Count).await.expect("a store");
    let follows: Vec<Arc<dyn Follow>> = vec![Arc::new(Exchanged(log.clone()))];
    tokio::spawn(store.clone().run(follows, CancellationToken::new()));
    let seen = async |position: &Position| {
        let waited = tokio::time::timeout(SOON, store.wait_for(position)).await;
        waited.unwrap_or_else(|_| panic!("{position:?} is not seen"))
    };
    // While there is no record of the new epoch, and when there is.
    for round in 0..2 {
        let again = file(&requests, command("file", "lamp")).await.expect("its first outcome");
        assert_eq!(again, first);
        seen(&again.position).await.expect("it is in the history");
        let nothing = nothing(&requests, &format!("nothing-{round}")).await;
        seen(&nothing.position).await.expect("it is in the history");
        let open = command(&format!("open-{round}"), "open");
        let opened = change(&requests, open, Status::InProgress).await.expect("it is new");
        assert!(opened.position.epoch > first.position.epoch, "{opened:?}");
        seen(&opened.position).await.expect("it is in the history");
    }
    let lost = Position { position: 2, ..first.position };
    let lost = seen(&lost).await;
    assert!(matches!(lost, Err(WaitError::OtherEpoch { .. })), "{lost:?}");
}
