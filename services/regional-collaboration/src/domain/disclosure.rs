//! What went out to a partner. Written before the bytes leave.

use samen_log::Aggregate;
use samen_proto::regional::{Disclosed, DisclosureKind};

samen_log::events! {
    /// What happens to an agreement's disclosures.
    pub enum DisclosureEvent { Disclosed }
}

/// How far a feed went out.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Disclosures {
    pub highest: u64,
}

/// A range of a feed that is about to be sent.
#[derive(Clone, Debug)]
pub struct Disclose {
    pub agreement_id: String,
    pub agreement_version: u64,
    pub purpose: String,
    pub first: u64,
    pub last: u64,
}

/// Records the range; what went out before, as a replay.
pub fn decide(disclosures: &Disclosures, disclose: &Disclose) -> Vec<DisclosureEvent> {
    let highest = disclosures.highest;
    let part = |first: u64, last: u64, kind: DisclosureKind| {
        (first <= last).then(|| {
            Disclosed {
                agreement_id: disclose.agreement_id.clone(),
                first_position: first,
                last_position: last,
                agreement_version: disclose.agreement_version,
                purpose: disclose.purpose.clone(),
                kind: kind.into(),
            }
            .into()
        })
    };
    let replayed = part(disclose.first, disclose.last.min(highest), DisclosureKind::Replay);
    let first = part(disclose.first.max(highest + 1), disclose.last, DisclosureKind::First);
    replayed.into_iter().chain(first).collect()
}

impl Aggregate for Disclosures {
    type Event = DisclosureEvent;
    const KIND: &'static str = "disclosure";

    fn evolve(self, event: &DisclosureEvent) -> Self {
        let DisclosureEvent::Disclosed(disclosed) = event;
        Disclosures { highest: self.highest.max(disclosed.last_position) }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        /// Every position that is sent is recorded, in order, and as first
        /// exactly once.
        #[test]
        fn each_position_is_first_once(
            ranges in prop::collection::vec((1u64..60, 0u64..20), 1..40)
        ) {
            let mut state = Disclosures::default();
            let mut firsts = Vec::new();
            for (first, more) in ranges {
                // A reader never begins beyond what it was sent.
                let first = first.min(state.highest + 1);
                let disclose = Disclose {
                    agreement_id: "a".into(),
                    agreement_version: 1,
                    purpose: "p".into(),
                    first,
                    last: first + more,
                };
                let mut recorded = Vec::new();
                for event in decide(&state, &disclose) {
                    let DisclosureEvent::Disclosed(disclosed) = &event;
                    let range = disclosed.first_position..=disclosed.last_position;
                    recorded.extend(range.clone());
                    if disclosed.kind() == DisclosureKind::First {
                        firsts.extend(range);
                    }
                    state = state.evolve(&event);
                }
                prop_assert_eq!(recorded, (first..=first + more).collect::<Vec<_>>());
            }
            prop_assert_eq!(firsts, (1..=state.highest).collect::<Vec<_>>());
        }
    }
}
