//! A partner: another municipality or organisation.

use samen_log::Aggregate;
use samen_proto::regional::{PartnerCertificatesChanged, PartnerRegistered};

use super::Rejection;

samen_log::events! {
    /// What happens to a partner.
    pub enum PartnerEvent { PartnerRegistered, PartnerCertificatesChanged }
}

/// A partner's state, as far as rules look at it.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Partner {
    pub registered: bool,
    /// Its organisatie-identificatienummer, which does not change.
    pub oin: String,
}

/// What somebody wants of a partner.
#[derive(Clone, Debug)]
pub enum PartnerCommand {
    Register(PartnerRegistered),
    ChangeCertificates(PartnerCertificatesChanged),
}

/// What follows from a command, or why not.
pub fn decide(partner: &Partner, command: PartnerCommand) -> Result<Vec<PartnerEvent>, Rejection> {
    match command {
        PartnerCommand::Register(registered) if partner.registered => {
            Err(Rejection::PartnerExists { code: registered.code })
        }
        PartnerCommand::Register(registered) => Ok(vec![registered.into()]),
        PartnerCommand::ChangeCertificates(changed) if !partner.registered => {
            Err(Rejection::NoPartner { code: changed.code })
        }
        PartnerCommand::ChangeCertificates(changed) => Ok(vec![changed.into()]),
    }
}

impl Aggregate for Partner {
    type Event = PartnerEvent;
    const KIND: &'static str = "partner";

    fn evolve(self, event: &PartnerEvent) -> Self {
        match event {
            PartnerEvent::PartnerRegistered(PartnerRegistered { oin, .. }) => {
                Partner { registered: true, oin: oin.clone() }
            }
            PartnerEvent::PartnerCertificatesChanged(_) => self,
        }
    }
}
