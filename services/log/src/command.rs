//! Aggregates, and the loop around their deciders.
//!
//! A decider is pure; this is its edge: state from the cache or the stream,
//! append with the version that was decided upon, and again when somebody else
//! was first. A command that was accepted before gives its first result.

use std::sync::Arc;

use base64::Engine;
use base64::prelude::BASE64_URL_SAFE_NO_PAD;
use jiff::Timestamp;
use moka::sync::Cache;
use prost::{DecodeError, Name};
use sha2::{Digest, Sha256};

use crate::append::{Append, AppendError, Appended, CommandId, Expected, NewEvent, NewKey};
use crate::follow::PAGE;
use crate::log::Log;
use crate::record::{Position, Record, position};
use crate::seal::{DataKey, Keyring, SealError};

/// States kept in memory, for each kind of aggregate.
const CACHED_STATES: u64 = 20_000;
/// How often a command is decided anew when others are first.
const MAX_TRIES: usize = 64;

/// The events of one service: an enum over its protobuf messages, made with
/// [`events!`](crate::events).
pub trait Event: Sized {
    /// The full protobuf name.
    fn kind(&self) -> String;
    fn encode(&self) -> Vec<u8>;
    /// `None` for a type that is not one of these.
    fn decode(kind: &str, data: &[u8]) -> Result<Option<Self>, DecodeError>;
}

/// State that is made from a stream's events.
pub trait Aggregate: Clone + Default + Send + Sync + 'static {
    type Event: Event;
    /// What streams of this kind begin with: `request` for `request/<id>`.
    const KIND: &'static str;
    /// The state after one more event.
    fn evolve(self, event: &Self::Event) -> Self;
}

/// Who asks for what, and by which id it is done once.
#[derive(Clone, Default)]
pub struct Command {
    /// The pseudonymous id of the caller, or a reactor's name.
    pub actor: String,
    /// The method's name: ids are scoped by it.
    pub method: &'static str,
    /// The caller's own id for this command (AIP-155).
    pub request_id: String,
    /// The request's content, encoded: the same id with other content is
    /// refused.
    pub content: Vec<u8>,
    /// Keys of the sealed content that this command brings. The first one also
    /// keys the fingerprint of `content`, so that both are forgotten together.
    pub keys: Vec<(DataKey, NewKey)>,
}

/// What a decider wants written, beside its own stream's version.
#[derive(Debug)]
pub struct Decision<E> {
    pub events: Vec<E>,
    /// Events of other streams that belong to the same moment, written before
    /// these; with their versions among the guards.
    pub others: Vec<NewEvent>,
    /// Other streams that were relied upon, at the version that was seen. When
    /// one has moved, the caller gets its [`AppendError::Conflict`].
    pub guards: Vec<Expected>,
    /// See [`Append::not_after`].
    pub not_after: Option<Timestamp>,
}

/// What became of a command, the first time or any time after.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Outcome {
    /// The aggregate's id.
    pub id: String,
    /// The position of the command's first event.
    pub first: u64,
    /// The position of its last event.
    pub position: Position,
    /// The aggregate's version after it.
    pub version: u64,
}

/// Why a command was not done. Nothing was written.
#[derive(Debug, thiserror::Error)]
pub enum CommandError<R> {
    /// The domain says no.
    #[error("{0}")]
    Rejected(R),
    /// The same id was used for something else.
    #[error("this request id was used with other content")]
    ContentDiffers,
    #[error(transparent)]
    Append(#[from] AppendError),
    #[error("the log cannot be read: {0}")]
    Storage(#[from] sqlx::Error),
    #[error(transparent)]
    Seal(#[from] SealError),
    /// A record that this release does not know: a newer one wrote it.
    #[error("record {position} of type {kind} cannot be read")]
    Unreadable { position: u64, kind: String },
}

/// Aggregates of one kind, in one log.
#[derive(Clone)]
pub struct Aggregates<A: Aggregate> {
    log: Log,
    keys: Keyring,
    cache: Cache<String, Arc<Loaded<A>>>,
}

#[derive(Clone, Default)]
struct Loaded<A> {
    state: A,
    version: u64,
}

// === impl NewEvent ===

impl NewEvent {
    /// An event, in the stream that it is of.
    pub fn of(stream: &str, event: &impl Event) -> Self {
        NewEvent { stream: stream.to_owned(), kind: event.kind(), data: event.encode() }
    }
}

// === impl Decision ===

impl<E> From<Vec<E>> for Decision<E> {
    fn from(events: Vec<E>) -> Self {
        Decision { events, others: Vec::new(), guards: Vec::new(), not_after: None }
    }
}

// === impl Aggregates ===

impl<A: Aggregate> Aggregates<A> {
    pub fn new(log: Log, keys: Keyring) -> Self {
        Aggregates { log, keys, cache: Cache::new(CACHED_STATES) }
    }

    /// Does a command on one aggregate. `decide` sees its state and version
    /// (0 for one that does not exist), and may be asked more than once.
    pub async fn execute<R>(
        &self,
        command: Command,
        id: &str,
        decide: impl Fn(&A, u64) -> Result<Decision<A::Event>, R>,
    ) -> Result<Outcome, CommandError<R>> {
        let stream = format!("{}/{id}", A::KIND);
        let mut loaded = match self.cache.get(&stream) {
            Some(cached) => cached,
            None => self.load(&stream, Arc::default()).await?,
        };
        self.decide_and_append(command, stream, &mut loaded, decide).await
    }

    /// Does a command that makes a new aggregate, under an id that nobody
    /// else can have: there is nothing to load.
    pub async fn create<R>(
        &self,
        command: Command,
        id: &str,
        decide: impl Fn(&A, u64) -> Result<Decision<A::Event>, R>,
    ) -> Result<Outcome, CommandError<R>> {
        let stream = format!("{}/{id}", A::KIND);
        self.decide_and_append(command, stream, &mut Arc::default(), decide).await
    }

    /// An aggregate's state and version as they are now.
    pub async fn get<R>(&self, id: &str) -> Result<(A, u64), CommandError<R>> {
        let stream = format!("{}/{id}", A::KIND);
        let known = self.cache.get(&stream).unwrap_or_default();
        let loaded = self.load(&stream, known).await?;
        Ok((loaded.state.clone(), loaded.version))
    }

    async fn decide_and_append<R>(
        &self,
        command: Command,
        stream: String,
        loaded: &mut Arc<Loaded<A>>,
        decide: impl Fn(&A, u64) -> Result<Decision<A::Event>, R>,
    ) -> Result<Outcome, CommandError<R>> {
        let command_id = self.identify(&command).await?;
        for _ in 0..MAX_TRIES {
            let decision = match decide(&loaded.state, loaded.version) {
                Ok(decision) if !decision.events.is_empty() => decision,
                undecided => {
                    // Nothing to write, or a refusal. Both only count on the
                    // newest state, and not for a command that was accepted
                    // before the state moved on.
                    let newest = self.load(&stream, loaded.clone()).await?;
                    if newest.version != loaded.version {
                        *loaded = newest;
                        continue;
                    }
                    if let Some(earlier) = self.log.find_command(&command_id.id).await? {
                        return self.outcome_of(&command, earlier).await;
                    }
                    undecided.map_err(CommandError::Rejected)?;
                    let id = stream.split_once('/').map_or("", |(_, id)| id).to_owned();
                    // As the record there has it: in this process's epoch there
                    // may be none yet.
                    let newest = self.log.newest().await?.unwrap_or_default();
                    return Ok(Outcome {
                        id,
                        first: newest.position,
                        position: newest.to_position(self.log.id()),
                        version: loaded.version,
                    });
                }
            };
            let mut expect = vec![Expected { stream: stream.clone(), version: loaded.version }];
            expect.extend(decision.guards);
            let append = Append {
                actor: command.actor.clone(),
                command: Some(command_id.clone()),
                expect,
                events: decision
                    .others
                    .into_iter()
                    .chain(decision.events.iter().map(|event| NewEvent::of(&stream, event)))
                    .collect(),
                keys: command.keys.iter().map(|(_, new)| new.clone()).collect(),
                not_after: decision.not_after,
            };
            match self.log.append(append).await {
                Ok(appended) if appended.replayed.is_some() => {
                    return self.outcome_of(&command, appended).await;
                }
                Ok(appended) => {
                    let state = decision
                        .events
                        .iter()
                        .fold(loaded.state.clone(), |state, event| state.evolve(event));
                    let version = loaded.version + decision.events.len() as u64;
                    let id = stream.split_once('/').map_or("", |(_, id)| id).to_owned();
                    self.cache.insert(stream, Arc::new(Loaded { state, version }));
                    let last = self.now_at(appended.last);
                    return Ok(Outcome { id, first: appended.first, position: last, version });
                }
                // What else was relied upon is the caller's to look at again.
                Err(AppendError::Conflict { stream: moved, .. }) if moved == stream => {
                    *loaded = self.load(&stream, loaded.clone()).await?;
                }
                Err(error) => return Err(error.into()),
            }
        }
        // Others were first so often that waiting is better than trying.
        Err(AppendError::Overloaded.into())
    }

    /// The state after everything that the stream holds, from what is known.
    async fn load<R>(
        &self,
        stream: &str,
        known: Arc<Loaded<A>>,
    ) -> Result<Arc<Loaded<A>>, CommandError<R>> {
        let mut known = known;
        loop {
            let records = self.log.read_stream(stream, known.version, PAGE).await?;
            let more = records.len() == PAGE;
            if records.is_empty() {
                return Ok(known);
            }
            let mut loaded = Arc::unwrap_or_clone(known);
            for record in records {
                let event = decode::<A::Event>(&record).map_err(|_| unreadable(&record))?;
                let event = event.ok_or_else(|| unreadable(&record))?;
                loaded.state = loaded.state.evolve(&event);
                loaded.version = record.version;
            }
            known = Arc::new(loaded);
            // Page by page, so that a call that gives up has not read in vain.
            self.cache.insert(stream.to_owned(), known.clone());
            if !more {
                return Ok(known);
            }
        }
    }

    async fn identify<R>(&self, command: &Command) -> Result<CommandId, CommandError<R>> {
        let (fingerprint, key_id) = match command.keys.first() {
            Some((key, _)) => (key.fingerprint(&command.content), Some(key.id().to_owned())),
            None => {
                let own = self.keys.fingerprint(None, &command.content).await?;
                (own.unwrap_or_default(), None)
            }
        };
        let mut sha = Sha256::new();
        for part in [&command.actor, command.method, &command.request_id] {
            sha.update((part.len() as u64).to_be_bytes());
            sha.update(part.as_bytes());
        }
        let id = BASE64_URL_SAFE_NO_PAD.encode(sha.finalize());
        Ok(CommandId { id, fingerprint, key_id })
    }

    /// The first result of a command that was accepted before, if this is the
    /// same command.
    async fn outcome_of<R>(
        &self,
        command: &Command,
        appended: Appended,
    ) -> Result<Outcome, CommandError<R>> {
        if let Some(earlier) = &appended.replayed {
            let now = self.keys.fingerprint(earlier.key_id.as_deref(), &command.content).await?;
            // Where the key was destroyed there is nothing to compare with.
            if now.is_some_and(|now| now != earlier.fingerprint) {
                return Err(CommandError::ContentDiffers);
            }
        }
        let count = (appended.last + 1 - appended.first) as usize;
        let records = self.log.read(appended.first - 1, count).await?;
        let own = records.iter().rev().find_map(|record| {
            let id = record.stream.strip_prefix(A::KIND)?.strip_prefix('/')?;
            Some((id, record.version))
        });
        let (id, version) = own.unwrap_or_default();
        // In the epoch in which it was accepted, which may be an earlier one.
        let last = records.last().map_or_else(|| self.now_at(appended.last), |r| position(r));
        Ok(Outcome { id: id.to_owned(), first: appended.first, position: last, version })
    }

    /// A position of this moment's epoch.
    fn now_at(&self, position: u64) -> Position {
        Position { log: self.log.id().to_owned(), epoch: self.log.epoch(), position }
    }
}

/// The event in a record. `None` when it is not one of this service's.
pub fn decode<E: Event>(record: &Record) -> Result<Option<E>, DecodeError> {
    E::decode(&record.r#type, &record.data)
}

/// Whether `kind` names this message.
pub fn is<M: Name>(kind: &str) -> bool {
    kind.strip_prefix(M::PACKAGE).and_then(|rest| rest.strip_prefix('.')) == Some(M::NAME)
}

fn unreadable<R>(record: &Record) -> CommandError<R> {
    CommandError::Unreadable { position: record.position, kind: record.r#type.clone() }
}

/// Makes an enum of protobuf messages an [`Event`].
///
/// ```text
/// events! {
///     /// What happens to a request.
///     pub enum RequestEvent { RequestFiled, StatusChanged }
/// }
/// ```
#[macro_export]
macro_rules! events {
    ($(#[$doc:meta])* pub enum $name:ident { $($event:ident),+ $(,)? }) => {
        $(#[$doc])*
        #[derive(Clone, Debug, PartialEq)]
        pub enum $name { $($event($event)),+ }

        impl $crate::command::Event for $name {
            fn kind(&self) -> String {
                match self { $($name::$event(_) => <$event as ::prost::Name>::full_name()),+ }
            }

            fn encode(&self) -> Vec<u8> {
                match self { $($name::$event(event) => ::prost::Message::encode_to_vec(event)),+ }
            }

            fn decode(kind: &str, data: &[u8]) -> Result<Option<Self>, ::prost::DecodeError> {
                $(if $crate::command::is::<$event>(kind) {
                    let event = <$event as ::prost::Message>::decode(data)?;
                    return Ok(Some($name::$event(event)));
                })+
                Ok(None)
            }
        }

        $(impl From<$event> for $name {
            fn from(event: $event) -> Self { $name::$event(event) }
        })+
    };
}
