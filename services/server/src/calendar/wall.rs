//! What the clock on the wall shows to people there, as a clock that never
//! goes back: the hour that is lived twice when summer time ends counts once.

use std::sync::LazyLock;

use jiff::civil::DateTime;
use jiff::tz::{AmbiguousOffset, TimeZone};
use jiff::{SignedDuration, Timestamp};

/// Days, months and years are counted as people there count them.
const ZONE: &str = "Europe/Amsterdam";

/// The time zone of everything that a person reads or that a rule counts.
pub fn zone() -> &'static TimeZone {
    // Compiled in, so that it is there.
    static LOADED: LazyLock<TimeZone> =
        LazyLock::new(|| TimeZone::get(ZONE).unwrap_or(TimeZone::UTC));
    &LOADED
}

/// How far the wall clock has come until this instant. That is what it shows,
/// except in the hour after it was put back: then this stands still at the end
/// of that hour, until the wall clock has caught up.
pub fn shown(instant: Timestamp) -> DateTime {
    let zone = zone();
    let shows = zone.to_datetime(instant);
    match zone.to_ambiguous_timestamp(shows).offset() {
        AmbiguousOffset::Fold { before, after } if zone.to_offset(instant) == after => {
            let beyond = instant.checked_add(SignedDuration::from_nanos(1)).unwrap_or(instant);
            let put_back = zone.preceding(beyond).next();
            put_back.map_or(shows, |change| before.to_datetime(change.timestamp()))
        }
        _ => shows,
    }
}

/// The first instant at which the wall clock shows this time. For a time that
/// it skips, that is the instant at which it is put forward.
/// [`Timestamp::MAX`] for what lies after the end of all calendars.
pub fn first_shown(time: DateTime) -> Timestamp {
    let ambiguous = zone().to_ambiguous_timestamp(time);
    let Ok(first) = ambiguous.earlier() else { return Timestamp::MAX };
    match ambiguous.offset() {
        // Read with the offset after the gap it lies before the gap.
        AmbiguousOffset::Gap { .. } => {
            let put_forward = zone().following(first).next();
            put_forward.map_or(first, |change| change.timestamp())
        }
        _ => first,
    }
}
