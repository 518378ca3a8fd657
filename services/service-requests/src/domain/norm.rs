//! The service norm (afhandeltermijn): within how much time a request is to be
//! handled, and when that time is over. Pure: the calendar and every instant
//! are given.
//!
//! Each unit is a clock that runs at some times and stands still at others:
//!
//! | unit | runs |
//! | --- | --- |
//! | working days | all day on working days, by the wall clock |
//! | calendar days | always, by the wall clock |
//! | working hours | in office hours on working days, by the wall clock |
//! | calendar hours | always, in real time |
//!
//! A request is due at the first instant at which its clock has run as long as
//! the norm says. From that follows:
//!
//! - A working day later is the same time of day on the next working day. What
//!   starts on a day off counts from the start of the next working day: one
//!   working day from Saturday is over at the end of Monday.
//! - What is over when a clock stops is over then, not when the clock goes on:
//!   at the end of Friday rather than the start of Monday; at closing time
//!   rather than at opening time. The end of a day is the first instant that is
//!   no longer that day.
//! - The wall clock is [that of the calendar](samen_server::calendar::wall): a
//!   time that it skips is over when it is put forward; of a time that it shows
//!   twice the first counts, and a start in the second counts from when both
//!   are over.
//! - A later start is never due earlier.
//! - While a clock is paused, nothing is due. When it goes on, what was still
//!   to come moves by as much as this same clock ran during the pause.

use std::iter::successors;
use std::ops::RangeInclusive;

use jiff::civil::{Date, DateTime, Time};
use jiff::{SignedDuration, Timestamp};
use samen_proto::requests::NormUnit;
use samen_server::calendar::{Calendar, OfficeHours, wall};

#[cfg(test)]
mod tests;

/// How many days or hours a norm can be.
pub const AMOUNTS: RangeInclusive<u32> = 1..=10_000;
const MIDNIGHT: Time = Time::midnight();

/// Within how much time something is to be handled.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Norm {
    amount: u32,
    unit: Unit,
}

/// In what a norm is counted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Unit {
    /// Werkdagen.
    WorkingDays,
    /// Kalenderdagen.
    CalendarDays,
    /// Hours in which the office is open.
    WorkingHours,
    /// Hours by day and by night.
    CalendarHours,
}

/// A norm of nothing, or of more than a life's work.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("amount is {0}, and must be {first} to {last}", first = AMOUNTS.start(), last = AMOUNTS.end())]
pub struct AmountError(pub u32);

/// A unit's clock, as it runs in a deployment.
#[derive(Clone, Copy)]
struct Clock<'a> {
    unit: Unit,
    calendar: &'a Calendar,
}

// === impl Norm ===

impl Norm {
    /// What the contract says. `None` where it says nothing that can be.
    pub fn of(norm: &samen_proto::requests::Norm) -> Option<Self> {
        let unit = match norm.unit() {
            NormUnit::WorkingDays => Unit::WorkingDays,
            NormUnit::CalendarDays => Unit::CalendarDays,
            NormUnit::WorkingHours => Unit::WorkingHours,
            NormUnit::CalendarHours => Unit::CalendarHours,
            NormUnit::Unspecified => return None,
        };
        Norm::new(norm.amount, unit).ok()
    }

    /// A norm of so many days or hours, which must be one of [`AMOUNTS`].
    pub fn new(amount: u32, unit: Unit) -> Result<Self, AmountError> {
        if AMOUNTS.contains(&amount) { Ok(Norm { amount, unit }) } else { Err(AmountError(amount)) }
    }

    /// How many of its unit.
    pub fn amount(&self) -> u32 {
        self.amount
    }

    /// In what it is counted.
    pub fn unit(&self) -> Unit {
        self.unit
    }

    /// When a request of which the norm starts then must have been handled.
    pub fn due(&self, start: Timestamp, calendar: &Calendar) -> Timestamp {
        self.approaching(start, 100, calendar)
    }

    /// When so many percent of the norm has passed, 100 being all of it. A
    /// pause moves this moment as it moves the due moment.
    pub fn approaching(&self, start: Timestamp, percent: u8, calendar: &Calendar) -> Timestamp {
        let part = self.length() * i32::from(percent.min(100)) / 100;
        self.clock(calendar).after(start, part)
    }

    /// Where a pause moves a moment of this norm: the due moment or the one at
    /// which it approaches. One that has come before the pause stays where it
    /// is: what was overdue stays overdue. Of more pauses each moves the moment
    /// that the one before it left.
    pub fn moved(
        &self,
        moment: Timestamp,
        paused: Timestamp,
        resumed: Timestamp,
        calendar: &Calendar,
    ) -> Timestamp {
        if moment <= paused {
            return moment;
        }
        let clock = self.clock(calendar);
        clock.after(moment, clock.ran(paused, resumed))
    }

    /// As much time as its clock has to run.
    fn length(&self) -> SignedDuration {
        let hours = match self.unit {
            Unit::WorkingDays | Unit::CalendarDays => 24,
            Unit::WorkingHours | Unit::CalendarHours => 1,
        };
        SignedDuration::from_hours(i64::from(self.amount) * hours)
    }

    fn clock<'a>(&self, calendar: &'a Calendar) -> Clock<'a> {
        Clock { unit: self.unit, calendar }
    }
}

// === impl Clock ===

impl Clock<'_> {
    /// From when to when it runs on a day, by the wall clock.
    fn runs(self, day: Date) -> Option<(DateTime, DateTime)> {
        let whole =
            || Some((day.to_datetime(MIDNIGHT), day.tomorrow().ok()?.to_datetime(MIDNIGHT)));
        match self.unit {
            Unit::CalendarDays | Unit::CalendarHours => whole(),
            _ if !self.calendar.is_working_day(day) => None,
            Unit::WorkingDays => whole(),
            Unit::WorkingHours => {
                let OfficeHours { opens, closes } = self.calendar.office_hours();
                Some((day.to_datetime(opens), day.to_datetime(closes)))
            }
        }
    }

    /// How long it runs from one instant to another; not at all when that is
    /// earlier.
    fn ran(self, from: Timestamp, to: Timestamp) -> SignedDuration {
        if self.unit == Unit::CalendarHours {
            return to.duration_since(from).max(SignedDuration::ZERO);
        }
        let (from, to) = (wall::shown(from), wall::shown(to));
        days(from.date())
            .take_while(|day| *day <= to.date())
            .filter_map(|day| self.runs(day))
            .map(|(starts, stops)| stops.min(to).duration_since(starts.max(from)))
            .filter(SignedDuration::is_positive)
            .sum()
    }

    /// The first instant at which it has run so long.
    fn after(self, from: Timestamp, length: SignedDuration) -> Timestamp {
        if length.is_zero() {
            return from;
        }
        if self.unit == Unit::CalendarHours {
            return from.checked_add(length).unwrap_or(Timestamp::MAX);
        }
        let from = wall::shown(from);
        let mut left = length;
        for (starts, stops) in days(from.date()).filter_map(|day| self.runs(day)) {
            let starts = starts.max(from);
            let runs = stops.duration_since(starts);
            if left <= runs {
                return wall::first_shown(starts + left);
            }
            left -= runs.max(SignedDuration::ZERO);
        }
        // After the end of all calendars.
        Timestamp::MAX
    }
}

/// A day, and all that follow it.
fn days(first: Date) -> impl Iterator<Item = Date> {
    successors(Some(first), |day| day.tomorrow().ok())
}
