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
//! - [`verify`] and [`checkpoint`]: whether a log is whole, and whether its
//!   history is the one that was signed for;
//! - [`note`]: text that the deployment signs, and anybody can check;
//! - [`backup`]: a log in files, and back from them;
//! - [`destroyed`]: the list of destroyed keys that no backup revives;
//! - [`scan`]: looking a whole log through for some of its records;
//! - [`store`] and [`projector`]: projection stores, and how they follow;
//! - [`react`]: how reactors follow;
//! - [`lease`]: what one process does at a time;
//! - [`exchange`]: what the relay and followers need of the exchange, and
//!   [`jetstream`], which has it from NATS;
//! - [`relay`] and [`streamed`]: a log's way out to the exchange, and back in;
//! - [`remote`]: a log followed over gRPC;
//! - [`tasks`], [`supervise`] and [`backoff`]: what background tasks show,
//!   that they must not end, and how long they rest after a failure;
//! - [`db`] and [`sql`]: PostgreSQL and SQLite behind one type, and statements
//!   for both.

pub mod append;
pub mod backoff;
pub mod backup;
pub mod checkpoint;
pub mod command;
pub mod db;
pub mod destroyed;
pub mod exchange;
pub mod follow;
pub mod jetstream;
pub mod lease;
pub mod log;
pub mod mask;
pub mod note;
pub mod projector;
pub mod react;
pub mod record;
pub mod relay;
pub mod remote;
pub mod scan;
pub mod seal;
pub mod sql;
pub mod store;
pub mod streamed;
pub mod supervise;
mod tail;
pub mod tasks;
pub mod verify;

pub use append::{Append, AppendError, Appended, CommandId, Expected, NewEvent};
pub use backup::{Backup, BackupError, EmptyLog, back_up};
pub use checkpoint::Checkpoint;
pub use command::{Aggregate, Aggregates, Command, CommandError, Decision, Event, Outcome};
pub use db::{Db, Location, Schema};
pub use destroyed::DestroyedKeys;
pub use follow::{Cursor, Follow, FollowError, Item};
pub use lease::Leases;
pub use log::Log;
pub use mask::Exchanged;
pub use record::Record;
pub use seal::{Keyring, MasterKey};
pub use sql::{Row, Sql};
pub use store::{Projection, Store};
pub use supervise::supervise;
pub use tasks::{Task, Tasks};
