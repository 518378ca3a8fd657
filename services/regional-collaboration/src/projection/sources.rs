//! What is kept of the other services' records.

use std::sync::Arc;

use prost::{Message, Name};
use samen_log::db::Tx;
use samen_log::store::ApplyError;
use samen_log::{Record, Schema, Sql};
use samen_proto::contract;
use samen_proto::privacy::ContentErased;

use super::CHUNK;
use crate::feed::keys::key_ids;

/// Keeps the records that the mask let through, under which keys their content
/// is sealed, and which keys were destroyed.
pub(super) async fn keep(
    tx: &mut Tx,
    schema: &Schema,
    records: &[Arc<Record>],
) -> Result<(), ApplyError> {
    // This service's own events are not exchanged: what is, is another's.
    let shared: Vec<_> =
        records.iter().filter(|record| contract::is_exchanged(&record.r#type)).collect();
    for chunk in shared.chunks(CHUNK) {
        let mut sql =
            Sql::new(schema, "INSERT INTO {s}.source_record (log, position, epoch, body) ");
        sql.values(chunk.iter().map(|record| {
            [
                record.log.as_str().into(),
                record.position.into(),
                record.epoch.into(),
                record.encode_to_vec().into(),
            ]
        }));
        sql.execute(tx).await?;
    }
    let mut keys = Vec::new();
    let mut erased = Vec::new();
    for record in shared {
        let found = key_ids(&record.r#type, &record.data);
        keys.extend(found.into_iter().map(|key| (record, key)));
        if record.r#type == ContentErased::full_name() {
            let gone = ContentErased::decode(record.data.as_slice())
                .map_err(|error| ApplyError::of(record, error))?;
            erased.extend(gone.key_ids.into_iter().map(|key| (record, key)));
        }
    }
    for chunk in keys.chunks(CHUNK) {
        let mut sql =
            Sql::new(schema, "INSERT INTO {s}.source_key (log, position, key_id, epoch, stream) ");
        sql.values(chunk.iter().map(|(record, key)| {
            [
                record.log.as_str().into(),
                record.position.into(),
                key.as_str().into(),
                record.epoch.into(),
                record.stream.as_str().into(),
            ]
        }));
        sql.execute(tx).await?;
    }
    for chunk in erased.chunks(CHUNK) {
        let mut sql = Sql::new(schema, "INSERT INTO {s}.erased_key (log, key_id) ");
        sql.values(
            chunk.iter().map(|(record, key)| [record.log.as_str().into(), key.as_str().into()]),
        );
        sql.push(" ON CONFLICT (log, key_id) DO NOTHING");
        sql.execute(tx).await?;
    }
    Ok(())
}
