//! A process that projects a log into its service's own store, until it kills
//! itself in the middle of a batch:
//! `projector <place> <log> <run> <piece> <batch> <share>`.
//!
//! Batches have `piece` records; the one with the number `batch` is the last,
//! after this `share` of the time that those before it took. It holds every
//! lease by itself, whoever else projects: a lease saves work and guards
//! nothing. It prints `follows <position>` each time it begins from the
//! checkpoint, and `applies <position>` with the last record of each batch,
//! when the checkpoint was moved and before the rows are written.

use std::fmt::Debug;
use std::str::FromStr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use futures::StreamExt;
use futures::future::BoxFuture;
use futures::stream::BoxStream;
use rustix::process::{Signal, getpid, kill_process};
use samen_log::db::Tx;
use samen_log::store::ApplyError;
use samen_log::{
    Cursor, Follow, FollowError, Item, Keyring, Leases, Log, MasterKey, Projection, Record, Schema,
    Store, Tasks,
};
use samen_participation::projection::ParticipationProjection;
use samen_requests::projection::RequestProjection;
use samen_tests::place;
use tokio_util::sync::CancellationToken;

#[tokio::main]
async fn main() {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let [place, log, run, piece, batch, share] = arguments.as_slice() else {
        panic!("projector <place> <log> <run> <piece> <batch> <share>");
    };
    let location = place::location(place).await;
    // Where nobody else asks.
    let own = place::location_of(&(place.clone(), run.clone())).await;
    let leases = Leases::open(&own).await.expect("the leases");
    let log = Log::open(&location, log, CancellationToken::new()).await.expect("the log");
    let death = Death { batch: number(batch), share: number(share), ..Death::default() };
    let tasks = Tasks::default();
    let store = if log.id().ends_with(".requests") {
        // Of texts that nobody can open there is nothing to find.
        let master = MasterKey::generate(true);
        let keyring = Keyring::new(log.schema().clone(), &master, log.id());
        let mortal = Mortal { projection: RequestProjection::new(keyring, &master), death };
        Store::open(&location, &leases, &tasks, mortal).await
    } else {
        let mortal = Mortal { projection: ParticipationProjection, death };
        Store::open(&location, &leases, &tasks, mortal).await
    };
    let source = Arc::new(Pieces { log, piece: number(piece) });
    store.expect("the store").run(vec![source], CancellationToken::new()).await;
}

fn number<T: FromStr<Err: Debug>>(argument: &str) -> T {
    argument.parse().expect("a number")
}

/// A log that comes in pieces, as one does that is being written.
struct Pieces {
    log: Log,
    piece: usize,
}

impl Follow for Pieces {
    fn log(&self) -> &str {
        self.log.id()
    }

    fn newest(&self) -> Option<u64> {
        Some(self.log.head())
    }

    fn follow(&self, after: Cursor) -> BoxStream<'static, Result<Item, FollowError>> {
        println!("follows {}", after.position);
        let mut pieces = self.log.follow(after).chunks(self.piece);
        Box::pin(async_stream::stream! {
            while let Some(piece) = pieces.next().await {
                for item in piece {
                    yield item;
                }
                // What there is so far is a batch.
                tokio::task::yield_now().await;
            }
        })
    }
}

/// When a process ends, and how far it is on its way there.
#[derive(Debug, Default)]
struct Death {
    batch: u32,
    share: f64,
    begun: AtomicU32,
    /// Nanoseconds that all batches took together.
    took: AtomicU64,
}

/// A service's projection, in a process that does not live long.
struct Mortal<P> {
    projection: P,
    death: Death,
}

impl<P: Projection> Projection for Mortal<P> {
    fn tables(&self) -> &'static str {
        self.projection.tables()
    }

    fn version(&self) -> u32 {
        self.projection.version()
    }

    fn apply<'a>(
        &'a self,
        tx: &'a mut Tx,
        schema: &'a Schema,
        records: &'a [Arc<Record>],
    ) -> BoxFuture<'a, Result<(), ApplyError>> {
        Box::pin(async move {
            println!("applies {}", records.last().map_or(0, |last| last.position));
            self.death.comes();
            let begun = Instant::now();
            self.projection.apply(tx, schema, records).await?;
            self.death.took.fetch_add(begun.elapsed().as_nanos() as u64, Ordering::Relaxed);
            Ok(())
        })
    }
}

impl Death {
    /// Another batch begins: if it is the last, another thread sees to it, so
    /// that the work is not interrupted anywhere but where it happens to be.
    fn comes(&self) {
        let before = self.begun.fetch_add(1, Ordering::Relaxed);
        if before + 1 != self.batch {
            return;
        }
        let each = self.took.load(Ordering::Relaxed) / u64::from(before).max(1);
        let rest = Duration::from_nanos(each).mul_f64(self.share);
        std::thread::spawn(move || {
            std::thread::sleep(rest);
            kill_process(getpid(), Signal::KILL).expect("a process may kill itself");
        });
    }
}
