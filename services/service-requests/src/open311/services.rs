//! What can be reported: the public categories of the catalogue, in Dutch.

use samen_proto::requests::{Category, LocalText, Question, QuestionKind};

use super::Answered;
use super::document::{Document, Value};
use super::refused::Refused;
use crate::Requests;
use crate::register::Register;

pub async fn list(service: &Requests) -> Answered {
    let register = service.registered.now();
    let services = public(&register).map(|category| {
        let group = category.code.split('/').next().unwrap_or_default();
        Value::Object(vec![
            ("service_code", category.code.as_str().into()),
            ("service_name", dutch(category.name.as_ref())),
            ("description", dutch(category.description.as_ref())),
            ("metadata", Value::Flag(!category.questions.is_empty())),
            // A report has its number at once.
            ("type", "realtime".into()),
            ("keywords", Value::or_nothing(&category.keywords.join(","))),
            ("group", title(group).into()),
        ])
    });
    Ok(Document { root: "services", value: Value::List("service", services.collect()) })
}

pub async fn definition(service: &Requests, code: &str) -> Answered {
    let register = service.registered.now();
    let category = find(&register, code).ok_or_else(|| unknown(code))?;
    let attributes = (1..).zip(&category.questions).map(|(order, q)| attribute(order, q));
    let definition = Value::Object(vec![
        ("service_code", category.code.as_str().into()),
        ("attributes", Value::List("attribute", attributes.collect())),
    ]);
    Ok(Document { root: "service_definition", value: definition })
}

/// Categories that can be reported under by everybody.
pub fn public(register: &Register) -> impl Iterator<Item = &Category> {
    let current = register.categories.values().filter(|view| !view.retired);
    current.filter_map(|view| view.category.as_ref()).filter(|category| category.public)
}

pub fn find<'a>(register: &'a Register, code: &str) -> Option<&'a Category> {
    register.category(code).filter(|category| category.public)
}

pub fn unknown(code: &str) -> Refused {
    Refused::not_found(&format!("service_code: {code:.100} was not found"))
}

fn attribute(order: i64, question: &Question) -> Value {
    let hint = match question.kind() {
        QuestionKind::Date => "Een datum, zoals 2026-03-27".into(),
        _ => Value::Nothing,
    };
    let mut fields = vec![
        ("variable", Value::Flag(true)),
        ("code", question.code.as_str().into()),
        ("datatype", datatype(question.kind()).into()),
        ("required", Value::Flag(question.required)),
        ("datatype_description", hint),
        ("order", Value::Whole(order)),
        ("description", dutch(question.text.as_ref())),
    ];
    if !question.choices.is_empty() {
        let values = question.choices.iter().map(|choice| {
            let (key, name) = (choice.code.as_str().into(), dutch(choice.text.as_ref()));
            Value::Object(vec![("key", key), ("name", name)])
        });
        fields.push(("values", Value::List("value", values.collect())));
    }
    Value::Object(fields)
}

/// What the standard calls a kind of question. A text may have several lines:
/// it is `text`, and nothing is a `string`.
fn datatype(kind: QuestionKind) -> &'static str {
    match kind {
        QuestionKind::Unspecified | QuestionKind::Text => "text",
        QuestionKind::Number => "number",
        QuestionKind::Date => "datetime",
        QuestionKind::SingleChoice => "singlevaluelist",
        QuestionKind::MultipleChoice => "multivaluelist",
    }
}

pub fn dutch(text: Option<&LocalText>) -> Value {
    Value::or_nothing(text.map_or("", |text| &text.nl))
}

/// A code as a title: `spelen-en-verblijven` is `Spelen en verblijven`.
fn title(code: &str) -> String {
    let mut words = code.replace('-', " ");
    if let Some(first) = words.get_mut(..1) {
        first.make_ascii_uppercase();
    }
    words
}
