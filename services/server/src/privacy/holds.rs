//! Holds: what must be kept although somebody asks for it to be erased (AVG
//! art. 17, lid 3).
//!
//! All holds of a service stand in one stream, so that whoever erases relies
//! on its version: a hold that is placed meanwhile is never missed.

use std::collections::BTreeMap;

use jiff::Timestamp;
use samen_log::command::Decision;
use samen_log::{Aggregate, Aggregates, Command, CommandError, Expected, Keyring, Log, Outcome};
use samen_proto::privacy::{Hold, HoldGround, HoldLifted, HoldPlaced};
use tonic::Status as Refusal;
use uuid::Uuid;

use crate::reply;
use crate::time::{from_proto, to_proto};

samen_log::events! {
    /// What happens to holds.
    pub enum HoldEvent { HoldPlaced, HoldLifted }
}

/// The one stream's id.
const REGISTER: &str = "register";

/// Holds that were not lifted, by id.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Holds(BTreeMap<String, HoldPlaced>);

/// Why not.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
pub enum Rejection {
    #[error("there is no such hold")]
    Missing { id: String },
    #[error("it must end in the future")]
    Over,
    #[error("it is being erased, as was asked before")]
    BeingErased(Box<HoldPlaced>),
}

/// The holds of one service.
#[derive(Clone)]
pub struct Register(Aggregates<Holds>);

impl Aggregate for Holds {
    type Event = HoldEvent;
    const KIND: &'static str = "hold";

    fn evolve(mut self, event: &HoldEvent) -> Self {
        match event {
            HoldEvent::HoldPlaced(placed) => {
                self.0.insert(placed.id.clone(), placed.clone());
            }
            HoldEvent::HoldLifted(lifted) => {
                self.0.remove(&lifted.id);
            }
        }
        self
    }
}

// === impl Holds ===

impl Holds {
    /// Those that are in force.
    pub fn active(&self, now: Timestamp) -> impl Iterator<Item = &HoldPlaced> {
        self.0.values().filter(move |hold| !is_over(hold, now))
    }

    /// A hold on a person, or on one of these streams.
    pub fn on<'a>(
        &self,
        now: Timestamp,
        person: Option<&str>,
        streams: impl IntoIterator<Item = &'a str>,
    ) -> Option<&HoldPlaced> {
        if self.0.is_empty() {
            return None;
        }
        let streams: Vec<&str> = streams.into_iter().collect();
        self.active(now).find(|hold| match hold.stream.as_str() {
            "" => person == Some(hold.person.as_str()),
            stream => streams.contains(&stream),
        })
    }
}

/// What follows from placing a hold.
pub fn place(placed: HoldPlaced, now: Timestamp) -> Result<Vec<HoldEvent>, Rejection> {
    if is_over(&placed, now) { Err(Rejection::Over) } else { Ok(vec![placed.into()]) }
}

/// What follows from lifting one.
pub fn lift(holds: &Holds, id: &str, now: Timestamp) -> Result<Vec<HoldEvent>, Rejection> {
    let hold = holds.0.get(id).filter(|hold| !is_over(hold, now));
    let HoldPlaced { id, person, stream, .. } =
        hold.cloned().ok_or_else(|| Rejection::Missing { id: id.to_owned() })?;
    Ok(vec![HoldLifted { id, person, stream }.into()])
}

fn is_over(hold: &HoldPlaced, now: Timestamp) -> bool {
    hold.until.as_ref().and_then(from_proto).is_some_and(|until| until <= now)
}

// === impl Register ===

impl Register {
    pub fn new(log: &Log, keys: &Keyring) -> Self {
        Register(Aggregates::new(log.clone(), keys.clone()))
    }

    /// The holds as they are, and what somebody names who relies on that.
    pub async fn read<R>(&self) -> Result<(Holds, Expected), CommandError<R>> {
        let (holds, version) = self.0.get(REGISTER).await?;
        Ok((holds, Expected { stream: format!("{}/{REGISTER}", Holds::KIND), version }))
    }

    /// Does a command on the register, relying on these besides.
    pub async fn execute(
        &self,
        command: Command,
        guards: &[Expected],
        decide: impl Fn(&Holds) -> Result<Vec<HoldEvent>, Rejection>,
    ) -> Result<Outcome, CommandError<Rejection>> {
        let decide = |holds: &Holds, _| {
            let events = decide(holds)?;
            Ok(Decision { guards: guards.to_vec(), ..events.into() })
        };
        self.0.execute(command, REGISTER, decide).await
    }
}

/// What a hold is on: a stream, or `person/<id>`.
pub fn subject(hold: &HoldPlaced) -> String {
    match hold.stream.as_str() {
        "" => format!("person/{}", hold.person),
        stream => stream.to_owned(),
    }
}

/// A hold as its readers get it.
pub fn shown(placed: HoldPlaced) -> Hold {
    let HoldPlaced { id, person, stream, ground, reference, until } = placed;
    // When it was placed stands in its id (UUIDv7).
    let placed = Uuid::parse_str(&id).ok().and_then(|id| id.get_timestamp());
    let placed = placed.and_then(|at| Timestamp::from_second(at.to_unix().0 as i64).ok());
    Hold { id, person, stream, ground, reference, create_time: placed.map(to_proto), until }
}

/// What a hold is, in words for whoever it stops.
pub fn explain(hold: &HoldPlaced) -> String {
    let ground = match hold.ground() {
        HoldGround::Archiving => "an archiving duty",
        HoldGround::LegalClaim => "a legal claim, an objection or an appeal",
        HoldGround::LegalObligation | HoldGround::Unspecified => "a legal duty",
    };
    format!("{ground} ({}) keeps this from being erased", hold.reference)
}

impl From<Rejection> for Refusal {
    fn from(rejection: Rejection) -> Self {
        let text = rejection.to_string();
        match rejection {
            Rejection::BeingErased(hold) => {
                reply::precondition("BEING_ERASED", &subject(&hold), &text)
            }
            Rejection::Missing { id } => reply::not_found("hold", &id),
            Rejection::Over => reply::invalid("until", "must be in the future, or absent"),
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn at(second: i64) -> Timestamp {
        Timestamp::from_second(second).expect("a small number")
    }

    proptest! {
        /// Whatever is placed and lifted when, a hold is in force from when it
        /// was placed until it was lifted or its time was over, and nothing
        /// else is held.
        #[test]
        fn a_hold_is_in_force_until_it_is_lifted_or_over(
            steps in prop::collection::vec((any::<bool>(), 0usize..4, prop::option::of(1i64..40)), 0..30)
        ) {
            let mut holds = Holds::default();
            let mut expected: BTreeMap<String, Option<i64>> = BTreeMap::new();
            for (now, (placing, which, until)) in steps.into_iter().enumerate() {
                let now = now as i64;
                let id = format!("hold {which}");
                let decided = if placing {
                    let until = until.map(|until| to_proto(at(until)));
                    let stream = format!("request/{which}");
                    place(HoldPlaced { id: id.clone(), stream, until, ..Default::default() }, at(now))
                } else {
                    lift(&holds, &id, at(now))
                };
                expected.retain(|_, until| until.is_none_or(|until| until > now));
                if placing {
                    let over = until.is_some_and(|until| until <= now);
                    prop_assert_eq!(decided.is_err(), over);
                    if !over {
                        expected.insert(id, until);
                    }
                } else {
                    prop_assert_eq!(decided.is_ok(), expected.remove(&id).is_some());
                }
                holds = decided.unwrap_or_default().iter().fold(holds, Holds::evolve);
                for which in 0..4 {
                    let stream = format!("request/{which}");
                    let held = holds.on(at(now), None, [stream.as_str()]).is_some();
                    prop_assert_eq!(held, expected.contains_key(&format!("hold {which}")));
                }
            }
        }

        #[test]
        fn a_hold_on_a_person_holds_them_alone(person in "[a-c]", other in "[a-c]") {
            let placed = HoldPlaced { id: "1".into(), person: person.clone(), ..Default::default() };
            let holds = Holds::default().evolve(&placed.into());
            prop_assert_eq!(holds.on(at(0), Some(&other), []).is_some(), person == other);
            prop_assert!(holds.on(at(0), None, ["request/1"]).is_none());
        }
    }
}
