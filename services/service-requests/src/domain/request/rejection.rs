//! Why something cannot be done with a request, and how that is told.

use samen_proto::requests::Status;
use samen_server::reply;
use tonic::{Code, Status as Refusal};

use super::super::status;
use super::{MAX_PARTS, MAX_PHOTOS};

/// Why not.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Rejection {
    #[error("there is no such request")]
    Missing { id: String },
    #[error("number {number} of {source_name} was imported before")]
    Imported { source_name: String, number: String },
    #[error("{field} is in the future")]
    NotYet { field: &'static str },
    #[error("close_time is before create_time")]
    ClosedBeforeCreated,
    #[error("somebody else changed it")]
    VersionMoved { expected: u64, actual: u64 },
    #[error("it cannot go from {} to {}", from.as_str_name(), to.as_str_name())]
    NotNext { from: Status, to: Status },
    #[error("the reporter must be told why")]
    Unexplained,
    #[error("it goes to {} by a command of its own", to.as_str_name())]
    NotByChange { to: Status },
    #[error("it is {} and not worked on", status.as_str_name())]
    Closed { status: Status },
    #[error("something needed is missing or wrong")]
    Field { field: &'static str, allowed: &'static str },
    #[error("the reporter cannot be contacted: nobody is known, or nobody consented")]
    NoContact,
    #[error("{0}")]
    Not(&'static str),
    #[error("somebody else takes care of it")]
    Taken,
    #[error("{open} of its parts are open")]
    PartsOpen { open: usize },
    #[error("it would have more than {MAX_PARTS} parts")]
    TooManyParts,
    #[error("it has {MAX_PHOTOS} photos")]
    TooManyPhotos,
}

impl From<Rejection> for Refusal {
    fn from(rejection: Rejection) -> Self {
        let text = rejection.to_string();
        match rejection {
            Rejection::Missing { id } => reply::not_found("request", &id),
            Rejection::Imported { .. } => {
                reply::status(Code::AlreadyExists, "IMPORTED_BEFORE", &text)
            }
            Rejection::NotYet { field } => reply::invalid(field, "must not be in the future"),
            Rejection::ClosedBeforeCreated => {
                reply::invalid("close_time", "must not be before create_time")
            }
            Rejection::VersionMoved { expected, actual } => reply::version_moved(expected, actual),
            Rejection::NotNext { from, .. } => {
                let next = status::next(from).iter().filter(|to| status::by_change(**to));
                let next: Vec<_> = next.map(|to| to.as_str_name()).collect();
                let text = format!("{text}; allowed: {}", next.join(", "));
                reply::precondition("STATUS", "status", &text)
            }
            Rejection::Unexplained => {
                reply::invalid("explanation", "must tell the reporter what was done, or why not")
            }
            Rejection::NotByChange { .. } => reply::invalid("status", &text),
            Rejection::Closed { .. } => reply::precondition("STATUS", "status", &text),
            Rejection::Field { field, allowed } => reply::invalid(field, allowed),
            Rejection::NoContact => reply::precondition("CONSENT", "reporter", &text),
            Rejection::Not(_) => reply::precondition("STATE", "request", &text),
            Rejection::Taken => reply::status(Code::Aborted, "TAKEN", &text),
            Rejection::PartsOpen { .. } => reply::precondition("PARTS", "parts", &text),
            Rejection::TooManyParts => reply::precondition("PARTS", "parts", &text),
            Rejection::TooManyPhotos => reply::precondition("PHOTOS", "photos", &text),
        }
    }
}
