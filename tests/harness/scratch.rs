//! Folders and ports for one run of the tests.

use std::fs::{self, File, Permissions};
use std::net::{Ipv4Addr, TcpListener};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::sync::OnceLock;
use std::sync::atomic::{AtomicU16, Ordering};

use tempfile::TempDir;

use crate::disk::unmount_under;

/// The file by which a later run sees that a folder is still in use.
const LOCK: &str = "lock";

/// A folder that goes when it is dropped. What is never dropped, such as the
/// data of a server that all tests share, goes with the next run.
pub fn folder(name: &str) -> TempDir {
    tempfile::Builder::new().prefix(name).tempdir_in(own()).expect("a folder for the test")
}

/// A port of this run's own, that stays its own while nothing listens there:
/// below those that the system gives to outgoing connections, and given once.
pub fn free_port() -> u16 {
    const PORTS: std::ops::Range<u16> = 12_000..32_000;
    static NEXT: AtomicU16 = AtomicU16::new(0);
    let begin = std::process::id() as u16;
    for _ in PORTS {
        let next = begin.wrapping_add(NEXT.fetch_add(1, Ordering::Relaxed));
        let port = PORTS.start + next % (PORTS.end - PORTS.start);
        if TcpListener::bind((Ipv4Addr::LOCALHOST, port)).is_ok() {
            return port;
        }
    }
    panic!("all ports from {PORTS:?} are taken");
}

/// Where folders of all runs are. Others may pass through it: PostgreSQL runs
/// as another user where the tests run as root.
fn base() -> PathBuf {
    let user = rustix::process::getuid().as_raw();
    let base = std::env::temp_dir().join(format!("samen-tests-{user}"));
    fs::create_dir_all(&base).expect("a folder under the system's temporary folder");
    open_to_others(&base);
    base
}

/// The folder of this process, locked for as long as it lives.
fn own() -> &'static Path {
    static OWN: OnceLock<(PathBuf, File)> = OnceLock::new();
    let (path, _) = OWN.get_or_init(|| {
        let base = base();
        sweep(&base);
        let path = tempfile::Builder::new()
            .prefix("run-")
            .tempdir_in(&base)
            .expect("a folder for this run")
            .keep();
        open_to_others(&path);
        let lock = File::create(path.join(LOCK)).expect("a lock for this run");
        lock.lock().expect("nobody else has the lock of a new folder");
        (path, lock)
    });
    path
}

/// Removes what runs that have ended left behind.
fn sweep(base: &Path) {
    for entry in fs::read_dir(base).into_iter().flatten().flatten() {
        let unused = File::open(entry.path().join(LOCK)).is_ok_and(|lock| lock.try_lock().is_ok());
        if unused {
            unmount_under(&entry.path());
            // Another run may be sweeping too.
            let _ = fs::remove_dir_all(entry.path());
        }
    }
}

fn open_to_others(folder: &Path) {
    fs::set_permissions(folder, Permissions::from_mode(0o755)).expect("our own folder");
}
