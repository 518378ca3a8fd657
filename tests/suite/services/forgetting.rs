//! Forgetting, through the doors and in the bytes on the disk.
//!
//! - [`gone`]: what is forgotten is found nowhere, and nothing else is touched;
//! - [`kept`]: holds refuse, and come too late for what is being erased;
//! - [`terms`]: terms refuse, and erase by themselves; holds defer them;
//! - [`closed`]: what is closed for long is erased as a whole;
//! - [`steps`]: whatever step a crash interrupts, it is completed, once;
//! - [`put_back`]: a log and keys from before a forgetting revive nobody;
//! - [`given`]: what is held about a person, given to them;
//! - [`named`]: by which names a person can be meant.

mod closed;
mod given;
mod gone;
mod kept;
mod named;
mod put_back;
mod steps;
mod terms;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use prost::Name;
use samen_log::{Location, Log, Record};
use samen_proto::participation as part;
use samen_proto::privacy::privacy_service_client::PrivacyServiceClient;
use samen_proto::privacy::{ContentErased, ForgetPersonRequest, Person, Subject, person};
use samen_proto::requests::request_service_client::RequestServiceClient;
use samen_proto::requests::*;
use samen_tests::deployment::{Authorised, Deployment, Setup};
use samen_tests::eventually;
use sqlx::{AssertSqlSafe, Connection, PgConnection, Row, SqliteConnection};
use tokio_util::sync::CancellationToken;
use tonic::Code;

use super::shared::{SOON, new_id, report};

/// The log of service requests.
const REQUESTS: &str = "gm0384.requests";

/// Who asks on behalf of others.
const OFFICER: &[&str] = &["privacy_officer"];

type Privacy = PrivacyServiceClient<Authorised>;

/// A person as their issuer calls them.
fn subject(deployment: &Deployment, name: &str) -> Option<Person> {
    let issuer = deployment.issuer().to_owned();
    let subject = Subject { issuer, subject: name.to_owned() };
    Some(Person { person: Some(person::Person::Subject(subject)) })
}

fn forget(deployment: &Deployment, name: &str) -> ForgetPersonRequest {
    ForgetPersonRequest {
        request_id: new_id(),
        person: subject(deployment, name),
        ..Default::default()
    }
}

/// A report by somebody with this name.
fn report_by(name: &str, text: &str) -> FileRequestRequest {
    let email = format!("{name}@example.org");
    let reporter = Some(Reporter { name: name.to_owned(), email, phone: String::new() });
    FileRequestRequest { reporter, ..report(text) }
}

/// What an employee writes down for somebody on the phone.
fn phoned(name: &str, text: &str) -> FileRequestRequest {
    FileRequestRequest { channel: Channel::Phone.into(), ..report_by(name, text) }
}

/// What is personal in a request: its text and its reporter's name.
async fn reveal(
    handler: &mut RequestServiceClient<Authorised>,
    id: &str,
) -> (Option<String>, Option<String>) {
    let ask = RevealRequestRequest { id: id.to_owned(), purpose: Purpose::Handling.into() };
    let revealed = eventually(SOON, "the request is there", async || {
        match handler.reveal_request(ask.clone()).await {
            Err(refusal) if refusal.code() == Code::NotFound => None,
            answer => Some(answer.expect("revealed").into_inner()),
        }
    })
    .await;
    (revealed.description.map(|text| text.text), revealed.reporter.map(|reporter| reporter.name))
}

fn is(text: &str, name: &str) -> (Option<String>, Option<String>) {
    (Some(text.to_owned()), Some(name.to_owned()))
}

const NOTHING: (Option<String>, Option<String>) = (None, None);

/// A service's keys as its database has them; `None` for a destroyed one.
async fn keys(deployment: &Deployment, service: &str) -> BTreeMap<String, Option<Vec<u8>>> {
    let sql = |schema: &str| {
        AssertSqlSafe(format!("SELECT id, wrapped FROM {schema}.sealing_key ORDER BY id"))
    };
    match deployment.database() {
        Some(url) => {
            let mut database = PgConnection::connect(url).await.expect("the database");
            let rows = sqlx::query(sql(&format!("{service}_log"))).fetch_all(&mut database).await;
            rows.expect("keys").iter().map(|row| (row.get(0), row.get(1))).collect()
        }
        None => {
            let file = deployment.path(&format!("data/{service}/log.db"));
            let mut database = SqliteConnection::connect(&file).await.expect("the database");
            let rows = sqlx::query(sql("main")).fetch_all(&mut database).await.expect("keys");
            let keys = rows.iter().map(|row| (row.get(0), row.get(1))).collect();
            database.close().await.expect("closed");
            keys
        }
    }
}

/// A service's log, as another process of it would open it. While the service
/// runs, only where it runs on PostgreSQL.
async fn log(deployment: &Deployment, service: &str) -> (Log, CancellationToken) {
    let location = match deployment.database() {
        Some(url) => Location::postgres(url, service, 4).await.expect("the database"),
        None => Location::Folder(deployment.path(&format!("data/{service}")).into()),
    };
    let stop = CancellationToken::new();
    let log = Log::open(&location, &format!("gm0384.{service}"), stop.clone()).await;
    (log.expect("the log"), stop)
}

/// Everything that a service's log holds. Only while nothing runs.
pub async fn records(deployment: &Deployment, service: &str) -> Vec<std::sync::Arc<Record>> {
    let (log, stop) = log(deployment, service).await;
    let records = crate::log::shared::read_all(&log).await;
    crate::log::shared::verify(&log).await;
    stop.cancel();
    records
}

/// Which streams were told, and by how many records each.
fn told(records: &[std::sync::Arc<Record>]) -> BTreeMap<String, usize> {
    let mut told = BTreeMap::new();
    for record in records.iter().filter(|record| record.r#type == ContentErased::full_name()) {
        let stream = record.stream.strip_prefix("erasure/").expect("its own stream");
        *told.entry(stream.to_owned()).or_default() += 1;
    }
    told
}

/// Every file that a suite has written: databases with their write-ahead logs,
/// the exchange, lists.
async fn files(deployment: &mut Deployment) -> Vec<PathBuf> {
    let mut found = Vec::new();
    let own = PathBuf::from(deployment.path(""));
    collect(&own, &mut found);
    if deployment.setup == Setup::Separate {
        let nats = deployment.nats().store();
        collect(&nats, &mut found);
        let url = deployment.database().expect("its database").to_owned();
        let mut database = PgConnection::connect(&url).await.expect("the database");
        sqlx::raw_sql("CHECKPOINT").execute(&mut database).await.expect("a superuser");
        let (folder, oid): (String, i64) = sqlx::query_as(
            "SELECT current_setting('data_directory'), oid::bigint FROM pg_database
             WHERE datname = current_database()",
        )
        .fetch_one(&mut database)
        .await
        .expect("settings");
        let folder = PathBuf::from(folder);
        collect(&folder.join(format!("base/{oid}")), &mut found);
        collect(&folder.join("pg_wal"), &mut found);
    }
    found
}

fn collect(folder: &Path, found: &mut Vec<PathBuf>) {
    for entry in std::fs::read_dir(folder).expect("a folder").flatten() {
        if entry.path().is_dir() {
            collect(&entry.path(), found);
        } else {
            found.push(entry.path());
        }
    }
}

/// The files in which these bytes stand somewhere.
fn with_bytes(files: &[PathBuf], bytes: &[u8]) -> Vec<PathBuf> {
    let holds = |file: &PathBuf| {
        // One that the database has removed meanwhile holds nothing.
        let content = std::fs::read(file).unwrap_or_default();
        content.windows(bytes.len()).any(|window| window == bytes)
    };
    files.iter().filter(|file| holds(file)).cloned().collect()
}

/// An idea for a process that asks people; gives its id.
async fn contribute(deployment: &Deployment, name: &str, process: &str, text: &str) -> String {
    let mut resident = deployment.participation(name, &["resident"]).await;
    let submit = super::participation::contribute(process, text);
    let submitted = resident.submit_contribution(submit).await.expect("submitted");
    submitted.into_inner().id
}

/// The texts of a process, by contribution, for somebody who has seen this.
async fn texts(
    deployment: &Deployment,
    process: &str,
    at_least: Option<samen_proto::log::Position>,
) -> BTreeMap<String, String> {
    let mut reader = deployment.participation("reader", &["resident"]).await;
    let process_id = process.to_owned();
    let ask = part::ListContributionsRequest { process_id, at_least, ..Default::default() };
    let list = reader.list_contributions(ask).await.expect("a list").into_inner();
    list.contributions.into_iter().map(|c| (c.id, c.text)).collect()
}
