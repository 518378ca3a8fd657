//! Under which keys an event's content is sealed.

use std::collections::BTreeSet;

use prost_reflect::{DynamicMessage, ReflectMessage, Value};
use samen_proto::contract;

/// The keys, each once; none of an event type that is not known here, of which
/// nothing leaves.
pub fn key_ids(kind: &str, data: &[u8]) -> BTreeSet<String> {
    let mut found = BTreeSet::new();
    if let Some(descriptor) = contract::pool().get_message_by_name(kind)
        && let Ok(event) = DynamicMessage::decode(descriptor, data)
    {
        collect(&event, &mut found);
    }
    found
}

fn collect(message: &DynamicMessage, found: &mut BTreeSet<String>) {
    if message.descriptor().full_name() == contract::SEALED {
        let key = message.get_field_by_name("key_id");
        found.extend(key.and_then(|key| key.as_str().map(str::to_owned)));
        return;
    }
    let mut look = |value: &Value| {
        if let Value::Message(inner) = value {
            collect(inner, found);
        }
    };
    for (_, value) in message.fields() {
        match value {
            Value::List(items) => items.iter().for_each(&mut look),
            Value::Map(entries) => entries.values().for_each(&mut look),
            single => look(single),
        }
    }
}

#[cfg(test)]
mod tests {
    use prost::Message;
    use samen_proto::log::Sealed;
    use samen_proto::requests::RequestFiled;

    use super::*;

    #[test]
    fn every_sealed_field_names_its_key() {
        let sealed = |key: &str| Some(Sealed { key_id: key.into(), ciphertext: vec![1; 64] });
        let filed = RequestFiled {
            description: sealed("text/1"),
            reporter: sealed("person/x"),
            ..RequestFiled::default()
        };
        let data = filed.encode_to_vec();
        let keys = key_ids("samen.requests.v1.RequestFiled", &data);
        assert_eq!(keys, BTreeSet::from(["person/x".to_owned(), "text/1".to_owned()]));
        assert!(key_ids("samen.requests.v1.Unknown", &data).is_empty());
    }
}
