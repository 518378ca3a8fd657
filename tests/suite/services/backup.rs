//! Backup and restore as an operator does them, of a suite at work, within a
//! database and across.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::Command;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use prost::Message;
use samen_log::{Append, Location, Log, NewEvent, on_db};
use samen_proto::participation::{self, ListContributionsRequest, SubmitContributionRequest};
use samen_proto::requests::{
    FileRequestRequest, FileRequestResponse, GetRequestRequest, Purpose, RequestFiled,
    RequestFilter, RevealRequestRequest, WatchRequestsRequest,
};
use samen_tests::deployment::{Deployment, Setup};
use samen_tests::process::run;
use samen_tests::samen::samen;
use samen_tests::{CATALOGUE_RECORDS, Process, eventually, postgres, scratch};
use sqlx::Row;
use tempfile::TempDir;
use tokio_util::sync::CancellationToken;
use tonic::Code;

use super::in_both_setups;
use super::participation::{contribute, published};
use super::shared::{SOON, all, new_id, refused, report};

in_both_setups!(
    what_burns_down_is_restored_in_its_place,
    data_moves_to_the_other_database,
    a_backup_or_restore_that_is_killed_is_begun_again,
    what_cannot_be_restored_is_refused_in_one_line,
    nothing_is_restored_under_services_that_run,
);

/// What the all-in-one's issuer is called: its people are the same people to
/// services apart that trust an issuer of this name.
const ISSUER: &str = "samen-trial";
const LOG: &str = "gm0384.requests";

/// Runs a command to its end; gives its exit code and what it printed.
async fn done(command: Command) -> (i32, String) {
    let (status, output) = run(command, SOON).await;
    (status.code().expect("it ends by itself"), output)
}

async fn succeeds(command: Command) -> String {
    let (code, output) = done(command).await;
    assert_eq!(code, 0, "{output}");
    output
}

/// The command fails, and says why in one line.
async fn fails(command: Command, code: i32, why: &str) {
    let (found, output) = done(command).await;
    assert!(found == code && output.contains(why), "not {code} with {why:?}: {found}\n{output}");
    assert_eq!(output.lines().count(), 1, "{output}");
}

/// A suite with things in it, and what was said about them.
struct Lived {
    deployment: Deployment,
    filed: Vec<(FileRequestRequest, FileRequestResponse)>,
    process: String,
    contribution: SubmitContributionRequest,
    contributed: participation::SubmitContributionResponse,
    contributions: Vec<participation::Contribution>,
    /// Acknowledged after the backup was made, and so not in it.
    lost: FileRequestResponse,
    /// A request whose description was destroyed after the backup.
    forgotten: FileRequestResponse,
    destroyed: String,
    backup: String,
    _folder: TempDir,
}

/// A suite at work, backed up while people go on.
async fn live(setup: Setup) -> Lived {
    let deployment = match setup {
        Setup::AllInOne => Deployment::start(setup).await,
        Setup::Separate => {
            let folder = scratch::folder("key-");
            let file = folder.path().join("key").display().to_string();
            succeeds(samen(["keygen", "master", &file])).await;
            let key = fs::read_to_string(file).expect("a key");
            let mut deployment = Deployment::with_master_key(setup, ISSUER, &key).await;
            deployment.restart().await;
            deployment
        }
    };
    let resident = deployment.requests("zoe", &["resident"]).await;
    let mut lead = deployment.participation("l", &["process_lead"]).await;
    let mut citizen = deployment.participation("zoe", &["resident"]).await;
    let process = published(&mut lead).await;
    let contribution = contribute(&process, "Meer bomen op het plein");
    let contributed = citizen.submit_contribution(contribution.clone()).await.expect("said");
    let contributed = contributed.into_inner();
    let list = ListContributionsRequest {
        process_id: process.clone(),
        at_least: contributed.position.clone(),
        ..Default::default()
    };
    let contributions = lead.list_contributions(list).await.expect("a list").into_inner();

    // People go on while the backup is made.
    let stop = Arc::new(AtomicBool::new(false));
    let (told, mut heard) = tokio::sync::watch::channel(0);
    let filing = tokio::spawn({
        let (stop, mut resident) = (stop.clone(), resident.clone());
        async move {
            let mut filed = Vec::new();
            while !stop.load(Ordering::Relaxed) {
                let command = report(&format!("Melding {}", filed.len()));
                let answer = resident.file_request(command.clone()).await;
                filed.push((command, answer.expect("a backup holds up nobody").into_inner()));
                told.send_replace(filed.len());
            }
            filed
        }
    });
    heard.wait_for(|filed| *filed >= 20).await.expect("people file");
    let before = *heard.borrow();
    let folder = scratch::folder("backup-");
    let backup = folder.path().join("backup").display().to_string();
    let output = succeeds(deployment.operator(["backup", &backup])).await;
    assert!(output.contains("the master key"), "{output}");
    for log in ["participation", "requests", "regional"] {
        assert!(output.contains(&format!("gm0384.{log}: ")), "{output}");
    }
    stop.store(true, Ordering::Relaxed);
    let mut filed = filing.await.expect("people filed");
    filed.truncate(before);
    let lost = resident.clone().file_request(report("Te laat")).await.expect("filed").into_inner();

    let forgotten = filed[3].1.clone();
    let key = description_key(&deployment, &forgotten).await;
    let destroyed = folder.path().join("destroyed").display().to_string();
    let line = format!("{LOG} {key} 2026-03-02T09:15:00Z forgotten\n");
    fs::write(&destroyed, line).expect("written");
    Lived {
        deployment,
        filed,
        process,
        contribution,
        contributed,
        contributions: contributions.contributions,
        lost,
        forgotten,
        destroyed,
        backup,
        _folder: folder,
    }
}

/// Where the log of service requests is.
async fn location(deployment: &Deployment) -> Location {
    match deployment.database() {
        Some(url) => Location::postgres(url, "requests", 2).await.expect("the database"),
        None => Location::Folder(deployment.path("data/requests").into()),
    }
}

/// The id of the key under which a request's description was sealed.
async fn description_key(deployment: &Deployment, filed: &FileRequestResponse) -> String {
    let schema = location(deployment).await.open_to_read("log").await.expect("the log");
    let schema = schema.expect("it is there");
    let sql = schema.sql("SELECT data FROM {s}.record WHERE position = $1");
    let data: Vec<u8> = on_db!(&schema.db, pool => {
        let position = filed.position.as_ref().expect("a position").position as i64;
        sqlx::query_scalar(sql).bind(position).fetch_one(pool).await.expect("the record")
    });
    let event = RequestFiled::decode(data.as_slice()).expect("its event");
    event.description.expect("sealed").key_id
}

impl Lived {
    /// Everything that was acknowledged before the backup began reads the same
    /// in this suite; what was destroyed is gone; and it goes on.
    async fn goes_on_in(&self, deployment: &Deployment) {
        let mut resident = deployment.requests("zoe", &["resident"]).await;
        let mut handler = deployment.requests("h", &["handler"]).await;
        let mut lead = deployment.participation("l", &["process_lead"]).await;
        let mut citizen = deployment.participation("zoe", &["resident"]).await;

        // The same commands give their first results, and new ones are taken.
        for (command, first) in &self.filed {
            let again = resident.file_request(command.clone()).await.expect("the same");
            // What else it may be is told as it is known at the moment.
            let duplicates = first.duplicates.clone();
            assert_eq!(FileRequestResponse { duplicates, ..again.into_inner() }, *first);
        }
        let (_, first) = &self.filed[0];
        let again = GetRequestRequest { id: first.id.clone(), at_least: first.position.clone() };
        handler.get_request(again).await.expect("what was restored is in the history");
        let again = citizen.submit_contribution(self.contribution.clone()).await;
        assert_eq!(again.expect("the same").into_inner(), self.contributed);
        let next = resident.file_request(report("Daarna")).await.expect("filed").into_inner();
        let position = next.position.clone().expect("a position");
        let old = self.lost.position.clone().expect("a position");
        assert!(position.epoch > old.epoch, "{position:?} after {old:?}");
        assert!(next.number > self.lost.number, "a number is given once");
        let filed = self.contribution.clone();
        let more = SubmitContributionRequest { request_id: new_id(), ..filed };
        let more = citizen.submit_contribution(more).await.expect("said").into_inner();

        let get = |id: &str, at_least| GetRequestRequest { id: id.to_owned(), at_least };
        handler.get_request(get(&next.id, next.position.clone())).await.expect("seen");
        let listed = all(&mut handler, RequestFilter::default()).await;
        for (command, filed) in &self.filed {
            let found: Vec<_> = listed.iter().filter(|r| r.id == filed.id).collect();
            assert_eq!(found.len(), 1, "{filed:?}");
            assert_eq!(found[0].number, filed.number);
            let purpose = Purpose::Handling.into();
            let reveal = RevealRequestRequest { id: filed.id.clone(), purpose };
            let revealed = handler.reveal_request(reveal).await.expect("revealed").into_inner();
            assert_eq!(revealed.reporter, command.reporter, "who said so is sealed apart");
            let description = revealed.description.map(|d| d.text).unwrap_or_default();
            if filed.id == self.forgotten.id {
                assert_eq!(description, "", "what was destroyed is not revived");
            } else {
                assert_eq!(description, command.description);
            }
        }
        let list = ListContributionsRequest {
            process_id: self.process.clone(),
            at_least: more.position,
            ..Default::default()
        };
        let list = lead.list_contributions(list).await.expect("a list").into_inner();
        for contribution in &self.contributions {
            assert!(list.contributions.contains(contribution), "{contribution:?}");
        }
        assert_eq!(list.contributions.len(), self.contributions.len() + 1);

        // What was lost is told to those who ask for it.
        let missing = handler.get_request(get(&self.lost.id, None)).await.expect_err("lost");
        assert_eq!(missing.code(), Code::NotFound);
        let at_least = handler.get_request(get(&next.id, self.lost.position.clone())).await;
        refused(at_least, Code::FailedPrecondition, "NOT_IN_HISTORY");
        let watch = WatchRequestsRequest { resume_after: self.lost.position.clone(), filter: None };
        let mut changes = handler.watch_requests(watch).await.expect("a stream").into_inner();
        let ended = loop {
            match changes.message().await {
                Ok(Some(_)) => {}
                other => break other,
            }
        };
        refused(ended, Code::FailedPrecondition, "NOT_IN_HISTORY");

        let verified = succeeds(deployment.operator(["verify"])).await;
        assert_eq!(verified.lines().count(), 3, "{verified}");
    }
}

async fn what_burns_down_is_restored_in_its_place(setup: Setup) {
    let mut lived = live(setup).await;
    lived.deployment.kill();
    lived.deployment.lose_logs().await;
    let restore = ["restore", &lived.backup, "--destroyed-keys", &lived.destroyed];
    let output = succeeds(lived.deployment.operator(restore)).await;
    assert!(output.contains("gm0384.requests: "), "{output}");
    lived.deployment.restart().await;
    lived.goes_on_in(&lived.deployment).await;

    // The exchange, which still had what was lost, has the new history now.
    if setup == Setup::Separate {
        let log = location(&lived.deployment).await;
        let log = Log::open(&log, LOG, CancellationToken::new()).await.expect("the log");
        let newest = log.newest().await.expect("the log").expect("records");
        let nats = async_nats::connect(lived.deployment.nats().url()).await.expect("NATS");
        let jetstream = async_nats::jetstream::new(nats);
        eventually(SOON, "the stream is made anew", async || {
            let stream = jetstream.get_stream("SAMEN_GM0384_REQUESTS").await.ok()?;
            let state = &stream.cached_info().state;
            let whole = (state.first_sequence, state.last_sequence) == (1, newest.position);
            let last = stream.get_raw_message(newest.position).await.ok()?;
            let epoch = last.headers.get("Samen-Epoch")?.as_str().to_owned();
            (whole && epoch == newest.epoch.to_string()).then_some(())
        })
        .await;
    }
}

async fn data_moves_to_the_other_database(setup: Setup) {
    let mut lived = live(setup).await;
    lived.deployment.stop().await;
    let to = match setup {
        Setup::AllInOne => Setup::Separate,
        Setup::Separate => Setup::AllInOne,
    };
    // A key that was made for a trial is taken over as one to keep.
    let kept = lived.deployment.path("kept.key");
    succeeds(samen(["keygen", "master", &kept, "--from", &lived.deployment.master_key()])).await;
    let key = fs::read_to_string(&kept).expect("a key");
    let mut deployment = Deployment::with_master_key(to, ISSUER, &key).await;
    let restore = ["restore", &lived.backup, "--destroyed-keys", &lived.destroyed];
    succeeds(deployment.operator(restore)).await;
    deployment.restart().await;
    lived.goes_on_in(&deployment).await;
}

/// A place with a master key and a long log, and no process.
async fn long_log(setup: Setup, records: usize) -> (Deployment, Log) {
    let deployment = empty(setup).await;
    let location = location(&deployment).await;
    if let Location::Folder(folder) = &location {
        fs::create_dir_all(folder).expect("made");
    }
    let log = Log::open(&location, LOG, CancellationToken::new()).await.expect("the log");
    let event = NewEvent {
        stream: "request/long".to_owned(),
        kind: "samen.requests.v1.StatusChanged".to_owned(),
        data: vec![7; 1 << 10],
    };
    for _ in 0..records / 500 {
        let append = Append {
            actor: "test".to_owned(),
            events: vec![event.clone(); 500],
            ..Append::default()
        };
        log.append(append).await.expect("accepted");
    }
    (deployment, log)
}

const KEY: &str = "samen-master-key:1:BwcHBwcHBwcHBwcHBwcHBwcHBwcHBwcHBwcHBwcHBwc=\n";

async fn empty(setup: Setup) -> Deployment {
    Deployment::with_master_key(setup, ISSUER, KEY).await
}

/// The all-in-one does not serve what was not restored to its end.
async fn refuses_to_start(deployment: &Deployment) {
    let mut up = deployment.operator(["up"]);
    for port in ["PARTICIPATION", "REQUESTS", "REGIONAL", "PARTNER", "DASHBOARD", "METRICS"] {
        let own = format!("127.0.0.1:{}", scratch::free_port());
        up.env(format!("SAMEN_{port}_LISTEN"), own);
    }
    let (code, output) = done(up).await;
    assert_ne!(code, 0, "{output}");
    assert!(output.contains("was not restored to its end"), "{output}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_restore_that_ended_between_two_files_can_be_done_again() {
    let mut from = Deployment::start(Setup::AllInOne).await;
    let process = published(&mut from.participation("l", &["process_lead"]).await).await;
    let mut citizen = from.participation("zoe", &["resident"]).await;
    citizen.submit_contribution(contribute(&process, "Meer bomen")).await.expect("said");
    let mut resident = from.requests("zoe", &["resident"]).await;
    resident.file_request(report("Een lamp")).await.expect("filed");
    let folder = scratch::folder("backup-");
    let backup = folder.path().join("backup");
    let backup = backup.to_str().expect("a path");
    succeeds(from.operator(["backup", backup])).await;
    from.kill();
    from.lose_logs().await;
    let restore = ["restore", backup, "--no-destroyed-keys"];
    succeeds(from.operator(restore)).await;
    // Killed after the first of the files was opened for use.
    for service in ["requests", "regional"] {
        let folder = Location::Folder(from.path(&format!("data/{service}")).into());
        let schema = folder.find("log").await.expect("the log");
        let sql = schema.sql("UPDATE {s}.head SET epoch = 0");
        on_db!(&schema.db, pool => {
            sqlx::query(sql).execute(pool).await.expect("it runs");
        });
    }
    refuses_to_start(&from).await;
    succeeds(from.operator(restore)).await;
    from.restart().await;
}

async fn a_backup_or_restore_that_is_killed_is_begun_again(setup: Setup) {
    const RECORDS: usize = 60_000;
    let (from, log) = long_log(setup, RECORDS).await;
    let folder = scratch::folder("backup-");
    let half = folder.path().join("half");
    let half = half.to_str().expect("a path");
    let mut backup = Process::start(from.operator(["backup", half]));
    let first = Path::new(half).join(LOG).join("records-000001");
    eventually(SOON, "the backup is at work", async || first.exists().then_some(())).await;
    backup.kill();
    let to = empty(setup).await;
    let none = "--no-destroyed-keys";
    fails(to.operator(["restore", half, none]), 1, "MANIFEST is missing").await;
    fails(from.operator(["backup", half]), 1, "is not empty").await;

    let whole = folder.path().join("whole");
    let whole = whole.to_str().expect("a path");
    succeeds(from.operator(["backup", whole])).await;
    for round in 0..3 {
        let mut restore = Process::start(to.operator(["restore", whole, none]));
        let there = location(&to).await;
        eventually(SOON, "the restore is at work", async || {
            let schema = there.open_to_read("log").await.ok()??;
            let sql = schema.sql("SELECT epoch, position FROM {s}.head");
            let (epoch, position) = on_db!(&schema.db, pool => {
                let row = sqlx::query(sql).fetch_optional(pool).await.ok()??;
                (row.get::<i64, _>(0), row.get::<i64, _>(1))
            });
            (epoch == 0 && position > round * 5_000).then_some(())
        })
        .await;
        restore.kill();
        let refused = Log::open(&there, LOG, CancellationToken::new()).await.err();
        assert!(refused.is_some(), "it refuses to serve");
    }
    if setup == Setup::AllInOne {
        refuses_to_start(&to).await;
    }
    fails(to.operator(["backup", &format!("{half}-restored")]), 1, "restore it again").await;

    eventually(SOON, "the server has noticed that the other is gone", async || {
        let (code, output) = done(to.operator(["restore", whole, none])).await;
        assert!(code == 0 || output.contains("by another process"), "{output}");
        (code == 0).then_some(())
    })
    .await;
    let there = location(&to).await;
    let restored = Log::open(&there, LOG, CancellationToken::new()).await.expect("the log");
    assert_eq!(restored.head(), RECORDS as u64);
    let newest = async |log: &Log| log.newest().await.expect("the log").expect("records");
    assert_eq!(newest(&restored).await, newest(&log).await);
}

/// Also where nobody has said anything to them yet.
async fn nothing_is_restored_under_services_that_run(setup: Setup) {
    let (from, _) = long_log(setup, 500).await;
    let folder = scratch::folder("backup-");
    let backup = folder.path().join("backup").display().to_string();
    succeeds(from.operator(["backup", &backup])).await;
    let mut to = empty(setup).await;
    to.restart().await;
    let none = "--no-destroyed-keys";
    let restore = ["restore", &backup, none, "--service", "service-requests"];
    let process = to.requests_process().id().to_string();
    let why = match setup {
        Setup::AllInOne => "is in use by another samen process: stop that first".to_owned(),
        // The process by its number on its host, and what to do about it.
        Setup::Separate => format!(":{process}:"),
    };
    fails(to.operator(restore), 1, &why).await;
    let mut resident = to.requests("r", &["resident"]).await;
    let filed = resident.file_request(report("x")).await.expect("it goes on").into_inner();
    assert_eq!(filed.number, CATALOGUE_RECORDS + 1);
    fails(to.operator(restore), 1, "stop").await;

    // Nobody has to wait for who was killed, or knows that it was.
    to.kill();
    to.lose_logs().await;
    // Into a log that holds a catalogue nothing is restored.
    to.variables.push(("SAMEN_CATALOGUE".to_owned(), "none".to_owned()));
    to.restart().await;
    to.kill();
    succeeds(to.operator(restore)).await;
    to.variables.clear();
    to.restart().await;
    let mut resident = to.requests("r", &["resident"]).await;
    let filed = resident.file_request(report("x")).await.expect("filed").into_inner();
    assert!(filed.number > 500, "{filed:?}");
}

async fn what_cannot_be_restored_is_refused_in_one_line(setup: Setup) {
    let (from, _) = long_log(setup, 500).await;
    let folder = scratch::folder("backup-");
    let backup = folder.path().join("backup");
    let backup = backup.to_str().expect("a path");
    let none = "--no-destroyed-keys";
    succeeds(from.operator(["backup", backup])).await;
    let mode = fs::metadata(backup).expect("a folder").permissions().mode();
    assert_eq!(mode & 0o077, 0, "others may enter: {mode:o}");
    fails(from.operator(["restore", backup, none]), 1, "is not empty").await;

    let to = empty(setup).await;
    // That nothing was ever destroyed is not guessed.
    fails(to.operator(["restore", backup]), 2, "SAMEN_DESTROYED_KEYS").await;
    if setup == Setup::Separate {
        let trial = to.path("trial.key");
        fs::write(&trial, KEY.replace(":1:", ":trial:")).expect("written");
        let mut refused = to.operator(["restore", backup, none]);
        refused.env("SAMEN_MASTER_KEY", trial);
        fails(refused, 2, "SAMEN_MASTER_KEY").await;
    }
    let mut refused = to.operator(["restore", backup, none]);
    refused.env("SAMEN_MUNICIPALITY", "GM0437");
    fails(refused, 1, "GM0384").await;
    let unclear = folder.path().join("unclear").display().to_string();
    fs::write(&unclear, "text/1\n").expect("written");
    let refused = to.operator(["restore", backup, "--destroyed-keys", &unclear]);
    fails(refused, 2, "line 1").await;
    let other = folder.path().join("other.key").display().to_string();
    succeeds(samen(["keygen", "master", &other])).await;
    let mut refused = to.operator(["restore", backup, none]);
    refused.env("SAMEN_MASTER_KEY", other);
    fails(refused, 1, "MANIFEST").await;
    let file = Path::new(backup).join(LOG).join("records-000001");
    let whole = fs::read(&file).expect("a file");
    fs::write(&file, &whole[1..]).expect("written");
    let named = file.display().to_string();
    fails(to.operator(["restore", backup, none]), 1, &named).await;
    fs::write(&file, whole).expect("written");

    // Nothing was made by all of these.
    let there = location(&to).await.open_to_read("log").await.expect("the place");
    assert!(there.is_none(), "there is a log");
    succeeds(to.operator(["restore", backup, none])).await;
    if setup == Setup::Separate {
        let nothing = postgres::database().await;
        let mut refused = to.operator(["backup", &format!("{backup}-2")]);
        refused.env("SAMEN_DATABASE_URL", nothing);
        fails(refused, 1, "there is no log").await;
    }
}
