//! What every service shares as a server.
//!
//! - [`deployment`]: what all services of one municipality's deployment know;
//! - [`area`]: neighbourhoods by point;
//! - [`identity`]: who calls: tokens and client certificates;
//! - [`access`]: who may call what, as the contract says;
//! - [`grpc`]: a port: TLS, limits, health, reflection, gRPC-Web, drain;
//! - [`log_service`]: a service's log at its owner's door;
//! - [`privacy`]: forgetting people, and what else they may ask;
//! - [`reply`]: refusals that name the field and what is allowed;
//! - [`calls`]: commands that are done once, and reading one's own writes;
//! - [`paging`]: lists, page by page;
//! - [`streams`]: server streams that heed shutdown and show that they live;
//! - [`pki`]: trial certificates;
//! - [`telemetry`]: what operators read.

pub mod access;
pub mod area;
pub mod calls;
pub mod deployment;
pub mod grpc;
pub mod identity;
pub mod log_service;
pub mod paging;
pub mod pki;
pub mod privacy;
pub mod reply;
pub mod streams;
pub mod telemetry;
pub mod time;

pub use deployment::Deployment;
pub use identity::Caller;
