//! Server streams that heed shutdown and show that they live.

use std::pin::Pin;
use std::time::Duration;

use futures::{Stream, StreamExt};
use tokio_util::sync::CancellationToken;
use tonic::{Code, Status};

use crate::reply::status;

/// A server stream as tonic takes it.
pub type Outgoing<T> = Pin<Box<dyn Stream<Item = Result<T, Status>> + Send>>;

/// Sends the items, a heartbeat whenever nothing was sent for a while, and at
/// shutdown UNAVAILABLE: the reader resumes elsewhere from the last position
/// that it has seen.
///
/// Nothing is queued here: a reader that is slow makes the source wait.
pub fn outgoing<T, S>(
    items: S,
    every: Duration,
    heartbeat: impl Fn() -> T + Send + 'static,
    shutdown: CancellationToken,
) -> Outgoing<T>
where
    T: Send + 'static,
    S: Stream<Item = Result<T, Status>> + Send + 'static,
{
    Box::pin(async_stream::stream! {
        let mut items = std::pin::pin!(items);
        loop {
            let next = tokio::select! {
                biased;
                () = shutdown.cancelled() => {
                    let message = "the server stops; resume from the last position you have";
                    yield Err(status(Code::Unavailable, "SHUTTING_DOWN", message));
                    return;
                }
                next = items.next() => next,
                () = tokio::time::sleep(every) => {
                    yield Ok(heartbeat());
                    continue;
                }
            };
            match next {
                Some(Ok(item)) => yield Ok(item),
                Some(Err(error)) => {
                    yield Err(error);
                    return;
                }
                None => return,
            }
        }
    })
}
