//! A service request.

use jiff::Timestamp;
use samen_log::command::decode;
use samen_log::{Aggregate, Record};
use samen_proto::log::Sealed;
use samen_proto::requests::{Channel, RequestFiled, RequestImported, Status, StatusChanged};
use tonic::{Code, Status as Refusal};

use super::status;
use samen_server::reply;

samen_log::events! {
    /// What happens to a request.
    pub enum RequestEvent { RequestFiled, RequestImported, StatusChanged }
}

/// A request's state, as far as rules look at it.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Request {
    /// Unspecified: there is none.
    pub status: Status,
}

/// What somebody wants of a request.
#[derive(Clone, Debug)]
pub enum RequestCommand {
    File(RequestFiled),
    Import(RequestImported),
    ChangeStatus { id: String, expected_version: u64, to: Status, explanation: Option<Sealed> },
}

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
}

/// What follows from a command, or why not.
pub fn decide(
    request: &Request,
    version: u64,
    command: RequestCommand,
    now: Timestamp,
) -> Result<Vec<RequestEvent>, Rejection> {
    match command {
        RequestCommand::File(filed) => Ok(vec![filed.into()]),
        RequestCommand::Import(imported) => import(request, imported, now),
        RequestCommand::ChangeStatus { id, expected_version, to, explanation } => {
            if request.status == Status::Unspecified {
                return Err(Rejection::Missing { id });
            }
            if version != expected_version {
                let (expected, actual) = (expected_version, version);
                return Err(Rejection::VersionMoved { expected, actual });
            }
            let from = request.status;
            if !status::next(from).contains(&to) {
                return Err(Rejection::NotNext { from, to });
            }
            if status::needs_explanation(to) && explanation.is_none() {
                return Err(Rejection::Unexplained);
            }
            let (from, to) = (from.into(), to.into());
            Ok(vec![StatusChanged { id, from, to, explanation }.into()])
        }
    }
}

fn import(
    request: &Request,
    imported: RequestImported,
    now: Timestamp,
) -> Result<Vec<RequestEvent>, Rejection> {
    if request.status != Status::Unspecified {
        return Err(Rejection::Imported {
            source_name: imported.source,
            number: imported.source_number,
        });
    }
    let micros = |t: &prost_types::Timestamp| samen_server::time::micros(t);
    let created = imported.create_time.as_ref().map_or(0, micros);
    let closed = imported.close_time.as_ref().map(micros);
    let now = now.as_microsecond();
    if created > now {
        return Err(Rejection::NotYet { field: "create_time" });
    }
    if closed.is_some_and(|closed| closed > now) {
        return Err(Rejection::NotYet { field: "close_time" });
    }
    if closed.is_some_and(|closed| closed < created) {
        return Err(Rejection::ClosedBeforeCreated);
    }
    Ok(vec![imported.into()])
}

impl Aggregate for Request {
    type Event = RequestEvent;
    const KIND: &'static str = "request";

    fn evolve(self, event: &RequestEvent) -> Self {
        match event {
            RequestEvent::RequestFiled(_) => Request { status: Status::Received },
            RequestEvent::RequestImported(imported) => {
                Request { status: imported_status(imported) }
            }
            RequestEvent::StatusChanged(changed) => Request { status: changed.to() },
        }
    }
}

/// Whether who comes by this channel tells it of their own.
pub fn is_own(channel: Channel) -> bool {
    matches!(channel, Channel::Web | Channel::App)
}

/// Whether who made a record told it of their own: not an employee who wrote
/// down what somebody said, answered, or brought in the past.
pub fn spoke_for_themselves(record: &Record) -> bool {
    match decode(record) {
        Ok(Some(RequestEvent::RequestFiled(filed))) => is_own(filed.channel()),
        _ => false,
    }
}

/// Where a request of the past stands: resolved where its source closed it.
pub fn imported_status(imported: &RequestImported) -> Status {
    if imported.close_time.is_some() { Status::Resolved } else { Status::Received }
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
                let next: Vec<_> = status::next(from).iter().map(|s| s.as_str_name()).collect();
                let text = format!("{text}; allowed: {}", next.join(", "));
                reply::precondition("STATUS", "status", &text)
            }
            Rejection::Unexplained => {
                reply::invalid("explanation", "must tell the reporter what was done, or why not")
            }
        }
    }
}
