//! A record as a CloudEvent (1.0, protobuf format), by the Dutch government's
//! profile (NL GOV): `source` names the OIN and the system, `type` is a
//! reverse-DNS name, `subject` is opaque, `sequence` is zero-padded.

use std::collections::BTreeMap;

use samen_log::Record;
use samen_proto::cloudevents::CloudEvent;
use samen_proto::cloudevents::cloud_event::cloud_event_attribute_value::Attr;
use samen_proto::cloudevents::cloud_event::{CloudEventAttributeValue, Data};

use super::minimise::minimise;

/// Digits of `sequence`: as many as the largest position has.
const SEQUENCE_DIGITS: usize = 20;

/// The event that stands at a feed's position. `None` when there is nothing
/// that may leave.
pub fn cloud_event(oin: &str, position: u64, record: &Record) -> Option<CloudEvent> {
    let value = minimise(&record.r#type, &record.data)?;
    let subject = record.stream.split_once('/').map_or("", |(_, id)| id);
    let attributes = BTreeMap::from([
        attribute("subject", Attr::CeString(subject.to_owned())),
        attribute("sequence", Attr::CeString(format!("{position:0SEQUENCE_DIGITS$}"))),
        attribute("datacontenttype", Attr::CeString("application/protobuf".to_owned())),
        (
            "time".to_owned(),
            CloudEventAttributeValue { attr: record.recorded_at.map(Attr::CeTimestamp) },
        ),
    ]);
    Some(CloudEvent {
        id: format!("{}:{}", record.epoch, record.position),
        source: format!("urn:nld:oin:{oin}:systeem:{}", record.log),
        spec_version: "1.0".to_owned(),
        r#type: format!("nl.{}", record.r#type),
        attributes,
        data: Some(Data::ProtoData(prost_types::Any {
            type_url: format!("type.googleapis.com/{}", record.r#type),
            value,
        })),
    })
}

fn attribute(name: &str, value: Attr) -> (String, CloudEventAttributeValue) {
    (name.to_owned(), CloudEventAttributeValue { attr: Some(value) })
}
