//! Two reactors: one that answers each record with a command, and the
//! decisions of the regional service's assigner.

use std::sync::Arc;

use prost::Message;
use samen_log::react::{Reactor, command_id};
use samen_log::{Aggregate, Cursor, Record};
use samen_proto::contract;
use samen_proto::log::Position;
use samen_proto::regional::Assigned;
use samen_regional::domain::feed::{Assign, Feed, FeedCommand, FeedEvent, decide};

use super::log::{Refused, SimLog};

/// What the two append.
pub const ANSWERED: &str = "simulation.Answered";
pub const ASSIGNED: &str = "samen.regional.v1.Assigned";
const AGREEMENT: &str = "agreement";

/// Answers every record of the source that may leave its house.
pub struct Answerer {
    pub source: Arc<str>,
    pub own: SimLog,
}

/// Gives the same records their place in a feed.
pub struct Assigner {
    pub source: Arc<str>,
    pub own: SimLog,
    /// Up to where it has offered, as it knows it.
    pub offered: Cursor,
}

/// Whether the two have to do something about a record.
pub fn concerns(record: &Record) -> bool {
    contract::is_exchanged(&record.r#type)
}

/// The records that were answered, in order.
pub fn answered(own: &SimLog) -> Vec<Position> {
    let records = own.records();
    let answers = records.iter().filter(|record| record.r#type == ANSWERED);
    answers.map(|record| Position::decode(&*record.data).expect("its own")).collect()
}

/// What was assigned, in order.
pub fn assigned(own: &SimLog) -> Vec<Assigned> {
    let records = own.records();
    let assigned = records.iter().filter(|record| record.r#type == ASSIGNED);
    assigned.map(|record| Assigned::decode(&*record.data).expect("its own")).collect()
}

impl Reactor for Answerer {
    type Error = Refused;

    async fn through(&mut self) -> Result<Cursor, Refused> {
        let last = answered(&self.own).pop().unwrap_or_default();
        Ok(Cursor { epoch: last.epoch, position: last.position, hash: None })
    }

    async fn offer(&mut self, records: &[Arc<Record>]) -> Result<bool, Refused> {
        for record in records.iter().filter(|record| concerns(record)) {
            let at = Cursor::at(record);
            let id = command_id("answerer", &self.source, &at);
            let data = at.to_position(&self.source).encode_to_vec();
            self.own.append(&id, None, ANSWERED, data).await?;
        }
        Ok(true)
    }
}

impl Reactor for Assigner {
    type Error = Refused;

    async fn through(&mut self) -> Result<Cursor, Refused> {
        self.offered = feed(&self.own).through(&self.source);
        Ok(self.offered.clone())
    }

    async fn offer(&mut self, records: &[Arc<Record>]) -> Result<bool, Refused> {
        let Some(last) = records.last() else { return Ok(true) };
        let id = command_id(AGREEMENT, &self.source, &Cursor::at(last));
        let assign = Assign {
            agreement_id: AGREEMENT.to_owned(),
            source_log: self.source.to_string(),
            after: self.offered.clone(),
            source_positions: records.iter().filter(|r| concerns(r)).map(|r| r.position).collect(),
            through: Cursor::at(last),
        };
        loop {
            let length = self.own.length();
            // Another process was first: begin from where it came to.
            let decided = decide(&feed(&self.own), FeedCommand::Assign(assign.clone()))
                .map_err(|_| Refused::Conflict)?;
            let Some(FeedEvent::Assigned(event)) = decided.into_iter().next() else {
                return Ok(true);
            };
            match self.own.append(&id, Some(length), ASSIGNED, event.encode_to_vec()).await {
                Err(Refused::Conflict) => {}
                other => {
                    other?;
                    self.offered = Cursor::at(last);
                    return Ok(true);
                }
            }
        }
    }
}

fn feed(own: &SimLog) -> Feed {
    assigned(own).into_iter().fold(Feed::default(), |feed, assigned| feed.evolve(&assigned.into()))
}
