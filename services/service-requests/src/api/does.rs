//! Doing a command on a request.

use std::sync::{Mutex, PoisonError};

use jiff::Timestamp;
use prost::{Message, Name};
use samen_log::append::{Expected, NewEvent};
use samen_log::{Aggregate, AppendError, Command, CommandError, Decision, Outcome};
use samen_proto::log::Sealed;
use samen_proto::requests::Text;
use samen_server::reply;
use tonic::Status as Refusal;
use uuid::Uuid;

use crate::Requests;
use crate::domain::request::{Now, Rejection, Request, RequestCommand, RequestEvent, decide};

/// What else belongs to the same moment as a command.
#[derive(Clone, Default)]
pub struct Along {
    pub others: Vec<NewEvent>,
    pub guards: Vec<Expected>,
}

/// How often a part is looked at anew with its whole.
const TRIES: usize = 16;

/// Does it on a request that there is. When that closes a part, or opens it
/// again, its whole hears of it in the same moment.
pub async fn command(
    service: &Requests,
    command: Command,
    id: &str,
    expected: Option<u64>,
    what: RequestCommand,
    along: Along,
) -> Result<Outcome, Refusal> {
    let now = service.current();
    for _ in 0..TRIES {
        let whole = service.whole(id).await?;
        let done = service.requests.execute(command.clone(), id, |request, version| {
            let events = decide(request, version, id, expected, what.clone(), &now)?;
            let Along { mut others, mut guards } = along.clone();
            if let Some((whole, guard)) = &whole {
                others.extend(part_changed(whole, guard, id, &events, &now)?);
                guards.push(guard.clone());
            }
            Ok::<_, Rejection>(Decision { others, guards, ..events.into() })
        });
        match (done.await, &whole) {
            (Err(CommandError::Append(AppendError::Conflict { stream, .. })), Some((_, guard)))
                if stream == guard.stream => {}
            (done, _) => return done.map_err(reply::command),
        }
    }
    Err(reply::command(CommandError::<Rejection>::Append(AppendError::Overloaded)))
}

/// What the whole says when a part of it was closed or opened again.
fn part_changed(
    whole: &Request,
    guard: &Expected,
    part: &str,
    events: &[RequestEvent],
    now: &Now,
) -> Result<Vec<NewEvent>, Rejection> {
    let to = events.iter().rev().find_map(|event| match event {
        RequestEvent::StatusChanged(changed) => Some(changed.to()),
        _ => None,
    });
    let Some(status) = to else { return Ok(Vec::new()) };
    let id = guard.stream.split_once('/').map_or("", |(_, id)| id);
    let what = RequestCommand::ClosePart { part: part.to_owned(), status };
    let events = decide(whole, guard.version, id, None, what, now)?;
    Ok(events.iter().map(|event| NewEvent::of(&guard.stream, event)).collect())
}

/// Makes a request that nobody else can be making. Gives also what was decided,
/// which was written unless the command was done before, under another id.
pub async fn create(
    service: &Requests,
    command: Command,
    id: &str,
    what: RequestCommand,
) -> Result<(Outcome, Vec<RequestEvent>), Refusal> {
    let now = service.current();
    let decided: Mutex<Vec<RequestEvent>> = Mutex::default();
    let done = service.requests.create(command, id, |request, version| {
        let events = decide(request, version, id, None, what.clone(), &now)?;
        decided.lock().unwrap_or_else(PoisonError::into_inner).clone_from(&events);
        Ok::<_, Rejection>(events.into())
    });
    let outcome = done.await.map_err(reply::command)?;
    Ok((outcome, decided.into_inner().unwrap_or_else(PoisonError::into_inner)))
}

impl Requests {
    /// What a decision at this moment knows of the world.
    pub fn current(&self) -> Now {
        Now { time: Timestamp::now(), calendar: self.deployment.calendar.clone() }
    }

    /// A request as it is, with a guard that it stays so.
    pub async fn with_guard(&self, id: &str) -> Result<(Request, Expected), Refusal> {
        let found = self.requests.get(id).await;
        let (request, version) = found.map_err(|e: CommandError<Rejection>| reply::command(e))?;
        Ok((request, Expected { stream: format!("{}/{id}", Request::KIND), version }))
    }

    /// The request that this is a part of, with a guard that it stays so.
    async fn whole(&self, id: &str) -> Result<Option<(Request, Expected)>, Refusal> {
        let (part, _) = self.with_guard(id).await?;
        match part.parent.as_str() {
            "" => Ok(None),
            parent => self.with_guard(parent).await.map(Some),
        }
    }

    /// Seals a text under a key of its own, which goes with the command.
    pub fn seal_text(&self, command: &mut Command, of: &str, text: &str) -> Sealed {
        self.seal(command, &format!("text/{of}"), &Text { text: text.to_owned() })
    }

    /// Likewise a text that is one of many.
    pub fn seal_words(&self, command: &mut Command, text: &str) -> Sealed {
        self.seal_text(command, &Uuid::now_v7().to_string(), text)
    }

    /// Seals a message under a new key, which goes with the command.
    pub fn seal<M: Message + Name>(
        &self,
        command: &mut Command,
        key_id: &str,
        message: &M,
    ) -> Sealed {
        let (key, new) = self.keyring.create(key_id);
        let sealed = key.seal(message);
        command.keys.push((key, new));
        sealed
    }

    /// Opens what a row holds. `None` for nothing, and for what was forgotten.
    pub async fn open<M: Message + Name + Default>(
        &self,
        sealed: &[u8],
    ) -> Result<Option<M>, Refusal> {
        if sealed.is_empty() {
            return Ok(None);
        }
        let sealed = Sealed::decode(sealed).map_err(reply::unavailable)?;
        self.keyring.unseal(&sealed).await.map_err(reply::seal)
    }
}
