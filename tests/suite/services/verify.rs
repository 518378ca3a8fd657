//! `samen verify` and `samen checkpoint`, beside a suite that is at work.

use std::fs;
use std::process::Command;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use samen_tests::CATALOGUE_RECORDS;
use samen_tests::deployment::{Deployment, Setup};
use samen_tests::process::run;
use samen_tests::samen::samen;
use sqlx::{Connection, PgConnection, SqliteConnection};

use super::in_both_setups;
use super::shared::{SOON, report};

in_both_setups!(
    logs_at_work_are_verified_and_signed_for,
    what_was_altered_is_named_in_one_line,
    a_checkpoint_is_believed_only_as_it_was_signed,
);

/// A command of an operator of this suite, who has its master key.
fn command(deployment: &Deployment, arguments: &[&str]) -> Command {
    let mut command = auditor(deployment, arguments);
    if deployment.setup == Setup::Separate {
        command.env("SAMEN_MASTER_KEY", deployment.path("master.key"));
    }
    command
}

/// A command of somebody who may read the database. Beside the all-in-one's
/// data lies its key.
fn auditor(deployment: &Deployment, arguments: &[&str]) -> Command {
    let mut command = samen(arguments.iter().copied());
    match deployment.database() {
        Some(url) => command.env("SAMEN_DATABASE_URL", url),
        None => command.env("SAMEN_DATA", deployment.path("data")),
    };
    command
}

/// What a command printed, and its exit code.
async fn done(command: Command) -> (i32, String) {
    let (status, output) = run(command, SOON).await;
    (status.code().expect("it ends by itself"), output)
}

async fn succeeds(command: Command) -> String {
    let (code, output) = done(command).await;
    assert_eq!(code, 0, "{output}");
    output
}

/// Changes the log of service requests behind its back.
async fn tamper(deployment: &Deployment, sql: &str) {
    let changed = match deployment.database() {
        Some(url) => {
            let mut database = PgConnection::connect(url).await.expect("the database");
            let sql = sql.replace("{s}", "requests_log");
            sqlx::query(sqlx::AssertSqlSafe(sql))
                .execute(&mut database)
                .await
                .expect("changed")
                .rows_affected()
        }
        None => {
            let file = format!("sqlite://{}", deployment.path("data/requests/log.db"));
            let mut database = SqliteConnection::connect(&file).await.expect("the database");
            let sql = sql.replace("{s}", "main");
            sqlx::query(sqlx::AssertSqlSafe(sql))
                .execute(&mut database)
                .await
                .expect("changed")
                .rows_affected()
        }
    };
    assert_ne!(changed, 0, "{sql}");
}

async fn logs_at_work_are_verified_and_signed_for(setup: Setup) {
    let deployment = Deployment::start(setup).await;
    let resident = deployment.requests("r", &["resident"]).await;
    let stop = Arc::new(AtomicBool::new(false));
    let residents: Vec<_> = (0..4)
        .map(|number| {
            let (mut resident, stop) = (resident.clone(), stop.clone());
            tokio::spawn(async move {
                let mut filed = 0;
                while !stop.load(Ordering::Relaxed) {
                    resident.file_request(report(&format!("{number}"))).await.expect("filed");
                    filed += 1;
                }
                filed
            })
        })
        .collect();

    let key = succeeds(command(&deployment, &["checkpoint", "--print-key"])).await;
    let key = key.trim();
    assert!(key.starts_with("samen-gm0384+"), "{key}");
    for round in 0..5 {
        let folder = deployment.path(&format!("checkpoints-{round}"));
        let written = succeeds(command(&deployment, &["checkpoint", "--out", &folder])).await;
        let files: Vec<_> = written.lines().collect();
        assert_eq!(files.len(), 3, "{written}");
        let mut verify = vec!["verify", "--key", key, "--checkpoint"];
        verify.extend(&files);
        // Without the master key, with the key that was printed.
        let output = succeeds(auditor(&deployment, &verify)).await;
        for log in ["participation", "requests", "regional"] {
            let line = output.lines().find(|line| line.starts_with(&format!("gm0384.{log}: ")));
            let line = line.unwrap_or_else(|| panic!("{output}"));
            assert!(line.contains("records in") && line.contains("as signed for"), "{line}");
        }
        let output = succeeds(command(&deployment, &["verify"])).await;
        assert_eq!(output.lines().count(), 3, "{output}");
    }
    stop.store(true, Ordering::Relaxed);
    let mut filed = 0;
    for resident in residents {
        filed += resident.await.expect("it filed");
    }
    assert!(filed > 0);
    let one = ["verify", "--service", "service-requests", "--from", "2"];
    let output = succeeds(command(&deployment, &one)).await;
    assert_eq!(output.lines().count(), 1, "{output}");
    assert!(output.contains(&format!("{} records in", CATALOGUE_RECORDS + filed - 1)), "{output}");
}

async fn what_was_altered_is_named_in_one_line(setup: Setup) {
    let deployment = Deployment::start(setup).await;
    let mut resident = deployment.requests("r", &["resident"]).await;
    for number in 0..5 {
        resident.file_request(report(&format!("{number}"))).await.expect("filed");
    }
    tamper(&deployment, "UPDATE {s}.record SET actor = 'person/other' WHERE position = 3").await;
    let (code, output) = done(command(&deployment, &["verify"])).await;
    assert_eq!(code, 1, "{output}");
    let faults: Vec<_> = output.lines().filter(|line| line.starts_with("samen: ")).collect();
    assert_eq!(faults.len(), 1, "{output}");
    assert!(faults[0].contains("gm0384.requests, record 3: altered"), "{output}");
    // The others are looked at all the same.
    assert_eq!(output.lines().filter(|line| line.contains("records in")).count(), 2, "{output}");
    succeeds(command(&deployment, &["verify", "--service", "participation"])).await;
    succeeds(command(&deployment, &["verify", "--from", "4"])).await;

    tamper(&deployment, "DELETE FROM {s}.record WHERE position = 3").await;
    let (code, output) = done(command(&deployment, &["verify"])).await;
    assert_eq!(code, 1, "{output}");
    assert!(output.contains("record 3: missing"), "{output}");

    for (arguments, said) in [
        (vec!["verify", "--from", "0"], "--from"),
        (vec!["verify", "--from", "2", "--checkpoint", "file"], "--from"),
        (vec!["verify", "--key", "nobody", "--checkpoint", "file"], "--key"),
        (vec!["verify", "--service", "requests"], "--service"),
    ] {
        let (code, output) = done(command(&deployment, &arguments)).await;
        assert_eq!(code, 2, "{output}");
        assert!(output.contains(said) && output.lines().count() == 1, "{output}");
    }
    let nothing = deployment.path("nothing");
    let (code, output) = done(samen(["verify", "--data", &nothing])).await;
    assert_eq!(code, 1, "{output}");
    assert!(output.contains("there is no log in"), "{output}");
    assert!(!fs::exists(&nothing).expect("the folder"), "looking makes nothing");
}

async fn a_checkpoint_is_believed_only_as_it_was_signed(setup: Setup) {
    let mut deployment = Deployment::start(setup).await;
    let mut resident = deployment.requests("r", &["resident"]).await;
    resident.file_request(report("een")).await.expect("filed");
    let one = ["checkpoint", "--service", "service-requests"];
    let note = succeeds(command(&deployment, &one)).await;
    let file = deployment.path("checkpoint");
    let verify = ["verify", "--checkpoint", &file];

    fs::write(&file, &note).expect("written");
    let output = succeeds(command(&deployment, &verify)).await;
    assert_eq!(output.lines().count(), 1, "only the log that was signed for: {output}");

    for (from, to) in [
        (format!("\n{}\n", CATALOGUE_RECORDS + 1).as_str(), "\n0\n"),
        ("epoch 1", "epoch 2"),
        ("gm0384.requests", "gm0437.requests"),
        ("samen-gm", "other-gm"),
    ] {
        let altered = note.replacen(from, to, 1);
        assert_ne!(altered, note);
        fs::write(&file, &altered).expect("written");
        let (code, output) = done(command(&deployment, &verify)).await;
        assert_eq!(code, 1, "{to}: {output}");
        assert!(output.contains("samen: ") && output.contains("sign"), "{to}: {output}");
    }

    // Signed by somebody else.
    let other = deployment.path("other.key");
    succeeds(samen(["keygen", "master", &other])).await;
    let mut forge = command(&deployment, &one);
    forge.env("SAMEN_MASTER_KEY", &other);
    let forged = succeeds(forge).await;
    fs::write(&file, &forged).expect("written");
    let (code, output) = done(command(&deployment, &verify)).await;
    assert_eq!(code, 1, "{output}");
    assert!(output.contains("not signed by samen-gm0384"), "{output}");

    // Signed for, and then cut off, the head with it.
    fs::write(&file, &note).expect("written");
    deployment.stop().await;
    tamper(&deployment, "DELETE FROM {s}.record").await;
    let zeros = match setup {
        Setup::AllInOne => "zeroblob(32)",
        Setup::Separate => "decode(repeat('00', 32), 'hex')",
    };
    let head = format!("UPDATE {{s}}.head SET position = 0, hash = {zeros}, recorded_at = 0");
    tamper(&deployment, &head).await;
    succeeds(command(&deployment, &["verify"])).await;
    let (code, output) = done(command(&deployment, &verify)).await;
    assert_eq!(code, 1, "{output}");
    let told =
        format!("record {}: missing, and the checkpoint was signed for it", CATALOGUE_RECORDS + 1);
    assert!(output.contains(&told), "{output}");
}
