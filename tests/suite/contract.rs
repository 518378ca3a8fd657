//! The contract: who may call, what stays sealed, and that what was recorded
//! once can be read for ever.

use std::collections::BTreeMap;

use prost::Message;
use prost_reflect::{DynamicMessage, FieldDescriptor, Kind, MapKey, MessageDescriptor, Value};
use samen_proto::contract;
use samen_proto::options::Privacy;

/// One line for each event type: whether it is exchanged, and a record of it
/// with every field set, as it was first published. Lines are added, never
/// changed.
const PUBLISHED: &str = include_str!("events.txt");

#[test]
fn every_method_says_who_may_call_it() {
    assert_eq!(contract::methods_without_access(), Vec::<String>::new());
}

#[test]
fn no_event_holds_open_words_about_a_person() {
    for event in contract::event_types() {
        for field in fields(&event) {
            let words = matches!(field.kind(), Kind::String | Kind::Bytes);
            assert!(
                !words || contract::privacy(&field) == Privacy::Public,
                "{}: seal it, or mark it as public and say why it is",
                field.full_name()
            );
            assert_ne!(contract::privacy(&field), Privacy::Personal, "{}", field.full_name());
        }
    }
}

#[test]
fn every_event_that_was_ever_published_is_read_the_same() {
    let published: BTreeMap<&str, &str> = PUBLISHED
        .lines()
        .filter(|line| !line.starts_with('#'))
        .filter_map(|line| line.split_once(' '))
        .collect();
    let (mut known, mut new) = (Vec::new(), Vec::new());
    for event in contract::event_types() {
        let sample = sample(&event);
        let encoded = sample.encode_to_vec();
        let again = DynamicMessage::decode(event.clone(), encoded.as_slice()).expect("decodes");
        assert_eq!(again, sample, "{} is not read as it was written", event.full_name());

        let mark = if contract::is_exchanged(event.full_name()) { "exchanged" } else { "home" };
        let hex: String = encoded.iter().map(|byte| format!("{byte:02x}")).collect();
        let line = format!("{mark} {hex}");
        let Some(first) = published.get(event.full_name()).copied() else {
            new.push(format!("{} {line}\n", event.full_name()));
            continue;
        };
        let (first_mark, first_hex) = first.split_once(' ').expect("a mark and a record");
        assert_eq!(mark, first_mark, "the mark of {} never changes", event.full_name());
        let old = DynamicMessage::decode(event.clone(), unhex(first_hex).as_slice());
        let old = old.expect("an old record can be read");
        assert_eq!(old.unknown_fields().count(), 0, "{} lost a field", event.full_name());
        for (field, value) in old.fields() {
            let now = sample.get_field(&field);
            assert_eq!(value, now.as_ref(), "{} changed", field.full_name());
        }
        known.push(event.full_name().to_owned());
    }
    let gone: Vec<_> = published.keys().filter(|kind| !known.iter().any(|k| k == *kind)).collect();
    assert!(new.is_empty(), "add to events.txt:\n{}", new.concat());
    assert!(gone.is_empty(), "these were published and are gone: {gone:?}");
}

/// The fields of a message and of the messages in it, but for what is sealed.
fn fields(message: &MessageDescriptor) -> Vec<FieldDescriptor> {
    let mut found = Vec::new();
    for field in message.fields().filter(|field| !contract::is_sealed(field)) {
        if let Kind::Message(inner) = field.kind()
            && inner.full_name().starts_with("samen.")
        {
            found.extend(fields(&inner));
        }
        found.push(field);
    }
    found
}

/// A message with every field set to something that its number decides.
fn sample(message: &MessageDescriptor) -> DynamicMessage {
    let mut filled = DynamicMessage::new(message.clone());
    for field in message.fields() {
        let value = value(&field);
        let value = match (field.is_map(), field.is_list()) {
            (true, _) => Value::Map([(MapKey::String("key".into()), value)].into()),
            (_, true) => Value::List(vec![value.clone(), value]),
            _ => value,
        };
        filled.set_field(&field, value);
    }
    filled
}

fn value(field: &FieldDescriptor) -> Value {
    let number = field.number();
    match field.kind() {
        Kind::Bool => Value::Bool(true),
        Kind::String => Value::String(format!("field {number}")),
        Kind::Bytes => Value::Bytes(vec![number as u8; 3].into()),
        Kind::Double => Value::F64(f64::from(number) + 0.5),
        Kind::Float => Value::F32(number as f32 + 0.5),
        Kind::Uint64 | Kind::Fixed64 => Value::U64(u64::from(number)),
        Kind::Uint32 | Kind::Fixed32 => Value::U32(number),
        Kind::Int64 | Kind::Sint64 | Kind::Sfixed64 => Value::I64(i64::from(number)),
        Kind::Int32 | Kind::Sint32 | Kind::Sfixed32 => Value::I32(number as i32),
        Kind::Enum(_) => Value::EnumNumber(1),
        Kind::Message(message) => Value::Message(sample(&message)),
    }
}

fn unhex(text: &str) -> Vec<u8> {
    let digits: Vec<u8> =
        text.chars().map(|c| c.to_digit(16).expect("a hex digit") as u8).collect();
    digits.chunks(2).map(|pair| pair[0] << 4 | pair[1]).collect()
}
