//! The program under test, as an operator runs it.

use std::path::PathBuf;
use std::process::Command;

/// Categories without a norm and without questions, so that a filing is one
/// record, and soon after it another one: its reporter is told.
const CATALOGUE: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/catalogue.json");

/// How many records a log of requests begins with: its catalogue.
pub const CATALOGUE_RECORDS: u64 = 4;

/// How many records a filing is, once its reporter was told of it.
pub const FILING_RECORDS: u64 = 2;

/// A command of the `samen` program that was built together with the tests,
/// without the environment variables that configure it here; its catalogue is
/// the tests' own.
pub fn samen<'a>(arguments: impl IntoIterator<Item = &'a str>) -> Command {
    let mut command = Command::new(program());
    command.args(arguments);
    for (name, _) in std::env::vars_os() {
        if name.to_string_lossy().starts_with("SAMEN_") {
            command.env_remove(name);
        }
    }
    command.env("SAMEN_CATALOGUE", CATALOGUE);
    command
}

/// `target/<profile>/samen`; the tests themselves lie in `deps` beside it.
fn program() -> PathBuf {
    let tests = std::env::current_exe().expect("the path of this program");
    let profile = tests.ancestors().nth(2).expect("tests lie in target/<profile>/deps");
    let program = profile.join("samen");
    assert!(program.exists(), "{} is missing: run tests/run, which builds it", program.display());
    program
}
