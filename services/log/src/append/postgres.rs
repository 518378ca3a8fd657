//! A batch in PostgreSQL: three statements and a commit, whatever its size.

use std::collections::HashSet;

use sqlx::{PgConnection, Row};

use super::{Appended, Asked, Head, Known, Written};
use crate::db::Schema;
use crate::record::micros;

pub(super) async fn lock_head(schema: &Schema, tx: &mut PgConnection) -> sqlx::Result<Head> {
    let row = sqlx::query(
        schema.sql("SELECT log, epoch, position, hash, recorded_at FROM {s}.head FOR UPDATE"),
    )
    .fetch_one(tx)
    .await?;
    Ok(Head {
        log: row.get(0),
        epoch: row.get(1),
        position: row.get(2),
        hash: row.get(3),
        recorded_at: row.get(4),
    })
}

/// One answer for all questions, told apart by `kind`: the clock always, and
/// what exists of the streams, commands and keys.
pub(super) async fn look_up(
    schema: &Schema,
    tx: &mut PgConnection,
    asked: &Asked,
) -> sqlx::Result<Known> {
    let rows = sqlx::query(schema.sql(
        "SELECT 0 AS kind, '' AS id, NULL::bytea AS fingerprint, NULL AS key_id,
                (extract(epoch FROM clock_timestamp()) * 1000000)::bigint AS first,
                0::bigint AS last
         UNION ALL
         SELECT 1, s.id, NULL, NULL, v.version, 0
         FROM unnest($1::text[]) AS s(id), LATERAL (
             SELECT version FROM {s}.record WHERE stream = s.id ORDER BY version DESC LIMIT 1
         ) AS v
         UNION ALL
         SELECT 2, id, fingerprint, key_id, first_position, last_position
         FROM {s}.command WHERE id = ANY($2::text[])
         UNION ALL
         SELECT 3, id, NULL, NULL, 0, 0 FROM {s}.sealing_key WHERE id = ANY($3::text[])",
    ))
    .bind(&asked.streams)
    .bind(&asked.commands)
    .bind(&asked.keys)
    .fetch_all(tx)
    .await?;

    let mut known = Known { keys: HashSet::with_capacity(rows.len()), ..Known::default() };
    for row in rows {
        let id: String = row.get(1);
        let (first, last): (i64, i64) = (row.get(4), row.get(5));
        match row.get::<i32, _>(0) {
            0 => known.now = first,
            1 => drop(known.versions.insert(id, first as u64)),
            2 => {
                let appended = Appended::replayed(row.get(2), row.get(3), first, last);
                known.commands.insert(id, appended);
            }
            _ => drop(known.keys.insert(id)),
        }
    }
    Ok(known)
}

pub(super) async fn write(
    schema: &Schema,
    tx: &mut PgConnection,
    head: &Head,
    written: &Written,
) -> sqlx::Result<()> {
    let records = &written.records;
    let commands = &written.commands;
    let column = |of: fn(&crate::Record) -> &str| records.iter().map(of).collect::<Vec<_>>();
    sqlx::query(schema.sql(
        "WITH records AS (
             INSERT INTO {s}.record
                 (position, epoch, stream, version, type, actor, recorded_at, data, salt, hash)
             SELECT position, $1, stream, version, type, actor, recorded_at, data, salt, hash
             FROM unnest($2::bigint[], $3::text[], $4::bigint[], $5::text[], $6::text[],
                         $7::bigint[], $8::bytea[], $9::bytea[], $10::bytea[])
                  AS r(position, stream, version, type, actor, recorded_at, data, salt, hash)
         ), commands AS (
             INSERT INTO {s}.command (id, fingerprint, key_id, first_position, last_position)
             SELECT * FROM unnest($11::text[], $12::bytea[], $13::text[], $14::bigint[],
                                  $15::bigint[])
         ), keys AS (
             INSERT INTO {s}.sealing_key (id, wrapped)
             SELECT * FROM unnest($16::text[], $17::bytea[])
         )
         UPDATE {s}.head SET position = $18, hash = $19, recorded_at = $20",
    ))
    .bind(head.epoch)
    .bind(records.iter().map(|r| r.position as i64).collect::<Vec<_>>())
    .bind(column(|r| &r.stream))
    .bind(records.iter().map(|r| r.version as i64).collect::<Vec<_>>())
    .bind(column(|r| &r.r#type))
    .bind(column(|r| &r.actor))
    .bind(records.iter().map(micros).collect::<Vec<_>>())
    .bind(records.iter().map(|r| r.data.as_slice()).collect::<Vec<_>>())
    .bind(written.salts.iter().map(|s| s.as_slice()).collect::<Vec<_>>())
    .bind(records.iter().map(|r| r.hash.as_slice()).collect::<Vec<_>>())
    .bind(commands.iter().map(|(c, _)| c.id.as_str()).collect::<Vec<_>>())
    .bind(commands.iter().map(|(c, _)| c.fingerprint.as_slice()).collect::<Vec<_>>())
    .bind(commands.iter().map(|(c, _)| c.key_id.as_deref()).collect::<Vec<_>>())
    .bind(commands.iter().map(|(_, a)| a.first as i64).collect::<Vec<_>>())
    .bind(commands.iter().map(|(_, a)| a.last as i64).collect::<Vec<_>>())
    .bind(written.keys.iter().map(|k| k.id.as_str()).collect::<Vec<_>>())
    .bind(written.keys.iter().map(|k| k.wrapped.as_slice()).collect::<Vec<_>>())
    .bind(head.position)
    .bind(&head.hash)
    .bind(head.recorded_at)
    .execute(tx)
    .await?;
    Ok(())
}
