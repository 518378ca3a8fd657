//! What a partner may read of an event: data minimisation (AVG art. 5, 1 c).
//!
//! Built up, not cut down: only known fields that tell nothing about a person
//! are copied. Sealed content, and anything that a newer release added, is not
//! there at all.

use prost::Message;
use prost_reflect::{DynamicMessage, FieldDescriptor, Kind, ReflectMessage, Value};
use samen_proto::contract;
use samen_proto::options::Privacy;

/// The event without what is about a person, encoded. `None` when its type is
/// not known here.
pub fn minimise(kind: &str, data: &[u8]) -> Option<Vec<u8>> {
    let descriptor = contract::pool().get_message_by_name(kind)?;
    let event = DynamicMessage::decode(descriptor, data).ok()?;
    Some(copy(&event).encode_to_vec())
}

fn copy(message: &DynamicMessage) -> DynamicMessage {
    let mut kept = DynamicMessage::new(message.descriptor());
    for (field, value) in message.fields().filter(|(field, _)| may_leave(field)) {
        let value = match value {
            Value::Message(inner) => Value::Message(copy(inner)),
            Value::List(items) => Value::List(
                items
                    .iter()
                    .map(|item| match item {
                        Value::Message(inner) => Value::Message(copy(inner)),
                        other => other.clone(),
                    })
                    .collect(),
            ),
            other => other.clone(),
        };
        kept.set_field(&field, value);
    }
    kept
}

fn may_leave(field: &FieldDescriptor) -> bool {
    if contract::is_sealed(field) || field.is_map() {
        return false;
    }
    match field.kind() {
        // Words can say anything: only those marked as public leave.
        Kind::String | Kind::Bytes => contract::privacy(field) == Privacy::Public,
        _ => contract::privacy(field) != Privacy::Personal,
    }
}

#[cfg(test)]
mod tests {
    use samen_proto::log::Sealed;
    use samen_proto::requests::{Location, RequestFiled};

    use super::*;

    #[test]
    fn sealed_and_unknown_fields_do_not_leave() {
        let public = RequestFiled {
            id: "id".into(),
            category: "light/broken".into(),
            location: Some(Location { latitude: 52.3, longitude: 4.9 }),
            neighbourhood: "BU03840101".into(),
            channel: 1,
            ..RequestFiled::default()
        };
        let sealed = Sealed { key_id: "person/x".into(), ciphertext: vec![1; 64] };
        let whole = RequestFiled {
            description: Some(sealed.clone()),
            reporter: Some(sealed),
            ..public.clone()
        };
        let mut data = whole.encode_to_vec();
        // Field 99, a string that this release does not know.
        data.extend([0x9a, 0x06, 0x03, b'a', b'b', b'c']);
        let kept = minimise("samen.requests.v1.RequestFiled", &data);
        assert_eq!(kept, Some(public.encode_to_vec()));
        assert_eq!(minimise("samen.requests.v1.Unknown", &data), None);
    }
}
