//! Clients in a closed loop: each asks again when it has its answer, or when it
//! is time.

use std::time::Duration;

use tokio::task::JoinSet;
use tokio::time::{Instant, sleep_until};

/// How long clients run before anything is counted, so that connections are
/// made and caches filled.
const WARM_UP: Duration = Duration::from_millis(500);

/// How much is asked.
#[derive(Clone, Copy)]
pub struct Load {
    pub clients: usize,
    pub span: Duration,
    /// Calls of all clients together, at most; `None`: each asks again when it
    /// has its answer.
    pub per_second: Option<u32>,
}

/// What was measured.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Measured {
    pub per_second: f64,
    /// Where single calls were timed.
    pub latency: Option<Latency>,
}

/// How long calls took.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Latency {
    pub p50: Duration,
    pub p99: Duration,
}

impl Load {
    /// Lets each client call `once` with its number and its call's, again and
    /// again, and counts the calls that ended within the span. The first call
    /// that fails ends the measure.
    pub async fn run<F, C>(self, once: C) -> anyhow::Result<Measured>
    where
        C: Fn(usize, u64) -> F + Clone + Send + 'static,
        F: Future<Output = anyhow::Result<()>> + Send,
    {
        let from = Instant::now() + WARM_UP;
        let until = from + self.span;
        let pace = self.per_second.map(|rate| Duration::from_secs(1) * self.clients as u32 / rate);
        let mut clients = JoinSet::new();
        let all = self.clients;
        for client in 0..all {
            let once = once.clone();
            clients.spawn(async move {
                let mut took = Vec::new();
                // Not all at the same moment.
                let offset = pace.unwrap_or_default() * client as u32 / all as u32;
                let start = Instant::now() + offset;
                for call in 0.. {
                    if let Some(pace) = pace {
                        sleep_until(start + pace * call as u32).await;
                    }
                    let began = Instant::now();
                    once(client, call).await?;
                    let ended = Instant::now();
                    if ended > until {
                        break;
                    }
                    if ended > from {
                        took.push(ended - began);
                    }
                }
                anyhow::Ok(took)
            });
        }
        let mut took = Vec::new();
        while let Some(client) = clients.join_next().await {
            took.append(&mut client??);
        }
        Ok(Measured {
            per_second: took.len() as f64 / self.span.as_secs_f64(),
            latency: Latency::of(took),
        })
    }
}

impl Latency {
    /// `None` where there was no call.
    pub fn of(mut took: Vec<Duration>) -> Option<Self> {
        let last = took.len().checked_sub(1)?;
        took.sort_unstable();
        let at = |part: f64| took[(last as f64 * part).round() as usize];
        Some(Latency { p50: at(0.50), p99: at(0.99) })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn percentiles() {
        let took = (1..=101).rev().map(Duration::from_millis).collect();
        let latency = Latency::of(took).unwrap();
        assert_eq!(latency.p50, Duration::from_millis(51));
        assert_eq!(latency.p99, Duration::from_millis(100));
        assert_eq!(Latency::of(Vec::new()), None);
    }
}
