//! The relay, followers, projectors and reactors as they are, over a log and
//! an exchange that are simulated and fail at will, from a seed.
//!
//! Real: [`samen_log::relay`], [`samen_log::streamed`], [`samen_log::mask`],
//! [`samen_log::projector`]'s lanes, [`samen_log::react`], and the regional
//! service's assigner and watcher with their deciders. Simulated: logs, the
//! exchange, rows, networks, time, and processes.
//!
//! Nothing here waits for a clock or runs at the same time as anything else:
//! one thread, time that jumps, one source of chance, and whoever waits is
//! woken in the order in which they came. So a seed always gives the same run,
//! and one that fails can be looked at:
//!
//!     SAMEN_TEST_SEED=4711 tests/run simulation
//!
//! prints what happens in it. `SAMEN_SIMULATION_SEEDS` says how many are tried.
//!
//! - [`world`]: chance, time, and processes that crash and freeze;
//! - [`log`], [`bus`] with its [`stream`], [`rows`]: what is simulated;
//! - [`reactors`]: the reactors over a simulated log;
//! - [`run`]: one seed, and what must hold at its end;
//! - [`stalled`]: a case that few seeds find.

mod bus;
mod log;
mod reactors;
mod rows;
mod run;
mod stalled;
mod stream;
mod world;

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::{AtomicU64, Ordering};

use samen_tests::given_seed;

/// The log that all follow, and the one of the service that reacts to it.
const SOURCE: &str = "gm0384.requests";
const OWN: &str = "gm0384.regional";
/// Seeds that every run tries.
const SEEDS: u64 = 1_500;
/// Seeds that are new each time.
const NEW_SEEDS: u64 = 500;
/// Seeds that are run twice.
const TWICE: u64 = 50;

#[test]
fn whatever_fails_followers_end_equal_to_the_log() {
    if let Some(seed) = given_seed() {
        run::seed(seed, true);
        return;
    }
    let many = std::env::var("SAMEN_SIMULATION_SEEDS").ok().and_then(|many| many.parse().ok());
    let fixed = many.unwrap_or(SEEDS);
    let begin = rand::random::<u32>().into();
    let seeds: Vec<u64> = (0..fixed).chain(begin..begin + NEW_SEEDS.min(fixed)).collect();
    let failed = first_that_fails(&seeds);
    assert_eq!(failed, None, "SAMEN_TEST_SEED={} repeats it", failed.unwrap_or_default());
}

#[test]
fn a_seed_always_gives_the_same_run() {
    let seeds = given_seed().map_or(0..TWICE, |seed| seed..seed + 1);
    for seed in seeds {
        assert_eq!(run::seed(seed, false), run::seed(seed, false), "seed {seed}");
    }
}

/// Runs seeds on all processors.
fn first_that_fails(seeds: &[u64]) -> Option<u64> {
    let next = AtomicU64::new(0);
    let failed = AtomicU64::new(u64::MAX);
    let threads = std::thread::available_parallelism().map_or(1, |threads| threads.get());
    std::thread::scope(|scope| {
        for _ in 0..threads {
            scope.spawn(|| {
                while failed.load(Ordering::Relaxed) == u64::MAX {
                    let next = next.fetch_add(1, Ordering::Relaxed) as usize;
                    let Some(&seed) = seeds.get(next) else { return };
                    if catch_unwind(AssertUnwindSafe(|| run::seed(seed, false))).is_err() {
                        failed.fetch_min(seed, Ordering::Relaxed);
                    }
                }
            });
        }
    });
    Some(failed.into_inner()).filter(|failed| *failed != u64::MAX)
}
