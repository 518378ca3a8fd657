//! What all services of one municipality's deployment know.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use base64::Engine;
use base64::prelude::BASE64_URL_SAFE_NO_PAD;
use hmac::{Hmac, KeyInit, Mac};
use samen_log::MasterKey;
use sha2::Sha256;
use tokio_util::sync::CancellationToken;

use crate::area::Area;
use crate::calendar::Calendar;
use crate::identity::Verifier;
use crate::metrics::{Count, Counts};
use crate::paging::Pages;
use crate::streams::Streams;

/// Bytes of a pseudonymous id: 22 characters of base64url.
const BYTES: usize = 16;

/// One municipality's deployment. Cheap to clone.
#[derive(Clone)]
pub struct Deployment {
    /// CBS code, such as `GM0384`.
    pub municipality: String,
    /// Organisatie-identificatienummer, 20 digits.
    pub oin: String,
    pub area: Area,
    /// By which working days and moments are counted.
    pub calendar: Calendar,
    pub master: MasterKey,
    pub verifier: Arc<Verifier>,
    pub pages: Pages,
    /// The limits of streams, and how many are open.
    pub streams: Streams,
    /// How many connections are open, by the address that they came to.
    pub connections: Counts,
    /// How often a silent connection is asked whether it lives.
    pub keepalive: Duration,
    /// Cancelled once, when the process is asked to stop.
    pub shutdown: CancellationToken,
}

impl Deployment {
    /// Counts the connections to one address.
    pub fn connections_to(&self, address: SocketAddr) -> Count {
        self.connections.get_or_create_owned(&vec![("address", address.to_string())])
    }

    /// The id of a service's log: `gm0384.requests`.
    pub fn log_id(&self, service: &str) -> String {
        format!("{}.{service}", self.municipality.to_lowercase())
    }
}

/// The pseudonymous ids of people: one for each person and deployment, the
/// same in all of its services, and of no use to anybody else.
#[derive(Clone)]
pub struct Pseudonyms(Hmac<Sha256>);

impl Pseudonyms {
    pub fn new(master: &MasterKey) -> Self {
        let key = master.derive("pseudonyms");
        Pseudonyms(Hmac::new_from_slice(key.as_slice()).expect("HMAC takes a key of any length"))
    }

    /// The id of whom this issuer calls by this subject.
    pub fn of(&self, issuer: &str, subject: &str) -> String {
        let mut mac = self.0.clone();
        mac.update(&(issuer.len() as u64).to_be_bytes());
        mac.update(issuer.as_bytes());
        mac.update(subject.as_bytes());
        BASE64_URL_SAFE_NO_PAD.encode(&mac.finalize().into_bytes()[..BYTES])
    }

    /// Whether this could be one of these ids: they stand in keys' names, and so
    /// on the list of destroyed keys, where not every text may.
    pub fn could_be(id: &str) -> bool {
        BASE64_URL_SAFE_NO_PAD.decode(id).is_ok_and(|bytes| bytes.len() == BYTES)
    }
}
