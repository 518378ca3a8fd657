//! Partners, agreements, feeds, disclosures and erasures. Pure: no clock, no
//! randomness, no I/O.

use samen_log::Cursor;

pub mod agreement;
pub mod disclosure;
pub mod erasure;
pub mod feed;
pub mod known;
pub mod partner;
mod rejection;
pub mod source;

pub use rejection::Rejection;

/// A place in a source log, as events have it.
fn cursor(epoch: u64, position: u64, hash: &[u8]) -> Cursor {
    match position {
        0 => Cursor::START,
        _ => Cursor { epoch, position, hash: Some(hash.to_vec()) },
    }
}
