//! Where the servers' programs are: in a Python environment, made from wheels.

use std::path::{Path, PathBuf};

/// The environment with the servers, made by `tests/run`; `SAMEN_TEST_VENV`
/// names another.
pub fn environment() -> PathBuf {
    match std::env::var_os("SAMEN_TEST_VENV") {
        Some(path) => path.into(),
        None => Path::new(env!("CARGO_MANIFEST_DIR"))
            .parent()
            .expect("the package lies in the workspace")
            .join("target/test-servers/venv"),
    }
}

/// A file that must be there.
pub fn existing(path: PathBuf) -> PathBuf {
    assert!(path.exists(), "{} is missing: run tests/run, which installs it", path.display());
    path
}

/// The folder with the environment's packages, whatever its Python is.
pub fn packages() -> PathBuf {
    let libraries = existing(environment().join("lib"));
    let mut entries = std::fs::read_dir(&libraries).expect("a folder").flatten();
    let python = entries.find(|e| e.file_name().to_string_lossy().starts_with("python3"));
    existing(
        libraries.join(python.map(|e| e.file_name()).unwrap_or_default()).join("site-packages"),
    )
}

/// The environment's Python, for clients that are not ours.
pub fn python() -> std::process::Command {
    std::process::Command::new(existing(environment().join("bin/python")))
}

/// A script that lies beside the tests.
pub fn script(name: &str) -> PathBuf {
    existing(Path::new(env!("CARGO_MANIFEST_DIR")).join(name))
}
