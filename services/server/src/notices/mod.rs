//! What a service tells people (`Notice`), whatever it is about: one for each
//! event and recipient, in the log of the service that tells.
//!
//! A service says who is told of what ([`teller::Tells`]) and opens the texts
//! ([`service::Inbox`]); the rest is here:
//!
//! - [`notice`]: one notice, and what may happen to it;
//! - [`teller`]: the reactor that tells, once, whoever crashes;
//! - [`table`]: what is read of notices;
//! - [`service`]: the inbox, over gRPC;
//! - [`outgoing`]: notices as they come, for channels that deliver them.

pub mod notice;
mod outgoing;
pub mod service;
pub mod table;
pub mod teller;

pub use service::{Contact, Inbox, InboxDoor};
pub use table::NoticeRow;
pub use teller::{Failure, Tells, Told};

/// The gRPC service that this is.
pub const SERVICE: &str = "samen.notices.v1.InboxService";
/// The channel by which a recipient reads in the inbox.
pub const INBOX: &str = "inbox";
