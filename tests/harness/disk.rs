//! A disk that can be full.

use std::fs::{self, File};
use std::io::{ErrorKind, Write};
use std::path::{Path, PathBuf};
use std::process::Command;

/// A small file system of its own (tmpfs), on a folder; gone when dropped.
pub struct Disk {
    folder: PathBuf,
}

impl Disk {
    /// Mounts one of this many megabytes. Only root may.
    pub fn mount(folder: &Path, megabytes: u32, owner: Option<(u32, u32)>) -> Self {
        let (user, group) = owner.unwrap_or_default();
        let options = format!("size={megabytes}m,mode=0700,uid={user},gid={group}");
        let mut mount = Command::new("mount");
        mount.args(["-t", "tmpfs", "-o", &options, "tmpfs"]).arg(folder);
        let done = mount.output().expect("the program mount");
        assert!(
            done.status.success(),
            "a test of a full disk needs one of its own, which only root may mount: {}",
            String::from_utf8_lossy(&done.stderr)
        );
        Disk { folder: folder.to_owned() }
    }

    /// Takes all space that is left.
    pub fn fill(&self) {
        let mut ballast = File::options()
            .create(true)
            .append(true)
            .open(self.ballast())
            .expect("the folder is there");
        for size in [1 << 16, 1] {
            let error = loop {
                if let Err(error) = ballast.write_all(&vec![0; size]) {
                    break error;
                }
            };
            assert_eq!(error.kind(), ErrorKind::StorageFull, "{error}");
        }
    }

    /// Gives it back.
    pub fn free(&self) {
        fs::remove_file(self.ballast()).expect("it was filled");
    }

    fn ballast(&self) -> PathBuf {
        self.folder.join("ballast")
    }
}

impl Drop for Disk {
    fn drop(&mut self) {
        unmount(&self.folder);
    }
}

/// Unmounts what is mounted under a folder: a run that was killed could not.
pub(crate) fn unmount_under(folder: &Path) {
    let mounts = fs::read_to_string("/proc/self/mounts").unwrap_or_default();
    let points = mounts.lines().filter_map(|line| line.split(' ').nth(1)).map(Path::new);
    points.filter(|point| point.starts_with(folder)).for_each(unmount);
}

/// Also while somebody still holds a file of it open.
fn unmount(folder: &Path) {
    let _ = Command::new("umount").arg("--lazy").arg(folder).status();
}
