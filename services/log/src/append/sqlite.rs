//! A batch in SQLite. The transaction has begun as the only writer.

use jiff::Timestamp;
use sqlx::{QueryBuilder, Row, Sqlite, SqliteConnection};

use super::Appended;
use super::batch::{Asked, Head, Known, Written};
use crate::db::Schema;
use crate::record::micros;

/// Rows in one INSERT: SQLite takes 32,766 parameters, a record has ten.
const ROWS: usize = 500;

async fn head(schema: &Schema, tx: &mut SqliteConnection) -> sqlx::Result<Head> {
    let row =
        sqlx::query(schema.sql("SELECT log, epoch, position, hash, recorded_at FROM {s}.head"))
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

pub(super) async fn look_up(
    schema: &Schema,
    tx: &mut SqliteConnection,
    asked: &Asked,
) -> sqlx::Result<(Head, Known)> {
    let head = head(schema, tx).await?;
    // An embedded database's clock is the machine's.
    let mut known = Known { now: Timestamp::now().as_microsecond(), ..Known::default() };
    let streams = sqlx::query(schema.sql(
        "SELECT j.value, (SELECT version FROM {s}.record WHERE stream = j.value
                          ORDER BY version DESC LIMIT 1)
         FROM json_each($1) AS j",
    ))
    .bind(json(&asked.streams))
    .fetch_all(&mut *tx)
    .await?;
    for row in streams {
        if let Some(version) = row.get::<Option<i64>, _>(1) {
            known.versions.insert(row.get(0), version as u64);
        }
    }
    if !asked.commands.is_empty() {
        let commands = sqlx::query(schema.sql(
            "SELECT id, fingerprint, key_id, first_position, last_position FROM {s}.command
             WHERE id IN (SELECT value FROM json_each($1))",
        ))
        .bind(json(&asked.commands))
        .fetch_all(&mut *tx)
        .await?;
        for row in commands {
            let appended = Appended::replayed(row.get(1), row.get(2), row.get(3), row.get(4));
            known.commands.insert(row.get(0), appended);
        }
    }
    if !asked.keys.is_empty() {
        let keys =
            sqlx::query(schema.sql(
                "SELECT id FROM {s}.sealing_key WHERE id IN (SELECT value FROM json_each($1))",
            ))
            .bind(json(&asked.keys))
            .fetch_all(&mut *tx)
            .await?;
        known.keys.extend(keys.into_iter().map(|row| row.get::<String, _>(0)));
    }
    Ok((head, known))
}

pub(super) async fn write(
    schema: &Schema,
    tx: &mut SqliteConnection,
    head: &Head,
    written: &Written,
) -> sqlx::Result<()> {
    let rows: Vec<_> = written.records.iter().zip(&written.salts).collect();
    for chunk in rows.chunks(ROWS) {
        let mut insert = QueryBuilder::<Sqlite>::new(
            "INSERT INTO main.record
                 (position, epoch, stream, version, type, actor, recorded_at, data, salt, hash) ",
        );
        insert.push_values(chunk, |mut row, (record, salt)| {
            row.push_bind(record.position as i64)
                .push_bind(record.epoch as i64)
                .push_bind(&record.stream)
                .push_bind(record.version as i64)
                .push_bind(&record.r#type)
                .push_bind(&record.actor)
                .push_bind(micros(record))
                .push_bind(&record.data)
                .push_bind(salt.as_slice())
                .push_bind(&record.hash);
        });
        insert.build().persistent(false).execute(&mut *tx).await?;
    }
    for chunk in written.commands.chunks(ROWS) {
        let mut insert = QueryBuilder::<Sqlite>::new(
            "INSERT INTO main.command
                 (id, fingerprint, key_id, first_position, last_position) ",
        );
        insert.push_values(chunk, |mut row, (command, appended)| {
            row.push_bind(&command.id)
                .push_bind(&command.fingerprint)
                .push_bind(&command.key_id)
                .push_bind(appended.first as i64)
                .push_bind(appended.last as i64);
        });
        insert.build().persistent(false).execute(&mut *tx).await?;
    }
    for chunk in written.keys.chunks(ROWS) {
        let mut insert = QueryBuilder::<Sqlite>::new("INSERT INTO main.sealing_key (id, wrapped) ");
        insert.push_values(chunk, |mut row, key| {
            row.push_bind(&key.id).push_bind(&key.wrapped);
        });
        insert.build().persistent(false).execute(&mut *tx).await?;
    }
    sqlx::query(schema.sql("UPDATE {s}.head SET position = $1, hash = $2, recorded_at = $3"))
        .bind(head.position)
        .bind(&head.hash)
        .bind(head.recorded_at)
        .execute(&mut *tx)
        .await?;
    Ok(())
}

fn json(ids: &[String]) -> String {
    serde_json::Value::from(ids.to_vec()).to_string()
}
