//! What records hold of people, found by what the contract says about fields.

use std::collections::BTreeSet;
use std::sync::Arc;

use futures::TryStreamExt;
use prost::Message;
use prost_reflect::{DynamicMessage, Value};
use samen_log::scan::Wanted;
use samen_log::{Log, Record};
use samen_proto::contract;
use samen_proto::log::Sealed;

use super::{Failure, SpokeForThemselves};

/// Records of a stream read at once.
const PAGE: usize = 500;

/// One sealed field of a record.
#[derive(Clone, Debug)]
pub struct Content {
    /// Its name, `outer.inner` where it stands in a message of the event.
    pub field: String,
    pub sealed: Sealed,
}

/// A sealed field and the record that it stands in.
#[derive(Clone, Debug)]
pub struct Held {
    pub record: Arc<Record>,
    pub content: Content,
}

/// A person's own key.
pub fn person_key(person: &str) -> String {
    format!("person/{person}")
}

/// The event of a record, whatever its type.
pub fn event(record: &Record) -> Result<DynamicMessage, Failure> {
    let unreadable = || unreadable(record);
    let kind = contract::pool().get_message_by_name(&record.r#type).ok_or_else(unreadable)?;
    DynamicMessage::decode(kind, record.data.as_slice()).map_err(|_| unreadable())
}

/// The sealed content of a record, in the order of its fields.
pub fn of(record: &Record) -> Result<Vec<Content>, Failure> {
    let mut found = Vec::new();
    collect(&event(record)?, "", &mut found).ok_or_else(|| unreadable(record))?;
    Ok(found)
}

/// What in a log is about one person, and what of that is their own: what they
/// said, what is under their key, and whatever was said in what they began,
/// such as an answer to their report.
#[derive(Clone, Debug)]
pub struct About {
    person: String,
    /// The streams that they began for themselves.
    begun: BTreeSet<String>,
    spoke: SpokeForThemselves,
}

impl About {
    /// What there is up to a position. Found in the log itself: a projection
    /// could be behind, or wrong.
    pub async fn find(
        log: &Log,
        person: &str,
        spoke: SpokeForThemselves,
        up_to: u64,
    ) -> Result<Self, Failure> {
        let mut begun = BTreeSet::new();
        let wanted = Wanted::Begun { actor: person.to_owned() };
        let mut pages = std::pin::pin!(log.scan(wanted, 0, up_to));
        while let Some(page) = pages.try_next().await? {
            let own = page.records.iter().filter(|record| spoke(record));
            begun.extend(own.map(|record| record.stream.clone()));
        }
        Ok(About { person: person.to_owned(), begun, spoke })
    }

    /// The records: by the person, about what they asked, in what they began,
    /// or with something under their key.
    pub fn records(&self) -> Wanted {
        let key = person_key(&self.person);
        let streams = self.begun.iter().cloned().chain([key.clone()]);
        let (actor, streams) = (self.person.clone(), streams.collect());
        Wanted::About { actor, streams, holds: key.into_bytes() }
    }

    /// Whether what was sealed under this key, in this record, is their own.
    pub fn owns(&self, record: &Record, key_id: &str) -> bool {
        match key_id.strip_prefix("person/") {
            Some(whose) => whose == self.person,
            None => {
                let said = record.actor == self.person && (self.spoke)(record);
                said || self.begun.contains(&record.stream)
            }
        }
    }
}

/// Everything sealed that is a person's own, up to a position.
pub async fn of_person(
    log: &Log,
    person: &str,
    spoke: SpokeForThemselves,
    up_to: u64,
) -> Result<Vec<Held>, Failure> {
    let about = About::find(log, person, spoke, up_to).await?;
    let mut held = Vec::new();
    let mut pages = std::pin::pin!(log.scan(about.records(), 0, up_to));
    while let Some(page) = pages.try_next().await? {
        for record in page.records {
            let own = of(&record)?
                .into_iter()
                .filter(|content| about.owns(&record, &content.sealed.key_id));
            held.extend(own.map(|content| Held { record: record.clone(), content }));
        }
    }
    Ok(held)
}

/// All records of a stream.
pub async fn stream(log: &Log, stream: &str) -> Result<Vec<Arc<Record>>, Failure> {
    let mut found: Vec<Arc<Record>> = Vec::new();
    loop {
        let seen = found.last().map_or(0, |record| record.version);
        let page = log.read_stream(stream, seen, PAGE).await?;
        let more = page.len() == PAGE;
        found.extend(page);
        if !more {
            return Ok(found);
        }
    }
}

/// Whose own everything in a stream is: who began it for themselves.
pub async fn beginner(
    log: &Log,
    stream: &str,
    spoke: SpokeForThemselves,
) -> Result<Option<String>, Failure> {
    let first = log.read_stream(stream, 0, 1).await?.pop();
    Ok(first.filter(|record| spoke(record)).map(|record| record.actor.clone()))
}

/// Whether the log says anything about a person, up to a position.
pub async fn is_known(log: &Log, person: &str, up_to: u64) -> Result<bool, Failure> {
    let key = person_key(person);
    let (actor, streams) = (person.to_owned(), vec![key.clone()]);
    let wanted = Wanted::About { actor, streams, holds: key.into_bytes() };
    let mut pages = std::pin::pin!(log.scan(wanted, 0, up_to));
    while let Some(page) = pages.try_next().await? {
        if !page.records.is_empty() {
            return Ok(true);
        }
    }
    Ok(false)
}

/// What is left of sealed content, encoded, when these keys are gone: all of it
/// or nothing.
pub fn left(sealed: Vec<u8>, gone: &[String]) -> Vec<u8> {
    let under = Sealed::decode(sealed.as_slice()).unwrap_or_default().key_id;
    if gone.contains(&under) { Vec::new() } else { sealed }
}

/// `None` where what is sealed is not what it should be.
fn collect(message: &DynamicMessage, outer: &str, found: &mut Vec<Content>) -> Option<()> {
    for (field, value) in message.fields() {
        let name = match outer {
            "" => field.name().to_owned(),
            outer => format!("{outer}.{}", field.name()),
        };
        for inner in messages(value) {
            if contract::is_sealed(&field) {
                let sealed = Sealed::decode(inner.encode_to_vec().as_slice()).ok()?;
                found.push(Content { field: name.clone(), sealed });
            } else {
                collect(inner, &name, found)?;
            }
        }
    }
    Some(())
}

/// The messages in a value: itself, or those in a list or a map.
fn messages(value: &Value) -> Vec<&DynamicMessage> {
    match value {
        Value::Message(message) => vec![message],
        Value::List(values) => values.iter().flat_map(messages).collect(),
        Value::Map(values) => values.values().flat_map(messages).collect(),
        _ => Vec::new(),
    }
}

pub fn unreadable(record: &Record) -> Failure {
    Failure::Unreadable { position: record.position, kind: record.r#type.clone() }
}
