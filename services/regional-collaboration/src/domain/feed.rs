//! What stands where in an agreement's feed.
//!
//! Positions are given once, in this service's own log: no rebuild can
//! renumber a feed, and records that are offered twice get one place. When a
//! source is restored from a backup, the places of records that are no longer
//! in its history are withdrawn: they stay, with nothing in them.

use std::collections::BTreeMap;

use samen_log::{Aggregate, Cursor};
use samen_proto::regional::{Assigned, SourceRestored};

use super::{Rejection, cursor};

samen_log::events! {
    /// What happens to a feed.
    pub enum FeedEvent { Assigned, SourceRestored }
}

/// How long a feed is, and up to where each source log was looked through.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Feed {
    pub length: u64,
    /// By log.
    pub through: BTreeMap<String, Cursor>,
    /// How often places were withdrawn.
    pub restores: u64,
}

/// What a reader of a source finds.
#[derive(Clone, Debug)]
pub enum FeedCommand {
    Assign(Assign),
    Restore(Restore),
}

/// Records of one source, and of one epoch, that belong into the feed, in
/// order.
#[derive(Clone, Debug)]
pub struct Assign {
    pub agreement_id: String,
    pub source_log: String,
    /// From where the source was looked through: where the feed stood then.
    pub after: Cursor,
    pub source_positions: Vec<u64>,
    /// Up to here it was looked through.
    pub through: Cursor,
}

/// A source has another history than the feed.
#[derive(Clone, Debug)]
pub struct Restore {
    pub agreement_id: String,
    pub source_log: String,
    /// Where the feed stood, which is not in the history any more.
    pub lost: Cursor,
    /// The last record that both have.
    pub shared: Cursor,
}

/// What follows from it. Who did not read on from where the feed stands is
/// refused: they read what others have dealt with, or another history.
pub fn decide(feed: &Feed, command: FeedCommand) -> Result<Vec<FeedEvent>, Rejection> {
    let (log, seen) = match &command {
        FeedCommand::Assign(assign) => (&assign.source_log, &assign.after),
        FeedCommand::Restore(restore) => (&restore.source_log, &restore.lost),
    };
    if feed.through(log) != *seen {
        return Err(Rejection::Elsewhere { log: log.clone() });
    }
    Ok(vec![match command {
        FeedCommand::Assign(assign) => Assigned {
            agreement_id: assign.agreement_id,
            first_position: feed.length + 1,
            source_log: assign.source_log,
            source_epoch: assign.through.epoch,
            source_positions: assign.source_positions,
            source_through: assign.through.position,
            source_hash: assign.through.hash.unwrap_or_default(),
        }
        .into(),
        FeedCommand::Restore(restore) => SourceRestored {
            agreement_id: restore.agreement_id,
            source_log: restore.source_log,
            source_epoch: restore.shared.epoch,
            source_through: restore.shared.position,
            source_hash: restore.shared.hash.unwrap_or_default(),
        }
        .into(),
    }])
}

impl Feed {
    /// Up to where a source was looked through.
    pub fn through(&self, log: &str) -> Cursor {
        self.through.get(log).cloned().unwrap_or_default()
    }
}

impl FeedEvent {
    /// The source that it is about, and up to where that was looked through
    /// after it.
    pub fn through(&self) -> (&str, Cursor) {
        match self {
            FeedEvent::Assigned(Assigned {
                source_log,
                source_epoch,
                source_through,
                source_hash,
                ..
            })
            | FeedEvent::SourceRestored(SourceRestored {
                source_log,
                source_epoch,
                source_through,
                source_hash,
                ..
            }) => (source_log, cursor(*source_epoch, *source_through, source_hash)),
        }
    }
}

impl Aggregate for Feed {
    type Event = FeedEvent;
    const KIND: &'static str = "feed";

    fn evolve(mut self, event: &FeedEvent) -> Self {
        match event {
            FeedEvent::Assigned(assigned) => {
                self.length += assigned.source_positions.len() as u64;
            }
            FeedEvent::SourceRestored(_) => self.restores += 1,
        }
        let (log, through) = event.through();
        self.through.insert(log.to_owned(), through);
        self
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn at(epoch: u64, position: u64) -> Cursor {
        match position {
            0 => Cursor::START,
            _ => Cursor { epoch, position, hash: Some(vec![epoch as u8]) },
        }
    }

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
                // One that begins elsewhere is refused.
                let stands = feed.through(&log).position;
                let from = if count % 2 == 0 { stands } else { from };
                let positions: Vec<u64> =
                    (from + 1..=from + count).filter(|p| p % 3 != 0).collect();
                let assign = Assign {
                    agreement_id: "a".into(),
                    source_log: log.clone(),
                    after: at(1, from),
                    source_positions: positions,
                    through: at(1, from + count),
                };
                let decided = decide(&feed, FeedCommand::Assign(assign));
                prop_assert_eq!(decided.is_ok(), from == stands);
                for event in decided.into_iter().flatten() {
                    let FeedEvent::Assigned(assigned) = &event else { unreachable!() };
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
