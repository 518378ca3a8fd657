//! The log's promises, on both databases, through its public API.

mod append;
mod commands;
mod crash;
mod cut;
mod exchange;
mod follow;
mod lock;
mod overload;
mod pool;
mod relay;
mod replicas;
mod seal;
pub(crate) mod shared;
mod store;
