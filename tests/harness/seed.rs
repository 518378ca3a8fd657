//! Chance that can be repeated.

use rand::SeedableRng;
use rand::rngs::StdRng;

/// The variable that repeats a run.
const SEED: &str = "SAMEN_TEST_SEED";

/// The seed that `SAMEN_TEST_SEED` asks for.
pub fn given_seed() -> Option<u64> {
    let seed = std::env::var(SEED).ok()?;
    Some(seed.parse().unwrap_or_else(|_| panic!("{SEED} must be a number")))
}

/// Randomness from a seed that is printed, and that `SAMEN_TEST_SEED` sets.
pub fn seeded(test: &str) -> StdRng {
    let seed = given_seed().unwrap_or_else(rand::random);
    println!("{test}: {SEED}={seed} repeats it");
    StdRng::seed_from_u64(seed)
}
