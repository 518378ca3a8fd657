//! A service request: its state, and what may happen to it.
//!
//! - [`file`]: filed or brought in, and put right;
//! - [`handle`]: routed, assigned, written about and to;
//! - [`change`]: from one status to another, and what the norm does meanwhile;
//! - [`relate`]: divided, merged, linked, transferred;
//! - [`task`]: taken care of by a network;
//! - [`photo`] and [`feedback`];
//! - [`closing`]: since when it is closed;
//! - [`rejection`]: why not.

use std::collections::{BTreeMap, BTreeSet};

use jiff::Timestamp;
use samen_log::command::decode;
use samen_log::{Aggregate, Record};
use samen_proto::requests::*;
use samen_server::calendar::Calendar;
use samen_server::time::from_proto;

use super::status;

mod change;
mod closing;
mod feedback;
mod file;
mod handle;
pub mod number;
mod photo;
mod rejection;
mod relate;
mod task;
#[cfg(test)]
mod tests;

pub use change::Change;
pub use closing::CLOSING;
pub use feedback::{RATE_WITHIN_DAYS, Rating};
pub use file::{Amendment, imported_status};
pub use handle::{Message, REACT_WITHIN_DAYS};
pub use photo::MAX_PHOTOS;
pub use rejection::Rejection;
pub use relate::MAX_PARTS;

samen_log::events! {
    /// What happens to a request.
    pub enum RequestEvent {
        RequestFiled, RequestImported, RequestAmended, StatusChanged,
        RequestRouted, RequestAssigned,
        NormSet, NormPaused, NormResumed, NormApproached, NormBreached,
        NoteAdded, MessageSent, MessageReceived, ReactionExpired,
        RequestSplit, PartClosed, RequestMerged, DuplicateAdded, RequestLinked, RequestTransferred,
        TaskClaimed, TaskReleased, TaskDone, TaskConfirmed, TaskReturned,
        PhotoAdded, PhotoRemoved,
        FeedbackAsked, FeedbackGiven,
    }
}

/// A request's state, as far as rules look at it.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Request {
    /// Unspecified: there is none.
    pub status: Status,
    pub category: String,
    pub location: Option<Location>,
    pub neighbourhood: String,
    pub urgency: Urgency,
    pub contact_consent: bool,
    /// Whether somebody filed it here: one of the past asks nobody anything.
    pub filed: bool,
    pub target: Option<target::Target>,
    /// Pseudonymous id; empty for nobody.
    pub assignee: String,
    pub norm: Option<NormRun>,
    /// Until when the reporter can react.
    pub react_before: Option<Timestamp>,
    pub task: Option<TaskRun>,
    pub parent: String,
    /// By id: how each was closed; `None` while it is open.
    pub parts: BTreeMap<String, Option<Status>>,
    pub merged_into: String,
    pub linked: BTreeSet<String>,
    pub photos: BTreeSet<String>,
    /// Until when the reporter can say how satisfied they are, while nobody
    /// did.
    pub rate_before: Option<Timestamp>,
    /// Whether they were asked about this closure, and when it is then final.
    pub final_at: Option<Timestamp>,
    /// Whether the reporter had it opened again once.
    pub reopened_by_reporter: bool,
}

/// A norm as it runs for one request.
#[derive(Clone, Debug, PartialEq)]
pub struct NormRun {
    pub set: NormSet,
    pub due: Timestamp,
    pub approach: Timestamp,
    /// Since when it stands still: because the reporter is waited for, or
    /// because the request is closed.
    pub stopped: Option<Timestamp>,
    /// What was told about this due moment.
    pub told: NormState,
}

/// A network's task.
#[derive(Clone, Debug, PartialEq)]
pub struct TaskRun {
    pub network: String,
    pub state: TaskState,
    /// Pseudonymous id of who takes care of it; empty for nobody.
    pub member: String,
}

/// What somebody wants of a request.
#[derive(Clone, Debug)]
pub enum RequestCommand {
    File {
        filed: Box<RequestFiled>,
        routed: Option<RequestRouted>,
        norm: Option<NormPlan>,
    },
    Import(RequestImported),
    Amend {
        amended: Amendment,
        routed: Option<RequestRouted>,
        norm: Option<NormPlan>,
    },
    Change(Change),
    Route {
        target: Target,
    },
    Assign {
        assignee: String,
    },
    Note {
        note: samen_proto::log::Sealed,
    },
    Send(Message),
    Receive {
        message: samen_proto::log::Sealed,
        channel: Channel,
    },
    /// The reporter did not react by now.
    ExpireReaction,
    Split {
        parts: Vec<String>,
    },
    ClosePart {
        part: String,
        status: Status,
    },
    Merge {
        into: String,
        into_state: Box<Request>,
    },
    AddDuplicate {
        duplicate: String,
    },
    Link {
        other: String,
    },
    Transfer {
        municipality: String,
        explanation: samen_proto::log::Sealed,
    },
    ClaimTask {
        network: String,
        member: String,
    },
    ReleaseTask {
        member: String,
    },
    ReportTask {
        member: String,
        report: samen_proto::log::Sealed,
    },
    ConfirmTask {
        explanation: samen_proto::log::Sealed,
    },
    ReturnTask {
        reason: samen_proto::log::Sealed,
    },
    AddPhoto(PhotoAdded),
    RemovePhoto {
        photo: String,
    },
    Rate(Rating),
    /// Its norm is nearly over, or over, by now.
    CheckNorm,
    /// The time to react to the answer is over.
    Close,
}

/// The norm that a category has, as it is set for a request.
#[derive(Clone, Debug)]
pub struct NormPlan {
    pub norm: Norm,
    pub approaching_percent: u32,
    pub pauses_while_waiting: bool,
    pub reopening: ReopenPolicy,
    pub escalation: EscalationRole,
}

/// What a decision needs to know of the world.
#[derive(Clone, Debug)]
pub struct Now {
    pub time: Timestamp,
    pub calendar: Calendar,
}

/// What follows from a command on the request with this id, or why not.
/// `expected` is the version that the caller saw, where they have to.
pub fn decide(
    request: &Request,
    version: u64,
    id: &str,
    expected: Option<u64>,
    command: RequestCommand,
    now: &Now,
) -> Result<Vec<RequestEvent>, Rejection> {
    match command {
        RequestCommand::File { filed, routed, norm } => {
            return file::file(*filed, routed, norm, now);
        }
        RequestCommand::Import(imported) => return file::import(request, imported, now),
        _ => {}
    }
    if request.status == Status::Unspecified {
        return Err(Rejection::Missing { id: id.to_owned() });
    }
    if let Some(expected) = expected.filter(|expected| *expected != version) {
        return Err(Rejection::VersionMoved { expected, actual: version });
    }
    let of = Of { request, id, now };
    match command {
        RequestCommand::File { .. } | RequestCommand::Import(_) => Ok(Vec::new()),
        RequestCommand::Amend { amended, routed, norm } => of.amend(amended, routed, norm),
        RequestCommand::Change(change) => of.change(change),
        RequestCommand::Route { target } => of.route(target),
        RequestCommand::Assign { assignee } => of.assign(assignee),
        RequestCommand::Note { note } => of.note(note),
        RequestCommand::Send(message) => of.send(message),
        RequestCommand::Receive { message, channel } => of.receive(message, channel),
        RequestCommand::ExpireReaction => of.expire_reaction(),
        RequestCommand::Split { parts } => of.split(parts),
        RequestCommand::ClosePart { part, status } => of.close_part(part, status),
        RequestCommand::Merge { into, into_state } => of.merge(into, &into_state),
        RequestCommand::AddDuplicate { duplicate } => of.add_duplicate(duplicate),
        RequestCommand::Link { other } => of.link(other),
        RequestCommand::Transfer { municipality, explanation } => {
            of.transfer(municipality, explanation)
        }
        RequestCommand::ClaimTask { network, member } => of.claim(&network, member),
        RequestCommand::ReleaseTask { member } => of.release(&member),
        RequestCommand::ReportTask { member, report } => of.report(&member, report),
        RequestCommand::ConfirmTask { explanation } => of.confirm(explanation),
        RequestCommand::ReturnTask { reason } => of.give_back(reason),
        RequestCommand::AddPhoto(photo) => of.add_photo(photo),
        RequestCommand::RemovePhoto { photo } => of.remove_photo(photo),
        RequestCommand::Rate(rating) => of.rate(rating),
        RequestCommand::CheckNorm => of.check_norm(),
        RequestCommand::Close => of.close(),
    }
}

/// A request that there is, and a command on it.
struct Of<'a> {
    request: &'a Request,
    id: &'a str,
    now: &'a Now,
}

impl Of<'_> {
    fn id(&self) -> String {
        self.id.to_owned()
    }

    /// Refuses what only an open request can have done to it.
    fn open(&self) -> Result<(), Rejection> {
        match status::is_closed(self.request.status) {
            true => Err(Rejection::Closed { status: self.request.status }),
            false => Ok(()),
        }
    }
}

impl Aggregate for Request {
    type Event = RequestEvent;
    const KIND: &'static str = "request";

    fn evolve(mut self, event: &RequestEvent) -> Self {
        match event {
            RequestEvent::RequestFiled(filed) => self.filed(filed),
            RequestEvent::RequestImported(imported) => self.imported(imported),
            RequestEvent::RequestAmended(amended) => self.amended(amended),
            RequestEvent::StatusChanged(changed) => self.changed(changed),
            RequestEvent::RequestRouted(routed) => self.routed(routed),
            RequestEvent::RequestAssigned(assigned) => {
                self.assignee.clone_from(&assigned.assignee);
            }
            RequestEvent::NormSet(set) => self.norm = NormRun::of(set),
            RequestEvent::NormPaused(paused) => {
                if let Some(norm) = &mut self.norm {
                    norm.stopped = instant(paused.pause_time.as_ref());
                }
            }
            RequestEvent::NormResumed(resumed) => {
                if let Some(norm) = &mut self.norm {
                    norm.stopped = None;
                    norm.resume(resumed);
                }
            }
            RequestEvent::NormApproached(_) => self.told(NormState::Approaching),
            RequestEvent::NormBreached(_) => self.told(NormState::Breached),
            RequestEvent::NoteAdded(_) => {}
            RequestEvent::MessageSent(sent) => {
                self.react_before = instant(sent.react_before.as_ref()).or(self.react_before);
            }
            RequestEvent::MessageReceived(_) | RequestEvent::ReactionExpired(_) => {
                self.react_before = None;
            }
            RequestEvent::RequestSplit(split) => {
                self.parts.extend(split.part_ids.iter().map(|part| (part.clone(), None)));
            }
            RequestEvent::PartClosed(closed) => {
                let closed_as = Some(closed.status()).filter(|to| status::is_closed(*to));
                self.parts.insert(closed.part_id.clone(), closed_as);
            }
            RequestEvent::RequestMerged(merged) => self.merged_into.clone_from(&merged.into_id),
            RequestEvent::DuplicateAdded(added) => {
                self.linked.insert(added.duplicate_id.clone());
            }
            RequestEvent::RequestLinked(linked) => {
                self.linked.insert(linked.other_id.clone());
            }
            RequestEvent::RequestTransferred(_) => {}
            RequestEvent::TaskClaimed(claimed) => self.task_is(TaskState::Claimed, &claimed.member),
            RequestEvent::TaskReleased(_) => self.task_is(TaskState::Open, ""),
            RequestEvent::TaskDone(_) => self.task_goes(TaskState::Done),
            RequestEvent::TaskConfirmed(_) => self.task_goes(TaskState::Confirmed),
            RequestEvent::TaskReturned(_) => self.task_goes(TaskState::Claimed),
            RequestEvent::PhotoAdded(added) => {
                self.photos.insert(added.photo_id.clone());
            }
            RequestEvent::PhotoRemoved(removed) => {
                self.photos.remove(&removed.photo_id);
            }
            RequestEvent::FeedbackAsked(asked) => {
                self.rate_before = instant(asked.rate_before.as_ref());
                self.final_at = self.rate_before;
            }
            RequestEvent::FeedbackGiven(given) => {
                self.rate_before = None;
                self.reopened_by_reporter |= given.reopens;
            }
        }
        self
    }
}

/// Whether who made a record told it of their own: not an employee who wrote
/// down what somebody said, answered, or brought in the past.
pub fn spoke_for_themselves(record: &Record) -> bool {
    match decode(record) {
        Ok(Some(RequestEvent::RequestFiled(filed))) => own_channel(filed.channel()),
        Ok(Some(RequestEvent::MessageReceived(received))) => own_channel(received.channel()),
        Ok(Some(RequestEvent::FeedbackGiven(_) | RequestEvent::TaskDone(_))) => true,
        _ => false,
    }
}

/// Who is told of a request that begins with this record: the reporter's
/// pseudonymous id; empty for whoever has its secret, where an employee or
/// another system entered it. `None` for one of the past, which has nobody, and
/// for a part, whose whole has.
pub fn reporter_of(first: &Record) -> Option<String> {
    match decode(first) {
        Ok(Some(RequestEvent::RequestFiled(filed))) if filed.parent_id.is_empty() => {
            Some(if own_channel(filed.channel()) { first.actor.clone() } else { String::new() })
        }
        _ => None,
    }
}

/// Whether people come by it themselves.
pub fn own_channel(channel: Channel) -> bool {
    matches!(channel, Channel::Web | Channel::App)
}

fn instant(time: Option<&prost_types::Timestamp>) -> Option<Timestamp> {
    time.and_then(from_proto)
}
