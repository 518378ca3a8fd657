//! Figures: once, or as they change.
//!
//! Those who watch the same question share its answer: it is asked anew when
//! something changed, however many watch, and never takes more than a part of
//! the time. Each watcher is sent the groups that differ from what it has.

use std::collections::{BTreeMap, HashMap};
use std::sync::{Arc, Mutex, PoisonError, Weak};
use std::time::Duration;

use prost::Message;
use samen_log::{Cursor, Log, Store};
use samen_proto::log::{CaughtUp, Heartbeat, Position};
use samen_proto::requests::watch_figures_response::Item as Sent;
use samen_proto::requests::*;
use samen_server::access::caller;
use samen_server::calls::wait;
use samen_server::reply::{self, Check};
use samen_server::streams::{Outgoing, outgoing};
use tokio::sync::watch;
use tokio::time::{Instant, sleep, timeout};
use tokio_util::task::AbortOnDropHandle;
use tonic::{Code, Request, Status as Refusal};

use super::filter::filter;
use crate::Requests;
use crate::projection::figures::figures;
use crate::projection::filter::Filter;

/// Different questions that are watched at a time, in one process.
const MAX_QUESTIONS: usize = 100;
/// Changes that follow each other faster than this are told as one.
const COALESCE: Duration = Duration::from_millis(100);
/// How many times as long as answering takes a question then rests: it costs
/// the database a tenth of a connection at most.
const REST: u32 = 9;
/// How often another process's changes are looked for.
const LOOK: Duration = Duration::from_secs(1);

/// The questions that are watched.
#[derive(Clone)]
pub struct Questions {
    log: Log,
    store: Store,
    open: Arc<Mutex<HashMap<Vec<u8>, Weak<Question>>>>,
}

/// A question, for as long as somebody watches it.
struct Question {
    /// `None` until it is answered for the first time.
    answer: watch::Receiver<Option<Arc<Answer>>>,
    _asking: AbortOnDropHandle<()>,
}

#[derive(PartialEq)]
struct Answer {
    at: Cursor,
    figures: BTreeMap<String, Figures>,
}

pub async fn get(
    service: &Requests,
    request: Request<GetStatisticsRequest>,
) -> Result<GetStatisticsResponse, Refusal> {
    let message = request.into_inner();
    let (filter, by) = checked(service, message.filter, message.group_by)?;
    wait(service, message.at_least.as_ref()).await?;
    let figures = figures(&service.store.schema(), &filter, by).await.map_err(reply::storage)?;
    Ok(GetStatisticsResponse { figures })
}

pub async fn watch(
    service: &Requests,
    request: Request<WatchFiguresRequest>,
) -> Result<Outgoing<WatchFiguresResponse>, Refusal> {
    let caller = caller(&request)?;
    let message = request.into_inner();
    let key = message.encode_to_vec();
    let (filter, by) = checked(service, message.filter, message.group_by)?;
    service.check_built()?;
    let question = service.questions.ask(key, filter, by)?;
    let (mut answer, last) = (question.answer.clone(), question.answer.clone());
    let log: Arc<str> = service.log.id().into();
    let id = log.clone();
    let items = async_stream::stream! {
        let _watched = question;
        let mut sent: BTreeMap<String, Figures> = BTreeMap::new();
        let mut caught_up = false;
        loop {
            let now = answer.borrow_and_update().clone();
            if let Some(now) = now {
                for figures in changes(&sent, &now.figures) {
                    yield Ok(item(Sent::Figures(figures)));
                }
                sent.clone_from(&now.figures);
                if !caught_up {
                    caught_up = true;
                    let position = Some(now.at.to_position(&id));
                    yield Ok(item(Sent::CaughtUp(CaughtUp { position })));
                }
            }
            if answer.changed().await.is_err() {
                yield Err(reply::unavailable("figures are not kept up any more"));
                return;
            }
        }
    };
    let at = move || match &*last.borrow() {
        Some(now) => now.at.to_position(&log),
        None => Position::default(),
    };
    let heartbeat = |at| item(Sent::Heartbeat(Heartbeat { position: Some(at) }));
    Ok(outgoing(items, at, heartbeat, &service.deployment, &caller))
}

/// Groups that are not as they were; those that are gone with nothing in them.
fn changes(was: &BTreeMap<String, Figures>, is: &BTreeMap<String, Figures>) -> Vec<Figures> {
    let changed = is.iter().filter(|(group, figures)| was.get(*group) != Some(figures));
    let gone = was.keys().filter(|group| !is.contains_key(*group));
    let nothing = gone.map(|group| Figures { group: group.clone(), ..Figures::default() });
    changed.map(|(_, figures)| figures.clone()).chain(nothing).collect()
}

fn checked(
    service: &Requests,
    asked: Option<RequestFilter>,
    group_by: i32,
) -> Result<(Filter, GroupBy), Refusal> {
    let mut check = Check::default();
    // The contract lets only staff ask.
    let filter = filter(&mut check, &service.words, asked, true);
    let by = GroupBy::try_from(group_by);
    check.require(by.is_ok(), "group_by", "must be one of the contract's values");
    check.finish()?;
    Ok((filter, by.unwrap_or_default()))
}

fn item(item: Sent) -> WatchFiguresResponse {
    WatchFiguresResponse { item: Some(item) }
}

// === impl Questions ===

impl Questions {
    pub fn new(log: Log, store: Store) -> Self {
        Questions { log, store, open: Arc::default() }
    }

    /// The question that this key stands for: one that is watched already, or
    /// a new one.
    fn ask(&self, key: Vec<u8>, filter: Filter, by: GroupBy) -> Result<Arc<Question>, Refusal> {
        let mut open = self.open.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(question) = open.get(&key).and_then(Weak::upgrade) {
            return Ok(question);
        }
        open.retain(|_, question| question.strong_count() > 0);
        if open.len() >= MAX_QUESTIONS {
            let message = "too many different figures are watched; try again later";
            return Err(reply::status(Code::ResourceExhausted, "TOO_MANY_QUESTIONS", message));
        }
        let (send, answer) = watch::channel(None);
        let asking = tokio::spawn(self.clone().keep_up(filter, by, send));
        let question = Arc::new(Question { answer, _asking: AbortOnDropHandle::new(asking) });
        open.insert(key, Arc::downgrade(&question));
        Ok(question)
    }

    /// Answers a question whenever something changed.
    async fn keep_up(self, filter: Filter, by: GroupBy, to: watch::Sender<Option<Arc<Answer>>>) {
        let id = self.log.id();
        loop {
            let began = Instant::now();
            let at = self.store.cursor(id);
            match figures(&self.store.schema(), &filter, by).await {
                Ok(found) => {
                    let figures = found.into_iter().map(|f| (f.group.clone(), f)).collect();
                    to.send_replace(Some(Arc::new(Answer { at: at.clone(), figures })));
                }
                Err(error) => tracing::warn!(%error, "figures cannot be read"),
            }
            sleep((began.elapsed() * REST).max(COALESCE)).await;
            self.changed(&at).await;
        }
    }

    /// Waits until the store is somewhere else, whichever process projects.
    async fn changed(&self, from: &Cursor) {
        let id = self.log.id();
        let mut projected = self.store.watch();
        while self.store.cursor(id) == *from {
            if timeout(LOOK, projected.changed()).await.is_err()
                && let Ok(Some(newest)) = self.log.newest().await
            {
                // Who waits in vain looks again.
                let _: Result<_, _> = timeout(LOOK, self.store.see(id, &newest)).await;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_gone_is_told_with_nothing_in_it() {
        let of = |groups: &[(&str, u64)]| -> BTreeMap<String, Figures> {
            let figures = |(group, open): &(&str, u64)| {
                let group = (*group).to_owned();
                (group.clone(), Figures { group, open: *open, ..Figures::default() })
            };
            groups.iter().map(figures).collect()
        };
        let told =
            changes(&of(&[("a", 1), ("b", 2), ("c", 3)]), &of(&[("a", 1), ("c", 4), ("d", 5)]));
        let told: Vec<_> = told.into_iter().map(|f| (f.group, f.open)).collect();
        assert_eq!(told, [("c".into(), 4), ("d".into(), 5), ("b".into(), 0)]);
    }
}
