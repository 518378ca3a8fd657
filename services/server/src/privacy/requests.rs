//! What people and officers ask, as it stands in the log, and whether it may
//! be done.

use jiff::Timestamp;
use samen_log::Aggregate;
use samen_proto::privacy::{HoldPlaced, PersonExported, PersonForgotten, TextRedacted};
use tonic::Status as Refusal;

use super::content::Held;
use super::holds::{Holds, explain, subject};
use super::retention::Retention;
use crate::reply;

samen_log::events! {
    /// What is asked about a person.
    pub enum PersonEvent { PersonForgotten, PersonExported }
}

samen_log::events! {
    /// What is asked about one thing's texts.
    pub enum RedactionEvent { TextRedacted }
}

/// What was asked about a person. Nothing is decided from it: whoever comes
/// back may ask again.
#[derive(Clone, Debug, Default)]
pub struct Person;

/// What was asked about the texts of one stream, whose name is the id. A
/// stream of its own, so that no version of the thing itself changes.
#[derive(Clone, Debug, Default)]
pub struct Redaction;

/// Why something is not erased.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
pub enum Rejection {
    #[error("{}", explain(.0))]
    Held(Box<HoldPlaced>),
    #[error("{event}.{field} of {stream} is kept until {until:.0}: {ground}")]
    Kept { stream: String, event: String, field: String, until: Timestamp, ground: String },
    #[error("there is no text in {stream} that could be erased")]
    Nothing { stream: String },
}

impl Aggregate for Person {
    type Event = PersonEvent;
    const KIND: &'static str = "person";

    fn evolve(self, _: &PersonEvent) -> Self {
        self
    }
}

impl Aggregate for Redaction {
    type Event = RedactionEvent;
    const KIND: &'static str = "redaction";

    fn evolve(self, _: &RedactionEvent) -> Self {
        self
    }
}

/// Whether all of this may be erased now: no hold and no term stands in the
/// way, for any of it.
pub fn may_erase(
    person: Option<&str>,
    held: &[Held],
    holds: &Holds,
    retention: &Retention,
    now: Timestamp,
) -> Result<(), Rejection> {
    let streams = held.iter().map(|held| held.record.stream.as_str());
    if let Some(hold) = holds.on(now, person, streams) {
        return Err(Rejection::Held(Box::new(hold.clone())));
    }
    for Held { record, content } in held {
        if let Some((until, ground)) = retention.kept_until(record, &content.field)
            && until > now
        {
            return Err(Rejection::Kept {
                stream: record.stream.clone(),
                event: record.r#type.clone(),
                field: content.field.clone(),
                until,
                ground: ground.to_owned(),
            });
        }
    }
    Ok(())
}

impl From<Rejection> for Refusal {
    fn from(rejection: Rejection) -> Self {
        let text = rejection.to_string();
        match rejection {
            Rejection::Held(hold) => reply::precondition("HOLD", &subject(&hold), &text),
            Rejection::Kept { stream, .. } => reply::precondition("RETENTION", &stream, &text),
            Rejection::Nothing { stream } => reply::precondition("NO_TEXT", &stream, &text),
        }
    }
}
