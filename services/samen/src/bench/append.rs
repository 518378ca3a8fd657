//! The log: each client appends one event after another to a stream of its
//! own, as a command that is done once.

use samen_log::{Append, CommandId, Expected, Log, NewEvent};
use tokio_util::sync::CancellationToken;

use super::load::{Load, Measured};
use super::place::Place;

/// Bytes of an event: about what a filed request without its text is.
pub const EVENT_BYTES: usize = 200;
/// Bytes of a command's fingerprint (HMAC-SHA256).
const FINGERPRINT_BYTES: usize = 32;

pub async fn measure(place: &Place, load: Load) -> anyhow::Result<Measured> {
    let shutdown = CancellationToken::new();
    let location = place.location("append").await?;
    let log = Log::open(&location, "bench.append", shutdown.clone()).await?;
    // Dropped before the log is: its tasks end when they were told to.
    let _stop = shutdown.drop_guard();
    let clients = log.clone();
    load.run(move |client, call| {
        let log = clients.clone();
        async move {
            let stream = format!("bench/{client}");
            log.append(Append {
                actor: format!("client-{client}"),
                command: Some(CommandId {
                    id: format!("{stream}/{call}"),
                    fingerprint: vec![0; FINGERPRINT_BYTES],
                    key_id: None,
                }),
                expect: vec![Expected { stream: stream.clone(), version: call }],
                events: vec![NewEvent {
                    stream,
                    kind: "samen.bench.Happened".to_owned(),
                    data: vec![b'x'; EVENT_BYTES],
                }],
                ..Append::default()
            })
            .await?;
            Ok(())
        }
    })
    .await
}
