//! The arithmetic by examples, and against two that are slow and obvious: one
//! that lives through every minute, and one that ticks off days on a calendar.

use std::ops::Range;

use jiff::civil::date;
use proptest::prelude::*;
use samen_server::calendar::zone;

use super::*;

mod slow;

use slow::{Slow, ticked_off};

const MINUTE: SignedDuration = SignedDuration::from_mins(1);
const UNITS: [Unit; 4] =
    [Unit::WorkingDays, Unit::CalendarDays, Unit::WorkingHours, Unit::CalendarHours];

/// An instant in UTC, or as the clock there shows it.
fn at(text: &str) -> Timestamp {
    match text.parse() {
        Ok(instant) => instant,
        Err(_) => zone().to_timestamp(text.parse::<DateTime>().expect("a time")).expect("there"),
    }
}

fn norm(amount: u32, unit: Unit) -> Norm {
    Norm::new(amount, unit).expect("an amount")
}

/// When this norm is over that starts then, with the Dutch calendar.
fn due(amount: u32, unit: Unit, start: &str) -> Timestamp {
    norm(amount, unit).due(at(start), &Calendar::dutch())
}

fn micros(range: Range<&str>) -> Range<i64> {
    at(range.start).as_microsecond()..at(range.end).as_microsecond()
}

/// An instant from 2015 to 2045: anywhere, near a change of the wall clock, or
/// near the end of a day.
fn instants() -> impl Strategy<Value = Timestamp> {
    let any = micros("2015-01-01T00:00:00Z".."2046-01-01T00:00:00Z")
        .prop_map(|micros| Timestamp::from_microsecond(micros).expect("in range"));
    let off = (-10_000_000_000..10_000_000_000_i64).prop_map(SignedDuration::from_micros);
    let change = (any.clone(), off).prop_map(|(any, off)| {
        zone().following(any).next().expect("always another change").timestamp() + off
    });
    let off = (-2..=2_i64).prop_map(SignedDuration::from_micros);
    let midnight = (any.clone(), off)
        .prop_map(|(any, off)| Calendar::dutch().end_of_day(zone().to_datetime(any).date()) + off);
    prop_oneof![3 => any, 2 => change, 1 => midnight]
}

/// The same in whole minutes.
fn minutes() -> impl Strategy<Value = Timestamp> {
    instants().prop_map(|instant| {
        Timestamp::from_second(instant.as_second() / 60 * 60).expect("in range")
    })
}

/// A pause that begins within a fortnight, of at most a month.
fn pauses() -> impl Strategy<Value = (SignedDuration, SignedDuration)> {
    let span = |days: i64| {
        let short = (0..3_600_000_000_i64).prop_map(SignedDuration::from_micros);
        let long = (0..days * 86_400_000_000).prop_map(SignedDuration::from_micros);
        prop_oneof![1 => short, 3 => long]
    };
    (span(14), span(31))
}

fn norms() -> impl Strategy<Value = Norm> {
    (1..60_u32, prop::sample::select(&UNITS)).prop_map(|(amount, unit)| norm(amount, unit))
}

fn calendars() -> impl Strategy<Value = Calendar> {
    let nightly = r#"{"good_friday": true, "liberation_day": "always",
                      "closed": ["2026-03-30", "2031-12-24"], "office_hours": ["00:00", "12:30"]}"#;
    let calendars = vec![Calendar::dutch(), Calendar::parse(nightly).expect("a calendar")];
    prop::sample::select(calendars)
}

#[test]
fn six_working_days_over_easter_and_the_beginning_of_summer_time() {
    let expected = at("2026-04-07T16:00");
    assert_eq!(due(6, Unit::WorkingDays, "2026-03-27T16:00"), expected);
    assert_eq!(expected, at("2026-04-07T14:00:00Z"));
    let closed = Calendar::parse(r#"{"good_friday": true}"#).expect("a calendar");
    let start = at("2026-03-27T16:00");
    assert_eq!(norm(6, Unit::WorkingDays).due(start, &closed), at("2026-04-08T16:00"));
}

#[test]
fn what_starts_on_a_day_off_counts_from_the_next_working_day() {
    let end_of_monday = Calendar::dutch().end_of_day(date(2026, 3, 16));
    for start in ["2026-03-14T00:00", "2026-03-14T11:00", "2026-03-15T23:59", "2026-03-16T00:00"] {
        assert_eq!(due(1, Unit::WorkingDays, start), end_of_monday, "{start}");
        assert_eq!(due(8, Unit::WorkingHours, start), at("2026-03-16T17:00"), "{start}");
    }
    assert_eq!(due(1, Unit::WorkingDays, "2026-03-13T11:00"), at("2026-03-16T11:00"));
    // Over when Friday is, not when Monday begins.
    assert_eq!(due(1, Unit::WorkingDays, "2026-03-13T00:00"), at("2026-03-14T00:00"));
    assert_eq!(due(1, Unit::CalendarDays, "2026-03-14T11:00"), at("2026-03-15T11:00"));
}

#[test]
fn working_hours_pass_in_office_hours() {
    for (amount, start, expected) in [
        (1, "2026-03-16T09:00", "2026-03-16T10:00"),
        (1, "2026-03-16T06:00", "2026-03-16T10:00"),
        (1, "2026-03-16T16:30", "2026-03-17T09:30"),
        (1, "2026-03-16T17:00", "2026-03-17T10:00"),
        (1, "2026-03-13T16:45:30", "2026-03-16T09:45:30"),
        // At closing time, not when the office opens again.
        (8, "2026-03-13T09:00", "2026-03-13T17:00"),
        (16, "2026-04-03T13:00", "2026-04-08T13:00"),
    ] {
        assert_eq!(due(amount, Unit::WorkingHours, start), at(expected), "{amount} from {start}");
    }
}

#[test]
fn days_keep_the_time_of_day_and_hours_do_not_when_summer_time_begins() {
    assert_eq!(due(1, Unit::CalendarDays, "2026-03-28T12:00"), at("2026-03-29T12:00"));
    assert_eq!(due(24, Unit::CalendarHours, "2026-03-28T12:00"), at("2026-03-29T13:00"));
    // 02:30 is skipped: over when the clock is put forward to 03:00.
    assert_eq!(due(1, Unit::CalendarDays, "2026-03-28T02:30"), at("2026-03-29T01:00:00Z"));
    assert_eq!(due(2, Unit::CalendarDays, "2026-03-28T02:30"), at("2026-03-30T02:30"));
}

#[test]
fn days_keep_the_time_of_day_and_hours_do_not_when_summer_time_ends() {
    assert_eq!(due(1, Unit::CalendarDays, "2026-10-24T12:00"), at("2026-10-25T12:00"));
    assert_eq!(due(24, Unit::CalendarHours, "2026-10-24T12:00"), at("2026-10-25T11:00"));
    // 02:30 is there twice: over the first time.
    assert_eq!(due(1, Unit::CalendarDays, "2026-10-24T02:30"), at("2026-10-25T00:30:00Z"));
    assert_eq!(due(1, Unit::CalendarDays, "2026-10-25T00:30:00Z"), at("2026-10-26T02:30"));
    // What starts in the second counts from when both are over.
    assert_eq!(due(1, Unit::CalendarDays, "2026-10-25T01:30:00Z"), at("2026-10-26T03:00"));
}

#[test]
fn holidays_around_the_end_of_the_year_and_kings_day_on_sunday() {
    // Christmas and a weekend, three days, New Year's Day, one, a weekend.
    assert_eq!(due(4, Unit::WorkingDays, "2025-12-24T10:00"), at("2026-01-02T10:00"));
    assert_eq!(due(5, Unit::WorkingDays, "2025-12-24T10:00"), at("2026-01-05T10:00"));
    assert_eq!(due(366, Unit::CalendarDays, "2027-12-31T23:30"), at("2028-12-31T23:30"));
    // 27 April 2025 is a Sunday: celebrated the day before, and Monday is worked.
    assert_eq!(due(1, Unit::WorkingDays, "2025-04-25T10:00"), at("2025-04-28T10:00"));
    assert_eq!(due(1, Unit::WorkingDays, "2026-04-24T10:00"), at("2026-04-28T10:00"));
}

#[test]
fn a_pause_moves_what_is_still_to_come_by_what_the_clock_ran() {
    let calendar = Calendar::dutch();
    let moved = |unit, moment, paused, resumed| {
        norm(1, unit).moved(at(moment), at(paused), at(resumed), &calendar)
    };
    let (due, paused) = ("2026-03-12T16:00", "2026-03-11T10:00");
    // Two days and two hours, of which two nights; a weekend in between.
    for (unit, resumed, expected) in [
        (Unit::WorkingDays, "2026-03-13T12:00", "2026-03-16T18:00"),
        (Unit::CalendarDays, "2026-03-13T12:00", "2026-03-14T18:00"),
        (Unit::WorkingHours, "2026-03-13T12:00", "2026-03-17T10:00"),
        (Unit::CalendarHours, "2026-03-13T12:00", "2026-03-14T18:00"),
        (Unit::WorkingDays, "2026-03-16T10:00", "2026-03-17T16:00"),
        (Unit::WorkingHours, "2026-03-11T09:00", "2026-03-12T16:00"),
    ] {
        assert_eq!(moved(unit, due, paused, resumed), at(expected), "{unit:?} {resumed}");
    }
    // Overdue before the pause, and at its beginning.
    for paused in ["2026-03-12T16:00", "2026-03-12T16:01"] {
        assert_eq!(moved(Unit::WorkingDays, due, paused, "2026-03-20T10:00"), at(due));
    }
}

#[test]
fn a_norm_approaches_when_a_part_of_it_has_passed() {
    let calendar = Calendar::dutch();
    let start = at("2026-03-27T16:00");
    let norm = norm(5, Unit::WorkingDays);
    let approaching = |percent| norm.approaching(start, percent, &calendar);
    assert_eq!(approaching(0), start);
    assert_eq!(approaching(80), at("2026-04-02T16:00"));
    assert_eq!(approaching(90), at("2026-04-03T04:00"));
    assert_eq!(approaching(100), norm.due(start, &calendar));
    assert_eq!(approaching(255), norm.due(start, &calendar));
}

#[test]
fn a_norm_of_nothing_or_of_more_than_a_life_is_none() {
    assert_eq!(Norm::new(0, Unit::WorkingDays), Err(AmountError(0)));
    assert_eq!(Norm::new(10_001, Unit::WorkingHours), Err(AmountError(10_001)));
    assert_eq!(AmountError(0).to_string(), "amount is 0, and must be 1 to 10000");
    for unit in UNITS {
        let norm = norm(10_000, unit);
        assert_eq!((norm.amount(), norm.unit()), (10_000, unit));
        assert!(norm.due(at("2026-03-27T16:00"), &Calendar::dutch()) < at("2070-01-01T00:00"));
        // The end of all calendars.
        assert_eq!(norm.due(at("9999-12-01T00:00:00Z"), &Calendar::dutch()), Timestamp::MAX);
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn due_is_when_living_through_every_minute_gets_there(
        start in minutes(),
        calendar in calendars(),
        amount in 1..12_u32,
        unit in prop::sample::select(&UNITS),
    ) {
        let norm = norm(amount, unit);
        let lived = Slow::new(unit, &calendar, start).after(norm.length());
        prop_assert_eq!(norm.due(start, &calendar), lived);
    }

    #[test]
    fn a_pause_moves_by_what_was_lived_through_in_it(
        start in minutes(),
        calendar in calendars(),
        amount in 1..8_u32,
        unit in prop::sample::select(&UNITS),
        until_pause in 0..10_000_i64,
        pause in 0..20_000_i64,
    ) {
        let norm = norm(amount, unit);
        let due = norm.due(start, &calendar);
        let paused = start + SignedDuration::from_mins(until_pause);
        let resumed = paused + SignedDuration::from_mins(pause);
        let mut slow = Slow::new(unit, &calendar, paused);
        slow.live_until(resumed);
        let in_pause = slow.ran;
        let moved = if due <= paused || in_pause.is_zero() {
            due
        } else {
            Slow::new(unit, &calendar, due).after(in_pause)
        };
        prop_assert_eq!(norm.moved(due, paused, resumed, &calendar), moved);
    }
}

proptest! {
    #[test]
    fn days_are_due_when_ticking_them_off_gets_there(
        start in instants(),
        calendar in calendars(),
        amount in 1..400_u32,
        unit in prop::sample::select(&[Unit::WorkingDays, Unit::CalendarDays][..]),
    ) {
        let expected = ticked_off(amount, unit, start, &calendar);
        prop_assert_eq!(norm(amount, unit).due(start, &calendar), expected);
    }

    #[test]
    fn a_later_start_is_never_due_earlier(
        start in instants(),
        (later, _) in pauses(),
        norm in norms(),
        calendar in calendars(),
        percent in 0..=100_u8,
    ) {
        let (due, due_later) = (norm.due(start, &calendar), norm.due(start + later, &calendar));
        prop_assert!(start < due && due <= due_later);
        let approaching = norm.approaching(start, percent, &calendar);
        prop_assert!(start <= approaching && approaching <= due);
        prop_assert!(approaching <= norm.approaching(start + later, percent, &calendar));
    }

    /// The clock has run as long as the norm says when it is due, and not a
    /// microsecond earlier.
    #[test]
    fn due_is_the_first_instant_at_which_the_clock_ran_so_long(
        start in instants(),
        norm in norms(),
        calendar in calendars(),
    ) {
        let due = norm.due(start, &calendar);
        let ran = |until| norm.clock(&calendar).ran(start, until);
        let before = due - SignedDuration::from_micros(1);
        prop_assert!(ran(due) >= norm.length());
        // Where the wall clock skips an hour, it is over within that hour.
        let skipped = wall::shown(due).duration_since(wall::shown(before)) > MINUTE;
        prop_assert!(ran(due) == norm.length() || skipped);
        // What is over when the clock is put back is shown an hour later.
        let twice = wall::shown(due) == wall::shown(before);
        prop_assert!(ran(before) < norm.length() || twice);
    }

    #[test]
    fn a_pause_of_no_time_moves_nothing_and_two_that_touch_move_as_one(
        start in instants(),
        (until_pause, pause) in pauses(),
        more in 0..900_000_000_000_i64,
        norm in norms(),
        calendar in calendars(),
    ) {
        let due = norm.due(start, &calendar);
        let paused = start + until_pause;
        let (resumed, again) = (paused + pause, paused + pause + SignedDuration::from_micros(more));
        let moved = |moment, paused, resumed| norm.moved(moment, paused, resumed, &calendar);
        prop_assert_eq!(moved(due, paused, paused), due);
        let once = moved(due, paused, again);
        let twice = moved(moved(due, paused, resumed), resumed, again);
        // A moment in the hour that the wall clock skips is rounded to its end.
        let rounded = norm.unit() == Unit::CalendarDays;
        prop_assert!(once == twice || rounded && once.duration_since(twice).abs() <= MINUTE * 60);
        prop_assert!(due <= once && moved(due, paused, resumed) <= once);
    }

    #[test]
    fn what_is_left_after_a_pause_is_what_was_left_before(
        start in instants(),
        (until_pause, pause) in pauses(),
        norm in norms(),
        calendar in calendars(),
    ) {
        let due = norm.due(start, &calendar);
        let (paused, resumed) = (start + until_pause, start + until_pause + pause);
        let moved = norm.moved(due, paused, resumed, &calendar);
        let clock = norm.clock(&calendar);
        let (left, left_after) = (clock.ran(paused, due), clock.ran(resumed, moved));
        // A moment in the hour that the wall clock skips is rounded to its end.
        let skipped = norm.unit() == Unit::CalendarDays;
        prop_assert!(
            left == left_after || due <= paused || skipped && (left_after - left).abs() <= MINUTE * 60
        );
    }
}
