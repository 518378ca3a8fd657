//! Conditions with a deadline, instead of sleeping for a guess.

use std::time::Duration;

/// For what a busy machine does late.
pub const SOON: Duration = Duration::from_secs(60);
/// How often a condition is looked at.
const PAUSE: Duration = Duration::from_millis(10);

/// Waits until the condition gives something, and panics with `what` when it
/// does not within this time.
pub async fn eventually<T>(
    within: Duration,
    what: &str,
    mut condition: impl AsyncFnMut() -> Option<T>,
) -> T {
    let holds = async {
        loop {
            if let Some(found) = condition().await {
                return found;
            }
            tokio::time::sleep(PAUSE).await;
        }
    };
    tokio::time::timeout(within, holds)
        .await
        .unwrap_or_else(|_| panic!("not within {within:?}: {what}"))
}
