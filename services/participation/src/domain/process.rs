//! A participation process (participatietraject).

use samen_log::Aggregate;
use samen_proto::participation::{Level, ProcessPublished, ProcessStarted};
use samen_server::reply;
use tonic::{Code, Status as Refusal};

samen_log::events! {
    /// What happens to a process.
    pub enum ProcessEvent { ProcessStarted, ProcessPublished }
}

/// A process's state, as far as rules look at it.
#[derive(Clone, Debug, Default, PartialEq)]
pub enum Process {
    /// There is none.
    #[default]
    Missing,
    /// Publishing says again what the draft said: nobody else saw it.
    Draft(ProcessStarted),
    Published(Level),
}

/// What somebody wants of a process.
#[derive(Clone, Debug)]
pub enum ProcessCommand {
    Start(ProcessStarted),
    Publish { id: String, expected_version: u64 },
}

/// Why not.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Rejection {
    #[error("there is such a process")]
    Exists,
    #[error("there is no such process")]
    Missing { id: String },
    #[error("somebody else changed it")]
    VersionMoved { expected: u64, actual: u64 },
    #[error("it is published already")]
    Published,
}

// === impl Process ===

impl Process {
    /// What of it those see who do not lead processes: nothing of a draft.
    pub fn public(self) -> Process {
        match self {
            Process::Draft(_) => Process::Missing,
            other => other,
        }
    }
}

impl Aggregate for Process {
    type Event = ProcessEvent;
    const KIND: &'static str = "process";

    fn evolve(self, event: &ProcessEvent) -> Self {
        match event {
            ProcessEvent::ProcessStarted(started) => Process::Draft(started.clone()),
            ProcessEvent::ProcessPublished(published) => Process::Published(published.level()),
        }
    }
}

/// What follows from a command, or why not.
pub fn decide(
    process: &Process,
    version: u64,
    command: ProcessCommand,
) -> Result<Vec<ProcessEvent>, Rejection> {
    match command {
        ProcessCommand::Start(started) => match process {
            Process::Missing => Ok(vec![started.into()]),
            Process::Draft(_) | Process::Published(_) => Err(Rejection::Exists),
        },
        ProcessCommand::Publish { id, expected_version: expected } => match process {
            Process::Missing => Err(Rejection::Missing { id }),
            _ if version != expected => Err(Rejection::VersionMoved { expected, actual: version }),
            Process::Published(_) => Err(Rejection::Published),
            Process::Draft(draft) => Ok(vec![published(draft.clone()).into()]),
        },
    }
}

fn published(draft: ProcessStarted) -> ProcessPublished {
    let ProcessStarted { id, title, question, level, neighbourhoods } = draft;
    ProcessPublished { id, title, question, level, neighbourhoods }
}

impl From<Rejection> for Refusal {
    fn from(rejection: Rejection) -> Self {
        let text = rejection.to_string();
        match rejection {
            Rejection::Exists => reply::status(Code::AlreadyExists, "PROCESS_EXISTS", &text),
            Rejection::Missing { id } => reply::not_found("process", &id),
            Rejection::VersionMoved { expected, actual } => reply::version_moved(expected, actual),
            Rejection::Published => reply::precondition("STATUS", "status", &text),
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        /// Whatever is asked in whatever order, a process begins once and is
        /// published once, as the version that was seen and with what its
        /// draft said.
        #[test]
        fn a_process_begins_once_and_is_published_once(
            commands in prop::collection::vec((any::<bool>(), 0u64..4, 0i32..=5), 0..20)
        ) {
            let mut process = Process::default();
            let mut events: Vec<ProcessEvent> = Vec::new();
            for (start, expected_version, level) in commands {
                let version = events.len() as u64;
                let command = if start {
                    ProcessCommand::Start(ProcessStarted {
                        id: "p".into(),
                        title: format!("title {version}"),
                        level,
                        ..Default::default()
                    })
                } else {
                    ProcessCommand::Publish { id: "p".into(), expected_version }
                };
                let before = process.clone();
                let decided = decide(&process, version, command);
                let moved = decided.as_ref().is_ok_and(|events| !events.is_empty());
                for event in decided.unwrap_or_default() {
                    process = process.evolve(&event);
                    events.push(event);
                }
                prop_assert_eq!(moved, process != before);
                prop_assert!(start || !moved || expected_version == version);
            }
            let again = events.iter().fold(Process::default(), Process::evolve);
            prop_assert_eq!(&again, &process);
            match (process, events.as_slice()) {
                (Process::Missing, []) => {}
                (Process::Draft(draft), [ProcessEvent::ProcessStarted(started)]) => {
                    prop_assert_eq!(&draft, started);
                    prop_assert_eq!(Process::Draft(draft).public(), Process::Missing);
                }
                (
                    Process::Published(level),
                    [ProcessEvent::ProcessStarted(started), ProcessEvent::ProcessPublished(public)],
                ) => {
                    prop_assert_eq!(&published(started.clone()), public);
                    prop_assert_eq!(level, started.level());
                }
                other => prop_assert!(false, "{other:?}"),
            }
        }
    }
}
