//! Who read what is personal, and why. A stream of its own, so that reading
//! does not look like a change to the request.

use samen_log::Aggregate;
use samen_proto::requests::RequestRevealed;

samen_log::events! {
    /// What happens in an audit.
    pub enum AuditEvent { RequestRevealed }
}

/// The audit of one request. Nothing is decided from it.
#[derive(Clone, Debug, Default)]
pub struct Audit;

impl Aggregate for Audit {
    type Event = AuditEvent;
    const KIND: &'static str = "audit";

    fn evolve(self, _: &AuditEvent) -> Self {
        self
    }
}
