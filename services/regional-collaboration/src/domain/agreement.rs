//! An agreement: which events a partner gets, for what, on which ground.

use samen_log::Aggregate;
use samen_proto::regional::{AgreementConcluded, AgreementEnded};

use super::Rejection;
use super::partner::Partner;

samen_log::events! {
    /// What happens to an agreement.
    pub enum AgreementEvent { AgreementConcluded, AgreementEnded }
}

/// An agreement's state: what was concluded, and whether it holds.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Agreement {
    pub concluded: Option<AgreementConcluded>,
    pub ended: bool,
}

/// What somebody wants of an agreement.
#[derive(Clone, Debug)]
pub enum AgreementCommand {
    /// With the partner as it is: it must be one that we know.
    Conclude(AgreementConcluded, Partner),
    End(AgreementEnded),
}

/// What follows from a command, or why not.
pub fn decide(
    agreement: &Agreement,
    command: AgreementCommand,
) -> Result<Vec<AgreementEvent>, Rejection> {
    match command {
        AgreementCommand::Conclude(concluded, partner) if !partner.registered => {
            Err(Rejection::NoPartner { code: concluded.partner })
        }
        AgreementCommand::Conclude(concluded, _) => Ok(vec![concluded.into()]),
        AgreementCommand::End(ended) if agreement.concluded.is_none() => {
            Err(Rejection::NoAgreement { id: ended.id })
        }
        AgreementCommand::End(_) if agreement.ended => Err(Rejection::Ended),
        AgreementCommand::End(ended) => Ok(vec![ended.into()]),
    }
}

impl Agreement {
    /// What it says, while it holds.
    pub fn in_force(&self) -> Option<&AgreementConcluded> {
        self.concluded.as_ref().filter(|_| !self.ended)
    }
}

impl Aggregate for Agreement {
    type Event = AgreementEvent;
    const KIND: &'static str = "agreement";

    fn evolve(self, event: &AgreementEvent) -> Self {
        match event {
            AgreementEvent::AgreementConcluded(concluded) => {
                Agreement { concluded: Some(concluded.clone()), ..self }
            }
            AgreementEvent::AgreementEnded(_) => Agreement { ended: true, ..self },
        }
    }
}
