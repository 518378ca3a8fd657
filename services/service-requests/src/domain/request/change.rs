//! A request goes from one status to another, and its norm with it.

use jiff::civil::Date;
use jiff::{Span, Timestamp};
use samen_proto::log::Sealed;
use samen_proto::requests::*;
use samen_server::calendar::wall;
use samen_server::time::to_proto;

use super::super::{norm, status};
use super::{NormPlan, NormRun, Now, Of, Rejection, Request, RequestEvent, instant};

/// A norm approaches when this much of it has passed, in percent.
const APPROACHES_AT: u8 = 80;

/// To which status, and what belongs to it.
#[derive(Clone, Debug, Default)]
pub struct Change {
    pub to: Status,
    pub explanation: Option<Sealed>,
    /// For EXTERNAL.
    pub external_party: String,
    /// For PLANNED, as 2026-03-27.
    pub planned_date: String,
}

impl Of<'_> {
    pub(super) fn change(&self, change: Change) -> Result<Vec<RequestEvent>, Rejection> {
        let to = change.to;
        if !status::by_change(to) {
            return Err(Rejection::NotByChange { to });
        }
        self.can_go(to)?;
        if status::needs_explanation(to) && change.explanation.is_none() {
            return Err(Rejection::Unexplained);
        }
        if to == Status::External && change.external_party.is_empty() {
            let allowed = "must name who works on it";
            return Err(Rejection::Field { field: "external_party", allowed });
        }
        if to == Status::Planned {
            self.plannable(&change.planned_date)?;
        }
        if to == Status::Resolved {
            self.parts_closed()?;
        }
        Ok(self.goes(change))
    }

    /// The answer is final: the time to react to it is over.
    pub(super) fn close(&self) -> Result<Vec<RequestEvent>, Rejection> {
        let answered = matches!(self.request.status, Status::Resolved | Status::Rejected);
        let over = self.request.final_at.is_some_and(|at| self.now.time >= at);
        Ok(if answered && over { self.goes_to(Status::Closed, None) } else { Vec::new() })
    }

    /// Its norm is nearly over, or over. Said once for each due moment,
    /// whoever looks how often.
    pub(super) fn check_norm(&self) -> Result<Vec<RequestEvent>, Rejection> {
        let Some(norm) = &self.request.norm else { return Ok(Vec::new()) };
        let running = norm.stopped.is_none() && !status::is_closed(self.request.status);
        let due_time = Some(to_proto(norm.due));
        let escalated_to = norm.set.escalation;
        let id = self.id();
        Ok(match norm.state_at(self.now.time) {
            state if !running || state == norm.told => Vec::new(),
            NormState::Breached => vec![NormBreached { id, due_time, escalated_to }.into()],
            NormState::Approaching => vec![NormApproached { id, due_time, escalated_to }.into()],
            NormState::Unspecified | NormState::Within => Vec::new(),
        })
    }

    pub(super) fn can_go(&self, to: Status) -> Result<(), Rejection> {
        let from = self.request.status;
        match status::next(from).contains(&to) {
            true => Ok(()),
            false => Err(Rejection::NotNext { from, to }),
        }
    }

    pub(super) fn goes_to(&self, to: Status, explanation: Option<Sealed>) -> Vec<RequestEvent> {
        self.goes(Change { to, explanation, ..Change::default() })
    }

    /// The change, and what the norm does: it stands still while the reporter
    /// is waited for, and while the request is closed.
    fn goes(&self, change: Change) -> Vec<RequestEvent> {
        let (from, to) = (self.request.status, change.to);
        let mut events = vec![RequestEvent::from(StatusChanged {
            id: self.id(),
            from: from.into(),
            to: to.into(),
            explanation: change.explanation,
            external_party: change.external_party,
            planned_date: change.planned_date,
        })];
        events.extend(self.asked(to));
        let Some(norm) = &self.request.norm else { return events };
        let stands = |status: Status| {
            status::is_closed(status)
                || (status == Status::Waiting && norm.set.pauses_while_waiting)
        };
        let id = self.id();
        let reopened = to == Status::Reopened;
        events.extend(match norm.stopped {
            None if stands(to) => {
                Some(NormPaused { id, pause_time: Some(to_proto(self.now.time)) }.into())
            }
            Some(_) if reopened && norm.set.reopening() != ReopenPolicy::Continue => {
                norm.plan().set(self.id, self.now).map(RequestEvent::from)
            }
            Some(since) if !stands(to) => Some(norm.resumed(self.id, since, self.now).into()),
            _ => None,
        });
        events
    }

    /// A date, of today or later.
    fn plannable(&self, date: &str) -> Result<(), Rejection> {
        let today = wall::shown(self.now.time).date();
        match date.parse::<Date>() {
            Ok(planned) if planned >= today => Ok(()),
            _ => {
                let allowed = "must be a date such as 2026-03-27, of today or later";
                Err(Rejection::Field { field: "planned_date", allowed })
            }
        }
    }

    fn parts_closed(&self) -> Result<(), Rejection> {
        match self.request.parts.values().filter(|closed| closed.is_none()).count() {
            0 => Ok(()),
            open => Err(Rejection::PartsOpen { open }),
        }
    }
}

impl Request {
    pub(super) fn changed(&mut self, changed: &StatusChanged) {
        self.status = changed.to();
        if self.status == Status::Reopened {
            self.merged_into.clear();
            (self.rate_before, self.final_at) = (None, None);
        }
        if self.status != Status::Waiting {
            self.react_before = None;
        }
    }

    pub(super) fn told(&mut self, state: NormState) {
        if let Some(norm) = &mut self.norm {
            norm.told = state;
        }
    }
}

impl NormPlan {
    /// The norm, from now on. `None` for one that says nothing.
    pub fn set(&self, id: &str, now: &Now) -> Option<NormSet> {
        let norm = norm::Norm::of(&self.norm)?;
        let percent = match self.approaching_percent {
            percent @ 1..=99 => percent as u8,
            _ => APPROACHES_AT,
        };
        Some(NormSet {
            id: id.to_owned(),
            norm: Some(self.norm),
            due_time: Some(to_proto(norm.due(now.time, &now.calendar))),
            approach_time: Some(to_proto(norm.approaching(now.time, percent, &now.calendar))),
            pauses_while_waiting: self.pauses_while_waiting,
            reopening: self.reopening.into(),
            escalation: self.escalation.into(),
            approaching_percent: self.approaching_percent,
        })
    }
}

impl NormRun {
    pub(super) fn of(set: &NormSet) -> Option<Self> {
        let due = instant(set.due_time.as_ref())?;
        let approach = instant(set.approach_time.as_ref())?;
        let told = NormState::Within;
        Some(NormRun { set: set.clone(), due, approach, stopped: None, told })
    }

    /// How it is kept at this moment, while it runs.
    pub fn state_at(&self, now: Timestamp) -> NormState {
        if now >= self.due {
            NormState::Breached
        } else if now >= self.approach {
            NormState::Approaching
        } else {
            NormState::Within
        }
    }

    /// What was set, to be set again.
    fn plan(&self) -> NormPlan {
        NormPlan {
            norm: self.set.norm.unwrap_or_default(),
            approaching_percent: self.set.approaching_percent,
            pauses_while_waiting: self.set.pauses_while_waiting,
            reopening: self.set.reopening(),
            escalation: self.set.escalation(),
        }
    }

    /// It goes on: what was left of it is still to come.
    fn resumed(&self, id: &str, since: Timestamp, now: &Now) -> NormResumed {
        let moved = |moment| match self.set.norm.as_ref().and_then(norm::Norm::of) {
            Some(norm) => norm.moved(moment, since, now.time, &now.calendar),
            None => moment,
        };
        NormResumed {
            id: id.to_owned(),
            due_time: Some(to_proto(moved(self.due))),
            approach_time: Some(to_proto(moved(self.approach))),
        }
    }

    /// A due moment that moved is told about anew, unless it had passed.
    pub(super) fn resume(&mut self, resumed: &NormResumed) {
        if let Some(due) = instant(resumed.due_time.as_ref()).filter(|due| *due != self.due) {
            self.due = due;
            if self.told == NormState::Breached {
                self.told = NormState::Within;
            }
        }
        if let Some(approach) = instant(resumed.approach_time.as_ref()) {
            self.approach = approach;
        }
    }
}

/// So many days of the calendar later, at the same time of day there.
pub(super) fn days_after(from: Timestamp, days: i64) -> Timestamp {
    let there = from.to_zoned_datetime(wall::zone().clone());
    there.checked_add(Span::new().days(days)).map_or(Timestamp::MAX, |then| then.timestamp())
}
