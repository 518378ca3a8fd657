//! The relay, followers, projectors and reactors as they are, over a log and
//! an exchange that are simulated and fail at will, from a seed.
//!
//! Nothing here waits for a clock or runs at the same time as anything else:
//! one thread, time that jumps, and one source of chance. So a seed always
//! gives the same run, and one that fails can be looked at:
//!
//!     SAMEN_SIMULATION_SEED=4711 tests/run simulation
//!
//! prints what happened in it. `SAMEN_SIMULATION_SEEDS` says how many are
//! tried.
//!
//! - [`world`]: chance, time, and processes that crash and freeze;
//! - [`log`], [`bus`], [`rows`]: what is simulated;
//! - [`reactors`]: two that do something with records;
//! - [`run`]: one seed, and what must hold at its end.

mod bus;
mod log;
mod reactors;
mod rows;
mod run;
mod world;

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::{AtomicU64, Ordering};

/// Seeds that every run tries.
const SEEDS: u64 = 2_000;
/// Seeds that are new each time.
const NEW_SEEDS: u64 = 1_000;

fn number(variable: &str) -> Option<u64> {
    std::env::var(variable).ok()?.parse().ok()
}

#[test]
fn whatever_fails_followers_end_equal_to_the_log() {
    if let Some(seed) = number("SAMEN_SIMULATION_SEED") {
        run::seed(seed, true);
        return;
    }
    let fixed = number("SAMEN_SIMULATION_SEEDS").unwrap_or(SEEDS);
    let begin = rand::random::<u32>().into();
    let seeds: Vec<u64> = (0..fixed).chain(begin..begin + NEW_SEEDS.min(fixed)).collect();
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
                        failed.store(seed, Ordering::Relaxed);
                    }
                }
            });
        }
    });
    let failed = failed.into_inner();
    assert_eq!(failed, u64::MAX, "replay it with SAMEN_SIMULATION_SEED={failed}");
}

#[test]
fn a_seed_always_gives_the_same_run() {
    for seed in 0..20 {
        assert_eq!(run::seed(seed, false), run::seed(seed, false), "seed {seed}");
    }
}
