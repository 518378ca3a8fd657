//! The log: everything else in Samen follows one.
//!
//! Read in this order:
//!
//! - [`record`]: what stands in a log, and its hash chain;
//! - [`log`]: open, append, read, follow;
//! - [`append`]: group commit: many commands, one transaction;
//! - [`follow`]: the one trait by which everything follows a log;
//! - [`mask`]: what leaves the house;
//! - [`command`]: aggregates, and the loop around their deciders;
//! - [`seal`]: personal content and its keys;
//! - [`destroyed`]: the list of destroyed keys, apart from every backup;
//! - [`scan`]: looking a whole log through for some of its records;
//! - [`store`]: projection stores;
//! - [`relay`] and [`jetstream`]: a log's way out to NATS, and back in;
//! - [`remote`]: a log followed over gRPC;
//! - [`tasks`] and [`supervise`]: what background tasks show, and that they
//!   must not end;
//! - [`db`] and [`sql`]: PostgreSQL and SQLite behind one type, and statements
//!   for both.

pub mod append;
pub mod command;
pub mod db;
pub mod destroyed;
pub mod follow;
pub mod jetstream;
pub mod log;
pub mod mask;
pub mod record;
pub mod relay;
pub mod remote;
pub mod scan;
pub mod seal;
pub mod sql;
pub mod store;
pub mod supervise;
mod tail;
pub mod tasks;

pub use append::{Append, AppendError, Appended, CommandId, Expected, NewEvent};
pub use command::{Aggregate, Aggregates, Command, CommandError, Event, Outcome};
pub use db::{Db, Location, Schema};
pub use follow::{Cursor, Follow, FollowError, Item};
pub use log::Log;
pub use mask::Exchanged;
pub use record::Record;
pub use seal::{Keyring, MasterKey};
pub use sql::{Row, Sql};
pub use store::{Projection, Store};
pub use supervise::supervise;
pub use tasks::{Task, Tasks};
