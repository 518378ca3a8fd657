//! What is closed some time: since when, and from when its texts are kept no
//! longer.

use jiff::Timestamp;
use samen_log::Record;

/// Streams that are closed some time, and may be opened again.
#[derive(Clone, Copy, Debug)]
pub struct Closing {
    /// What their names begin with: `request` of `request/<id>`.
    pub kind: &'static str,
    /// Since when one is closed after one more of its records, from since when
    /// it was before that. `None` while it is open.
    pub since: fn(Option<Timestamp>, &Record) -> Option<Timestamp>,
}

impl Closing {
    /// Whether a stream is one of these.
    pub fn covers(&self, stream: &str) -> bool {
        stream.split_once('/').is_some_and(|(kind, _)| kind == self.kind)
    }

    /// Since when a stream with these records is closed, if it is.
    pub fn closed_since<'a>(
        &self,
        records: impl IntoIterator<Item = &'a Record>,
    ) -> Option<Timestamp> {
        records.into_iter().fold(None, self.since)
    }
}
