//! What was reported: as a list by filter, by number, and by token.
//!
//! Moments are told by the second, and so they are compared.

use jiff::Timestamp;
use prost_types::Timestamp as Proto;
use samen_proto::requests::*;
use samen_server::calendar::zone;
use samen_server::reply::{self, Check};
use samen_server::time::from_proto;

use super::document::{Document, Value};
use super::parameters::Parameters;
use super::refused::Refused;
use super::{Answered, services};
use crate::Requests;
use crate::domain::status::{ALL, is_closed};
use crate::projection::filter::Filter;
use crate::projection::queries::{self, Published, Visible};
use crate::register::Register;
use crate::web::Language;

/// Reports in one answer.
const MAX_PAGE: u32 = 1_000;
const LAST_PAGE: u32 = 1_000_000;
/// The longest time from the first to the last of one answer, in seconds.
const SPAN: i64 = 90 * 86_400;
/// 90 days of people are an hour more when summer time ends in them.
const HOUR: i64 = 3_600;

/// What can be asked of a list. Another name could be a filter of a client
/// that would then be told more than it asked: it is refused.
const NAMES: [&str; 13] = [
    "jurisdiction_id",
    "api_key",
    "service_request_id",
    "service_code",
    "start_date",
    "end_date",
    "status",
    "page",
    "page_size",
    "updated_after",
    "updated_before",
    "extensions",
    // What some clients add so that nothing between is asked instead.
    "_",
];

pub async fn list(service: &Requests, asked: &Parameters) -> Answered {
    let mut check = Check::default();
    for (name, _) in asked.iter().filter(|(name, _)| !NAMES.contains(name)) {
        check.fail(&format!("{name:.100}"), "is not a parameter of this list");
    }
    let extensions = asked.flag(&mut check, "extensions");
    // Numbers override all else.
    let numbers = asked.list("service_request_id");
    if !numbers.is_empty() {
        let numbers = self::numbers(&mut check, &numbers);
        check.finish()?;
        return by_number(service, numbers, extensions).await;
    }
    let register = service.registered.now();
    let mut filter = RequestFilter {
        statuses: statuses(&mut check, asked),
        categories: categories(&mut check, asked, &register),
        ..RequestFilter::default()
    };
    let updated = updated(&mut check, asked);
    let given = updated.0.is_some() || updated.1.is_some();
    let (from, before) = requested(&mut check, asked, given);
    filter.created_from = from.map(proto);
    filter.created_before = before.map(proto);
    // What was closed then changed then, or later: an index finds it.
    filter.updated_from = updated.0.map(|micros| proto(micros / 1_000_000));
    let size = asked.number(&mut check, "page_size", MAX_PAGE).unwrap_or(MAX_PAGE);
    let page = asked.number(&mut check, "page", LAST_PAGE).unwrap_or(1);
    check.finish()?;
    let skip = u64::from(page - 1) * u64::from(size);
    let published = Published { updated, skip, size: size.into() };
    let found = read(service, &register, filter, published).await?;
    Ok(document(service, &register, found, extensions))
}

/// One report, or some.
pub async fn get(service: &Requests, ids: &str, asked: &Parameters) -> Answered {
    let mut check = Check::default();
    let extensions = asked.flag(&mut check, "extensions");
    check.finish()?;
    let ids = ids.split(',').map(str::trim).filter(|id| !id.is_empty()).collect::<Vec<_>>();
    let unknown = || {
        let ids = ids.join(",");
        Refused::not_found(&format!("service_request_id: {ids:.100} was not found"))
    };
    let mut check = Check::default();
    let numbers = self::numbers(&mut check, &ids);
    check.finish().map_err(|_| unknown())?;
    let found = by_number(service, numbers, extensions).await?;
    match &found.value {
        Value::List(_, found) if found.is_empty() => Err(unknown()),
        _ => Ok(found),
    }
}

/// The number of a report by its own id. Who reports is told the number at
/// once, and needs no token for it; the number is one of itself.
pub async fn token(service: &Requests, token: &str) -> Answered {
    let register = service.registered.now();
    let visible = visible(&register);
    let found = match token.parse() {
        Ok(number) => {
            let filter = RequestFilter { numbers: vec![number], ..RequestFilter::default() };
            let first = Published { size: 1, ..Published::default() };
            let fits = i64::try_from(number).is_ok();
            let found = if fits { read(service, &register, filter, first).await? } else { vec![] };
            found.into_iter().next()
        }
        Err(_) => {
            let schema = service.store.schema();
            let row = queries::get(&schema, &visible, token).await.map_err(reply::storage)?;
            row.map(|row| row.body)
        }
    };
    let found =
        found.ok_or_else(|| Refused::not_found(&format!("token: {token:.100} was not found")))?;
    let request = Value::Object(vec![
        ("service_request_id", found.number.to_string().into()),
        ("token", token.into()),
    ]);
    let requests = Value::List("request", vec![request]);
    Ok(Document { root: "service_requests", value: requests })
}

// --- what is asked

/// Numbers of requests.
fn numbers(check: &mut Check, ids: &[&str]) -> Vec<u64> {
    let field = "service_request_id";
    let few = (1..=MAX_PAGE as usize).contains(&ids.len());
    check.require(few, field, &format!("must be 1 to {MAX_PAGE} numbers"));
    let number = |id: &&str| id.parse().ok().filter(|n| i64::try_from(*n).is_ok_and(|n| n > 0));
    let numbers: Vec<u64> = ids.iter().filter_map(number).collect();
    check.require(numbers.len() == ids.len(), field, "must be numbers of requests");
    numbers
}

fn statuses(check: &mut Check, asked: &Parameters) -> Vec<i32> {
    let asked = asked.list("status");
    let known = asked.iter().all(|status| ["open", "closed"].contains(status));
    check.require(known, "status", "must be open, closed, or both");
    let wanted = |closed: bool| asked.contains(&if closed { "closed" } else { "open" });
    let of = ALL.into_iter().filter(|status| wanted(is_closed(*status)));
    of.map(i32::from).collect()
}

/// What was retired can still be looked for: it was reported under once.
fn categories(check: &mut Check, asked: &Parameters, register: &Register) -> Vec<String> {
    let asked = asked.list("service_code");
    for code in &asked {
        let known = register.is_public(code);
        check.require(known, "service_code", &format!("{code:.100} was not found"));
    }
    asked.into_iter().map(str::to_owned).collect()
}

/// Seconds from which and before which it was reported. Who looks for what
/// changed finds all that did, whenever it was reported.
fn requested(check: &mut Check, asked: &Parameters, changed: bool) -> (Option<i64>, Option<i64>) {
    let (start, end) = (asked.from(check, "start_date"), asked.until(check, "end_date"));
    match (start, end) {
        (None, None) if changed => (None, None),
        (None, None) => (Some(Timestamp::now().as_second() - SPAN), None),
        (Some(start), None) => (Some(start), Some(start + SPAN + 1)),
        (None, Some(end)) => (Some(end - SPAN), Some(end + 1)),
        (Some(start), Some(end)) => {
            check.require(start <= end + 1, "end_date", "must not be earlier than start_date");
            let short = end - start <= SPAN + HOUR;
            check.require(short, "end_date", "must be at most 90 days after start_date");
            (Some(start), Some(end + 1))
        }
    }
}

fn updated(check: &mut Check, asked: &Parameters) -> (Option<i64>, Option<i64>) {
    let (after, before) = ("updated_after", "updated_before");
    let (from, until) = (asked.from(check, after), asked.until(check, before));
    if let (Some(from), Some(until)) = (from, until) {
        check.require(from <= until + 1, before, "must not be earlier than updated_after");
    }
    let micros = |second: i64| second.saturating_mul(1_000_000);
    (from.map(micros), until.map(|second| micros(second + 1)))
}

fn proto(second: i64) -> Proto {
    Proto { seconds: second, nanos: 0 }
}

// --- what is found

/// Everybody sees what is of a public category.
fn visible(register: &Register) -> Visible {
    Visible::Public(register.public().map(str::to_owned).collect())
}

async fn read(
    service: &Requests,
    register: &Register,
    filter: RequestFilter,
    published: Published,
) -> Result<Vec<ServiceRequest>, Refused> {
    let filter = Filter::new(filter, Vec::new());
    let schema = service.store.schema();
    let found = queries::published(&schema, &visible(register), &filter, &published).await;
    Ok(found.map_err(reply::storage)?)
}

async fn by_number(service: &Requests, numbers: Vec<u64>, extensions: bool) -> Answered {
    let register = service.registered.now();
    let filter = RequestFilter { numbers, ..RequestFilter::default() };
    let all = Published { size: MAX_PAGE.into(), ..Published::default() };
    let found = read(service, &register, filter, all).await?;
    Ok(document(service, &register, found, extensions))
}

// --- what is shown

fn document(
    service: &Requests,
    register: &Register,
    found: Vec<ServiceRequest>,
    extensions: bool,
) -> Document {
    let request = |request| {
        let mut fields = shown(register, &request);
        if extensions {
            fields.push(("extended_attributes", extended(service, &request)));
        }
        Value::Object(fields)
    };
    let requests = Value::List("request", found.into_iter().map(request).collect());
    Document { root: "service_requests", value: requests }
}

fn shown(register: &Register, request: &ServiceRequest) -> Vec<(&'static str, Value)> {
    let view = register.categories.get(&request.category);
    let category = view.and_then(|view| view.category.as_ref());
    let department = category.and_then(|category| register.department(&category.department));
    let status = request.status();
    // The standard's moment of change is that of the closing, once closed.
    let updated = request.close_time.as_ref().or(request.update_time.as_ref());
    let [lat, long] = match request.location {
        Some(at) => [at.latitude, at.longitude].map(Value::Real),
        None => [Value::Nothing, Value::Nothing],
    };
    vec![
        ("service_request_id", request.number.to_string().into()),
        ("status", if is_closed(status) { "closed" } else { "open" }.into()),
        ("status_notes", Language::Dutch.status(status).into()),
        ("service_name", services::dutch(category.and_then(|c| c.name.as_ref()))),
        ("service_code", request.category.as_str().into()),
        ("description", Value::Nothing),
        ("agency_responsible", Value::or_nothing(department.map_or("", |d| &d.name))),
        ("service_notice", Value::Nothing),
        ("requested_datetime", moment(request.create_time.as_ref())),
        ("updated_datetime", moment(updated)),
        ("expected_datetime", moment(request.due_time.as_ref())),
        ("address", Value::Nothing),
        ("address_id", Value::Nothing),
        ("zipcode", Value::Nothing),
        ("lat", lat),
        ("long", long),
        ("media_url", Value::Nothing),
    ]
}

/// What clients have agreed on among themselves, and what we know besides.
fn extended(service: &Requests, request: &ServiceRequest) -> Value {
    let code = request.neighbourhood.as_str();
    let name = service.deployment.area.get(code).map_or("", |found| &found.name);
    let word = |name: &str, prefix: &str| name.trim_start_matches(prefix).to_lowercase();
    let photos = i64::try_from(request.photo_ids.len()).unwrap_or_default();
    Value::Object(vec![
        ("detailed_status", word(request.status().as_str_name(), "STATUS_").into()),
        ("channel", word(request.channel().as_str_name(), "CHANNEL_").into()),
        ("neighbourhood_code", Value::or_nothing(code)),
        ("neighbourhood_name", Value::or_nothing(name)),
        ("planned_date", Value::or_nothing(&request.planned_date)),
        ("closed_datetime", moment(request.close_time.as_ref())),
        ("photos", Value::Whole(photos)),
    ])
}

/// A moment as W3C writes it, by the clock that people here look at.
pub fn moment(at: Option<&Proto>) -> Value {
    let Some(at) = at.and_then(from_proto) else { return Value::Nothing };
    let at = at.to_zoned_datetime(zone().clone());
    at.strftime("%Y-%m-%dT%H:%M:%S%:z").to_string().into()
}
