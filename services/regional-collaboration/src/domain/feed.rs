//! What stands where in an agreement's feed.
//!
//! Positions are given once, in this service's own log: no rebuild can
//! renumber a feed, and records that are offered twice get one place.

use std::collections::BTreeMap;

use samen_log::{Aggregate, Cursor};
use samen_proto::regional::Assigned;

samen_log::events! {
    /// What happens to a feed.
    pub enum FeedEvent { Assigned }
}

/// How long a feed is, and up to where each source log was looked through.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Feed {
    pub length: u64,
    /// By log.
    pub through: BTreeMap<String, Cursor>,
}

/// Records of one source that belong into the feed, in order.
#[derive(Clone, Debug)]
pub struct Assign {
    pub agreement_id: String,
    pub source_log: String,
    pub source_epoch: u64,
    pub source_positions: Vec<u64>,
    /// Up to here the source was looked through; with the hash of the record
    /// there.
    pub source_through: u64,
    pub source_hash: Vec<u8>,
}

/// Gives places to those records that have none yet.
pub fn decide(feed: &Feed, assign: Assign) -> Vec<FeedEvent> {
    let through = feed.through(&assign.source_log).position;
    if assign.source_through <= through {
        return Vec::new();
    }
    let new = assign.source_positions.into_iter().filter(|position| *position > through);
    vec![
        Assigned {
            agreement_id: assign.agreement_id,
            first_position: feed.length + 1,
            source_positions: new.collect(),
            source_log: assign.source_log,
            source_epoch: assign.source_epoch,
            source_through: assign.source_through,
            source_hash: assign.source_hash,
        }
        .into(),
    ]
}

impl Feed {
    /// Up to where a source was looked through.
    pub fn through(&self, log: &str) -> Cursor {
        self.through.get(log).cloned().unwrap_or_default()
    }
}

impl Aggregate for Feed {
    type Event = FeedEvent;
    const KIND: &'static str = "feed";

    fn evolve(mut self, event: &FeedEvent) -> Self {
        let FeedEvent::Assigned(assigned) = event;
        self.length += assigned.source_positions.len() as u64;
        let through = Cursor {
            epoch: assigned.source_epoch,
            position: assigned.source_through,
            hash: Some(assigned.source_hash.clone()),
        };
        self.through.insert(assigned.source_log.clone(), through);
        self
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        /// However batches overlap, repeat and interleave, each record of each
        /// source stands in the feed once, in its source's order, and the
        /// feed's positions have no gap.
        #[test]
        fn each_record_gets_one_place(
            batches in prop::collection::vec((0..2usize, 0u64..40, 1u64..20), 1..60)
        ) {
            let mut feed = Feed::default();
            let mut placed: Vec<(String, u64)> = Vec::new();
            for (source, from, count) in batches {
                let log = format!("log{source}");
                // A reader never skips: it begins at or before what was seen.
                let from = from.min(feed.through(&log).position);
                let positions: Vec<u64> =
                    (from + 1..=from + count).filter(|p| p % 3 != 0).collect();
                let assign = Assign {
                    agreement_id: "a".into(),
                    source_log: log.clone(),
                    source_epoch: 1,
                    source_positions: positions,
                    source_through: from + count,
                    source_hash: vec![1],
                };
                for event in decide(&feed, assign) {
                    let FeedEvent::Assigned(assigned) = &event;
                    prop_assert_eq!(assigned.first_position, placed.len() as u64 + 1);
                    placed.extend(
                        assigned.source_positions.iter().map(|p| (log.clone(), *p)),
                    );
                    feed = feed.evolve(&event);
                }
            }
            prop_assert_eq!(feed.length, placed.len() as u64);
            for log in ["log0", "log1"] {
                let got: Vec<u64> =
                    placed.iter().filter(|(l, _)| l == log).map(|(_, p)| *p).collect();
                let through = feed.through(log).position;
                let expected: Vec<u64> = (1..=through).filter(|p| p % 3 != 0).collect();
                prop_assert_eq!(got, expected);
            }
        }
    }
}
