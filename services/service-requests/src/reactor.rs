//! What this service does on its own events. Reconcilers all: each begins from
//! what the log says, and doing something twice changes nothing.
//!
//! - [`notices`]: who is told of what.

use samen_server::notices::teller;

use crate::Requests;

pub mod notices;

/// Starts all of them; they end with the deployment.
pub fn start(service: &Requests) {
    teller::start(service, notices::Telling::new(service));
}
