//! Tasks that must not end while the process serves.

use tokio_util::sync::CancellationToken;

/// Spawns a task without which the process is of no use. When it ends, or
/// panics, before shutdown was asked, everything is stopped: whoever started
/// the process starts it again, rather than that it looks well and does
/// nothing.
pub fn supervise(
    name: &'static str,
    shutdown: CancellationToken,
    task: impl Future<Output = ()> + Send + 'static,
) {
    tokio::spawn(async move {
        let ended = tokio::spawn(task).await;
        if !shutdown.is_cancelled() {
            let reason = ended.err().map_or_else(|| "it ended".to_owned(), |e| e.to_string());
            tracing::error!(task = name, reason, "a task that must not end has ended; stopping");
            shutdown.cancel();
        }
    });
}
