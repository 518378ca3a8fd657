//! The reporter says how satisfied they are.

use samen_proto::log::Sealed;
use samen_proto::requests::*;
use samen_server::time::to_proto;

use super::change::days_after;
use super::{Of, Rejection, RequestEvent};

/// Days within which the reporter can say so.
pub const RATE_WITHIN_DAYS: i64 = 14;
/// From here on, they are satisfied.
const SATISFIED: u32 = 3;

/// How satisfied a reporter is.
#[derive(Clone, Debug, Default)]
pub struct Rating {
    /// 1 to 5.
    pub satisfaction: u32,
    pub words: Option<Sealed>,
    /// Whether they want it opened again.
    pub reopen: bool,
}

impl Of<'_> {
    /// Once for each closure: of what was answered, to who can be asked.
    pub(super) fn asked(&self, to: Status) -> Option<RequestEvent> {
        let answered = matches!(to, Status::Resolved | Status::Rejected);
        let ask = answered && self.request.filed && self.request.parent.is_empty();
        let rate_before = Some(to_proto(days_after(self.now.time, RATE_WITHIN_DAYS)));
        ask.then(|| FeedbackAsked { id: self.id(), rate_before }.into())
    }

    pub(super) fn rate(&self, rating: Rating) -> Result<Vec<RequestEvent>, Rejection> {
        let Rating { satisfaction, words, reopen } = rating;
        let Some(before) = self.request.rate_before else {
            return Err(Rejection::Not("nobody was asked, or it was said before"));
        };
        if self.now.time >= before {
            return Err(Rejection::Not("the time to say how satisfied you are is over"));
        }
        if reopen {
            if satisfaction >= SATISFIED {
                let allowed = "must be 1 or 2 to have it opened again";
                return Err(Rejection::Field { field: "satisfaction", allowed });
            }
            if words.is_none() {
                let allowed = "must say why it has to be opened again";
                return Err(Rejection::Field { field: "words", allowed });
            }
            if self.request.reopened_by_reporter {
                return Err(Rejection::Not("it was opened again before: that is done once"));
            }
            self.can_go(Status::Reopened)?;
        }
        let given = FeedbackGiven { id: self.id(), satisfaction, words, reopens: reopen };
        let mut events = vec![RequestEvent::from(given)];
        if reopen {
            events.extend(self.goes_to(Status::Reopened, None));
        }
        Ok(events)
    }
}
