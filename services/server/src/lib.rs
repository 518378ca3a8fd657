//! What every service shares as a server.
//!
//! - [`deployment`]: what all services of one municipality's deployment know;
//! - [`core`]: what every service stands on;
//! - [`operations`] and [`metrics`]: how it does, for operators and their
//!   machines;
//! - [`area`]: neighbourhoods by point;
//! - [`calendar`]: working days, public holidays, the clock on the wall;
//! - [`identity`]: who calls: tokens and client certificates;
//! - [`access`]: who may call what, as the contract says;
//! - [`grpc`]: a port: TLS, limits, reflection, gRPC-Web, drain;
//! - [`health`]: what a port says of itself to whoever chooses among servers;
//! - [`connections`]: how many a port takes, and when one is given up;
//! - [`log_service`]: a service's log at its owner's door;
//! - [`privacy`]: forgetting people, and what else they may ask;
//! - [`notices`]: what people are told, once each;
//! - [`reply`]: refusals that name the field and what is allowed;
//! - [`calls`]: commands that are done once, and reading one's own writes;
//! - [`paging`]: lists, page by page;
//! - [`streams`]: server streams: what ends them, and where a reader resumes;
//! - [`watch`]: what there is, then what changes, read once for all;
//! - [`pki`]: trial certificates;
//! - [`telemetry`]: what operators read.

pub mod access;
pub mod area;
pub mod calendar;
pub mod calls;
pub mod connections;
pub mod core;
pub mod deployment;
pub mod grpc;
mod health;
pub mod identity;
pub mod log_service;
pub mod metrics;
pub mod notices;
pub mod operations;
pub mod paging;
pub mod pki;
pub mod privacy;
pub mod reply;
pub mod streams;
pub mod telemetry;
pub mod time;
pub mod watch;

pub use core::Core;
pub use deployment::Deployment;
pub use identity::Caller;
