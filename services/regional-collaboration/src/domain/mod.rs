//! Partners, agreements, feeds and disclosures. Pure: no clock, no randomness,
//! no I/O.

pub mod agreement;
pub mod disclosure;
pub mod feed;
pub mod partner;
mod rejection;

pub use rejection::Rejection;
