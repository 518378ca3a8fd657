//! What is answered: one value, written as XML or as JSON.
//!
//! In XML a list is an element with an element for each of its items, whose
//! name the list knows; in JSON it is an array. A field that has no value is
//! there all the same: empty, or `null`.

use std::io;

use axum::body::Body;
use axum::response::{IntoResponse, Response};
use http::{StatusCode, header};
use quick_xml::Writer;
use quick_xml::events::{BytesDecl, BytesEnd, BytesStart, BytesText, Event};
use serde::ser::{Serialize, SerializeMap, SerializeSeq, Serializer};

/// How an answer is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Format {
    Xml,
    Json,
}

/// A whole answer.
#[derive(Clone, Debug, PartialEq)]
pub struct Document {
    /// What XML calls it.
    pub root: &'static str,
    pub value: Value,
}

#[derive(Clone, Debug, PartialEq)]
pub enum Value {
    Nothing,
    Text(String),
    Whole(i64),
    Real(f64),
    Flag(bool),
    Object(Vec<(&'static str, Value)>),
    /// What XML calls an item, and the items.
    List(&'static str, Vec<Value>),
}

// === impl Format ===

impl Format {
    /// What a path asks for, and the path without it.
    pub fn of(path: &str) -> (Option<Self>, &str) {
        let (path, ending) = path.rsplit_once('.').unwrap_or((path, ""));
        match ending {
            "xml" => (Some(Format::Xml), path),
            "json" => (Some(Format::Json), path),
            _ => (None, path),
        }
    }

    pub fn media_type(self) -> &'static str {
        match self {
            Format::Xml => "text/xml",
            Format::Json => "application/json",
        }
    }
}

// === impl Document ===

impl Document {
    pub fn respond(&self, format: Format, status: StatusCode) -> Response {
        let body = match format {
            Format::Xml => self.xml(),
            Format::Json => serde_json::to_vec(&self.value).map_err(io::Error::other),
        };
        let kind = format!("{}; charset=utf-8", format.media_type());
        match body {
            Ok(body) => (status, [(header::CONTENT_TYPE, kind)], Body::from(body)).into_response(),
            Err(error) => {
                tracing::error!(%error, "an answer cannot be written");
                StatusCode::INTERNAL_SERVER_ERROR.into_response()
            }
        }
    }

    fn xml(&self) -> io::Result<Vec<u8>> {
        let mut writer = Writer::new(Vec::new());
        writer.write_event(Event::Decl(BytesDecl::new("1.0", Some("utf-8"), None)))?;
        self.value.write(self.root, &mut writer)?;
        Ok(writer.into_inner())
    }
}

// === impl Value ===

impl Value {
    /// A text, or nothing.
    pub fn or_nothing(text: &str) -> Self {
        if text.is_empty() { Value::Nothing } else { text.into() }
    }

    fn write(&self, name: &str, to: &mut Writer<Vec<u8>>) -> io::Result<()> {
        if *self == Value::Nothing {
            return to.write_event(Event::Empty(BytesStart::new(name)));
        }
        to.write_event(Event::Start(BytesStart::new(name)))?;
        match self {
            Value::Nothing => {}
            Value::Text(text) => to.write_event(Event::Text(BytesText::new(text)))?,
            Value::Whole(number) => {
                to.write_event(Event::Text(BytesText::new(&number.to_string())))?;
            }
            Value::Real(number) => {
                to.write_event(Event::Text(BytesText::new(&number.to_string())))?;
            }
            Value::Flag(flag) => to.write_event(Event::Text(BytesText::new(&flag.to_string())))?,
            Value::Object(fields) => {
                fields.iter().try_for_each(|(name, value)| value.write(name, to))?;
            }
            Value::List(name, items) => items.iter().try_for_each(|item| item.write(name, to))?,
        }
        to.write_event(Event::End(BytesEnd::new(name)))
    }
}

impl Serialize for Value {
    fn serialize<S: Serializer>(&self, to: S) -> Result<S::Ok, S::Error> {
        match self {
            Value::Nothing => to.serialize_unit(),
            Value::Text(text) => to.serialize_str(text),
            Value::Whole(number) => to.serialize_i64(*number),
            Value::Real(number) => to.serialize_f64(*number),
            Value::Flag(flag) => to.serialize_bool(*flag),
            Value::Object(fields) => {
                let mut map = to.serialize_map(Some(fields.len()))?;
                for (name, value) in fields {
                    map.serialize_entry(name, value)?;
                }
                map.end()
            }
            Value::List(_, items) => {
                let mut list = to.serialize_seq(Some(items.len()))?;
                items.iter().try_for_each(|item| list.serialize_element(item))?;
                list.end()
            }
        }
    }
}

impl From<&str> for Value {
    fn from(text: &str) -> Self {
        Value::Text(text.to_owned())
    }
}

impl From<String> for Value {
    fn from(text: String) -> Self {
        Value::Text(text)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_formats_say_the_same() {
        let item = Value::Object(vec![
            ("text", "Groen/afval <é> & \"x\"".into()),
            ("nothing", Value::Nothing),
            ("number", Value::Real(4.971)),
            ("flag", Value::Flag(true)),
        ]);
        let document = Document { root: "items", value: Value::List("item", vec![item]) };
        let xml = String::from_utf8(document.xml().expect("written")).expect("UTF-8");
        assert_eq!(
            xml,
            "<?xml version=\"1.0\" encoding=\"utf-8\"?><items><item>\
             <text>Groen/afval &lt;é&gt; &amp; &quot;x&quot;</text><nothing/>\
             <number>4.971</number><flag>true</flag></item></items>"
        );
        let json = serde_json::to_string(&document.value).expect("written");
        let expected = "[{\"text\":\"Groen/afval <é> & \\\"x\\\"\",\"nothing\":null,\
                        \"number\":4.971,\"flag\":true}]";
        assert_eq!(json, expected);
    }
}
