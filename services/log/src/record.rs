//! What stands in a log, and its hash chain.

use jiff::Timestamp;
use sha2::{Digest, Sha256};

pub use samen_proto::log::{Position, Record};

/// The hash before the first record.
pub const GENESIS: [u8; 32] = [0; 32];
/// Bytes of randomness in each record's hash, so that nobody can guess a
/// masked record's content and prove it by its hash.
pub const SALT_BYTES: usize = 16;

/// A record's hash: over the previous hash, the salt, and each field with its
/// length before it. Sealed fields are hashed as they stand, encrypted, so
/// that forgetting changes no hash.
pub fn hash(previous: &[u8], salt: &[u8], record: &Record) -> [u8; 32] {
    let mut sha = Sha256::new();
    let mut field = |bytes: &[u8]| {
        sha.update((bytes.len() as u64).to_be_bytes());
        sha.update(bytes);
    };
    field(previous);
    field(salt);
    field(record.log.as_bytes());
    field(&record.epoch.to_be_bytes());
    field(&record.position.to_be_bytes());
    field(record.stream.as_bytes());
    field(&record.version.to_be_bytes());
    field(record.r#type.as_bytes());
    field(record.actor.as_bytes());
    field(&micros(record).to_be_bytes());
    field(&record.data);
    sha.finalize().into()
}

/// When the record was made, in microseconds since 1970; 0 in a placeholder.
pub fn micros(record: &Record) -> i64 {
    record.recorded_at.as_ref().map_or(0, |t| t.seconds * 1_000_000 + i64::from(t.nanos) / 1_000)
}

/// When the record was made.
pub fn recorded_at(record: &Record) -> Timestamp {
    Timestamp::from_microsecond(micros(record)).unwrap_or(Timestamp::UNIX_EPOCH)
}

/// Microseconds since 1970 as the contract writes an instant.
pub fn timestamp(micros: i64) -> prost_types::Timestamp {
    prost_types::Timestamp {
        seconds: micros.div_euclid(1_000_000),
        nanos: (micros.rem_euclid(1_000_000) * 1_000) as i32,
    }
}

/// The record's place.
pub fn position(record: &Record) -> Position {
    Position { log: record.log.clone(), epoch: record.epoch, position: record.position }
}
