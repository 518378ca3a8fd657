//! What a log was at one moment, in a form that can be signed, kept elsewhere,
//! and held against the log later.
//!
//! The text is a checkpoint in the manner of <https://c2sp.org/tlog-checkpoint>,
//! with the hash of the chain where a tree has that of its root:
//!
//! ```text
//! samen/gm0384.requests
//! 1024
//! <the head's hash, base64>
//! epoch 1
//! time 2026-03-01T09:30:00Z
//! ```

use std::fmt;

use base64::Engine;
use base64::prelude::BASE64_STANDARD;
use jiff::{Timestamp, Unit};
use sqlx::Row;

use crate::db::Schema;
use crate::on_db;
use crate::verify::{Fault, Kind, VerifyError, read_head};

const ORIGIN: &str = "samen/";

/// The head of a log at one moment.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Checkpoint {
    /// The log's id.
    pub log: String,
    /// 0 for a log that is empty.
    pub position: u64,
    pub hash: [u8; 32],
    pub epoch: u64,
    /// When it was made, to the second, by the clock of who made it.
    pub time: Timestamp,
}

/// The text is not a checkpoint.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("not a checkpoint: {0}")]
pub struct NotACheckpoint(&'static str);

// === impl Checkpoint ===

impl Checkpoint {
    /// Of the log whose tables are here, as it stands now. What is before the
    /// head is not looked at: that is what [`verify`](crate::verify::verify)
    /// does.
    pub async fn take(schema: &Schema) -> Result<Self, VerifyError> {
        let head = read_head(schema).await?;
        let fault = |kind| Fault { log: head.log.clone(), position: head.position, kind };
        if head.position > 0 {
            let sql = schema.sql("SELECT hash FROM {s}.record WHERE position = $1");
            let last: Option<Vec<u8>> = on_db!(&schema.db, pool => {
                let row = sqlx::query(sql).bind(head.position).fetch_optional(pool).await?;
                row.map(|row| row.try_get(0)).transpose()?
            });
            let last = last.ok_or_else(|| fault(Kind::Gap { found: None }))?;
            if last != head.hash {
                return Err(fault(Kind::Head).into());
            }
        }
        let hash = head.hash.as_slice().try_into().map_err(|_| fault(Kind::Head))?;
        let position = u64::try_from(head.position).map_err(|_| fault(Kind::Head))?;
        let now = Timestamp::now();
        let time = now.round(Unit::Second).unwrap_or(now);
        Ok(Checkpoint { log: head.log, position, hash, epoch: head.epoch, time })
    }

    /// Reads the text. Lines that a later release adds are let be.
    pub fn parse(text: &str) -> Result<Self, NotACheckpoint> {
        let mut lines = text.lines();
        let mut next = |missing| lines.next().ok_or(NotACheckpoint(missing));
        let log = next("it is empty")?
            .strip_prefix(ORIGIN)
            .filter(|log| !log.is_empty())
            .ok_or(NotACheckpoint("its first line is not samen/ and a log's id"))?;
        let position = number(next("it has no position")?)
            .ok_or(NotACheckpoint("its second line is not a position"))?;
        let hash = BASE64_STANDARD.decode(next("it has no hash")?).ok();
        let hash = hash
            .and_then(|hash| hash.try_into().ok())
            .ok_or(NotACheckpoint("its third line is not a hash"))?;
        let epoch = next("it has no epoch")?.strip_prefix("epoch ").and_then(number);
        let epoch = epoch.ok_or(NotACheckpoint("its fourth line is not an epoch"))?;
        let time = next("it has no time")?.strip_prefix("time ").and_then(|t| t.parse().ok());
        let time = time.ok_or(NotACheckpoint("its fifth line is not a time"))?;
        Ok(Checkpoint { log: log.to_owned(), position, hash, epoch, time })
    }

    /// The name of the key that signs for this log's deployment.
    pub fn signed_by(&self) -> String {
        key_name(&self.log)
    }
}

/// The name of the key that signs for the deployment that has this log:
/// `samen-gm0384` for `gm0384.requests`.
pub fn key_name(log: &str) -> String {
    format!("samen-{}", log.split('.').next().unwrap_or_default())
}

impl fmt::Display for Checkpoint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "{ORIGIN}{}", self.log)?;
        writeln!(f, "{}", self.position)?;
        writeln!(f, "{}", BASE64_STANDARD.encode(self.hash))?;
        writeln!(f, "epoch {}", self.epoch)?;
        writeln!(f, "time {}", self.time)
    }
}

/// Decimal digits and nothing else, as they are written.
fn number(text: &str) -> Option<u64> {
    text.parse().ok().filter(|number: &u64| number.to_string() == text)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn checkpoint(position: u64, hash: [u8; 32], epoch: u64, seconds: i64) -> Checkpoint {
        let time = Timestamp::from_second(seconds).unwrap();
        Checkpoint { log: "gm0384.requests".to_owned(), position, hash, epoch, time }
    }

    #[test]
    fn a_checkpoint_is_written_as_others_write_theirs() {
        let text = checkpoint(1024, [0; 32], 1, 1_772_357_400).to_string();
        assert_eq!(
            text,
            "samen/gm0384.requests\n1024\nAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA=\n\
             epoch 1\ntime 2026-03-01T09:30:00Z\n"
        );
        assert_eq!(checkpoint(0, [0; 32], 1, 0).signed_by(), "samen-gm0384");
    }

    #[test]
    fn what_is_not_a_checkpoint_is_refused_with_the_reason() {
        let text = checkpoint(7, [1; 32], 1, 0).to_string();
        let lines: Vec<_> = text.lines().collect();
        for at in 0..lines.len() {
            let short = lines[..at].join("\n");
            assert!(Checkpoint::parse(&short).is_err(), "{short:?}");
            let mut wrong = lines.clone();
            wrong[at] = "other";
            assert!(Checkpoint::parse(&wrong.join("\n")).is_err(), "line {at}");
        }
        for position in ["+7", "07", "-7", "7 ", "18446744073709551616"] {
            assert!(
                Checkpoint::parse(&text.replacen("\n7\n", &format!("\n{position}\n"), 1)).is_err()
            );
        }
        let more = format!("{text}witness somebody\n");
        assert_eq!(Checkpoint::parse(&more), Checkpoint::parse(&text));
    }

    proptest! {
        #[test]
        fn what_is_written_is_read(
            position in any::<u64>(),
            hash in any::<[u8; 32]>(),
            epoch in any::<u64>(),
            seconds in 0_i64..4_000_000_000,
        ) {
            let checkpoint = checkpoint(position, hash, epoch, seconds);
            prop_assert_eq!(Checkpoint::parse(&checkpoint.to_string()), Ok(checkpoint));
        }
    }
}
