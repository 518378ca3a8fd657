//! The same arithmetic, slow and obvious.

use samen_server::calendar::zone;

use super::super::*;
use super::MINUTE;

/// A clock that lives through every minute.
pub struct Slow<'a> {
    unit: Unit,
    calendar: &'a Calendar,
    now: Timestamp,
    /// How far the wall clock has come.
    wall: DateTime,
    pub ran: SignedDuration,
}

impl<'a> Slow<'a> {
    pub fn new(unit: Unit, calendar: &'a Calendar, start: Timestamp) -> Self {
        // From before the clock was put back, if it just was.
        let now = start - SignedDuration::from_hours(3);
        let wall = zone().to_datetime(now);
        let mut slow = Slow { unit, calendar, now, wall, ran: SignedDuration::ZERO };
        slow.live_until(start);
        slow.ran = SignedDuration::ZERO;
        slow
    }

    pub fn live_until(&mut self, end: Timestamp) {
        while self.now < end {
            self.live_a_minute();
        }
    }

    fn live_a_minute(&mut self) {
        self.come_to(zone().to_datetime(self.now) + MINUTE);
        self.now += MINUTE;
        if self.unit == Unit::CalendarHours {
            self.ran += MINUTE;
        }
        // Put forward, perhaps.
        self.come_to(zone().to_datetime(self.now));
    }

    fn come_to(&mut self, wall: DateTime) {
        while self.wall < wall {
            let hours = self.calendar.office_hours();
            let working = self.calendar.is_working_day(self.wall.date());
            let open = hours.opens <= self.wall.time() && self.wall.time() < hours.closes;
            let counts = match self.unit {
                Unit::CalendarDays => true,
                Unit::WorkingDays => working,
                Unit::WorkingHours => working && open,
                Unit::CalendarHours => false,
            };
            if counts {
                self.ran += MINUTE;
            }
            self.wall += MINUTE;
        }
    }

    /// The first minute at which it has run so long.
    pub fn after(&mut self, length: SignedDuration) -> Timestamp {
        while self.ran < length {
            self.live_a_minute();
        }
        // The second time that the wall clock shows this hour is too late.
        while self.unit != Unit::CalendarHours && zone().to_datetime(self.now) < self.wall {
            self.live_a_minute();
        }
        self.now
    }
}

/// Ticks off days on a calendar.
pub fn ticked_off(amount: u32, unit: Unit, start: Timestamp, calendar: &Calendar) -> Timestamp {
    let counts = |day: Date| unit == Unit::CalendarDays || calendar.is_working_day(day);
    let start = wall::shown(start);
    let (mut day, mut left) = (start.date(), amount);
    // Only what starts within a day that counts needs a part of another.
    if !counts(day) || start.time() == Time::midnight() {
        loop {
            left -= u32::from(counts(day));
            if left == 0 {
                return calendar.end_of_day(day);
            }
            day = day.tomorrow().expect("a next day");
        }
    }
    while left > 0 {
        day = day.tomorrow().expect("a next day");
        left -= u32::from(counts(day));
    }
    wall::first_shown(day.to_datetime(start.time()))
}
