//! What this service's own events do to its tables.

use std::collections::{BTreeSet, HashMap};
use std::sync::Arc;

use prost::Message;
use samen_log::command::decode;
use samen_log::db::Tx;
use samen_log::record::{micros, recorded_at};
use samen_log::store::ApplyError;
use samen_log::{Record, Schema, Sql};
use samen_proto::regional::{
    Agreement, AgreementStatus, Disclosure, ErasureConfirmed, ErasureDue, Partner,
};
use samen_server::time::to_proto;

use super::{CHUNK, queries};
use crate::domain::agreement::AgreementEvent;
use crate::domain::disclosure::DisclosureEvent;
use crate::domain::erasure::ErasureEvent;
use crate::domain::feed::FeedEvent;
use crate::domain::partner::PartnerEvent;

/// A row of `feed_entry`.
struct Entry {
    agreement: String,
    position: u64,
    epoch: u64,
    source_log: String,
    source_epoch: u64,
    source_position: u64,
    withdrawn: u64,
}

/// Places for records of a source after a position, withdrawn by the event at
/// another.
struct Withdrawal {
    agreement: String,
    source_log: String,
    through: u64,
    by: u64,
}

/// An erasure, or how far it is: in the order of events.
enum ErasureChange {
    Due { position: u64, epoch: u64, time: i64, due: ErasureDue },
    Sent { partner: String, first: u64, last: u64, time: i64 },
    Confirmed { partner: String, number: u64, time: i64 },
}

/// What a batch of this service's own records changes.
#[derive(Default)]
struct Batch {
    partners: HashMap<String, Partner>,
    agreements: HashMap<String, (u64, Agreement)>,
    entries: Vec<Entry>,
    withdrawals: Vec<Withdrawal>,
    disclosures: Vec<(u64, u64, Disclosure)>,
    erasures: Vec<ErasureChange>,
}

/// Writes what this service's own records do.
pub(super) async fn apply(
    tx: &mut Tx,
    schema: &Schema,
    records: &[Arc<Record>],
) -> Result<(), ApplyError> {
    let mut batch = Batch::default();
    for record in records {
        batch.read(tx, schema, record).await?;
    }
    batch.write(tx, schema).await
}

impl Batch {
    async fn read(
        &mut self,
        tx: &mut Tx,
        schema: &Schema,
        record: &Record,
    ) -> Result<(), ApplyError> {
        let bad = |error: prost::DecodeError| ApplyError::of(record, error);
        if let Some(event) = decode::<PartnerEvent>(record).map_err(bad)? {
            self.partner(tx, schema, record, event).await
        } else if let Some(event) = decode::<AgreementEvent>(record).map_err(bad)? {
            self.agreement(tx, schema, record, event).await
        } else if let Some(event) = decode::<FeedEvent>(record).map_err(bad)? {
            self.feed(tx, schema, record, event).await
        } else if let Some(DisclosureEvent::Disclosed(sent)) = decode(record).map_err(bad)? {
            let id = &sent.agreement_id;
            let (_, agreement) = self.known_agreement(tx, schema, record, id).await?;
            agreement.disclosed_position = agreement.disclosed_position.max(sent.last_position);
            let reached = agreement.disclosed_position;
            let disclosure = Disclosure {
                kind: sent.kind,
                agreement_id: sent.agreement_id,
                first_position: sent.first_position,
                last_position: sent.last_position,
                agreement_version: sent.agreement_version,
                purpose: sent.purpose,
                create_time: Some(to_proto(recorded_at(record))),
            };
            self.disclosures.push((record.position, reached, disclosure));
            Ok(())
        } else if let Some(event) = decode::<ErasureEvent>(record).map_err(bad)? {
            let time = micros(record);
            self.erasures.push(match event {
                ErasureEvent::ErasureDue(due) => {
                    ErasureChange::Due { position: record.position, epoch: record.epoch, time, due }
                }
                ErasureEvent::ErasuresSent(sent) => ErasureChange::Sent {
                    partner: sent.partner,
                    first: sent.first_number,
                    last: sent.last_number,
                    time,
                },
                ErasureEvent::ErasureConfirmed(ErasureConfirmed { partner, number }) => {
                    ErasureChange::Confirmed { partner, number, time }
                }
            });
            Ok(())
        } else {
            Ok(())
        }
    }

    async fn feed(
        &mut self,
        tx: &mut Tx,
        schema: &Schema,
        record: &Record,
        event: FeedEvent,
    ) -> Result<(), ApplyError> {
        match event {
            FeedEvent::Assigned(assigned) => {
                let count = assigned.source_positions.len() as u64;
                let positions = (assigned.first_position..).zip(assigned.source_positions);
                self.entries.extend(positions.map(|(position, source_position)| Entry {
                    agreement: assigned.agreement_id.clone(),
                    position,
                    epoch: record.epoch,
                    source_log: assigned.source_log.clone(),
                    source_epoch: assigned.source_epoch,
                    source_position,
                    withdrawn: 0,
                }));
                let id = &assigned.agreement_id;
                let (_, agreement) = self.known_agreement(tx, schema, record, id).await?;
                agreement.feed_position = assigned.first_position + count - 1;
            }
            FeedEvent::SourceRestored(restored) => {
                let (log, through) = (restored.source_log, restored.source_through);
                for entry in &mut self.entries {
                    let lost = entry.agreement == restored.agreement_id
                        && entry.source_log == log
                        && entry.source_position > through;
                    if lost && entry.withdrawn == 0 {
                        entry.withdrawn = record.position;
                    }
                }
                self.withdrawals.push(Withdrawal {
                    agreement: restored.agreement_id,
                    source_log: log,
                    through,
                    by: record.position,
                });
            }
        }
        Ok(())
    }

    async fn partner(
        &mut self,
        tx: &mut Tx,
        schema: &Schema,
        record: &Record,
        event: PartnerEvent,
    ) -> Result<(), ApplyError> {
        match event {
            PartnerEvent::PartnerRegistered(registered) => {
                let partner = Partner {
                    code: registered.code,
                    name: registered.name,
                    oin: registered.oin,
                    layer: registered.layer,
                    certificate_thumbprints: registered.certificate_thumbprints,
                    version: record.version,
                };
                self.partners.insert(partner.code.clone(), partner);
            }
            PartnerEvent::PartnerCertificatesChanged(changed) => {
                let known = match self.partners.remove(&changed.code) {
                    Some(partner) => Some(partner),
                    None => queries::partner_in(tx, schema, &changed.code).await?,
                };
                let mut partner =
                    known.ok_or_else(|| ApplyError::of(record, "its partner is not known"))?;
                partner.certificate_thumbprints = changed.certificate_thumbprints;
                partner.version = record.version;
                self.partners.insert(changed.code, partner);
            }
        }
        Ok(())
    }

    async fn agreement(
        &mut self,
        tx: &mut Tx,
        schema: &Schema,
        record: &Record,
        event: AgreementEvent,
    ) -> Result<(), ApplyError> {
        match event {
            AgreementEvent::AgreementConcluded(concluded) => {
                let agreement = Agreement {
                    id: concluded.id,
                    partner: concluded.partner,
                    event_types: concluded.event_types,
                    purpose: concluded.purpose,
                    legal_basis: concluded.legal_basis,
                    status: AgreementStatus::InForce.into(),
                    create_time: Some(to_proto(recorded_at(record))),
                    version: record.version,
                    feed_position: 0,
                    disclosed_position: 0,
                };
                self.agreements.insert(agreement.id.clone(), (record.position, agreement));
            }
            AgreementEvent::AgreementEnded(ended) => {
                let (_, agreement) = self.known_agreement(tx, schema, record, &ended.id).await?;
                agreement.status = AgreementStatus::Ended.into();
                agreement.version = record.version;
            }
        }
        Ok(())
    }

    async fn known_agreement(
        &mut self,
        tx: &mut Tx,
        schema: &Schema,
        record: &Record,
        id: &str,
    ) -> Result<&mut (u64, Agreement), ApplyError> {
        if !self.agreements.contains_key(id) {
            let found = queries::agreement_in(tx, schema, id).await?;
            let found =
                found.ok_or_else(|| ApplyError::of(record, "its agreement is not known"))?;
            self.agreements.insert(id.to_owned(), found);
        }
        let missing = || ApplyError::of(record, "its agreement is not known");
        self.agreements.get_mut(id).ok_or_else(missing)
    }

    async fn write(self, tx: &mut Tx, schema: &Schema) -> Result<(), ApplyError> {
        for partner in self.partners.into_values() {
            write_partner(tx, schema, partner).await?;
        }
        let mut agreements = self.agreements.into_values().peekable();
        while agreements.peek().is_some() {
            let mut sql = Sql::new(
                schema,
                "INSERT INTO {s}.agreement (id, partner, position, in_force, body) ",
            );
            sql.values(agreements.by_ref().take(CHUNK).map(|(position, agreement)| {
                [
                    agreement.id.clone().into(),
                    agreement.partner.clone().into(),
                    position.into(),
                    (agreement.status() == AgreementStatus::InForce).into(),
                    agreement.encode_to_vec().into(),
                ]
            }));
            sql.push(
                " ON CONFLICT (id) DO UPDATE
                  SET in_force = excluded.in_force, body = excluded.body",
            );
            sql.execute(tx).await?;
        }
        // Of places that stood before this batch; those in it know already.
        for lost in self.withdrawals {
            let mut sql = Sql::new(schema, "UPDATE {s}.feed_entry SET withdrawn = ");
            sql.bind(lost.by).push(" WHERE agreement = ").bind(lost.agreement);
            sql.push(" AND source_log = ").bind(lost.source_log);
            sql.push(" AND source_position > ").bind(lost.through).push(" AND withdrawn = 0");
            sql.execute(tx).await?;
        }
        for chunk in self.entries.chunks(CHUNK) {
            let mut sql = Sql::new(
                schema,
                "INSERT INTO {s}.feed_entry
                     (agreement, position, epoch, source_log, source_epoch, source_position,
                      withdrawn, told) ",
            );
            sql.values(chunk.iter().map(|entry| {
                [
                    entry.agreement.as_str().into(),
                    entry.position.into(),
                    entry.epoch.into(),
                    entry.source_log.as_str().into(),
                    entry.source_epoch.into(),
                    entry.source_position.into(),
                    entry.withdrawn.into(),
                    0_u64.into(),
                ]
            }));
            sql.execute(tx).await?;
        }
        for chunk in self.disclosures.chunks(CHUNK) {
            let mut sql = Sql::new(
                schema,
                "INSERT INTO {s}.disclosure (position, agreement, reached, body) ",
            );
            sql.values(chunk.iter().map(|(position, reached, disclosure)| {
                [
                    (*position).into(),
                    disclosure.agreement_id.as_str().into(),
                    (*reached).into(),
                    disclosure.encode_to_vec().into(),
                ]
            }));
            sql.execute(tx).await?;
        }
        for change in self.erasures {
            write_erasure(tx, schema, change).await?;
        }
        Ok(())
    }
}

async fn write_erasure(
    tx: &mut Tx,
    schema: &Schema,
    change: ErasureChange,
) -> Result<(), ApplyError> {
    match change {
        ErasureChange::Due { position, epoch, time, due } => {
            for places in due.feed_positions.chunks(CHUNK) {
                let mut sql = Sql::new(schema, "UPDATE {s}.feed_entry SET told = ");
                sql.bind(due.number).push(" WHERE agreement = ").bind(due.agreement_id.as_str());
                sql.push(" AND position").any_of(places.iter().copied());
                sql.execute(tx).await?;
            }
            let mut sql = Sql::new(
                schema,
                "INSERT INTO {s}.erasure
                     (position, partner, number, epoch, due_time, send_time, confirm_time, body) ",
            );
            sql.values([[
                position.into(),
                due.partner.as_str().into(),
                due.number.into(),
                epoch.into(),
                time.into(),
                0_u64.into(),
                0_u64.into(),
                due.encode_to_vec().into(),
            ]]);
            sql.execute(tx).await?;
        }
        ErasureChange::Sent { partner, first, last, time } => {
            let mut sql = Sql::new(schema, "UPDATE {s}.erasure SET send_time = ");
            sql.bind(time).push(" WHERE partner = ").bind(partner);
            sql.push(" AND number BETWEEN ").bind(first).push(" AND ").bind(last);
            sql.execute(tx).await?;
        }
        ErasureChange::Confirmed { partner, number, time } => {
            let mut sql = Sql::new(schema, "UPDATE {s}.erasure SET confirm_time = ");
            sql.bind(time).push(" WHERE partner = ").bind(partner);
            sql.push(" AND number = ").bind(number);
            sql.execute(tx).await?;
        }
    }
    Ok(())
}

async fn write_partner(tx: &mut Tx, schema: &Schema, partner: Partner) -> Result<(), ApplyError> {
    let mut sql = Sql::new(schema, "INSERT INTO {s}.partner (code, body) ");
    sql.values([[partner.code.as_str().into(), partner.encode_to_vec().into()]]);
    sql.push(" ON CONFLICT (code) DO UPDATE SET body = excluded.body");
    sql.execute(tx).await?;

    let mut sql = Sql::new(schema, "DELETE FROM {s}.partner_certificate WHERE partner = ");
    sql.bind(partner.code.as_str());
    sql.execute(tx).await?;

    let thumbprints: BTreeSet<_> = partner.certificate_thumbprints.iter().collect();
    if thumbprints.is_empty() {
        return Ok(());
    }
    let mut sql =
        Sql::new(schema, "INSERT INTO {s}.partner_certificate (partner, oin, thumbprint) ");
    sql.values(thumbprints.into_iter().map(|thumbprint| {
        [partner.code.as_str().into(), partner.oin.as_str().into(), thumbprint.as_str().into()]
    }));
    sql.execute(tx).await?;
    Ok(())
}
