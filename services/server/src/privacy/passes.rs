//! How far each term is in a log.

use std::cmp::Reverse;
use std::collections::{BTreeMap, BTreeSet, BinaryHeap};
use std::sync::Arc;

use jiff::Timestamp;
use samen_log::Record;
use samen_proto::contract;

use super::Closing;
use super::retention::{ClosingTerm, Retention, Term, began, is_of_the_past};

/// Records that are due, looked at together.
const PAGE: usize = 100;

/// What one term has erased.
pub enum Rule {
    /// One field, by when its record was made.
    Field(Term),
    /// All texts of a stream that is closed.
    Closed(ClosingTerm, Closing),
}

/// How far one rule is in records of some types.
pub struct Pass {
    pub rule: Rule,
    pub kinds: Vec<String>,
    /// Whether they have a time of their own, and come in any order.
    pub of_the_past: bool,
    /// Up to where nothing is left, but for what waits.
    pub seen: u64,
    /// When what was seen is looked at again, and where it stands; the soonest
    /// first.
    waiting: BinaryHeap<Reverse<(Timestamp, u64)>>,
}

// === impl Rule ===

impl Rule {
    /// Before when a record has nothing that is due.
    pub fn soonest(&self, record: &Record) -> Timestamp {
        self.after(began(record))
    }

    /// The end of its term, counted from here.
    pub fn after(&self, from: Timestamp) -> Timestamp {
        match self {
            Rule::Field(term) => term.erased_after(from),
            Rule::Closed(term, _) => term.erased_after(from),
        }
    }

    /// Whether it is about this field of a record.
    pub fn covers(&self, record: &Record, field: &str) -> bool {
        match self {
            Rule::Field(term) => term.field == field,
            Rule::Closed(_, closing) => closing.covers(&record.stream),
        }
    }

    /// Since when a stream with these records is closed, if it is about such.
    pub fn closed_since(&self, records: &[Arc<Record>]) -> Option<Timestamp> {
        match self {
            Rule::Field(_) => None,
            Rule::Closed(_, closing) => closing.closed_since(records.iter().map(Arc::as_ref)),
        }
    }
}

// === impl Pass ===

impl Pass {
    /// All that there is to go through in a log whose streams are closed like
    /// this.
    pub fn all(retention: &Retention, closing: &[Closing]) -> Vec<Self> {
        let fields = retention.erasing().map(|term| {
            let kinds = vec![term.event.clone()];
            Pass::new(Rule::Field(term.clone()), is_of_the_past(&term.event), kinds)
        });
        let closed = retention.after_closing().flat_map(|term| {
            let closing = closing.iter().filter(|closing| closing.kind == term.stream);
            closing.flat_map(|closing| {
                [false, true].map(|past| {
                    let mut kinds: Vec<_> = with_texts();
                    kinds.retain(|kind| is_of_the_past(kind) == past);
                    Pass::new(Rule::Closed(term.clone(), *closing), past, kinds)
                })
            })
        });
        fields.chain(closed).collect()
    }

    fn new(rule: Rule, of_the_past: bool, kinds: Vec<String>) -> Self {
        Pass { rule, kinds, of_the_past, seen: 0, waiting: BinaryHeap::new() }
    }

    /// What waited until now, some of it.
    pub fn due(&mut self, now: Timestamp) -> BTreeMap<u64, Timestamp> {
        let mut due = BTreeMap::new();
        while due.len() < PAGE
            && let Some(Reverse((when, position))) = self.waiting.peek().copied()
            && when <= now
        {
            self.waiting.pop();
            due.insert(position, when);
        }
        due
    }

    /// Looks at these again, then.
    pub fn wait(&mut self, waits: BTreeMap<u64, Timestamp>) {
        self.waiting.extend(waits.into_iter().map(|(position, when)| Reverse((when, position))));
    }
}

/// The types of events that have a sealed field, somewhere.
fn with_texts() -> Vec<String> {
    let sealed = contract::event_types().filter(|event| {
        let (mut seen, mut look) = (BTreeSet::new(), vec![event.clone()]);
        while let Some(message) = look.pop() {
            if !seen.insert(message.full_name().to_owned()) {
                continue;
            }
            if message.full_name() == contract::SEALED {
                return true;
            }
            look.extend(message.fields().filter_map(|field| field.kind().as_message().cloned()));
        }
        false
    });
    sealed.map(|event| event.full_name().to_owned()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    const CLOSING: Closing = Closing { kind: "request", since: |before, _| before };

    #[test]
    fn a_term_after_closing_looks_at_every_type_with_a_text() {
        let retention = Retention::shipped(&[CLOSING.kind]).expect("our own file");
        let passes = Pass::all(&retention, &[CLOSING]);
        let closed = |past: bool| {
            let of =
                |pass: &&Pass| matches!(pass.rule, Rule::Closed(..)) && pass.of_the_past == past;
            let passes: Vec<_> = passes.iter().filter(of).collect();
            assert_eq!(passes.len(), 1);
            passes[0].kinds.clone()
        };
        let requests = closed(false);
        for event in [
            "RequestFiled",
            "RequestAmended",
            "StatusChanged",
            "NoteAdded",
            "MessageSent",
            "MessageReceived",
            "TaskDone",
            "TaskReturned",
            "PhotoAdded",
            "FeedbackGiven",
        ] {
            assert!(requests.contains(&format!("samen.requests.v1.{event}")), "{event}");
        }
        assert!(!requests.iter().any(|kind| kind.ends_with("RequestRouted")));
        assert!(closed(true).iter().any(|kind| kind.ends_with("RequestImported")));
        // Another service's log knows nothing that is closed.
        assert!(Pass::all(&retention, &[]).iter().all(|p| matches!(p.rule, Rule::Field(_))));
    }

    #[test]
    fn what_waits_comes_when_it_is_due_and_a_page_at_a_time() {
        let mut pass = Pass::all(&Retention::shipped(&["request"]).expect("our own file"), &[])
            .pop()
            .expect("a term");
        let at = |second: i64| Timestamp::from_second(second).expect("a small number");
        pass.wait((1..=150).map(|n| (n, at(1_000 - n as i64))).collect());
        assert!(pass.due(at(849)).is_empty());
        // The soonest first.
        let due: Vec<u64> = pass.due(at(900)).into_keys().collect();
        assert_eq!(due, (100..=150).collect::<Vec<_>>());
        assert_eq!(pass.due(at(2_000)).len(), 99);
        pass.wait((1..=150).map(|n| (n, at(0))).collect());
        assert_eq!(pass.due(at(0)).len(), PAGE);
        assert_eq!(pass.due(at(0)).len(), 50);
        assert!(pass.due(at(0)).is_empty());
    }
}
