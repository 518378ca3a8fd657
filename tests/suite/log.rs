//! The log's promises, on both databases, through its public API.

mod append;
mod backup;
mod commands;
mod crash;
mod exchange;
mod follow;
mod relay;
mod seal;
pub mod shared;
mod store;
mod verify;
