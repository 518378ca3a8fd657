//! Refusals: a standard code, a stable reason, and the field with what is
//! allowed. What the caller may read and what the operator must read are kept
//! apart: causes are logged here and go no further.

use std::collections::HashMap;
use std::ops::RangeInclusive;
use std::time::Duration;

use samen_log::db::disk_is_full;
use samen_log::follow::NOT_IN_HISTORY;
use samen_log::record::Position;
use samen_log::seal::SealError;
use samen_log::store::WaitError;
use samen_log::{AppendError, CommandError, FollowError};
use tonic::{Code, Status};
use tonic_types::{ErrorDetails, FieldViolation, StatusExt};
use uuid::Uuid;

/// The domain of every `ErrorInfo` reason.
pub const DOMAIN: &str = "samen";
/// How long a client should wait whose query comes while a projection is built.
const RETRY_AFTER_BUILDING: Duration = Duration::from_secs(2);
/// How long a client should wait that comes when too many others do.
const RETRY_AFTER: Duration = Duration::from_millis(500);
/// And one that comes while the disk is full: somebody has to make space.
const RETRY_AFTER_FULL: Duration = Duration::from_secs(10);

/// A status with a stable reason (`google.rpc.ErrorInfo`).
pub fn status(code: Code, reason: &str, message: &str) -> Status {
    let mut details = ErrorDetails::new();
    details.set_error_info(reason, DOMAIN, []);
    Status::with_error_details(code, message, details)
}

/// How a stream ends that had more to say, and where to resume: in the
/// metadata of its `ErrorInfo`, `position` and `epoch`, and `log` where it is
/// a position in one.
pub fn ended(code: Code, reason: &str, message: &str, at: &Position) -> Status {
    let Position { log, epoch, position } = at;
    let mut metadata = HashMap::from([
        ("epoch".to_owned(), epoch.to_string()),
        ("position".to_owned(), position.to_string()),
    ]);
    if !log.is_empty() {
        metadata.insert("log".to_owned(), log.clone());
    }
    let mut details = ErrorDetails::new();
    details.set_error_info(reason, DOMAIN, metadata);
    Status::with_error_details(code, message, details)
}

/// INVALID_ARGUMENT for one field.
pub fn invalid(field: &str, allowed: &str) -> Status {
    let mut check = Check::default();
    check.fail(field, allowed);
    check.finish().expect_err("a failure was just added")
}

/// NOT_FOUND, also for what the caller may not know to exist.
pub fn not_found(kind: &str, id: &str) -> Status {
    let mut details = ErrorDetails::new();
    details.set_resource_info(kind, id, "", "");
    Status::with_error_details(Code::NotFound, format!("there is no {kind} {id}"), details)
}

/// ABORTED: somebody else changed it first.
pub fn version_moved(expected: u64, actual: u64) -> Status {
    let mut details = ErrorDetails::new();
    let metadata = [("version".to_owned(), actual.to_string())];
    details.set_error_info("VERSION_MOVED", DOMAIN, metadata);
    let message = format!("it is at version {actual}, not {expected}: read it again");
    Status::with_error_details(Code::Aborted, message, details)
}

/// FAILED_PRECONDITION with what stands in the way.
pub fn precondition(kind: &str, subject: &str, description: &str) -> Status {
    let mut details = ErrorDetails::new();
    details.add_precondition_failure_violation(kind, subject, description);
    Status::with_error_details(Code::FailedPrecondition, description, details)
}

/// Something of ours failed: the operator reads why, the caller does not.
pub fn unavailable(cause: impl std::fmt::Display) -> Status {
    tracing::error!(%cause, "a call failed");
    status(Code::Unavailable, "STORAGE", "this cannot be done just now; try again")
}

/// UNAVAILABLE, and when to come back: what queries read is still being built.
pub fn building() -> Status {
    let message = "what this reads is being built, and commands are accepted; try again";
    let mut details = ErrorDetails::new();
    details.set_retry_info(Some(RETRY_AFTER_BUILDING));
    details.set_error_info("PROJECTION_BUILDING", DOMAIN, []);
    Status::with_error_details(Code::Unavailable, message, details)
}

/// The database failed. Where its disk is full that is told as such: for "the
/// entire file system is out of space" the standard has RESOURCE_EXHAUSTED
/// (google.rpc.Code), and trying again at once is of no use.
pub fn storage(error: sqlx::Error) -> Status {
    if !disk_is_full(&error) {
        return unavailable(error);
    }
    tracing::error!(%error, "a call failed: the disk is full");
    full()
}

/// Sealed content cannot be made or read.
pub fn seal(error: SealError) -> Status {
    match error {
        SealError::Storage(error) => storage(error),
        error => unavailable(error),
    }
}

fn full() -> Status {
    let message = "there is no space to keep this; try again later";
    exhausted("STORAGE_FULL", message, RETRY_AFTER_FULL)
}

/// RESOURCE_EXHAUSTED, and when to come back.
fn exhausted(reason: &str, message: &str, retry_after: Duration) -> Status {
    let mut details = ErrorDetails::new();
    details.set_retry_info(Some(retry_after));
    details.set_error_info(reason, DOMAIN, []);
    Status::with_error_details(Code::ResourceExhausted, message, details)
}

/// What became of a command that was not done.
pub fn command<R: Into<Status>>(error: CommandError<R>) -> Status {
    match error {
        CommandError::Rejected(rejection) => rejection.into(),
        CommandError::ContentDiffers => {
            let mut details = ErrorDetails::with_bad_request(vec![FieldViolation::new(
                "request_id",
                "was used with other content; a new command needs a new id",
            )]);
            details.set_error_info("REQUEST_ID_REUSED", DOMAIN, []);
            let message = "this request_id was used with other content";
            Status::with_error_details(Code::InvalidArgument, message, details)
        }
        CommandError::Append(AppendError::Overloaded) => {
            let message = "too many commands are waiting; try again";
            exhausted("TOO_MANY_COMMANDS", message, RETRY_AFTER)
        }
        // The log has told the operator.
        CommandError::Append(AppendError::Full) => full(),
        CommandError::Append(AppendError::Conflict { stream, .. }) => {
            let message = format!("{stream} changed meanwhile: look at it and try again");
            status(Code::Aborted, "RELIED_ON_CHANGED", &message)
        }
        CommandError::Append(error @ AppendError::TooLate) => {
            precondition("TOO_LATE", "time", &error.to_string())
        }
        CommandError::Append(AppendError::KeyExists { id }) => {
            // Ids are new, but for what is made from others' ids, such as the
            // text of an imported request: it was here before, and was erased.
            let text = "this was erased before and is not taken again; leave out its text";
            precondition("FORGOTTEN", &id, text)
        }
        CommandError::Append(
            error @ (AppendError::TooLarge { .. }
            | AppendError::TooMany { .. }
            | AppendError::TooMuch { .. }
            | AppendError::Name { .. }),
        ) => status(Code::InvalidArgument, "TOO_LARGE", &error.to_string()),
        CommandError::Append(error @ AppendError::Refused { .. }) => {
            tracing::error!(%error, "a command failed, and would again");
            status(Code::Internal, "REFUSED", "this cannot be kept; trying again is of no use")
        }
        CommandError::Append(error) => unavailable(error),
        CommandError::Storage(error) => storage(error),
        CommandError::Seal(error) => seal(error),
        CommandError::Unreadable { position, kind } => {
            unavailable(format!("record {position} of type {kind} cannot be read"))
        }
    }
}

/// Why a stream cannot be followed from there.
pub fn follow(error: FollowError) -> Status {
    match error {
        FollowError::NotInHistory { .. } => {
            status(Code::FailedPrecondition, NOT_IN_HISTORY, &error.to_string())
        }
        FollowError::Gap { .. }
        | FollowError::OtherLog { .. }
        | FollowError::Unavailable { .. }
        | FollowError::Refused { .. } => unavailable(error),
    }
}

/// Why a query cannot see as much as was asked.
pub fn wait(error: WaitError) -> Status {
    match error {
        WaitError::UnknownLog(_) => invalid("at_least.log", &error.to_string()),
        WaitError::OtherEpoch { .. } => {
            status(Code::FailedPrecondition, NOT_IN_HISTORY, &error.to_string())
        }
    }
}

/// Collects what is wrong with a request, so that all of it is told at once.
#[derive(Default)]
pub struct Check {
    violations: Vec<FieldViolation>,
}

/// Violations that are told: more would not fit into a header, nor help.
const MAX_VIOLATIONS: usize = 20;

impl Check {
    /// Notes that a field is not as it must be.
    pub fn fail(&mut self, field: &str, allowed: &str) {
        if self.violations.len() < MAX_VIOLATIONS {
            self.violations.push(FieldViolation::new(field, allowed));
        }
    }

    /// Notes it unless the condition holds.
    pub fn require(&mut self, condition: bool, field: &str, allowed: &str) {
        if !condition {
            self.fail(field, allowed);
        }
    }

    /// A text of so many characters, blank ones at its ends not counting
    /// towards the least, without control characters other than line breaks
    /// and tabs.
    pub fn text(&mut self, field: &str, text: &str, length: RangeInclusive<usize>) {
        let (min, max) = (*length.start(), *length.end());
        let count = text.chars().count();
        if text.trim().chars().count() < min || count > max {
            self.fail(field, &format!("must have {min} to {max} characters, has {count}"));
        } else if text.chars().any(|c| c.is_control() && !matches!(c, '\n' | '\r' | '\t')) {
            self.fail(field, "must not contain control characters");
        }
    }

    /// A command's `request_id`.
    pub fn request_id(&mut self, id: &str) {
        self.require(
            Uuid::parse_str(id).is_ok_and(|id| !id.is_nil()),
            "request_id",
            "must be a UUID that the caller chooses for this command",
        );
    }

    /// The id of a resource.
    pub fn id(&mut self, field: &str, id: &str) {
        self.require(Uuid::parse_str(id).is_ok(), field, "must be a UUID");
    }

    /// An enum of the contract: a value that it has, and not the unspecified
    /// one.
    pub fn choice<E: TryFrom<i32> + Copy>(&mut self, field: &str, value: i32) -> Option<E> {
        let choice = E::try_from(value).ok().filter(|_| value != 0);
        self.require(choice.is_some(), field, "must be one of the contract's values");
        choice
    }

    /// INVALID_ARGUMENT with every violation, if there is one.
    pub fn finish(self) -> Result<(), Status> {
        let Some(first) = self.violations.first() else { return Ok(()) };
        let message = format!("{}: {}", first.field, first.description);
        let mut details = ErrorDetails::with_bad_request(self.violations);
        details.set_error_info("INVALID_FIELD", DOMAIN, []);
        Err(Status::with_error_details(Code::InvalidArgument, message, details))
    }
}
