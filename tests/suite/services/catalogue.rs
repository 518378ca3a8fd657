//! The catalogue, the organisation and the routing: what may be said, and what
//! a report makes of it.

use std::collections::BTreeSet;

use samen_proto::requests::catalogue_service_client::CatalogueServiceClient;
use samen_proto::requests::target::Target as To;
use samen_proto::requests::*;
use samen_tests::deployment::{Authorised, Deployment, Setup};
use tonic::Code;

use super::in_both_setups;
use super::shared::{new_id, refused, report};

in_both_setups!(
    what_ships_is_there_once_and_asks_what_it_should,
    what_is_wrong_with_a_definition_is_named_and_changes_nothing,
    nothing_new_is_reported_under_what_was_retired,
    a_report_goes_to_whom_the_first_rule_says,
);

type Catalogue = CatalogueServiceClient<Authorised>;

async fn administrator(deployment: &Deployment) -> Catalogue {
    CatalogueServiceClient::new(deployment.at_requests("beheer", &["administrator"]).await)
}

fn words(text: &str) -> Option<LocalText> {
    Some(LocalText { nl: text.to_owned(), en: text.to_owned() })
}

fn category(code: &str) -> Category {
    Category { code: code.to_owned(), name: words(code), ..Category::default() }
}

fn define(category: Category, expected_version: u64) -> DefineCategoryRequest {
    DefineCategoryRequest { request_id: new_id(), expected_version, category: Some(category) }
}

async fn what_ships_is_there_once_and_asks_what_it_should(setup: Setup) {
    let mut deployment = Deployment::start_with(setup, &[("SAMEN_CATALOGUE", "shipped")]).await;
    let mut catalogue = administrator(&deployment).await;
    let list = ListCategoriesRequest::default();
    let before = catalogue.list_categories(list.clone()).await.expect("a list").into_inner();
    assert!(before.categories.len() >= 60, "{}", before.categories.len());
    deployment.stop().await;
    deployment.restart().await;
    let mut catalogue = administrator(&deployment).await;
    let after = catalogue.list_categories(list).await.expect("a list").into_inner();
    assert_eq!(after, before);

    let mut resident = deployment.requests("r", &["resident"]).await;
    let asks = report("De lamp is uit");
    let fields =
        refused(resident.file_request(asks.clone()).await, Code::InvalidArgument, "INVALID_FIELD");
    assert_eq!(fields, ["answers.aantal"]);
    let answer = |question: &str, value: &str| Answer {
        question: question.to_owned(),
        values: vec![value.to_owned()],
    };
    for (field, answers) in [
        ("answers.aantal", vec![answer("aantal", "honderd")]),
        ("answers.aantal", vec![answer("aantal", "een"), answer("aantal", "meer")]),
        ("answers.question", vec![answer("aantal", "een"), answer("kleur", "geel")]),
    ] {
        let asks = FileRequestRequest { answers, ..asks.clone() };
        let fields =
            refused(resident.file_request(asks).await, Code::InvalidArgument, "INVALID_FIELD");
        assert_eq!(fields, [field]);
    }
    let answers = vec![answer("aantal", "een"), answer("mast", "D-12")];
    let filed = resident.file_request(FileRequestRequest { answers, ..asks }).await;
    let filed = filed.expect("filed").into_inner();
    assert!(filed.due_time.is_some());

    let mut handler = deployment.requests("h", &["handler"]).await;
    let get = GetRequestRequest { id: filed.id.clone(), at_least: filed.position };
    let request = handler.get_request(get).await.expect("seen").into_inner().request;
    let request = request.expect("a request");
    assert_eq!(request.handling.as_ref().expect("staff see it").team, "wijkbeheer");
    assert_eq!((request.norm_state(), request.due_time), (NormState::Within, filed.due_time));
    let reveal = RevealRequestRequest { id: filed.id, purpose: Purpose::Handling.into() };
    let revealed = handler.reveal_request(reveal).await.expect("revealed").into_inner();
    let answers = revealed.answers.expect("answers").answers;
    assert_eq!(answers[1].values, ["D-12"]);
}

async fn what_is_wrong_with_a_definition_is_named_and_changes_nothing(setup: Setup) {
    let deployment = Deployment::start(setup).await;
    let mut catalogue = administrator(&deployment).await;
    let list = ListCategoriesRequest::default();
    let before = catalogue.list_categories(list.clone()).await.expect("a list").into_inner();
    let norm = |amount, unit: NormUnit| Some(Norm { amount, unit: unit.into() });
    let question = |kind: QuestionKind, choices| Question {
        code: "wat".into(),
        text: words("Wat?"),
        kind: kind.into(),
        choices,
        ..Question::default()
    };
    let good = category("afval/glas");
    for (field, category) in [
        ("category.code", category("Afval/Glas")),
        ("category.code", category("afval")),
        ("category.name.nl", Category { name: None, ..good.clone() }),
        ("category.department", Category { department: "geen".into(), ..good.clone() }),
        ("category.norm", Category { norm: norm(0, NormUnit::WorkingDays), ..good.clone() }),
        ("category.norm", Category { norm: norm(1, NormUnit::Unspecified), ..good.clone() }),
        ("category.approaching_percent", Category { approaching_percent: 100, ..good.clone() }),
        (
            "category.questions.choices",
            Category {
                questions: vec![question(QuestionKind::SingleChoice, Vec::new())],
                ..good.clone()
            },
        ),
        (
            "category.questions",
            Category {
                questions: vec![
                    question(QuestionKind::Text, Vec::new()),
                    question(QuestionKind::Text, Vec::new()),
                ],
                ..good.clone()
            },
        ),
        (
            "category.hotspot",
            Category { hotspot: Some(HotspotRule { requests: 1, days: 1 }), ..good.clone() },
        ),
    ] {
        let refusal = catalogue.define_category(define(category, 0)).await;
        let fields = refused(refusal, Code::InvalidArgument, "INVALID_FIELD");
        assert_eq!(fields[0], field);
    }
    let after = catalogue.list_categories(list).await.expect("a list").into_inner();
    assert_eq!(after, before);

    // Two administrators never overwrite each other.
    catalogue.define_category(define(good.clone(), 0)).await.expect("defined");
    let again = catalogue.define_category(define(category("afval/glas"), 0)).await;
    refused(again, Code::AlreadyExists, "EXISTS");
    let named = Category { name: words("Glas"), ..good.clone() };
    catalogue.define_category(define(named, 1)).await.expect("changed");
    let late = Category { name: words("Glasbak"), ..good };
    refused(catalogue.define_category(define(late, 1)).await, Code::Aborted, "VERSION_MOVED");

    let teams = |codes: &[&str]| {
        let team = |code: &&str| Team {
            code: (*code).to_owned(),
            department: "groen".into(),
            name: "Team".into(),
            ..Team::default()
        };
        Organisation {
            departments: vec![Department {
                code: "groen".into(),
                name: "Groen".into(),
                ..Department::default()
            }],
            teams: codes.iter().map(team).collect(),
        }
    };
    let organise = |organisation, expected_version| DefineOrganisationRequest {
        request_id: new_id(),
        expected_version,
        organisation: Some(organisation),
    };
    let twice = catalogue.define_organisation(organise(teams(&["a", "a"]), 0)).await;
    let fields = refused(twice, Code::InvalidArgument, "INVALID_FIELD");
    assert_eq!(fields, ["organisation.teams"]);
    catalogue.define_organisation(organise(teams(&["a", "b"]), 0)).await.expect("defined");
    let rule = |target| RoutingRule {
        name: "alles".into(),
        target: Some(Target { target: Some(target) }),
        ..RoutingRule::default()
    };
    let route = |target, expected_version| DefineRoutingRequest {
        request_id: new_id(),
        expected_version,
        routing: Some(Routing { rules: vec![rule(target)] }),
    };
    for target in [To::Team("c".into()), To::Network(new_id()), To::Partner("0384".into())] {
        let refusal = catalogue.define_routing(route(target, 0)).await;
        let fields = refused(refusal, Code::InvalidArgument, "INVALID_FIELD");
        assert_eq!(fields, ["routing.rules.target"]);
    }
    catalogue.define_routing(route(To::Team("b".into()), 0)).await.expect("defined");
    // What a rule leads to stays.
    let without = catalogue.define_organisation(organise(teams(&["a"]), 1)).await;
    let fields = refused(without, Code::InvalidArgument, "INVALID_FIELD");
    assert_eq!(fields, ["organisation.teams"]);
}

async fn nothing_new_is_reported_under_what_was_retired(setup: Setup) {
    let deployment = Deployment::start(setup).await;
    let mut catalogue = administrator(&deployment).await;
    let mut resident = deployment.requests("r", &["resident"]).await;
    let filed = resident.file_request(report("Lamp")).await.expect("filed").into_inner();
    let retire = RetireCategoryRequest {
        request_id: new_id(),
        code: "verlichting/lamp".into(),
        expected_version: 1,
    };
    catalogue.retire_category(retire).await.expect("retired");
    let fields = refused(
        resident.file_request(report("Lamp")).await,
        Code::InvalidArgument,
        "INVALID_FIELD",
    );
    assert_eq!(fields, ["category"]);
    // What was stays, and its code is still told.
    let get = GetRequestRequest { id: filed.id, at_least: filed.position };
    let request = resident.get_request(get).await.expect("seen").into_inner().request;
    assert_eq!(request.expect("a request").category, "verlichting/lamp");
    let listed = |retired| ListCategoriesRequest { retired, at_least: None };
    let codes = |list: ListCategoriesResponse| {
        let codes = list.categories.into_iter().filter_map(|view| view.category);
        codes.map(|category| category.code).collect::<BTreeSet<_>>()
    };
    let now = codes(catalogue.list_categories(listed(false)).await.expect("a list").into_inner());
    let all = codes(catalogue.list_categories(listed(true)).await.expect("a list").into_inner());
    let gone: Vec<_> = all.difference(&now).collect();
    assert_eq!(gone, ["verlichting/lamp"]);
    // Defined again, it is back.
    catalogue.define_category(define(category("verlichting/lamp"), 2)).await.expect("defined");
    resident.file_request(report("Lamp")).await.expect("filed");
}

async fn a_report_goes_to_whom_the_first_rule_says(setup: Setup) {
    let deployment = Deployment::start_with(setup, &[("SAMEN_CATALOGUE", "shipped")]).await;
    let mut catalogue = administrator(&deployment).await;
    let rule = |name: &str, team: &str| RoutingRule {
        name: name.into(),
        target: Some(Target { target: Some(To::Team(team.into())) }),
        ..RoutingRule::default()
    };
    let routing = Routing {
        rules: vec![
            RoutingRule { words: vec!["school".into()], ..rule("school", "verkeer") },
            RoutingRule {
                categories: vec!["afval".into()],
                neighbourhoods: vec!["BU03840101".into()],
                ..rule("noord", "groenbeheer")
            },
        ],
    };
    let routing =
        DefineRoutingRequest { request_id: new_id(), expected_version: 1, routing: Some(routing) };
    catalogue.define_routing(routing).await.expect("defined");
    let mut resident = deployment.requests("r", &["resident"]).await;
    let mut handler = deployment.requests("h", &["handler"]).await;
    let elsewhere = Some(Location { latitude: 52.3396, longitude: 4.9619 });
    let bulky =
        |text: &str| FileRequestRequest { category: "afval/grofvuil".into(), ..report(text) };
    for (asks, team, rule) in [
        (bulky("Bank bij de SCHOOL."), "verkeer", "school"),
        (bulky("Bank bij de scholengemeenschap"), "groenbeheer", "noord"),
        (FileRequestRequest { location: elsewhere, ..bulky("Bank") }, "wijkbeheer", ""),
    ] {
        let filed = resident.file_request(asks).await.expect("filed").into_inner();
        let get = GetRequestRequest { id: filed.id, at_least: filed.position };
        let request = handler.get_request(get).await.expect("seen").into_inner().request;
        let handling = request.and_then(|request| request.handling).expect("staff see it");
        assert_eq!((handling.team.as_str(), handling.rule.as_str()), (team, rule));
    }
}
