//! One request's row, and what each event makes of it.

use std::collections::BTreeSet;

use prost::{DecodeError, Message};
use samen_log::record::recorded_at;
use samen_log::{Aggregate, Record, Row};
use samen_proto::log::Sealed;
use samen_proto::privacy::ContentErased;
use samen_proto::requests::target::Target as To;
use samen_proto::requests::*;
use samen_server::calendar;
use samen_server::privacy::left;
use samen_server::time::{from_proto, micros, to_proto};

use super::search;
use crate::domain::request::{Request, RequestEvent, imported_status, number};
use crate::domain::status;

/// What stands where there is no moment, or no point.
pub const NONE: i64 = i64::MAX;
/// Of a degree, in `latitude` and `longitude`.
pub const PER_DEGREE: f64 = 1e7;

/// What the tables follow of a request.
pub enum ProjectedEvent {
    Own(Box<RequestEvent>),
    Erased(ContentErased),
}

/// A row of `request`.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct RequestRow {
    pub body: ServiceRequest,
    /// From when its norm counts as approaching; while it runs.
    pub approach_at: Option<prost_types::Timestamp>,
    pub filed_by: String,
    /// Who of the network takes care of it.
    pub task_member: String,
    /// Encoded `Sealed`s, or empty.
    pub description: Vec<u8>,
    pub reporter: Vec<u8>,
    pub address: Vec<u8>,
    pub answers: Vec<u8>,
    /// What the words of the description are in the store.
    pub words: Vec<i64>,
}

/// The columns that [`RequestRow::read`] reads.
pub const COLUMNS: &str =
    "body, kept, filed_by, description, reporter, address, answers, task_member, words";

impl RequestRow {
    /// Reads [`COLUMNS`].
    pub fn read(row: &Row) -> Result<Self, DecodeError> {
        let kept = row.bytes(1);
        Ok(RequestRow {
            body: ServiceRequest::decode(row.bytes(0).as_slice())?,
            approach_at: (!kept.is_empty())
                .then(|| prost_types::Timestamp::decode(kept.as_slice()))
                .transpose()?,
            filed_by: row.text(2),
            description: row.bytes(3),
            reporter: row.bytes(4),
            address: row.bytes(5),
            answers: row.bytes(6),
            task_member: row.text(7),
            words: search::decode(&row.bytes(8)),
        })
    }

    /// When a reconciler has to look at it next.
    pub fn look_at(&self) -> i64 {
        let ServiceRequest { handling, norm_state, due_time, .. } = &self.body;
        let handling = handling.as_ref();
        let norm = match NormState::try_from(*norm_state) {
            Ok(NormState::Within) => self.approach_at.as_ref(),
            Ok(NormState::Approaching) => due_time.as_ref(),
            _ => None,
        };
        let reaction = handling.and_then(|handling| handling.react_before.as_ref());
        let answer = handling
            .filter(|_| matches!(self.body.status(), Status::Resolved | Status::Rejected))
            .and_then(|handling| handling.rate_before.as_ref());
        [norm.filter(|_| due_time.is_some()), reaction, answer]
            .into_iter()
            .flatten()
            .map(micros)
            .min()
            .unwrap_or(NONE)
    }

    /// When it was reported.
    pub fn created_at(&self) -> i64 {
        moment(self.body.create_time.as_ref())
    }

    /// The week in which it was reported (ISO 8601, in Europe/Amsterdam): the
    /// year times 100 and the week.
    pub fn week(&self) -> i64 {
        let created = self.body.create_time.as_ref().and_then(from_proto).unwrap_or_default();
        let week = calendar::zone().to_datetime(created).date().iso_week_date();
        i64::from(week.year()) * 100 + i64::from(week.week())
    }

    fn handling(&mut self) -> &mut Handling {
        self.body.handling.get_or_insert_default()
    }
}

impl ProjectedEvent {
    /// `None` for what is about no request.
    pub fn of(record: &Record) -> Result<Option<Self>, DecodeError> {
        use samen_log::command::decode;
        if let Some(event) = decode::<RequestEvent>(record)? {
            return Ok(Some(ProjectedEvent::Own(event.into())));
        }
        if !samen_log::command::is::<ContentErased>(&record.r#type) {
            return Ok(None);
        }
        let erased = ContentErased::decode(record.data.as_slice())?;
        let about = id_of(&erased.stream).is_some();
        Ok(about.then_some(ProjectedEvent::Erased(erased)))
    }

    /// Which request it is about, that stands in this record.
    pub fn id<'a>(&'a self, record: &'a Record) -> &'a str {
        let stream = match self {
            ProjectedEvent::Own(_) => &record.stream,
            ProjectedEvent::Erased(erased) => &erased.stream,
        };
        id_of(stream).unwrap_or_default()
    }

    /// Whether it makes a request: there is no row before it.
    pub fn makes(&self) -> bool {
        use RequestEvent::{RequestFiled, RequestImported};
        match self {
            ProjectedEvent::Own(event) => {
                matches!(**event, RequestFiled(_) | RequestImported(_))
            }
            ProjectedEvent::Erased(_) => false,
        }
    }
}

fn id_of(stream: &str) -> Option<&str> {
    stream.strip_prefix(Request::KIND)?.strip_prefix('/')
}

/// The row after an event. `None` when it needs a row that is not there.
pub fn evolve(
    row: Option<RequestRow>,
    record: &Record,
    event: &ProjectedEvent,
) -> Option<RequestRow> {
    let event = match event {
        ProjectedEvent::Own(event) => event,
        // The request itself does not change by it.
        ProjectedEvent::Erased(erased) => {
            let mut row = row?;
            for sealed in
                [&mut row.description, &mut row.reporter, &mut row.address, &mut row.answers]
            {
                *sealed = left(std::mem::take(sealed), &erased.key_ids);
            }
            if row.description.is_empty() {
                row.words.clear();
            }
            return Some(row);
        }
    };
    let mut row = match &**event {
        RequestEvent::RequestFiled(filed) => filed_row(filed, record),
        RequestEvent::RequestImported(imported) => imported_row(imported, record),
        event => changed(row?, record, event),
    };
    row.body.version = record.version;
    row.body.update_time = Some(to_proto(recorded_at(record)));
    Some(row)
}

fn filed_row(filed: &RequestFiled, record: &Record) -> RequestRow {
    let urgency = match filed.urgency() {
        Urgency::Unspecified => Urgency::Normal,
        urgency => urgency,
    };
    RequestRow {
        body: ServiceRequest {
            id: filed.id.clone(),
            number: number::of(record),
            category: filed.category.clone(),
            status: Status::Received.into(),
            location: filed.location,
            neighbourhood: filed.neighbourhood.clone(),
            channel: filed.channel,
            create_time: Some(to_proto(recorded_at(record))),
            source: filed.source.clone(),
            source_number: filed.source_number.clone(),
            urgency: urgency.into(),
            parent_id: filed.parent_id.clone(),
            handling: Some(Handling {
                contact_consent: filed.contact_consent && filed.reporter.is_some(),
                share_consent: filed.share_consent && filed.reporter.is_some(),
                ..Handling::default()
            }),
            ..ServiceRequest::default()
        },
        filed_by: record.actor.clone(),
        description: encoded(filed.description.as_ref()),
        reporter: encoded(filed.reporter.as_ref()),
        address: encoded(filed.address.as_ref()),
        answers: encoded(filed.answers.as_ref()),
        ..RequestRow::default()
    }
}

fn imported_row(imported: &RequestImported, record: &Record) -> RequestRow {
    RequestRow {
        body: ServiceRequest {
            id: imported.id.clone(),
            number: number::of(record),
            category: imported.category.clone(),
            status: imported_status(imported).into(),
            location: imported.location,
            neighbourhood: imported.neighbourhood.clone(),
            channel: imported.channel,
            create_time: imported.create_time,
            close_time: imported.close_time,
            source: imported.source.clone(),
            source_number: imported.source_number.clone(),
            urgency: Urgency::Normal.into(),
            handling: Some(Handling::default()),
            ..ServiceRequest::default()
        },
        filed_by: record.actor.clone(),
        description: encoded(imported.description.as_ref()),
        ..RequestRow::default()
    }
}

fn changed(mut row: RequestRow, record: &Record, event: &RequestEvent) -> RequestRow {
    let body = &mut row.body;
    match event {
        RequestEvent::RequestFiled(_) | RequestEvent::RequestImported(_) => {}
        RequestEvent::RequestAmended(amended) => {
            body.category.clone_from(&amended.category);
            body.location = amended.location;
            body.neighbourhood.clone_from(&amended.neighbourhood);
            body.urgency = amended.urgency;
            if amended.address.is_some() {
                row.address = encoded(amended.address.as_ref());
            }
        }
        RequestEvent::StatusChanged(changed) => status_changed(&mut row, record, changed),
        RequestEvent::RequestRouted(routed) => {
            row.task_member.clear();
            let handling = row.handling();
            *handling = Handling {
                rule: routed.rule.clone(),
                contact_consent: handling.contact_consent,
                share_consent: handling.share_consent,
                react_before: handling.react_before,
                rate_before: handling.rate_before,
                ..Handling::default()
            };
            match routed.target.as_ref().and_then(|target| target.target.clone()) {
                Some(To::Team(team)) => handling.team = team,
                Some(To::Network(network)) => {
                    handling.network = network;
                    handling.task = TaskState::Open.into();
                }
                Some(To::Partner(partner)) => handling.partner = partner,
                None => {}
            }
        }
        RequestEvent::RequestAssigned(assigned) => {
            row.handling().assignee.clone_from(&assigned.assignee);
        }
        RequestEvent::NormSet(set) => {
            body.due_time = set.due_time;
            body.norm_state = NormState::Within.into();
            row.approach_at = set.approach_time;
        }
        RequestEvent::NormPaused(_) => {}
        RequestEvent::NormResumed(resumed) => {
            let moved = body.due_time != resumed.due_time;
            if moved && body.norm_state() == NormState::Breached {
                body.norm_state = NormState::Within.into();
            }
            body.due_time = resumed.due_time;
            row.approach_at = resumed.approach_time;
        }
        RequestEvent::NormApproached(_) => body.norm_state = NormState::Approaching.into(),
        RequestEvent::NormBreached(_) => body.norm_state = NormState::Breached.into(),
        RequestEvent::MessageSent(sent) => {
            if sent.react_before.is_some() {
                row.handling().react_before = sent.react_before;
            }
        }
        RequestEvent::MessageReceived(_) | RequestEvent::ReactionExpired(_) => {
            row.handling().react_before = None;
        }
        RequestEvent::RequestSplit(split) => body.part_ids.extend(split.part_ids.iter().cloned()),
        RequestEvent::RequestMerged(merged) => body.merged_into_id.clone_from(&merged.into_id),
        RequestEvent::DuplicateAdded(added) => link(body, &added.duplicate_id),
        RequestEvent::RequestLinked(linked) => link(body, &linked.other_id),
        RequestEvent::RequestTransferred(transferred) => {
            body.transferred_to.clone_from(&transferred.municipality);
        }
        RequestEvent::TaskClaimed(claimed) => {
            row.handling().task = TaskState::Claimed.into();
            row.task_member.clone_from(&claimed.member);
        }
        RequestEvent::TaskReturned(_) => row.handling().task = TaskState::Claimed.into(),
        RequestEvent::TaskReleased(_) => {
            row.handling().task = TaskState::Open.into();
            row.task_member.clear();
        }
        RequestEvent::TaskDone(_) => row.handling().task = TaskState::Done.into(),
        RequestEvent::TaskConfirmed(_) => row.handling().task = TaskState::Confirmed.into(),
        RequestEvent::PhotoAdded(added) => body.photo_ids.push(added.photo_id.clone()),
        RequestEvent::PhotoRemoved(removed) => {
            body.photo_ids.retain(|photo| *photo != removed.photo_id);
        }
        RequestEvent::FeedbackAsked(asked) => row.handling().rate_before = asked.rate_before,
        RequestEvent::FeedbackGiven(given) => body.satisfaction = given.satisfaction,
        RequestEvent::NoteAdded(_) | RequestEvent::PartClosed(_) => {}
    }
    row
}

/// A norm that was not said to be over by then was kept.
fn status_changed(row: &mut RequestRow, record: &Record, changed: &StatusChanged) {
    let recorded = to_proto(recorded_at(record));
    let to = changed.to();
    let body = &mut row.body;
    body.status = to.into();
    body.planned_date.clone_from(&changed.planned_date);
    body.external_party.clone_from(&changed.external_party);
    match status::is_closed(to) {
        // Its end does not move when the answer becomes final.
        true if body.close_time.is_some() => {}
        true => {
            let late = body.due_time.as_ref().is_some_and(|due| micros(due) < micros(&recorded));
            match body.norm_state() {
                NormState::Unspecified => {}
                _ if late => body.norm_state = NormState::Breached.into(),
                NormState::Breached => {}
                _ => body.norm_state = NormState::Within.into(),
            }
            body.close_time = Some(recorded);
        }
        false => body.close_time = None,
    }
    if to == Status::Reopened {
        body.merged_into_id.clear();
        body.transferred_to.clear();
        row.handling().rate_before = None;
    }
    if to != Status::Waiting {
        row.handling().react_before = None;
    }
}

fn link(body: &mut ServiceRequest, other: &str) {
    let linked: BTreeSet<_> = body.linked_ids.drain(..).chain([other.to_owned()]).collect();
    body.linked_ids = linked.into_iter().collect();
}

/// A moment as the columns have it.
pub fn moment(time: Option<&prost_types::Timestamp>) -> i64 {
    time.map_or(NONE, micros)
}

/// Degrees as the columns have them.
pub fn units(degrees: f64) -> i64 {
    (degrees * PER_DEGREE).round() as i64
}

/// Latitude and longitude as the columns have them.
pub fn place(at: Option<&Location>) -> (i64, i64) {
    at.map_or((NONE, NONE), |at| (units(at.latitude), units(at.longitude)))
}

pub fn encoded(sealed: Option<&Sealed>) -> Vec<u8> {
    sealed.map(Message::encode_to_vec).unwrap_or_default()
}
