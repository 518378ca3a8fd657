//! The log's promises, on both databases, through its public API.

mod append;
mod backup;
mod commands;
mod crash;
mod cut;
mod destroyed;
mod exchange;
mod follow;
mod hostile;
mod keeper;
mod lock;
mod overload;
mod pool;
mod projector;
pub mod relay;
mod remote;
mod replicas;
mod restored;
mod seal;
pub mod shared;
mod store;
mod verify;
