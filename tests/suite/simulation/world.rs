//! Chance, time, and processes that crash and freeze.

use std::collections::hash_map::DefaultHasher;
use std::hash::{Hash, Hasher};
use std::pin::Pin;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll};
use std::time::Duration;

use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};
use tokio::time::{Instant, Sleep, sleep, sleep_until};

/// Where everything of one seed happens. Clones are the same world.
#[derive(Clone)]
pub struct World(Arc<Inner>);

struct Inner {
    rng: Mutex<StdRng>,
    begun: Instant,
    /// Nothing fails any more.
    calm: AtomicBool,
    /// Of everything that happened.
    digest: Mutex<DefaultHasher>,
    told: bool,
}

// === impl World ===

impl World {
    pub fn new(seed: u64, told: bool) -> Self {
        World(Arc::new(Inner {
            rng: Mutex::new(StdRng::seed_from_u64(seed)),
            begun: Instant::now(),
            calm: AtomicBool::new(false),
            digest: Mutex::default(),
            told,
        }))
    }

    /// A number from 0, under this.
    pub fn below(&self, end: u64) -> u64 {
        lock(&self.0.rng).random_range(0..end.max(1))
    }

    /// Whether something fails that fails this often.
    pub fn fails(&self, often: f64) -> bool {
        !self.is_calm() && lock(&self.0.rng).random_bool(often)
    }

    pub fn is_calm(&self) -> bool {
        self.0.calm.load(Ordering::Relaxed)
    }

    pub fn calm_down(&self) {
        self.tell(|| "calm".to_owned());
        self.0.calm.store(true, Ordering::Relaxed);
    }

    /// A time up to this many milliseconds.
    pub fn millis(&self, end: u64) -> Duration {
        Duration::from_millis(self.below(end))
    }

    /// How long something takes that goes over a wire: seldom very long.
    pub async fn wire(&self) {
        let time = match self.below(100) {
            _ if self.is_calm() => self.millis(3),
            0 => self.millis(8_000),
            1..5 => self.millis(400),
            5..60 => self.millis(4),
            _ => return,
        };
        sleep(time).await;
    }

    /// Notes what happens.
    pub fn tell(&self, what: impl FnOnce() -> String) {
        let at = self.0.begun.elapsed().as_millis();
        let what = what();
        (at, &what).hash(&mut *lock(&self.0.digest));
        if self.0.told {
            println!("{:>3}.{:03} {what}", at / 1000, at % 1000);
        }
    }

    /// By which two runs are compared: of what happened, and when; and of how
    /// often chance was asked.
    pub fn digest(&self) -> u64 {
        let next = self.below(u64::MAX);
        let mut digest = lock(&self.0.digest);
        (next, self.0.begun.elapsed()).hash(&mut *digest);
        digest.finish()
    }

    /// Runs this as a process would: it is killed at any point where it
    /// waits, or stands still for a while, and is started again.
    pub fn process<F>(&self, name: &'static str, start: impl Fn() -> F + Send + 'static)
    where
        F: Future<Output = ()> + Send + 'static,
    {
        let world = self.clone();
        tokio::spawn(async move {
            sleep(world.millis(200)).await;
            loop {
                let polls = match world.below(4) {
                    0 => world.below(20),
                    1 => world.below(200),
                    _ => world.below(4_000),
                };
                let frozen_at = (world.below(4) == 0).then(|| world.below(polls + 1));
                let ended = Process {
                    world: world.clone(),
                    name,
                    work: Box::pin(start()),
                    polls,
                    frozen_at,
                    frozen: None,
                };
                ended.await;
                sleep(world.millis(1_500)).await;
            }
        });
    }
}

pub fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// A process: it ends before it is polled more often than this.
struct Process<F> {
    world: World,
    name: &'static str,
    work: Pin<Box<F>>,
    polls: u64,
    frozen_at: Option<u64>,
    frozen: Option<Pin<Box<Sleep>>>,
}

impl<F: Future<Output = ()>> Future for Process<F> {
    type Output = ();

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<()> {
        let this = &mut *self;
        if let Some(frozen) = &mut this.frozen {
            if frozen.as_mut().poll(context).is_pending() {
                return Poll::Pending;
            }
            this.world.tell(|| format!("{} goes on", this.name));
            this.frozen = None;
        }
        if !this.world.is_calm() {
            if this.polls == 0 {
                this.world.tell(|| format!("{} is killed", this.name));
                return Poll::Ready(());
            }
            this.polls -= 1;
            if this.frozen_at == Some(this.polls) {
                let until = Instant::now() + this.world.millis(30_000);
                this.world.tell(|| format!("{} freezes", this.name));
                let mut frozen = Box::pin(sleep_until(until));
                let _ = frozen.as_mut().poll(context);
                this.frozen = Some(frozen);
                return Poll::Pending;
            }
        }
        this.work.as_mut().poll(context)
    }
}
