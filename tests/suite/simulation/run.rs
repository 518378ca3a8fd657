//! One seed, and what must hold at its end.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use futures::StreamExt;
use samen_log::exchange::Retention;
use samen_log::projector::Lane;
use samen_log::streamed::Streamed;
use samen_log::{Cursor, Exchanged, Follow, FollowError, Item, Record, Task, mask, react, relay};
use samen_proto::operations::TaskKind;
use tokio::time::sleep;
use tokio_util::sync::CancellationToken;

use super::bus::SimBus;
use super::log::SimLog;
use super::reactors::{self, Answerer, Assigner};
use super::rows::SimRows;
use super::world::{World, lock};
use crate::log::shared::{AT_HOME, EXCHANGED};

const SOURCE: &str = "gm0384.requests";
const OWN: &str = "gm0384.regional";
/// How long everything may take to come to rest once nothing fails.
const REST: Duration = Duration::from_secs(600);

/// The deployment of one seed.
#[derive(Clone)]
struct Simulation {
    world: World,
    /// The log as the present processes have it: one that was restored from a
    /// backup takes its place.
    source: Arc<Mutex<SimLog>>,
    own: SimLog,
    bus: SimBus,
    /// Of the service itself.
    rows: SimRows,
    /// Of a service that follows the exchange.
    remote: SimRows,
    watched: Arc<Mutex<Vec<Arc<Record>>>>,
    retention: Retention,
}

/// Runs a seed; panics where something does not hold.
pub fn seed(seed: u64, told: bool) -> u64 {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_time()
        .start_paused(true)
        .build()
        .expect("a runtime");
    let ended = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
        runtime.block_on(async {
            let world = World::new(seed, told);
            run(&world).await;
            world.digest()
        })
    }));
    ended.unwrap_or_else(|panic| {
        eprintln!("seed {seed} failed: SAMEN_SIMULATION_SEED={seed} replays it");
        std::panic::resume_unwind(panic)
    })
}

async fn run(world: &World) {
    // One in three seeds forgets by age, and one in three restores the log.
    let max_age = match world.below(3) {
        0 => Duration::from_secs(5 + world.below(30)),
        _ => Duration::ZERO,
    };
    let restores = world.below(3) == 0;
    let simulation = Simulation {
        world: world.clone(),
        source: Arc::new(Mutex::new(SimLog::new(world, SOURCE))),
        own: SimLog::new(world, OWN),
        bus: SimBus::new(world, SOURCE),
        rows: SimRows::new(world),
        remote: SimRows::new(world),
        watched: Arc::default(),
        retention: Retention { max_age, replicas: 1 },
    };
    simulation.start(restores);
    tokio::join!(simulation.write(), simulation.harm(restores));
    world.calm_down();
    simulation.settle(restores).await;
}

impl Simulation {
    fn source(&self) -> SimLog {
        lock(&self.source).clone()
    }

    /// The source as the services beside it follow it.
    fn streamed(&self) -> Streamed<SimBus> {
        let owner = Arc::new(Exchanged(self.source()));
        Streamed::over(self.bus.connect(), Some(owner))
    }

    /// Two of everything: leases save work, and guard nothing.
    fn start(&self, restores: bool) {
        for _ in 0..2 {
            let this = self.clone();
            self.world.process("a relay", move || {
                let this = this.clone();
                let source = this.source();
                async move {
                    tokio::select! {
                        biased;
                        () = this.replaced(&source) => {}
                        () = this.relay(source.clone()) => {}
                    }
                }
            });
            let this = self.clone();
            self.world.process("a projector", move || {
                let this = this.clone();
                async move {
                    let source = this.source();
                    tokio::select! {
                        biased;
                        () = this.replaced(&source) => {}
                        () = project(&source, &this.rows) => {}
                    }
                }
            });
            let this = self.clone();
            self.world.process("a projector of the exchange", move || {
                let this = this.clone();
                async move { project(&this.streamed(), &this.remote).await }
            });
            // A reactor has no rows to build anew: what it did is in its log.
            if !restores {
                let this = self.clone();
                self.world.process("an answerer", move || {
                    let this = this.clone();
                    async move {
                        let mut reactor = Answerer { source: SOURCE.into(), own: this.own.clone() };
                        let task = Task::new(TaskKind::Reactor, "answerer");
                        react::run(&this.streamed(), &mut reactor, &task).await;
                    }
                });
                let this = self.clone();
                self.world.process("an assigner", move || {
                    let this = this.clone();
                    async move {
                        let mut reactor = Assigner {
                            source: SOURCE.into(),
                            own: this.own.clone(),
                            offered: Cursor::START,
                        };
                        let task = Task::new(TaskKind::Reactor, "assigner");
                        react::run(&this.streamed(), &mut reactor, &task).await;
                    }
                });
            }
        }
        let this = self.clone();
        self.world.process("a follower", move || {
            let this = this.clone();
            async move { this.watch().await }
        });
    }

    /// Waits until the log that a process has was restored, and the process is
    /// started again: nobody serves a log that is not there any more for ever.
    async fn replaced(&self, had: &SimLog) {
        while had.is(&self.source()) {
            sleep(Duration::from_secs(5)).await;
        }
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
            let kind = if self.world.below(3) == 0 { AT_HOME } else { EXCHANGED };
            // As clients do: the same command until it is known to be written.
            let command = format!("command {number}");
            while self.source().append(&command, None, kind, vec![number as u8]).await.is_err() {}
        }
    }

    async fn harm(&self, restores: bool) {
        let mut restores = if restores { 1 + self.world.below(2) } else { 0 };
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

    /// The log is restored from a backup; a relay of the old one does not know
    /// it yet.
    fn restore(&self) {
        let old = self.source();
        let length = old.length().saturating_sub(self.world.below(60));
        self.world.tell(|| format!("the log is restored at {length}"));
        *lock(&self.source) = old.restored(length);
        let (this, world) = (self.clone(), self.world.clone());
        tokio::spawn(async move {
            let left = world.millis(20_000);
            let _ = tokio::time::timeout(left, this.relay(old)).await;
            world.tell(|| "the relay of the old log ends".to_owned());
        });
    }

    /// Waits until everything is as it must be.
    async fn settle(&self, restores: bool) {
        let mut wrong = String::new();
        let begun = tokio::time::Instant::now();
        while begun.elapsed() < REST {
            sleep(Duration::from_secs(2)).await;
            match self.check(restores) {
                Ok(()) => return,
                Err(error) => wrong = error,
            }
        }
        panic!("{wrong}");
    }

    fn check(&self, restores: bool) -> Result<(), String> {
        let source = self.source().records();
        let masked: Vec<_> = source.iter().map(|record| mask::mask(record.clone())).collect();
        self.check_stream(&masked)?;
        equal("the rows", &self.rows.applied(), &source)?;
        equal("the rows of the exchange", &self.remote.applied(), &masked)?;
        equal("what the follower saw", &lock(&self.watched), &masked)?;
        if restores { Ok(()) } else { self.check_reactors(&source) }
    }

    fn check_stream(&self, masked: &[Arc<Record>]) -> Result<(), String> {
        let Some((last, messages)) = self.bus.holds() else {
            return Err("there is no stream".to_owned());
        };
        if last != masked.len() as u64 {
            return Err(format!("the stream ends at {last}, and the log at {}", masked.len()));
        }
        if self.retention.max_age.is_zero() && messages.len() != masked.len() {
            return Err(format!("the stream holds only {} of {last}", messages.len()));
        }
        let skipped = masked.len().saturating_sub(messages.len());
        for ((sequence, found), record) in messages.iter().zip(&masked[skipped..]) {
            if *sequence != record.position || found != &**record {
                return Err(format!("the stream has another record at {sequence}"));
            }
        }
        Ok(())
    }

    /// Each record was answered once, in order, and has one place in the feed,
    /// whose places have no gap.
    fn check_reactors(&self, source: &[Arc<Record>]) -> Result<(), String> {
        let concerned = source.iter().filter(|record| reactors::concerns(record));
        let concerned: Vec<_> = concerned.map(|record| record.position).collect();
        let answered = reactors::answered(&self.own);
        let answered: Vec<_> = answered.iter().map(|answer| answer.position).collect();
        if answered != concerned {
            return Err(format!("answered {answered:?} of {concerned:?}"));
        }
        let mut placed = Vec::new();
        for assigned in reactors::assigned(&self.own) {
            if assigned.first_position != placed.len() as u64 + 1 {
                return Err(format!("a gap in the feed before {}", assigned.first_position));
            }
            placed.extend(assigned.source_positions);
        }
        if placed != concerned {
            return Err(format!("placed {placed:?} of {concerned:?}"));
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
    }
}

fn equal(what: &str, found: &[Arc<Record>], expected: &[Arc<Record>]) -> Result<(), String> {
    let same = found.iter().zip(expected).take_while(|(a, b)| a == b).count();
    if found.len() == expected.len() && same == found.len() {
        return Ok(());
    }
    let (found, expected) = (found.len(), expected.len());
    Err(format!("{what}: {found} records instead of {expected}, the first {same} are the same"))
}
