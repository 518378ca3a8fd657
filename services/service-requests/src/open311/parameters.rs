//! What was asked: the parameters of an address or of a form. An empty one is
//! an absent one.

use jiff::civil::Date;
use jiff::{SignedDuration, Timestamp};
use samen_server::calendar::wall::first_shown;
use samen_server::reply::Check;

use super::refused::Refused;
use crate::Requests;

/// Parameters in the order in which they came, none of them empty.
#[derive(Debug, Default)]
pub struct Parameters(Vec<(String, String)>);

/// What a path or a name says, without what an address escapes.
pub fn decode(path: &str) -> String {
    // Only a form writes a space as a plus.
    let path = path.replace('+', "%2B");
    let mut decoded = form_urlencoded::parse(path.as_bytes());
    // A path is the name of a parameter without a value, unless it has a `=`
    // or `&`, which none of ours has.
    decoded.next().map(|(name, _)| name.into_owned()).unwrap_or_default()
}

impl Parameters {
    /// Of an address's query, or of a form.
    pub fn parse(encoded: &[u8]) -> Self {
        let mut parameters = Parameters::default();
        for (name, value) in form_urlencoded::parse(encoded) {
            parameters.push(name.into_owned(), value.into_owned());
        }
        parameters
    }

    pub fn push(&mut self, name: String, value: String) {
        if !value.trim().is_empty() {
            self.0.push((name, value));
        }
    }

    /// These as well.
    pub fn extend(&mut self, others: Parameters) {
        self.0.extend(others.0);
    }

    pub fn iter(&self) -> impl Iterator<Item = (&str, &str)> {
        self.0.iter().map(|(name, value)| (name.as_str(), value.as_str()))
    }

    /// A parameter that is given once, without blanks at its ends.
    pub fn one(&self, check: &mut Check, name: &str) -> Option<&str> {
        let mut given = self.all(name);
        let first = given.next().map(str::trim);
        check.require(given.next().is_none(), name, "must be given once");
        first
    }

    /// A text of at most so many characters; empty where there is none.
    pub fn text(&self, check: &mut Check, name: &str, longest: usize) -> String {
        let text = self.one(check, name).unwrap_or_default().replace("\r\n", "\n");
        check.text(name, &text, 0..=longest);
        text
    }

    /// The items of a parameter that is a list with commas.
    pub fn list(&self, name: &str) -> Vec<&str> {
        let items = self.all(name).flat_map(|value| value.split(','));
        items.map(str::trim).filter(|item| !item.is_empty()).collect()
    }

    /// A whole number between these.
    pub fn number(&self, check: &mut Check, name: &str, most: u32) -> Option<u32> {
        let number = self.one(check, name)?.parse().ok().filter(|n| (1..=most).contains(n));
        check.require(number.is_some(), name, &format!("must be a number from 1 to {most}"));
        number
    }

    pub fn flag(&self, check: &mut Check, name: &str) -> bool {
        let flag = self.one(check, name).unwrap_or("false");
        check.require(["true", "false"].contains(&flag), name, "must be true or false");
        flag == "true"
    }

    /// The first whole second, since 1970, that is not before this moment.
    pub fn from(&self, check: &mut Check, name: &str) -> Option<i64> {
        let text = self.one(check, name)?;
        let moment = moment(text).or_else(|| first_of_day(text));
        seconds(check, name, moment, -1).map(|second| second + 1)
    }

    /// The last whole second that is not after it.
    pub fn until(&self, check: &mut Check, name: &str) -> Option<i64> {
        let text = self.one(check, name)?;
        let moment = moment(text).or_else(|| last_of_day(text));
        seconds(check, name, moment, 0)
    }

    /// Refuses another municipality than this one. It need not be named.
    pub fn jurisdiction(&self, service: &Requests) -> Result<(), Refused> {
        let mut check = Check::default();
        let asked = self.one(&mut check, "jurisdiction_id");
        check.finish()?;
        let own = &service.deployment.municipality;
        match asked {
            Some(other) if !other.eq_ignore_ascii_case(own) => {
                let text = format!("jurisdiction_id: was not found; this is {own}");
                Err(Refused::not_found(&text))
            }
            _ => Ok(()),
        }
    }

    fn all(&self, name: &str) -> impl Iterator<Item = &str> {
        self.iter().filter(move |(given, _)| *given == name).map(|(_, value)| value)
    }
}

/// The second in which a moment, moved by so many nanoseconds, lies.
fn seconds(check: &mut Check, name: &str, moment: Option<Timestamp>, moved: i64) -> Option<i64> {
    let allowed = "must be a date and time with its offset, such as 2026-03-27T16:00:00+01:00";
    check.require(moment.is_some(), name, allowed);
    let moved = moment?.as_nanosecond() + i128::from(moved);
    i64::try_from(moved.div_euclid(1_000_000_000)).ok()
}

/// A moment as W3C writes it. In an address that did not escape the plus of
/// its offset, that is a space by now.
fn moment(text: &str) -> Option<Timestamp> {
    text.parse().ok().or_else(|| text.replace(' ', "+").parse().ok())
}

/// A day, as people here count it.
fn first_of_day(text: &str) -> Option<Timestamp> {
    let day: Date = text.parse().ok().filter(|_| text.len() == 10)?;
    Some(first_shown(day.at(0, 0, 0, 0)))
}

fn last_of_day(text: &str) -> Option<Timestamp> {
    let day: Date = text.parse().ok().filter(|_| text.len() == 10)?;
    first_shown(day.tomorrow().ok()?.at(0, 0, 0, 0)).checked_sub(SignedDuration::from_nanos(1)).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_empty_is_absent_and_lists_have_commas() {
        let asked = Parameters::parse(b"a=&b=+&c=1,,%202&c=3&d=x&d=y&e=a%20b");
        let mut check = Check::default();
        assert_eq!(asked.one(&mut check, "a"), None);
        assert_eq!(asked.one(&mut check, "b"), None);
        assert_eq!(asked.list("c"), ["1", "2", "3"]);
        assert_eq!(asked.one(&mut check, "e"), Some("a b"));
        check.finish().expect("all is well");
        let mut check = Check::default();
        asked.one(&mut check, "d");
        check.finish().expect_err("given twice");
        assert_eq!(decode("services/a%2Fb"), "services/a/b");
        assert_eq!(decode("services/a+b"), "services/a+b");
    }

    #[test]
    fn moments_are_told_by_whole_seconds() {
        let read = |text: &str| {
            let asked = Parameters::parse(format!("t={text}").as_bytes());
            let mut check = Check::default();
            let found = asked.from(&mut check, "t").zip(asked.until(&mut check, "t"));
            assert_eq!(found.is_some(), check.finish().is_ok(), "{text}");
            found
        };
        let at = |text: &str| text.parse::<Timestamp>().expect("a moment").as_second();
        let four = at("2026-03-27T15:00:00Z");
        for same in [
            "2026-03-27T16:00:00%2B01:00",
            "2026-03-27T16:00:00+01:00",
            "2026-03-27T15:00:00Z",
            "2026-03-27T15:00Z",
            "2026-03-27T10:00:00-05:00",
        ] {
            assert_eq!(read(same), Some((four, four)), "{same}");
        }
        assert_eq!(read("2026-03-27T15:00:00.5Z"), Some((four + 1, four)));
        let day = (at("2026-03-28T23:00:00Z"), at("2026-03-29T21:59:59Z"));
        assert_eq!(read("2026-03-29"), Some(day), "a day of 23 hours");
        for wrong in ["2026-03-27T16:00:00", "yesterday", "2026-13-01T00:00:00Z", "1"] {
            assert_eq!(read(wrong), None, "{wrong}");
        }
    }
}
