//! Dutch public holidays, computed for any year.

use jiff::civil::{Date, Weekday, date};

/// Which public holidays are days on which nobody works. The others always
/// are: New Year's Day, Easter, King's Day, Ascension Day, Whitsun and
/// Christmas.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Holidays {
    /// Goede Vrijdag. Officially it is equal to a holiday (Algemene
    /// termijnenwet art. 3 lid 2), but most offices are open.
    pub good_friday: bool,
    /// Bevrijdingsdag.
    pub liberation_day: LiberationDay,
}

/// In which years nobody works on 5 May. It is a public holiday in every year
/// (Algemene termijnenwet, art. 3); whether people work then is left to
/// collective agreements (cao's).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum LiberationDay {
    /// In years that are divisible by five, as most collective agreements say,
    /// on advice of the Stichting van de Arbeid.
    Lustrum,
    /// In every year, as the law has it for terms, and the Cao Gemeenten says from 2024 on (art. 6.6).
    #[default]
    Always,
    Never,
}

// === impl Holidays ===

impl Holidays {
    /// Whether this is a holiday on which nobody works.
    pub fn contain(&self, date: Date) -> bool {
        match (date.month(), date.day()) {
            (1, 1) | (12, 25 | 26) => true,
            (5, 5) if self.liberation_day.is_free(date.year()) => true,
            _ => date == kings_day(date.year()) || self.follow_easter(date),
        }
    }

    fn follow_easter(&self, date: Date) -> bool {
        match date.duration_since(easter(date.year())).as_hours() / 24 {
            -2 => self.good_friday,
            // Easter, Ascension Day and Whitsun.
            0 | 1 | 39 | 49 | 50 => true,
            _ => false,
        }
    }
}

// === impl LiberationDay ===

impl LiberationDay {
    /// The rule that a configuration means with this word.
    pub fn parse(word: &str) -> Option<Self> {
        match word {
            "lustrum" => Some(LiberationDay::Lustrum),
            "always" => Some(LiberationDay::Always),
            "never" => Some(LiberationDay::Never),
            _ => None,
        }
    }

    fn is_free(self, year: i16) -> bool {
        match self {
            LiberationDay::Lustrum => year % 5 == 0,
            LiberationDay::Always => true,
            LiberationDay::Never => false,
        }
    }
}

/// Koningsdag, which is on 27 April, and before 2014 Koninginnedag, on
/// 30 April (by the rules of 1980); a day earlier when that is a Sunday.
pub fn kings_day(year: i16) -> Date {
    let day = |day| date(year, 4, day);
    let (birthday, eve) = if year < 2014 { (30, 29) } else { (27, 26) };
    if day(birthday).weekday() == Weekday::Sunday { day(eve) } else { day(birthday) }
}

/// Easter Sunday by the Gregorian calendar: the Sunday after the first full
/// moon of the church's spring.
pub fn easter(year: i16) -> Date {
    let years = i32::from(year);
    let century = years.div_euclid(100);
    // Leap days that centuries left out, and what that did to the moon.
    let left_out = century - century.div_euclid(4);
    let moon_drift = (8 * century + 13).div_euclid(25);
    let golden = years.rem_euclid(19);
    // The full moon, in days after 21 March: at most 28, and 27 for the second
    // half of a moon cycle, so that no cycle has it twice on one date.
    let moon = (19 * golden + left_out - moon_drift + 15).rem_euclid(30);
    let moon = moon - i32::from(moon == 29 || (moon == 28 && golden > 10));
    // 21 March plus `moon` days is this day of the week, 0 being Sunday.
    let weekday = (years + years.div_euclid(4) - left_out + moon + 2).rem_euclid(7);
    // In days after 28 March, from six before it to 28 after it.
    let sunday = moon - weekday;
    let (month, day) = if sunday <= 3 { (3, 28 + sunday) } else { (4, sunday - 3) };
    // Between 22 March and 25 April.
    date(year, month, day as i8)
}
