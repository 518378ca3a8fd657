//! The gRPC handlers: check the message, ask the rules, log what is asked,
//! wait until it was carried out.

use std::sync::Arc;

use futures::{Stream, TryStreamExt};
use jiff::Timestamp;
use prost::Message;
use samen_log::{Command, Record};
use samen_proto::log::{Heartbeat, Position};
use samen_proto::options::Role;
use samen_proto::privacy::export_person_response::Item;
use samen_proto::privacy::privacy_service_server::PrivacyService;
use samen_proto::privacy::*;
use tokio::sync::watch;
use tonic::{Code, Request, Response, Status};
use uuid::Uuid;

use super::asking::Ask;
use super::content::{self, About};
use super::requests::{PersonEvent, Rejection};
use super::{Privacy, export, holds};
use crate::access::caller;
use crate::calls::command;
use crate::deployment::Pseudonyms;
use crate::identity::Caller;
use crate::reply::{self, Check, not_found, status};
use crate::streams::{Outgoing, outgoing};
use crate::time::from_proto;

/// Versions of one redaction.
const MAX_VERSIONS: usize = 1_000;
/// Characters of a stream's name.
const STREAM: std::ops::RangeInclusive<usize> = 1..=200;

type Answer<T> = Result<Response<T>, Status>;

#[tonic::async_trait]
impl PrivacyService for Privacy {
    type ExportPersonStream = Outgoing<ExportPersonResponse>;

    async fn export_person(
        &self,
        request: Request<ExportPersonRequest>,
    ) -> Answer<Self::ExportPersonStream> {
        let caller = caller(&request)?;
        let person = self.person(&caller, request.into_inner().person)?;
        self.known(&caller, &person).await?;
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
        let (told, seen) = watch::channel(Position { position: 0, ..outcome.position.clone() });
        let items = self.clone().export(person, outcome.position, told);
        let place = move || seen.borrow().clone();
        let heartbeat = |at| item(Item::Heartbeat(Heartbeat { position: Some(at) }));
        Ok(Response::new(outgoing(items, place, heartbeat, &self.deployment, &caller)))
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
        self.known(&caller, &person).await?;
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
            Some(person) => {
                let person = self.person(&caller, Some(person.clone()))?;
                self.known(&caller, &person).await?;
                person
            }
            None => {
                self.stream(&message.stream).await?;
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
        let outcome = self.hold(command, &placed).await?;
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
        let outcome = self.holds.execute(command, &[], lifting).await.map_err(reply::command)?;
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
        Ok(Response::new(ListHoldsResponse { holds: asked.cloned().map(holds::shown).collect() }))
    }
}

// === impl Privacy ===

impl Privacy {
    /// Whom a call is about. A resident can only mean themselves.
    fn person(&self, caller: &Caller, person: Option<Person>) -> Result<String, Status> {
        use samen_proto::privacy::person::Person as Named;
        let named = match person.and_then(|person| person.person) {
            Some(Named::Id(id)) if Pseudonyms::could_be(&id) => id,
            Some(Named::Subject(Subject { issuer, subject })) if !subject.is_empty() => {
                Pseudonyms::new(&self.deployment.master).of(&issuer, &subject)
            }
            Some(_) => {
                let allowed = "must be a pseudonymous id (22 characters), or a subject";
                return Err(reply::invalid("person", allowed));
            }
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

    /// Tells an officer who names somebody of whom the log knows nothing: a name
    /// that was written otherwise is not somebody who has been helped.
    async fn known(&self, caller: &Caller, person: &str) -> Result<(), Status> {
        let head = self.head().await?;
        let known = person == caller.id || {
            let known = content::is_known(&self.log, person, head).await;
            known.map_err(reply::unavailable)?
        };
        if known { Ok(()) } else { Err(not_found("person", person)) }
    }

    /// The position of the log's newest record.
    pub async fn head(&self) -> Result<u64, Status> {
        let head = self.log.newest().await.map_err(reply::unavailable)?;
        Ok(head.map_or(0, |head| head.position))
    }

    /// The records of a stream, all that there are.
    pub async fn stream(&self, stream: &str) -> Result<Vec<Arc<Record>>, Status> {
        let found = content::stream(&self.log, stream).await.map_err(reply::unavailable)?;
        if found.is_empty() { Err(not_found("stream", stream)) } else { Ok(found) }
    }

    /// Every record about the person, then an end. Tells up to where the log was
    /// looked through.
    fn export(
        self,
        person: String,
        up_to: Position,
        seen: watch::Sender<Position>,
    ) -> impl Stream<Item = Result<ExportPersonResponse, Status>> + Send {
        async_stream::try_stream! {
            let mut records = 0;
            let about = About::find(&self.log, &person, self.spoke, up_to.position).await;
            let about = about.map_err(reply::unavailable)?;
            let pages = self.log.scan(about.records(), 0, up_to.position);
            let mut pages = std::pin::pin!(pages);
            while let Some(page) = pages.try_next().await.map_err(reply::unavailable)? {
                for record in page.records {
                    let held = export::held(&record, &about, &self.keyring).await;
                    records += 1;
                    yield item(Item::Record(held.map_err(reply::unavailable)?));
                    seen.send_modify(|at| at.position = record.position);
                }
                seen.send_modify(|at| at.position = page.seen);
            }
            yield item(Item::End(ExportEnd { records, position: Some(up_to) }));
        }
    }
}

fn item(item: Item) -> ExportPersonResponse {
    ExportPersonResponse { item: Some(item) }
}
