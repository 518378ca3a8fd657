//! The feed: history, a caught-up mark, then live, for a partner that is known
//! by its client certificate.
//!
//! What goes out is recorded first, with the agreement's version as a guard:
//! when the agreement ends or changes meanwhile, or the record cannot be
//! written, nothing is sent.

use std::sync::Arc;

use jiff::Timestamp;
use samen_log::record::Position;
use samen_log::{AppendError, Command, CommandError, Expected};
use samen_proto::regional::feed_service_server::FeedService;
use samen_proto::regional::subscribe_response::Item;
use samen_proto::regional::*;
use samen_server::access::caller;
use samen_server::identity::Certificate;
use samen_server::reply::{self, Check};
use samen_server::streams::{Outgoing, outgoing};
use samen_server::time::to_proto;
use tokio::sync::watch;
use tonic::{Code, Request, Response, Status};
use uuid::Uuid;

use super::Answer;
use crate::Regional;
use crate::domain::disclosure::{Disclose, decide};
use crate::domain::{Rejection, agreement};
use crate::feed::cloudevent::cloud_event;
use crate::projection::queries::{self, Place};

/// Events that are recorded as disclosed, and sent, together.
const PAGE: usize = 200;

#[tonic::async_trait]
impl FeedService for Regional {
    type SubscribeStream = Outgoing<SubscribeResponse>;

    async fn list_feeds(&self, request: Request<ListFeedsRequest>) -> Answer<ListFeedsResponse> {
        let caller = caller(&request)?;
        let partner = self.partner(caller.certificate.as_ref()).await?;
        let agreements = queries::agreements_of(&self.store.schema(), &partner).await;
        let feeds = agreements.map_err(reply::unavailable)?.into_iter().map(|agreement| Feed {
            agreement_id: agreement.id,
            event_types: agreement.event_types,
            purpose: agreement.purpose,
            position: agreement.feed_position,
        });
        Ok(Response::new(ListFeedsResponse { feeds: feeds.collect() }))
    }

    async fn subscribe(&self, request: Request<SubscribeRequest>) -> Answer<Self::SubscribeStream> {
        let caller = caller(&request)?;
        let certificate = caller.certificate.clone();
        let SubscribeRequest { agreement_id, after, epoch } = request.into_inner();
        // Who it is comes first: a stranger does not even learn what an id is.
        let partner = self.partner(certificate.as_ref()).await?;
        let mut check = Check::default();
        check.id("agreement_id", &agreement_id);
        check.finish()?;
        self.agreement(&agreement_id, &partner).await?;
        let (feed, _) = self.feeds.get::<Rejection>(&agreement_id).await.map_err(reply::command)?;
        self.see_own_log().await?;
        self.check_place(&agreement_id, after, epoch, feed.length).await?;

        let service = self.clone();
        // What a heartbeat says: resuming from there misses nothing.
        let (told, heard) = watch::channel((after, epoch));
        let items = async_stream::try_stream! {
            // Seen before the first look, so that no change is missed.
            let mut changed = service.store.watch();
            let mut after = after;
            let mut caught_up = false;
            loop {
                changed.borrow_and_update();
                // Looked at each time: a certificate that was withdrawn, or an
                // agreement that ended, ends the stream at once.
                let partner = service.partner(certificate.as_ref()).await?;
                let terms = service.agreement(&agreement_id, &partner).await?;
                let page = queries::feed(&service.store.schema(), &agreement_id, after, PAGE)
                    .await
                    .map_err(reply::unavailable)?;
                if let (Some(first), Some(last)) = (page.first(), page.last()) {
                    let (first, last) = (first.position, last.position);
                    if !service.disclose(&terms, &certificate, first, last).await? {
                        continue;
                    }
                    for place in page {
                        after = place.position;
                        told.send_replace((after, place.epoch));
                        yield service.item(&terms, place);
                    }
                    continue;
                }
                // What stood in the feed at the beginning may still be on its
                // way into the store.
                if !caught_up && after >= feed.length {
                    caught_up = true;
                    let (position, epoch) = *told.borrow();
                    let item = Some(Item::CaughtUp(FeedCaughtUp {}));
                    yield SubscribeResponse { position, epoch, item };
                }
                if changed.changed().await.is_err() {
                    return;
                }
            }
        };
        // Of the feed, and not of a log.
        let at = move || {
            let (position, epoch) = *heard.borrow();
            Position { log: String::new(), epoch, position }
        };
        let heartbeat = |Position { position, epoch, .. }| {
            let time = Some(to_proto(Timestamp::now()));
            let item = Some(Item::Heartbeat(FeedHeartbeat { time }));
            SubscribeResponse { position, epoch, item }
        };
        Ok(Response::new(outgoing(items, at, heartbeat, &self.deployment, &caller)))
    }
}

/// What holds between the caller and us at this moment.
struct Terms {
    concluded: AgreementConcluded,
    version: u64,
}

impl Regional {
    /// The code of the partner that this certificate stands for.
    async fn partner(&self, certificate: Option<&Certificate>) -> Result<String, Status> {
        let unknown = || {
            let text = "this needs a client certificate that we know";
            reply::status(Code::Unauthenticated, "CERTIFICATE_UNKNOWN", text)
        };
        let Certificate { oin, thumbprint } = certificate.ok_or_else(unknown)?;
        queries::partner_by_certificate(&self.store.schema(), oin, thumbprint)
            .await
            .map_err(reply::unavailable)?
            .ok_or_else(unknown)
    }

    /// The agreement as it holds now; NOT_FOUND where it is another's, or has
    /// ended.
    async fn agreement(&self, id: &str, partner: &str) -> Result<Arc<Terms>, Status> {
        let (agreement, version) =
            self.agreements.get::<Rejection>(id).await.map_err(reply::command)?;
        let agreement: agreement::Agreement = agreement;
        match agreement.in_force() {
            Some(concluded) if concluded.partner == partner => {
                Ok(Arc::new(Terms { concluded: concluded.clone(), version }))
            }
            _ => Err(reply::not_found("agreement", id)),
        }
    }

    /// Records that a range goes out. False when the agreement moved
    /// meanwhile: look at it again.
    async fn disclose(
        &self,
        terms: &Terms,
        certificate: &Option<Certificate>,
        first: u64,
        last: u64,
    ) -> Result<bool, Status> {
        let agreement = &terms.concluded;
        let disclose = Disclose {
            agreement_id: agreement.id.clone(),
            agreement_version: terms.version,
            purpose: agreement.purpose.clone(),
            first,
            last,
        };
        let guard =
            Expected { stream: format!("agreement/{}", agreement.id), version: terms.version };
        let command = Command {
            actor: certificate.as_ref().map(|c| c.oin.clone()).unwrap_or_default(),
            method: "Disclose",
            request_id: Uuid::now_v7().to_string(),
            ..Command::default()
        };
        let recorded = self
            .disclosures
            .execute(command, &agreement.id, |state, _| {
                Ok::<_, Rejection>(samen_log::command::Decision {
                    events: decide(state, &disclose),
                    guards: vec![guard.clone()],
                    not_after: None,
                })
            })
            .await;
        match recorded {
            Ok(_) => Ok(true),
            Err(CommandError::Append(AppendError::Conflict { .. })) => Ok(false),
            Err(error) => Err(reply::command(error)),
        }
    }

    /// What the partner gets at a position: the event, or that there is
    /// nothing which may leave any more.
    fn item(&self, terms: &Terms, place: Place) -> SubscribeResponse {
        let Place { position, epoch, record } = place;
        let agreed = terms.concluded.event_types.contains(&record.r#type);
        let event = agreed.then(|| cloud_event(&self.deployment.oin, position, &record)).flatten();
        let item = event.map_or(Item::Tombstone(Tombstone {}), Item::Event);
        SubscribeResponse { position, epoch, item: Some(item) }
    }

    /// Whether what the partner saw last still stands where they saw it.
    async fn check_place(
        &self,
        agreement: &str,
        after: u64,
        epoch: u64,
        length: u64,
    ) -> Result<(), Status> {
        if after > length {
            let text = format!("after is {after}, but the feed reaches {length}");
            return Err(reply::precondition("BEYOND_END", "after", &text));
        }
        let stands = queries::epoch_at(&self.store.schema(), agreement, after).await;
        if after > 0 && stands.map_err(reply::unavailable)? != Some(epoch) {
            let text = format!("position {after} was not given in epoch {epoch}: begin from 0");
            return Err(reply::precondition("OTHER_EPOCH", "epoch", &text));
        }
        Ok(())
    }
}
