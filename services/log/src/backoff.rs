//! How long to rest after a failure.

use std::time::Duration;

/// Rests that double until something went well.
#[derive(Clone, Debug)]
pub struct Backoff {
    first: Duration,
    longest: Duration,
    next: Duration,
}

// === impl Backoff ===

impl Backoff {
    pub const fn new(first: Duration, longest: Duration) -> Self {
        Backoff { first, longest, next: first }
    }

    /// Something went well.
    pub fn reset(&mut self) {
        self.next = self.first;
    }

    /// How long to rest now. The next rest is twice as long.
    pub fn rest(&mut self) -> Duration {
        let rest = self.next;
        self.next = (rest * 2).min(self.longest);
        rest
    }

    /// Between half of it and all of it, by chance: so that many who were cut
    /// off at once do not come back at once.
    pub fn next_jittered(&mut self) -> Duration {
        self.rest().mul_f64(rand::random_range(0.5..1.0))
    }
}
