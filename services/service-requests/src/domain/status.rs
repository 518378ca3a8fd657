//! Which status may follow which: the whole table.

use samen_proto::requests::Status;

/// The statuses that a request may go to from here.
pub fn next(from: Status) -> &'static [Status] {
    match from {
        Status::Unspecified => &[],
        Status::Received | Status::Reopened => {
            &[Status::InProgress, Status::Resolved, Status::Rejected]
        }
        Status::InProgress => &[Status::Resolved, Status::Rejected],
        Status::Resolved | Status::Rejected => &[Status::Reopened],
    }
}

/// Whether nobody works on it any more.
pub fn is_closed(status: Status) -> bool {
    matches!(status, Status::Resolved | Status::Rejected)
}

/// Whether the reporter reads why: then there must be a text.
pub fn needs_explanation(to: Status) -> bool {
    matches!(to, Status::Resolved | Status::Rejected | Status::Reopened)
}
