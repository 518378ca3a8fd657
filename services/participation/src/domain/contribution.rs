//! What somebody contributes to a process (bijdrage).

use samen_log::command::decode;
use samen_log::{Aggregate, Record};
use samen_proto::participation::{Channel, ContributionSubmitted, Level};
use samen_server::reply;
use tonic::{Code, Status as Refusal};

use super::process::Process;

samen_log::events! {
    /// What happens to a contribution.
    pub enum ContributionEvent { ContributionSubmitted }
}

/// A contribution's state, as far as rules look at it.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Contribution {
    pub submitted: bool,
}

/// Why not.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Rejection {
    #[error("there is such a contribution")]
    Exists,
    #[error("there is no such process")]
    NoProcess { id: String },
    #[error("the process is not published yet")]
    Draft,
    #[error("the process informs people and asks nothing: it takes no contributions")]
    Informs,
}

impl Aggregate for Contribution {
    type Event = ContributionEvent;
    const KIND: &'static str = "contribution";

    fn evolve(self, event: &ContributionEvent) -> Self {
        match event {
            ContributionEvent::ContributionSubmitted(_) => Contribution { submitted: true },
        }
    }
}

/// Whether a process takes a contribution. Who writes it guards the process's
/// version, so that it holds until then.
pub fn decide(
    contribution: &Contribution,
    submitted: ContributionSubmitted,
    process: &Process,
) -> Result<Vec<ContributionEvent>, Rejection> {
    if contribution.submitted {
        return Err(Rejection::Exists);
    }
    match process {
        Process::Missing => Err(Rejection::NoProcess { id: submitted.process_id }),
        Process::Draft(_) => Err(Rejection::Draft),
        Process::Published(Level::Unspecified | Level::Inform) => Err(Rejection::Informs),
        Process::Published(Level::Consult | Level::Advise | Level::CoProduce | Level::CoDecide) => {
            Ok(vec![submitted.into()])
        }
    }
}

/// Whether who made a record told it of their own: not a process lead who wrote
/// down what people said.
pub fn spoke_for_themselves(record: &Record) -> bool {
    match decode(record) {
        Ok(Some(ContributionEvent::ContributionSubmitted(submitted))) => {
            submitted.channel() == Channel::Online
        }
        _ => false,
    }
}

impl From<Rejection> for Refusal {
    fn from(rejection: Rejection) -> Self {
        let text = rejection.to_string();
        match rejection {
            Rejection::Exists => reply::status(Code::AlreadyExists, "CONTRIBUTION_EXISTS", &text),
            Rejection::NoProcess { id } => reply::not_found("process", &id),
            Rejection::Draft => reply::precondition("STATUS", "process", &text),
            Rejection::Informs => reply::precondition("LEVEL", "process", &text),
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use samen_proto::participation::ProcessStarted;

    use super::*;
    use crate::domain::process::{self, ProcessCommand};

    proptest! {
        /// However submitting and what happens to the process interleave, a
        /// contribution is taken once, and only while its process is published
        /// and asks something.
        #[test]
        fn only_a_published_process_that_asks_takes_a_contribution(
            level in 0i32..=6,
            steps in prop::collection::vec((0..3, 0u64..3), 0..20),
        ) {
            let mut process = Process::default();
            let mut version = 0;
            let mut contribution = Contribution::default();
            let submitted =
                ContributionSubmitted { id: "c".into(), process_id: "p".into(), ..Default::default() };
            for (step, expected_version) in steps {
                let command = match step {
                    0 => {
                        let decided = decide(&contribution, submitted.clone(), &process);
                        let takes = matches!(process, Process::Published(_)) && (2..=5).contains(&level);
                        prop_assert_eq!(decided.is_ok(), takes && !contribution.submitted);
                        if let Ok(events) = decided {
                            prop_assert_eq!(&events, &[submitted.clone().into()]);
                            contribution = events.iter().fold(contribution, Contribution::evolve);
                            prop_assert!(contribution.submitted);
                        }
                        continue;
                    }
                    1 => ProcessCommand::Start(ProcessStarted {
                        id: "p".into(),
                        level,
                        ..Default::default()
                    }),
                    _ => ProcessCommand::Publish { id: "p".into(), expected_version },
                };
                for event in process::decide(&process, version, command).unwrap_or_default() {
                    process = process.evolve(&event);
                    version += 1;
                }
            }
        }
    }
}
