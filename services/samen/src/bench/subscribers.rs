//! What those who watch cost those who write: the same commands with nobody
//! watching, with residents who watch what is theirs (and are told nothing of
//! what others do), and with staff who are told of everything.
//!
//! As fast as it goes, whatever is delivered takes from the same cores as
//! what is written; at a steady pace, what remains is how long a command takes.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use anyhow::{Context, ensure};
use samen_proto::options::Role;
use samen_proto::requests::WatchRequestsRequest;
use samen_proto::requests::watch_requests_response::Item;
use tokio::sync::mpsc;
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep};
use tonic::Request;

use super::counted;
use super::file_request::file;
use super::load::{Load, Measured};
use super::place::Place;
use super::service::Service;
use super::table::{Measure, Pace, Watching};

/// How many watch, and on how many connections.
pub const SUBSCRIBERS: usize = 1_000;
pub const CONNECTIONS: u16 = 50;
/// Requests a second at a steady pace: what a city of a million people files in
/// an hour, in a minute.
pub const STEADY: u32 = 100;
/// How often it is looked whether what was filed was delivered, or streams are
/// gone.
const LOOK: Duration = Duration::from_millis(10);

/// Those who watch, until they are dropped.
struct Subscribers {
    /// Requests that they were told of.
    told: Arc<AtomicU64>,
    _reading: JoinSet<anyhow::Result<()>>,
}

pub async fn measure(
    place: &Place,
    load: Load,
    connections: u16,
) -> anyhow::Result<Vec<(Measure, Measured)>> {
    let on = place.database();
    let service = Service::start(place).await?;
    let mut measured = Vec::new();
    for pace in [Pace::Full, Pace::Steady] {
        let load = match pace {
            Pace::Full => load,
            Pace::Steady => Load { per_second: Some(STEADY), ..load },
        };
        for watching in [Watching::Nobody, Watching::Own, Watching::All] {
            let subscribers = match watching {
                Watching::Nobody => None,
                Watching::Own => Some(subscribe(&service, Role::Resident).await?),
                Watching::All => Some(subscribe(&service, Role::Handler).await?),
            };
            let (before, began) = (service.log().head(), Instant::now());
            let filed = file(&service, load, connections).await?;
            measured.push((Measure::Watched(on, pace, watching), filed));
            if let (Some(subscribers), Watching::All) = (&subscribers, watching) {
                // At full speed what is behind is not waited for.
                if pace == Pace::Steady {
                    let records = service.log().head() - before;
                    subscribers.were_told(records * SUBSCRIBERS as u64).await;
                }
                let told = subscribers.told.load(Ordering::Relaxed);
                measured.push((Measure::Delivered(on, pace), counted(told, began.elapsed())));
            }
            if let (Some(subscribers), Watching::Own) = (&subscribers, watching) {
                let told = subscribers.told.load(Ordering::Relaxed);
                ensure!(told == 0, "residents were told of {told} requests of others");
            }
            drop(subscribers);
            while service.open_streams() > 0 {
                sleep(LOOK).await;
            }
        }
    }
    service.end().await?;
    Ok(measured)
}

/// Lets them watch, and waits until each is live.
async fn subscribe(service: &Service, role: Role) -> anyhow::Result<Subscribers> {
    let told = Arc::new(AtomicU64::new(0));
    let mut reading = JoinSet::new();
    let (live, mut are_live) = mpsc::channel(SUBSCRIBERS);
    // Only what comes from now on.
    let resume_after = service.log().newest().await?;
    let resume_after = resume_after.map(|newest| newest.to_position(service.log().id()));
    let clients = service.clients(CONNECTIONS)?;
    for n in 0..SUBSCRIBERS {
        let mut client = clients[n % clients.len()].clone();
        let resume_after = resume_after.clone();
        let mut request = Request::new(WatchRequestsRequest { filter: None, resume_after });
        let authorization = service.authorization(&format!("watcher-{n}"), role)?;
        request.metadata_mut().insert("authorization", authorization);
        let (told, live) = (told.clone(), live.clone());
        reading.spawn(async move {
            let mut stream = client.watch_requests(request).await?.into_inner();
            while let Some(message) = stream.message().await? {
                match message.item {
                    Some(Item::Request(_)) => drop(told.fetch_add(1, Ordering::Relaxed)),
                    Some(Item::CaughtUp(_)) => live.send(()).await?,
                    _ => {}
                }
            }
            Ok(())
        });
    }
    for _ in 0..SUBSCRIBERS {
        tokio::select! {
            live = are_live.recv() => live.context("their streams ended")?,
            Some(ended) = reading.join_next() => ended??,
        }
    }
    Ok(Subscribers { told, _reading: reading })
}

impl Subscribers {
    /// Waits until they were told so often.
    async fn were_told(&self, often: u64) {
        while self.told.load(Ordering::Relaxed) < often {
            sleep(LOOK).await;
        }
    }
}
