//! Erasures, for the partners who have to delete something.
//!
//! That a partner is told is recorded before the bytes leave, the first time.
//! It is told whether its agreements hold or not: what it was sent is there.

use jiff::Timestamp;
use samen_log::Command;
use samen_log::record::Position;
use samen_log::record::timestamp;
use samen_proto::regional::subscribe_erasures_response::Item;
use samen_proto::regional::*;
use samen_server::identity::Caller;
use samen_server::reply;
use samen_server::streams::{Outgoing, outgoing};
use samen_server::time::to_proto;
use tokio::sync::watch;
use tonic::{Response, Status};
use uuid::Uuid;

use super::Answer;
use super::feed::resumes;
use crate::Regional;
use crate::domain::Rejection;
use crate::domain::erasure::{ErasureCommand, decide};
use crate::projection::queries::{self, KnownErasure};

/// Erasures that are sent together: each may name ten thousand places.
const PAGE: usize = 20;

impl Regional {
    /// What the partner has to delete: history, a caught-up mark, then live.
    pub(super) async fn send_erasures(
        &self,
        caller: &Caller,
        partner: String,
        after: u64,
        epoch: u64,
    ) -> Answer<Outgoing<SubscribeErasuresResponse>> {
        let known = self.erasures.get::<Rejection>(&partner).await;
        let (known, _) = known.map_err(reply::command)?;
        self.see_own_log().await?;
        let stands = self.erasure(&partner, after).await?.map(|there| there.epoch);
        resumes((after, epoch), known.due, stands)?;

        let service = self.clone();
        let certificate = caller.certificate.clone();
        // What a heartbeat says: resuming from there misses nothing.
        let (told, heard) = watch::channel((after, epoch));
        let actor = caller.id.clone();
        let items = async_stream::try_stream! {
            // Seen before the first look, so that no change is missed.
            let mut changed = service.store.watch();
            let mut after = after;
            let mut caught_up = false;
            loop {
                changed.borrow_and_update();
                // Looked at each time: a certificate may be withdrawn.
                let partner = service.partner(certificate.as_ref()).await?;
                let page = queries::erasures_after(&service.store.schema(), &partner, after, PAGE)
                    .await
                    .map_err(reply::unavailable)?;
                if let Some(last) = page.last().map(|erasure| erasure.due.number) {
                    let send = ErasureCommand::Send { partner: partner.clone(), last };
                    service.change_erasures(&actor, &partner, send).await?;
                    for KnownErasure { epoch, due, due_time, .. } in page {
                        after = due.number;
                        told.send_replace((after, epoch));
                        let reason = due.reason;
                        let item = Some(Item::Erasure(PartnerErasure {
                            agreement_id: due.agreement_id,
                            positions: due.feed_positions,
                            reason,
                            create_time: Some(timestamp(due_time)),
                        }));
                        yield SubscribeErasuresResponse { number: after, epoch, item };
                    }
                    continue;
                }
                if !caught_up && after >= known.due {
                    caught_up = true;
                    let (number, epoch) = *told.borrow();
                    let item = Some(Item::CaughtUp(FeedCaughtUp {}));
                    yield SubscribeErasuresResponse { number, epoch, item };
                }
                if changed.changed().await.is_err() {
                    return;
                }
            }
        };
        // Of the partner's erasures, and not of a log.
        let at = move || {
            let (position, epoch) = *heard.borrow();
            Position { log: String::new(), epoch, position }
        };
        let heartbeat = |Position { position: number, epoch, .. }| {
            let time = Some(to_proto(Timestamp::now()));
            let item = Some(Item::Heartbeat(FeedHeartbeat { time }));
            SubscribeErasuresResponse { number, epoch, item }
        };
        Ok(Response::new(outgoing(items, at, heartbeat, &self.deployment, caller)))
    }

    /// Records that the partner has deleted what it had to.
    pub(super) async fn confirm(
        &self,
        caller: &Caller,
        partner: String,
        epoch: u64,
        number: u64,
    ) -> Result<(), Status> {
        self.see_own_log().await?;
        if self.erasure(&partner, number).await?.is_none_or(|there| there.epoch != epoch) {
            return Err(Rejection::NoErasure { number }.into());
        }
        let confirm = ErasureCommand::Confirm { partner: partner.clone(), number };
        self.change_erasures(&caller.id, &partner, confirm).await
    }

    /// The erasure with this number, as the store has it.
    async fn erasure(&self, partner: &str, number: u64) -> Result<Option<KnownErasure>, Status> {
        let Some(before) = number.checked_sub(1) else { return Ok(None) };
        let schema = self.store.schema();
        let found = queries::erasures_after(&schema, partner, before, 1).await;
        let found = found.map_err(reply::unavailable)?.pop();
        Ok(found.filter(|erasure| erasure.due.number == number))
    }

    async fn change_erasures(
        &self,
        actor: &str,
        partner: &str,
        change: ErasureCommand,
    ) -> Result<(), Status> {
        // The decider sees what was done before: the id only has to be new.
        let command = Command {
            actor: actor.to_owned(),
            method: "ChangeErasures",
            request_id: Uuid::now_v7().to_string(),
            ..Command::default()
        };
        let decide = |erasures: &_, _| decide(erasures, change.clone()).map(Into::into);
        let changed = self.erasures.execute(command, partner, decide).await;
        changed.map(drop).map_err(reply::command)
    }
}
