//! Requests of ten years, as a municipality would have them: most of them
//! closed, described in words of which some are in many and most in few.

use std::ops::Range;

use anyhow::Context;
use futures::{StreamExt, TryStreamExt, stream};
use prost_types::Timestamp;
use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};
use samen_log::{Append, Keyring, Log, MasterKey, NewEvent};
use samen_proto::log::Position;
use samen_proto::requests::target::Target as To;
use samen_proto::requests::*;
use samen_requests::domain::request::RequestEvent;
use uuid::Uuid;

/// When the first of them was reported: 1 January 2016.
pub const BEGIN: i64 = 1_451_606_400;
/// Of whom a few are parts.
pub const PARENT: &str = "00000000-0000-0000-0000-000000000001";

/// Days over which they were reported.
const DAYS: i64 = 3_650;
/// Requests that are written together; how many such writes are on their way.
const BATCH: u64 = 100;
const AT_ONCE: usize = 8;
/// Words that descriptions are made of, beside the few that are asked for, and
/// how many of them one has.
const VOCABULARY: u32 = 20_000;
const LENGTH: usize = 9;
/// One in so many has the rare word, or is a part.
const RARE: u64 = 10_000;

/// Writes the requests with these numbers; gives the last record's position.
pub async fn fill(log: &Log, master: &MasterKey, numbers: Range<u64>) -> anyhow::Result<Position> {
    let keyring = Keyring::new(log.schema().clone(), master, log.id());
    let starts = numbers.clone().step_by(BATCH as usize);
    let writes = starts.map(|start| {
        let batch = batch(&keyring, start..numbers.end.min(start + BATCH));
        async move { log.append(batch).await }
    });
    let written = stream::iter(writes).buffer_unordered(AT_ONCE);
    written.try_for_each(|_| async { Ok(()) }).await?;
    let newest = log.newest().await?.context("nothing was written")?;
    Ok(newest.to_position(log.id()))
}

fn batch(keyring: &Keyring, numbers: Range<u64>) -> Append {
    let mut append = Append { actor: "bench".to_owned(), ..Append::default() };
    for number in numbers {
        // The same requests in every run.
        let chance = &mut StdRng::seed_from_u64(number);
        let id = Uuid::new_v5(&Uuid::NAMESPACE_OID, &number.to_be_bytes()).to_string();
        let (key, new) = keyring.create(&format!("text/{id}"));
        append.keys.push(new);
        let text = Text { text: description(chance, number) };
        let stream = format!("request/{id}");
        let mut events = story(chance, id, number);
        match &mut events[0] {
            RequestEvent::RequestImported(first) => first.description = Some(key.seal(&text)),
            RequestEvent::RequestFiled(first) => first.description = Some(key.seal(&text)),
            _ => {}
        }
        append.events.extend(events.iter().map(|event| NewEvent::of(&stream, event)));
    }
    append
}

fn story(chance: &mut StdRng, id: String, number: u64) -> Vec<RequestEvent> {
    let main = ["afval", "groen", "wegen", "verlichting"][chance.random_range(0..4)];
    let category = format!("{main}/{}", chance.random_range(0..15));
    let neighbourhood = format!("BU038401{:02}", chance.random_range(0..20));
    let place = |chance: &mut StdRng, from: f64| from + chance.random_range(0.0..0.04);
    let location = Location { latitude: place(chance, 52.33), longitude: place(chance, 4.95) };
    let channel = chance.random_range(1..=10);
    if number.is_multiple_of(RARE) {
        let part = RequestFiled {
            id,
            category,
            location: Some(location),
            neighbourhood,
            channel,
            urgency: Urgency::High.into(),
            parent_id: PARENT.to_owned(),
            ..RequestFiled::default()
        };
        return vec![part.into()];
    }
    let day = chance.random_range(0..DAYS);
    let second = BEGIN + day * 86_400 + chance.random_range(0..86_400);
    let at = |seconds: i64| Some(Timestamp { seconds, nanos: 0 });
    // What is recent may still be open.
    let open = day > DAYS - 60 && chance.random_bool(0.7);
    let lasted = chance.random_range(3_600..30 * 86_400);
    let imported = RequestImported {
        id: id.clone(),
        source: if chance.random_bool(0.9) { "oud" } else { "ouder" }.to_owned(),
        source_number: number.to_string(),
        category,
        location: Some(location),
        neighbourhood,
        channel,
        create_time: at(second),
        close_time: at(second + lasted).filter(|_| !open),
        ..RequestImported::default()
    };
    let team = format!("team-{}", chance.random_range(0..20));
    let target = Some(Target { target: Some(To::Team(team)) });
    let routed = RequestRouted { id: id.clone(), target, rule: String::new() };
    let mut events: Vec<RequestEvent> = vec![imported.into(), routed.into()];
    if open {
        let assignee = format!("handler-{}", chance.random_range(0..200));
        events.push(RequestAssigned { id: id.clone(), assignee }.into());
        // In years to come, so that nothing happens of itself meanwhile.
        let due_time = at(BEGIN + (day + 3_650) * 86_400);
        events.push(NormSet { id, due_time, approach_time: due_time, ..NormSet::default() }.into());
    } else if chance.random_bool(0.2) {
        let satisfaction = chance.random_range(1..=5);
        events.push(FeedbackGiven { id, satisfaction, ..FeedbackGiven::default() }.into());
    } else if chance.random_bool(0.1) {
        let photo_id = Uuid::from_u128(number.into()).to_string();
        events.push(PhotoAdded { id, photo_id, ..PhotoAdded::default() }.into());
    }
    events
}

fn description(chance: &mut StdRng, number: u64) -> String {
    let mut words = Vec::new();
    for (word, part) in [("lamp", 0.2), ("tegels", 0.1)] {
        if chance.random_bool(part) {
            words.push(word.to_owned());
        }
    }
    if number.is_multiple_of(RARE) {
        words.push("zeldzaam".to_owned());
    }
    // Low numbers more often than high ones.
    let word = |chance: &mut StdRng| {
        let most = chance.random_range(1..=VOCABULARY);
        format!("w{}", chance.random_range(0..most))
    };
    words.extend((0..LENGTH).map(|_| word(chance)));
    words.join(" ")
}
