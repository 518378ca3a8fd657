//! A wire that breaks: at the very moment of the commit, or without a word.

use std::sync::Arc;
use std::time::Duration;

use futures::StreamExt;
use futures::future::join_all;
use rand::RngExt;
use samen_log::jetstream::JetStreamLog;
use samen_log::record::Position;
use samen_log::store::ShownState;
use samen_log::{
    Append, AppendError, Cursor, Expected, Follow, Item, Leases, Location, Log, Store, Tasks,
};
use samen_tests::{Lost, Nats, Place, Proxy, eventually, seeded};
use tokio::sync::watch;
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;
use tokio_util::task::AbortOnDropHandle;

use super::pool::{Count, count};
use super::relay::{Relay, context, published};
use super::shared::{
    LOG, SOON, command, commands, fill, follow_to, read_all, until_accepted, verify, write,
};

/// A log over a wire that breaks, and the same log over one that does not.
async fn over_a_wire() -> (Proxy, Log, Log) {
    let place = Place::postgres().await;
    let direct = place.log(LOG).await;
    let proxy = Proxy::before(&place.name()).await;
    let location = Location::postgres(proxy.url(), "test", 4).await.expect("the database");
    let log = Log::open(&location, LOG, CancellationToken::new()).await.expect("the log");
    (proxy, log, direct)
}

/// The two ways in which a batch is committed, and what is sent only then.
#[derive(Clone, Copy, Debug)]
enum Way {
    /// One statement, on the belief that nobody else appended.
    Believed,
    /// A transaction that takes the lock and looks.
    Locked,
}

impl Way {
    /// A command that takes this way, where the log's last append was ours.
    fn command(self, name: &str) -> Append {
        let stream = format!("request/{name}");
        let mut append = write(&stream, name);
        append.command = command(name);
        if let Way::Believed = self {
            append.expect = vec![Expected { stream, version: 0 }];
        }
        append
    }

    fn commits_with(self, name: &str) -> Vec<u8> {
        match self {
            Way::Believed => name.as_bytes().to_vec(),
            Way::Locked => b"COMMIT\0".to_vec(),
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_was_lost_at_the_commit_is_told_to_who_asks_again() {
    let (proxy, log, direct) = over_a_wire().await;
    let mut written = 0;
    for way in [Way::Believed, Way::Locked] {
        for lost in [Lost::Request, Lost::Answer] {
            // The statements are prepared, and what is believed is true.
            for warm in 0..2 {
                let name = format!("warm-{warm}-{way:?}-{lost:?}");
                log.append(Way::Believed.command(&name)).await.expect("the wire is whole");
                written += 1;
            }
            let name = format!("cut-{way:?}-{lost:?}");
            let append = way.command(&name);
            let before = proxy.cuts();
            proxy.cut_at(&way.commits_with(&name), lost);
            let unknown = log.append(append.clone()).await;
            assert!(matches!(unknown, Err(AppendError::Unavailable { .. })), "{unknown:?}");
            assert_eq!(proxy.cuts(), before + 1, "{way:?} {lost:?}");
            // One that the server did not hear of is rolled back there.
            let there = commands(&direct).await.contains_key(&name);
            assert_eq!(there, lost == Lost::Answer, "{way:?} {lost:?}");

            let appended = until_accepted(&log, append).await;
            written += 1;
            assert_eq!(appended.replayed.is_some(), lost == Lost::Answer, "{way:?} {lost:?}");
            assert_eq!(verify(&direct).await, written);
            assert_eq!(commands(&direct).await.get(&name), Some(&appended.first));
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_wire_that_is_cut_again_and_again_loses_and_doubles_nothing() {
    const TASKS: usize = 12;
    const COMMANDS: usize = 60;
    const CUTS: usize = 30;
    let mut chance = seeded("a wire that is cut again and again");
    let (proxy, log, direct) = over_a_wire().await;
    let tasks = (0..TASKS).map(|task| {
        let log = log.clone();
        tokio::spawn(async move {
            for number in 0..COMMANDS {
                let way = [Way::Believed, Way::Locked][number % 2];
                until_accepted(&log, way.command(&format!("{task}-{number}"))).await;
                tokio::time::sleep(Duration::from_millis(10)).await;
            }
        })
    });
    let tasks: Vec<_> = tasks.collect();
    while proxy.cuts() < CUTS && !tasks.iter().all(|task| task.is_finished()) {
        let lost = [Lost::Request, Lost::Answer][chance.random_range(0..2)];
        let bytes: &[u8] = [b"COMMIT\0", b"request/".as_slice()][chance.random_range(0..2)];
        proxy.cut_at(bytes, lost);
        tokio::time::sleep(Duration::from_millis(chance.random_range(1..40))).await;
    }
    for task in join_all(tasks).await {
        task.expect("no panic");
    }
    assert!(proxy.cuts() >= CUTS / 2, "{} cuts are no trial", proxy.cuts());
    assert_eq!(verify(&direct).await, (TASKS * COMMANDS) as u64);
    assert_eq!(commands(&direct).await.len(), TASKS * COMMANDS);
}

#[tokio::test(flavor = "multi_thread")]
async fn connections_that_fall_silent_are_replaced() {
    let (proxy, log, direct) = over_a_wire().await;
    log.append(Way::Believed.command("before")).await.expect("the wire is whole");
    // All of the pool's connections are in use, and made.
    join_all((0..16).map(|_| read_all(&log))).await;
    let mut follower = log.follow(Cursor::START);
    let mut followed = async |position| loop {
        match follower.next().await.expect("it goes on").expect("it is readable") {
            Item::Record(record) if record.position == position => return,
            _ => {}
        }
    };
    tokio::time::timeout(SOON, followed(1)).await.expect("it is followed");

    proxy.lose_open();
    // Somebody else appends, and nobody can notify this process.
    direct.append(Way::Locked.command("other")).await.expect("another wire is whole");
    let heard = tokio::time::timeout(Duration::from_secs(20), followed(2));
    let append = until_accepted(&log, Way::Locked.command("after"));
    // Calls that give up do not keep a place in the pool.
    let reads = async {
        for _ in 0..8 {
            let read = log.read(0, 10);
            let _ = tokio::time::timeout(Duration::from_millis(300), read).await;
        }
        eventually(Duration::from_secs(20), "the pool answers again", async || {
            let reads = join_all((0..8).map(|_| log.read(0, 10)));
            let reads = tokio::time::timeout(Duration::from_secs(2), reads).await.ok()?;
            reads.into_iter().all(|read| read.is_ok()).then_some(())
        })
        .await;
    };
    let (heard, _, ()) = tokio::join!(heard, append, reads);
    heard.expect("what others append is seen");
    assert_eq!(verify(&direct).await, 3);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_that_cannot_be_reached_for_a_while_is_waited_for() {
    let (proxy, log, direct) = over_a_wire().await;
    log.append(Way::Believed.command("before")).await.expect("the wire is whole");
    proxy.freeze();
    let (told, mut heard) = watch::channel(0);
    let appends: Vec<_> = (0..40)
        .map(|number| {
            let (log, told) = (log.clone(), told.clone());
            let append = [Way::Believed, Way::Locked][number % 2].command(&number.to_string());
            tokio::spawn(async move {
                // For as long as it is waited for.
                let first = log.append(append.clone()).await;
                assert!(matches!(first, Err(AppendError::Unavailable { .. })), "{first:?}");
                told.send_modify(|told| *told += 1);
                until_accepted(&log, append).await
            })
        })
        .collect();
    let all = heard.wait_for(|told| *told == appends.len());
    timeout(SOON, all).await.expect("each is told").expect("they are asking");
    proxy.thaw();
    for append in join_all(appends).await {
        append.expect("no panic");
    }
    assert_eq!(verify(&direct).await, 41);
    assert_eq!(commands(&direct).await.len(), 41);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_projector_whose_database_fell_silent_in_the_middle_goes_on() {
    let (proxy, log, direct) = over_a_wire().await;
    let location = Location::postgres(proxy.url(), "test", 4).await.expect("the database");
    let leases = Leases::open(&location).await.expect("the leases");
    let store = Store::open(&location, &leases, &Tasks::default(), Count).await.expect("a store");
    let logs: Vec<Arc<dyn Follow>> = vec![Arc::new(log.clone())];
    tokio::spawn(store.clone().run(logs, CancellationToken::new()));
    let projected = async |position| {
        eventually(SOON, "it is projected", async || {
            (store.cursor(LOG).position == position).then_some(())
        })
        .await;
    };
    log.append(Way::Believed.command("before")).await.expect("the wire is whole");
    projected(1).await;
    // In its transaction, it names the log whose checkpoint it moves.
    let before = proxy.cuts();
    proxy.cut_at(LOG.as_bytes(), Lost::Word);
    direct.append(Way::Locked.command("during")).await.expect("another wire is whole");
    eventually(SOON, "it fell silent", async || (proxy.cuts() > before).then_some(())).await;
    direct.append(Way::Locked.command("after")).await.expect("another wire is whole");
    projected(3).await;
    assert_eq!(count(&store).await, 3);
}

/// Two processes with a store on one database, of which the second comes to it
/// over a wire that breaks; both follow a log over one that does not.
async fn two_stores() -> (Proxy, Log, [Store; 2], [AbortOnDropHandle<()>; 2]) {
    let place = Place::postgres().await;
    let log = place.log(LOG).await;
    let proxy = Proxy::before(&place.name()).await;
    let wire = Location::postgres(proxy.url(), "test", 6).await.expect("the database");
    let first = opened(&place.location().await).await;
    let following = |store: &Store| {
        let logs: Vec<Arc<dyn Follow>> = vec![Arc::new(log.clone())];
        AbortOnDropHandle::new(tokio::spawn(store.clone().run(logs, CancellationToken::new())))
    };
    let first_runs = following(&first);
    write_and_see(&log, &first).await;
    let second = opened(&wire).await;
    let second_runs = following(&second);
    (proxy, log, [first, second], [first_runs, second_runs])
}

async fn opened(location: &Location) -> Store {
    let leases = Leases::open(location).await.expect("the leases");
    Store::open(location, &leases, &Tasks::default(), Count).await.expect("a store")
}

/// Appends a record, and waits until a store has it.
async fn write_and_see(log: &Log, store: &Store) {
    let position = log.append(write("request/1", "x")).await.expect("accepted").last;
    let at_least = Position { log: LOG.to_owned(), epoch: log.epoch(), position };
    let seen = tokio::time::timeout(Duration::from_secs(20), store.wait_for(&at_least)).await;
    seen.unwrap_or_else(|_| panic!("{position} is not seen")).expect("it is followed");
}

/// The store of this list that serves.
async fn serving(store: &Store) -> String {
    let stores = store.list().await.expect("a list");
    let serving = stores.into_iter().find(|shown| shown.state == ShownState::Serving);
    serving.expect("one serves").name
}

#[tokio::test(flavor = "multi_thread")]
async fn a_standby_whose_database_fell_silent_still_sees_and_takes_over() {
    // What it asks that is never answered: how far the other has come, which
    // stores there are, what is written about one, and for the lease.
    let asked: [&[u8]; 4] =
        [b"SELECT log, epoch, position", b"SELECT nspname", b"SELECT reason", b"projector proj"];
    join_all(asked.map(async |asked| {
        let (proxy, log, [first, second], [first_runs, _second_runs]) = two_stores().await;
        write_and_see(&log, &second).await;
        let before = proxy.cuts();
        proxy.cut_at(asked, Lost::Word);
        // On new connections it has to say all of each statement.
        proxy.cut();
        eventually(SOON, "it fell silent", async || (proxy.cuts() > before).then_some(())).await;
        write_and_see(&log, &second).await;
        drop(first_runs);
        write_and_see(&log, &second).await;
        let another = first.rebuild("a test").await.expect("begun");
        eventually(SOON, "another serves", async || {
            (serving(&second).await == another).then_some(())
        })
        .await;
    }))
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_relay_whose_database_fell_silent_goes_on() {
    let (proxy, log, _) = over_a_wire().await;
    let nats = Nats::start().await;
    let context = context(&nats).await;
    fill(&log, 100).await;
    let before = proxy.cuts();
    proxy.cut_at(b".record WHERE position >", Lost::Word);
    proxy.cut();
    // It looks for the first record that is young enough.
    let _relay = Relay::start(&log, &nats, Duration::from_secs(3_600)).await;
    eventually(SOON, "it fell silent", async || (proxy.cuts() > before).then_some(())).await;
    published(&context, 100).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_exchange_that_falls_silent_holds_up_nobody_who_reads_from_the_owner() {
    let place = Place::sqlite().await;
    let log = place.log(LOG).await;
    let nats = Nats::start().await;
    let proxy = Proxy::before(&nats.url()).await;
    let client = async_nats::connect(proxy.url()).await.expect("NATS");
    let owner: Arc<dyn Follow> = Arc::new(log.clone());
    let source = JetStreamLog::new(client, LOG, Some(owner));
    // There is no stream.
    let mut items = source.follow(Cursor::START);
    let slowly = async {
        for position in 1..=12 {
            log.append(write("request/1", position)).await.expect("accepted");
            loop {
                match items.next().await.expect("it does not end").expect("it is readable") {
                    Item::Record(record) if record.position == position => break,
                    _ => {}
                }
            }
            proxy.freeze();
            // The next comes after the exchange was asked again.
            tokio::time::sleep(Duration::from_millis(400)).await;
        }
    };
    tokio::time::timeout(SOON, slowly).await.expect("each comes by itself");

    // Nor those who begin meanwhile.
    let first = async { follow_to(&source, Cursor::START, 12).await };
    assert_eq!(first.await, read_all(&log).await);
}
