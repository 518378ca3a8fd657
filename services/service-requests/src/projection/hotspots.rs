//! What is a hotspot now.

use std::sync::Arc;

use samen_log::command::decode;
use samen_log::db::Tx;
use samen_log::store::ApplyError;
use samen_log::{Record, Schema, Sql};

use crate::domain::hotspot::HotspotEvent;

pub async fn apply(
    tx: &mut Tx,
    schema: &Schema,
    records: &[Arc<Record>],
) -> Result<(), ApplyError> {
    for record in records {
        let event: Option<HotspotEvent> =
            decode(record).map_err(|error| ApplyError::of(record, error))?;
        let sql = match &event {
            None => continue,
            Some(HotspotEvent::HotspotDetected(hot)) => {
                let text = "INSERT INTO {s}.hotspot (category, neighbourhood, position) ";
                let mut sql = Sql::new(schema, text);
                sql.values([[
                    hot.category.as_str().into(),
                    hot.neighbourhood.as_str().into(),
                    record.position.into(),
                ]]);
                sql.push(" ON CONFLICT (category, neighbourhood) DO NOTHING");
                sql
            }
            Some(HotspotEvent::HotspotCooled(cool)) => {
                let mut sql = Sql::new(schema, "DELETE FROM {s}.hotspot WHERE category = ");
                sql.bind(cool.category.as_str()).push(" AND neighbourhood = ");
                sql.bind(cool.neighbourhood.as_str());
                sql
            }
        };
        sql.execute(tx).await?;
    }
    Ok(())
}
