//! How long what is kept, by kind of record: at least so long, whoever asks
//! for it to be erased, and at most so long, although nobody asks.

use std::collections::HashMap;
use std::time::Duration;

use jiff::{Span, Timestamp};
use prost::Message;
use prost_reflect::DynamicMessage;
use samen_log::Record;
use samen_log::record::recorded_at;
use samen_proto::contract;
use serde::Deserialize;

use crate::calendar::zone;
use crate::time::from_proto;

/// The terms that ship with Samen.
const SHIPPED: &str = include_str!("../../../../deploy/reference/retention.json");

/// Fields by which an event says itself when what it tells was, the one that
/// counts first.
const OWN_TIMES: [&str; 2] = ["close_time", "create_time"];

/// The terms of a deployment, for all of its services.
#[derive(Debug)]
pub struct Retention {
    terms: HashMap<String, Vec<Term>>,
    after_closing: Vec<ClosingTerm>,
}

/// How long one field of one type of event is kept.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Term {
    /// The event's full name.
    pub event: String,
    /// The name of its sealed field.
    pub field: String,
    /// Erased by nobody before this, counted from when it was recorded; or, for
    /// what an event brings in from the past, from its close_time, or else its
    /// create_time.
    #[serde(default)]
    kept_at_least: Option<Written>,
    /// Erased by itself after this.
    #[serde(default)]
    erased_after: Option<Written>,
    /// Which duty says so: told to whoever it stops.
    pub ground: String,
}

/// How long all texts of a kind of streams are kept after one of them closed,
/// as long as it is not opened again. A text that came later: as long after it
/// was recorded. Keeps nothing: a field's own term does.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ClosingTerm {
    /// What the streams' names begin with, such as `request`.
    pub stream: String,
    erased_after: Written,
    /// Which duty says so.
    #[allow(dead_code)]
    ground: String,
}

/// A term as ISO 8601 writes it: `P5Y`, `P90D`.
#[derive(Clone, Debug, Deserialize)]
#[serde(try_from = "String")]
struct Written(Span);

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct File {
    /// For people: whose terms these are.
    #[serde(default)]
    #[allow(dead_code)]
    about: String,
    #[serde(default)]
    terms: Vec<Term>,
    #[serde(default)]
    after_closing: Vec<ClosingTerm>,
}

/// Why terms cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum RetentionError {
    #[error("not a list of terms: {0}")]
    Malformed(#[from] serde_json::Error),
    #[error("{event} has no sealed field {field}")]
    NotSealed { event: String, field: String },
    #[error("{event}.{field} has more than one term")]
    Twice { event: String, field: String },
    #[error("{event}.{field} is erased before the time that it is kept at least")]
    ErasedTooEarly { event: String, field: String },
    #[error("{stream} is nothing that is closed: {known} is")]
    NeverClosed { stream: String, known: String },
    #[error("{stream} has more than one term after closing")]
    ClosedTwice { stream: String },
}

impl TryFrom<String> for Written {
    type Error = String;

    fn try_from(text: String) -> Result<Self, String> {
        let wrong = || format!("{text:?} is not a term, such as P5Y");
        let span: Span = text.parse().map_err(|_| wrong())?;
        if span.is_positive() { Ok(Written(span)) } else { Err(wrong()) }
    }
}

// === impl Retention ===

impl Retention {
    /// The terms that ship with Samen.
    pub fn shipped(closed: &[&str]) -> Result<Self, RetentionError> {
        Self::parse(SHIPPED, closed)
    }

    /// No terms: nothing is kept by duty, nothing is erased by itself.
    pub fn none() -> Self {
        Retention { terms: HashMap::new(), after_closing: Vec::new() }
    }

    /// Reads terms, and checks that the contract knows what they are about, and
    /// that what they say is closed is one of these kinds of streams.
    pub fn parse(text: &str, closed: &[&str]) -> Result<Self, RetentionError> {
        let file: File = serde_json::from_str(text)?;
        let mut retention = Self::none();
        for term in file.terms {
            let (event, field) = (term.event.clone(), term.field.clone());
            let message = contract::pool().get_message_by_name(&event);
            let sealed = message.and_then(|message| message.get_field_by_name(&field));
            if !sealed.is_some_and(|field| contract::is_sealed(&field)) {
                return Err(RetentionError::NotSealed { event, field });
            }
            let beginning = Timestamp::UNIX_EPOCH;
            if let (Some(kept), Some(erased)) = (&term.kept_at_least, &term.erased_after)
                && kept.after(beginning) > erased.after(beginning)
            {
                return Err(RetentionError::ErasedTooEarly { event, field });
            }
            let terms = retention.terms.entry(event.clone()).or_default();
            if terms.iter().any(|other| other.field == field) {
                return Err(RetentionError::Twice { event, field });
            }
            terms.push(term);
        }
        for term in file.after_closing {
            let stream = term.stream.clone();
            if !closed.contains(&stream.as_str()) {
                return Err(RetentionError::NeverClosed { stream, known: closed.join(", ") });
            }
            if retention.after_closing.iter().any(|other| other.stream == stream) {
                return Err(RetentionError::ClosedTwice { stream });
            }
            retention.after_closing.push(term);
        }
        Ok(retention)
    }

    /// Until when a field of a record must be kept, and on which ground.
    pub fn kept_until(&self, record: &Record, field: &str) -> Option<(Timestamp, &str)> {
        let term = self.terms.get(&record.r#type)?.iter().find(|term| term.field == field)?;
        let kept = term.kept_at_least.as_ref()?;
        Some((kept.after(began(record)), &term.ground))
    }

    /// Terms by which something is erased by itself.
    pub fn erasing(&self) -> impl Iterator<Item = &Term> {
        self.terms.values().flatten().filter(|term| term.erased_after.is_some())
    }

    /// Terms by which what is closed is erased by itself.
    pub fn after_closing(&self) -> impl Iterator<Item = &ClosingTerm> {
        self.after_closing.iter()
    }

    /// The shortest term by which something is erased.
    pub fn shortest(&self) -> Option<Duration> {
        let beginning = Timestamp::UNIX_EPOCH;
        let fields = self.erasing().filter_map(|term| term.erased_after.as_ref());
        let spans = fields.chain(self.after_closing().map(|term| &term.erased_after));
        let ends = spans.map(|span| span.after(beginning).duration_since(beginning));
        ends.min().and_then(|shortest| Duration::try_from(shortest).ok())
    }
}

// === impl Written ===

impl Written {
    /// The end of this term, counted by the calendar.
    fn after(&self, from: Timestamp) -> Timestamp {
        let end = from.to_zoned_datetime(zone().clone()).checked_add(self.0);
        // After the end of all calendars.
        end.map_or(Timestamp::MAX, |end| end.timestamp())
    }
}

// === impl Term ===

impl Term {
    /// When it has a text erased that counts from here.
    pub fn erased_after(&self, from: Timestamp) -> Timestamp {
        self.erased_after.as_ref().map_or(Timestamp::MAX, |erased| erased.after(from))
    }
}

impl ClosingTerm {
    /// When it has a text erased that counts from here.
    pub fn erased_after(&self, from: Timestamp) -> Timestamp {
        self.erased_after.after(from)
    }
}

/// Whether records of a type have a time of their own, and come in any order.
pub fn is_of_the_past(event: &str) -> bool {
    let event = contract::pool().get_message_by_name(event);
    event.is_some_and(|event| OWN_TIMES.iter().any(|t| event.get_field_by_name(t).is_some()))
}

/// From when terms count for a record: when what it brings in from the past was
/// over there, or else was made; or when it was recorded.
pub fn began(record: &Record) -> Timestamp {
    let recorded = recorded_at(record);
    let of_its_own = || {
        let event = contract::pool().get_message_by_name(&record.r#type)?;
        let fields = OWN_TIMES.iter().filter_map(|time| event.get_field_by_name(time));
        let fields: Vec<_> = fields.collect();
        if fields.is_empty() {
            return None;
        }
        let event = DynamicMessage::decode(event, record.data.as_slice()).ok()?;
        let field = fields.iter().find(|field| event.has_field(field))?;
        let time = event.get_field(field).as_message()?.encode_to_vec();
        from_proto(&prost_types::Timestamp::decode(time.as_slice()).ok()?)
    };
    of_its_own().map_or(recorded, |time| time.min(recorded))
}

#[cfg(test)]
mod tests {
    use samen_log::record::timestamp;

    use super::*;

    const FILED: &str = "samen.requests.v1.RequestFiled";
    const CLOSED: [&str; 1] = ["request"];

    fn one(rest: &str) -> String {
        format!(r#"{{"terms": [{{"event": "{FILED}", "ground": "ours", {rest}}}]}}"#)
    }

    fn filed(at: &str) -> Record {
        let at: Timestamp = at.parse().expect("an instant");
        Record {
            r#type: FILED.to_owned(),
            recorded_at: Some(timestamp(at.as_microsecond())),
            ..Record::default()
        }
    }

    #[test]
    fn the_shipped_terms_are_what_the_contract_knows() {
        let shipped = Retention::shipped(&CLOSED).expect("our own file");
        assert!(shipped.erasing().count() > 0);
    }

    #[test]
    fn terms_count_calendar_years_over_leap_days_and_summer_time() {
        let text = one(r#""field": "reporter", "kept_at_least": "P1Y", "erased_after": "P5Y""#);
        let retention = Retention::parse(&text, &CLOSED).expect("terms");
        let until = |at| retention.kept_until(&filed(at), "reporter").map(|(until, _)| until);
        let expected = |at: &str| Some(at.parse::<Timestamp>().expect("an instant"));
        assert_eq!(until("2024-02-29T11:00:00Z"), expected("2025-02-28T11:00:00Z"));
        // Noon there on the day that summer time began, and a year later.
        assert_eq!(until("2024-03-31T10:00:00Z"), expected("2025-03-31T10:00:00Z"));
        assert_eq!(until("2024-03-30T11:00:00Z"), expected("2025-03-30T10:00:00Z"));
        assert_eq!(retention.kept_until(&filed("2024-03-30T11:00:00Z"), "description"), None);
        let term = retention.erasing().next().expect("a term");
        let at = term.erased_after(began(&filed("2024-03-30T11:00:00Z")));
        assert_eq!(Some(at), expected("2029-03-30T10:00:00Z"));
    }

    #[test]
    fn what_is_wrong_with_terms_is_named() {
        for (rest, told) in [
            (r#""field": "category""#, "no sealed field category"),
            (r#""field": "reporter", "erased_after": "5 jaar""#, "not a term"),
            (r#""field": "reporter", "erased_after": "-P5Y""#, "not a term"),
            (r#""field": "reporter", "erased": "P5Y""#, "unknown field"),
            (
                r#""field": "reporter", "kept_at_least": "P1Y", "erased_after": "P364D""#,
                "erased before",
            ),
        ] {
            let error = Retention::parse(&one(rest), &CLOSED).expect_err("it is wrong").to_string();
            assert!(error.contains(told), "{error}");
        }
        let twice = one(r#""field": "reporter"}, {"event": "samen.requests.v1.RequestFiled",
                          "ground": "ours", "field": "reporter""#);
        let error = Retention::parse(&twice, &CLOSED).expect_err("twice").to_string();
        assert!(error.contains("more than one"), "{error}");
    }

    #[test]
    fn what_is_closed_has_one_term_for_all_of_it() {
        let terms =
            |terms: &str| Retention::parse(&format!(r#"{{"after_closing": [{terms}]}}"#), &CLOSED);
        let term = r#"{"stream": "request", "erased_after": "P365D", "ground": "ours"}"#;
        let one = terms(term).expect("terms");
        let term_of = one.after_closing().next().expect("a term");
        let at = |text: &str| text.parse::<Timestamp>().expect("an instant");
        assert_eq!(term_of.erased_after(at("2023-03-01T11:00:00Z")), at("2024-02-29T11:00:00Z"));
        assert_eq!(one.shortest(), Some(Duration::from_secs(365 * 86_400)));
        for (wrong, told) in [
            (term.replace("request", "requests"), "requests is nothing that is closed: request is"),
            (format!("{term}, {term}"), "request has more than one term after closing"),
            (term.replace("P365D", "365"), "not a term"),
            (term.replace("erased_after", "kept_at_least"), "unknown field"),
            (term.replace(r#", "ground": "ours""#, ""), "missing field `ground`"),
        ] {
            let error = terms(&wrong).expect_err("it is wrong").to_string();
            assert!(error.contains(told), "{error}");
        }
    }
}
