//! Records into a fresh projection store, as a new release does it.

use std::sync::Arc;

use samen_log::{Follow, Keyring, Leases, Log, MasterKey, Store, Tasks};
use samen_proto::log::Position;
use samen_requests::projection::RequestProjection;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use super::counted;
use super::load::Measured;
use super::place::Place;

/// Rebuilds from the log of the service that has just ended. It is opened
/// again, so that its records come from the database and not from memory.
pub async fn measure(
    place: &Place,
    log: &str,
    master: &MasterKey,
    written: u64,
) -> anyhow::Result<Measured> {
    let shutdown = CancellationToken::new();
    let location = place.location(samen_requests::NAME).await?;
    let log = Log::open(&location, log, shutdown.clone()).await?;
    // Dropped before the log is: its tasks end when they were told to.
    let _stop = shutdown.clone().drop_guard();
    let fresh = place.location("rebuilt").await?;
    let leases = Leases::open(&fresh).await?;
    let keyring = Keyring::new(log.schema().clone(), master, log.id());
    let projection = RequestProjection::new(keyring, master);
    let store = Store::open(&fresh, &leases, &Tasks::default(), projection).await?;

    let all = Position { log: log.id().to_owned(), epoch: log.epoch(), position: written };
    let follows: Vec<Arc<dyn Follow>> = vec![Arc::new(log.clone())];
    let began = Instant::now();
    tokio::spawn(store.clone().run(follows, shutdown));
    store.wait_for(&all).await?;
    Ok(counted(written, began.elapsed()))
}
