//! A request is filed, brought in from the past, or put right.

use samen_proto::log::Sealed;
use samen_proto::requests::*;
use samen_server::time::micros;

use super::{NormPlan, Now, Of, Rejection, Request, RequestEvent};

/// What is put right: the final values.
#[derive(Clone, Debug, Default)]
pub struct Amendment {
    /// Empty: as it was.
    pub category: String,
    /// Absent: as it was; with the neighbourhood that it lies in.
    pub location: Option<(Location, String)>,
    /// Unspecified: as it was.
    pub urgency: Urgency,
    pub address: Option<Sealed>,
}

pub(super) fn file(
    filed: RequestFiled,
    routed: Option<RequestRouted>,
    norm: Option<NormPlan>,
    now: &Now,
) -> Result<Vec<RequestEvent>, Rejection> {
    let id = filed.id.clone();
    let mut events = vec![RequestEvent::from(filed)];
    events.extend(routed.map(RequestEvent::from));
    events.extend(norm.and_then(|plan| plan.set(&id, now)).map(RequestEvent::from));
    Ok(events)
}

pub(super) fn import(
    request: &Request,
    imported: RequestImported,
    now: &Now,
) -> Result<Vec<RequestEvent>, Rejection> {
    if request.status != Status::Unspecified {
        return Err(Rejection::Imported {
            source_name: imported.source,
            number: imported.source_number,
        });
    }
    let created = imported.create_time.as_ref().map_or(0, micros);
    let closed = imported.close_time.as_ref().map(micros);
    let now = now.time.as_microsecond();
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

impl Of<'_> {
    /// Routed once, by the final values: the caller did so with what
    /// [`Request::with`] gives.
    pub(super) fn amend(
        &self,
        amended: Amendment,
        routed: Option<RequestRouted>,
        norm: Option<NormPlan>,
    ) -> Result<Vec<RequestEvent>, Rejection> {
        self.open()?;
        let after = self.request.with(&amended);
        let moved = amended.address.is_some() || !self.request.is_about_the_same_as(&after);
        if !moved {
            return Ok(Vec::new());
        }
        let mut events = vec![RequestEvent::from(RequestAmended {
            id: self.id(),
            category: after.category.clone(),
            location: after.location,
            neighbourhood: after.neighbourhood.clone(),
            urgency: after.urgency.into(),
            address: amended.address,
        })];
        let goes = |routed: &RequestRouted| {
            routed.target.as_ref().and_then(|target| target.target.as_ref())
                != self.request.target.as_ref()
        };
        events.extend(routed.filter(goes).map(RequestEvent::from));
        if after.category != self.request.category {
            events
                .extend(norm.and_then(|plan| plan.set(self.id, self.now)).map(RequestEvent::from));
        }
        Ok(events)
    }
}

impl Request {
    /// As it is after an amendment.
    pub fn with(&self, amended: &Amendment) -> Request {
        let mut after = self.clone();
        if !amended.category.is_empty() {
            after.category.clone_from(&amended.category);
        }
        if let Some((location, neighbourhood)) = &amended.location {
            after.location = Some(*location);
            after.neighbourhood.clone_from(neighbourhood);
        }
        if amended.urgency != Urgency::Unspecified {
            after.urgency = amended.urgency;
        }
        after
    }

    fn is_about_the_same_as(&self, other: &Request) -> bool {
        self.category == other.category
            && self.location == other.location
            && self.neighbourhood == other.neighbourhood
            && self.urgency == other.urgency
    }

    pub(super) fn filed(&mut self, filed: &RequestFiled) {
        *self = Request {
            status: Status::Received,
            category: filed.category.clone(),
            location: filed.location,
            neighbourhood: filed.neighbourhood.clone(),
            urgency: urgency(filed.urgency()),
            contact_consent: filed.contact_consent && filed.reporter.is_some(),
            filed: true,
            parent: filed.parent_id.clone(),
            ..Request::default()
        };
    }

    pub(super) fn imported(&mut self, imported: &RequestImported) {
        *self = Request {
            status: imported_status(imported),
            category: imported.category.clone(),
            location: imported.location,
            neighbourhood: imported.neighbourhood.clone(),
            urgency: Urgency::Normal,
            ..Request::default()
        };
    }

    pub(super) fn amended(&mut self, amended: &RequestAmended) {
        self.category.clone_from(&amended.category);
        self.location = amended.location;
        self.neighbourhood.clone_from(&amended.neighbourhood);
        self.urgency = urgency(amended.urgency());
    }
}

/// Where a request of the past stands: resolved where its source closed it.
pub fn imported_status(imported: &RequestImported) -> Status {
    if imported.close_time.is_some() { Status::Resolved } else { Status::Received }
}

/// Normal in records from before there was one.
pub fn urgency(urgency: Urgency) -> Urgency {
    if urgency == Urgency::Unspecified { Urgency::Normal } else { urgency }
}
