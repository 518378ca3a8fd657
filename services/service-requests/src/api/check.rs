//! What the fields of a message may hold.

use std::collections::BTreeSet;

use samen_proto::options::Role;
use samen_proto::requests::*;
use samen_server::Caller;
use samen_server::area::Area;
use samen_server::reply::Check;

use crate::domain;
use crate::domain::catalogue::is_category;
use crate::domain::request::own_channel;

/// Characters of a category, and of any other code.
const CODE: std::ops::RangeInclusive<usize> = 1..=200;

/// A category's code: `main/sub`.
pub fn category(check: &mut Check, category: &str) {
    category_of(check, "category", category);
}

pub fn category_of(check: &mut Check, field: &str, category: &str) {
    let allowed = "must be main/sub: lower-case letters, digits and hyphens, at most 100";
    check.require(is_category(category), field, allowed);
}

/// What another system called it: its words, as long as they are not too many.
pub fn imported_category(check: &mut Check, category: &str) {
    check.text("category", category, CODE);
}

/// Residents come by web and app; by the other channels, a handler enters what
/// people said.
pub fn channel(check: &mut Check, caller: &Caller, channel: Option<Channel>) {
    let Some(channel) = channel else { return };
    let (role, otherwise) = match own_channel(channel) {
        true => (Role::Resident, "must be what a person came by to a handler"),
        false => (Role::Handler, "must be CHANNEL_WEB or CHANNEL_APP for a resident"),
    };
    check.require(caller.has(role), "channel", otherwise);
}

pub fn urgency(check: &mut Check, urgency: i32) {
    let known = Urgency::try_from(urgency).is_ok();
    check.require(known, "urgency", "must be one of the contract's values");
}

/// Who told us, and what they agree to: without anybody to contact or to pass
/// on, they cannot.
pub fn reporter(check: &mut Check, message: &FileRequestRequest) {
    let reporter = message.reporter.clone().unwrap_or_default();
    check.text("reporter.name", &reporter.name, 0..=200);
    check.text("reporter.email", &reporter.email, 0..=254);
    let email = reporter.email.is_empty() || reporter.email.contains('@');
    check.require(email, "reporter.email", "must be an e-mail address, or empty");
    check.text("reporter.phone", &reporter.phone, 0..=30);
    let reached = !(reporter.email.is_empty() && reporter.phone.is_empty());
    check.require(
        reached || !message.contact_consent,
        "contact_consent",
        "must come with an e-mail address or a phone number",
    );
    let known = reporter != Reporter::default();
    check.require(known || !message.share_consent, "share_consent", "must come with a reporter");
}

/// Answers to the questions of a category: to each that is required, to no
/// other, of its kind.
pub fn answers(check: &mut Check, questions: &[Question], answers: &[Answer]) {
    let mut seen = BTreeSet::new();
    for answer in answers.iter().take(questions.len() + 1) {
        let field = format!("answers.{:.50}", answer.question);
        let Some(question) = questions.iter().find(|q| q.code == answer.question) else {
            check.fail("answers.question", "must be a question of the category");
            continue;
        };
        check.require(seen.insert(&answer.question), &field, "must be answered once");
        self::answer(check, &field, question, &answer.values);
    }
    let few = answers.len() <= questions.len();
    check.require(few, "answers", "must not be more than the category has questions");
    for question in questions.iter().filter(|question| question.required) {
        let field = format!("answers.{}", question.code);
        check.require(seen.contains(&question.code), &field, "must be answered");
    }
}

fn answer(check: &mut Check, field: &str, question: &Question, values: &[String]) {
    let kind = question.kind();
    let choices = || question.choices.iter().map(|choice| choice.code.as_str());
    if kind == QuestionKind::MultipleChoice {
        let of = !values.is_empty() && values.iter().all(|v| choices().any(|code| code == v));
        let once = values.iter().collect::<BTreeSet<_>>().len() == values.len();
        let allowed = choices().collect::<Vec<_>>().join(", ");
        return check.require(of && once, field, &format!("must be some of: {allowed}"));
    }
    let [value] = values else {
        return check.fail(field, "must be one value");
    };
    match kind {
        QuestionKind::Number => {
            let number = value.parse::<f64>().is_ok_and(f64::is_finite) && value.len() <= 50;
            check.require(number, field, "must be a number");
        }
        QuestionKind::Date => {
            let date = value.len() == 10 && value.parse::<jiff::civil::Date>().is_ok();
            check.require(date, field, "must be a date, such as 2026-03-27");
        }
        QuestionKind::SingleChoice => {
            let allowed = choices().collect::<Vec<_>>().join(", ");
            let of = choices().any(|code| code == value);
            check.require(of, field, &format!("must be one of: {allowed}"));
        }
        _ => check.text(field, value, 1..=1_000),
    }
}

/// A real point, where there is one.
pub fn location(check: &mut Check, location: Option<&Location>) {
    if let Some((field, allowed)) = location.and_then(domain::location::fault) {
        check.fail(field, allowed);
    }
}

/// The code of the neighbourhood that the point lies in; empty for none.
pub fn neighbourhood(area: &Area, location: Option<&Location>) -> String {
    location
        .and_then(|at| area.locate(at.latitude, at.longitude))
        .map(|found| found.code.clone())
        .unwrap_or_default()
}

/// How satisfied somebody is, and why.
pub fn rating(check: &mut Check, satisfaction: u32, words: &str) {
    check.require((1..=5).contains(&satisfaction), "satisfaction", "must be 1 to 5");
    check.text("words", words, 0..=5_000);
}
