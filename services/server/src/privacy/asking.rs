//! What people and officers ask to be erased: logged unless something must be
//! kept, and waited for until it was carried out.

use std::time::Duration;

use jiff::Timestamp;
use prost::Message;
use samen_log::command::Decision;
use samen_log::record::position;
use samen_log::{AppendError, Command, CommandError, Outcome};
use samen_proto::log::Position;
use samen_proto::privacy::*;
use tonic::{Code, Status};

use super::Privacy;
use super::content::{self, Held};
use super::requests::{RedactionEvent, Rejection, may_erase};
use crate::reply::{self, status};

/// How often something is decided anew when holds change meanwhile.
pub const TRIES: usize = 5;
/// How long a call waits until what it asked was carried out. It will be, also
/// when nobody waits.
const WAIT: Duration = Duration::from_secs(20);
/// Keys of one redaction: what fits into one record.
pub const MAX_KEYS: usize = 3_000;

/// What is asked about an erasure.
pub enum Ask {
    /// Whether it would be done now (`validate_only`).
    Whether,
    For(Command),
}

// === impl Privacy ===

impl Privacy {
    /// Logs that a person is to be forgotten, unless something must be kept.
    /// `None` where it was only asked whether that would be done.
    pub async fn forget(&self, asked: Ask, person: &str) -> Result<Option<Outcome>, Status> {
        for _ in 0..TRIES {
            // Holds first: who places one relies on a record that is there.
            let (holds, guard) = self.holds.read::<Rejection>().await.map_err(reply::command)?;
            let head = self.head().await?;
            let held = content::of_person(&self.log, person, self.spoke, head).await;
            let held = self.alive(held.map_err(reply::unavailable)?).await?;
            let now = Timestamp::now();
            let may = || may_erase(Some(person), &held, &holds, &self.retention, now);
            let Ask::For(command) = &asked else {
                may()?;
                return Ok(None);
            };
            let forgotten = PersonForgotten {
                person: person.to_owned(),
                reason: ErasureReason::Request.into(),
                up_to: head,
            };
            let decided = self.people.execute(command.clone(), person, |_, _| {
                may()?;
                let events = vec![forgotten.clone().into()];
                Ok(Decision { guards: vec![guard.clone()], ..events.into() })
            });
            match decided.await {
                Err(CommandError::Append(AppendError::Conflict { .. })) => {}
                decided => return decided.map(Some).map_err(reply::command::<Rejection>),
            }
        }
        Err(reply::command::<Rejection>(AppendError::Overloaded.into()))
    }

    /// Logs which keys of a stream are to go, unless something must be kept;
    /// `None` likewise.
    pub async fn redact(
        &self,
        asked: Ask,
        message: &RedactTextRequest,
    ) -> Result<Option<Outcome>, Status> {
        let RedactTextRequest { stream, versions, .. } = message;
        for _ in 0..TRIES {
            let (holds, guard) = self.holds.read::<Rejection>().await.map_err(reply::command)?;
            let records = self.stream(stream).await?;
            let beginner = records.first().filter(|first| (self.spoke)(first)).cloned();
            let last = records.last().map_or(0, |record| record.version);
            if let Some(version) = versions.iter().find(|version| !(1..=last).contains(*version)) {
                let allowed = format!("must be versions of {stream}; {version} is not one");
                return Err(reply::invalid("versions", &allowed));
            }
            let mut held = Vec::new();
            for record in records {
                if !versions.is_empty() && !versions.contains(&record.version) {
                    continue;
                }
                // A person's own key goes when the person is forgotten: it
                // holds more than this.
                let texts = content::of(&record).map_err(reply::unavailable)?.into_iter();
                let texts = texts.filter(|text| !text.sealed.key_id.starts_with("person/"));
                held.extend(texts.map(|content| Held { record: record.clone(), content }));
            }
            let held = self.alive(held).await?;
            if held.len() > MAX_KEYS {
                let allowed = format!("must name some: there are more than {MAX_KEYS} texts");
                return Err(reply::invalid("versions", &allowed));
            }
            let keys = held.iter().map(|held| held.content.sealed.key_id.clone());
            let redacted = TextRedacted {
                stream: stream.clone(),
                key_ids: keys.collect(),
                reason: ErasureReason::Redaction.into(),
            };
            let now = Timestamp::now();
            // Whoever spoke in one of these texts may have it kept, and whoever
            // began what they stand in.
            let speakers = held.iter().map(|held| &held.record).filter(|r| (self.spoke)(r));
            let speakers: Vec<&str> =
                speakers.chain(&beginner).map(|record| record.actor.as_str()).collect();
            let may = || {
                if held.is_empty() {
                    return Err(Rejection::Nothing { stream: stream.clone() });
                }
                may_erase(None, &held, &holds, &self.retention, now)?;
                for speaker in &speakers {
                    may_erase(Some(speaker), &[], &holds, &self.retention, now)?;
                }
                Ok(())
            };
            let Ask::For(command) = &asked else {
                may()?;
                return Ok(None);
            };
            let decided = self.redactions.execute(command.clone(), stream, |_, _| {
                may()?;
                let events = vec![RedactionEvent::from(redacted.clone())];
                Ok(Decision { guards: vec![guard.clone()], ..events.into() })
            });
            match decided.await {
                Err(CommandError::Append(AppendError::Conflict { .. })) => {}
                decided => return decided.map(Some).map_err(reply::command::<Rejection>),
            }
        }
        Err(reply::command::<Rejection>(AppendError::Overloaded.into()))
    }

    /// What of this is not erased yet.
    async fn alive(&self, mut held: Vec<Held>) -> Result<Vec<Held>, Status> {
        let keys = held.iter().map(|held| held.content.sealed.key_id.as_str());
        let alive = self.keyring.alive(keys).await.map_err(reply::unavailable)?;
        held.retain(|held| alive.contains(&held.content.sealed.key_id));
        Ok(held)
    }

    /// Waits until the eraser has carried out what was asked; gives where that
    /// is recorded and how many keys went.
    pub async fn carried_out(&self, outcome: &Outcome) -> Result<(Position, u64), Status> {
        let intent = outcome.first;
        if tokio::time::timeout(WAIT, self.done.wait(intent)).await.is_err() {
            let message = "it is recorded and will be done; ask again with the same request_id";
            return Err(status(Code::DeadlineExceeded, "NOT_YET_DONE", message));
        }
        let found = self.log.read(intent - 1, 1).await.map_err(reply::unavailable)?;
        let intent = found.first().ok_or_else(|| reply::unavailable("a record is missing"))?;
        let mark = self.done.mark(intent).await.map_err(reply::unavailable)?;
        let mark = mark.ok_or_else(|| reply::unavailable("an erasure has no end"))?;
        let completed = ErasuresCompleted::decode(mark.data.as_slice());
        let completed = completed.map_err(reply::unavailable)?;
        Ok((position(&mark), completed.keys))
    }
}
