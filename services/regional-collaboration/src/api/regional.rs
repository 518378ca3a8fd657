//! Partners, agreements and disclosures, for staff.

use std::collections::HashSet;

use samen_log::command::Decision;
use samen_log::record::timestamp;
use samen_log::{Aggregate, AppendError, Command, CommandError, Expected, NewEvent, Outcome};
use samen_proto::contract;
use samen_proto::regional::regional_service_server::RegionalService;
use samen_proto::regional::*;
use samen_server::access::caller;
use samen_server::calls::{command, wait};
use samen_server::paging;
use samen_server::reply::{self, Check};
use tonic::{Request, Response, Status};
use uuid::Uuid;

use super::Answer;
use crate::Regional;
use crate::domain::agreement::AgreementCommand;
use crate::domain::known::{self, Known, KnownEvent};
use crate::domain::partner::PartnerCommand;
use crate::domain::{Rejection, agreement, partner};
use crate::projection::queries::{self, KnownErasure};

/// Certificates by which one partner is known at a time: the old and the new.
const MAX_CERTIFICATES: usize = 2;
const OIN_DIGITS: usize = 20;
/// How often a change is decided anew when other partners move meanwhile.
const TRIES: usize = 8;

#[tonic::async_trait]
impl RegionalService for Regional {
    async fn register_partner(
        &self,
        request: Request<RegisterPartnerRequest>,
    ) -> Answer<RegisterPartnerResponse> {
        let caller = caller(&request)?;
        let message = request.into_inner();
        let mut check = Check::default();
        check.request_id(&message.request_id);
        check.text("name", &message.name, 1..=200);
        check_code(&mut check, "code", &message.code);
        let digits = message.oin.bytes().all(|b| b.is_ascii_digit());
        check.require(digits && message.oin.len() == OIN_DIGITS, "oin", "must be 20 digits");
        check.choice::<Layer>("layer", message.layer);
        check_thumbprints(&mut check, &message.certificate_thumbprints);
        check.finish()?;

        let command = command(&caller, "RegisterPartner", &message.request_id, &message);
        let registered = PartnerRegistered {
            code: message.code.clone(),
            name: message.name,
            oin: message.oin,
            layer: message.layer,
            certificate_thumbprints: lower(message.certificate_thumbprints),
        };
        let what = PartnerCommand::Register(registered);
        let outcome = self.change_partner(command, &message.code, what).await?;
        let position = Some(outcome.position);
        Ok(Response::new(RegisterPartnerResponse { version: outcome.version, position }))
    }

    async fn change_partner_certificates(
        &self,
        request: Request<ChangePartnerCertificatesRequest>,
    ) -> Answer<ChangePartnerCertificatesResponse> {
        let caller = caller(&request)?;
        let message = request.into_inner();
        let mut check = Check::default();
        check.request_id(&message.request_id);
        check_code(&mut check, "code", &message.code);
        check_thumbprints(&mut check, &message.certificate_thumbprints);
        check.finish()?;

        let command = command(&caller, "ChangePartnerCertificates", &message.request_id, &message);
        let what = PartnerCommand::ChangeCertificates(PartnerCertificatesChanged {
            code: message.code.clone(),
            certificate_thumbprints: lower(message.certificate_thumbprints),
        });
        let outcome = self.change_partner(command, &message.code, what).await?;
        let position = Some(outcome.position);
        Ok(Response::new(ChangePartnerCertificatesResponse { version: outcome.version, position }))
    }

    async fn list_partners(
        &self,
        request: Request<ListPartnersRequest>,
    ) -> Answer<ListPartnersResponse> {
        let message = request.into_inner();
        let size = paging::size(message.page_size)?;
        let query = b"ListPartners";
        let pages = &self.deployment.pages;
        let after: String = pages.end(query, &message.page_token)?.unwrap_or_default();
        wait(self, message.at_least.as_ref()).await?;
        let mut partners = queries::partners(&self.store.schema(), &after, size + 1)
            .await
            .map_err(reply::unavailable)?;
        let more = partners.len() > size;
        partners.truncate(size);
        let next_page_token = match partners.last() {
            Some(last) if more => pages.token(query, &last.code)?,
            _ => String::new(),
        };
        Ok(Response::new(ListPartnersResponse { partners, next_page_token }))
    }

    async fn conclude_agreement(
        &self,
        request: Request<ConcludeAgreementRequest>,
    ) -> Answer<ConcludeAgreementResponse> {
        let caller = caller(&request)?;
        let message = request.into_inner();
        let mut check = Check::default();
        check.request_id(&message.request_id);
        check_code(&mut check, "partner", &message.partner);
        check.text("purpose", &message.purpose, 1..=500);
        check.text("legal_basis", &message.legal_basis, 1..=500);
        check_event_types(&mut check, &message.event_types);
        check.finish()?;

        let (partner, version) =
            self.partners.get::<Rejection>(&message.partner).await.map_err(reply::command)?;
        let guard = Expected { stream: format!("partner/{}", message.partner), version };
        let command = command(&caller, "ConcludeAgreement", &message.request_id, &message);
        let id = Uuid::now_v7().to_string();
        let concluded = AgreementConcluded {
            id: id.clone(),
            partner: message.partner,
            event_types: message.event_types,
            purpose: message.purpose,
            legal_basis: message.legal_basis,
        };
        let what = AgreementCommand::Conclude(concluded, partner);
        let outcome = self
            .agreements
            .create(command, &id, |state, _| {
                let events = agreement::decide(state, what.clone())?;
                let guards = vec![guard.clone()];
                Ok(Decision { guards, ..events.into() })
            })
            .await
            .map_err(reply::command::<Rejection>)?;
        let position = Some(outcome.position);
        Ok(Response::new(ConcludeAgreementResponse { id: outcome.id, position }))
    }

    async fn end_agreement(
        &self,
        request: Request<EndAgreementRequest>,
    ) -> Answer<EndAgreementResponse> {
        let caller = caller(&request)?;
        let message = request.into_inner();
        let mut check = Check::default();
        check.request_id(&message.request_id);
        check.id("id", &message.id);
        check.text("reason", &message.reason, 1..=500);
        check.finish()?;

        let command = command(&caller, "EndAgreement", &message.request_id, &message);
        let (id, reason) = (message.id.clone(), message.reason);
        let what = AgreementCommand::End(AgreementEnded { id, reason });
        let outcome = self
            .agreements
            .execute(command, &message.id, |state, _| {
                agreement::decide(state, what.clone()).map(Into::into)
            })
            .await
            .map_err(reply::command)?;
        Ok(Response::new(EndAgreementResponse { position: Some(outcome.position) }))
    }

    async fn list_agreements(
        &self,
        request: Request<ListAgreementsRequest>,
    ) -> Answer<ListAgreementsResponse> {
        let message = request.into_inner();
        if !message.partner.is_empty() {
            let mut check = Check::default();
            check_code(&mut check, "partner", &message.partner);
            check.finish()?;
        }
        let size = paging::size(message.page_size)?;
        let query = format!("ListAgreements {}", message.partner).into_bytes();
        let pages = &self.deployment.pages;
        let before = pages.end(&query, &message.page_token)?.unwrap_or(i64::MAX as u64);
        wait(self, message.at_least.as_ref()).await?;
        let schema = &self.store.schema();
        let mut found = queries::agreements(schema, &message.partner, before, size + 1)
            .await
            .map_err(reply::unavailable)?;
        let more = found.len() > size;
        found.truncate(size);
        let next_page_token = match found.last() {
            Some((position, _)) if more => pages.token(&query, position)?,
            _ => String::new(),
        };
        let agreements = found.into_iter().map(|(_, agreement)| agreement).collect();
        Ok(Response::new(ListAgreementsResponse { agreements, next_page_token }))
    }

    async fn list_disclosures(
        &self,
        request: Request<ListDisclosuresRequest>,
    ) -> Answer<ListDisclosuresResponse> {
        let message = request.into_inner();
        let mut check = Check::default();
        check.id("agreement_id", &message.agreement_id);
        check.finish()?;
        let size = paging::size(message.page_size)?;
        let query = format!("ListDisclosures {}", message.agreement_id).into_bytes();
        let pages = &self.deployment.pages;
        let before = pages.end(&query, &message.page_token)?.unwrap_or(i64::MAX as u64);
        wait(self, message.at_least.as_ref()).await?;
        let (agreement, _) = self
            .agreements
            .get::<Rejection>(&message.agreement_id)
            .await
            .map_err(reply::command)?;
        if agreement.concluded.is_none() {
            return Err(Rejection::NoAgreement { id: message.agreement_id }.into());
        }
        let schema = &self.store.schema();
        let mut found = queries::disclosures(schema, &message.agreement_id, before, size + 1)
            .await
            .map_err(reply::unavailable)?;
        let more = found.len() > size;
        found.truncate(size);
        let next_page_token = match found.last() {
            Some((position, _)) if more => pages.token(&query, position)?,
            _ => String::new(),
        };
        let disclosures = found.into_iter().map(|(_, disclosure)| disclosure).collect();
        Ok(Response::new(ListDisclosuresResponse { disclosures, next_page_token }))
    }

    async fn list_erasures(
        &self,
        request: Request<ListErasuresRequest>,
    ) -> Answer<ListErasuresResponse> {
        let message = request.into_inner();
        let ListErasuresRequest { partner, only_unconfirmed, .. } = &message;
        if !partner.is_empty() {
            let mut check = Check::default();
            check_code(&mut check, "partner", partner);
            check.finish()?;
        }
        let size = paging::size(message.page_size)?;
        let query = format!("ListErasures {partner} {only_unconfirmed}").into_bytes();
        let pages = &self.deployment.pages;
        let before = pages.end(&query, &message.page_token)?.unwrap_or(i64::MAX as u64);
        wait(self, message.at_least.as_ref()).await?;
        let schema = &self.store.schema();
        let mut found = queries::erasures(schema, partner, *only_unconfirmed, before, size + 1)
            .await
            .map_err(reply::unavailable)?;
        let more = found.len() > size;
        found.truncate(size);
        let next_page_token = match found.last() {
            Some(last) if more => pages.token(&query, &last.position)?,
            _ => String::new(),
        };
        let erasures = found.into_iter().map(shown).collect();
        Ok(Response::new(ListErasuresResponse { erasures, next_page_token }))
    }
}

/// An erasure as managers see it.
fn shown(erasure: KnownErasure) -> Erasure {
    let time = |micros: i64| (micros > 0).then(|| timestamp(micros));
    Erasure {
        reason: erasure.due.reason,
        places: erasure.due.feed_positions.len() as u64,
        partner: erasure.due.partner,
        number: erasure.due.number,
        agreement_id: erasure.due.agreement_id,
        due_time: time(erasure.due_time),
        send_time: time(erasure.send_time),
        confirm_time: time(erasure.confirm_time),
    }
}

impl Regional {
    async fn change_partner(
        &self,
        command: Command,
        code: &str,
        what: PartnerCommand,
    ) -> Result<Outcome, Status> {
        for _ in 0..TRIES {
            let (oin, thumbprints) = match &what {
                PartnerCommand::Register(registered) => {
                    (registered.oin.clone(), &registered.certificate_thumbprints)
                }
                PartnerCommand::ChangeCertificates(changed) => {
                    let found = self.partners.get::<Rejection>(code).await;
                    let (partner, _) = found.map_err(reply::command)?;
                    (partner.oin, &changed.certificate_thumbprints)
                }
            };
            let (known, version) =
                self.known.get::<Rejection>(&oin).await.map_err(reply::command)?;
            let guard = Expected { stream: format!("{}/{oin}", Known::KIND), version };
            let wanted = PartnerKnownBy {
                oin,
                partner: code.to_owned(),
                certificate_thumbprints: thumbprints.clone(),
            };
            let outcome = self.partners.execute(command.clone(), code, |state, _| {
                let events = partner::decide(state, what.clone())?;
                let known = known::decide(&known, wanted.clone())?;
                let others = vec![NewEvent::of(&guard.stream, &KnownEvent::from(known))];
                Ok(Decision { others, guards: vec![guard.clone()], ..events.into() })
            });
            match outcome.await {
                // Another partner's certificates changed: look at them again.
                Err(CommandError::Append(AppendError::Conflict { .. })) => {}
                outcome => return outcome.map_err(reply::command::<Rejection>),
            }
        }
        Err(reply::command::<Rejection>(AppendError::Overloaded.into()))
    }
}

/// A partner's code: it is part of stream names and subjects.
fn check_code(check: &mut Check, field: &str, code: &str) {
    let valid = (1..=20).contains(&code.len())
        && code.bytes().all(|b| b.is_ascii_uppercase() || b.is_ascii_digit());
    check.require(valid, field, "must be 1 to 20 capitals and digits, such as GM0437");
}

fn check_thumbprints(check: &mut Check, thumbprints: &[String]) {
    let field = "certificate_thumbprints";
    check.require(
        (1..=MAX_CERTIFICATES).contains(&thumbprints.len()),
        field,
        "must be one, or two while a certificate is being replaced",
    );
    let hex = |t: &String| t.len() == 64 && t.bytes().all(|b| b.is_ascii_hexdigit());
    let valid = thumbprints.iter().all(hex);
    check.require(valid, field, "must be SHA-256 in 64 hex digits");
}

fn check_event_types(check: &mut Check, event_types: &[String]) {
    let field = "event_types";
    let known: HashSet<String> =
        contract::event_types().map(|event| event.full_name().to_owned()).collect();
    // What is erased names people, and has a stream of its own.
    let private = |kind: &String| kind.starts_with("samen.privacy.");
    let shared =
        |kind: &String| known.contains(kind) && contract::is_exchanged(kind) && !private(kind);
    let distinct: HashSet<&String> = event_types.iter().collect();
    check.require(
        !event_types.is_empty() && distinct.len() == event_types.len(),
        field,
        "must name at least one, and each once",
    );
    check.require(
        event_types.iter().all(shared),
        field,
        "must be full names of events that the contract marks as exchanged, but for erasures",
    );
}

fn lower(thumbprints: Vec<String>) -> Vec<String> {
    thumbprints.into_iter().map(|thumbprint| thumbprint.to_lowercase()).collect()
}
