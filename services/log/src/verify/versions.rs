//! The versions of streams: 1, 2, 3 … each, in bounded memory.

use std::collections::HashMap;

use sha2::{Digest, Sha256};
use sqlx::Row;

use super::Kind;
use crate::db::{Db, Schema};

/// Streams whose version is remembered, at some 50 bytes each. Beyond that all
/// are forgotten, and asked of the database as they come up again.
const MAX_STREAMS: usize = 1_500_000;

/// Part of the SHA-256 of a stream's name: names may be long, and nobody can
/// make two that have the same.
type Name = [u8; 16];

/// The version at which each stream was seen last.
pub(super) struct Versions {
    seen: HashMap<Name, u64>,
    /// Whether a stream that is not remembered is new.
    complete: bool,
    most: usize,
}

/// How a record's version fits its stream.
pub(super) enum Seen {
    Follows,
    Wrong {
        expected: u64,
    },
    /// What is remembered does not tell: to be asked of the database.
    Unknown,
}

/// A record whose stream's version before it is not known here.
pub(super) struct Question {
    pub position: i64,
    pub stream: String,
    pub version: u64,
}

// === impl Versions ===

impl Versions {
    /// Nothing seen yet; `complete` where nothing came before.
    pub(super) fn new(complete: bool) -> Self {
        Versions { seen: HashMap::new(), complete, most: MAX_STREAMS }
    }

    /// Moves a stream on to this version.
    pub(super) fn step(&mut self, stream: &str, version: u64) -> Seen {
        if self.seen.len() >= self.most {
            self.seen.clear();
            self.complete = false;
        }
        let before = self.seen.insert(name(stream), version);
        let expected = match before {
            Some(before) => before.saturating_add(1),
            None if self.complete => 1,
            None => return Seen::Unknown,
        };
        if version == expected { Seen::Follows } else { Seen::Wrong { expected } }
    }
}

/// The first of these records, in order, whose version does not follow the one
/// that its stream had before it.
pub(super) async fn first_wrong(
    schema: &Schema,
    questions: &[Question],
) -> sqlx::Result<Option<(i64, Kind)>> {
    if questions.is_empty() {
        return Ok(None);
    }
    let before = match &schema.db {
        Db::Postgres(pool) => {
            let rows = sqlx::query(schema.sql(
                "SELECT coalesce((
                     SELECT version FROM {s}.record AS r
                     WHERE r.stream = q.stream AND r.version <= q.version AND r.position < q.position
                     ORDER BY r.version DESC LIMIT 1), 0)
                 FROM unnest($1::bigint[], $2::text[], $3::bigint[]) WITH ORDINALITY
                      AS q(position, stream, version, number)
                 ORDER BY q.number",
            ))
            .bind(questions.iter().map(|q| q.position).collect::<Vec<_>>())
            .bind(questions.iter().map(|q| q.stream.as_str()).collect::<Vec<_>>())
            .bind(questions.iter().map(|q| q.version as i64).collect::<Vec<_>>())
            .fetch_all(pool)
            .await?;
            rows.iter().map(|row| row.try_get(0)).collect::<sqlx::Result<Vec<i64>>>()?
        }
        Db::Sqlite(pool) => {
            let asked: Vec<_> =
                questions.iter().map(|q| (q.position, &q.stream, q.version as i64)).collect();
            let rows = sqlx::query(schema.sql(
                "SELECT coalesce((
                     SELECT version FROM {s}.record AS r
                     WHERE r.stream = q.value ->> 1 AND r.version <= q.value ->> 2
                       AND r.position < q.value ->> 0
                     ORDER BY r.version DESC LIMIT 1), 0)
                 FROM json_each($1) AS q ORDER BY q.key",
            ))
            .bind(serde_json::json!(asked).to_string())
            .fetch_all(pool)
            .await?;
            rows.iter().map(|row| row.try_get(0)).collect::<sqlx::Result<Vec<i64>>>()?
        }
    };
    let wrong = questions.iter().zip(before).find_map(|(question, before)| {
        let expected = (before as u64).saturating_add(1);
        (question.version != expected).then(|| {
            let (stream, found) = (question.stream.clone(), question.version);
            (question.position, Kind::Version { stream, found, expected })
        })
    });
    Ok(wrong)
}

fn name(stream: &str) -> Name {
    let digest: [u8; 32] = Sha256::digest(stream.as_bytes()).into();
    std::array::from_fn(|byte| digest[byte])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versions_follow_each_other_in_each_stream() {
        let mut versions = Versions::new(true);
        for version in 1..4 {
            assert!(matches!(versions.step("a", version), Seen::Follows));
            assert!(matches!(versions.step("b", version), Seen::Follows));
        }
        assert!(matches!(versions.step("a", 5), Seen::Wrong { expected: 4 }));
        assert!(matches!(versions.step("b", 3), Seen::Wrong { expected: 4 }));
        assert!(matches!(versions.step("c", 2), Seen::Wrong { expected: 1 }));
    }

    #[test]
    fn what_was_forgotten_is_asked_for() {
        let mut versions = Versions { most: 2, ..Versions::new(true) };
        assert!(matches!(versions.step("a", 1), Seen::Follows));
        assert!(matches!(versions.step("b", 1), Seen::Follows));
        assert!(matches!(versions.step("c", 1), Seen::Unknown));
        assert!(matches!(versions.step("a", 2), Seen::Unknown));
        assert!(versions.seen.len() <= 2);
    }
}
