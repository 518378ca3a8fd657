//! Asks for what has been kept long enough to be erased: a reconciler that
//! looks now and then, also after a time in which nothing ran. What it asks
//! stands in the log like what an officer asks, and the eraser carries it out.

use std::collections::HashMap;
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use futures::{StreamExt, TryStreamExt};
use jiff::Timestamp;
use samen_log::scan::Wanted;
use samen_log::{
    Aggregate, Append, AppendError, CommandError, CommandId, Expected, Keyring, Log, Task, Tasks,
};
use samen_proto::operations::TaskKind;
use samen_proto::privacy::{ErasureReason, TextRedacted};
use tokio_util::sync::CancellationToken;

use super::content::{self, Held};
use super::eraser::new_event;
use super::holds::{Holds, Register};
use super::requests::Redaction;
use super::retention::{Retention, Term};
use super::{Failure, SpokeForThemselves};

/// How often it looks at most and at least; in between as often as the
/// shortest term.
const EVERY: [Duration; 2] = [Duration::from_secs(1), Duration::from_secs(3600)];
/// What is asked at the same time.
const ASKING: usize = 64;
/// Who makes these records.
const ACTOR: &str = "retention";

/// Looks after the terms of one log.
pub struct Expiry {
    log: Log,
    keyring: Keyring,
    retention: Arc<Retention>,
    holds: Register,
    spoke: SpokeForThemselves,
    task: Task,
    /// Up to where nothing is left of a term, by event and field.
    seen: HashMap<(String, String), u64>,
}

impl Expiry {
    pub fn new(
        log: &Log,
        keyring: &Keyring,
        retention: Arc<Retention>,
        holds: Register,
        spoke: SpokeForThemselves,
        tasks: &Tasks,
    ) -> Self {
        Expiry {
            log: log.clone(),
            keyring: keyring.clone(),
            retention,
            holds,
            spoke,
            task: tasks.add(TaskKind::Eraser, "retention"),
            seen: HashMap::new(),
        }
    }

    /// Looks until `shutdown`.
    pub async fn run(mut self, shutdown: CancellationToken) {
        let [shortest, longest] = EVERY;
        let retention = self.retention.clone();
        let every = retention.shortest().unwrap_or(longest).clamp(shortest, longest);
        loop {
            let looked = tokio::select! {
                () = shutdown.cancelled() => return,
                looked = self.look(&retention) => looked,
            };
            match looked {
                Ok(()) => self.task.running(),
                Err(error) => {
                    tracing::error!(log = self.log.id(), %error, "terms are not looked after");
                    self.task.failed(error);
                }
            }
            tokio::select! {
                () = shutdown.cancelled() => return,
                () = tokio::time::sleep(every) => {}
            }
        }
    }

    async fn look(&mut self, retention: &Retention) -> Result<(), Failure> {
        let now = Timestamp::now();
        let head = self.log.newest().await?.map_or(0, |newest| newest.position);
        for term in retention.erasing() {
            let name = (term.event.clone(), term.field.clone());
            let after = self.seen.get(&name).copied().unwrap_or_default();
            let seen = self.ask(retention, term, after, head, now).await?;
            self.seen.insert(name, seen);
        }
        Ok(())
    }

    /// Asks for what is due under a term. Gives up to where nothing is left.
    async fn ask(
        &self,
        retention: &Retention,
        term: &Term,
        after: u64,
        head: u64,
        now: Timestamp,
    ) -> Result<u64, Failure> {
        let mut seen = after;
        let mut left = false;
        let kinds = Wanted::Kinds(vec![term.event.clone()]);
        let mut pages = pin!(self.log.scan(kinds, after, head));
        while let Some(page) = pages.try_next().await? {
            let count = page.records.len();
            let due: Vec<_> = page
                .records
                .into_iter()
                .take_while(|record| retention.erased_at(term, record) <= now)
                .collect();
            let all = due.len() == count;
            let mut held = Vec::new();
            for record in due {
                // A person's own key ends with the person, not with a record.
                let of_term = content::of(&record)?.into_iter().filter(|content| {
                    content.field == term.field && !content.sealed.key_id.starts_with("person/")
                });
                held.extend(of_term.map(|content| Held { record: record.clone(), content }));
            }
            // What is erased already was asked for before.
            let keys = held.iter().map(|held| held.content.sealed.key_id.as_str());
            let alive = self.keyring.alive(keys).await?;
            held.retain(|held| alive.contains(&held.content.sealed.key_id));
            let (holds, guard) = self.holds.read().await.map_err(failure)?;
            let mut free = Vec::new();
            for held in held {
                if self.is_held(&held, &holds, now).await? {
                    left = true;
                } else {
                    free.push(held);
                }
            }
            left |= !all;
            futures::stream::iter(free.into_iter().map(|held| self.redact(held, term, &guard)))
                .buffer_unordered(ASKING)
                .try_collect::<()>()
                .await?;
            if !left {
                seen = page.seen;
            }
            if !all {
                break;
            }
        }
        Ok(seen)
    }

    /// Whether a hold keeps it for now.
    async fn is_held(
        &self,
        held: &Held,
        holds: &Holds,
        now: Timestamp,
    ) -> Result<bool, Failure> {
        if holds.active(now).next().is_none() {
            return Ok(false);
        }
        let Held { record, .. } = held;
        let speaker = (self.spoke)(record).then(|| record.actor.clone());
        let beginner = content::beginner(&self.log, &record.stream, self.spoke).await?;
        let people = [speaker, beginner];
        let stream = [record.stream.as_str()];
        Ok(people.iter().any(|person| holds.on(now, person.as_deref(), stream).is_some()))
    }

    async fn redact(&self, held: Held, term: &Term, guard: &Expected) -> Result<(), Failure> {
        let Held { record, content } = held;
        let redacted = TextRedacted {
            stream: record.stream.clone(),
            key_ids: vec![content.sealed.key_id.clone()],
            reason: ErasureReason::Retention.into(),
        };
        let stream = format!("{}/{}", Redaction::KIND, record.stream);
        let id = format!("{ACTOR} {} {} {}", record.log, record.position, term.field);
        let append = Append {
            actor: ACTOR.to_owned(),
            command: Some(CommandId { id, fingerprint: Vec::new(), key_id: None }),
            expect: vec![guard.clone()],
            events: vec![new_event(&stream, &redacted)],
            ..Append::default()
        };
        self.log.append(append).await?;
        Ok(())
    }
}

fn failure(error: CommandError<std::convert::Infallible>) -> Failure {
    match error {
        CommandError::Append(error) => error.into(),
        CommandError::Storage(error) => error.into(),
        CommandError::Seal(error) => error.into(),
        CommandError::Unreadable { position, kind } => Failure::Unreadable { position, kind },
        CommandError::Rejected(never) => match never {},
        // Nothing was asked here that has a content.
        CommandError::ContentDiffers => AppendError::Empty.into(),
    }
}
