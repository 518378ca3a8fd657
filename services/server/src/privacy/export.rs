//! All that is held about a person (AVG art. 15), readable: their records in
//! the JSON form of protobuf, with their own sealed content opened.

use std::collections::HashMap;

use base64::Engine;
use base64::prelude::BASE64_STANDARD;
use prost::Message;
use prost_reflect::{DynamicMessage, FieldDescriptor, MapKey, ReflectMessage, Value};
use samen_log::record::{position, recorded_at};
use samen_log::seal::{DataKey, SealError};
use samen_log::{Keyring, Record};
use samen_proto::contract;
use samen_proto::log::Sealed;
use samen_proto::privacy::HeldRecord;
use serde_json::{Map, Value as Json};

use super::Failure;
use super::content::{self, About};

/// A record as the person gets it.
pub async fn held(
    record: &Record,
    about: &About,
    keyring: &Keyring,
) -> Result<HeldRecord, Failure> {
    let contents = content::of(record)?;
    let own = contents
        .iter()
        .map(|content| content.sealed.key_id.as_str())
        .filter(|key_id| about.owns(record, key_id));
    let keys = keyring.find(own).await?;
    let json = object(&content::event(record)?, &keys)?;
    Ok(HeldRecord {
        position: Some(position(record)),
        r#type: record.r#type.clone(),
        time: Some(crate::time::to_proto(recorded_at(record))),
        json: Json::Object(json).to_string(),
    })
}

/// A message, its sealed fields opened by these keys; left out without one.
fn object(
    message: &DynamicMessage,
    keys: &HashMap<String, DataKey>,
) -> Result<Map<String, Json>, Failure> {
    let mut json = Map::new();
    for (field, value) in message.fields() {
        if let Some(value) = of(&field, value, keys)? {
            json.insert(field.json_name().to_owned(), value);
        }
    }
    Ok(json)
}

/// A field's value; `None` where nothing of it may be read, or can be any more.
fn of(
    field: &FieldDescriptor,
    value: &Value,
    keys: &HashMap<String, DataKey>,
) -> Result<Option<Json>, Failure> {
    let json = match value {
        Value::List(values) => {
            let values = values.iter().map(|value| of(field, value, keys));
            let values: Vec<_> = values.collect::<Result<_, _>>()?;
            Json::Array(values.into_iter().flatten().collect())
        }
        Value::Map(values) => {
            let mut map = Map::new();
            for (key, value) in values {
                if let Some(value) = of(field, value, keys)? {
                    map.insert(name(key), value);
                }
            }
            Json::Object(map)
        }
        Value::Message(message) if contract::is_sealed(field) => {
            return opened(field, message, keys);
        }
        Value::Message(message) => match instant(message) {
            Some(instant) => instant.into(),
            None => Json::Object(object(message, keys)?),
        },
        Value::EnumNumber(number) => {
            let kind = field.kind();
            let names = kind.as_enum().and_then(|names| names.get_value(*number));
            names.map_or_else(|| (*number).into(), |value| value.name().into())
        }
        Value::Bool(value) => (*value).into(),
        Value::I32(value) => (*value).into(),
        Value::U32(value) => (*value).into(),
        // As text: JSON's own numbers are not exact that far.
        Value::I64(value) => value.to_string().into(),
        Value::U64(value) => value.to_string().into(),
        Value::F32(value) => f64::from(*value).into(),
        Value::F64(value) => (*value).into(),
        Value::String(text) => text.as_str().into(),
        Value::Bytes(bytes) => BASE64_STANDARD.encode(bytes).into(),
    };
    Ok(Some(json))
}

/// What a sealed field holds, where its key is among these.
fn opened(
    field: &FieldDescriptor,
    message: &DynamicMessage,
    keys: &HashMap<String, DataKey>,
) -> Result<Option<Json>, Failure> {
    let sealed = Sealed::decode(message.encode_to_vec().as_slice()).unwrap_or_default();
    let Some(key) = keys.get(&sealed.key_id) else { return Ok(None) };
    let altered = || SealError::Altered { id: sealed.key_id.clone() };
    let holds = contract::sealed_as(field).ok_or_else(altered)?;
    let plain = key.open_as(&sealed, holds.full_name()).ok_or_else(altered)?;
    let content = DynamicMessage::decode(holds, plain.as_slice()).map_err(|_| altered())?;
    Ok(Some(Json::Object(object(&content, keys)?)))
}

/// An instant as JSON has it.
fn instant(message: &DynamicMessage) -> Option<String> {
    if message.descriptor().full_name() != "google.protobuf.Timestamp" {
        return None;
    }
    let instant = prost_types::Timestamp::decode(message.encode_to_vec().as_slice()).ok()?;
    Some(crate::time::from_proto(&instant)?.to_string())
}

fn name(key: &MapKey) -> String {
    match key {
        MapKey::Bool(key) => key.to_string(),
        MapKey::I32(key) => key.to_string(),
        MapKey::I64(key) => key.to_string(),
        MapKey::U32(key) => key.to_string(),
        MapKey::U64(key) => key.to_string(),
        MapKey::String(key) => key.clone(),
    }
}
