use jiff::SignedDuration;
use jiff::civil::{DateTime, date};
use proptest::prelude::*;

use super::holidays::{easter, kings_day};
use super::*;

const SHIPPED: &str = include_str!("../../../../deploy/reference/calendar.json");

/// Easter Sunday from 2000 to 2040, as almanacs print it: month and day.
const EASTER: [(i8, i8); 41] = [
    (4, 23),
    (4, 15),
    (3, 31),
    (4, 20),
    (4, 11),
    (3, 27),
    (4, 16),
    (4, 8),
    (3, 23),
    (4, 12),
    (4, 4),
    (4, 24),
    (4, 8),
    (3, 31),
    (4, 20),
    (4, 5),
    (3, 27),
    (4, 16),
    (4, 1),
    (4, 21),
    (4, 12),
    (4, 4),
    (4, 17),
    (4, 9),
    (3, 31),
    (4, 20),
    (4, 5),
    (3, 28),
    (4, 16),
    (4, 1),
    (4, 21),
    (4, 13),
    (3, 28),
    (4, 17),
    (4, 9),
    (3, 25),
    (4, 13),
    (4, 5),
    (4, 25),
    (4, 10),
    (4, 1),
];

fn at(text: &str) -> Timestamp {
    text.parse().expect("an instant")
}

fn shows(text: &str) -> DateTime {
    text.parse().expect("a time")
}

fn days_of(year: i16) -> impl Iterator<Item = Date> {
    date(year, 1, 1).series(jiff::Span::new().days(1)).take_while(move |day| day.year() == year)
}

fn holidays(holidays: Holidays, year: i16) -> Vec<String> {
    days_of(year)
        .filter(|day| holidays.contain(*day))
        .map(|day| day.strftime("%m-%d").to_string())
        .collect()
}

#[test]
fn easter_is_when_almanacs_say() {
    for (year, (month, day)) in (2000..).zip(EASTER) {
        assert_eq!(easter(year), date(year, month, day));
    }
}

/// By Clavius' golden numbers and epacts, as his tables give them.
#[test]
fn easter_is_when_the_epact_says_in_every_gregorian_year() {
    for year in 1583..=9999 {
        let years = i32::from(year);
        let golden = years % 19 + 1;
        let century = years / 100 + 1;
        let solar = 3 * century / 4 - 12;
        let lunar = (8 * century + 5) / 25 - 5;
        let mut epact = (11 * golden + 20 + lunar - solar).rem_euclid(30);
        if epact == 24 || (epact == 25 && golden > 11) {
            epact += 1;
        }
        // In days of March.
        let full_moon = if epact > 23 { 74 - epact } else { 44 - epact };
        let sundays = 5 * years / 4 - solar - 10;
        let sunday = full_moon + 7 - (sundays + full_moon) % 7;
        let expected = date(year, 3, 1).checked_add(jiff::Span::new().days(sunday - 1));
        assert_eq!(easter(year), expected.expect("a date"));
    }
}

#[test]
fn each_year_has_its_public_holidays() {
    let ours = |year| holidays(Holidays::default(), year);
    let whole =
        ["01-01", "04-05", "04-06", "04-27", "05-05", "05-14", "05-24", "05-25", "12-25", "12-26"];
    assert_eq!(ours(2026), whole);
    // King's Day not on Sunday, Liberation Day, a late Easter.
    let late =
        ["01-01", "04-20", "04-21", "04-26", "05-05", "05-29", "06-08", "06-09", "12-25", "12-26"];
    assert_eq!(ours(2025), late);
    // Ascension Day is on 5 May.
    let together =
        ["01-01", "03-27", "03-28", "04-27", "05-05", "05-15", "05-16", "12-25", "12-26"];
    assert_eq!(ours(2016), together);
}

#[test]
fn the_birthday_is_that_of_whoever_reigns_and_not_on_sunday() {
    for (year, day) in [(2000, 29), (2012, 30), (2013, 30), (2014, 26), (2015, 27), (2025, 26)] {
        assert_eq!(kings_day(year), date(year, 4, day));
    }
}

#[test]
fn good_friday_and_liberation_day_are_free_where_the_deployment_says() {
    let free = |good_friday, word: &str, day: Date| {
        let liberation_day = LiberationDay::parse(word).expect("a rule");
        Holidays { good_friday, liberation_day }.contain(day)
    };
    assert!(free(true, "lustrum", date(2026, 4, 3)));
    assert!(!free(false, "lustrum", date(2026, 4, 3)));
    for (word, ordinary, lustrum) in
        [("lustrum", false, true), ("always", true, true), ("never", false, false)]
    {
        assert_eq!(free(false, word, date(2026, 5, 5)), ordinary, "{word}");
        assert_eq!(free(false, word, date(2025, 5, 5)), lustrum, "{word}");
    }
}

#[test]
fn people_work_from_monday_to_friday_but_not_on_holidays_and_closed_days() {
    let calendar = Calendar::parse(r#"{"closed": ["2026-12-24", "2026-12-24"]}"#).expect("ours");
    let working = |calendar: &Calendar| {
        let days = days_of(2026).filter(|day| day.month() == 12 && day.day() > 20);
        days.filter(|day| calendar.is_working_day(*day)).map(|day| day.day()).collect::<Vec<_>>()
    };
    assert_eq!(working(&Calendar::dutch()), [21, 22, 23, 24, 28, 29, 30, 31]);
    assert_eq!(working(&calendar), [21, 22, 23, 28, 29, 30, 31]);
    let count = |year| days_of(year).filter(|day| Calendar::dutch().is_working_day(*day)).count();
    // 262 and 261 weekdays, less holidays on a weekday.
    assert_eq!((count(2024), count(2026)), (262 - 6, 261 - 7));
}

#[test]
fn what_a_file_leaves_out_is_the_dutch_calendar() {
    assert_eq!(Calendar::parse(SHIPPED).expect("our own file"), Calendar::dutch());
    assert_eq!(Calendar::parse("{}").expect("all left out"), Calendar::default());
    let text = r#"{"good_friday": true, "liberation_day": "lustrum",
                   "closed": ["2026-12-24"], "office_hours": ["08:30", "16:45"]}"#;
    let calendar = Calendar::parse(text).expect("a calendar");
    let liberation_day = date(2026, 5, 5);
    assert!(calendar.is_working_day(liberation_day));
    assert!(!Calendar::dutch().is_working_day(liberation_day));
    for day in [date(2026, 4, 3), date(2026, 12, 24)] {
        assert!(!calendar.is_working_day(day) && Calendar::dutch().is_working_day(day), "{day}");
    }
    let hours = OfficeHours { opens: time(8, 30, 0, 0), closes: time(16, 45, 0, 0) };
    assert_eq!(calendar.office_hours(), hours);
}

#[test]
fn what_is_wrong_with_a_calendar_is_named() {
    for (text, told) in [
        ("[", "not a calendar"),
        (r#"{"good_friday": "no"}"#, "expected a boolean"),
        (r#"{"whit_monday": true}"#, "unknown field `whit_monday`"),
        (r#"{"liberation_day": "5y"}"#, r#"liberation_day is "5y", and must be lustrum, always"#),
        (r#"{"closed": ["2026-12-24", "2026-02-29"]}"#, r#"closed[1] is "2026-02-29", which is"#),
        (r#"{"closed": ["24 dec"]}"#, r#"closed[0] is "24 dec""#),
        (r#"{"office_hours": ["09:00"]}"#, r#"office_hours is ["09:00"], and"#),
        (r#"{"office_hours": ["09:00", "25:00"]}"#, "office_hours is"),
        (r#"{"office_hours": ["17:00", "09:00"]}"#, "office_hours is"),
        (r#"{"office_hours": ["09:00", "09:00"]}"#, "office_hours is"),
    ] {
        let error = Calendar::parse(text).expect_err(text).to_string();
        assert!(error.contains(told), "{error}");
    }
}

#[test]
fn a_day_ends_when_the_next_begins_there() {
    let ends = |year, month, day| Calendar::dutch().end_of_day(date(year, month, day));
    assert_eq!(ends(2026, 1, 15), at("2026-01-15T23:00:00Z"));
    assert_eq!(ends(2026, 7, 15), at("2026-07-15T22:00:00Z"));
    // Days of 23 and 25 hours.
    assert_eq!(ends(2026, 3, 28), at("2026-03-28T23:00:00Z"));
    assert_eq!(ends(2026, 3, 29), at("2026-03-29T22:00:00Z"));
    assert_eq!(ends(2026, 10, 24), at("2026-10-24T22:00:00Z"));
    assert_eq!(ends(2026, 10, 25), at("2026-10-25T23:00:00Z"));
    assert_eq!(ends(2026, 12, 31), at("2026-12-31T23:00:00Z"));
    assert_eq!(Calendar::dutch().end_of_day(Date::MAX), Timestamp::MAX);
}

#[test]
fn the_wall_clock_skips_an_hour_in_spring() {
    assert_eq!(zone().iana_name(), Some("Europe/Amsterdam"));
    let put_forward = at("2026-03-29T01:00:00Z");
    assert_eq!(wall::shown(put_forward), shows("2026-03-29T03:00"));
    assert_eq!(wall::shown(at("2026-03-29T00:59:59Z")), shows("2026-03-29T01:59:59"));
    for skipped in ["2026-03-29T02:00", "2026-03-29T02:30", "2026-03-29T03:00"] {
        assert_eq!(wall::first_shown(shows(skipped)), put_forward);
    }
}

#[test]
fn the_wall_clock_stands_still_for_an_hour_in_autumn() {
    let put_back = at("2026-10-25T01:00:00Z");
    for again in [put_back, at("2026-10-25T01:30:00Z"), at("2026-10-25T02:00:00Z")] {
        assert_eq!(wall::shown(again), shows("2026-10-25T03:00"));
    }
    assert_eq!(wall::shown(at("2026-10-25T00:30:00Z")), shows("2026-10-25T02:30"));
    assert_eq!(wall::shown(at("2026-10-25T02:30:00Z")), shows("2026-10-25T03:30"));
    assert_eq!(wall::first_shown(shows("2026-10-25T02:00")), at("2026-10-25T00:00:00Z"));
    assert_eq!(wall::first_shown(shows("2026-10-25T02:59")), at("2026-10-25T00:59:00Z"));
    // It came so far when it was put back, but did not show it then.
    assert_eq!(wall::first_shown(shows("2026-10-25T03:00")), at("2026-10-25T02:00:00Z"));
}

/// An instant in a year from 2015 to 2045, often within hours of a change of
/// the wall clock.
fn instants() -> impl Strategy<Value = Timestamp> {
    let day = SignedDuration::from_hours(24);
    let years =
        at("2015-01-01T00:00:00Z").as_microsecond()..at("2046-01-01T00:00:00Z").as_microsecond();
    let any = years.prop_map(|micros| Timestamp::from_microsecond(micros).expect("in range"));
    let near = (any.clone(), -5_000_000_000..5_000_000_000_i64).prop_map(move |(any, micros)| {
        let change = zone().following(any).next().map_or(any + day, |change| change.timestamp());
        change + SignedDuration::from_micros(micros)
    });
    prop_oneof![any, near]
}

proptest! {
    #[test]
    fn the_wall_clock_never_goes_back(one in instants(), other in instants(), micros in 0..9_000_000_000_i64) {
        let later = one + SignedDuration::from_micros(micros);
        prop_assert!(wall::shown(one) <= wall::shown(later));
        prop_assert!(wall::shown(one.min(other)) <= wall::shown(one.max(other)));
    }

    #[test]
    fn a_time_is_first_shown_when_it_was_not_shown_before(
        instant in instants(),
        micros in -9_000_000_000..9_000_000_000_i64,
    ) {
        let time = zone().to_datetime(instant) + SignedDuration::from_micros(micros);
        let first = wall::first_shown(time);
        let before = first - SignedDuration::from_micros(1);
        prop_assert!(zone().to_datetime(first) >= time && wall::shown(first) >= time);
        prop_assert!(zone().to_datetime(before) < time && wall::shown(before) <= time);
    }
}
