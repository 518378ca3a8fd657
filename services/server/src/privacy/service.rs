//! The gRPC handlers: check the message, ask the rules, log what is asked,
//! wait until it was carried out.

use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use futures::{Stream, TryStreamExt};
use jiff::Timestamp;
use prost::Message;
use samen_log::command::Decision;
use samen_log::record::position;
use samen_log::{AppendError, Command, CommandError, Outcome, Record};
use samen_proto::log::Position;
use samen_proto::options::Role;
use samen_proto::privacy::export_person_response::Item;
use samen_proto::privacy::privacy_service_server::PrivacyService;
use samen_proto::privacy::*;
use tonic::{Code, Request, Response, Status};
use uuid::Uuid;

use super::content::{self, Held};
use super::requests::{PersonEvent, RedactionEvent, Rejection, may_erase};
use super::{Privacy, export, holds};
use crate::access::caller;
use crate::calls::command;
use crate::deployment::Pseudonyms;
use crate::identity::Caller;
use crate::reply::{self, Check, not_found, status};
use crate::time::{from_proto, to_proto};

/// How often something is decided anew when holds change meanwhile.
const TRIES: usize = 5;
/// How long a call waits until what it asked was carried out. It will be, also
/// when nobody waits.
const WAIT: Duration = Duration::from_secs(20);
/// Versions of one redaction.
const MAX_VERSIONS: usize = 1_000;
/// Keys of one redaction: what fits into one record.
const MAX_KEYS: usize = 3_000;
/// Records of a stream read at once.
const PAGE: usize = 500;
/// Characters of a stream's name.
const STREAM: std::ops::RangeInclusive<usize> = 1..=200;

/// What is asked about an erasure.
enum Ask {
    /// Whether it would be done now (`validate_only`).
    Whether,
    For(Command),
}

type Answer<T> = Result<Response<T>, Status>;

#[tonic::async_trait]
impl PrivacyService for Privacy {
    type ExportPersonStream =
        Pin<Box<dyn Stream<Item = Result<ExportPersonResponse, Status>> + Send>>;

    async fn export_person(
        &self,
        request: Request<ExportPersonRequest>,
    ) -> Answer<Self::ExportPersonStream> {
        let caller = caller(&request)?;
        let person = self.person(&caller, request.into_inner().person)?;
        // Each export is recorded before anything of it is sent.
        let command = Command {
            actor: caller.id.clone(),
            method: "ExportPerson",
            request_id: Uuid::now_v7().to_string(),
            ..Command::default()
        };
        let exported = PersonExported { person: person.clone() };
        let outcome = self
            .people
            .execute(command, &person, |_, _| {
                Ok::<_, Rejection>(vec![PersonEvent::from(exported.clone())].into())
            })
            .await
            .map_err(reply::command)?;
        Ok(Response::new(Box::pin(self.clone().export(person, outcome.position))))
    }

    async fn forget_person(
        &self,
        request: Request<ForgetPersonRequest>,
    ) -> Answer<ForgetPersonResponse> {
        let caller = caller(&request)?;
        let message = request.into_inner();
        let mut check = Check::default();
        check.request_id(&message.request_id);
        check.finish()?;
        let person = self.person(&caller, message.person.clone())?;
        let command = command(&caller, "ForgetPerson", &message.request_id, &message);
        let asked = if message.validate_only { Ask::Whether } else { Ask::For(command) };
        let Some(outcome) = self.forget(asked, &person).await? else {
            return Ok(Response::new(ForgetPersonResponse::default()));
        };
        let (position, keys) = self.carried_out(&outcome).await?;
        Ok(Response::new(ForgetPersonResponse { position: Some(position), keys }))
    }

    async fn redact_text(&self, request: Request<RedactTextRequest>) -> Answer<RedactTextResponse> {
        let caller = caller(&request)?;
        let message = request.into_inner();
        let mut check = Check::default();
        check.request_id(&message.request_id);
        check.text("stream", &message.stream, STREAM);
        check.require(
            message.versions.len() <= MAX_VERSIONS,
            "versions",
            &format!("must be at most {MAX_VERSIONS}"),
        );
        check.finish()?;
        let command = command(&caller, "RedactText", &message.request_id, &message);
        let asked = if message.validate_only { Ask::Whether } else { Ask::For(command) };
        let Some(outcome) = self.redact(asked, &message).await? else {
            return Ok(Response::new(RedactTextResponse::default()));
        };
        let (position, keys) = self.carried_out(&outcome).await?;
        Ok(Response::new(RedactTextResponse { position: Some(position), keys }))
    }

    async fn place_hold(&self, request: Request<PlaceHoldRequest>) -> Answer<PlaceHoldResponse> {
        let caller = caller(&request)?;
        let message = request.into_inner();
        let mut check = Check::default();
        check.request_id(&message.request_id);
        let one = message.person.is_some() == message.stream.is_empty();
        check.require(one, "person", "must be given, or a stream, and not both");
        check.choice::<HoldGround>("ground", message.ground);
        check.text("reference", &message.reference, 1..=200);
        let until = message.until.as_ref().is_none_or(|until| from_proto(until).is_some());
        check.require(until, "until", "must be a valid instant, or absent");
        check.finish()?;
        let person = match &message.person {
            Some(person) => self.person(&caller, Some(person.clone()))?,
            None => {
                self.stream(&message.stream, 1).await?;
                String::new()
            }
        };
        let command = command(&caller, "PlaceHold", &message.request_id, &message);
        let placed = HoldPlaced {
            id: Uuid::now_v7().to_string(),
            person,
            stream: message.stream,
            ground: message.ground,
            reference: message.reference,
            until: message.until,
        };
        let now = Timestamp::now();
        let placing = |_: &holds::Holds| holds::place(placed.clone(), now);
        let outcome = self.holds.execute(command, placing).await.map_err(reply::command)?;
        // Asked again, it is the hold that was placed the first time.
        let record = self.log.read(outcome.first - 1, 1).await.map_err(reply::unavailable)?;
        let placed = record.first().and_then(|r| HoldPlaced::decode(r.data.as_slice()).ok());
        let placed = placed.ok_or_else(|| reply::unavailable("a hold cannot be read again"))?;
        Ok(Response::new(PlaceHoldResponse { id: placed.id, position: Some(outcome.position) }))
    }

    async fn lift_hold(&self, request: Request<LiftHoldRequest>) -> Answer<LiftHoldResponse> {
        let caller = caller(&request)?;
        let message = request.into_inner();
        let mut check = Check::default();
        check.request_id(&message.request_id);
        check.id("id", &message.id);
        check.finish()?;
        let command = command(&caller, "LiftHold", &message.request_id, &message);
        let now = Timestamp::now();
        let lifting = |holds: &holds::Holds| holds::lift(holds, &message.id, now);
        let outcome = self.holds.execute(command, lifting).await.map_err(reply::command)?;
        Ok(Response::new(LiftHoldResponse { position: Some(outcome.position) }))
    }

    async fn list_holds(&self, request: Request<ListHoldsRequest>) -> Answer<ListHoldsResponse> {
        let caller = caller(&request)?;
        let ListHoldsRequest { person, stream } = request.into_inner();
        let person = person.map(|person| self.person(&caller, Some(person))).transpose()?;
        let (holds, _) = self.holds.read::<holds::Rejection>().await.map_err(reply::command)?;
        let all = person.is_none() && stream.is_empty();
        let asked = holds.active(Timestamp::now()).filter(|hold| {
            let on_person = person.as_ref().is_some_and(|person| *person == hold.person);
            let on_stream = !stream.is_empty() && stream == hold.stream;
            all || on_person || on_stream
        });
        Ok(Response::new(ListHoldsResponse { holds: asked.cloned().map(shown).collect() }))
    }
}

// === impl Privacy ===

impl Privacy {
    /// Whom a call is about. A resident can only mean themselves.
    fn person(&self, caller: &Caller, person: Option<Person>) -> Result<String, Status> {
        use samen_proto::privacy::person::Person as Named;
        let named = match person.and_then(|person| person.person) {
            Some(Named::Id(id)) if !id.is_empty() && id.chars().count() <= 100 => id,
            Some(Named::Subject(Subject { issuer, subject })) if !subject.is_empty() => {
                Pseudonyms::new(&self.deployment.master).of(&issuer, &subject)
            }
            Some(_) => return Err(reply::invalid("person", "must be an id, or a subject")),
            // An officer who forgets to say whom does not mean themselves.
            None if caller.has(Role::Resident) => caller.id.clone(),
            None => return Err(reply::invalid("person", "must be given")),
        };
        if named == caller.id || caller.has(Role::PrivacyOfficer) {
            return Ok(named);
        }
        let message = "a resident can only ask this about themselves";
        Err(status(Code::PermissionDenied, "NOT_YOURSELF", message))
    }

    /// Logs that a person is to be forgotten, unless something must be kept.
    /// `None` where it was only asked whether that would be done.
    async fn forget(&self, asked: Ask, person: &str) -> Result<Option<Outcome>, Status> {
        let forgotten =
            PersonForgotten { person: person.to_owned(), reason: ErasureReason::Request.into() };
        for _ in 0..TRIES {
            // Holds first: who places one relies on a record that is there.
            let (holds, guard) = self.holds.read::<Rejection>().await.map_err(reply::command)?;
            let head = self.log.newest().await.map_err(reply::unavailable)?;
            let head = head.map_or(0, |head| head.position);
            let held = content::of_person(&self.log, person, self.spoke, head).await;
            let held = self.alive(held.map_err(reply::unavailable)?).await?;
            let now = Timestamp::now();
            let may = || may_erase(Some(person), &held, &holds, &self.retention, now);
            let Ask::For(command) = &asked else {
                may()?;
                return Ok(None);
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
    async fn redact(
        &self,
        asked: Ask,
        message: &RedactTextRequest,
    ) -> Result<Option<Outcome>, Status> {
        let RedactTextRequest { stream, versions, .. } = message;
        for _ in 0..TRIES {
            let (holds, guard) = self.holds.read::<Rejection>().await.map_err(reply::command)?;
            let records = self.stream(stream, u64::MAX).await?;
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
            // Whoever spoke in one of these texts may have it kept.
            let speakers = held.iter().filter(|held| (self.spoke)(&held.record));
            let speakers: Vec<&str> = speakers.map(|held| held.record.actor.as_str()).collect();
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

    /// The records of a stream, at most so many.
    async fn stream(&self, stream: &str, limit: u64) -> Result<Vec<Arc<Record>>, Status> {
        let mut found: Vec<Arc<Record>> = Vec::new();
        while (found.len() as u64) < limit {
            let seen = found.last().map_or(0, |record| record.version);
            let page = self.log.read_stream(stream, seen, PAGE).await;
            let page = page.map_err(reply::unavailable)?;
            let more = page.len() == PAGE;
            found.extend(page);
            if !more {
                break;
            }
        }
        if found.is_empty() { Err(not_found("stream", stream)) } else { Ok(found) }
    }

    /// Waits until the eraser has carried out what was asked; gives where that
    /// is recorded and how many keys went.
    async fn carried_out(&self, outcome: &Outcome) -> Result<(Position, u64), Status> {
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

    /// Every record by the person or under their key, then an end.
    fn export(
        self,
        person: String,
        up_to: Position,
    ) -> impl Stream<Item = Result<ExportPersonResponse, Status>> + Send {
        async_stream::try_stream! {
            let mut records = 0;
            let pages = self.log.scan(content::about(&person), 0, up_to.position);
            let mut pages = std::pin::pin!(pages);
            while let Some(page) = pages.try_next().await.map_err(reply::unavailable)? {
                if self.deployment.shutdown.is_cancelled() {
                    let message = "the server stops; ask again";
                    Err(status(Code::Unavailable, "SHUTTING_DOWN", message))?;
                }
                for record in page.records {
                    let held = export::held(&record, &person, self.spoke, &self.keyring).await;
                    records += 1;
                    yield item(Item::Record(held.map_err(reply::unavailable)?));
                }
            }
            yield item(Item::End(ExportEnd { records, position: Some(up_to) }));
        }
    }
}

fn item(item: Item) -> ExportPersonResponse {
    ExportPersonResponse { item: Some(item) }
}

fn shown(placed: HoldPlaced) -> Hold {
    let HoldPlaced { id, person, stream, ground, reference, until } = placed;
    // When it was placed stands in its id (UUIDv7).
    let placed = Uuid::parse_str(&id).ok().and_then(|id| id.get_timestamp());
    let placed = placed.and_then(|at| Timestamp::from_second(at.to_unix().0 as i64).ok());
    Hold { id, person, stream, ground, reference, create_time: placed.map(to_proto), until }
}
