//! What a partner reads of a record.

pub mod cloudevent;
pub mod minimise;
