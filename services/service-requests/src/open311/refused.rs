//! Why something is not answered: a status, and a description of each thing
//! that is wrong, which names its parameter.

use std::time::Duration;

use axum::response::Response;
use http::{HeaderValue, StatusCode, header};
use tonic::{Code, Status as Refusal};
use tonic_types::StatusExt;

use super::document::{Document, Format, Value};

#[derive(Debug)]
pub struct Refused {
    status: StatusCode,
    descriptions: Vec<String>,
    retry_after: Option<Duration>,
}

impl Refused {
    pub fn new(status: StatusCode, description: &str) -> Self {
        Refused { status, descriptions: vec![description.to_owned()], retry_after: None }
    }

    pub fn not_found(description: &str) -> Self {
        Refused::new(StatusCode::NOT_FOUND, description)
    }

    /// Come back after this long.
    pub fn later(self, after: Duration) -> Self {
        Refused { retry_after: Some(after), ..self }
    }

    pub fn respond(&self, format: Format) -> Response {
        let code = i64::from(self.status.as_u16());
        let error = |description: &String| {
            let description = description.as_str().into();
            Value::Object(vec![("code", Value::Whole(code)), ("description", description)])
        };
        let errors = Value::List("error", self.descriptions.iter().map(error).collect());
        let mut response = Document { root: "errors", value: errors }.respond(format, self.status);
        if let Some(after) = self.retry_after {
            let seconds = after.as_secs() + u64::from(after.subsec_nanos() > 0);
            response.headers_mut().insert(header::RETRY_AFTER, HeaderValue::from(seconds.max(1)));
        }
        response
    }
}

/// What the commands and queries refuse, in the words of this door.
impl From<Refusal> for Refused {
    fn from(refusal: Refusal) -> Self {
        let details = refusal.get_error_details();
        let status = match refusal.code() {
            Code::InvalidArgument | Code::FailedPrecondition => StatusCode::BAD_REQUEST,
            Code::NotFound => StatusCode::NOT_FOUND,
            Code::Internal | Code::Unknown => StatusCode::INTERNAL_SERVER_ERROR,
            _ => StatusCode::SERVICE_UNAVAILABLE,
        };
        let violations = details.bad_request().map(|bad| bad.field_violations.as_slice());
        let described = violations.unwrap_or_default().iter();
        let mut descriptions: Vec<_> =
            described.map(|v| format!("{}: {}", parameter(&v.field), v.description)).collect();
        if descriptions.is_empty() {
            descriptions.push(refusal.message().to_owned());
        }
        let retry_after = details.retry_info().and_then(|retry| retry.retry_delay);
        Refused { status, descriptions, retry_after }
    }
}

/// The parameter that a field of a message was made of.
fn parameter(field: &str) -> String {
    if let Some(question) = field.strip_prefix("answers.") {
        return format!("attribute[{question}]");
    }
    let name = match field {
        "category" => "service_code",
        "address" => "address_string",
        "location" | "location.latitude" => "lat",
        "location.longitude" => "long",
        "reporter.name" => "first_name",
        "reporter.email" => "email",
        "reporter.phone" => "phone",
        "content" => "media",
        "request_id" => "Idempotency-Key",
        other => other,
    };
    name.to_owned()
}
