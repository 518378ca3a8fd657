//! The feed: history, a caught-up mark, then live, for a partner that is known
//! by its client certificate.
//!
//! What goes out is recorded first, with the agreement's version as a guard:
//! when the agreement ends or changes meanwhile, or the record cannot be
//! written, nothing is sent. After that, what was erased and withdrawn is
//! looked at once more: who records such a thing looks for recipients among
//! what was recorded before, so one of the two sees the other.

use std::sync::Arc;
use std::time::{Duration, Instant};

use jiff::Timestamp;
use samen_log::record::Position;
use samen_log::{AppendError, Command, CommandError, Cursor, Expected};
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
/// How old the last look at what was erased may be when an event leaves: a
/// reader that is slow takes its page event by event.
const LOOK_EVERY: Duration = Duration::from_secs(1);

#[tonic::async_trait]
impl FeedService for Regional {
    type SubscribeStream = Outgoing<SubscribeResponse>;
    type SubscribeErasuresStream = Outgoing<SubscribeErasuresResponse>;

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
            'look: loop {
                changed.borrow_and_update();
                // Looked at each time: a certificate that was withdrawn, or an
                // agreement that ended, ends the stream at once.
                let partner = service.partner(certificate.as_ref()).await?;
                let terms = service.agreement(&agreement_id, &partner).await?;
                let erased = service.erased(&agreement_id).await?;
                let schema = service.store.schema();
                let page = queries::feed(&schema, &agreement_id, after, PAGE, &erased.sources)
                    .await
                    .map_err(reply::unavailable)?;
                if let (Some(first), Some(last)) = (page.first(), page.last()) {
                    let (first, last) = (first.position, last.position);
                    if !service.disclose(&terms, &certificate, first, last).await? {
                        continue;
                    }
                    let mut looked = None;
                    for place in page {
                        if looked.is_none_or(|at: Instant| at.elapsed() > LOOK_EVERY) {
                            looked = Some(Instant::now());
                            if service.erased(&agreement_id).await? != erased {
                                continue 'look;
                            }
                        }
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

    async fn subscribe_erasures(
        &self,
        request: Request<SubscribeErasuresRequest>,
    ) -> Answer<Self::SubscribeErasuresStream> {
        let caller = caller(&request)?;
        let partner = self.partner(caller.certificate.as_ref()).await?;
        let SubscribeErasuresRequest { after, epoch } = request.into_inner();
        self.send_erasures(&caller, partner, after, epoch).await
    }

    async fn confirm_erasure(
        &self,
        request: Request<ConfirmErasureRequest>,
    ) -> Answer<ConfirmErasureResponse> {
        let caller = caller(&request)?;
        let partner = self.partner(caller.certificate.as_ref()).await?;
        let ConfirmErasureRequest { epoch, number } = request.into_inner();
        self.confirm(&caller, partner, epoch, number).await?;
        Ok(Response::new(ConfirmErasureResponse {}))
    }
}

/// What holds between the caller and us at this moment.
struct Terms {
    concluded: AgreementConcluded,
    version: u64,
}

/// What is known of erasures and of withdrawn places at a moment. What is read
/// from a store that has seen as much of the sources holds until this changes.
#[derive(PartialEq)]
struct Erased {
    sources: Vec<(String, Cursor)>,
    versions: Vec<u64>,
    restores: u64,
}

impl Regional {
    /// The code of the partner that this certificate stands for.
    pub(super) async fn partner(
        &self,
        certificate: Option<&Certificate>,
    ) -> Result<String, Status> {
        let unknown = || {
            let text = "this needs a client certificate that we know";
            reply::status(Code::Unauthenticated, "CERTIFICATE_UNKNOWN", text)
        };
        let Certificate { oin, thumbprint } = certificate.ok_or_else(unknown)?;
        self.check_built()?;
        let look = async || {
            let schema = self.store.schema();
            queries::partner_by_certificate(&schema, oin, thumbprint).await
        };
        let found = look().await.map_err(reply::unavailable)?;
        if let Some(partner) = found {
            return Ok(partner);
        }
        // The store may be on its way, after a source was restored.
        self.see_own_log().await?;
        look().await.map_err(reply::unavailable)?.ok_or_else(unknown)
    }

    /// What is erased, as this service's log has it now.
    async fn erased(&self, agreement: &str) -> Result<Erased, Status> {
        let (feed, _) = self.feeds.get::<Rejection>(agreement).await.map_err(reply::command)?;
        let mut erased = Erased {
            sources: Vec::with_capacity(self.source_logs.len()),
            versions: Vec::with_capacity(self.source_logs.len()),
            restores: feed.restores,
        };
        for log in self.source_logs.iter() {
            let source = self.sources.get::<Rejection>(log).await;
            let (source, version) = source.map_err(reply::command)?;
            erased.sources.push((log.clone(), source.through));
            erased.versions.push(version);
        }
        Ok(erased)
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
                    guards: vec![guard.clone()],
                    ..decide(state, &disclose).into()
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
        let agreed = &terms.concluded.event_types;
        let event = record
            .filter(|record| agreed.contains(&record.r#type))
            .and_then(|record| cloud_event(&self.deployment.oin, position, &record));
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
        let stands = queries::epoch_at(&self.store.schema(), agreement, after).await;
        resumes((after, epoch), length, stands.map_err(reply::unavailable)?)
    }
}

/// Whether one can resume after a number that was given in an epoch, where
/// there are `length` of them, and `stands` is the epoch of the one there.
pub(super) fn resumes(
    (after, epoch): (u64, u64),
    length: u64,
    stands: Option<u64>,
) -> Result<(), Status> {
    if after > length {
        let text = format!("after is {after}, but there are {length}");
        return Err(reply::precondition("BEYOND_END", "after", &text));
    }
    if after > 0 && stands != Some(epoch) {
        let text = format!("{after} was not given in epoch {epoch}: begin from 0");
        return Err(reply::precondition("OTHER_EPOCH", "epoch", &text));
    }
    Ok(())
}
