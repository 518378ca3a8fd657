//! What processes and contributions are, and what may happen to them. Pure:
//! no clock, no randomness, no I/O.

pub mod contribution;
pub mod process;
