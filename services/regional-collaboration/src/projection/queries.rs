//! What can be asked of the store.

use prost::{DecodeError, Message};
use samen_log::db::Tx;
use samen_log::{Cursor, Record, Row, Schema, Sql};
use samen_proto::regional::{Agreement, Disclosure, ErasureDue, Partner};

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

/// The ids of agreements that have ended.
pub async fn agreements_ended(schema: &Schema) -> sqlx::Result<Vec<String>> {
    let sql = Sql::new(schema, "SELECT id FROM {s}.agreement WHERE in_force = 0 ORDER BY position");
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

/// A place in a feed, and what stands there. `None` where that was erased, or
/// is not in its source's history any more.
pub struct Place {
    pub position: u64,
    pub epoch: u64,
    pub record: Option<Record>,
}

/// What stands in a feed after a position. Ends before the first place whose
/// record this store has not seen yet: the very record that was given the
/// place, of the same epoch. Empty while the store has not seen as much of
/// these logs.
pub async fn feed(
    schema: &Schema,
    agreement: &str,
    after: u64,
    limit: usize,
    seen: &[(String, Cursor)],
) -> sqlx::Result<Vec<Place>> {
    let mut sql = Sql::new(
        schema,
        "SELECT e.position, e.epoch,
             CASE WHEN e.withdrawn > 0 OR e.told > 0 OR EXISTS (
                 SELECT 1 FROM {s}.source_key AS k
                 JOIN {s}.erased_key AS g ON g.log = k.log AND g.key_id = k.key_id
                 WHERE k.log = e.source_log AND k.position = e.source_position
                     AND k.epoch = e.source_epoch
             ) THEN 1 ELSE 0 END,
             CASE WHEN r.position IS NULL THEN 0 ELSE 1 END,
             COALESCE(r.body, '')
         FROM {s}.feed_entry AS e
         LEFT JOIN {s}.source_record AS r ON r.log = e.source_log
             AND r.position = e.source_position AND r.epoch = e.source_epoch
         WHERE e.agreement = ",
    );
    sql.bind(agreement).push(" AND e.position > ").bind(after);
    sql.push(" AND ");
    has_seen(&mut sql, schema, seen);
    sql.push(" ORDER BY e.position LIMIT ").bind(limit as i64);
    let rows = sql.fetch(&schema.db).await?;
    let mut entries = Vec::with_capacity(rows.len());
    for (expected, row) in (after + 1..).zip(&rows) {
        let (position, epoch) = (row.int(0) as u64, row.int(1) as u64);
        let (gone, found) = (row.int(2) == 1, row.int(3) == 1);
        if position != expected || !(gone || found) {
            break;
        }
        let record = if gone { None } else { Some(decoded(row, 4)?) };
        entries.push(Place { position, epoch, record });
    }
    Ok(entries)
}

/// Places of feeds that went out, in order, by agreement and partner.
pub struct SentPlaces {
    pub agreement: String,
    pub partner: String,
    pub positions: Vec<u64>,
}

/// Which places have to be told.
pub enum Gone<'a> {
    /// Those whose records of this stream are sealed under one of these keys.
    Erased { log: &'a str, stream: &'a str, key_ids: &'a [String] },
    /// Those of this agreement that the record at `at` withdrew.
    Withdrawn { agreement: &'a str },
}

/// The places that had gone out before this service's record at `at`, and that
/// nobody was told of. `None` while the store has not seen as much of these
/// logs: in one statement, because a store can be built anew at any moment.
pub async fn sent_places(
    schema: &Schema,
    gone: &Gone<'_>,
    at: u64,
    seen: &[(String, Cursor)],
) -> sqlx::Result<Option<Vec<SentPlaces>>> {
    let mut sql = Sql::new(schema, "SELECT CASE WHEN ");
    has_seen(&mut sql, schema, seen);
    add(
        &mut sql,
        schema,
        " THEN 1 ELSE 0 END,
             COALESCE(p.agreement, ''), COALESCE(p.partner, ''), COALESCE(p.position, 0)
         FROM (SELECT 1 AS one) AS always
         LEFT JOIN (
             SELECT DISTINCT e.agreement, a.partner, e.position
             FROM {s}.feed_entry AS e
             JOIN {s}.agreement AS a ON a.id = e.agreement",
    );
    match gone {
        Gone::Erased { log, stream, key_ids } => {
            add(
                &mut sql,
                schema,
                " JOIN {s}.source_key AS k ON k.log = e.source_log
                      AND k.position = e.source_position AND k.epoch = e.source_epoch
                  WHERE k.log = ",
            );
            sql.bind(*log).push(" AND k.stream = ").bind(*stream);
            sql.push(" AND k.key_id").any_of(key_ids.iter().cloned());
        }
        Gone::Withdrawn { agreement } => {
            sql.push(" WHERE e.agreement = ").bind(*agreement);
            sql.push(" AND e.withdrawn = ").bind(at);
        }
    }
    add(
        &mut sql,
        schema,
        " AND e.told = 0 AND e.position <= COALESCE((
              SELECT d.reached FROM {s}.disclosure AS d
              WHERE d.agreement = e.agreement AND d.position < ",
    );
    sql.bind(at);
    sql.push(
        " ORDER BY d.position DESC LIMIT 1), 0)
         ) AS p ON 1 = 1 ORDER BY 2, 4",
    );
    let rows = sql.fetch(&schema.db).await?;
    if rows.iter().any(|row| row.int(0) == 0) {
        return Ok(None);
    }
    let mut found: Vec<SentPlaces> = Vec::new();
    for row in rows.iter().filter(|row| row.int(3) > 0) {
        let (agreement, position) = (row.text(1), row.int(3) as u64);
        match found.last_mut() {
            Some(last) if last.agreement == agreement => last.positions.push(position),
            _ => {
                let partner = row.text(2);
                found.push(SentPlaces { agreement, partner, positions: vec![position] });
            }
        }
    }
    Ok(Some(found))
}

/// Adds text with names to qualify.
fn add(sql: &mut Sql, schema: &Schema, text: &str) {
    sql.push(&schema.sql(text).0);
}

/// Adds the condition that the store has seen at least this much of each log.
/// What stands in a later epoch comes after all of an earlier one, if that is
/// still history.
fn has_seen(sql: &mut Sql, schema: &Schema, seen: &[(String, Cursor)]) {
    let followed: Vec<_> = seen.iter().filter(|(_, cursor)| cursor.position > 0).collect();
    add(sql, schema, "(SELECT COUNT(*) FROM {s}.checkpoint AS c WHERE 1 = 0");
    for (log, cursor) in &followed {
        sql.push(" OR (c.log = ").bind(log.as_str());
        sql.push(" AND (c.epoch > ").bind(cursor.epoch);
        sql.push(" OR (c.epoch = ").bind(cursor.epoch);
        sql.push(" AND c.position >= ").bind(cursor.position).push(")))");
    }
    sql.push(") = ").bind(followed.len() as i64);
}

/// An erasure, as it was recorded and as far as it is.
pub struct KnownErasure {
    /// The position of the event that made it.
    pub position: u64,
    pub epoch: u64,
    pub due: ErasureDue,
    /// Microseconds since 1970; 0: not yet.
    pub due_time: i64,
    pub send_time: i64,
    pub confirm_time: i64,
}

const ERASURE: &str = "SELECT position, epoch, body, due_time, send_time, confirm_time
     FROM {s}.erasure WHERE ";

/// A partner's erasures after a number, in order.
pub async fn erasures_after(
    schema: &Schema,
    partner: &str,
    after: u64,
    limit: usize,
) -> sqlx::Result<Vec<KnownErasure>> {
    let mut sql = Sql::new(schema, ERASURE);
    sql.push("partner = ").bind(partner).push(" AND number > ").bind(after);
    sql.push(" ORDER BY number LIMIT ").bind(limit as i64);
    sql.fetch(&schema.db).await?.iter().map(erasure).collect()
}

/// Erasures, newest first, recorded before this position; of one partner, or
/// (with an empty code) of all.
pub async fn erasures(
    schema: &Schema,
    partner: &str,
    only_unconfirmed: bool,
    before: u64,
    limit: usize,
) -> sqlx::Result<Vec<KnownErasure>> {
    let mut sql = Sql::new(schema, ERASURE);
    sql.push("position < ").bind(before);
    if !partner.is_empty() {
        sql.push(" AND partner = ").bind(partner);
    }
    if only_unconfirmed {
        sql.push(" AND confirm_time = 0");
    }
    sql.push(" ORDER BY position DESC LIMIT ").bind(limit as i64);
    sql.fetch(&schema.db).await?.iter().map(erasure).collect()
}

fn erasure(row: &Row) -> sqlx::Result<KnownErasure> {
    Ok(KnownErasure {
        position: row.int(0) as u64,
        epoch: row.int(1) as u64,
        due: decoded(row, 2)?,
        due_time: row.int(3),
        send_time: row.int(4),
        confirm_time: row.int(5),
    })
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
