//! Finds out who has received what is gone, and tells them.
//!
//! Follows this service's own log. What was erased, or withdrawn, at a position
//! of it went out to those to whom it was disclosed at an earlier position: the
//! answer is complete once the store has seen the log up to there, and the
//! source up to the erasure. An erasure that is not in its source's history any
//! more is worked out from what the source holds now: what it does not hold any
//! more is withdrawn, and told as that.

use std::sync::Arc;

use samen_log::command::decode;
use samen_log::react::{self, Reactor};
use samen_log::{Command, Cursor, Record};
use samen_proto::regional::{ErasureDue, ErasureReason, ErasureSeen};

use super::own::Own;
use super::progress::Progress;
use super::watch::looked;
use super::{NOTE_EVERY, PERIOD, ReactError};
use crate::Regional;
use crate::domain::Rejection;
use crate::domain::erasure::{ErasureCommand, decide};
use crate::domain::feed::FeedEvent;
use crate::domain::source::SourceEvent;
use crate::projection::queries::{self, Gone, SentPlaces};

pub const NAME: &str = "erasure notices";
/// Places that one erasure names: well within what an event, and a message to
/// a partner, may hold. More make several erasures.
const PLACES: usize = 10_000;

/// Runs until the deployment shuts down.
pub async fn run(service: Regional, progress: Progress) {
    let mut teller = Teller { service: &service, progress, noted: Cursor::START };
    tokio::select! {
        () = service.deployment.shutdown.cancelled() => {}
        () = react::run(&service.log, &mut teller) => {}
    }
}

struct Teller<'a> {
    service: &'a Regional,
    progress: Progress,
    noted: Cursor,
}

impl Reactor for Teller<'_> {
    type Error = ReactError;

    async fn through(&mut self) -> Result<Cursor, ReactError> {
        let own = self.service.log.id();
        self.noted = self.service.source_of(NAME, own).get().await?.0.through;
        Ok(self.noted.clone())
    }

    async fn offer(&mut self, records: &[Arc<Record>]) -> Result<bool, ReactError> {
        let log = self.service.log.id();
        for record in records {
            let told = tell(self.service, record).await?;
            let seen = Cursor::at(record);
            if told || seen.position - self.noted.position >= NOTE_EVERY {
                let before = std::mem::replace(&mut self.noted, seen.clone());
                let own = self.service.source_of(NAME, log);
                looked(&own, log, before, seen, None).await?;
            }
        }
        Ok(true)
    }

    fn saw(&mut self, seen: &Cursor) {
        self.progress.saw(self.service.log.id(), "", seen.clone());
    }

    fn failed(&mut self, error: ReactError) {
        self.progress.failed(self.service.log.id(), "", &error);
    }
}

/// Tells partners what follows from a record; says whether it is one from which
/// something can.
async fn tell(service: &Regional, record: &Record) -> Result<bool, ReactError> {
    let unreadable =
        |_| ReactError::Unreadable { position: record.position, kind: record.r#type.clone() };
    if let Some(SourceEvent::ErasureSeen(seen)) = decode(record).map_err(unreadable)? {
        let ErasureSeen { source_log: log, stream, key_ids, .. } = &seen;
        let places = sent(service, record, Gone::Erased { log, stream, key_ids }, Some(&seen));
        for place in places.await? {
            service.due(record, log, seen.reason(), place).await?;
        }
        return Ok(true);
    }
    if let Some(FeedEvent::SourceRestored(restored)) = decode(record).map_err(unreadable)? {
        let gone = Gone::Withdrawn { agreement: &restored.agreement_id };
        for place in sent(service, record, gone, None).await? {
            let reason = ErasureReason::Withdrawn;
            service.due(record, &restored.source_log, reason, place).await?;
        }
        return Ok(true);
    }
    Ok(false)
}

/// The places that had gone out before this record, once that is known.
async fn sent(
    service: &Regional,
    record: &Record,
    gone: Gone<'_>,
    seen: Option<&ErasureSeen>,
) -> Result<Vec<SentPlaces>, ReactError> {
    let mut changed = service.store.watch();
    loop {
        changed.borrow_and_update();
        // And what was told just before: nobody is told twice.
        let own = service.log.newest().await?.unwrap_or_else(|| Cursor::at(record));
        let mut needed = vec![(record.log.clone(), own)];
        if let Some(ErasureSeen { source_log, source_epoch, source_position, .. }) = seen {
            let (source, _) = service.sources.get::<Rejection>(source_log).await?;
            let erasure = Cursor { epoch: *source_epoch, position: *source_position, hash: None };
            // A source that was restored may end before the erasure.
            let gone = source.through.position < erasure.position;
            needed.push((source_log.clone(), if gone { source.through } else { erasure }));
        }
        let schema = service.store.schema();
        if let Some(found) = queries::sent_places(&schema, &gone, record.position, &needed).await? {
            return Ok(found);
        }
        // What another process projects is seen here a little later.
        let _ = tokio::time::timeout(PERIOD, changed.changed()).await;
    }
}

impl Regional {
    /// Records that a partner has to delete these places. Made from the record
    /// and the first place, so that the same is told once.
    async fn due(
        &self,
        record: &Record,
        source_log: &str,
        reason: ErasureReason,
        places: SentPlaces,
    ) -> Result<(), ReactError> {
        for positions in places.positions.chunks(PLACES) {
            let what = format!("{} {:?}", places.agreement, positions.first());
            let command = Command {
                actor: NAME.to_owned(),
                method: "Erase",
                request_id: react::command_id(record, &what),
                ..Command::default()
            };
            let due = ErasureCommand::Due(ErasureDue {
                agreement_id: places.agreement.clone(),
                partner: places.partner.clone(),
                number: 0,
                feed_positions: positions.to_vec(),
                source_log: source_log.to_owned(),
                reason: reason.into(),
            });
            let decide = |erasures: &_, _| decide(erasures, due.clone()).map(Into::into);
            self.erasures.execute(command, &places.partner, decide).await?;
        }
        Ok(())
    }
}
