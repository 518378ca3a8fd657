//! One request's row, and what each event makes of it.

use prost::{DecodeError, Message};
use samen_log::record::recorded_at;
use samen_log::{Aggregate, Record, Row};
use samen_proto::log::Sealed;
use samen_proto::privacy::ContentErased;
use samen_proto::requests::{RequestFiled, RequestImported, ServiceRequest, Status, StatusChanged};
use samen_server::privacy::left;
use samen_server::time::to_proto;

use crate::domain::request::{Request, imported_status};
use crate::domain::status;

samen_log::events! {
    /// What the tables follow.
    pub enum ProjectedEvent { RequestFiled, RequestImported, StatusChanged, ContentErased }
}

/// A row of `request`.
#[derive(Clone, Debug, PartialEq)]
pub struct RequestRow {
    pub body: ServiceRequest,
    pub filed_by: String,
    /// Encoded `Sealed`, or empty.
    pub description: Vec<u8>,
    /// Encoded `Sealed`, or empty.
    pub reporter: Vec<u8>,
}

impl RequestRow {
    /// Reads the columns body, filed_by, description, reporter.
    pub fn read(row: &Row) -> Result<Self, DecodeError> {
        Ok(RequestRow {
            body: ServiceRequest::decode(row.bytes(0).as_slice())?,
            filed_by: row.text(1),
            description: row.bytes(2),
            reporter: row.bytes(3),
        })
    }
}

/// Which request an event is about. `None` where it is about none.
pub fn id(event: &ProjectedEvent) -> Option<&str> {
    match event {
        ProjectedEvent::RequestFiled(event) => Some(&event.id),
        ProjectedEvent::RequestImported(event) => Some(&event.id),
        ProjectedEvent::StatusChanged(event) => Some(&event.id),
        ProjectedEvent::ContentErased(event) => {
            event.stream.strip_prefix(Request::KIND)?.strip_prefix('/')
        }
    }
}

/// The row after an event. `None` when it needs a row that is not there.
pub fn evolve(
    row: Option<RequestRow>,
    record: &Record,
    event: &ProjectedEvent,
) -> Option<RequestRow> {
    let recorded = to_proto(recorded_at(record));
    match event {
        ProjectedEvent::RequestFiled(filed) => Some(RequestRow {
            body: ServiceRequest {
                id: filed.id.clone(),
                number: record.position,
                category: filed.category.clone(),
                status: Status::Received.into(),
                location: filed.location,
                neighbourhood: filed.neighbourhood.clone(),
                channel: filed.channel,
                create_time: Some(recorded),
                update_time: Some(recorded),
                close_time: None,
                version: record.version,
                source: String::new(),
                source_number: String::new(),
            },
            filed_by: record.actor.clone(),
            description: encoded(filed.description.as_ref()),
            reporter: encoded(filed.reporter.as_ref()),
        }),
        ProjectedEvent::RequestImported(imported) => Some(RequestRow {
            body: ServiceRequest {
                id: imported.id.clone(),
                number: record.position,
                category: imported.category.clone(),
                status: imported_status(imported).into(),
                location: imported.location,
                neighbourhood: imported.neighbourhood.clone(),
                channel: imported.channel,
                create_time: imported.create_time,
                update_time: Some(recorded),
                close_time: imported.close_time,
                version: record.version,
                source: imported.source.clone(),
                source_number: imported.source_number.clone(),
            },
            filed_by: record.actor.clone(),
            description: encoded(imported.description.as_ref()),
            reporter: Vec::new(),
        }),
        ProjectedEvent::StatusChanged(changed) => {
            let mut row = row?;
            row.body.status = changed.to;
            row.body.update_time = Some(recorded);
            row.body.close_time = status::is_closed(changed.to()).then_some(recorded);
            row.body.version = record.version;
            Some(row)
        }
        // The request itself does not change by it.
        ProjectedEvent::ContentErased(erased) => {
            let mut row = row?;
            row.description = left(row.description, &erased.key_ids);
            row.reporter = left(row.reporter, &erased.key_ids);
            Some(row)
        }
    }
}

fn encoded(sealed: Option<&Sealed>) -> Vec<u8> {
    sealed.map(Message::encode_to_vec).unwrap_or_default()
}
