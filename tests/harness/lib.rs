//! What the tests stand on: real servers, and processes that can be killed.
//!
//! - [`wait`]: conditions with a deadline;
//! - [`process`]: child processes, which never outlive the tests;
//! - [`samen`]: the program under test, as an operator runs it;
//! - [`deployment`]: the whole suite, in both ways it can run;
//! - [`browser`]: a real one;
//! - [`web`]: calls as a browser makes them;
//! - [`place`]: where a log is kept: each contract test runs on both databases;
//! - [`postgres`] and [`nats`]: servers on this machine;
//! - [`proxy`] and [`disk`]: a wire that fails, and a disk that is full;
//! - [`service`]: service requests alone, as often as a test wants;
//! - [`seed`]: chance that can be repeated;
//! - [`scratch`]: folders and ports.

pub mod browser;
pub mod deployment;
pub mod disk;
pub mod nats;
pub mod place;
pub mod postgres;
pub mod process;
pub mod proxy;
pub mod samen;
pub mod scratch;
pub mod seed;
pub mod servers;
pub mod service;
pub mod wait;
pub mod web;

pub use disk::Disk;
pub use nats::Nats;
pub use place::Place;
pub use postgres::Postgres;
pub use process::{Process, Signal};
pub use proxy::{Lost, Proxy};
pub use samen::{CATALOGUE_RECORDS, FILING_RECORDS};
pub use seed::{given_seed, seeded};
pub use service::Service;
pub use wait::eventually;
