//! The store of service requests, on both databases, through its public API:
//! what queries give is what the records say.

use std::sync::Arc;

use futures::future::join_all;
use prost::{Message, Name};
use rand::RngExt;
use rand::rngs::StdRng;
use rand::seq::IndexedRandom;
use samen_log::{Append, Follow, Keyring, Leases, Log, MasterKey, NewEvent, Store, Tasks};
use samen_proto::privacy::ContentErased;
use samen_proto::requests::target::Target as To;
use samen_proto::requests::*;
use samen_requests::domain::request::RequestEvent;
use samen_requests::projection::RequestProjection;
use samen_requests::projection::filter::Filter;
use samen_requests::projection::queries::{self, Visible};
use samen_requests::projection::search::Words;
use samen_server::paging::PageEnd;
use samen_tests::Place;
use tokio_util::sync::{CancellationToken, DropGuard};
use uuid::Uuid;

mod figures;
mod filters;
mod words;

/// Midnight, 28 March 2026, in Amsterdam: the clock goes forward in the night
/// that follows.
pub const MIDNIGHT: i64 = 1_774_652_400;
pub const CATEGORIES: [&str; 3] = ["afval/grofvuil", "groen/boom", "verlichting/lamp"];
pub const NEIGHBOURHOODS: [&str; 3] = ["", "BU03840101", "BU03840102"];
pub const TEAMS: [&str; 2] = ["groen", "wegen"];
pub const PEOPLE: [&str; 3] = ["anna", "bas", "carla"];
pub const SOURCES: [&str; 2] = ["oud", "ouder"];
pub const DESCRIPTIONS: [&str; 6] = [
    "De lamp is kapot",
    "Twee lampen bij de boom zijn uit",
    "Losse tegels, en een tak van de bomen",
    "Een losse tegel bij nr 7",
    "Er is niet van alles",
    "",
];

/// A log with a store that follows it.
pub struct Projected {
    pub log: Log,
    pub keyring: Keyring,
    pub store: Store,
    pub words: Words,
    master: MasterKey,
    stop: CancellationToken,
    _stop: DropGuard,
}

impl Projected {
    pub async fn on(place: &Place) -> Self {
        let stop = CancellationToken::new();
        let location = place.location().await;
        let log = Log::open(&location, "test.requests", stop.clone()).await.expect("the log");
        let master = MasterKey::generate(true);
        let keyring = Keyring::new(log.schema().clone(), &master, log.id());
        let store = store(&location, &log, &keyring, &master, &stop).await;
        let words = Words::new(&master);
        Projected { log, keyring, store, words, master, _stop: stop.clone().drop_guard(), stop }
    }

    /// Another store, that follows from the beginning, in a place of its own.
    pub async fn built_anew(&self, place: &Place) -> Store {
        let location = place.location().await;
        let store = store(&location, &self.log, &self.keyring, &self.master, &self.stop).await;
        self.wait(&store).await;
        store
    }

    /// Waits until a store has all that there is.
    pub async fn wait(&self, store: &Store) {
        let newest = self.log.newest().await.expect("it is read").expect("something");
        store.see(self.log.id(), &newest).await;
    }

    /// Appends what happened to one request, with a description that is sealed
    /// under a key of its own.
    pub async fn append(&self, id: &str, by: &str, text: &str, mut events: Vec<RequestEvent>) {
        let mut keys = Vec::new();
        if !text.is_empty() {
            let (key, new) = self.keyring.create(&format!("text/{id}"));
            let sealed = Some(key.seal(&Text { text: text.to_owned() }));
            match &mut events[0] {
                RequestEvent::RequestFiled(filed) => filed.description = sealed,
                RequestEvent::RequestImported(imported) => imported.description = sealed,
                other => panic!("{other:?}"),
            }
            keys.push(new);
        }
        let stream = format!("request/{id}");
        let events = events.iter().map(|event| NewEvent::of(&stream, event)).collect();
        let append = Append { actor: by.to_owned(), events, keys, ..Append::default() };
        self.log.append(append).await.expect("appended");
    }

    /// Destroys the key of a description, as the eraser does.
    pub async fn erase(&self, id: &str, tell: bool) {
        let key = format!("text/{id}");
        self.keyring.destroy([key.as_str()]).await.expect("destroyed");
        if tell {
            let erased = ContentErased {
                stream: format!("request/{id}"),
                key_ids: vec![key],
                ..ContentErased::default()
            };
            let event = NewEvent {
                stream: format!("erasure/request/{id}"),
                kind: ContentErased::full_name(),
                data: erased.encode_to_vec(),
            };
            let append = Append { actor: "x".into(), events: vec![event], ..Append::default() };
            self.log.append(append).await.expect("appended");
        }
    }

    /// So many requests, of all kinds.
    pub async fn fill(&self, chance: &mut StdRng, count: usize) -> Vec<String> {
        let made: Vec<_> = (0..count).map(|number| story(chance, number)).collect();
        join_all(
            made.iter()
                .map(|Story { id, by, text, events }| self.append(id, by, text, events.clone())),
        )
        .await;
        self.wait(&self.store).await;
        made.into_iter().map(|story| story.id).collect()
    }

    pub fn filter(&self, asked: RequestFilter) -> Filter {
        let words = self.words.of(&asked.text);
        Filter::new(asked, words)
    }

    /// Ids of what matches, newest first, page by page.
    pub async fn list(&self, visible: &Visible, filter: &Filter) -> Vec<ServiceRequest> {
        let mut found = Vec::new();
        let mut from = Some(PageEnd::before_all(u64::MAX >> 1));
        while let Some(place) = from {
            let schema = self.store.schema();
            let page = queries::list(&schema, visible, filter, &place, 37).await.expect("a page");
            found.extend(page.items);
            from = page.end;
        }
        found
    }
}

async fn store(
    location: &samen_log::Location,
    log: &Log,
    keyring: &Keyring,
    master: &MasterKey,
    stop: &CancellationToken,
) -> Store {
    let leases = Leases::open(location).await.expect("leases");
    let projection = RequestProjection::new(keyring.clone(), master);
    let store = Store::open(location, &leases, &Tasks::default(), projection).await;
    let store = store.expect("a store");
    let follows: Vec<Arc<dyn Follow>> = vec![Arc::new(log.clone())];
    tokio::spawn(store.clone().run(follows, stop.clone()));
    store
}

/// All that happened to one request, and who told it.
struct Story {
    id: String,
    by: String,
    text: String,
    events: Vec<RequestEvent>,
}

pub fn at(seconds: i64) -> Option<prost_types::Timestamp> {
    Some(prost_types::Timestamp { seconds, nanos: 0 })
}

fn pick<T: Clone>(chance: &mut StdRng, of: &[T]) -> T {
    of.choose(chance).expect("some").clone()
}

fn story(chance: &mut StdRng, number: usize) -> Story {
    let id = Uuid::now_v7().to_string();
    let neighbourhood = pick(chance, &NEIGHBOURHOODS).to_owned();
    let category = pick(chance, &CATEGORIES).to_owned();
    let location = chance.random_bool(0.8).then(|| grid(chance));
    let channel = chance.random_range(1..=10);
    // Few different moments, so that many are equal.
    let created = MIDNIGHT + 21_600 * chance.random_range(0..40);
    let mut events: Vec<RequestEvent> = Vec::new();
    if chance.random_bool(0.5) {
        let closed = chance.random_bool(0.6).then(|| created + 3_600 * chance.random_range(0..100));
        let imported = RequestImported {
            id: id.clone(),
            source: pick(chance, &SOURCES).to_owned(),
            source_number: number.to_string(),
            category,
            location,
            neighbourhood,
            channel,
            create_time: at(created),
            close_time: closed.and_then(at),
            ..RequestImported::default()
        };
        events.push(imported.into());
    } else {
        let filed = RequestFiled {
            id: id.clone(),
            category,
            location,
            neighbourhood,
            channel,
            urgency: chance.random_range(1..=3),
            parent_id: if chance.random_bool(0.2) { parent() } else { String::new() },
            ..RequestFiled::default()
        };
        events.push(filed.into());
    }
    later(chance, &id, created, &mut events);
    let (by, text) = (pick(chance, &PEOPLE).to_owned(), pick(chance, &DESCRIPTIONS).to_owned());
    Story { id, by, text, events }
}

/// What may happen after that.
fn later(chance: &mut StdRng, id: &str, created: i64, events: &mut Vec<RequestEvent>) {
    let id = id.to_owned();
    if chance.random_bool(0.6) {
        let target = match chance.random_bool(0.7) {
            true => To::Team(pick(chance, &TEAMS).to_owned()),
            false => To::Network(network()),
        };
        let target = Some(Target { target: Some(target) });
        events.push(RequestRouted { id: id.clone(), target, rule: String::new() }.into());
    }
    if chance.random_bool(0.3) {
        let assignee = pick(chance, &PEOPLE).to_owned();
        events.push(RequestAssigned { id: id.clone(), assignee }.into());
    }
    if chance.random_bool(0.6) {
        let due_time = at(created + 86_400 * chance.random_range(1..9));
        events.push(NormSet { id: id.clone(), due_time, ..NormSet::default() }.into());
        match chance.random_range(0..3) {
            0 => events.push(NormBreached { id: id.clone(), ..NormBreached::default() }.into()),
            1 => events.push(NormApproached { id: id.clone(), ..NormApproached::default() }.into()),
            _ => {}
        }
    }
    if chance.random_bool(0.3) {
        let photo_id = Uuid::now_v7().to_string();
        events.push(PhotoAdded { id: id.clone(), photo_id, ..PhotoAdded::default() }.into());
    }
    if chance.random_bool(0.5) {
        let to = chance.random_range(2..=11);
        events.push(StatusChanged { id: id.clone(), to, ..StatusChanged::default() }.into());
        if chance.random_bool(0.4) {
            let satisfaction = chance.random_range(1..=5);
            events.push(FeedbackGiven { id, satisfaction, ..FeedbackGiven::default() }.into());
        }
    }
}

/// A point of a small grid, so that many lie on the edge of a box.
pub fn grid(chance: &mut StdRng) -> Location {
    let mut step = |from: f64| from + f64::from(chance.random_range(0..6_u8)) * 1e-4;
    Location { latitude: step(52.34), longitude: step(4.96) }
}

pub fn parent() -> String {
    Uuid::from_u128(1).to_string()
}

pub fn network() -> String {
    Uuid::from_u128(2).to_string()
}
