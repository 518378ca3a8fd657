//! What background tasks show of themselves: how far they are, and what went
//! wrong last.
//!
//! A task tells its [`Task`] what happens; whoever asks (`samen status`,
//! metrics, health) reads all of a service's from its [`Tasks`].

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use jiff::Timestamp;
use samen_proto::operations::{Progress, Task as Shown, TaskError, TaskKind, TaskState};

use crate::follow::Cursor;
use crate::record::{Record, timestamp};

/// A service's background tasks. Clones share everything.
#[derive(Clone, Debug, Default)]
pub struct Tasks(Arc<Mutex<Vec<Task>>>);

/// What one task shows. Clones share everything.
#[derive(Clone, Debug)]
pub struct Task(Arc<Mutex<Shown>>);

// === impl Tasks ===

impl Tasks {
    /// Adds a task under a name that is unique in its service, or gives the
    /// one that has it.
    pub fn add(&self, kind: TaskKind, name: &str) -> Task {
        let mut tasks = lock(&self.0);
        if let Some(known) = tasks.iter().find(|task| lock(&task.0).name == name) {
            return known.clone();
        }
        let task = Task::new(kind, name);
        tasks.push(task.clone());
        task
    }

    /// Takes a task away that there is no more.
    pub fn remove(&self, name: &str) {
        lock(&self.0).retain(|task| lock(&task.0).name != name);
    }

    /// What all of them show now, by name.
    pub fn shown(&self) -> Vec<Shown> {
        let mut shown: Vec<_> = lock(&self.0).iter().map(Task::shown).collect();
        shown.sort_by(|a, b| a.name.cmp(&b.name));
        shown
    }
}

// === impl Task ===

impl Task {
    /// A task that nobody asks about.
    pub fn new(kind: TaskKind, name: &str) -> Self {
        let state = TaskState::Running.into();
        Task(Arc::new(Mutex::new(Shown {
            kind: kind.into(),
            name: name.to_owned(),
            state,
            ..Shown::default()
        })))
    }

    /// What it shows now.
    pub fn shown(&self) -> Shown {
        lock(&self.0).clone()
    }

    /// It is at work here. A failure that it had is over.
    pub fn running(&self) {
        let mut shown = lock(&self.0);
        shown.set_state(TaskState::Running);
        if let Some(error) = &mut shown.error {
            error.over = true;
        }
    }

    /// The process that does the work, where only one of several may; this
    /// one waits, if it is another.
    pub fn held_by(&self, holder: &str, here: bool) {
        let mut shown = lock(&self.0);
        holder.clone_into(&mut shown.holder);
        match (here, shown.state()) {
            (false, _) => shown.set_state(TaskState::Standby),
            (true, TaskState::Standby) => shown.set_state(TaskState::Running),
            (true, _) => {}
        }
    }

    /// How far it has followed a log, and how far the log reaches as far as is
    /// known here.
    pub fn saw(&self, log: &str, cursor: &Cursor, head: u64) {
        let seen = Progress {
            log: log.to_owned(),
            epoch: cursor.epoch,
            position: cursor.position,
            head: head.max(cursor.position),
        };
        let mut shown = lock(&self.0);
        match shown.progress.iter_mut().find(|progress| progress.log == log) {
            Some(progress) => *progress = seen,
            None => shown.progress.push(seen),
        }
    }

    /// It failed, and will try again.
    pub fn failed(&self, error: impl ToString) {
        self.set_error(TaskState::Failing, TaskError { message: error.to_string(), ..now() });
    }

    /// It met a record that it cannot handle.
    pub fn stopped_at(&self, record: &Record, reason: impl ToString) {
        let error = TaskError {
            message: reason.to_string(),
            log: record.log.clone(),
            position: record.position,
            r#type: record.r#type.clone(),
            ..now()
        };
        self.set_error(TaskState::Stopped, error);
    }

    /// What an operator should know of it.
    pub fn note(&self, note: impl ToString) {
        let mut shown = lock(&self.0);
        shown.note = note.to_string();
        shown.note_time = now().time;
    }

    fn set_error(&self, state: TaskState, error: TaskError) {
        let mut shown = lock(&self.0);
        shown.set_state(state);
        shown.error = Some(error);
    }
}

/// An error of this moment.
fn now() -> TaskError {
    let time = Some(timestamp(Timestamp::now().as_microsecond()));
    TaskError { time, ..TaskError::default() }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
