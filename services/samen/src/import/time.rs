//! Moments and days as files write them.
//!
//! A reading must not depend on when the file is read: a second run has to
//! make the same command of the same row.

use jiff::civil::{Date, DateTime};
use jiff::tz::TimeZone;
use jiff::{Timestamp, ToSpan};

/// How Dutch systems and spreadsheets write a moment, beside ISO 8601. Nothing
/// with slashes: whether 3/4 is in March or in April depends on who wrote it.
const DUTCH_MOMENTS: [&str; 2] = ["%d-%m-%Y %H:%M:%S", "%d-%m-%Y %H:%M"];
const DUTCH_DAY: &str = "%d-%m-%Y";

/// What a cell says about a time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum When {
    /// An instant: written with its offset from UTC.
    Instant(Timestamp),
    /// What a clock on the wall showed.
    Clock(DateTime),
    /// A day, at some time of it.
    Day(Date),
}

/// Reads a cell. `None` for anything but a time.
pub fn read(text: &str) -> Option<When> {
    if let Ok(instant) = text.parse() {
        return Some(When::Instant(instant));
    }
    let moment = DUTCH_MOMENTS.iter().find_map(|format| DateTime::strptime(format, text).ok());
    if let Some(moment) = moment {
        return Some(When::Clock(moment));
    }
    if let Ok(day) = Date::strptime(DUTCH_DAY, text) {
        return Some(When::Day(day));
    }
    // Each of the two parses what the other is meant for, and would drop or
    // invent the time of day.
    if text.contains(':') {
        text.parse().ok().map(When::Clock)
    } else {
        text.parse().ok().map(When::Day)
    }
}

impl When {
    /// When something began. A day: at its start, the only reading of which
    /// nothing that followed can be earlier.
    ///
    /// A clock that was put back shows an hour twice, and the first is taken;
    /// one that was put forward skips an hour, and a time in it is read as if
    /// it had not been (02:30 is then 03:30).
    pub fn began(self, zone: &TimeZone) -> Result<Timestamp, jiff::Error> {
        match self {
            When::Instant(instant) => Ok(instant),
            When::Clock(moment) => zone.to_ambiguous_timestamp(moment).compatible(),
            When::Day(day) => start(day, zone),
        }
    }

    /// When something ended that began at `began`. A day: at its end, since
    /// "closed on that day" promises no more than that; what was closed on the
    /// day that it began stays in order, and norms, which count days, come out
    /// the same as for any other time of it.
    ///
    /// Of an hour that the clock showed twice the second is taken where the
    /// first was before the beginning.
    pub fn ended(self, began: Timestamp, zone: &TimeZone) -> Result<Timestamp, jiff::Error> {
        match self {
            When::Instant(instant) => Ok(instant),
            When::Clock(moment) => {
                let ambiguous = zone.to_ambiguous_timestamp(moment);
                let first = ambiguous.compatible()?;
                if first < began { ambiguous.later() } else { Ok(first) }
            }
            When::Day(day) => start(day.tomorrow()?, zone)?.checked_sub(1.microsecond()),
        }
    }
}

fn start(day: Date, zone: &TimeZone) -> Result<Timestamp, jiff::Error> {
    zone.to_ambiguous_timestamp(day.at(0, 0, 0, 0)).compatible()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn amsterdam() -> TimeZone {
        TimeZone::get("Europe/Amsterdam").unwrap()
    }

    fn began(text: &str) -> String {
        read(text).unwrap().began(&amsterdam()).unwrap().to_string()
    }

    fn ended(text: &str, began: &str) -> String {
        read(text).unwrap().ended(began.parse().unwrap(), &amsterdam()).unwrap().to_string()
    }

    #[test]
    fn an_offset_says_all() {
        assert_eq!(began("2025-04-30T11:56:09.809179+00:00"), "2025-04-30T11:56:09.809179Z");
        assert_eq!(began("2025-04-30T11:56:09+02:00"), "2025-04-30T09:56:09Z");
        assert_eq!(began("2025-04-30 11:56:09+00"), "2025-04-30T11:56:09Z");
        assert_eq!(began("2025-04-30T11:56:09Z"), "2025-04-30T11:56:09Z");
    }

    #[test]
    fn without_an_offset_the_zone_says_it() {
        assert_eq!(began("2008-07-01T17:09:23"), "2008-07-01T15:09:23Z");
        assert_eq!(began("2008-01-01 17:09:23"), "2008-01-01T16:09:23Z");
        assert_eq!(began("2008-01-01 17:09"), "2008-01-01T16:09:00Z");
        assert_eq!(began("1-7-2008 17:09:23"), "2008-07-01T15:09:23Z");
        assert_eq!(began("01-07-2008 17:09"), "2008-07-01T15:09:00Z");
    }

    #[test]
    fn hours_that_were_skipped_or_came_twice() {
        // 30 March 2025, 02:00 became 03:00; 26 October, 03:00 became 02:00.
        assert_eq!(began("2025-03-30T02:30:00"), "2025-03-30T01:30:00Z");
        assert_eq!(began("2025-03-30T03:30:00"), "2025-03-30T01:30:00Z");
        assert_eq!(began("2025-10-26T02:30:00"), "2025-10-26T00:30:00Z");
        // Closed at 02:10 what began at 02:30: the clock was put back between.
        assert_eq!(ended("2025-10-26T02:10:00", "2025-10-26T00:30:00Z"), "2025-10-26T01:10:00Z");
        assert_eq!(ended("2025-10-26T02:40:00", "2025-10-26T00:30:00Z"), "2025-10-26T00:40:00Z");
    }

    #[test]
    fn a_day_begins_at_its_start_and_ends_at_its_end() {
        assert_eq!(began("2026-05-20"), "2026-05-19T22:00:00Z");
        assert_eq!(began("20-5-2026"), "2026-05-19T22:00:00Z");
        let noon = "2026-05-20T10:00:00Z";
        assert_eq!(ended("2026-05-20", noon), "2026-05-20T21:59:59.999999Z");
        // The day on which the clock is put back has 25 hours.
        assert_eq!(ended("2025-10-26", "2025-10-25T22:00:00Z"), "2025-10-26T22:59:59.999999Z");
    }

    #[test]
    fn what_is_no_time() {
        for text in ["", "yesterday", "2025-13-01", "2025-02-30T10:00:00", "07/01/2008", "12:30"] {
            assert_eq!(read(text), None, "{text}");
        }
    }
}
