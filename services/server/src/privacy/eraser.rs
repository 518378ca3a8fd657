//! Carries out what was asked: a reconciler that follows its own log.
//!
//! For each [`PersonForgotten`] and [`TextRedacted`], in order: the keys go on
//! the list that is kept apart from backups, then they are destroyed, then each
//! stream's [`ContentErased`] is appended, then [`ErasuresCompleted`], which is
//! also where the next process goes on. Each step may be done twice, and what
//! is appended has an id that is made from what asked for it: whoever crashes
//! in between, and however many processes do it at once, it is done once.

use std::collections::{BTreeMap, BTreeSet};
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use futures::{StreamExt, TryStreamExt};
use prost::{Message, Name};
use samen_log::command::{decode, is};
use samen_log::scan::Wanted;
use samen_log::{
    Append, Appended, CommandId, Cursor, Follow, Item, Keyring, Log, NewEvent, Record, Task, Tasks,
    destroyed,
};
use samen_proto::operations::TaskKind;
use samen_proto::privacy::{
    ContentErased, ErasureReason, ErasuresCompleted, PersonForgotten, TextRedacted,
};
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

use super::content::{self, person_key};
use super::{DestroyedList, Failure, SpokeForThemselves};

/// Where it stands how far everything was carried out.
const COMPLETED: &str = "eraser/completed";
/// Who makes these records.
const ACTOR: &str = "eraser";
/// What is carried out together at most.
const BATCH: usize = 200;
/// Streams that are told at the same time.
const TELLING: usize = 32;
/// Records of a stream read at once.
const PAGE: usize = 500;
/// How long it rests after a failure: at first, and at most.
pub const BACK_OFF: [Duration; 2] = [Duration::from_millis(250), Duration::from_secs(30)];

samen_log::events! {
    /// What there is to carry out.
    pub enum Intent { PersonForgotten, TextRedacted }
}

/// Carries out what one log asks.
pub struct Eraser {
    pub log: Log,
    pub keyring: Keyring,
    pub destroyed: DestroyedList,
    spoke: SpokeForThemselves,
    task: Task,
    /// Everything up to here was carried out.
    done: Arc<watch::Sender<u64>>,
}

/// How far everything was carried out, for those who wait for it.
#[derive(Clone)]
pub struct Done {
    log: Log,
    done: Arc<watch::Sender<u64>>,
}

/// What has to go, by stream.
pub type Keys = BTreeMap<String, BTreeSet<String>>;

// === impl Eraser ===

impl Eraser {
    /// Goes on where the log says that everything was carried out.
    pub async fn new(
        log: &Log,
        keyring: &Keyring,
        destroyed: DestroyedList,
        spoke: SpokeForThemselves,
        tasks: &Tasks,
    ) -> Result<Self, Failure> {
        let done = completed(log).await?.map_or(0, |completed| completed.position);
        Ok(Eraser {
            log: log.clone(),
            keyring: keyring.clone(),
            destroyed,
            spoke,
            task: tasks.add(TaskKind::Eraser, "eraser"),
            done: Arc::new(watch::Sender::new(done)),
        })
    }

    /// For those who wait until something was carried out.
    pub fn done(&self) -> Done {
        Done { log: self.log.clone(), done: self.done.clone() }
    }

    /// Carries out whatever the log asks, until `shutdown`.
    pub async fn run(self, shutdown: CancellationToken) {
        let [first, longest] = BACK_OFF;
        let mut rest = first;
        loop {
            let before = *self.done.borrow();
            let failed = tokio::select! {
                () = shutdown.cancelled() => return,
                result = self.pass() => result,
            };
            if let Err(error) = failed {
                tracing::error!(log = self.log.id(), %error, "an erasure is not carried out yet");
                self.task.failed(error);
            }
            rest = if *self.done.borrow() == before { (rest * 2).min(longest) } else { first };
            tokio::select! {
                () = shutdown.cancelled() => return,
                () = tokio::time::sleep(rest) => {}
            }
        }
    }

    /// Follows from what the log says until something fails.
    async fn pass(&self) -> Result<(), Failure> {
        let seen = self.catch_up().await?;
        self.task.running();
        let mut batches = self.log.follow(seen).ready_chunks(BATCH);
        while let Some(items) = batches.next().await {
            let mut intents = Vec::new();
            for item in items {
                match item? {
                    Item::Record(record) => {
                        self.task.saw(self.log.id(), &Cursor::at(&record), self.log.head());
                        if is_intent(&record) {
                            intents.push(record);
                        }
                    }
                    Item::CaughtUp(at) => self.task.saw(self.log.id(), &at, self.log.head()),
                }
            }
            self.carry_out(&intents).await?;
        }
        Ok(())
    }

    /// Carries out what was asked and is not done. Gives where the log stood.
    pub async fn catch_up(&self) -> Result<Cursor, Failure> {
        let Some(newest) = self.log.newest().await? else { return Ok(Cursor::START) };
        let kinds = [PersonForgotten::full_name(), TextRedacted::full_name()];
        let done = *self.done.borrow();
        let pages = self.log.scan(Wanted::Kinds(kinds.into()), done, newest.position);
        let mut pages = pin!(pages);
        while let Some(page) = pages.try_next().await? {
            for intents in page.records.chunks(BATCH) {
                self.carry_out(intents).await?;
            }
        }
        Ok(newest)
    }

    async fn carry_out(&self, intents: &[Arc<Record>]) -> Result<(), Failure> {
        if intents.is_empty() {
            return Ok(());
        }
        let mut plans = Vec::new();
        for intent in intents {
            let (keys, reason) = self.plan(intent).await?;
            plans.push((intent, keys, reason));
        }
        let of_all = plans.iter().flat_map(|(_, keys, reason)| {
            keys.values().flatten().map(|key| (key.clone(), *reason))
        });
        self.destroy(of_all.collect()).await?;
        for (intent, keys, reason) in plans {
            let id = format!("{} {} {}", intent.log, intent.epoch, intent.position);
            let gone = tell(&self.log, &id, &keys, reason).await?;
            complete(&self.log, &id, intent.position, gone).await?;
            self.done.send_if_modified(|done| {
                let further = intent.position > *done;
                *done = intent.position.max(*done);
                further
            });
        }
        Ok(())
    }

    /// Which keys have to go, and why.
    async fn plan(&self, intent: &Record) -> Result<(Keys, ErasureReason), Failure> {
        let decoded = decode::<Intent>(intent).map_err(|_| content::unreadable(intent))?;
        match decoded.ok_or_else(|| content::unreadable(intent))? {
            Intent::PersonForgotten(forgotten) => {
                let person = &forgotten.person;
                // What is recorded since is not what was asked about, nor was
                // it looked at whether it must be kept.
                let up_to = match forgotten.up_to {
                    0 => intent.position,
                    checked => checked,
                };
                let own = person_key(person);
                let mut keys = Keys::from([(own.clone(), BTreeSet::from([own]))]);
                for held in content::of_person(&self.log, person, self.spoke, up_to).await? {
                    let stream = keys.entry(held.record.stream.clone()).or_default();
                    stream.insert(held.content.sealed.key_id);
                }
                Ok((keys, forgotten.reason()))
            }
            Intent::TextRedacted(redacted) => {
                let reason = redacted.reason();
                let keys = redacted.key_ids.into_iter().collect();
                Ok((Keys::from([(redacted.stream, keys)]), reason))
            }
        }
    }

    /// Puts keys on the list, and destroys them.
    async fn destroy(&self, keys: BTreeMap<String, ErasureReason>) -> Result<(), Failure> {
        let (path, log) = (self.destroyed.path.clone(), self.log.id().to_owned());
        let listed = keys.clone();
        let write = tokio::task::spawn_blocking(move || {
            let keys = listed.iter().map(|(key, reason)| (key.as_str(), named(*reason)));
            destroyed::append(&path, &log, keys)
        });
        match write.await.map_err(std::io::Error::other)? {
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
                return Err(self.destroyed.missing(self.log.id()));
            }
            written => written?,
        }
        self.keyring.destroy(keys.keys().map(String::as_str)).await?;
        Ok(())
    }
}

// === impl Done ===

impl Done {
    /// Waits until an intent was carried out, in this process or another. The
    /// caller bounds it.
    pub async fn wait(&self, intent: u64) {
        let mut done = self.done.subscribe();
        // Fails only without an eraser.
        let _ = done.wait_for(|done| *done >= intent).await;
    }

    /// Up to where everything was carried out, as far as this process knows.
    pub fn position(&self) -> u64 {
        *self.done.borrow()
    }

    /// The record that says so, where the intent was carried out.
    pub async fn mark(&self, intent: &Record) -> Result<Option<Arc<Record>>, Failure> {
        let id = format!("{} {} {}", intent.log, intent.epoch, intent.position);
        let Some(mark) = self.log.find_command(&completed_id(&id)).await? else { return Ok(None) };
        Ok(self.log.read(mark.last - 1, 1).await?.pop())
    }
}

/// Tells whoever follows that these keys are gone, each stream once. Gives how
/// many were told of by this, now or before a crash, and sealed something: not
/// those that went before, nor a person's own key that nothing stands under.
pub async fn tell(
    log: &Log,
    id: &str,
    keys: &Keys,
    reason: ErasureReason,
) -> Result<usize, Failure> {
    let telling = keys.clone().into_iter().map(|(stream, keys)| async move {
        let told = told(log, &stream).await?;
        let key_ids: Vec<String> = keys.difference(&told).cloned().collect();
        let (id, to) = (format!("erase {id} {stream}"), erasure(&stream));
        let seals = !stream.starts_with("person/");
        let told = if key_ids.is_empty() {
            log.find_command(&id).await?
        } else {
            let erased = ContentErased { stream, key_ids, reason: reason.into() };
            Some(append(log, id, &to, &erased).await?)
        };
        let Some(told) = told.filter(|_| seals) else { return Ok(Vec::new()) };
        let record = log.read(told.last - 1, 1).await?.pop();
        let record = record.ok_or(sqlx::Error::RowNotFound)?;
        let erased = ContentErased::decode(record.data.as_slice());
        Ok::<_, Failure>(erased.map_err(|_| content::unreadable(&record))?.key_ids)
    });
    let told = futures::stream::iter(telling).buffer_unordered(TELLING);
    let keys = told.try_fold(BTreeSet::new(), |mut all, keys| async move {
        all.extend(keys);
        Ok(all)
    });
    Ok(keys.await?.len())
}

/// Says that everything up to this position was carried out.
pub async fn complete(log: &Log, id: &str, position: u64, keys: usize) -> Result<(), Failure> {
    let completed = ErasuresCompleted { position, keys: keys as u64 };
    append(log, completed_id(id), COMPLETED, &completed).await.map(drop)
}

/// How far everything was carried out, as the log says, and the epoch in which
/// it says so.
pub async fn completed(log: &Log) -> Result<Option<Completed>, Failure> {
    let Some(record) = log.last(COMPLETED).await? else { return Ok(None) };
    let completed = ErasuresCompleted::decode(record.data.as_slice())
        .map_err(|_| content::unreadable(&record))?;
    let ErasuresCompleted { position, keys } = completed;
    Ok(Some(Completed { position, keys, epoch: record.epoch }))
}

/// See [`completed`].
pub struct Completed {
    pub position: u64,
    /// How many keys went for the last that was carried out.
    pub keys: u64,
    pub epoch: u64,
}

/// The keys that a stream's followers were told about.
async fn told(log: &Log, stream: &str) -> Result<BTreeSet<String>, Failure> {
    let mut told = BTreeSet::new();
    let mut version = 0;
    loop {
        let records = log.read_stream(&erasure(stream), version, PAGE).await?;
        for record in &records {
            let erased = ContentErased::decode(record.data.as_slice())
                .map_err(|_| content::unreadable(record))?;
            told.extend(erased.key_ids);
            version = record.version;
        }
        if records.len() < PAGE {
            return Ok(told);
        }
    }
}

async fn append(
    log: &Log,
    id: String,
    stream: &str,
    event: &impl Name,
) -> Result<Appended, Failure> {
    let append = Append {
        actor: ACTOR.to_owned(),
        command: Some(CommandId { id, fingerprint: Vec::new(), key_id: None }),
        events: vec![new_event(stream, event)],
        ..Append::default()
    };
    Ok(log.append(append).await?)
}

/// An event to append to a stream.
pub fn new_event<M: Name>(stream: &str, event: &M) -> NewEvent {
    NewEvent { stream: stream.to_owned(), kind: M::full_name(), data: event.encode_to_vec() }
}

/// Whether a record asks for something to be carried out.
fn is_intent(record: &Record) -> bool {
    is::<PersonForgotten>(&record.r#type) || is::<TextRedacted>(&record.r#type)
}

fn erasure(stream: &str) -> String {
    format!("erasure/{stream}")
}

fn completed_id(id: &str) -> String {
    format!("erased {id}")
}

/// A reason as the list of destroyed keys has it.
fn named(reason: ErasureReason) -> &'static str {
    match reason {
        ErasureReason::Request | ErasureReason::Unspecified => "request",
        ErasureReason::Retention => "retention",
        ErasureReason::Redaction => "redaction",
        ErasureReason::Restored => "restored",
    }
}
