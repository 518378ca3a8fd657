//! Private files that are on the disk when it is said so: wrapped keys are in
//! them, and somebody relies on them.

use std::fs::{DirBuilder, File};
use std::io::Write;
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use prost::Message;
use sha2::{Digest, Sha256};

use super::BackupError;
use super::manifest::Entry;

/// A file is closed when it has grown to this. Each is held in memory while it
/// is written or read.
const FILE_BYTES: usize = 16 << 20;

/// Messages of one kind on their way into numbered files.
pub(super) struct Files {
    folder: PathBuf,
    kind: &'static str,
    open: Vec<u8>,
    count: u64,
    closed: Vec<Entry>,
}

impl Files {
    pub(super) fn new(folder: &Path, kind: &'static str) -> Self {
        let folder = folder.to_owned();
        Files { folder, kind, open: Vec::new(), count: 0, closed: Vec::new() }
    }

    pub(super) async fn push(&mut self, message: &impl Message) -> Result<(), BackupError> {
        // A Vec takes any message.
        let length = message.encoded_len();
        self.open.reserve(length + prost::length_delimiter_len(length));
        self.open.extend(message.encode_length_delimited_to_vec());
        self.count += 1;
        if self.open.len() >= FILE_BYTES { self.close().await } else { Ok(()) }
    }

    /// What was written.
    pub(super) async fn finish(mut self) -> Result<Vec<Entry>, BackupError> {
        if self.count > 0 {
            self.close().await?;
        }
        Ok(self.closed)
    }

    async fn close(&mut self) -> Result<(), BackupError> {
        let name = format!("{}-{:06}", self.kind, self.closed.len() + 1);
        let bytes = std::mem::take(&mut self.open);
        let count = std::mem::take(&mut self.count);
        self.closed.push(write_entry(&self.folder, &name, count, bytes).await?);
        Ok(())
    }
}

/// Writes one file, and gives what the manifest says of it.
pub(super) async fn write_entry(
    folder: &Path,
    name: &str,
    count: u64,
    bytes: Vec<u8>,
) -> Result<Entry, BackupError> {
    let sha256 = Sha256::digest(&bytes).to_vec();
    let entry = Entry { name: name.to_owned(), size: bytes.len() as u64, count, sha256 };
    write_file(folder.join(name), bytes).await?;
    Ok(entry)
}

/// Writes a file that only its owner can read, and syncs it.
pub(super) async fn write_file(path: PathBuf, bytes: Vec<u8>) -> Result<(), BackupError> {
    blocking(path, move |path| {
        let mut file = File::options().write(true).create_new(true).mode(0o600).open(path)?;
        file.write_all(&bytes)?;
        file.sync_all()
    })
    .await
}

/// Makes a folder that only its owner can enter, where it is missing.
pub(super) async fn make_folder(path: PathBuf) -> Result<(), BackupError> {
    blocking(path, |path| DirBuilder::new().recursive(true).mode(0o700).create(path)).await
}

/// Syncs a folder, so that what was made in it is found after a power failure.
pub(super) async fn sync_folder(path: PathBuf) -> Result<(), BackupError> {
    blocking(path, |path| File::open(path)?.sync_all()).await
}

/// Gives a file its name: it appears whole or not at all.
pub(super) async fn rename(from: PathBuf, to: PathBuf) -> Result<(), BackupError> {
    blocking(to, move |to| std::fs::rename(from, to)).await
}

/// The names in a folder.
pub(super) async fn names(path: PathBuf) -> Result<Vec<String>, BackupError> {
    blocking(path, |path| {
        let name = |entry: std::fs::DirEntry| entry.file_name().to_string_lossy().into_owned();
        std::fs::read_dir(path)?.map(|entry| entry.map(name)).collect()
    })
    .await
}

/// A file's content, when it is what the manifest says.
pub(super) async fn read_entry(folder: &Path, entry: &Entry) -> Result<Vec<u8>, BackupError> {
    let path = folder.join(&entry.name);
    let altered = |reason| BackupError::Altered { path: path.clone(), reason };
    let size = blocking(path.clone(), |path| Ok(std::fs::metadata(path)?.len())).await?;
    if size != entry.size {
        return Err(altered(format!("it has {size} bytes, and was written with {}", entry.size)));
    }
    let bytes = read(path.clone()).await?;
    if Sha256::digest(&bytes).to_vec() != entry.sha256 {
        return Err(altered("its content is not what was written".to_owned()));
    }
    Ok(bytes)
}

/// The messages in a file's content.
pub(super) fn decode<M: Message + Default>(
    folder: &Path,
    entry: &Entry,
    bytes: &[u8],
) -> Result<Vec<M>, BackupError> {
    let altered = |reason| BackupError::Altered { path: folder.join(&entry.name), reason };
    let mut messages = Vec::new();
    let mut rest = bytes;
    while !rest.is_empty() {
        let message = M::decode_length_delimited(&mut rest);
        messages.push(message.map_err(|error| altered(error.to_string()))?);
    }
    if messages.len() as u64 != entry.count {
        let found = messages.len();
        return Err(altered(format!("it holds {found} entries, not {}", entry.count)));
    }
    Ok(messages)
}

/// A file's content.
pub(super) async fn read(path: PathBuf) -> Result<Vec<u8>, BackupError> {
    blocking(path, |path| std::fs::read(path)).await
}

/// Runs file work where it holds up nobody.
async fn blocking<T: Send + 'static>(
    path: PathBuf,
    work: impl FnOnce(&Path) -> std::io::Result<T> + Send + 'static,
) -> Result<T, BackupError> {
    let at = path.clone();
    let done = tokio::task::spawn_blocking(move || work(&at)).await;
    let done = done.unwrap_or_else(|error| Err(std::io::Error::other(error)));
    done.map_err(|cause| BackupError::File { path, cause })
}
