//! What a partner reads of a record, and what of it can be erased.

pub mod cloudevent;
pub mod keys;
pub mod minimise;
