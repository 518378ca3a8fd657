//! A request is divided, goes on in another one, has to do with another one,
//! or leaves for another municipality.

use samen_proto::log::Sealed;
use samen_proto::requests::*;

use super::super::status;
use super::{Of, Rejection, Request, RequestEvent};

/// Parts of a request.
pub const MAX_PARTS: usize = 10;

impl Of<'_> {
    /// Into parts that are filed in the same append.
    pub(super) fn split(&self, parts: Vec<String>) -> Result<Vec<RequestEvent>, Rejection> {
        self.open()?;
        if !self.request.parent.is_empty() {
            return Err(Rejection::Not("it is itself a part: parts are one level deep"));
        }
        if self.request.parts.len() + parts.len() > MAX_PARTS {
            return Err(Rejection::TooManyParts);
        }
        Ok(vec![RequestSplit { id: self.id(), part_ids: parts }.into()])
    }

    /// The whole is resolved with the last of its parts, unless somebody closed
    /// it before: what was done stands with each.
    pub(super) fn close_part(
        &self,
        part: String,
        closed: Status,
    ) -> Result<Vec<RequestEvent>, Rejection> {
        let now = Some(closed).filter(|to| status::is_closed(*to));
        match self.request.parts.get(&part) {
            Some(before) if *before != now => {}
            _ => return Ok(Vec::new()),
        }
        let others = self.request.parts.iter().filter(|(id, _)| **id != part);
        let last = others.clone().all(|(_, closed)| closed.is_some());
        let (id, part_id) = (self.id(), part);
        let mut events =
            vec![RequestEvent::from(PartClosed { id, part_id, status: closed.into() })];
        if now.is_some() && last && !status::is_closed(self.request.status) {
            events.extend(self.goes_to(Status::Resolved, None));
        }
        Ok(events)
    }

    pub(super) fn merge(
        &self,
        into: String,
        into_state: &Request,
    ) -> Result<Vec<RequestEvent>, Rejection> {
        if into == self.id {
            let allowed = "must be another request";
            return Err(Rejection::Field { field: "into_id", allowed });
        }
        if into_state.status == Status::Unspecified {
            return Err(Rejection::Missing { id: into });
        }
        if status::is_closed(into_state.status) {
            return Err(Rejection::Not("the request to go on in is not open"));
        }
        if !self.request.parts.is_empty() || !self.request.parent.is_empty() {
            return Err(Rejection::Not("it is divided, or a part: it cannot go on in another one"));
        }
        self.can_go(Status::Merged)?;
        let mut events = vec![RequestEvent::from(RequestMerged { id: self.id(), into_id: into })];
        events.extend(self.goes_to(Status::Merged, None));
        Ok(events)
    }

    pub(super) fn add_duplicate(&self, duplicate: String) -> Result<Vec<RequestEvent>, Rejection> {
        Ok(vec![DuplicateAdded { id: self.id(), duplicate_id: duplicate }.into()])
    }

    pub(super) fn link(&self, other: String) -> Result<Vec<RequestEvent>, Rejection> {
        if other == self.id {
            let allowed = "must be another request";
            return Err(Rejection::Field { field: "other_id", allowed });
        }
        if self.request.linked.contains(&other) {
            return Ok(Vec::new());
        }
        Ok(vec![RequestLinked { id: self.id(), other_id: other }.into()])
    }

    pub(super) fn transfer(
        &self,
        municipality: String,
        explanation: Sealed,
    ) -> Result<Vec<RequestEvent>, Rejection> {
        self.can_go(Status::Transferred)?;
        let mut events =
            vec![RequestEvent::from(RequestTransferred { id: self.id(), municipality })];
        events.extend(self.goes_to(Status::Transferred, Some(explanation)));
        Ok(events)
    }
}
