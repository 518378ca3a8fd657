//! Filters as they are asked: every value is one that a request can have, or
//! an error that names the field, never "no filter".

use samen_proto::requests::*;
use samen_server::reply::Check;
use samen_server::time::from_proto;

use crate::domain::location;
use crate::projection::filter::Filter;
use crate::projection::search::Words;

/// Characters of a category, and of any other code.
const CODE: std::ops::RangeInclusive<usize> = 1..=200;
/// Characters of a source's name.
const SOURCE: std::ops::RangeInclusive<usize> = 1..=100;
/// Values of one field; of an enum, of which there are few.
const MAX_VALUES: usize = 1_000;
const MAX_CHOICES: usize = 16;
/// How satisfied somebody can be.
const MAX_SATISFACTION: u32 = 5;
/// Different words that a text is looked for by.
const MAX_WORDS: usize = 10;

/// Who works on what, and what people wrote, is for staff.
pub fn filter(
    check: &mut Check,
    words: &Words,
    asked: Option<RequestFilter>,
    staff: bool,
) -> Filter {
    let asked = asked.unwrap_or_default();
    choices::<Status>(check, "filter.statuses", &asked.statuses);
    choices::<Channel>(check, "filter.channels", &asked.channels);
    choices::<Urgency>(check, "filter.urgencies", &asked.urgencies);
    choices::<NormState>(check, "filter.norm_states", &asked.norm_states);
    for (field, values, length) in [
        ("filter.categories", &asked.categories, CODE),
        ("filter.neighbourhoods", &asked.neighbourhoods, CODE),
        ("filter.teams", &asked.teams, CODE),
        ("filter.assignees", &asked.assignees, CODE),
        ("filter.sources", &asked.sources, SOURCE),
    ] {
        each(check, field, values, MAX_VALUES, |check, value| {
            check.text(field, value, length.clone());
        });
    }
    let field = "filter.networks";
    each(check, field, &asked.networks, MAX_VALUES, |check, id| check.id(field, id));
    let field = "filter.satisfactions";
    each(check, field, &asked.satisfactions, MAX_SATISFACTION as usize, |check, value| {
        check.require((1..=MAX_SATISFACTION).contains(value), field, "must be 1 to 5");
    });
    let field = "filter.numbers";
    each(check, field, &asked.numbers, MAX_VALUES, |check, number| {
        let known = (1..=i64::MAX as u64).contains(number);
        check.require(known, field, "must be numbers of requests, from 1");
    });
    if !asked.parent_id.is_empty() {
        check.id("filter.parent_id", &asked.parent_id);
    }
    windows(check, &asked);
    if let Some(region) = &asked.r#box {
        bounds(check, region);
    }
    for (field, given) in [
        ("filter.teams", !asked.teams.is_empty()),
        ("filter.assignees", !asked.assignees.is_empty()),
        ("filter.networks", !asked.networks.is_empty()),
        ("filter.text", !asked.text.is_empty()),
    ] {
        check.require(staff || !given, field, "is for staff");
    }
    let words = text(check, words, &asked.text);
    Filter::new(asked, words)
}

/// Values of one field, not too many.
fn each<T>(check: &mut Check, field: &str, values: &[T], most: usize, of: impl Fn(&mut Check, &T)) {
    check.require(values.len() <= most, field, &format!("must be at most {most} values"));
    values.iter().take(most).for_each(|value| of(check, value));
}

fn choices<E: TryFrom<i32> + Copy>(check: &mut Check, field: &str, values: &[i32]) {
    each(check, field, values, MAX_CHOICES, |check, value| {
        check.choice::<E>(field, *value);
    });
}

fn windows(check: &mut Check, asked: &RequestFilter) {
    for (name, from, before) in [
        ("created", &asked.created_from, &asked.created_before),
        ("updated", &asked.updated_from, &asked.updated_before),
        ("closed", &asked.closed_from, &asked.closed_before),
        ("due", &asked.due_from, &asked.due_before),
    ] {
        let mut ends = [None, None];
        for ((end, asked), which) in ends.iter_mut().zip([from, before]).zip(["from", "before"]) {
            let Some(asked) = asked else { continue };
            *end = from_proto(asked);
            let field = format!("filter.{name}_{which}");
            check.require(end.is_some(), &field, "must be a valid instant");
        }
        if let [Some(from), Some(before)] = ends {
            let field = format!("filter.{name}_before");
            let allowed = format!("must not be earlier than {name}_from");
            check.require(from <= before, &field, &allowed);
        }
    }
}

fn bounds(check: &mut Check, region: &BoundingBox) {
    let (Some(low), Some(high)) = (&region.south_west, &region.north_east) else {
        return check.fail("filter.box", "must have both of its corners");
    };
    for (field, corner) in [("filter.box.south_west", low), ("filter.box.north_east", high)] {
        // A corner is no place of anything: it may be where no request can.
        let origin = corner.latitude == 0.0 && corner.longitude == 0.0;
        if let Some((_, allowed)) = location::fault(corner).filter(|_| !origin) {
            check.fail(field, allowed);
        }
    }
    let ordered = low.latitude <= high.latitude && low.longitude <= high.longitude;
    check.require(ordered, "filter.box", "must have its first corner south and west of the other");
}

/// The words of a text: at least one, where there is a text.
fn text(check: &mut Check, words: &Words, text: &str) -> Vec<i64> {
    if text.is_empty() {
        return Vec::new();
    }
    let field = "filter.text";
    check.text(field, text, CODE);
    let words = words.of(text);
    let said = !words.is_empty() || text.trim().is_empty();
    check.require(said, field, "must have a word that not every text has");
    let few = words.len() <= MAX_WORDS;
    check.require(few, field, &format!("must have at most {MAX_WORDS} different words"));
    words
}
