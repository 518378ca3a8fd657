//! A batch in PostgreSQL, whatever its size: one round trip where the log is
//! as it was left, five where it has to be looked at.

use sqlx::postgres::PgArguments;
use sqlx::{PgConnection, PgPool, PgTransaction, Postgres, Row};

use super::Appended;
use super::batch::{Asked, Head, Known, Written};
use crate::db::Schema;
use crate::record::micros;

/// Begins, and takes the head's lock. In two statements: a transaction whose
/// first one failed must be known as one that has to be rolled back.
pub(super) async fn begin(schema: &Schema, pool: &PgPool) -> sqlx::Result<PgTransaction<'static>> {
    let mut tx = pool.begin().await?;
    sqlx::query(schema.sql("SELECT 1 FROM {s}.head WHERE one = 1 FOR UPDATE"))
        .execute(&mut *tx)
        .await?;
    Ok(tx)
}

/// One answer for all questions, told apart by `kind`: head and clock always,
/// and what exists of the streams, commands and keys. A statement of its own,
/// so that its snapshot is taken after the lock was.
pub(super) async fn look_up(
    schema: &Schema,
    tx: &mut PgConnection,
    asked: &Asked,
) -> sqlx::Result<(Head, Known)> {
    let rows = sqlx::query(schema.sql(
        "SELECT 0 AS kind, log AS id, hash AS bytes, NULL AS key_id, epoch AS first,
                position AS last, recorded_at,
                (extract(epoch FROM clock_timestamp()) * 1000000)::bigint AS now
         FROM {s}.head WHERE one = 1
         UNION ALL
         SELECT 1, s.id, NULL, NULL, v.version, 0, 0, 0
         FROM unnest($1::text[]) AS s(id), LATERAL (
             SELECT version FROM {s}.record WHERE stream = s.id ORDER BY version DESC LIMIT 1
         ) AS v
         UNION ALL
         SELECT 2, id, fingerprint, key_id, first_position, last_position, 0, 0
         FROM {s}.command WHERE id = ANY($2::text[])
         UNION ALL
         SELECT 3, id, NULL, NULL, 0, 0, 0, 0
         FROM {s}.sealing_key WHERE id = ANY($3::text[])
         ORDER BY kind",
    ))
    .bind(&asked.streams)
    .bind(&asked.commands)
    .bind(&asked.keys)
    .fetch_all(tx)
    .await?;

    let (head, found) = rows.split_first().ok_or(sqlx::Error::RowNotFound)?;
    let mut known = Known { now: head.get(7), ..Known::default() };
    for row in found {
        let id: String = row.get(1);
        let (first, last): (i64, i64) = (row.get(4), row.get(5));
        match row.get::<i32, _>(0) {
            1 => drop(known.versions.insert(id, first as u64)),
            2 => {
                let appended = Appended::replayed(row.get(2), row.get(3), first, last);
                known.commands.insert(id, appended);
            }
            _ => drop(known.keys.insert(id)),
        }
    }
    let head = Head {
        log: head.get(1),
        epoch: head.get(4),
        position: head.get(5),
        hash: head.get(2),
        recorded_at: head.get(6),
    };
    Ok((head, known))
}

/// Writes a batch and moves the head.
pub(super) async fn write(
    schema: &Schema,
    tx: &mut PgConnection,
    head: &Head,
    written: &Written,
) -> sqlx::Result<()> {
    let sql = format!("{INSERTS} UPDATE {{s}}.head SET {MOVED} WHERE one = 1");
    let sql = schema.sql(&sql.replace("{if}", ""));
    bind(sqlx::query(sql), head, written).execute(tx).await?;
    Ok(())
}

/// Writes a batch and moves the head, if the log still stands at `before`, the
/// streams are at these versions, neither commands nor keys exist, and the time
/// that the records bear is the database's, nearly. Gives the clock; `None` when it was otherwise, and then nothing is written.
///
/// One statement is enough: its snapshot may be older than the head's lock,
/// but whoever had appended in between would have moved the head.
pub(super) async fn write_if(
    schema: &Schema,
    pool: &PgPool,
    before: &Head,
    streams: &[(String, u64)],
    head: &Head,
    written: &Written,
) -> sqlx::Result<Option<i64>> {
    let sql = format!(
        "WITH moved AS (
             UPDATE {{s}}.head SET {MOVED}
             WHERE one = 1 AND epoch = $1 AND position = $21 AND hash = $22
               AND {NOW} BETWEEN $20::bigint - {DRIFT} AND $20::bigint + {DRIFT}
               AND NOT EXISTS (SELECT 1 FROM {{s}}.command WHERE id = ANY($11::text[]))
               AND NOT EXISTS (SELECT 1 FROM {{s}}.sealing_key WHERE id = ANY($16::text[]))
               AND NOT EXISTS (
                   SELECT 1 FROM unnest($23::text[], $24::bigint[]) AS e(stream, version)
                   WHERE e.version <> coalesce((
                       SELECT version FROM {{s}}.record AS r WHERE r.stream = e.stream
                       ORDER BY version DESC LIMIT 1), 0)
               )
             RETURNING 1
         ), {}
         SELECT {NOW} FROM moved",
        INSERTS.trim_start().trim_start_matches("WITH"),
    );
    let sql = schema.sql(&sql.replace("{if}", "WHERE EXISTS (SELECT 1 FROM moved)"));
    bind(sqlx::query(sql), head, written)
        .bind(before.position)
        .bind(&before.hash)
        .bind(streams.iter().map(|(stream, _)| stream.as_str()).collect::<Vec<_>>())
        .bind(streams.iter().map(|(_, version)| *version as i64).collect::<Vec<_>>())
        .fetch_optional(pool)
        .await
        .map(|row| row.map(|row| row.get(0)))
}

/// What a batch writes, under a condition or none (`{if}`).
const INSERTS: &str = "
    WITH records AS (
        INSERT INTO {s}.record
            (position, epoch, stream, version, type, actor, recorded_at, data, salt, hash)
        SELECT position, $1, stream, version, type, actor, recorded_at, data, salt, hash
        FROM unnest($2::bigint[], $3::text[], $4::bigint[], $5::text[], $6::text[],
                    $7::bigint[], $8::bytea[], $9::bytea[], $10::bytea[])
             AS r(position, stream, version, type, actor, recorded_at, data, salt, hash) {if}
    ), commands AS (
        INSERT INTO {s}.command (id, fingerprint, key_id, first_position, last_position)
        SELECT * FROM unnest($11::text[], $12::bytea[], $13::text[], $14::bigint[],
                             $15::bigint[]) {if}
    ), keys AS (
        INSERT INTO {s}.sealing_key (id, wrapped)
        SELECT * FROM unnest($16::text[], $17::bytea[]) {if}
    )";
/// The database's clock.
const NOW: &str = "(extract(epoch FROM clock_timestamp()) * 1000000)::bigint";
/// Microseconds by which a reckoned time may be beside it. It is more where a
/// machine was put to sleep, or a clock was set.
const DRIFT: i64 = 1_000_000;
/// Where the head then stands.
const MOVED: &str = "position = $18, hash = $19, recorded_at = $20";

type Query<'q> = sqlx::query::Query<'q, Postgres, PgArguments>;

/// Binds what [`INSERTS`] and [`MOVED`] name.
fn bind<'q>(query: Query<'q>, head: &'q Head, written: &'q Written) -> Query<'q> {
    let records = &written.records;
    let commands = &written.commands;
    let column = |of: fn(&crate::Record) -> &str| records.iter().map(of).collect::<Vec<_>>();
    query
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
}
