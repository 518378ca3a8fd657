//! What an event's data must be: a message of the contract, whole, with
//! nothing in it that the contract does not name.

use std::collections::HashMap;
use std::sync::LazyLock;

use prost_reflect::{DynamicMessage, MessageDescriptor, ReflectMessage, Value};
use samen_proto::contract;

/// The ids of the keys that the event's sealed content needs, or why it is not
/// an event of the contract.
pub(super) fn sealing_keys(kind: &str, data: &[u8]) -> Result<Vec<String>, String> {
    static TYPES: LazyLock<HashMap<String, MessageDescriptor>> = LazyLock::new(|| {
        contract::event_types().map(|event| (event.full_name().to_owned(), event)).collect()
    });
    let Some(event) = TYPES.get(kind) else {
        return Err(format!("the contract has no event {kind:?}"));
    };
    let event =
        DynamicMessage::decode(event.clone(), data).map_err(|error| format!("{kind}: {error}"))?;
    let mut keys = Vec::new();
    look_into(&event, &mut keys)?;
    Ok(keys)
}

fn look_into(message: &DynamicMessage, keys: &mut Vec<String>) -> Result<(), String> {
    let descriptor = message.descriptor();
    if let Some(unknown) = message.unknown_fields().next() {
        let (name, number) = (descriptor.full_name(), unknown.number());
        return Err(format!("the contract has no field {number} of {name}"));
    }
    let sealed = descriptor.full_name() == contract::SEALED;
    for (field, value) in message.fields() {
        match value {
            Value::String(id) if sealed && field.name() == "key_id" => keys.push(id.clone()),
            other => look_into_value(other, keys)?,
        }
    }
    Ok(())
}

fn look_into_value(value: &Value, keys: &mut Vec<String>) -> Result<(), String> {
    match value {
        Value::Message(message) => look_into(message, keys),
        Value::List(values) => values.iter().try_for_each(|value| look_into_value(value, keys)),
        Value::Map(values) => values.values().try_for_each(|value| look_into_value(value, keys)),
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use prost::{Message, Name};
    use samen_proto::log::Sealed;
    use samen_proto::requests::{Location, RequestFiled};

    use super::*;

    fn sealed(key: &str) -> Option<Sealed> {
        Some(Sealed { key_id: key.to_owned(), ciphertext: vec![1, 2, 3] })
    }

    fn filed() -> RequestFiled {
        RequestFiled {
            id: "1".to_owned(),
            location: Some(Location { latitude: 52.0, longitude: 4.9 }),
            description: sealed("text/1"),
            reporter: sealed("person/1"),
            ..RequestFiled::default()
        }
    }

    #[test]
    fn an_event_names_the_keys_that_it_needs() {
        let keys = sealing_keys(&RequestFiled::full_name(), &filed().encode_to_vec());
        assert_eq!(keys, Ok(vec!["text/1".to_owned(), "person/1".to_owned()]));
        assert_eq!(sealing_keys(&RequestFiled::full_name(), &[]), Ok(vec![]));
    }

    #[test]
    fn what_is_not_an_event_of_the_contract_is_refused_with_the_reason() {
        let whole = filed().encode_to_vec();
        let name = RequestFiled::full_name();
        // A message of the contract, and yet no event.
        assert!(sealing_keys(&Location::full_name(), &[]).is_err());
        assert!(sealing_keys("samen.requests.v1.RequestFileD", &whole).is_err());
        assert!(sealing_keys(&name, &whole[..whole.len() - 1]).is_err());
        let other = [&whole[..], &[0x98, 0x06, 1]].concat();
        let reason = sealing_keys(&name, &other).expect_err("nobody knows field 99");
        assert!(reason.contains("99"), "{reason}");
    }
}
