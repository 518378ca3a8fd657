//! A log that is looked through for erasures: how far that is.

use samen_log::{Aggregate, Cursor};
use samen_proto::privacy::{self, ContentErased};
use samen_proto::regional::{ErasureReason, ErasureSeen, SourceFollowed};

use super::{Rejection, cursor};

samen_log::events! {
    /// What happens to a source, as far as erasures go.
    pub enum SourceEvent { SourceFollowed, ErasureSeen }
}

/// Up to where all erasures of a log are recorded.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Source {
    pub through: Cursor,
}

/// A log was looked through.
#[derive(Clone, Debug)]
pub struct Look {
    pub source_log: String,
    /// Where it had been looked through to.
    pub before: Cursor,
    /// The record that was looked at last. Before `before` where the log was
    /// restored from a backup.
    pub at: Cursor,
    /// What that record erases.
    pub erased: Option<ContentErased>,
}

/// What follows from it. Who did not go on from where the source stands is
/// refused: others were faster.
pub fn decide(source: &Source, look: Look) -> Result<Vec<SourceEvent>, Rejection> {
    let Look { source_log, before, at, erased } = look;
    if source.through != before {
        return Err(Rejection::Elsewhere { log: source_log });
    }
    let (source_epoch, source_position) = (at.epoch, at.position);
    let source_hash = at.hash.unwrap_or_default();
    Ok(vec![match erased {
        None => SourceFollowed { source_log, source_epoch, source_position, source_hash }.into(),
        Some(erased) => ErasureSeen {
            source_log,
            source_epoch,
            source_position,
            source_hash,
            reason: reason(erased.reason()).into(),
            stream: erased.stream,
            key_ids: erased.key_ids,
        }
        .into(),
    }])
}

fn reason(reason: privacy::ErasureReason) -> ErasureReason {
    match reason {
        privacy::ErasureReason::Unspecified => ErasureReason::Unspecified,
        privacy::ErasureReason::Request => ErasureReason::Request,
        privacy::ErasureReason::Retention => ErasureReason::Retention,
        privacy::ErasureReason::Redaction => ErasureReason::Redaction,
        privacy::ErasureReason::Restored => ErasureReason::Restored,
    }
}

impl SourceEvent {
    /// Up to where the log was looked through after it.
    pub fn through(&self) -> Cursor {
        match self {
            SourceEvent::SourceFollowed(SourceFollowed {
                source_epoch,
                source_position,
                source_hash,
                ..
            })
            | SourceEvent::ErasureSeen(ErasureSeen {
                source_epoch,
                source_position,
                source_hash,
                ..
            }) => cursor(*source_epoch, *source_position, source_hash),
        }
    }
}

impl Aggregate for Source {
    type Event = SourceEvent;
    const KIND: &'static str = "source";

    fn evolve(self, event: &SourceEvent) -> Self {
        Source { through: event.through() }
    }
}
