//! A log and keys from before a forgetting revive nobody; nor does a replica
//! that still remembers.

use std::fs;
use std::process::Command;
use std::time::Duration;

use prost::Message;
use samen_proto::privacy::{ErasureReason, RedactTextRequest};
use samen_proto::requests::RequestFilter;
use samen_tests::deployment::{Deployment, Setup};
use samen_tests::process::run;
use samen_tests::samen::samen;

use super::super::in_both_setups;
use super::super::shared::{all, new_id};
use super::*;

in_both_setups!(
    files_and_tables_from_before_a_forgetting_revive_nobody,
    a_backup_from_before_a_forgetting_revives_nobody_and_tells_again,
    a_lost_list_is_told_and_nothing_is_answered,
);

/// A person, somebody else, and who reads them.
struct Filed {
    deployment: Deployment,
    gone: String,
    kept: String,
    redacted: String,
}

async fn filed(setup: Setup) -> Filed {
    let deployment = Deployment::start(setup).await;
    let mut zoe = deployment.requests("zoe", &["resident"]).await;
    let mut other = deployment.requests("other", &["resident"]).await;
    let mut handler = deployment.requests("h", &["handler"]).await;
    let gone = zoe.file_request(report_by("Zoe", "Weg")).await.expect("filed").into_inner();
    let kept = other.file_request(report_by("Anders", "Blijft")).await.expect("filed").into_inner();
    let redacted = handler.file_request(phoned("Beller", "Gelakt")).await.expect("filed");
    let redacted = redacted.into_inner().id;
    assert_eq!(reveal(&mut handler, &redacted).await, is("Gelakt", "Beller"));
    Filed { deployment, gone: gone.id, kept: kept.id, redacted }
}

impl Filed {
    async fn erase(&self) {
        let mut officer = self.deployment.requests_privacy("officer", OFFICER).await;
        officer.forget_person(forget(&self.deployment, "zoe")).await.expect("forgotten");
        let stream = format!("request/{}", self.redacted);
        let redact = RedactTextRequest { request_id: new_id(), stream, ..Default::default() };
        officer.redact_text(redact).await.expect("redacted");
    }

    /// What is gone is gone, and the rest is there.
    async fn check(&self) {
        let mut handler = self.deployment.requests("h", &["handler"]).await;
        let listed = all(&mut handler, RequestFilter::default()).await;
        for id in [&self.gone, &self.kept, &self.redacted] {
            assert!(listed.iter().any(|request| request.id == *id), "{id} is not listed");
        }
        assert_eq!(reveal(&mut handler, &self.gone).await, NOTHING);
        assert_eq!(reveal(&mut handler, &self.redacted).await, NOTHING);
        assert_eq!(reveal(&mut handler, &self.kept).await, is("Blijft", "Anders"));
        let mut zoe = self.deployment.requests("zoe", &["resident"]).await;
        let answer = zoe.file_request(report_by("Zoe", "Weer")).await;
        assert_eq!(answer.expect_err("forgotten").code(), Code::FailedPrecondition);
    }

    /// Both were told once, as restored.
    async fn told_as_restored(&self) {
        let records = records(&self.deployment, "requests").await;
        let told = told(&records);
        for id in [&self.gone, &self.redacted] {
            assert_eq!(told.get(&format!("request/{id}")), Some(&1), "{told:?}");
        }
        assert_eq!(told.get(&format!("request/{}", self.kept)), None);
        let erased = records.iter().filter(|r| r.r#type == ContentErased::full_name());
        for record in erased {
            let erased = ContentErased::decode(record.data.as_slice()).expect("an event");
            assert_eq!(erased.reason(), ErasureReason::Restored);
        }
    }
}

/// A copy of the log of service requests, put back later.
enum Copy {
    Files(Vec<(PathBuf, Vec<u8>)>),
    Schemas { url: String },
}

impl Copy {
    /// Only while nothing runs.
    async fn of(deployment: &Deployment) -> Self {
        match deployment.database() {
            None => {
                let mut files = Vec::new();
                collect(Path::new(&deployment.path("data/requests")), &mut files);
                let copies = files.into_iter().map(|file| {
                    let bytes = fs::read(&file).expect("it is there");
                    (file, bytes)
                });
                Copy::Files(copies.collect())
            }
            Some(url) => {
                let url = url.to_owned();
                sql(&url, "ALTER SCHEMA requests_log RENAME TO saved").await;
                copy_schema(&url, "saved", "requests_log").await;
                Copy::Schemas { url }
            }
        }
    }

    async fn put_back(&self, deployment: &Deployment) {
        match self {
            Copy::Files(files) => {
                let folder = deployment.path("data/requests");
                fs::remove_dir_all(&folder).expect("its data");
                fs::create_dir(&folder).expect("its folder");
                for (file, bytes) in files {
                    fs::write(file, bytes).expect("written");
                }
            }
            Copy::Schemas { url } => {
                sql(url, "DROP SCHEMA requests_log CASCADE").await;
                sql(url, "ALTER SCHEMA saved RENAME TO requests_log").await;
                deployment.forget_projections().await;
            }
        }
    }
}

async fn sql(url: &str, text: &str) {
    let mut database = PgConnection::connect(url).await.expect("the database");
    sqlx::raw_sql(AssertSqlSafe(text.to_owned())).execute(&mut database).await.expect(text);
}

/// The tables of a schema with their rows and indexes, in another.
async fn copy_schema(url: &str, from: &str, to: &str) {
    sql(url, &format!("CREATE SCHEMA {to}")).await;
    for table in ["head", "record", "command", "sealing_key"] {
        let copy = format!(
            "CREATE TABLE {to}.{table} (LIKE {from}.{table} INCLUDING ALL);
             INSERT INTO {to}.{table} SELECT * FROM {from}.{table}"
        );
        sql(url, &copy).await;
    }
}

async fn files_and_tables_from_before_a_forgetting_revive_nobody(setup: Setup) {
    let mut filed = filed(setup).await;
    filed.deployment.stop().await;
    let copy = Copy::of(&filed.deployment).await;
    filed.deployment.restart().await;
    filed.erase().await;
    filed.check().await;
    filed.deployment.stop().await;

    copy.put_back(&filed.deployment).await;
    // The keys are back, in the database.
    let reporter = format!("reporter/{}", filed.gone);
    assert!(keys(&filed.deployment, "requests").await[&reporter].is_some());
    filed.deployment.restart().await;
    filed.check().await;
    assert!(keys(&filed.deployment, "requests").await[&reporter].is_none());
    // Twice does nothing more.
    filed.deployment.stop().await;
    filed.deployment.restart().await;
    filed.check().await;
    filed.deployment.stop().await;
    filed.told_as_restored().await;
}

async fn done(command: Command) {
    let (status, output) = run(command, SOON).await;
    assert!(status.success(), "{output}");
}

async fn a_backup_from_before_a_forgetting_revives_nobody_and_tells_again(setup: Setup) {
    let mut filed = filed(setup).await;
    let folder = samen_tests::scratch::folder("backup-");
    let backup = folder.path().join("backup").display().to_string();
    done(filed.deployment.operator(["backup", &backup])).await;
    filed.erase().await;
    filed.deployment.stop().await;
    filed.deployment.lose_logs().await;
    let mut restore = filed.deployment.operator(["restore", &backup]);
    if setup == Setup::Separate {
        restore.env("SAMEN_DESTROYED_KEYS", filed.deployment.path("destroyed"));
    }
    done(restore).await;
    // The restore has destroyed them already: that the log does not say so is
    // what the service finds, in its new epoch.
    let reporter = format!("reporter/{}", filed.gone);
    assert!(keys(&filed.deployment, "requests").await[&reporter].is_none());
    for _ in 0..2 {
        filed.deployment.restart().await;
        filed.check().await;
        filed.deployment.stop().await;
    }
    filed.told_as_restored().await;
}

async fn a_lost_list_is_told_and_nothing_is_answered(setup: Setup) {
    let mut filed = filed(setup).await;
    let list = filed.deployment.path(match setup {
        Setup::AllInOne => "data/keys/destroyed",
        Setup::Separate => "destroyed",
    });
    filed.erase().await;

    // Lost while they run: it is not begun again, and nothing is destroyed
    // until it is back.
    let mut handler = filed.deployment.requests("h", &["handler"]).await;
    let mut other = filed.deployment.requests("later", &["resident"]).await;
    let later = other.file_request(report_by("Later", "Nog niet")).await.expect("filed");
    let later = later.into_inner().id;
    let away = format!("{list}.away");
    fs::rename(&list, &away).expect("lost");
    let mut mine = filed.deployment.requests_privacy("later", &["resident"]).await;
    let me = ForgetPersonRequest { request_id: new_id(), ..Default::default() };
    let asked = tokio::spawn(async move { mine.forget_person(me).await });
    eventually(SOON, "it is told", async || {
        let said = filed.deployment.requests_process().output();
        said.contains("an erasure is not carried out yet").then_some(())
    })
    .await;
    assert_eq!(reveal(&mut handler, &later).await, is("Nog niet", "Later"));
    assert!(!Path::new(&list).exists());
    fs::rename(&away, &list).expect("put back");
    let done = asked.await.expect("an answer").expect("forgotten").into_inner();
    assert_eq!((done.keys, reveal(&mut handler, &later).await), (2, NOTHING));

    // And lost before they start again: none answers, also where another has
    // begun a new list.
    filed.deployment.stop().await;
    let kept = fs::read(&list).expect("it was made");
    fs::remove_file(&list).expect("lost");
    filed.deployment.restart_without_waiting().await;
    let process = filed.deployment.requests_process();
    assert!(!process.ended(SOON).await.success());
    let said = process.output();
    assert!(said.contains("destroyed is missing") && said.contains("put it back"), "{said}");
    filed.deployment.kill();
    fs::write(&list, kept).expect("put back");
    filed.deployment.restart().await;
    filed.check().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_replica_that_has_read_it_cannot_read_it_again() {
    let mut deployment = Deployment::start(Setup::Separate).await;
    let port = deployment.replica("service-requests").await;
    let mut zoe = deployment.requests("zoe", &["resident"]).await;
    let mut here = deployment.requests("h", &["handler"]).await;
    let mut there = deployment.requests_at(port, "h", &["handler"]).await;
    let mut zoe_there = deployment.requests_at(port, "zoe", &["resident"]).await;
    let mut mine = deployment.requests_privacy("zoe", &["resident"]).await;
    let filed = zoe.file_request(report_by("Zoe", "Weg")).await.expect("filed").into_inner();
    // Warm in both.
    let also = zoe_there.file_request(report_by("Zoe", "Ook weg")).await.expect("filed");
    for id in [&filed.id, &also.get_ref().id] {
        reveal(&mut here, id).await;
        reveal(&mut there, id).await;
    }
    let forget = ForgetPersonRequest { request_id: new_id(), ..Default::default() };
    mine.forget_person(forget).await.expect("forgotten");
    // At once, without anything to wait for.
    for id in [&filed.id, &also.get_ref().id] {
        assert_eq!(reveal(&mut there, id).await, NOTHING);
    }
    eventually(Duration::from_secs(10), "the replica does not take them either", async || {
        zoe_there.file_request(report_by("Zoe", "Weer")).await.err()
    })
    .await;
}

#[tokio::test]
async fn a_list_that_cannot_be_read_is_told_in_one_line() {
    let folder = samen_tests::scratch::folder("list-");
    let list = folder.path().join("keys/destroyed");
    fs::create_dir_all(list.parent().expect("a folder")).expect("made");
    fs::write(&list, "gm0384.requests text/1\n").expect("written");
    let data = folder.path().display().to_string();
    let (status, output) = run(samen(["up", "--data", &data]), SOON).await;
    assert_eq!(status.code(), Some(2), "{output}");
    assert_eq!(output.lines().count(), 1, "{output}");
    assert!(output.contains("SAMEN_DESTROYED_KEYS") && output.contains("line 1"), "{output}");
}
