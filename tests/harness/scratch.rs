//! Folders and ports for one run of the tests.

use std::fs::{self, File, Permissions};
use std::net::{Ipv4Addr, TcpListener};
use std::ops::Range;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, OnceLock, PoisonError};

use tempfile::TempDir;

use crate::disk::unmount_under;

/// The file by which a later run sees that a folder is still in use.
const LOCK: &str = "lock";
/// Ports that runs share.
const PORTS: Range<u16> = 12_000..32_000;
/// How many of them a run takes at once, since it holds a file for them.
const BLOCK: u16 = 50;

/// A folder that goes when it is dropped. What is never dropped, such as the
/// data of a server that all tests share, goes with the next run.
pub fn folder(name: &str) -> TempDir {
    tempfile::Builder::new().prefix(name).tempdir_in(own()).expect("a folder for the test")
}

/// A port of this run's own, that stays its own while nothing listens there:
/// below those that the system gives to outgoing connections, given once, and
/// to no other run of this user.
pub fn free_port() -> u16 {
    static OWN: Mutex<Ports> = Mutex::new(Ports { left: 0..0, locks: Vec::new() });
    let mut own = OWN.lock().unwrap_or_else(PoisonError::into_inner);
    loop {
        let free = |port: &u16| TcpListener::bind((Ipv4Addr::LOCALHOST, *port)).is_ok();
        if let Some(port) = own.left.find(free) {
            return port;
        }
        own.take_more();
    }
}

/// Ports that this run has taken.
struct Ports {
    left: Range<u16>,
    /// Held for as long as this process lives.
    locks: Vec<File>,
}

impl Ports {
    /// Takes a block that no other run has.
    fn take_more(&mut self) {
        let blocks = (PORTS.end - PORTS.start) / BLOCK;
        let begin = std::process::id() % u32::from(blocks);
        let all = (0..blocks).cycle().skip(begin as usize).take(blocks.into());
        let taken = all.map(|block| PORTS.start + block * BLOCK).find_map(|first| {
            let lock = File::create(base().join(format!("ports-{first}"))).ok()?;
            lock.try_lock().ok()?;
            Some((first, lock))
        });
        let (first, lock) = taken.unwrap_or_else(|| panic!("all ports from {PORTS:?} are taken"));
        self.left = first..first + BLOCK;
        self.locks.push(lock);
    }
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
        // Locked before it is in its place: another run that sweeps would take
        // the folder for one that nobody uses.
        let (lock, begun) = tempfile::Builder::new()
            .prefix("begun-")
            .tempfile_in(&base)
            .expect("a lock for this run")
            .keep()
            .expect("it stays");
        lock.lock().expect("nobody else has the lock of a new file");
        let path = tempfile::Builder::new()
            .prefix("run-")
            .tempdir_in(&base)
            .expect("a folder for this run")
            .keep();
        open_to_others(&path);
        fs::rename(begun, path.join(LOCK)).expect("room for the lock");
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
