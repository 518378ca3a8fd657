//! What the fields of a message may hold.

use samen_proto::options::Role;
use samen_proto::requests::{Location, RequestFilter, Status};
use samen_server::Caller;
use samen_server::area::Area;
use samen_server::reply::Check;
use samen_server::time::from_proto;

use crate::domain;

/// Characters of a category, and of any other code.
const CODE: std::ops::RangeInclusive<usize> = 1..=200;
/// Values of one filter field; of the statuses, of which there are few.
const MAX_FILTER_VALUES: usize = 1_000;
const MAX_STATUSES: usize = 16;

pub fn category(check: &mut Check, category: &str) {
    check.text("category", category, CODE);
}

/// Residents come by web and app; by the other channels, a handler writes down
/// what somebody said. Gives whether it is the caller's own report.
pub fn channel(check: &mut Check, caller: &Caller, channel: i32) -> bool {
    let Some(channel) = check.choice("channel", channel) else { return false };
    let own = domain::request::is_own(channel);
    let (role, otherwise) = if own {
        (Role::Resident, "must not be CHANNEL_WEB or CHANNEL_APP for a handler")
    } else {
        (Role::Handler, "must be CHANNEL_WEB or CHANNEL_APP for a resident")
    };
    check.require(caller.has(role), "channel", otherwise);
    own
}

/// A real point, where there is one.
pub fn location(check: &mut Check, location: Option<&Location>) {
    if let Some((field, allowed)) = location.and_then(domain::location::fault) {
        check.fail(field, allowed);
    }
}

/// The code of the neighbourhood that the point lies in; empty for none.
pub fn neighbourhood(area: &Area, location: Option<&Location>) -> String {
    location
        .and_then(|at| area.locate(at.latitude, at.longitude))
        .map(|found| found.code.clone())
        .unwrap_or_default()
}

/// A filter whose every value is one that a request can have.
pub fn filter(check: &mut Check, filter: &RequestFilter) {
    let field = "filter.statuses";
    check.require(filter.statuses.len() <= MAX_STATUSES, field, "must be at most 16 values");
    for status in filter.statuses.iter().take(MAX_STATUSES) {
        check.choice::<Status>(field, *status);
    }
    for (field, values) in [
        ("filter.categories", &filter.categories),
        ("filter.neighbourhoods", &filter.neighbourhoods),
    ] {
        check.require(values.len() <= MAX_FILTER_VALUES, field, "must be at most 1000 values");
        for value in values.iter().take(MAX_FILTER_VALUES) {
            check.text(field, value, CODE);
        }
    }
    for (field, instant) in [
        ("filter.created_from", &filter.created_from),
        ("filter.created_before", &filter.created_before),
    ] {
        let valid = instant.as_ref().is_none_or(|i| from_proto(i).is_some());
        check.require(valid, field, "must be a valid instant");
    }
}
