//! Asks for what has been kept long enough to be erased: a reconciler that
//! looks now and then, also after a time in which nothing ran. What it asks
//! stands in the log like what an officer asks, and the eraser carries it out.
//!
//! A term goes through the records that its texts stand in, each once it can be
//! due. One that then has to wait, because something must be kept or is not
//! closed for that long, is remembered until it is looked at again.

use std::collections::{BTreeMap, BTreeSet};
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
use uuid::Uuid;

use super::asking::MAX_KEYS;
use super::content::{self, Held};
use super::eraser::new_event;
use super::holds::{Holds, Register};
use super::passes::{Pass, Rule};
use super::requests::Redaction;
use super::retention::{Retention, began};
use super::{Closing, Failure, SpokeForThemselves};

/// How often it looks at most and at least; in between as often as the
/// shortest term.
const EVERY: [Duration; 2] = [Duration::from_secs(1), Duration::from_secs(3600)];
/// Streams that something is asked of at the same time.
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
    passes: Vec<Pass>,
}

/// Texts, and from when on they are asked for.
type Texts = Vec<(Timestamp, Held)>;
/// When to look at a record again, by its position.
type Waits = BTreeMap<u64, Timestamp>;

impl Expiry {
    pub fn new(
        log: &Log,
        keyring: &Keyring,
        retention: Arc<Retention>,
        holds: Register,
        spoke: SpokeForThemselves,
        closing: &[Closing],
        tasks: &Tasks,
    ) -> Self {
        Expiry {
            log: log.clone(),
            keyring: keyring.clone(),
            passes: Pass::all(&retention, closing),
            retention,
            holds,
            spoke,
            task: tasks.add(TaskKind::Eraser, "retention"),
        }
    }

    /// Looks until `shutdown`.
    pub async fn run(mut self, shutdown: CancellationToken) {
        let [shortest, longest] = EVERY;
        let every = self.retention.shortest().unwrap_or(longest).clamp(shortest, longest);
        let mut passes = std::mem::take(&mut self.passes);
        loop {
            let looked = tokio::select! {
                () = shutdown.cancelled() => return,
                looked = self.look(&mut passes) => looked,
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

    async fn look(&self, passes: &mut [Pass]) -> Result<(), Failure> {
        let now = Timestamp::now();
        let head = self.log.newest().await?.map_or(0, |newest| newest.position);
        for pass in passes {
            self.ask_again(pass, now).await?;
            self.go_on(pass, head, now).await?;
        }
        Ok(())
    }

    /// Asks for what was seen before, and is to be looked at by now.
    async fn ask_again(&self, pass: &mut Pass, now: Timestamp) -> Result<(), Failure> {
        let mut again = Waits::new();
        let mut asked = Ok(());
        while asked.is_ok() {
            let due = pass.due(now);
            if due.is_empty() {
                break;
            }
            match self.ask_at(&pass.rule, due.keys().copied(), now).await {
                Ok(waits) => again.extend(waits),
                Err(error) => {
                    again.extend(due);
                    asked = Err(error);
                }
            }
        }
        pass.wait(again);
        asked
    }

    /// Asks for what is due in the records that were not seen yet. Where they
    /// come in the order in which they are due, it looks no further than the
    /// first that is not.
    async fn go_on(&self, pass: &mut Pass, head: u64, now: Timestamp) -> Result<(), Failure> {
        let kinds = Wanted::Kinds(pass.kinds.clone());
        let mut pages = pin!(self.log.scan(kinds, pass.seen, head));
        while let Some(page) = pages.try_next().await? {
            let (mut due, mut seen, mut later) = (Vec::new(), page.seen, Waits::new());
            for record in page.records {
                let when = pass.rule.soonest(&record);
                if when <= now {
                    due.push(record);
                } else if pass.of_the_past {
                    later.insert(record.position, when);
                } else {
                    seen = record.position - 1;
                    break;
                }
            }
            later.extend(self.ask(&pass.rule, due, now).await?);
            pass.wait(later);
            pass.seen = seen;
            if seen < page.seen {
                break;
            }
        }
        Ok(())
    }

    /// Asks for what a rule is about in the records at these positions.
    async fn ask_at(
        &self,
        rule: &Rule,
        positions: impl Iterator<Item = u64>,
        now: Timestamp,
    ) -> Result<Waits, Failure> {
        let mut records = Vec::new();
        for position in positions {
            records.extend(self.log.read(position - 1, 1).await?);
        }
        self.ask(rule, records, now).await
    }

    /// The same of these records. Gives those that have to wait.
    async fn ask(
        &self,
        rule: &Rule,
        records: Vec<Arc<Record>>,
        now: Timestamp,
    ) -> Result<Waits, Failure> {
        let about: BTreeSet<u64> = records.iter().map(|record| record.position).collect();
        // First: who opens or holds something from here on is noticed by these.
        let (holds, guard) = self.holds.read().await.map_err(failure)?;
        let held = self.held(rule, &records).await?;
        let (texts, versions) = match rule {
            Rule::Field(_) => (held.into_iter().map(|held| (now, held)).collect(), BTreeMap::new()),
            Rule::Closed(..) => self.of_streams(rule, held, now).await?,
        };
        let mut waits = Waits::new();
        let mut free: BTreeMap<String, Vec<Held>> = BTreeMap::new();
        for (when, held) in texts {
            let when = if when <= now && self.is_held(&held, &holds, now).await? {
                Some(now)
            } else {
                Some(when).filter(|when| *when > now)
            };
            match when {
                Some(when) => wait(&mut waits, held.record.position, when),
                None => free.entry(held.record.stream.clone()).or_default().push(held),
            }
        }
        let asking = free.into_iter().map(|(stream, texts)| {
            let mut expect = vec![guard.clone()];
            let version = versions.get(&stream).copied();
            expect.extend(version.map(|version| Expected { stream: stream.clone(), version }));
            self.redact(stream, texts, expect)
        });
        let lost = futures::stream::iter(asking).buffer_unordered(ASKING);
        for held in lost.try_concat().await? {
            wait(&mut waits, held.record.position, now);
        }
        // Others are due, or wait, by their own record.
        waits.retain(|position, _| about.contains(position));
        Ok(waits)
    }

    /// What a rule is about in records, and is not erased already.
    async fn held(&self, rule: &Rule, records: &[Arc<Record>]) -> Result<Vec<Held>, Failure> {
        let mut held = Vec::new();
        for record in records {
            // A person's own key ends with the person, not with a record.
            let texts = content::of(record)?.into_iter().filter(|content| {
                rule.covers(record, &content.field) && !content.sealed.key_id.starts_with("person/")
            });
            held.extend(texts.map(|content| Held { record: record.clone(), content }));
        }
        let keys = held.iter().map(|held| held.content.sealed.key_id.as_str());
        let alive = self.keyring.alive(keys).await?;
        held.retain(|held| alive.contains(&held.content.sealed.key_id));
        Ok(held)
    }

    /// All texts of the streams that these stand in, for a rule about closed
    /// ones; and the versions at which the streams are closed.
    async fn of_streams(
        &self,
        rule: &Rule,
        held: Vec<Held>,
        now: Timestamp,
    ) -> Result<(Texts, BTreeMap<String, u64>), Failure> {
        let (mut texts, mut versions) = (Texts::new(), BTreeMap::new());
        let streams: BTreeSet<_> =
            held.into_iter().map(|held| held.record.stream.clone()).collect();
        for stream in streams {
            let records = content::stream(&self.log, &stream).await?;
            let closed = rule.closed_since(&records);
            for held in self.held(rule, &records).await? {
                let due = match closed {
                    Some(since) => rule.after(since.max(began(&held.record))),
                    // It cannot be closed for so long before then.
                    None => rule.after(now),
                };
                let kept = self.retention.kept_until(&held.record, &held.content.field);
                texts.push((kept.map_or(due, |(until, _)| due.max(until)), held));
            }
            versions.insert(stream, records.last().map_or(0, |last| last.version));
        }
        Ok((texts, versions))
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

    /// Asks for texts of one stream. Gives those that were not asked for,
    /// because what was relied upon has changed.
    async fn redact(
        &self,
        of: String,
        texts: Vec<Held>,
        expect: Vec<Expected>,
    ) -> Result<Vec<Held>, Failure> {
        let stream = format!("{}/{of}", Redaction::KIND);
        for texts in texts.chunks(MAX_KEYS) {
            let keys = texts.iter().map(|held| held.content.sealed.key_id.clone());
            let redacted = TextRedacted {
                stream: of.clone(),
                key_ids: keys.collect(),
                reason: ErasureReason::Retention.into(),
            };
            // The same texts are asked for once, whoever finds them.
            let texts_id =
                Uuid::new_v5(&Uuid::NAMESPACE_OID, redacted.key_ids.join(" ").as_bytes());
            let id = format!("{ACTOR} {of} {texts_id}");
            let append = Append {
                actor: ACTOR.to_owned(),
                command: Some(CommandId { id, fingerprint: Vec::new(), key_id: None }),
                expect: expect.clone(),
                events: vec![new_event(&stream, &redacted)],
                ..Append::default()
            };
            match self.log.append(append).await {
                Ok(_) => {}
                Err(AppendError::Conflict { .. }) => return Ok(texts.to_vec()),
                Err(error) => return Err(error.into()),
            }
        }
        Ok(Vec::new())
    }
}

/// Looks at a record again as soon as one of its texts is due.
fn wait(waits: &mut Waits, position: u64, when: Timestamp) {
    waits.entry(position).and_modify(|soonest| *soonest = when.min(*soonest)).or_insert(when);
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
