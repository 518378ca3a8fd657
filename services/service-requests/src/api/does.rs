//! Doing a command on a request.

use jiff::Timestamp;
use prost::{Message, Name};
use samen_log::append::{Expected, NewEvent};
use samen_log::{Aggregate, Command, CommandError, Decision, Outcome};
use samen_proto::log::Sealed;
use samen_proto::requests::Text;
use samen_server::reply;
use tonic::Status as Refusal;
use uuid::Uuid;

use crate::Requests;
use crate::domain::request::{Now, Rejection, Request, RequestCommand, decide};

/// What else belongs to the same moment as a command.
#[derive(Clone, Default)]
pub struct Along {
    pub others: Vec<NewEvent>,
    pub guards: Vec<Expected>,
}

/// Does it on a request that there is.
pub async fn command(
    service: &Requests,
    command: Command,
    id: &str,
    expected: Option<u64>,
    what: RequestCommand,
    along: Along,
) -> Result<Outcome, Refusal> {
    let now = service.current();
    let done = service.requests.execute(command, id, |request, version| {
        let events = decide(request, version, id, expected, what.clone(), &now)?;
        let Along { others, guards } = along.clone();
        Ok::<_, Rejection>(Decision { others, guards, ..events.into() })
    });
    done.await.map_err(reply::command)
}

/// Makes a request that nobody else can be making.
pub async fn create(
    service: &Requests,
    command: Command,
    id: &str,
    what: RequestCommand,
) -> Result<Outcome, Refusal> {
    let now = service.current();
    let done = service.requests.create(command, id, |request, version| {
        decide(request, version, id, None, what.clone(), &now).map(Into::into)
    });
    done.await.map_err(reply::command)
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
