//! What may have happened in a municipality, by chance.

use futures::future::join_all;
use prost::{Message, Name};
use rand::rngs::StdRng;
use rand::seq::IndexedRandom;
use rand::{Rng, RngExt};
use samen_log::{Append, Log, NewEvent};
use samen_proto::log::Sealed;
use samen_proto::participation::{
    self, ContributionKind, ContributionSubmitted, Level, ProcessPublished, ProcessStarted,
};
use samen_proto::privacy::{ContentErased, ErasureReason};
use samen_proto::requests::target::Target as To;
use samen_proto::requests::*;
use samen_requests::domain::request::imported_status;
use samen_requests::domain::status;

use crate::services::shared::BUYTENSTEE;

/// Events that wait for the appender at once.
const TOGETHER: usize = 500;
const NEIGHBOURHOODS: [&str; 4] = ["BU03840101", "BU03840102", "BU03840203", ""];

/// What there is so far; each thing's id is its number.
#[derive(Default)]
struct Known {
    requests: Vec<Status>,
    notes: usize,
    processes: usize,
    contributions: usize,
}

/// Writes so many records to the log of a service.
pub async fn write(log: &Log, chance: &mut StdRng, records: usize) {
    let next = if log.id().ends_with(".requests") { of_requests } else { of_participation };
    let mut known = Known::default();
    let appends: Vec<_> = (0..records)
        .map(|_| Append {
            actor: format!("person/{}", chance.random_range(0..40)),
            events: vec![next(chance, &mut known)],
            ..Append::default()
        })
        .collect();
    for appends in appends.chunks(TOGETHER) {
        for appended in join_all(appends.iter().cloned().map(|append| log.append(append))).await {
            appended.expect("nothing conflicts");
        }
    }
}

fn of_requests(chance: &mut StdRng, known: &mut Known) -> NewEvent {
    let Known { requests, notes, .. } = known;
    let what = chance.random_range(0..100);
    if what < 50 || requests.is_empty() {
        let id = requests.len().to_string();
        let stream = format!("request/{id}");
        if what < 40 {
            requests.push(Status::Received);
            return event(stream, &filed(chance, id));
        }
        let imported = imported(chance, id);
        requests.push(imported_status(&imported));
        return event(stream, &imported);
    }
    let number = chance.random_range(0..requests.len());
    let id = number.to_string();
    let stream = format!("request/{id}");
    match what {
        50..70 => {
            let from = requests[number];
            let to = *status::next(from).choose(chance).expect("it can always go on");
            requests[number] = to;
            let explanation = status::needs_explanation(to).then(|| sealed(chance, "text", &id));
            let (from, to) = (from.into(), to.into());
            let changed = StatusChanged { id, from, to, explanation, ..Default::default() };
            event(stream, &changed)
        }
        70..84 => handled(chance, stream, id),
        84..92 => erased(chance, stream, &id),
        92..97 => around(chance, notes),
        // Nothing that is projected.
        _ => {
            let purpose = Purpose::Handling.into();
            event(format!("audit/{id}"), &RequestRevealed { id, purpose })
        }
    }
}

/// What happens to a request whatever its status.
fn handled(chance: &mut StdRng, stream: String, id: String) -> NewEvent {
    let moment = |seconds| Some(prost_types::Timestamp { seconds, nanos: 0 });
    let later = chance.random_range(1_000_000..2_000_000);
    match chance.random_range(0..9) {
        0 => {
            let to = match chance.random_bool(0.5) {
                true => To::Team("groen".to_owned()),
                false => To::Network("de-buurt".to_owned()),
            };
            let target = Some(Target { target: Some(to) });
            event(stream, &RequestRouted { id, target, rule: String::new() })
        }
        1 => {
            let (due_time, approach_time) = (moment(later), moment(later - 1_000));
            event(stream, &NormSet { id, due_time, approach_time, ..NormSet::default() })
        }
        2 => {
            let note = Some(sealed(chance, "text", &id));
            event(stream, &NoteAdded { id, note })
        }
        3 => {
            let message = Some(sealed(chance, "text", &id));
            event(stream, &MessageSent { id, message, react_before: moment(later) })
        }
        4 => {
            let message = Some(sealed(chance, "text", &id));
            event(stream, &MessageReceived { id, message, channel: Channel::Web.into() })
        }
        5 => {
            let photo_id = chance.random_range(0..3).to_string();
            event(stream, &PhotoAdded { id, photo_id, ..PhotoAdded::default() })
        }
        6 => {
            let photo_id = chance.random_range(0..3).to_string();
            event(stream, &PhotoRemoved { id, photo_id })
        }
        7 => {
            let other_id = chance.random_range(0..9).to_string();
            event(stream, &RequestLinked { id, other_id })
        }
        _ => {
            let satisfaction = chance.random_range(1..=5);
            let words = chance.random_bool(0.5).then(|| sealed(chance, "text", &id));
            event(stream, &FeedbackGiven { id, satisfaction, words, reopens: false })
        }
    }
}

/// What happens around requests.
fn around(chance: &mut StdRng, notes: &mut usize) -> NewEvent {
    let some = chance.random_range(0..5).to_string();
    let category = format!("groen/{some}");
    let hotspot = format!("hotspot/{category}/");
    match chance.random_range(0..8) {
        0 | 1 => {
            let stream = format!("category/{category}");
            let defined = Category { code: category, ..Category::default() };
            event(stream, &CategoryDefined { category: Some(defined) })
        }
        2 => event(format!("category/{category}"), &CategoryRetired { code: category }),
        3 => {
            let stream = format!("network/{some}");
            let network = Some(Network { id: some, ..Network::default() });
            event(stream, &NetworkDefined { network })
        }
        4 => event(hotspot, &HotspotDetected { category, ..HotspotDetected::default() }),
        5 => event(hotspot, &HotspotCooled { category, neighbourhood: String::new() }),
        6 if *notes > 0 => {
            let id = chance.random_range(0..*notes).to_string();
            event(format!("place-note/{id}"), &PlaceNoteRemoved { id })
        }
        _ => {
            let id = notes.to_string();
            *notes += 1;
            let note = Some(sealed(chance, "text", &id));
            let (network_id, outline) = (some, vec![BUYTENSTEE]);
            event(format!("place-note/{id}"), &PlaceNoteAdded { id, network_id, outline, note })
        }
    }
}

fn filed(chance: &mut StdRng, id: String) -> RequestFiled {
    RequestFiled {
        category: "afval/container".to_owned(),
        location: Some(BUYTENSTEE),
        neighbourhood: neighbourhood(chance),
        channel: Channel::Web.into(),
        description: Some(sealed(chance, "text", &id)),
        reporter: chance.random_bool(0.5).then(|| sealed(chance, "reporter", &id)),
        id,
        ..RequestFiled::default()
    }
}

fn imported(chance: &mut StdRng, id: String) -> RequestImported {
    let time = |seconds| prost_types::Timestamp { seconds, nanos: 0 };
    RequestImported {
        source: "het vorige systeem".to_owned(),
        source_number: id.clone(),
        category: "verlichting/lamp".to_owned(),
        location: None,
        neighbourhood: neighbourhood(chance),
        channel: Channel::Phone.into(),
        create_time: Some(time(chance.random_range(0..1_000_000))),
        close_time: chance.random_bool(0.5).then(|| time(1_000_000)),
        description: chance.random_bool(0.5).then(|| sealed(chance, "text", &id)),
        id,
    }
}

/// Few processes, in which many take part.
fn of_participation(chance: &mut StdRng, known: &mut Known) -> NewEvent {
    let what = chance.random_range(0..100);
    if what < 3 || known.processes == 0 {
        let id = known.processes.to_string();
        known.processes += 1;
        return event(format!("process/{id}"), &started(chance, id));
    }
    let process_id = chance.random_range(0..known.processes).to_string();
    if what < 6 {
        let ProcessStarted { id, title, question, level, neighbourhoods } =
            started(chance, process_id);
        let published = ProcessPublished { id, title, question, level, neighbourhoods };
        return event(format!("process/{}", published.id), &published);
    }
    if what < 20 && known.contributions > 0 {
        let id = chance.random_range(0..known.contributions).to_string();
        return erased(chance, format!("contribution/{id}"), &id);
    }
    let id = known.contributions.to_string();
    known.contributions += 1;
    let submitted = ContributionSubmitted {
        process_id,
        kind: ContributionKind::Idea.into(),
        channel: participation::Channel::Online.into(),
        neighbourhood: neighbourhood(chance),
        text: Some(sealed(chance, "text", &id)),
        id,
    };
    event(format!("contribution/{}", submitted.id), &submitted)
}

fn started(chance: &mut StdRng, id: String) -> ProcessStarted {
    ProcessStarted {
        title: format!("Het plein, {id}"),
        question: "Wat kan er beter?".to_owned(),
        level: Level::Consult.into(),
        neighbourhoods: vec![neighbourhood(chance)],
        id,
    }
}

/// Of what was sealed about something, one key is gone.
fn erased(chance: &mut StdRng, stream: String, id: &str) -> NewEvent {
    let of = if chance.random_bool(0.5) { "text" } else { "reporter" };
    let key_ids = vec![format!("{of}/{id}")];
    let reason = ErasureReason::Request.into();
    event(format!("erasure/{stream}"), &ContentErased { stream, key_ids, reason })
}

fn event<E: Message + Name>(stream: String, event: &E) -> NewEvent {
    NewEvent { stream, kind: E::full_name(), data: event.encode_to_vec() }
}

fn neighbourhood(chance: &mut StdRng) -> String {
    (*NEIGHBOURHOODS.choose(chance).expect("there are some")).to_owned()
}

/// What nobody can open.
fn sealed(chance: &mut StdRng, of: &str, id: &str) -> Sealed {
    let mut ciphertext = vec![0; 60];
    chance.fill_bytes(&mut ciphertext);
    Sealed { key_id: format!("{of}/{id}"), ciphertext }
}
