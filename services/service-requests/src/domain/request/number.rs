//! The number by which people know a request (meldingsnummer).

use samen_log::Record;
use samen_proto::log::Position;

/// How far numbers leap with each epoch: further than any tail of a log that a
/// restore may lose, so that no number is given twice.
const LEAP: u64 = 1_000_000;

/// The number of what stands at a position of the log: unique without asking
/// anybody, and told to the reporter at once.
fn at(epoch: u64, position: u64) -> u64 {
    position + epoch.saturating_sub(1) * LEAP
}

/// The number of the request that this record filed.
pub fn of(record: &Record) -> u64 {
    at(record.epoch, record.position)
}

/// The number of the request that was filed first in a command that ended here.
pub fn of_filed(first: u64, ended: &Position) -> u64 {
    at(ended.epoch, first)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_lost_in_a_restore_lends_its_numbers_to_nobody() {
        assert_eq!(at(1, 42), 42);
        let lost = 10..=500_000;
        assert!(lost.map(|position| at(1, position)).all(|number| number < at(2, 10)));
        assert!(at(2, 900_000) < at(3, 900_000));
    }
}
