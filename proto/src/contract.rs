//! What the contract says about itself, read from its options.

use std::collections::{HashMap, HashSet};
use std::sync::LazyLock;

use prost_reflect::{
    DescriptorPool, DynamicMessage, ExtensionDescriptor, FieldDescriptor, Kind, MessageDescriptor,
    MethodDescriptor, ReflectMessage, Value,
};

use crate::options::{Privacy, Role};

/// The contract as an encoded `FileDescriptorSet`, for reflection.
pub const DESCRIPTORS: &[u8] = include_bytes!(concat!(env!("OUT_DIR"), "/contract.bin"));

/// The full name of an instant.
const TIMESTAMP: &str = "google.protobuf.Timestamp";

/// The full name of the one message type whose content is encrypted.
pub const SEALED: &str = "samen.log.v1.Sealed";

/// Every message, service and option of the contract.
pub fn pool() -> &'static DescriptorPool {
    static POOL: LazyLock<DescriptorPool> = LazyLock::new(|| {
        DescriptorPool::decode(DESCRIPTORS).expect("the contract was encoded by our own build")
    });
    &POOL
}

/// Who may call the method with this HTTP/2 path
/// (`/samen.requests.v1.RequestService/GetRequest`). `None` for a method that
/// is not ours, or that forgot to say.
pub fn access(path: &str) -> Option<&'static [Role]> {
    static ACCESS: LazyLock<HashMap<String, Vec<Role>>> = LazyLock::new(|| {
        let option = extension("samen.options.v1.access");
        let mut rules = HashMap::new();
        for (path, method) in methods() {
            let roles = match method.options().get_extension(&option).as_ref() {
                Value::Message(access) => roles(access),
                _ => Vec::new(),
            };
            if !roles.is_empty() {
                rules.insert(path, roles);
            }
        }
        rules
    });
    ACCESS.get(path).map(Vec::as_slice)
}

/// Paths of our methods that do not say who may call them. A server does not
/// start while there is one.
pub fn methods_without_access() -> Vec<String> {
    methods().map(|(path, _)| path).filter(|path| access(path).is_none()).collect()
}

/// The service and the method that answer with this message. Each method has a
/// message of its own, and a stream answers with many.
pub fn answered_by(message: &str) -> Option<(&'static str, &'static str)> {
    static ANSWERED: LazyLock<HashMap<String, (String, String)>> = LazyLock::new(|| {
        let named = |method: MethodDescriptor| {
            let names = (method.parent_service().full_name().to_owned(), method.name().to_owned());
            (method.output().full_name().to_owned(), names)
        };
        methods().map(|(_, method)| named(method)).collect()
    });
    ANSWERED.get(message).map(|(service, method)| (service.as_str(), method.as_str()))
}

/// Whether records of this event type leave the service that owns them.
/// Unknown types do not.
pub fn is_exchanged(event_type: &str) -> bool {
    static EXCHANGED: LazyLock<HashSet<String>> = LazyLock::new(|| {
        let option = extension("samen.options.v1.exchanged");
        pool()
            .all_messages()
            .filter(|m| m.options().get_extension(&option).as_bool() == Some(true))
            .map(|m| m.full_name().to_owned())
            .collect()
    });
    EXCHANGED.contains(event_type)
}

/// The event types of every service: the messages in files named
/// `events.proto`, or `…_events.proto`.
pub fn event_types() -> impl Iterator<Item = MessageDescriptor> {
    pool().files().filter(|file| is_of_events(file.name())).flat_map(|file| {
        let messages: Vec<_> = file.messages().collect();
        messages
    })
}

/// What a field's content may tell about a person.
pub fn privacy(field: &FieldDescriptor) -> Privacy {
    static OPTION: LazyLock<ExtensionDescriptor> =
        LazyLock::new(|| extension("samen.options.v1.privacy"));
    let value = field.options().get_extension(&OPTION).as_enum_number().unwrap_or_default();
    Privacy::try_from(value).unwrap_or_default()
}

/// Whether a field holds sealed content.
pub fn is_sealed(field: &FieldDescriptor) -> bool {
    matches!(field.kind(), Kind::Message(message) if message.full_name() == SEALED)
}

/// The message that a sealed field holds. `None` for a field that does not
/// say so.
pub fn sealed_as(field: &FieldDescriptor) -> Option<MessageDescriptor> {
    static OPTION: LazyLock<ExtensionDescriptor> =
        LazyLock::new(|| extension("samen.options.v1.sealed"));
    let options = field.options();
    let name = options.get_extension(&OPTION);
    pool().get_message_by_name(name.as_str()?)
}

fn methods() -> impl Iterator<Item = (String, MethodDescriptor)> {
    pool().services().filter(|s| s.full_name().starts_with("samen.")).flat_map(|service| {
        let methods: Vec<_> = service
            .methods()
            .map(|m| (format!("/{}/{}", service.full_name(), m.name()), m))
            .collect();
        methods
    })
}

fn extension(name: &str) -> ExtensionDescriptor {
    pool().get_extension_by_name(name).expect("options.proto is part of the contract")
}

fn roles(access: &DynamicMessage) -> Vec<Role> {
    let field = access.get_field_by_name("roles");
    let list = field.as_deref().and_then(Value::as_list).unwrap_or_default();
    list.iter()
        .filter_map(|v| v.as_enum_number())
        .filter_map(|n| Role::try_from(n).ok())
        .filter(|r| *r != Role::Unspecified)
        .collect()
}

/// A message from protobuf's JSON form. What it does not know is an error, that
/// says so.
pub fn from_json<M: prost::Message + prost::Name + Default>(json: &str) -> Result<M, String> {
    let kind = pool().get_message_by_name(&M::full_name()).ok_or("not of the contract")?;
    let mut json = serde_json::Deserializer::from_str(json);
    let message = DynamicMessage::deserialize(kind, &mut json).map_err(|e| e.to_string())?;
    json.end().map_err(|error| error.to_string())?;
    message.transcode_to().map_err(|error| error.to_string())
}

fn is_of_events(file: &str) -> bool {
    let name = file.rsplit('/').next().unwrap_or_default();
    name == "events.proto" || name.ends_with("_events.proto")
}

/// What a message of this type says, field by field, as text: without what is
/// sealed and what it leaves at its default. `None` for what is no such message.
pub fn said(kind: &str, data: &[u8]) -> Option<Vec<(String, String)>> {
    let message = DynamicMessage::decode(pool().get_message_by_name(kind)?, data).ok()?;
    Some(fields_said(&message))
}

fn fields_said(message: &DynamicMessage) -> Vec<(String, String)> {
    let fields = message.fields().filter(|(field, _)| !is_sealed(field));
    fields.map(|(field, value)| (field.name().to_owned(), words(&field, value))).collect()
}

fn words(field: &FieldDescriptor, value: &Value) -> String {
    match (value, field.kind()) {
        (Value::Bool(value), _) => value.to_string(),
        (Value::I32(value), _) => value.to_string(),
        (Value::I64(value), _) => value.to_string(),
        (Value::U32(value), _) => value.to_string(),
        (Value::U64(value), _) => value.to_string(),
        (Value::F32(value), _) => value.to_string(),
        (Value::F64(value), _) => value.to_string(),
        (Value::String(text), _) => text.clone(),
        (Value::EnumNumber(number), Kind::Enum(kind)) => {
            kind.get_value(*number).map_or_else(|| number.to_string(), |v| v.name().to_owned())
        }
        (Value::List(values), _) => {
            values.iter().map(|value| words(field, value)).collect::<Vec<_>>().join(", ")
        }
        (Value::Message(message), _) => match message.transcode_to::<prost_types::Timestamp>() {
            Ok(instant) if message.descriptor().full_name() == TIMESTAMP => instant.to_string(),
            _ => {
                let said = fields_said(message).into_iter();
                said.map(|(name, value)| format!("{name} {value}")).collect::<Vec<_>>().join(", ")
            }
        },
        // Nothing that a person reads.
        (Value::Bytes(_) | Value::Map(_) | Value::EnumNumber(_), _) => String::new(),
    }
}
