//! What can be reported, who handles it, and how it is routed: what each may
//! say, and the aggregates that say it.

use std::collections::BTreeSet;

use samen_log::Aggregate;
use samen_proto::requests::target::Target as To;
use samen_proto::requests::*;
use samen_server::area::Area;
use samen_server::reply::{self, Check};
use tonic::{Code, Status as Refusal};

use super::norm;

/// Values of one list.
const MAX: usize = 1_000;
/// Questions of a category, and standard texts.
const MAX_FEW: usize = 20;

samen_log::events! {
    /// What happens to a category.
    pub enum CategoryEvent { CategoryDefined, CategoryRetired }
}
samen_log::events! {
    /// What happens to the organisation.
    pub enum OrganisationEvent { OrganisationDefined }
}
samen_log::events! {
    /// What happens to the routing.
    pub enum RoutingEvent { RoutingDefined }
}

/// A category's state; `None`: there is none.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct CategoryState {
    pub category: Option<Category>,
    pub retired: bool,
}

/// The organisation's state.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct OrganisationState(pub Organisation);

/// The routing's state.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct RoutingState(pub Routing);

impl Aggregate for CategoryState {
    type Event = CategoryEvent;
    const KIND: &'static str = "category";

    fn evolve(mut self, event: &CategoryEvent) -> Self {
        match event {
            CategoryEvent::CategoryDefined(defined) => {
                self.category.clone_from(&defined.category);
                self.retired = false;
            }
            CategoryEvent::CategoryRetired(_) => self.retired = true,
        }
        self
    }
}

impl Aggregate for OrganisationState {
    type Event = OrganisationEvent;
    const KIND: &'static str = "organisation";

    fn evolve(self, event: &OrganisationEvent) -> Self {
        let OrganisationEvent::OrganisationDefined(defined) = event;
        OrganisationState(defined.organisation.clone().unwrap_or_default())
    }
}

impl Aggregate for RoutingState {
    type Event = RoutingEvent;
    const KIND: &'static str = "routing";

    fn evolve(self, event: &RoutingEvent) -> Self {
        let RoutingEvent::RoutingDefined(defined) = event;
        RoutingState(defined.routing.clone().unwrap_or_default())
    }
}

/// Why a definition is not taken.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Rejection {
    #[error("there is no such thing")]
    Missing { kind: &'static str, id: String },
    #[error("there is one already")]
    Exists,
    #[error("somebody else changed it")]
    VersionMoved { expected: u64, actual: u64 },
}

impl From<Rejection> for Refusal {
    fn from(rejection: Rejection) -> Self {
        match rejection {
            Rejection::Missing { kind, id } => reply::not_found(kind, &id),
            Rejection::Exists => {
                let text = "there is one already: name the version that you saw";
                reply::status(Code::AlreadyExists, "EXISTS", text)
            }
            Rejection::VersionMoved { expected, actual } => reply::version_moved(expected, actual),
        }
    }
}

/// Refuses who did not see what there is now; 0 is who makes the first.
pub fn seen(expected: u64, actual: u64) -> Result<(), Rejection> {
    match (expected, actual) {
        (expected, actual) if expected == actual => Ok(()),
        (0, _) => Err(Rejection::Exists),
        (expected, actual) => Err(Rejection::VersionMoved { expected, actual }),
    }
}

/// A category says this from now on.
pub fn define(
    state: &CategoryState,
    version: u64,
    expected: u64,
    category: Category,
) -> Result<Vec<CategoryEvent>, Rejection> {
    seen(expected, version)?;
    if state.category.as_ref() == Some(&category) && !state.retired {
        return Ok(Vec::new());
    }
    Ok(vec![CategoryDefined { category: Some(category) }.into()])
}

/// Nothing new is reported under it.
pub fn retire(
    state: &CategoryState,
    version: u64,
    expected: u64,
    code: &str,
) -> Result<Vec<CategoryEvent>, Rejection> {
    if state.category.is_none() {
        return Err(Rejection::Missing { kind: "category", id: code.to_owned() });
    }
    seen(expected, version)?;
    let code = code.to_owned();
    Ok(if state.retired { Vec::new() } else { vec![CategoryRetired { code }.into()] })
}

/// What a category may say; its department is one of these.
pub fn check_category(check: &mut Check, category: &Category, organisation: &Organisation) {
    let allowed = "must be main/sub: lower-case letters, digits and hyphens, at most 100";
    check.require(is_category(&category.code), "category.code", allowed);
    local(check, "category.name", category.name.as_ref(), 1..=200);
    if category.description.is_some() {
        local(check, "category.description", category.description.as_ref(), 0..=2_000);
    }
    let departments = &organisation.departments;
    let known = category.department.is_empty()
        || departments.iter().any(|department| department.code == category.department);
    check.require(known, "category.department", "must be a department's code, or empty");
    let norm = category.norm.as_ref().is_none_or(|norm| norm::Norm::of(norm).is_some());
    check.require(norm, "category.norm", "must be 1 to 10000 of one of the units, or absent");
    let percent = category.approaching_percent < 100;
    check.require(percent, "category.approaching_percent", "must be 1 to 99, or 0 for 80");
    let reopening = ReopenPolicy::try_from(category.reopening).is_ok();
    check.require(reopening, "category.reopening", "must be one of the contract's values");
    let escalation = EscalationRole::try_from(category.escalation).is_ok();
    check.require(escalation, "category.escalation", "must be one of the contract's values");
    if let Some(HotspotRule { requests, days }) = category.hotspot {
        let holds = (2..=1_000).contains(&requests) && (1..=365).contains(&days);
        let allowed = "must be 2 to 1000 requests within 1 to 365 days";
        check.require(holds, "category.hotspot", allowed);
    }
    few(check, "category.keywords", category.keywords.len(), 100);
    for keyword in category.keywords.iter().take(100) {
        check.text("category.keywords", keyword, 1..=50);
    }
    few(check, "category.standard_texts", category.standard_texts.len(), MAX_FEW);
    for text in category.standard_texts.iter().take(MAX_FEW) {
        check.choice::<Status>("category.standard_texts.status", text.status);
        local(check, "category.standard_texts.title", text.title.as_ref(), 1..=200);
        local(check, "category.standard_texts.text", text.text.as_ref(), 1..=5_000);
    }
    questions(check, &category.questions);
}

fn questions(check: &mut Check, questions: &[Question]) {
    few(check, "category.questions", questions.len(), MAX_FEW);
    let mut codes = BTreeSet::new();
    for question in questions.iter().take(MAX_FEW) {
        let field = "category.questions";
        let code = is_word(&question.code) && codes.insert(&question.code);
        check.require(
            code,
            field,
            "must have codes that differ: lower-case letters, digits, hyphens",
        );
        local(check, "category.questions.text", question.text.as_ref(), 1..=500);
        let kind = check.choice::<QuestionKind>("category.questions.kind", question.kind);
        let choose =
            matches!(kind, Some(QuestionKind::SingleChoice | QuestionKind::MultipleChoice));
        let field = "category.questions.choices";
        let choices = question.choices.len();
        let right = if choose { (1..=100).contains(&choices) } else { choices == 0 };
        check.require(right, field, "must be 1 to 100 for a choice, and none otherwise");
        let mut codes = BTreeSet::new();
        for choice in question.choices.iter().take(100) {
            let code = is_word(&choice.code) && codes.insert(&choice.code);
            check.require(code, field, "must have codes that differ");
            local(check, field, choice.text.as_ref(), 1..=200);
        }
    }
}

/// What an organisation may say.
pub fn check_organisation(check: &mut Check, organisation: &Organisation) {
    let Organisation { departments, teams } = organisation;
    few(check, "organisation.departments", departments.len(), MAX);
    few(check, "organisation.teams", teams.len(), MAX);
    let mut codes = BTreeSet::new();
    for department in departments.iter().take(MAX) {
        let field = "organisation.departments";
        code(check, field, &department.code, &mut codes);
        check.text("organisation.departments.name", &department.name, 1..=200);
        people(check, "organisation.departments.heads", &department.heads);
        let intake = department.intake_team.is_empty()
            || teams.iter().any(|team| team.code == department.intake_team);
        check.require(intake, "organisation.departments.intake_team", "must be a team's code");
    }
    let mut team_codes = BTreeSet::new();
    for team in teams.iter().take(MAX) {
        code(check, "organisation.teams", &team.code, &mut team_codes);
        check.text("organisation.teams.name", &team.name, 1..=200);
        let known = codes.contains(team.department.as_str());
        check.require(known, "organisation.teams.department", "must be a department's code");
        people(check, "organisation.teams.leads", &team.leads);
        people(check, "organisation.teams.members", &team.members);
    }
}

/// What a routing may say: each rule under a name of its own, to somebody that
/// there is.
pub fn check_routing(
    check: &mut Check,
    routing: &Routing,
    organisation: &Organisation,
    is_network: impl Fn(&str) -> bool,
    area: &Area,
) {
    few(check, "routing.rules", routing.rules.len(), MAX);
    let mut names = BTreeSet::new();
    for rule in routing.rules.iter().take(MAX) {
        let named = (1..=100).contains(&rule.name.trim().chars().count());
        let own = named && names.insert(&rule.name);
        check.require(own, "routing.rules.name", "must be 1 to 100 characters, each its own");
        let patterns = rule.categories.iter().all(|code| is_category(code) || is_word(code));
        check.require(patterns, "routing.rules.categories", "must be main/sub, or main");
        for neighbourhood in &rule.neighbourhoods {
            neighbourhood_of(check, area, "routing.rules.neighbourhoods", neighbourhood);
        }
        for urgency in &rule.urgencies {
            check.choice::<Urgency>("routing.rules.urgencies", *urgency);
        }
        for word in &rule.words {
            check.text("routing.rules.words", word, 1..=100);
        }
        let values = [&rule.categories, &rule.neighbourhoods, &rule.words].map(Vec::len);
        few(check, "routing.rules", values.into_iter().sum(), MAX);
        let known = match rule.target.as_ref().and_then(|target| target.target.as_ref()) {
            Some(To::Team(code)) => organisation.teams.iter().any(|team| team.code == *code),
            Some(To::Network(id)) => is_network(id),
            Some(To::Partner(code)) => is_municipality(code),
            None => false,
        };
        let allowed = "must be a team, a network or a municipality that there is";
        check.require(known, "routing.rules.target", allowed);
    }
}

/// A neighbourhood of this municipality; any code where none are configured.
pub fn neighbourhood_of(check: &mut Check, area: &Area, field: &str, code: &str) {
    if area.iter().next().is_none() {
        check.text(field, code, 1..=20);
    } else {
        check.require(area.get(code).is_some(), field, "must be CBS codes of this municipality");
    }
}

/// Whether this can be a category's code: `main/sub`.
pub fn is_category(code: &str) -> bool {
    code.len() <= 100 && code.split_once('/').is_some_and(|(a, b)| is_word(a) && is_word(b))
}

/// Lower-case letters, digits and hyphens.
pub fn is_word(word: &str) -> bool {
    let of = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-';
    (1..=50).contains(&word.len()) && word.bytes().all(of)
}

/// A CBS municipality code: GM and four digits.
pub fn is_municipality(code: &str) -> bool {
    let digits = code.strip_prefix("GM").unwrap_or_default();
    digits.len() == 4 && digits.bytes().all(|b| b.is_ascii_digit())
}

/// Words in both languages.
fn local(
    check: &mut Check,
    field: &str,
    text: Option<&LocalText>,
    length: std::ops::RangeInclusive<usize>,
) {
    let LocalText { nl, en } = text.cloned().unwrap_or_default();
    check.text(&format!("{field}.nl"), &nl, length.clone());
    check.text(&format!("{field}.en"), &en, length);
}

fn code<'a>(check: &mut Check, field: &str, code: &'a str, known: &mut BTreeSet<&'a str>) {
    let own = is_word(code) && known.insert(code);
    let allowed = "must have codes that differ: lower-case letters, digits and hyphens";
    check.require(own, field, allowed);
}

/// Pseudonymous ids, each once.
pub fn people(check: &mut Check, field: &str, ids: &[String]) {
    few(check, field, ids.len(), MAX);
    let mut known = BTreeSet::new();
    for id in ids.iter().take(MAX) {
        let own = (1..=100).contains(&id.len()) && known.insert(id);
        check.require(own, field, "must be people's ids, each once");
    }
}

fn few(check: &mut Check, field: &str, count: usize, most: usize) {
    check.require(count <= most, field, &format!("must be at most {most} values"));
}
