//! What one reactor shows that is many tasks: one for each source, or for each
//! agreement and source.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Mutex, MutexGuard, PoisonError};

use samen_log::{Cursor, Task};

use super::ReactError;

/// How far each of its tasks is, by log and agreement.
pub struct Progress {
    task: Task,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    seen: BTreeMap<String, BTreeMap<String, Cursor>>,
    failing: BTreeSet<(String, String)>,
}

impl Progress {
    pub fn new(task: Task) -> Self {
        Progress { task, state: Mutex::default() }
    }

    /// This much of a log was dealt with for this agreement. What is shown is
    /// the one that is furthest behind.
    pub fn saw(&self, log: &str, agreement: &str, cursor: Cursor) {
        let mut state = self.lock();
        if state.failing.remove(&(log.to_owned(), agreement.to_owned())) && state.failing.is_empty()
        {
            self.task.running();
        }
        let seen = state.seen.entry(log.to_owned()).or_default();
        seen.insert(agreement.to_owned(), cursor);
        let order = |cursor: &&Cursor| (cursor.epoch, cursor.position);
        if let (Some(last), Some(first)) =
            (seen.values().min_by_key(order), seen.values().max_by_key(order))
        {
            self.task.saw(log, last, first.position);
        }
    }

    /// It failed there, and begins again. Where others were faster, it only has
    /// to look again.
    pub fn failed(&self, log: &str, agreement: &str, error: &ReactError) {
        if error.is_elsewhere() {
            return;
        }
        let task = self.task.shown().name;
        tracing::warn!(%error, task, log, agreement, "a reactor begins again");
        self.lock().failing.insert((log.to_owned(), agreement.to_owned()));
        self.task.failed(error);
    }

    /// Nothing more is done for this agreement.
    pub fn ended(&self, log: &str, agreement: &str) {
        let mut state = self.lock();
        if let Some(seen) = state.seen.get_mut(log) {
            seen.remove(agreement);
        }
        state.failing.remove(&(log.to_owned(), agreement.to_owned()));
    }

    /// A source goes on from here in another history.
    pub fn restored(&self, log: &str, at: &Cursor) {
        let (task, position) = (self.task.shown().name, at.position);
        tracing::warn!(task, log, position, "a source was restored");
        self.task.note(format!(
            "{log} was restored from a backup; it goes on after position {position}"
        ));
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
