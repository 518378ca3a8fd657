//! A process's and a contribution's row, and what each event makes of them.

use prost::{DecodeError, Message};
use samen_log::record::recorded_at;
use samen_log::{Aggregate, Record, Row};
use samen_proto::participation::*;
use samen_proto::privacy::ContentErased;
use samen_server::privacy::left;
use samen_server::time::to_proto;

use crate::domain::contribution;

samen_log::events! {
    /// What happens to processes and what people contribute to them.
    pub enum ParticipationEvent { ProcessStarted, ProcessPublished, ContributionSubmitted }
}

/// Which contribution lost its text. `None` where it was something else.
pub fn erased(event: &ContentErased) -> Option<&str> {
    event.stream.strip_prefix(contribution::Contribution::KIND)?.strip_prefix('/')
}

/// A row of `process`.
#[derive(Clone, Debug, PartialEq)]
pub struct ProcessRow {
    pub started: u64,
    /// 0 while it is a draft.
    pub published: u64,
    pub body: Process,
}

/// A row of `contribution`.
#[derive(Clone, Debug, PartialEq)]
pub struct ContributionRow {
    pub submitted: u64,
    /// Without its text.
    pub body: Contribution,
    /// Encoded `Sealed`.
    pub text: Vec<u8>,
}

// === impl ProcessRow ===

impl ProcessRow {
    /// Reads the columns started, published, body.
    pub fn read(row: &Row) -> Result<Self, DecodeError> {
        Ok(ProcessRow {
            started: row.int(0) as u64,
            published: row.int(1) as u64,
            body: Process::decode(row.bytes(2).as_slice())?,
        })
    }
}

// === impl ContributionRow ===

impl ContributionRow {
    /// Reads submitted, body, text, from the third column on.
    pub fn read(row: &Row) -> Result<Self, DecodeError> {
        Ok(ContributionRow {
            submitted: row.int(2) as u64,
            body: Contribution::decode(row.bytes(3).as_slice())?,
            text: row.bytes(4),
        })
    }

    /// The row without what was sealed under these keys.
    pub fn without(self, keys: &[String]) -> Self {
        ContributionRow { text: left(self.text, keys), ..self }
    }

    /// The row that an event makes.
    pub fn new(record: &Record, submitted: &ContributionSubmitted) -> Self {
        ContributionRow {
            submitted: record.position,
            body: Contribution {
                id: submitted.id.clone(),
                process_id: submitted.process_id.clone(),
                kind: submitted.kind,
                text: String::new(),
                channel: submitted.channel,
                neighbourhood: submitted.neighbourhood.clone(),
                create_time: Some(to_proto(recorded_at(record))),
            },
            text: submitted.text.as_ref().map(Message::encode_to_vec).unwrap_or_default(),
        }
    }
}

/// Which process an event changes.
pub fn process_id(event: &ParticipationEvent) -> &str {
    match event {
        ParticipationEvent::ProcessStarted(event) => &event.id,
        ParticipationEvent::ProcessPublished(event) => &event.id,
        ParticipationEvent::ContributionSubmitted(event) => &event.process_id,
    }
}

/// The process's row after an event. `None` when it needs a row that is not
/// there.
pub fn evolve(
    row: Option<ProcessRow>,
    record: &Record,
    event: &ParticipationEvent,
) -> Option<ProcessRow> {
    let recorded = Some(to_proto(recorded_at(record)));
    match event {
        ParticipationEvent::ProcessStarted(started) => Some(ProcessRow {
            started: record.position,
            published: 0,
            body: Process {
                id: started.id.clone(),
                title: started.title.clone(),
                question: started.question.clone(),
                level: started.level,
                neighbourhoods: started.neighbourhoods.clone(),
                status: ProcessStatus::Draft.into(),
                create_time: recorded,
                publish_time: None,
                version: record.version,
                contribution_count: 0,
            },
        }),
        ParticipationEvent::ProcessPublished(_) => {
            let mut row = row?;
            row.published = record.position;
            row.body.status = ProcessStatus::Published.into();
            row.body.publish_time = recorded;
            row.body.version = record.version;
            Some(row)
        }
        ParticipationEvent::ContributionSubmitted(_) => {
            let mut row = row?;
            row.body.contribution_count += 1;
            Some(row)
        }
    }
}
