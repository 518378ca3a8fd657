//! One seed, and what must hold at its end.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use futures::StreamExt;
use prost::{Message, Name};
use samen_log::exchange::Retention;
use samen_log::projector::Lane;
use samen_log::streamed::Streamed;
use samen_log::{Cursor, Follow, FollowError, Item, Record, Task, mask, react, relay};
use samen_proto::operations::TaskKind;
use samen_proto::privacy::ContentErased;
use samen_regional::reactor::assign::Assigner;
use samen_regional::reactor::progress::Progress;
use samen_regional::reactor::watch::Watcher;
use tokio::time::sleep;
use tokio_util::sync::CancellationToken;

use super::bus::SimBus;
use super::log::{Door, SimLog, Write};
use super::reactors::{AGREEMENT, SimOwn, Teller, check_erasures, check_feed, equal};
use super::rows::SimRows;
use super::world::{World, lock};
use super::{OWN, SOURCE};
use crate::log::shared::{AT_HOME, EXCHANGED};

/// How long everything may take to come to rest once nothing fails.
const REST: Duration = Duration::from_secs(600);

/// The deployment of one seed.
#[derive(Clone)]
struct Simulation {
    world: World,
    /// The log that all follow. One that is restored from a backup takes its
    /// place, for the processes that begin from then on.
    source: Door,
    /// The log of the service that reacts.
    own: SimLog,
    bus: SimBus,
    /// Of the source's own service.
    rows: SimRows,
    /// Of a service that follows the exchange.
    remote: SimRows,
    watched: Arc<Mutex<Vec<Arc<Record>>>>,
    retention: Retention,
}

/// Runs in a time that jumps to whatever comes next.
pub fn in_jumping_time<T>(work: impl Future<Output = T>) -> T {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_time()
        .start_paused(true)
        .build()
        .expect("a runtime");
    runtime.block_on(work)
}

/// Runs a seed, and gives a digest of all that happened; panics where something
/// does not hold.
pub fn seed(seed: u64, told: bool) -> u64 {
    in_jumping_time(async {
        let world = World::new(seed, told);
        if let Err(wrong) = run(&world).await {
            panic!("seed {seed}: {wrong}; SAMEN_TEST_SEED={seed} repeats it");
        }
        world.digest()
    })
}

async fn run(world: &World) -> Result<(), String> {
    // One in three seeds forgets by age, and one in three restores the log.
    let max_age = match world.below(3) {
        0 => Duration::from_secs(5 + world.below(30)),
        _ => Duration::ZERO,
    };
    let restores = if world.below(3) == 0 { 1 + world.below(2) } else { 0 };
    let simulation = Simulation {
        world: world.clone(),
        source: Door(Arc::new(Mutex::new(SimLog::new(world, SOURCE)))),
        own: SimLog::new(world, OWN),
        bus: SimBus::new(world, SOURCE),
        rows: SimRows::new(world),
        remote: SimRows::new(world),
        watched: Arc::default(),
        retention: Retention { max_age, replicas: 1 },
    };
    simulation.start();
    tokio::join!(simulation.write(), simulation.harm(restores));
    world.calm_down();
    simulation.settle().await
}

impl Simulation {
    /// The source as the services beside it follow it.
    fn streamed(&self) -> Streamed<SimBus> {
        Streamed::over(self.bus.connect(), Some(Arc::new(self.source.clone())))
    }

    /// Two of everything: leases save work, and guard nothing.
    fn start(&self) {
        for _ in 0..2 {
            self.process("a relay", |this| async move {
                let source = this.source.present();
                tokio::select! {
                    biased;
                    () = source.closed() => {}
                    () = this.relay(source.clone()) => {}
                }
            });
            self.process("a projector", |this| async move {
                let source = this.source.present();
                tokio::select! {
                    biased;
                    () = source.closed() => {}
                    () = project(&source, &this.rows) => {}
                }
            });
            self.process("a projector of the exchange", |this| async move {
                project(&this.streamed(), &this.remote).await;
            });
            self.process("an assigner", |this| async move {
                let (source, progress) = (this.streamed(), progress());
                let own = SimOwn::new(&this.own, AGREEMENT);
                let mut assigner = Assigner::new(AGREEMENT, &source, own, &progress);
                react::run(&source, &mut assigner).await;
            });
            self.process("a watcher", |this| async move {
                let (source, progress) = (this.streamed(), progress());
                let mut watcher = Watcher::new(&source, SimOwn::new(&this.own, SOURCE), &progress);
                react::run(&source, &mut watcher).await;
            });
            self.process("a teller", |this| async move {
                react::run(&this.own, &mut Teller::new(&this.own)).await;
            });
        }
        self.process("a follower", |this| async move { this.watch().await });
    }

    fn process<F>(&self, name: &'static str, work: impl Fn(Simulation) -> F + Send + 'static)
    where
        F: Future<Output = ()> + Send + 'static,
    {
        let this = self.clone();
        self.world.process(name, move || work(this.clone()));
    }

    async fn relay(&self, source: SimLog) {
        let task = Task::new(TaskKind::Relay, "relay");
        let shutdown = CancellationToken::new();
        relay::run(source, self.bus.connect(), self.retention, task, shutdown).await;
    }

    /// Follows through the exchange and keeps what it is given.
    async fn watch(&self) {
        loop {
            let after = lock(&self.watched).last().map_or(Cursor::START, |last| Cursor::at(last));
            let mut items = self.streamed().follow(after);
            while let Some(item) = items.next().await {
                match item {
                    Ok(Item::Record(record)) => lock(&self.watched).push(record),
                    Ok(Item::CaughtUp(_)) => {}
                    Err(FollowError::NotInHistory { .. }) => {
                        self.world.tell(|| "the follower begins anew".to_owned());
                        lock(&self.watched).clear();
                        break;
                    }
                    Err(_) => break,
                }
            }
            sleep(Duration::from_millis(300)).await;
        }
    }

    async fn write(&self) {
        let records = 1 + self.world.below(150);
        for number in 0..records {
            let pause = match self.world.below(20) {
                0 => self.world.millis(10_000),
                1..4 => self.world.millis(300),
                _ => Duration::ZERO,
            };
            sleep(pause).await;
            let (kind, data) = match self.world.below(9) {
                0..3 => (AT_HOME.to_owned(), vec![number as u8]),
                3 => (ContentErased::full_name(), ContentErased::default().encode_to_vec()),
                _ => (EXCHANGED.to_owned(), vec![number as u8]),
            };
            // As clients do: the same command until it is known to be written.
            let command = format!("command {number}");
            let write = || Write {
                command: &command,
                stream: "request/1",
                version: None,
                kind: &kind,
                data: data.clone(),
            };
            while self.source.present().append(write()).await.is_err() {}
        }
    }

    async fn harm(&self, mut restores: u64) {
        for _ in 0..self.world.below(12) {
            sleep(self.world.millis(6_000)).await;
            self.bus.remember();
            sleep(self.world.millis(3_000)).await;
            match self.world.below(4) {
                0 if restores > 0 => {
                    restores -= 1;
                    self.restore();
                }
                _ => self.bus.harm(),
            }
        }
    }

    /// The log is restored from a backup; processes that have the old one do
    /// not know it yet.
    fn restore(&self) {
        let old = self.source.present();
        let length = old.length().saturating_sub(self.world.below(60));
        self.world.tell(|| format!("the log is restored at {length}"));
        *lock(&self.source.0) = old.restored(length);
        let world = self.world.clone();
        tokio::spawn(async move {
            sleep(world.millis(20_000)).await;
            world.tell(|| "nobody has the old log any more".to_owned());
            old.close();
        });
    }

    /// Waits until everything is as it must be.
    async fn settle(&self) -> Result<(), String> {
        let begun = tokio::time::Instant::now();
        loop {
            sleep(Duration::from_secs(2)).await;
            let checked = self.check();
            if checked.is_ok() || begun.elapsed() > REST {
                return checked;
            }
        }
    }

    fn check(&self) -> Result<(), String> {
        let source = self.source.present().records();
        let masked: Vec<_> = source.iter().map(|record| mask::mask(record.clone())).collect();
        self.check_stream(&masked)?;
        equal("the rows", &self.rows.applied(), &source)?;
        equal("the rows of the exchange", &self.remote.applied(), &masked)?;
        equal("what the follower saw", &lock(&self.watched), &masked)?;
        check_feed(&self.own, &source)?;
        check_erasures(&self.own, &source, &ContentErased::full_name())
    }

    fn check_stream(&self, masked: &[Arc<Record>]) -> Result<(), String> {
        let Some((last, messages)) = self.bus.holds() else {
            return Err("there is no stream".to_owned());
        };
        if last != masked.len() as u64 {
            return Err(format!("the stream ends at {last}, and the log at {}", masked.len()));
        }
        // Those that left it first, by their age or because somebody deleted
        // them, come from the owner.
        let skipped = masked.len().saturating_sub(messages.len());
        for ((sequence, found), record) in messages.iter().zip(&masked[skipped..]) {
            if *sequence != record.position || found != record {
                return Err(format!("the stream has another record at {sequence}"));
            }
        }
        Ok(())
    }
}

/// Follows as a store does: built anew where the log has another history.
async fn project(source: &dyn Follow, rows: &SimRows) {
    let task = Task::new(TaskKind::Projector, "projector");
    loop {
        Lane { source, rows, task: &task }.run().await;
        rows.clear();
        sleep(Duration::from_millis(500)).await;
    }
}

fn progress() -> Progress {
    Progress::new(Task::new(TaskKind::Reactor, "reactor"))
}
