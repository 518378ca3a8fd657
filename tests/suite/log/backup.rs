//! Backups: everything that was accepted before one began is in it, it fits
//! both databases, and none that was damaged is ever used.

use std::collections::HashSet;
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use samen_log::destroyed::{self, DestroyedKeys};
use samen_log::note::Signer;
use samen_log::{
    Append, AppendError, Appended, Backup, BackupError, EmptyLog, Keyring, Location, Log,
    MasterKey, Schema, back_up, on_db,
};
use samen_proto::requests::Text;
use samen_tests::{Place, eventually, on_both_databases, scratch};
use tempfile::TempDir;
use tokio_util::sync::CancellationToken;

use super::shared::{EXCHANGED, LOG, SOON, command, event, fill, read_all, verify, write};

on_both_databases!(
    a_backup_of_a_growing_log_restores_into_both_databases,
    what_is_restored_goes_on_in_an_epoch_of_its_own,
    a_log_that_is_not_empty_is_not_restored_into,
    a_restore_that_is_interrupted_serves_nobody_and_can_be_done_again,
    a_log_that_was_only_just_begun_is_called_by_where_it_is,
    logs_are_restored_together_or_not_at_all,
    a_key_that_was_destroyed_after_the_backup_is_not_revived,
    a_log_that_is_broken_is_told_when_it_is_backed_up,
);

const SECRET: &str = "Mevrouw De Vries, Dorpsstraat 12";

async fn empty(place: &Place, id: &str) -> EmptyLog {
    EmptyLog::at(&place.location().await, id).await.expect("tables")
}

async fn take(to: &Path, master: &MasterKey, log: &Log) -> Result<(), BackupError> {
    back_up(to, master, &[log.schema().clone()], &|_, _, _| {}).await.map(drop)
}

async fn open(from: &Path, master: &MasterKey) -> Result<Backup, BackupError> {
    Backup::open(from, master).await
}

async fn restore(backup: &Backup, to: &Place) -> Result<(), BackupError> {
    let none = DestroyedKeys::default();
    backup.restore(&[empty(to, LOG).await], &none, &|_, _, _| {}).await.map(drop)
}

/// A log with this many records, and a backup of it.
async fn backed_up(place: &Place, records: u64) -> (Log, MasterKey, TempDir, PathBuf) {
    let log = place.log(LOG).await;
    fill(&log, records).await;
    let master = MasterKey::generate(false);
    let folder = scratch::folder("backup-");
    let to = folder.path().join("backup");
    take(&to, &master, &log).await.expect("a backup");
    (log, master, folder, to)
}

/// A log's raw rows: what a backup has to keep.
async fn rows(schema: &Schema, table: &str, columns: &str) -> HashSet<String> {
    let sql = format!("SELECT concat_ws('|', {columns}) FROM {{s}}.{table}");
    on_db!(&schema.db, pool => {
        let rows: Vec<String> =
            sqlx::query_scalar(schema.sql(&sql)).fetch_all(pool).await.expect("rows");
        rows.into_iter().collect()
    })
}

async fn run(schema: &Schema, statement: &str) {
    on_db!(&schema.db, pool => {
        sqlx::query(schema.sql(statement)).execute(pool).await.expect("it runs");
    });
}

async fn a_backup_of_a_growing_log_restores_into_both_databases(place: Place) {
    let log = place.log(LOG).await;
    let master = MasterKey::generate(false);
    let keys = Keyring::new(log.schema().clone(), &master, LOG);
    fill(&log, 3_000).await;
    // More than goes into one file.
    for large in 0..90 {
        let mut append = write("request/large", "");
        append.events[0].data = vec![large; 200 << 10];
        append.command = command(&format!("large-{large}"));
        log.append(append).await.expect("accepted");
    }
    let (key, new) = keys.create("text/1");
    let sealed = key.seal(&Text { text: SECRET.to_owned() });
    let append = Append { keys: vec![new], ..write("request/sealed", "") };
    log.append(append).await.expect("accepted");
    destroyed::apply(log.schema(), ["text/gone"]).await.expect("destroyed");

    // The log goes on, with keys, while it is backed up.
    let (stop, written) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicU64::new(0)));
    let growing = tokio::spawn({
        let (log, keys, stop, written) = (log.clone(), keys.clone(), stop.clone(), written.clone());
        async move {
            for number in 0.. {
                if stop.load(Ordering::Relaxed) {
                    return;
                }
                let (key, new) = keys.create(&format!("text/growing-{number}"));
                let text = key.seal(&Text { text: SECRET.to_owned() });
                let data = String::from_utf8_lossy(&text.ciphertext).len();
                let mut append = write("request/growing", data);
                append.keys = vec![new];
                append.command = command(&format!("growing-{number}"));
                log.append(append).await.expect("a backup holds up nobody");
                written.fetch_add(1, Ordering::Relaxed);
            }
        }
    });
    eventually(SOON, "it grows", async || (written.load(Ordering::Relaxed) > 20).then_some(()))
        .await;
    let acknowledged = log.newest().await.expect("the log").expect("records").position;
    let folder = scratch::folder("backup-");
    let to = folder.path().join("backup");
    take(&to, &master, &log).await.expect("a backup");
    stop.store(true, Ordering::Relaxed);
    growing.await.expect("it grew all the time");

    let backup = open(&to, &master).await.expect("as it was written");
    let head = backup.manifest().logs[0].position;
    assert!(head >= acknowledged, "what was accepted before it began is in it");
    let before = read_all(&log).await;
    let schema = log.schema();
    let upto = |table: &str| format!("{table} WHERE last_position <= {head}");
    let commands = rows(schema, &upto("command"), "id, first_position, last_position").await;
    for target in [Place::postgres().await, Place::sqlite().await] {
        restore(&backup, &target).await.expect("restored");
        let restored = target.log(LOG).await;
        assert_eq!(verify(&restored).await, head);
        assert_eq!(read_all(&restored).await, before[..head as usize]);
        let there = rows(restored.schema(), "command", "id, first_position, last_position").await;
        assert_eq!(there, commands);
        // Every key that the records need, and maybe some more.
        let there = rows(restored.schema(), "sealing_key", "id").await;
        let grown = commands.iter().filter_map(|c| c.strip_prefix("growing-")).count();
        assert!(grown > 20);
        for number in 0..grown {
            assert!(there.contains(&format!("text/growing-{number}")), "{number}");
        }
        let keys = Keyring::new(restored.schema().clone(), &master, LOG);
        let text = keys.unseal::<Text>(&sealed).await.expect("its key");
        assert_eq!(text, Some(Text { text: SECRET.to_owned() }));
        assert!(there.contains("text/gone"));
        assert!(keys.get("text/gone").await.expect("its row").is_none(), "it stays destroyed");

        // The same command again gives its first result; a new one goes on.
        let mut again = write("request/large", "");
        again.command = command("large-7");
        let first = log.find_command("large-7").await.expect("the log").expect("accepted");
        assert_eq!(restored.append(again).await.expect("the same"), first);
        let next = restored.append(write("request/large", "next")).await.expect("accepted");
        assert_eq!(next, Appended { first: head + 1, last: head + 1, replayed: None });
        verify(&restored).await;
    }
}

async fn what_is_restored_goes_on_in_an_epoch_of_its_own(place: Place) {
    let (log, master, _folder, to) = backed_up(&place, 5).await;
    let backup = open(&to, &master).await.expect("a backup");
    let mut epochs = vec![log.epoch()];
    let mut last = None;
    let targets = [place.another().await, place.another().await];
    for target in &targets {
        // A process that had the empty log open must start again.
        let stopped = CancellationToken::new();
        let running = Log::open(&target.location().await, LOG, stopped.clone()).await;
        let running = running.expect("the log");
        restore(&backup, target).await.expect("restored");
        let refused = running.append(write("request/1", "lost")).await;
        assert!(matches!(refused, Err(AppendError::Unavailable { .. })), "{refused:?}");
        tokio::time::timeout(SOON, stopped.cancelled()).await.expect("it stops by itself");
        let restored = target.log(LOG).await;
        restored.append(write("request/1", "next")).await.expect("accepted");
        let records = read_all(&restored).await;
        assert!(records[..5].iter().all(|record| record.epoch == log.epoch()));
        assert_eq!(records[5].epoch, restored.epoch());
        verify(&restored).await;
        epochs.push(restored.epoch());
        last = Some(restored);
    }
    // And what was restored can be backed up and restored again.
    let restored = last.expect("restored");
    let again = to.with_file_name("again");
    take(&again, &master, &restored).await.expect("a backup");
    let backup = open(&again, &master).await.expect("a backup");
    let target = place.another().await;
    restore(&backup, &target).await.expect("restored");
    let third = target.log(LOG).await;
    assert_eq!(read_all(&third).await, read_all(&restored).await);
    epochs.push(third.epoch());
    assert!(epochs.is_sorted_by(|a, b| a < b), "{epochs:?}");
}

async fn a_log_that_is_not_empty_is_not_restored_into(place: Place) {
    let (_, master, _folder, to) = backed_up(&place, 5).await;
    let backup = open(&to, &master).await.expect("a backup");
    let target = place.another().await;
    let log = target.log(LOG).await;
    log.append(write("request/1", "accepted")).await.expect("accepted");
    let before = read_all(&log).await;
    let refused = restore(&backup, &target).await;
    assert!(matches!(refused, Err(BackupError::Occupied(_))), "{refused:?}");
    assert_eq!(read_all(&log).await, before);
    log.append(write("request/1", "goes on")).await.expect("accepted");

    // Neither twice, nor where only keys are, nor into another log.
    let target = place.another().await;
    restore(&backup, &target).await.expect("restored");
    let refused = restore(&backup, &target).await;
    assert!(matches!(refused, Err(BackupError::Occupied(_))), "{refused:?}");
    assert_eq!(target.log(LOG).await.head(), 5);
    let target = place.another().await;
    let keys = Keyring::new(target.log(LOG).await.schema().clone(), &master, LOG);
    keys.of_person("one").await.expect("stored").expect("a key");
    let refused = restore(&backup, &target).await;
    assert!(matches!(refused, Err(BackupError::Occupied(_))), "{refused:?}");
    let target = place.another().await;
    target.log("gm0384.participation").await;
    let refused = restore(&backup, &target).await;
    assert!(matches!(refused, Err(BackupError::OtherLog { .. })), "{refused:?}");
}

async fn a_restore_that_is_interrupted_serves_nobody_and_can_be_done_again(place: Place) {
    let (log, master, _folder, to) = backed_up(&place, 9_000).await;
    let backup = open(&to, &master).await.expect("a backup");
    let target = place.another().await;
    let schema = Log::tables(&target.location().await).await.expect("tables");
    for after in [0, 2_000, 6_000] {
        let (reached, mut at) = tokio::sync::watch::channel(false);
        let progress = move |_: &str, done, _| {
            let _ = reached.send(done >= after);
        };
        let none = DestroyedKeys::default();
        let targets = [empty(&target, LOG).await];
        tokio::select! {
            biased;
            // Given up wherever it is by then.
            _ = at.wait_for(|reached| *reached) => {}
            done = backup.restore(&targets, &none, &progress) => panic!("too fast: {done:?}"),
        }
        let location = target.location().await;
        let refused = Log::open(&location, LOG, Default::default()).await;
        let refused = refused.err().expect("it refuses to serve").to_string();
        assert!(refused.contains("was not restored to its end"), "{refused}");
        let refused = take(&to.with_file_name("half"), &master, &log).await;
        refused.expect("the source is whole");
        fs::remove_dir_all(to.with_file_name("half")).expect("it is there");
        let half = to.with_file_name("half");
        let refused = back_up(&half, &master, std::slice::from_ref(&schema), &|_, _, _| {}).await;
        assert!(matches!(refused, Err(BackupError::HalfRestored(_))), "{refused:?}");
        // Refused before anything was made, or right after.
        let _ = fs::remove_dir_all(half);
    }
    // The connection that was given up may hold the lock for a moment.
    eventually(SOON, "it is restored", async || match restore(&backup, &target).await {
        Err(BackupError::Busy(_)) => None,
        done => {
            done.expect("restored");
            Some(())
        }
    })
    .await;
    let restored = target.log(LOG).await;
    assert_eq!(verify(&restored).await, 9_000);
    assert_eq!(read_all(&restored).await, read_all(&log).await);
}

async fn a_log_that_was_only_just_begun_is_called_by_where_it_is(place: Place) {
    let schema = Log::tables(&place.location().await).await.expect("tables");
    let folder = scratch::folder("backup-");
    let to = folder.path().join("backup");
    let refused = back_up(&to, &MasterKey::generate(false), &[schema], &|_, _, _| {}).await;
    let told = refused.expect_err("there is no log yet").to_string();
    let named = match place.location().await {
        Location::Folder(folder) => folder.join("log.db").display().to_string(),
        Location::Postgres { .. } => "test_log".to_owned(),
    };
    assert!(told.contains(&named), "{told}");
}

async fn logs_are_restored_together_or_not_at_all(place: Place) {
    const OTHER: &str = "gm0384.regional";
    // Each in a place of its own, as files are.
    let beside = place.another().await;
    let (first, second) = (place.log(LOG).await, beside.log(OTHER).await);
    fill(&first, 40).await;
    fill(&second, 20).await;
    let master = MasterKey::generate(false);
    let folder = scratch::folder("backup-");
    let to = folder.path().join("backup");
    let both = [first.schema().clone(), second.schema().clone()];
    back_up(&to, &master, &both, &|_, _, _| {}).await.expect("a backup");
    let backup = open(&to, &master).await.expect("a backup");

    let (one, two) = (place.another().await, place.another().await);
    let targets = [empty(&one, LOG).await, empty(&two, OTHER).await];
    let two_schema = targets[1].schema.clone();
    let none = DestroyedKeys::default();
    let to_all = async || backup.restore(&targets, &none, &|_, _, _| {}).await;
    let another = [empty(&one, "gm0384.participation").await];
    let refused = backup.restore(&another, &none, &|_, _, _| {}).await;
    assert!(matches!(refused, Err(BackupError::NoLog)), "{refused:?}");

    if let Place::Postgres { .. } = place {
        // In one database all heads are opened at once, so these are not two.
        return;
    }
    to_all().await.expect("restored");
    let refused = to_all().await;
    assert!(matches!(refused, Err(BackupError::Occupied(_))), "{refused:?}");
    // Killed after the first of the files was opened for use.
    run(&two_schema, "UPDATE {s}.head SET epoch = 0").await;
    to_all().await.expect("restored again");
    assert_eq!(verify(&one.log(LOG).await).await, 40);
    assert_eq!(verify(&two.log(OTHER).await).await, 20);
    // Once something was accepted, it stays.
    run(&two_schema, "UPDATE {s}.head SET epoch = 0").await;
    one.log(LOG).await.append(write("request/1", "accepted")).await.expect("accepted");
    let refused = to_all().await;
    assert!(matches!(refused, Err(BackupError::Occupied(_))), "{refused:?}");
    assert_eq!(one.log(LOG).await.head(), 41);
}

async fn a_key_that_was_destroyed_after_the_backup_is_not_revived(place: Place) {
    let log = place.log(LOG).await;
    let master = MasterKey::generate(false);
    let keys = Keyring::new(log.schema().clone(), &master, LOG);
    for id in ["text/1", "text/2"] {
        let append = Append { keys: vec![keys.create(id).1], ..write("request/1", id) };
        log.append(append).await.expect("accepted");
    }
    let folder = scratch::folder("backup-");
    let to = folder.path().join("backup");
    take(&to, &master, &log).await.expect("a backup");

    let list = folder.path().join("destroyed");
    let line = |log: &str, key: &str| format!("{log} {key} 2026-03-02T09:15:00Z forgotten\n");
    let text = [
        "# kept apart from every backup\n".to_owned(),
        line(LOG, "text/1"),
        line(LOG, "person/never-seen"),
        line("gm0384.participation", "text/2"),
        // Cut off while it was written.
        format!("{LOG} text/2 2026-"),
    ];
    fs::write(&list, text.concat()).expect("written");
    let destroyed = DestroyedKeys::load(&list).expect("a list");
    let of_log: Vec<_> = destroyed.of_log(LOG).collect();
    assert_eq!(of_log, ["text/1", "person/never-seen"]);

    let backup = open(&to, &master).await.expect("a backup");
    let target = place.another().await;
    let to = [empty(&target, LOG).await];
    backup.restore(&to, &destroyed, &|_, _, _| {}).await.expect("restored");
    let schema = &to[0].schema;
    let keys = Keyring::new(schema.clone(), &master, LOG);
    assert!(keys.get("text/1").await.expect("its row").is_none());
    assert!(keys.get("text/2").await.expect("its row").is_some());
    // Nor can it be made again.
    assert!(keys.of_person("never-seen").await.expect("its row").is_none());
    // The list again destroys nothing more; another entry is told.
    let newly = destroyed::apply(schema, destroyed.of_log(LOG)).await.expect("applied");
    assert_eq!(newly, Vec::<String>::new());
    let newly = destroyed::apply(schema, ["text/1", "text/2", "text/2"]).await.expect("applied");
    assert_eq!(newly, ["text/2"]);

    fs::write(&list, format!("{}{LOG} text/2\n", line(LOG, "text/1"))).expect("written");
    let refused = DestroyedKeys::load(&list).expect_err("a line is not clear").to_string();
    assert!(refused.contains("line 2"), "{refused}");
}

async fn a_log_that_is_broken_is_told_when_it_is_backed_up(place: Place) {
    let log = place.log(LOG).await;
    fill(&log, 30).await;
    let master = MasterKey::generate(false);
    let folder = scratch::folder("backup-");
    for (number, (statement, at)) in [
        ("UPDATE {s}.record SET actor = 'other' WHERE position = 20", 20),
        ("UPDATE {s}.record SET position = 31 WHERE position = 10", 10),
    ]
    .into_iter()
    .enumerate()
    {
        run(log.schema(), statement).await;
        let to = folder.path().join(number.to_string());
        match take(&to, &master, &log).await {
            Err(BackupError::Broken { position, .. }) => assert_eq!(position, at),
            other => panic!("{other:?}"),
        }
        let refused = open(&to, &master).await.err();
        assert!(matches!(refused, Some(BackupError::NoManifest { .. })), "{refused:?}");
    }

    // A chain that is whole over versions that are not.
    let place = place.another().await;
    let log = place.log(LOG).await;
    let append = Append {
        actor: "test".to_owned(),
        events: vec![event("request/1", 1), event("request/2", 1)],
        ..write("", "")
    };
    log.append(append).await.expect("accepted");
    run(log.schema(), "UPDATE {s}.record SET version = 2 WHERE position = 2").await;
    let mut records = read_all(&log).await;
    let salt = vec![7; 16];
    let last = Arc::make_mut(&mut records[1]);
    assert_eq!(last.r#type, EXCHANGED);
    let hash =
        samen_log::record::hash(&log.read(0, 1).await.expect("the log")[0].hash, &salt, last);
    for sql in [
        "UPDATE {s}.record SET salt = $1, hash = $2 WHERE position = 2",
        "UPDATE {s}.head SET hash = coalesce($2, $1)",
    ] {
        on_db!(&log.schema().db, pool => {
            let query = sqlx::query(log.schema().sql(sql)).bind(&salt).bind(hash.as_slice());
            query.execute(pool).await.expect("it runs");
        });
    }
    let to = folder.path().join("versions");
    take(&to, &master, &log).await.expect("a backup");
    let backup = open(&to, &master).await.expect("a backup");
    let target = place.another().await;
    match restore(&backup, &target).await {
        Err(BackupError::Broken { position, .. }) => assert_eq!(position, 2),
        other => panic!("{other:?}"),
    }
    Log::open(&target.location().await, LOG, Default::default())
        .await
        .err()
        .expect("it refuses to serve");
}

/// Every file below a folder.
fn files(folder: &Path) -> Vec<PathBuf> {
    let mut found = Vec::new();
    for entry in fs::read_dir(folder).expect("a folder").flatten() {
        let path = entry.path();
        if path.is_dir() { found.extend(files(&path)) } else { found.push(path) }
    }
    found
}

#[tokio::test(flavor = "multi_thread")]
async fn a_backup_with_any_damage_is_refused_and_the_file_is_named() {
    use std::os::unix::fs::PermissionsExt;
    const OTHER: &str = "gm0384.regional";
    let (place, beside) = (Place::sqlite().await, Place::sqlite().await);
    let (log, other) = (place.log(LOG).await, beside.log(OTHER).await);
    fill(&log, 50).await;
    fill(&other, 50).await;
    let master = MasterKey::generate(false);
    for log in [&log, &other] {
        let keys = Keyring::new(log.schema().clone(), &master, log.id());
        let append = Append { keys: vec![keys.create("text/1").1], ..write("request/1", "") };
        log.append(Append { command: command(log.id()), ..append }).await.expect("accepted");
    }
    let folder = scratch::folder("backup-");
    let to = folder.path().join("backup");
    let both = [log.schema().clone(), other.schema().clone()];
    back_up(&to, &master, &both, &|_, _, _| {}).await.expect("a backup");
    open(&to, &master).await.expect("as it was written");
    let all = files(&to);
    assert!(all.len() >= 7, "{all:?}");

    // Nobody else can read it.
    for path in &all {
        let mode = fs::metadata(path).expect("a file").permissions().mode();
        assert_eq!(mode & 0o077, 0, "{path:?}: {mode:o}");
    }
    // It is never written over.
    let refused = back_up(&to, &master, &both, &|_, _, _| {}).await;
    assert!(matches!(refused, Err(BackupError::NotEmpty { .. })), "{refused:?}");

    let refuses = async |path: &Path, what: &str| {
        let refused = open(&to, &master).await.err();
        let refused = refused.unwrap_or_else(|| panic!("{what}: {path:?}")).to_string();
        assert!(refused.contains(&path.display().to_string()), "{what}: {path:?}: {refused}");
        assert_eq!(refused.lines().count(), 1, "{refused}");
    };
    for path in &all {
        let whole = fs::read(path).expect("a file");
        let bits = (0..8).map(|_| rand::random_range(0..whole.len() * 8));
        for bit in bits.chain([0, whole.len() * 8 - 1]) {
            let mut flipped = whole.clone();
            flipped[bit / 8] ^= 1 << (bit % 8);
            fs::write(path, flipped).expect("written");
            refuses(path, &format!("bit {bit}")).await;
        }
        for length in [0, whole.len() / 2, whole.len() - 1] {
            fs::write(path, &whole[..length]).expect("written");
            refuses(path, &format!("{length} bytes")).await;
        }
        fs::write(path, [whole.as_slice(), b"\n"].concat()).expect("written");
        refuses(path, "a byte more").await;
        fs::remove_file(path).expect("removed");
        refuses(path, "gone").await;
        fs::write(path, &whole).expect("written");

        let added = path.with_file_name("records-000009");
        fs::write(&added, &whole).expect("written");
        refuses(&added, "added").await;
        fs::remove_file(&added).expect("removed");
    }
    // A file of one log in another's place, and a log in another's.
    let (here, there) = (to.join(LOG), to.join(OTHER));
    for name in ["records-000001", "commands-000001", "keys-000001"] {
        let aside = folder.path().join("aside");
        let swap = || {
            fs::rename(here.join(name), &aside).expect("moved");
            fs::rename(there.join(name), here.join(name)).expect("moved");
            fs::rename(&aside, there.join(name)).expect("moved");
        };
        swap();
        refuses(&here.join(name), "swapped").await;
        swap();
    }
    open(&to, &master).await.expect("as it was written");

    // Of another deployment, and what else this one signed.
    let refused = open(&to, &MasterKey::generate(false)).await.err().expect("refused");
    assert!(matches!(refused, BackupError::Signature { .. }), "{refused}");
    let manifest = to.join("MANIFEST");
    let whole = fs::read_to_string(&manifest).expect("a note");
    for text in ["gm0384.requests\n50\n", "samen-backup/1\nmunicipality GM0437\n"] {
        for name in ["samen-gm0384", "samen-gm0437"] {
            let signer = Signer::new(&master, name).expect("a name");
            let note = signer.sign(text).expect("a note");
            fs::write(&manifest, note).expect("written");
            let refused = open(&to, &master).await.err();
            assert!(refused.is_some(), "{name} signed {text:?}");
        }
    }
    let text = whole.split("\n\n").next().expect("a text");
    let theirs = Signer::new(&master, "samen-gm0437").expect("a name");
    fs::write(&manifest, theirs.sign(&format!("{text}\n")).expect("a note")).expect("written");
    refuses(&manifest, "signed by another").await;
}
