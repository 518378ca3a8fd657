//! The regional service's reactors, over a simulated log of their own.
//!
//! The assigner and the watcher are whole. The one that tells partners asks
//! tables what it should tell; here it tells everybody of everything, by the
//! same rules: an id from the record, and a note of how far it is.

use std::marker::PhantomData;
use std::sync::Arc;

use samen_log::command::decode;
use samen_log::react::{Reactor, command_id};
use samen_log::{Aggregate, CommandError, Cursor, Event, Follow, FollowError, Record};
use samen_regional::domain::Rejection;
use samen_regional::domain::feed::{Feed, FeedEvent};
use samen_regional::domain::source::{self, Look, Source, SourceEvent};
use samen_regional::reactor::ReactError;
use samen_regional::reactor::assign::Feeding;
use samen_regional::reactor::own::Own;
use samen_regional::reactor::progress::Progress;
use samen_regional::reactor::watch::Watching;

use super::log::{Refused, SimLog, Write};
use crate::log::shared::EXCHANGED;

/// What the teller appends: where what it tells of stands in its log.
const TOLD: &str = "simulation.Told";
const TOLD_STREAM: &str = "told/everybody";
/// The one agreement.
pub const AGREEMENT: &str = "agreement";

/// One aggregate in a simulated log.
pub struct SimOwn<A> {
    log: SimLog,
    id: String,
    aggregate: PhantomData<fn() -> A>,
}

/// Tells of each erasure that the watcher recorded.
pub struct Teller {
    own: SimOwn<Source>,
    noted: Cursor,
}

/// A place of the feed: of which record it is, and whether it stands.
struct Place {
    epoch: u64,
    position: u64,
    stands: bool,
}

// === impl SimOwn ===

impl<A: Aggregate> SimOwn<A> {
    pub fn new(log: &SimLog, id: &str) -> Self {
        SimOwn { log: log.clone(), id: id.to_owned(), aggregate: PhantomData }
    }

    fn stream(&self) -> String {
        format!("{}/{}", A::KIND, self.id)
    }
}

fn events<E: Event>(log: &SimLog) -> impl Iterator<Item = (Arc<Record>, E)> {
    log.records().into_iter().filter_map(|record| {
        let event = decode::<E>(&record).expect("its own");
        event.map(|event| (record, event))
    })
}

fn unavailable(log: &SimLog, reason: Refused) -> FollowError {
    FollowError::Unavailable { log: log.log().to_owned(), reason: reason.to_string() }
}

impl<A: Aggregate> Own<A> for SimOwn<A>
where
    A::Event: Send + Sync,
{
    async fn get(&self) -> Result<(A, u64), ReactError> {
        self.log.answers().await?;
        let records = self.log.stream(&self.stream());
        let version = records.len() as u64;
        let events = records.iter().map(|r| decode::<A::Event>(r).expect("its own"));
        Ok((events.flatten().fold(A::default(), |state, event| state.evolve(&event)), version))
    }

    async fn records(&self, after: u64, limit: usize) -> Result<Vec<Arc<Record>>, ReactError> {
        self.log.answers().await?;
        let records = self.log.stream(&self.stream());
        Ok(records.into_iter().skip(after as usize).take(limit).collect())
    }

    async fn change(
        &self,
        decide: impl Fn(&A) -> Result<Vec<A::Event>, Rejection> + Send + Sync,
    ) -> Result<(), ReactError> {
        let stream = self.stream();
        let command = format!("{stream} {}", self.log.new_id());
        loop {
            let (state, version) = self.get().await?;
            let events = decide(&state).map_err(CommandError::Rejected)?;
            let Some(event) = events.first() else { return Ok(()) };
            let (kind, data) = (event.kind(), event.encode());
            let version = Some(version);
            let write = Write { command: &command, stream: &stream, version, kind: &kind, data };
            match self.log.append(write).await {
                Ok(()) => return Ok(()),
                Err(Refused::Conflict) => {}
                Err(unknown) => return Err(unavailable(&self.log, unknown).into()),
            }
        }
    }
}

impl Feeding for SimOwn<Feed> {
    async fn wanted(&self) -> Result<Option<Vec<String>>, ReactError> {
        self.log.answers().await?;
        Ok(Some(vec![EXCHANGED.to_owned()]))
    }
}

impl Watching for SimOwn<Source> {
    /// None has ended.
    async fn settle_ended(&self, _: &dyn Follow, _: &Progress) -> Result<(), ReactError> {
        Ok(())
    }
}

// === impl Teller ===

impl Teller {
    pub fn new(log: &SimLog) -> Self {
        Teller { own: SimOwn::new(log, log.log()), noted: Cursor::START }
    }
}

impl Reactor for Teller {
    type Error = ReactError;

    async fn through(&mut self) -> Result<Cursor, ReactError> {
        self.noted = self.own.get().await?.0.through;
        Ok(self.noted.clone())
    }

    async fn offer(&mut self, records: &[Arc<Record>]) -> Result<bool, ReactError> {
        let log = &self.own.log;
        for record in records {
            let Ok(Some(SourceEvent::ErasureSeen(_))) = decode(record) else { continue };
            let write = Write {
                command: &command_id(record, "everybody"),
                stream: TOLD_STREAM,
                version: None,
                kind: TOLD,
                data: record.position.to_be_bytes().to_vec(),
            };
            log.append(write).await.map_err(|refused| unavailable(log, refused))?;
            let at = Cursor::at(record);
            let before = std::mem::replace(&mut self.noted, at.clone());
            let look = Look { source_log: log.log().to_owned(), before, at, erased: None };
            self.own.change(|source| source::decide(source, look.clone())).await?;
        }
        Ok(true)
    }

    fn saw(&mut self, _: &Cursor) {}

    fn failed(&mut self, _: ReactError) {}
}

/// Each record that belongs into the feed has one place, in order; all places
/// of others were withdrawn, and their numbers have no gap.
pub fn check_feed(own: &SimLog, source: &[Arc<Record>]) -> Result<(), String> {
    let mut places: Vec<Place> = Vec::new();
    for (_, event) in events::<FeedEvent>(own) {
        match event {
            FeedEvent::Assigned(assigned) => {
                if assigned.first_position != places.len() as u64 + 1 {
                    return Err(format!("a gap in the feed before {}", assigned.first_position));
                }
                let epoch = assigned.source_epoch;
                let new = assigned.source_positions.into_iter();
                places.extend(new.map(|position| Place { epoch, position, stands: true }));
            }
            FeedEvent::SourceRestored(restored) => {
                for place in &mut places {
                    place.stands &= place.position <= restored.source_through;
                }
            }
        }
    }
    let standing = places.iter().filter(|place| place.stands);
    let standing: Vec<_> = standing.map(|place| (place.epoch, place.position)).collect();
    let wanted = source.iter().filter(|record| record.r#type == EXCHANGED);
    let wanted: Vec<_> = wanted.map(|record| (record.epoch, record.position)).collect();
    equal("the feed", &standing, &wanted)
}

/// Each erasure of the source was recorded once, in order, and told of once.
pub fn check_erasures(own: &SimLog, source: &[Arc<Record>], kind: &str) -> Result<(), String> {
    let mut seen = Vec::new();
    let mut due = Vec::new();
    for (record, event) in events::<SourceEvent>(own) {
        if let SourceEvent::ErasureSeen(erasure) = event {
            due.push(record.position);
            seen.push((erasure.source_epoch, erasure.source_position));
        }
    }
    let there = |&(epoch, position): &(u64, u64)| {
        source.get(position as usize - 1).is_some_and(|record| record.epoch == epoch)
    };
    seen.retain(there);
    let erasing = source.iter().filter(|record| record.r#type == kind);
    let erasing: Vec<_> = erasing.map(|record| (record.epoch, record.position)).collect();
    equal("the erasures", &seen, &erasing)?;
    let told = own.stream(TOLD_STREAM);
    let position = |record: &Arc<Record>| record.data.as_slice().try_into().map(u64::from_be_bytes);
    let told: Vec<_> = told.iter().map(|told| position(told).expect("its own")).collect();
    equal("what was told", &told, &due)
}

/// Whether two lists are the same; where not, from where.
pub fn equal<T: PartialEq>(what: &str, found: &[T], expected: &[T]) -> Result<(), String> {
    let same = found.iter().zip(expected).take_while(|(a, b)| a == b).count();
    if found.len() == expected.len() && same == found.len() {
        return Ok(());
    }
    let (found, expected) = (found.len(), expected.len());
    Err(format!("{what}: {found} instead of {expected}, the first {same} are the same"))
}
