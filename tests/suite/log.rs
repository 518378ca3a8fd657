//! The log's promises, on both databases, through its public API.

mod append;
mod backup;
mod commands;
mod crash;
mod cut;
mod destroyed;
mod exchange;
mod follow;
mod lock;
mod overload;
mod pool;
mod relay;
mod replicas;
mod restored;
mod seal;
pub mod shared;
mod store;
mod verify;
