//! Instants between the contract, the database and the arithmetic.

use jiff::Timestamp;
use prost_types::Timestamp as Proto;

/// The instant in the contract's form.
pub fn to_proto(instant: Timestamp) -> Proto {
    Proto { seconds: instant.as_second(), nanos: instant.subsec_nanosecond() }
}

/// The instant that the contract's form means; `None` where it means none.
pub fn from_proto(proto: &Proto) -> Option<Timestamp> {
    if !(0..1_000_000_000).contains(&proto.nanos) {
        return None;
    }
    Timestamp::new(proto.seconds, proto.nanos).ok()
}

/// Microseconds since 1970, as the databases keep instants.
pub fn micros(proto: &Proto) -> i64 {
    proto.seconds.saturating_mul(1_000_000).saturating_add(i64::from(proto.nanos / 1_000))
}
