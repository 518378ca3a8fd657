//! Service requests under faults, from outside: what a client was told is in
//! the log, once, and what it was not told is there at most once.
//!
//! - [`kill`]: processes and servers that are killed;
//! - [`wire`]: the way to the database;
//! - [`disk`]: no space;
//! - [`exchange`]: NATS, and who follows through it;
//! - [`overload`]: more than it can take, and fewer connections than callers;
//! - [`projector`]: projections that are killed in the middle of a batch, with
//!   [`history`] to project and a [`dump`] of what came of it.

mod disk;
mod dump;
mod exchange;
mod history;
mod kill;
mod overload;
mod projector;
mod wire;

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use rand::RngExt;
use samen_log::{Location, Log};
use samen_proto::log::Position;
use samen_proto::requests::request_service_client::RequestServiceClient;
use samen_proto::requests::{FileRequestResponse, GetRequestRequest};
use samen_tests::CATALOGUE_RECORDS;
use samen_tests::deployment::Authorised;
use samen_tests::eventually;
use samen_tests::place::location_of;
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;
use tonic::{Code, Status as Refusal};
use tonic_types::StatusExt;

use super::shared::{SOON, report};
use crate::log::shared::{commands, read_all, verify};

type Client = RequestServiceClient<Authorised>;

const LOG: &str = "gm0384.requests";
/// How long a client rests before it asks again.
const REST: Duration = Duration::from_millis(50);

/// What clients asked and what they were told.
#[derive(Clone, Default)]
struct Told(Arc<Mutex<Inner>>);

#[derive(Default)]
struct Inner {
    asked: usize,
    /// By the request's id: its number, which is its position.
    filed: HashMap<String, u64>,
    /// The furthest position told: answers come in any order.
    last: Option<Position>,
    /// How often each code and reason was given.
    refusals: HashMap<(Code, String), usize>,
    /// Of those that were told when to come back.
    told_when: usize,
}

impl Told {
    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn filed(&self) -> usize {
        self.lock().filed.len()
    }

    fn refused(&self, code: Code, reason: &str) -> usize {
        self.lock().refusals.get(&(code, reason.to_owned())).copied().unwrap_or_default()
    }

    fn accept(&self, filed: &FileRequestResponse) {
        let mut inner = self.lock();
        let before = inner.filed.insert(filed.id.clone(), filed.number);
        assert!(before.is_none_or(|number| number == filed.number), "{filed:?} was {before:?}");
        let furthest = inner.last.as_ref().map_or(0, |last| last.position);
        if filed.number > furthest {
            inner.last.clone_from(&filed.position);
        }
    }

    fn refuse(&self, refusal: &Refusal) {
        let (details, reason) = (refusal.get_error_details(), reason(refusal));
        let known = match (refusal.code(), reason.as_str()) {
            (Code::ResourceExhausted, "STORAGE_FULL" | "TOO_MANY_COMMANDS") => {
                assert!(details.retry_info().is_some(), "{refusal:?}");
                true
            }
            (Code::Unavailable | Code::DeadlineExceeded | Code::Cancelled, _) => true,
            // The connection broke in the middle: it was the client that said so.
            (_, reason) => reason.is_empty(),
        };
        assert!(known, "{refusal:?}");
        let mut inner = self.lock();
        *inner.refusals.entry((refusal.code(), reason)).or_default() += 1;
        inner.told_when += usize::from(details.retry_info().is_some());
    }

    /// Everything that was asked is in the log once, where it was told to be.
    async fn check(&self, place: &(String, String)) {
        let records = self.check_told(place).await;
        let inner = self.lock();
        println!("{} filed; refusals {:?}", inner.asked, inner.refusals);
        assert_eq!(inner.filed.len(), inner.asked, "all were told in the end");
        assert_eq!(records, inner.asked, "each is there once");
    }

    /// Everything that was told to be filed is in the log, once, and whatever
    /// else is there is whole. Reads the log with SQL of its own; gives the
    /// number of records.
    async fn check_told(&self, place: &(String, String)) -> usize {
        let location: Location = location_of(place).await;
        let log = Log::open(&location, LOG, CancellationToken::new()).await.expect("the log");
        let records = read_all(&log).await;
        assert_eq!(verify(&log).await, records.len() as u64);
        let mut positions: Vec<_> = commands(&log).await.into_values().collect();
        positions.sort_unstable();
        // The first of them brought the catalogue.
        let filed = CATALOGUE_RECORDS + 1..=records.len() as u64;
        let all: Vec<_> = [1].into_iter().chain(filed).collect();
        assert_eq!(positions, all, "each command wrote one record");
        for (id, number) in &self.lock().filed {
            let record = &records[*number as usize - 1];
            assert_eq!(record.stream, format!("request/{id}"));
            assert_eq!(record.r#type, "samen.requests.v1.RequestFiled");
        }
        records.len() - CATALOGUE_RECORDS as usize
    }
}

/// Clients that file one report after another, until they are stopped.
struct Clients {
    stop: CancellationToken,
    tasks: JoinSet<()>,
}

impl Clients {
    fn start(clients: Vec<Client>, told: &Told) -> Self {
        let (stop, mut tasks) = (CancellationToken::new(), JoinSet::new());
        for client in clients {
            let (told, stop) = (told.clone(), stop.clone());
            tasks.spawn(async move {
                while !stop.is_cancelled() {
                    file(client.clone(), &told).await;
                }
            });
        }
        Clients { stop, tasks }
    }

    /// Waits until each has been told of its last report.
    async fn stop(self) {
        self.stop.cancel();
        let joined = tokio::time::timeout(SOON, self.tasks.join_all());
        joined.await.expect("everybody is told in the end");
    }
}

/// Files a report: again with the same id, for as long as nobody says that it
/// was filed; and sometimes once more, as a client does that has forgotten.
async fn file(mut client: Client, told: &Told) {
    let report = report("een lamp is stuk");
    told.lock().asked += 1;
    let mut once_more = rand::random_ratio(1, 10);
    loop {
        match client.file_request(report.clone()).await {
            Ok(filed) => {
                told.accept(filed.get_ref());
                if !std::mem::take(&mut once_more) {
                    return;
                }
            }
            Err(refusal) => {
                told.refuse(&refusal);
                tokio::time::sleep(REST).await;
            }
        }
    }
}

/// The stable reason of a refusal; empty where it has none.
fn reason(refusal: &Refusal) -> String {
    let details = refusal.get_error_details();
    details.error_info().map(|info| info.reason.clone()).unwrap_or_default()
}

/// What is told of something that is on its way into what queries read.
const LATER: [&str; 2] = ["NOT_YET_VISIBLE", "PROJECTION_BUILDING"];

/// Asks for one request with this much of the log seen, again for as long as
/// that is not there yet; panics if it does not get it.
async fn see(client: &mut Client, id: &str, at_least: Option<Position>) {
    let ask = GetRequestRequest { id: id.to_owned(), at_least };
    eventually(SOON, "it is seen", async || match client.get_request(ask.clone()).await {
        Err(later) if LATER.contains(&reason(&later).as_str()) => None,
        seen => Some(seen.expect("it is seen")),
    })
    .await;
}

/// All that was told can be read: the projector has caught up.
async fn see_all(mut handler: Client, told: &Told) {
    let last = told.lock().last.clone();
    let ids: Vec<_> = told.lock().filed.keys().take(20).cloned().collect();
    for id in ids {
        see(&mut handler, &id, last.clone()).await;
    }
    assert_eq!(super::shared::count(&mut handler).await, told.filed());
}

fn chance_of(test: &str) -> impl RngExt + use<> {
    samen_tests::seeded(test)
}
