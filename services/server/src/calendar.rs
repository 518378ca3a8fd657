//! The calendar of a municipality: which days its people work, when a day
//! ends, and what the clock on the wall shows. Pure: it asks no clock.
//!
//! - [`holidays`](mod@holidays): public holidays, computed;
//! - [`wall`]: the wall clock, over changes to and from summer time;
//! - [`Calendar`]: both, with what a deployment says of itself.

use std::collections::BTreeSet;
use std::sync::Arc;

use jiff::Timestamp;
use jiff::civil::{Date, Time, Weekday, time};
use serde::Deserialize;

pub mod holidays;
#[cfg(test)]
mod tests;
pub mod wall;

pub use holidays::{Holidays, LiberationDay};
pub use wall::zone;

/// Open from nine to five, for lack of other hours.
const OFFICE_HOURS: OfficeHours =
    OfficeHours { opens: time(9, 0, 0, 0), closes: time(17, 0, 0, 0) };

/// The working days and hours of a deployment, for all of its services. Cheap
/// to clone.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Calendar(Arc<Days>);

#[derive(Debug, PartialEq, Eq)]
struct Days {
    holidays: Holidays,
    closed: BTreeSet<Date>,
    office_hours: OfficeHours,
}

/// When an office opens and closes on a working day, by the wall clock. It
/// closes after it opens.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct OfficeHours {
    pub opens: Time,
    pub closes: Time,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct File {
    /// For people: whose calendar this is.
    #[serde(default)]
    #[allow(dead_code)]
    about: String,
    #[serde(default)]
    good_friday: bool,
    liberation_day: Option<String>,
    #[serde(default)]
    closed: Vec<String>,
    office_hours: Option<Vec<String>>,
}

/// Why a calendar cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum CalendarError {
    #[error("not a calendar: {0}")]
    Malformed(#[from] serde_json::Error),
    #[error("liberation_day is {0:?}, and must be lustrum, always or never")]
    LiberationDay(String),
    #[error("closed[{index}] is {text:?}, which is not a date, such as 2026-12-24")]
    NotADate { index: usize, text: String },
    #[error(
        "office_hours is {0:?}, and must be when the office opens and, later that day, closes, \
         such as [\"09:00\", \"17:00\"]"
    )]
    OfficeHours(Vec<String>),
}

// === impl Calendar ===

impl Calendar {
    /// The Dutch calendar for lack of another: Good Friday is a working day,
    /// Liberation Day is not, and the office is open from nine to five.
    pub fn dutch() -> Self {
        Self::of(Holidays::default(), BTreeSet::new(), OFFICE_HOURS)
    }

    /// Reads a calendar from JSON. What it leaves out is as in
    /// [`Calendar::dutch`]:
    ///
    /// - `good_friday`: `true` when nobody works then;
    /// - `liberation_day`: in which years nobody works on 5 May: `lustrum`,
    ///   `always` or `never`;
    /// - `closed`: other dates on which nobody works;
    /// - `office_hours`: when the office opens and closes on a working day.
    pub fn parse(text: &str) -> Result<Self, CalendarError> {
        let file: File = serde_json::from_str(text)?;
        let liberation_day = match file.liberation_day {
            Some(word) => LiberationDay::parse(&word).ok_or(CalendarError::LiberationDay(word))?,
            None => LiberationDay::default(),
        };
        let closed =
            file.closed.into_iter().enumerate().map(|(index, text)| {
                text.parse().map_err(|_| CalendarError::NotADate { index, text })
            });
        let office_hours = match file.office_hours {
            Some(times) => OfficeHours::parse(&times).ok_or(CalendarError::OfficeHours(times))?,
            None => OFFICE_HOURS,
        };
        let holidays = Holidays { good_friday: file.good_friday, liberation_day };
        Ok(Self::of(holidays, closed.collect::<Result<_, _>>()?, office_hours))
    }

    fn of(holidays: Holidays, closed: BTreeSet<Date>, office_hours: OfficeHours) -> Self {
        Calendar(Arc::new(Days { holidays, closed, office_hours }))
    }

    /// Whether people work then: from Monday to Friday, but not on a public
    /// holiday or another closed day.
    pub fn is_working_day(&self, date: Date) -> bool {
        let Days { holidays, closed, .. } = &*self.0;
        !matches!(date.weekday(), Weekday::Saturday | Weekday::Sunday)
            && !holidays.contain(date)
            && !closed.contains(&date)
    }

    /// When the office opens and closes on a working day.
    pub fn office_hours(&self) -> OfficeHours {
        self.0.office_hours
    }

    /// The end of a day: the first instant that is no longer that day, so that
    /// "before the end" is the whole day and no instant lies between two days.
    pub fn end_of_day(&self, date: Date) -> Timestamp {
        // There is no day after the last one of all calendars.
        let next = date.tomorrow().map(|next| next.to_datetime(Time::midnight()));
        next.map_or(Timestamp::MAX, wall::first_shown)
    }
}

impl Default for Calendar {
    fn default() -> Self {
        Self::dutch()
    }
}

// === impl OfficeHours ===

impl OfficeHours {
    fn parse(times: &[String]) -> Option<Self> {
        let [opens, closes] = times else { return None };
        let (opens, closes) = (opens.parse().ok()?, closes.parse().ok()?);
        (opens < closes).then_some(OfficeHours { opens, closes })
    }
}
