//! What a partner has to delete, and how far that is.

use std::collections::BTreeSet;

use samen_log::Aggregate;
use samen_proto::regional::{ErasureConfirmed, ErasureDue, ErasuresSent};

use super::Rejection;

samen_log::events! {
    /// What happens to a partner's erasures.
    pub enum ErasureEvent { ErasureDue, ErasuresSent, ErasureConfirmed }
}

/// A partner's erasures. They are numbered 1, 2, 3 ….
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Erasures {
    /// How many there are.
    pub due: u64,
    /// How many went out.
    pub sent: u64,
    /// Those that went out and were not confirmed.
    pub unconfirmed: BTreeSet<u64>,
}

/// What becomes of a partner's erasures.
#[derive(Clone, Debug)]
pub enum ErasureCommand {
    /// One more; it gets the next number.
    Due(ErasureDue),
    /// All up to this number go out.
    Send { partner: String, last: u64 },
    /// The partner says that it is done.
    Confirm { partner: String, number: u64 },
}

/// What follows from a command, or why not.
pub fn decide(
    erasures: &Erasures,
    command: ErasureCommand,
) -> Result<Vec<ErasureEvent>, Rejection> {
    match command {
        ErasureCommand::Due(due) => Ok(vec![ErasureDue { number: erasures.due + 1, ..due }.into()]),
        ErasureCommand::Send { last, .. } if last <= erasures.sent => Ok(Vec::new()),
        ErasureCommand::Send { partner, last } => {
            let first_number = erasures.sent + 1;
            Ok(vec![ErasuresSent { partner, first_number, last_number: last }.into()])
        }
        ErasureCommand::Confirm { number, .. } if number == 0 || number > erasures.sent => {
            Err(Rejection::NoErasure { number })
        }
        ErasureCommand::Confirm { number, .. } if !erasures.unconfirmed.contains(&number) => {
            Ok(Vec::new())
        }
        ErasureCommand::Confirm { partner, number } => {
            Ok(vec![ErasureConfirmed { partner, number }.into()])
        }
    }
}

impl Aggregate for Erasures {
    type Event = ErasureEvent;
    const KIND: &'static str = "erasure";

    fn evolve(mut self, event: &ErasureEvent) -> Self {
        match event {
            ErasureEvent::ErasureDue(due) => self.due = due.number,
            ErasureEvent::ErasuresSent(sent) => {
                self.sent = sent.last_number;
                self.unconfirmed.extend(sent.first_number..=sent.last_number);
            }
            ErasureEvent::ErasureConfirmed(confirmed) => {
                self.unconfirmed.remove(&confirmed.number);
            }
        }
        self
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        /// Numbers have no gap, each is sent once and confirmed at most once,
        /// and only after it was sent.
        #[test]
        fn each_erasure_is_due_then_sent_then_confirmed(
            commands in prop::collection::vec((0..3u8, 0u64..12), 1..60)
        ) {
            let mut erasures = Erasures::default();
            let (mut due, mut sent, mut confirmed) = (Vec::new(), Vec::new(), Vec::new());
            for (kind, number) in commands {
                let partner = "GM0437".to_owned();
                let command = match kind {
                    0 => ErasureCommand::Due(ErasureDue::default()),
                    // Nobody sends what there is not.
                    1 => ErasureCommand::Send { partner, last: number.min(erasures.due) },
                    _ => ErasureCommand::Confirm { partner, number },
                };
                let known = (1..=erasures.sent).contains(&number);
                let decided = decide(&erasures, command);
                prop_assert_eq!(decided.is_ok(), kind < 2 || known);
                for event in decided.into_iter().flatten() {
                    match &event {
                        ErasureEvent::ErasureDue(new) => due.push(new.number),
                        ErasureEvent::ErasuresSent(new) => {
                            sent.extend(new.first_number..=new.last_number);
                        }
                        ErasureEvent::ErasureConfirmed(new) => confirmed.push(new.number),
                    }
                    erasures = erasures.evolve(&event);
                }
            }
            prop_assert_eq!(due, (1..=erasures.due).collect::<Vec<_>>());
            prop_assert_eq!(sent, (1..=erasures.sent).collect::<Vec<_>>());
            confirmed.sort_unstable();
            let waits = |number: &u64| erasures.unconfirmed.contains(number);
            let expected: Vec<_> = (1..=erasures.sent).filter(|n| !waits(n)).collect();
            prop_assert_eq!(confirmed, expected);
        }
    }
}
