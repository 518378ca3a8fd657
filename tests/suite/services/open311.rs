//! The door for apps and sites of others: Open311 GeoReport v2 over HTTP.
//!
//! - [`catalogue`]: where it is, and what can be reported;
//! - [`post`]: reports, as apps send them;
//! - [`lists`]: what was reported, by filter;
//! - [`client`]: read by a client that is not ours.

mod catalogue;
mod client;
mod lists;
mod post;

use samen_proto::requests::*;
use samen_tests::deployment::{Deployment, Setup};
use samen_tests::web;
use serde_json::Value;
use sha2::{Digest, Sha256};
use tempfile::TempDir;

use super::shared::new_id;

/// The key of an app with quotas that no test uses up, and of one with three
/// reports a minute.
const KEY: &str = "an-apps-own-key";
const SMALL_KEY: &str = "a-key-for-little";

/// Three services, of which one is not public.
const CATALOGUE: &str = r#"{
  "organisation": {"departments": [{"code": "or", "name": "Openbare ruimte"}]},
  "categories": [
    {"code": "verlichting/lamp", "name": {"nl": "Lamp & <mast>", "en": "Lamp"},
     "description": {"nl": "Een lamp is stuk", "en": "A lamp is broken"},
     "department": "or", "public": true, "keywords": ["lantaarn", "donker"],
     "norm": {"amount": 5, "unit": "NORM_UNIT_WORKING_DAYS"},
     "questions": [
       {"code": "mast", "text": {"nl": "Mast?", "en": "Mast?"}, "kind": "QUESTION_KIND_TEXT"},
       {"code": "aantal", "text": {"nl": "Hoeveel?", "en": "How many?"}, "required": true,
        "kind": "QUESTION_KIND_SINGLE_CHOICE", "choices": [
          {"code": "een", "text": {"nl": "Een", "en": "One"}},
          {"code": "meer", "text": {"nl": "Meer", "en": "More"}}]},
       {"code": "wanneer", "text": {"nl": "Wanneer?", "en": "When?"},
        "kind": "QUESTION_KIND_MULTIPLE_CHOICE", "choices": [
          {"code": "dag", "text": {"nl": "Dag", "en": "Day"}},
          {"code": "nacht", "text": {"nl": "Nacht", "en": "Night"}}]},
       {"code": "hoog", "text": {"nl": "Hoogte?", "en": "Height?"}, "kind": "QUESTION_KIND_NUMBER"},
       {"code": "sinds", "text": {"nl": "Sinds?", "en": "Since?"}, "kind": "QUESTION_KIND_DATE"}
     ]},
    {"code": "groen-en-water/boom", "name": {"nl": "Boom", "en": "Tree"}, "public": true},
    {"code": "zorg/iemand", "name": {"nl": "Zorg om iemand", "en": "Concern"}}
  ]
}"#;

/// What the door answers.
struct Answer {
    status: u16,
    /// In small letters.
    head: String,
    body: String,
}

impl Answer {
    fn of(answer: &str) -> Self {
        let (head, body) = answer.split_once("\r\n\r\n").expect("a head");
        let status = head.split(' ').nth(1).and_then(|code| code.parse().ok());
        let status = status.unwrap_or_else(|| panic!("no status in {head}"));
        Answer { status, head: head.to_lowercase(), body: body.to_owned() }
    }

    fn json(&self) -> Value {
        let kind = "content-type: application/json; charset=utf-8";
        assert!(self.head.contains(kind), "{}", self.head);
        serde_json::from_str(&self.body).unwrap_or_else(|e| panic!("{e} in {}", self.body))
    }

    fn xml(&self) -> &str {
        let kind = "content-type: text/xml; charset=utf-8";
        assert!(self.head.contains(kind), "{}", self.head);
        let declared = "<?xml version=\"1.0\" encoding=\"utf-8\"?>";
        let root = self.body.strip_prefix(declared);
        let root = root.unwrap_or_else(|| panic!("{}", self.body));
        assert!(!root.contains("xmlns"), "{root}");
        root
    }

    /// The items of an array.
    fn items(&self) -> Vec<Value> {
        assert_eq!(self.status, 200, "{}", self.body);
        self.json().as_array().cloned().unwrap_or_else(|| panic!("{}", self.body))
    }

    /// Checks an error in JSON, of which every description begins so.
    fn refused(&self, status: u16, beginnings: &[&str]) {
        assert_eq!(self.status, status, "{}", self.body);
        let errors = self.json();
        let errors = errors.as_array().unwrap_or_else(|| panic!("{}", self.body));
        assert_eq!(errors.len(), beginnings.len(), "{}", self.body);
        for (error, beginning) in errors.iter().zip(beginnings) {
            assert_eq!(error["code"], status, "{}", self.body);
            let description = error["description"].as_str().unwrap_or_default();
            assert!(description.starts_with(beginning), "{beginning}: {}", self.body);
        }
    }
}

/// A deployment with this catalogue and these keys. The folder is its
/// operator's.
async fn start(setup: Setup) -> (Deployment, TempDir) {
    let folder = tempfile::tempdir().expect("a folder");
    let write = |name: &str, content: &str| {
        let path = folder.path().join(name);
        std::fs::write(&path, content).expect("written");
        path.to_str().expect("a path in UTF-8").to_owned()
    };
    let hash = |key: &str| -> String {
        Sha256::digest(key).iter().map(|byte| format!("{byte:02x}")).collect()
    };
    let settings = format!(
        r#"{{"url": "https://meldingen.example.nl/open311/v2", "contact": "open311@example.nl",
             "key_service": "https://example.nl/sleutel", "type": "test", "keys": [
             {{"name": "an-app", "sha256": "{}", "per_minute": 1000, "per_day": 10000}},
             {{"name": "another", "sha256": "{}", "per_minute": 3, "per_day": 100}}]}}"#,
        hash(KEY),
        hash(SMALL_KEY)
    );
    let (settings, catalogue) = (write("open311.json", &settings), write("c.json", CATALOGUE));
    let photos = folder.path().join("photos").to_str().expect("UTF-8").to_owned();
    let variables = [
        ("SAMEN_OPEN311", settings.as_str()),
        ("SAMEN_CATALOGUE", &catalogue),
        ("SAMEN_PHOTOS", &photos),
    ];
    (Deployment::start_with(setup, &variables).await, folder)
}

/// What is at this address, which is as it goes over the line.
async fn get(deployment: &Deployment, path: &str) -> Answer {
    let path = format!("/open311/v2/{path}");
    Answer::of(&web::get(&deployment.reports_address(), &path).await.expect("an answer"))
}

/// Sends a form, as an app does.
async fn post(deployment: &Deployment, path: &str, fields: &[(&str, &str)]) -> Answer {
    let path = format!("/open311/v2/{path}");
    Answer::of(&web::post(&deployment.reports_address(), &path, fields).await.expect("an answer"))
}

/// A request of the past.
fn past(category: &str, created: &str, closed: Option<&str>) -> ImportRequestRequest {
    let moment = |text: &str| {
        let at: jiff::Timestamp = text.parse().expect("a moment");
        prost_types::Timestamp { seconds: at.as_second(), nanos: at.subsec_nanosecond() }
    };
    ImportRequestRequest {
        request_id: new_id(),
        source: "elders".to_owned(),
        source_number: new_id(),
        category: category.to_owned(),
        location: Some(super::shared::BUYTENSTEE),
        channel: Channel::Phone.into(),
        create_time: Some(moment(created)),
        close_time: closed.map(moment),
        description: "Zoë woont op nummer 7".to_owned(),
    }
}

/// Brings it in, until everybody may see it; gives its number.
async fn import(
    deployment: &Deployment,
    category: &str,
    created: &str,
    closed: Option<&str>,
) -> String {
    let mut importer = deployment.requests("i", &["importer"]).await;
    let command = past(category, created, closed);
    let done = importer.import_request(command).await.expect("imported").into_inner();
    see(deployment, &done).await;
    done.number.to_string()
}

async fn see(deployment: &Deployment, imported: &ImportRequestResponse) {
    let ImportRequestResponse { id, position, .. } = imported.clone();
    let mut handler = deployment.requests("h", &["handler"]).await;
    let see = GetRequestRequest { id, at_least: position };
    handler.get_request(see).await.expect("it is visible");
}

/// The numbers in an answer, as they come.
fn numbers(answer: &Answer) -> Vec<String> {
    let number = |item: &Value| item["service_request_id"].as_str().unwrap_or("?").to_owned();
    answer.items().iter().map(number).collect()
}
