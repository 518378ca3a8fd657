//! By which certificates the partners with one OIN are known: each by its own.

use std::collections::BTreeMap;

use samen_log::Aggregate;
use samen_proto::regional::PartnerKnownBy;

use super::Rejection;

samen_log::events! {
    /// What happens to certificates.
    pub enum KnownEvent { PartnerKnownBy }
}

/// The certificates of each partner with this OIN, which is the id.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Known(BTreeMap<String, Vec<String>>);

/// Whether a partner can be known by these: no other is.
pub fn decide(known: &Known, wanted: PartnerKnownBy) -> Result<PartnerKnownBy, Rejection> {
    let thumbprints = &wanted.certificate_thumbprints;
    let others = known.0.iter().filter(|(partner, _)| **partner != wanted.partner);
    for (_, theirs) in others {
        if let Some(thumbprint) = thumbprints.iter().find(|thumbprint| theirs.contains(thumbprint))
        {
            return Err(Rejection::CertificateTaken { thumbprint: thumbprint.clone() });
        }
    }
    Ok(wanted)
}

impl Aggregate for Known {
    type Event = KnownEvent;
    const KIND: &'static str = "known";

    fn evolve(mut self, event: &KnownEvent) -> Self {
        let KnownEvent::PartnerKnownBy(known) = event;
        self.0.insert(known.partner.clone(), known.certificate_thumbprints.clone());
        self
    }
}
