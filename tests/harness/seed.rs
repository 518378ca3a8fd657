//! Chance that can be repeated.

use rand::SeedableRng;
use rand::rngs::StdRng;

/// The variable that repeats a run.
const SEED: &str = "SAMEN_TEST_SEED";

/// Randomness from a seed that is printed, and that `SAMEN_TEST_SEED` sets.
pub fn seeded(test: &str) -> StdRng {
    let seed = match std::env::var(SEED) {
        Ok(seed) => seed.parse().unwrap_or_else(|_| panic!("{SEED} must be a number")),
        Err(_) => rand::random(),
    };
    println!("{test}: {SEED}={seed} repeats it");
    StdRng::seed_from_u64(seed)
}
