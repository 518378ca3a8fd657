//! The keys that were destroyed, listed apart from every backup: whoever
//! restores an old backup applies the list, so that nobody is revived.

use std::collections::HashMap;
use std::fs::File;
use std::io::{self, Read, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};

use jiff::Timestamp;
use sqlx::Row;

use crate::db::{Schema, Tx};

/// Key ids in one statement.
const BATCH: usize = 1_000;
/// Bytes of the list's end in which a line that was cut off is looked for.
const TAIL: u64 = 4 << 10;

/// Destroyed keys, by the id of their log.
///
/// In the file a line is `<log id> <key id> <RFC 3339 time> <reason>`; blank
/// lines and those that begin with `#` say nothing.
#[derive(Clone, Debug, Default)]
pub struct DestroyedKeys(HashMap<String, Vec<String>>);

/// Why a list of destroyed keys cannot be read.
#[derive(Debug, thiserror::Error)]
pub enum DestroyedKeysError {
    #[error("{}: {cause}", path.display())]
    File { path: PathBuf, cause: std::io::Error },
    #[error(
        "{}, line {line}: must be a log's id, a key's id, a time and a reason",
        path.display()
    )]
    Malformed { path: PathBuf, line: usize },
}

impl DestroyedKeys {
    /// Reads a list. A last line that was cut off while it was written counts
    /// only when its time is there: the key before it is then whole.
    pub fn load(path: &Path) -> Result<Self, DestroyedKeysError> {
        let file = |cause| DestroyedKeysError::File { path: path.to_owned(), cause };
        let text = std::fs::read_to_string(path).map_err(file)?;
        let mut keys: HashMap<String, Vec<String>> = HashMap::new();
        let lines = text.split_inclusive('\n').enumerate();
        for (number, line) in lines {
            let entry = line.trim();
            if entry.is_empty() || entry.starts_with('#') {
                continue;
            }
            match parse(entry) {
                Some((log, key)) => keys.entry(log.to_owned()).or_default().push(key.to_owned()),
                None if !line.ends_with('\n') => {}
                None => {
                    let (path, line) = (path.to_owned(), number + 1);
                    return Err(DestroyedKeysError::Malformed { path, line });
                }
            }
        }
        Ok(DestroyedKeys(keys))
    }

    /// The destroyed keys of one log.
    pub fn of_log(&self, log: &str) -> impl Iterator<Item = &str> {
        self.0.get(log).into_iter().flatten().map(String::as_str)
    }
}

/// Makes an empty list where there is none, and what its folder says of it
/// durable.
pub fn create(path: &Path) -> io::Result<()> {
    use std::os::unix::fs::OpenOptionsExt;
    if path.exists() {
        return Ok(());
    }
    File::options().append(true).create(true).mode(0o600).open(path)?.sync_all()?;
    // The name of a new file is the folder's to keep.
    let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty());
    File::open(folder.unwrap_or(Path::new(".")))?.sync_all()
}

/// Adds keys of one log to the list. They are on the disk when this returns.
/// The list must be there: one that went missing and was made again would hold
/// less than was destroyed, and nobody would be told. Processes of several machines may write
/// to one list: each waits for the others.
///
/// Refuses all of them where one would not be read again as it is written.
pub fn append<'a>(
    path: &Path,
    log: &str,
    keys: impl IntoIterator<Item = (&'a str, &'a str)>,
) -> io::Result<()> {
    let now = Timestamp::now();
    let mut entries = String::new();
    for (key, reason) in keys {
        if ![log, key, reason].into_iter().all(is_word) {
            let told = format!("{log:?} {key:?} {reason:?} cannot stand on a line of it");
            return Err(io::Error::new(io::ErrorKind::InvalidInput, told));
        }
        entries.push_str(&format!("{log} {key} {now:.0} {reason}\n"));
    }
    let mut list = File::options().read(true).append(true).open(path)?;
    list.lock()?;
    let mut lines = mend(&mut list)?;
    lines.push_str(&entries);
    list.write_all(lines.as_bytes())?;
    list.sync_all()
}

/// Whether a line can be taken apart again that has this among its words. One
/// that begins with `#` would say nothing.
fn is_word(text: &str) -> bool {
    let apart = |c: char| c.is_whitespace() || c.is_control();
    !text.is_empty() && !text.starts_with('#') && !text.contains(apart)
}

/// Makes the list end with a whole line: takes one back that was cut off while
/// it was written, or gives the end of a line that only lacks it.
fn mend(list: &mut File) -> io::Result<String> {
    let length = list.metadata()?.len();
    let from = length.saturating_sub(TAIL);
    list.seek(SeekFrom::Start(from))?;
    let mut tail = Vec::new();
    list.read_to_end(&mut tail)?;
    let begin = tail.iter().rposition(|byte| *byte == b'\n').map_or(0, |at| at + 1);
    let last = &tail[begin..];
    if last.is_empty() {
        return Ok(String::new());
    }
    if std::str::from_utf8(last).is_ok_and(|line| parse(line).is_some()) {
        return Ok("\n".to_owned());
    }
    list.set_len(from + begin as u64)?;
    Ok(String::new())
}

/// A line's log and key.
fn parse(line: &str) -> Option<(&str, &str)> {
    let mut words = line.split_whitespace();
    let (log, key, time) = (words.next()?, words.next()?, words.next()?);
    time.parse::<Timestamp>().ok()?;
    Some((log, key))
}

/// Destroys these keys beside a log: a key's row stays, without the key, and
/// is made where it is missing, so that the key is never made again. Gives
/// those that were not destroyed before.
pub async fn apply<'a>(
    schema: &Schema,
    ids: impl IntoIterator<Item = &'a str>,
) -> sqlx::Result<Vec<String>> {
    let mut ids: Vec<&str> = ids.into_iter().collect();
    // PostgreSQL cannot touch one row twice in one statement.
    ids.sort_unstable();
    ids.dedup();
    let mut newly = Vec::new();
    let mut tx = schema.begin().await?;
    for ids in ids.chunks(BATCH) {
        let from = match &tx {
            Tx::Postgres(_) => "unnest($1::text[]) AS ids(value)",
            Tx::Sqlite(_) => "json_each($1) AS ids",
        };
        let sql = schema.sql(&format!(
            "INSERT INTO {{s}}.sealing_key AS k (id, wrapped)
             SELECT ids.value, NULL FROM {from} WHERE true
             ON CONFLICT (id) DO UPDATE SET wrapped = NULL WHERE k.wrapped IS NOT NULL
             RETURNING id"
        ));
        match &mut tx {
            Tx::Postgres(tx) => {
                let rows = sqlx::query(sql).bind(ids).fetch_all(&mut **tx).await?;
                newly.extend(rows.iter().map(|row| row.get::<String, _>(0)));
            }
            Tx::Sqlite(tx) => {
                let ids = serde_json::Value::from(ids.to_vec()).to_string();
                let rows = sqlx::query(sql).bind(ids).fetch_all(&mut **tx).await?;
                newly.extend(rows.iter().map(|row| row.get::<String, _>(0)));
            }
        }
    }
    tx.commit().await?;
    Ok(newly)
}
