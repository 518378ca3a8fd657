//! The list of destroyed keys: whole lines, whoever writes and whatever is cut
//! off.

use std::fs;
use std::io::Write;
use std::os::unix::fs::PermissionsExt;
use std::thread;

use samen_log::destroyed::{self, DestroyedKeys};
use samen_tests::scratch;

fn of_log(path: &std::path::Path, log: &str) -> Vec<String> {
    DestroyedKeys::load(path).expect("a list").of_log(log).map(str::to_owned).collect()
}

#[test]
fn a_list_is_its_owners_and_keeps_logs_apart() {
    let folder = scratch::folder("list-");
    let path = folder.path().join("destroyed");
    destroyed::create(&path).expect("made");
    destroyed::append(&path, "gm0384.requests", [("text/1", "request"), ("person/a", "request")])
        .expect("written");
    destroyed::append(&path, "gm0384.participation", [("text/1", "retention")]).expect("written");
    assert_eq!(of_log(&path, "gm0384.requests"), ["text/1", "person/a"]);
    assert_eq!(of_log(&path, "gm0384.participation"), ["text/1"]);
    assert_eq!(of_log(&path, "gm0437.requests"), Vec::<String>::new());
    // Made once: what it holds is not lost when it is asked for again.
    destroyed::create(&path).expect("it is there");
    assert_eq!(of_log(&path, "gm0384.participation"), ["text/1"]);
    assert_eq!(fs::metadata(&path).expect("a file").permissions().mode() & 0o777, 0o600);
    let text = fs::read_to_string(&path).expect("a list");
    for line in text.lines() {
        let words: Vec<_> = line.split(' ').collect();
        assert_eq!(words.len(), 4, "{line}");
        words[2].parse::<jiff::Timestamp>().expect("a time");
    }
}

#[test]
fn what_would_not_be_read_again_as_it_is_is_not_written() {
    let folder = scratch::folder("list-");
    let path = folder.path().join("destroyed");
    destroyed::create(&path).expect("made");
    destroyed::append(&path, "gm0384.requests", [("text/1", "request")]).expect("written");
    let before = fs::read(&path).expect("a list");
    for wrong in ["", "a b", "a\nb", "a\tb", "a\u{a0}b", "a\u{0}", "a\r", "#a"] {
        for (log, key, reason) in [
            (wrong, "text/2", "request"),
            ("gm0384.requests", wrong, "request"),
            ("gm0384.requests", "text/2", wrong),
        ] {
            let refused = destroyed::append(&path, log, [("text/0", "request"), (key, reason)]);
            assert!(refused.is_err(), "{log:?} {key:?} {reason:?}");
        }
    }
    assert_eq!(fs::read(&path).expect("a list"), before);
}

#[test]
fn a_list_that_went_missing_is_not_begun_again() {
    let folder = scratch::folder("list-");
    let path = folder.path().join("destroyed");
    destroyed::create(&path).expect("made");
    fs::remove_file(&path).expect("lost");
    let refused = destroyed::append(&path, "gm0384.requests", [("text/1", "request")]);
    assert_eq!(refused.expect_err("missing").kind(), std::io::ErrorKind::NotFound);
    assert!(!path.exists());
}

#[test]
fn a_line_that_was_cut_off_names_no_key_and_spoils_none() {
    let whole = "gm0384.requests text/1 2026-03-02T09:15:00Z request";
    for cut in 0..=whole.len() {
        let folder = scratch::folder("list-");
        let path = folder.path().join("destroyed");
        let mut list = fs::File::create(&path).expect("made");
        list.write_all(format!("{whole}\n{}", whole[..cut].replace("text/1", "text/2")).as_bytes())
            .expect("written");
        let before = of_log(&path, "gm0384.requests");
        destroyed::append(&path, "gm0384.requests", [("text/3", "request")]).expect("written");
        let after = of_log(&path, "gm0384.requests");
        // What could be read before can be read after, and nothing is made up.
        assert_eq!(after.last().map(String::as_str), Some("text/3"), "cut at {cut}");
        assert_eq!(after[..after.len() - 1], before, "cut at {cut}");
        assert!(before == ["text/1"] || before == ["text/1", "text/2"], "{before:?}");
    }
}

#[test]
fn all_who_write_at_once_write_whole_lines() {
    let folder = scratch::folder("list-");
    let path = folder.path().join("destroyed");
    destroyed::create(&path).expect("made");
    thread::scope(|scope| {
        for writer in 0..8 {
            let path = &path;
            scope.spawn(move || {
                for round in 0..20 {
                    let keys: Vec<String> =
                        (0..50).map(|n| format!("text/{writer}-{round}-{n}")).collect();
                    let keys = keys.iter().map(|key| (key.as_str(), "request"));
                    destroyed::append(path, "gm0384.requests", keys).expect("written");
                }
            });
        }
    });
    let listed = of_log(&path, "gm0384.requests");
    let distinct: std::collections::HashSet<_> = listed.iter().collect();
    assert_eq!((listed.len(), distinct.len()), (8_000, 8_000));
}
