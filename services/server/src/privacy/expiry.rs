//! Asks for what has been kept long enough to be erased: a reconciler that
//! looks now and then, also after a time in which nothing ran. What it asks
//! stands in the log like what an officer asks, and the eraser carries it out.

use std::cmp::Reverse;
use std::collections::{BinaryHeap, HashMap, HashSet};
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use futures::{StreamExt, TryStreamExt};
use jiff::Timestamp;
use samen_log::scan::Wanted;
use samen_log::{
    Aggregate, Append, AppendError, CommandError, CommandId, Expected, Keyring, Log, Record, Task,
    Tasks,
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
/// Records that are due, looked at together.
const PAGE: usize = 100;
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
    /// How far each term is, by event and field.
    at: HashMap<(String, String), At>,
}

/// How far one term is.
#[derive(Default)]
struct At {
    /// Up to where nothing is left, but for what waits.
    seen: u64,
    /// When what was seen is due, and where it stands; the soonest first.
    waiting: BinaryHeap<Reverse<(Timestamp, u64)>>,
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
            at: HashMap::new(),
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
            let mut at = self.at.remove(&name).unwrap_or_default();
            let asked = if term.is_of_the_past() {
                self.ask_in_any_order(retention, term, &mut at, head, now).await
            } else {
                self.ask_in_order(retention, term, &mut at, head, now).await
            };
            self.at.insert(name, at);
            asked?;
        }
        Ok(())
    }

    /// Asks for what is due under a term whose records come in the order in
    /// which they are due: looks no further than the first that is not.
    async fn ask_in_order(
        &self,
        retention: &Retention,
        term: &Term,
        at: &mut At,
        head: u64,
        now: Timestamp,
    ) -> Result<(), Failure> {
        let mut left = false;
        let kinds = Wanted::Kinds(vec![term.event.clone()]);
        let mut pages = pin!(self.log.scan(kinds, at.seen, head));
        while let Some(page) = pages.try_next().await? {
            let count = page.records.len();
            let due: Vec<_> = page
                .records
                .into_iter()
                .take_while(|record| retention.erased_at(term, record) <= now)
                .collect();
            let all = due.len() == count;
            left |= !self.ask(term, due, now).await?.is_empty() || !all;
            if !left {
                at.seen = page.seen;
            }
            if !all {
                break;
            }
        }
        Ok(())
    }

    /// The same for one whose records say themselves when they were: each is
    /// looked at once, and remembered until it is due.
    async fn ask_in_any_order(
        &self,
        retention: &Retention,
        term: &Term,
        at: &mut At,
        head: u64,
        now: Timestamp,
    ) -> Result<(), Failure> {
        let kinds = Wanted::Kinds(vec![term.event.clone()]);
        let mut pages = pin!(self.log.scan(kinds, at.seen, head));
        while let Some(page) = pages.try_next().await? {
            let due = page
                .records
                .iter()
                .map(|record| Reverse((retention.erased_at(term, record), record.position)));
            at.waiting.extend(due);
            at.seen = page.seen;
        }
        let mut held = Vec::new();
        let mut asked = Ok(());
        while asked.is_ok() {
            let mut due = Vec::new();
            let is_due = |Reverse((when, _)): &Reverse<(Timestamp, u64)>| *when <= now;
            while due.len() < PAGE && at.waiting.peek().is_some_and(is_due) {
                due.extend(at.waiting.pop().map(|Reverse(next)| next));
            }
            if due.is_empty() {
                break;
            }
            let positions = due.iter().map(|(_, position)| *position);
            match self.ask_at(term, positions.collect(), now).await {
                Ok(kept) => held.extend(due.into_iter().filter(|(_, at)| kept.contains(at))),
                Err(error) => {
                    held.extend(due);
                    asked = Err(error);
                }
            }
        }
        at.waiting.extend(held.into_iter().map(Reverse));
        asked
    }

    /// Asks for what a term is about in the records at these positions. Gives
    /// where a hold keeps it.
    async fn ask_at(
        &self,
        term: &Term,
        positions: Vec<u64>,
        now: Timestamp,
    ) -> Result<HashSet<u64>, Failure> {
        let mut records = Vec::with_capacity(positions.len());
        for position in positions {
            records.extend(self.log.read(position - 1, 1).await?);
        }
        self.ask(term, records, now).await
    }

    /// The same of these records.
    async fn ask(
        &self,
        term: &Term,
        due: Vec<Arc<Record>>,
        now: Timestamp,
    ) -> Result<HashSet<u64>, Failure> {
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
        let mut kept = HashSet::new();
        let mut free = Vec::new();
        for held in held {
            if self.is_held(&held, &holds, now).await? {
                kept.insert(held.record.position);
            } else {
                free.push(held);
            }
        }
        futures::stream::iter(free.into_iter().map(|held| self.redact(held, term, &guard)))
            .buffer_unordered(ASKING)
            .try_collect::<()>()
            .await?;
        Ok(kept)
    }

    /// Whether a hold keeps it for now.
    async fn is_held(&self, held: &Held, holds: &Holds, now: Timestamp) -> Result<bool, Failure> {
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
