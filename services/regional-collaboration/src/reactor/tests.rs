//! A feed and a source whose history changes under it.

use std::sync::{Arc, Mutex, PoisonError};

use futures::executor::block_on;
use futures::stream::{self, BoxStream};
use futures::{StreamExt, TryStreamExt};
use proptest::prelude::*;
use samen_log::{Aggregate, Cursor, Follow, FollowError, Item, Record};

use super::assign::{Looked, Reader};
use super::history::{last_shared, standing};
use crate::domain::feed::{Assign, Feed, FeedCommand, FeedEvent, Restore, decide};

const LOG: &str = "log";

/// A source as it is at the moment.
#[derive(Default)]
struct Source(Mutex<Vec<Arc<Record>>>);

impl Source {
    fn records(&self) -> Vec<Arc<Record>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    fn set(&self, records: Vec<Arc<Record>>) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = records;
    }
}

impl Follow for Source {
    fn log(&self) -> &str {
        LOG
    }

    fn follow(&self, after: Cursor) -> BoxStream<'static, Result<Item, FollowError>> {
        let records = self.records();
        let seen = after.position as usize;
        if seen > 0 && records.get(seen - 1).map(|record| Cursor::at(record)) != Some(after.clone())
        {
            let (log, epoch, position) = (LOG.to_owned(), after.epoch, after.position);
            return stream::iter([Err(FollowError::NotInHistory { log, epoch, position })]).boxed();
        }
        let end = records.last().map(|record| Cursor::at(record)).unwrap_or_default();
        let items: Vec<_> = records.into_iter().skip(seen).map(Item::Record).collect();
        stream::iter(items).chain(stream::iter([Item::CaughtUp(end)])).map(Ok).boxed()
    }
}

/// A feed, and what each place of it holds: a record's epoch and position, and
/// whether it stands.
#[derive(Default)]
struct Placed {
    feed: Feed,
    events: Vec<FeedEvent>,
    places: Vec<(u64, u64, bool)>,
}

impl Placed {
    fn change(&mut self, command: FeedCommand) {
        for event in decide(&self.feed, command).expect("it goes on from where it stands") {
            match &event {
                FeedEvent::Assigned(assigned) => {
                    assert_eq!(assigned.first_position, self.places.len() as u64 + 1);
                    let epoch = assigned.source_epoch;
                    let new = assigned.source_positions.iter().map(|at| (epoch, *at, true));
                    self.places.extend(new);
                }
                FeedEvent::SourceRestored(restored) => {
                    for (_, position, stands) in &mut self.places {
                        *stands &= *position <= restored.source_through;
                    }
                }
            }
            self.feed = std::mem::take(&mut self.feed).evolve(&event);
            self.events.push(event);
        }
    }

    /// Reads on, at most so many records.
    fn read(&mut self, source: &Source, limit: usize) -> Result<(), FollowError> {
        let mut reader = Reader::from(self.feed.through(LOG));
        let items = source.follow(reader.offered.clone()).take(limit);
        let items: Vec<Item> = block_on(items.try_collect())?;
        let records: Vec<_> = items
            .into_iter()
            .filter_map(|item| match item {
                Item::Record(record) => Some(record),
                Item::CaughtUp(_) => None,
            })
            .collect();
        for batch in records.chunks(8) {
            for Looked { after, positions, through } in reader.look(batch, wanted) {
                let looked = after.position as usize..through.position as usize;
                let one = source.records()[looked].iter().all(|r| r.epoch == through.epoch);
                assert!(one, "records of two epochs were looked through at once");
                self.change(FeedCommand::Assign(Assign {
                    agreement_id: "a".into(),
                    source_log: LOG.into(),
                    after,
                    source_positions: positions,
                    through,
                }));
            }
        }
        Ok(())
    }

    /// Finds where the source goes on.
    fn settle(&mut self, source: &Source) {
        let mut bound = u64::MAX;
        let pages: Vec<_> = self
            .events
            .rchunks(3)
            .map(|page| page.iter().map(|event| event.through().1).collect())
            .map(|page| Ok(standing(page, &mut bound)))
            .collect();
        let shared = block_on(last_shared(source, stream::iter(pages))).expect("it can be read");
        if let Some(shared) = shared {
            let before = self.places.clone();
            self.change(FeedCommand::Restore(Restore {
                agreement_id: "a".into(),
                source_log: LOG.into(),
                lost: self.feed.through(LOG),
                shared,
            }));
            // No more is withdrawn than what is lost.
            for (&(epoch, position, stood), place) in before.iter().zip(&self.places) {
                let known = |r: &Arc<Record>| (r.epoch, r.position) == (epoch, position);
                assert!(!stood || place.2 == source.records().iter().any(known), "{place:?}");
            }
        }
    }
}

fn wanted(record: &Record) -> bool {
    // Some, and not at the same positions in each epoch.
    (record.position * 7 + record.epoch * 3) % 5 < 2
}

#[derive(Clone, Debug)]
enum Step {
    Append(u64),
    Read(usize),
    BackUp,
    /// Any backup that was made, of whatever history.
    Restore(prop::sample::Index),
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        3 => (1u64..9).prop_map(Step::Append),
        3 => (1usize..9).prop_map(Step::Read),
        1 => Just(Step::BackUp),
        1 => any::<prop::sample::Index>().prop_map(Step::Restore),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(512))]

    /// Whatever is restored and whenever it is noticed: each record of the
    /// present history stands in the feed once, in order, and all other places
    /// are empty.
    #[test]
    fn a_restored_source_loses_and_doubles_nothing(steps in prop::collection::vec(step(), 1..60)) {
        let source = Source::default();
        let mut placed = Placed::default();
        let mut epoch = 1;
        let mut backups = vec![Vec::new()];
        let all = usize::MAX;
        for step in steps.into_iter().chain([Step::Read(all), Step::Read(all)]) {
            match step {
                Step::Append(count) => {
                    let mut records = source.records();
                    for position in (records.len() as u64 + 1..).take(count as usize) {
                        let hash = format!("{epoch} {position}").into_bytes();
                        let log = LOG.to_owned();
                        let record = Record { log, epoch, position, hash, ..Record::default() };
                        records.push(Arc::new(record));
                    }
                    source.set(records);
                }
                Step::BackUp => backups.push(source.records()),
                Step::Restore(which) => {
                    epoch += 1;
                    source.set(which.get(&backups).clone());
                }
                Step::Read(limit) => {
                    if placed.read(&source, limit).is_err() {
                        placed.settle(&source);
                    }
                }
            }
        }
        let standing: Vec<_> = placed
            .places
            .iter()
            .filter(|(_, _, stands)| *stands)
            .map(|(epoch, position, _)| (*epoch, *position))
            .collect();
        let expected: Vec<_> = source
            .records()
            .iter()
            .filter(|record| wanted(record))
            .map(|record| (record.epoch, record.position))
            .collect();
        prop_assert_eq!(standing, expected);
    }
}
