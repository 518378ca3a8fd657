//! What the service goes by: the catalogue, the organisation, the routing, the
//! networks. Few rows, which each process keeps in memory.

use std::collections::BTreeMap;
use std::sync::Arc;

use prost::Message;
use samen_log::command::decode;
use samen_log::db::Tx;
use samen_log::store::ApplyError;
use samen_log::{Record, Schema, Sql};
use samen_proto::requests::*;

samen_log::events! {
    /// What the register follows.
    pub enum RegisterEvent {
        CategoryDefined, CategoryRetired, OrganisationDefined, RoutingDefined,
        NetworkDefined, NetworkRetired,
    }
}

/// A row of `register`.
#[derive(Clone, Debug, PartialEq)]
pub struct RegisterRow {
    pub stream: String,
    /// Of what changed it last.
    pub position: u64,
    pub version: u64,
    pub retired: bool,
    /// The contract's message of its kind, encoded.
    pub body: Vec<u8>,
}

pub async fn apply(
    tx: &mut Tx,
    schema: &Schema,
    records: &[Arc<Record>],
) -> Result<(), ApplyError> {
    // The last state of each; what only retires keeps its body.
    let mut defined: BTreeMap<&str, RegisterRow> = BTreeMap::new();
    let mut retired: BTreeMap<&str, &Record> = BTreeMap::new();
    for record in records {
        let event: Option<RegisterEvent> =
            decode(record).map_err(|error| ApplyError::of(record, error))?;
        let Some(event) = event else { continue };
        let Some(body) = body(&event) else {
            retired.insert(&record.stream, record);
            continue;
        };
        retired.remove(record.stream.as_str());
        let row = RegisterRow {
            stream: record.stream.clone(),
            position: record.position,
            version: record.version,
            retired: false,
            body,
        };
        defined.insert(&record.stream, row);
    }
    if !defined.is_empty() {
        let mut sql = Sql::new(
            schema,
            "INSERT INTO {s}.register (stream, position, version, retired, body) ",
        );
        sql.values(defined.into_values().map(|row| {
            [
                row.stream.into(),
                row.position.into(),
                row.version.into(),
                row.retired.into(),
                row.body.into(),
            ]
        }));
        sql.push(
            " ON CONFLICT (stream) DO UPDATE
              SET position = excluded.position, version = excluded.version,
                  retired = excluded.retired, body = excluded.body",
        );
        sql.execute(tx).await?;
    }
    for record in retired.into_values() {
        let mut sql = Sql::new(schema, "UPDATE {s}.register SET retired = 1, position = ");
        sql.bind(record.position).push(", version = ").bind(record.version);
        sql.push(" WHERE stream = ").bind(record.stream.as_str());
        sql.execute(tx).await?;
    }
    Ok(())
}

/// All of it.
pub async fn all(schema: &Schema) -> sqlx::Result<Vec<RegisterRow>> {
    let sql = Sql::new(
        schema,
        "SELECT stream, position, version, retired, body FROM {s}.register ORDER BY stream",
    );
    let rows = sql.fetch(&schema.db).await?;
    Ok(rows
        .iter()
        .map(|row| RegisterRow {
            stream: row.text(0),
            position: row.int(1) as u64,
            version: row.int(2) as u64,
            retired: row.int(3) != 0,
            body: row.bytes(4),
        })
        .collect())
}

/// The position of what changed any of it last; 0 for nothing.
pub async fn newest(schema: &Schema) -> sqlx::Result<u64> {
    let sql = Sql::new(schema, "SELECT COALESCE(MAX(position), 0) FROM {s}.register");
    Ok(sql.fetch(&schema.db).await?.first().map_or(0, |row| row.int(0) as u64))
}

/// What it says from now on; `None` for what only retires it.
fn body(event: &RegisterEvent) -> Option<Vec<u8>> {
    match event {
        RegisterEvent::CategoryDefined(event) => {
            event.category.as_ref().map(Message::encode_to_vec)
        }
        RegisterEvent::OrganisationDefined(event) => {
            event.organisation.as_ref().map(Message::encode_to_vec)
        }
        RegisterEvent::RoutingDefined(event) => event.routing.as_ref().map(Message::encode_to_vec),
        RegisterEvent::NetworkDefined(event) => event.network.as_ref().map(Message::encode_to_vec),
        RegisterEvent::CategoryRetired(_) | RegisterEvent::NetworkRetired(_) => None,
    }
}
