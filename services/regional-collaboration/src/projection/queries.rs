//! What can be asked of the store.

use prost::{DecodeError, Message};
use samen_log::db::Tx;
use samen_log::{Record, Row, Schema, Sql};
use samen_proto::regional::{Agreement, Disclosure, Partner};

/// The partner that is known by this certificate.
pub async fn partner_by_certificate(
    schema: &Schema,
    oin: &str,
    thumbprint: &str,
) -> sqlx::Result<Option<String>> {
    let mut sql = Sql::new(schema, "SELECT partner FROM {s}.partner_certificate WHERE oin = ");
    sql.bind(oin).push(" AND thumbprint = ").bind(thumbprint).push(" ORDER BY partner LIMIT 1");
    Ok(sql.fetch(&schema.db).await?.first().map(|row| row.text(0)))
}

/// Partners by code, after this one.
pub async fn partners(schema: &Schema, after: &str, limit: usize) -> sqlx::Result<Vec<Partner>> {
    let mut sql = Sql::new(schema, "SELECT body FROM {s}.partner WHERE code > ");
    sql.bind(after).push(" ORDER BY code LIMIT ").bind(limit as i64);
    sql.fetch(&schema.db).await?.iter().map(|row| decoded(row, 0)).collect()
}

/// Agreements, newest first, made before this position; of one partner, or
/// (with an empty code) of all. With the positions that made them.
pub async fn agreements(
    schema: &Schema,
    partner: &str,
    before: u64,
    limit: usize,
) -> sqlx::Result<Vec<(u64, Agreement)>> {
    let mut sql = Sql::new(schema, "SELECT body, position FROM {s}.agreement WHERE position < ");
    sql.bind(before);
    if !partner.is_empty() {
        sql.push(" AND partner = ").bind(partner);
    }
    sql.push(" ORDER BY position DESC LIMIT ").bind(limit as i64);
    let rows = sql.fetch(&schema.db).await?;
    rows.iter().map(|row| Ok((row.int(1) as u64, decoded(row, 0)?))).collect()
}

/// The ids of agreements that hold.
pub async fn agreements_in_force(schema: &Schema) -> sqlx::Result<Vec<String>> {
    let sql = Sql::new(schema, "SELECT id FROM {s}.agreement WHERE in_force = 1 ORDER BY position");
    Ok(sql.fetch(&schema.db).await?.iter().map(|row| row.text(0)).collect())
}

/// A partner's agreements that hold.
pub async fn agreements_of(schema: &Schema, partner: &str) -> sqlx::Result<Vec<Agreement>> {
    let mut sql =
        Sql::new(schema, "SELECT body FROM {s}.agreement WHERE in_force = 1 AND partner = ");
    sql.bind(partner).push(" ORDER BY position");
    sql.fetch(&schema.db).await?.iter().map(|row| decoded(row, 0)).collect()
}

/// The epoch in which a place of a feed was given.
pub async fn epoch_at(
    schema: &Schema,
    agreement: &str,
    position: u64,
) -> sqlx::Result<Option<u64>> {
    let mut sql = Sql::new(schema, "SELECT epoch FROM {s}.feed_entry WHERE agreement = ");
    sql.bind(agreement).push(" AND position = ").bind(position);
    Ok(sql.fetch(&schema.db).await?.first().map(|row| row.int(0) as u64))
}

/// A place in a feed, and what stands there: an empty record where the source
/// was restored since, and has another record there now.
pub struct Place {
    pub position: u64,
    pub epoch: u64,
    pub record: Record,
}

/// What stands in a feed after a position. Ends before the first place whose
/// record this store has not seen yet.
pub async fn feed(
    schema: &Schema,
    agreement: &str,
    after: u64,
    limit: usize,
) -> sqlx::Result<Vec<Place>> {
    let mut sql = Sql::new(
        schema,
        "SELECT e.position, e.epoch, r.body, e.source_epoch
         FROM {s}.feed_entry AS e
         JOIN {s}.source_record AS r ON r.log = e.source_log AND r.position = e.source_position
         WHERE e.agreement = ",
    );
    sql.bind(agreement).push(" AND e.position > ").bind(after);
    sql.push(" ORDER BY e.position LIMIT ").bind(limit as i64);
    let rows = sql.fetch(&schema.db).await?;
    let mut entries = Vec::with_capacity(rows.len());
    for (expected, row) in (after + 1..).zip(&rows) {
        let position = row.int(0) as u64;
        if position != expected {
            break;
        }
        let epoch = row.int(1) as u64;
        let record: Record = decoded(row, 2)?;
        let assigned = record.epoch <= row.int(3) as u64;
        let record = if assigned { record } else { Record::default() };
        entries.push(Place { position, epoch, record });
    }
    Ok(entries)
}

/// Disclosures under an agreement, newest first, recorded before this
/// position. With the positions of their records.
pub async fn disclosures(
    schema: &Schema,
    agreement: &str,
    before: u64,
    limit: usize,
) -> sqlx::Result<Vec<(u64, Disclosure)>> {
    let mut sql = Sql::new(schema, "SELECT body, position FROM {s}.disclosure WHERE agreement = ");
    sql.bind(agreement).push(" AND position < ").bind(before);
    sql.push(" ORDER BY position DESC LIMIT ").bind(limit as i64);
    let rows = sql.fetch(&schema.db).await?;
    rows.iter().map(|row| Ok((row.int(1) as u64, decoded(row, 0)?))).collect()
}

/// A partner's row as a projector's transaction sees it.
pub(super) async fn partner_in(
    tx: &mut Tx,
    schema: &Schema,
    code: &str,
) -> sqlx::Result<Option<Partner>> {
    let mut sql = Sql::new(schema, "SELECT body FROM {s}.partner WHERE code = ");
    sql.bind(code);
    sql.fetch_in(tx).await?.first().map(|row| decoded(row, 0)).transpose()
}

/// An agreement's row as a projector's transaction sees it.
pub(super) async fn agreement_in(
    tx: &mut Tx,
    schema: &Schema,
    id: &str,
) -> sqlx::Result<Option<(u64, Agreement)>> {
    let mut sql = Sql::new(schema, "SELECT body, position FROM {s}.agreement WHERE id = ");
    sql.bind(id);
    let rows = sql.fetch_in(tx).await?;
    rows.first().map(|row| Ok((row.int(1) as u64, decoded(row, 0)?))).transpose()
}

fn decoded<M: Message + Default>(row: &Row, column: usize) -> sqlx::Result<M> {
    let failed = |error: DecodeError| sqlx::Error::Decode(error.into());
    M::decode(row.bytes(column).as_slice()).map_err(failed)
}
