//! Page tokens (AIP-158): where the page before ended, sealed against
//! tampering and bound to the query that gave it.

use base64::Engine;
use base64::prelude::BASE64_URL_SAFE_NO_PAD;
use hmac::{Hmac, KeyInit, Mac};
use samen_log::MasterKey;
use serde::Serialize;
use serde::de::DeserializeOwned;
use sha2::Sha256;
use tonic::Status;

use crate::reply::invalid;

/// Items on a page when the caller does not say.
const DEFAULT_SIZE: usize = 100;
/// Items on a page at most; asking for more gives this.
pub const MAX_SIZE: usize = 1_000;
const TAG_BYTES: usize = 16;

/// Makes and checks page tokens.
#[derive(Clone)]
pub struct Pages(Hmac<Sha256>);

impl Pages {
    pub fn new(master: &MasterKey) -> Self {
        let key = master.derive("page tokens");
        Pages(Hmac::new_from_slice(key.as_slice()).expect("HMAC takes a key of any length"))
    }

    /// A token for the page after `end`, of the query that `query` names with
    /// all of its filters.
    pub fn token(&self, query: &[u8], end: &impl Serialize) -> Result<String, Status> {
        let mut token = serde_json::to_vec(end).map_err(|e| Status::internal(e.to_string()))?;
        let tag = self.tag(query, &token);
        token.extend_from_slice(&tag);
        Ok(BASE64_URL_SAFE_NO_PAD.encode(token))
    }

    /// Where the page before ended; `None` for the first page.
    pub fn end<T: DeserializeOwned>(&self, query: &[u8], token: &str) -> Result<Option<T>, Status> {
        if token.is_empty() {
            return Ok(None);
        }
        let refusal = || {
            invalid(
                "page_token",
                "must be empty, or the next_page_token of a page with the same filter",
            )
        };
        let bytes = BASE64_URL_SAFE_NO_PAD.decode(token).map_err(|_| refusal())?;
        let (end, tag) =
            bytes.len().checked_sub(TAG_BYTES).map(|at| bytes.split_at(at)).ok_or_else(refusal)?;
        let mut mac = self.0.clone();
        absorb(&mut mac, query, end);
        mac.verify_truncated_left(tag).map_err(|_| refusal())?;
        serde_json::from_slice(end).map(Some).map_err(|_| refusal())
    }

    fn tag(&self, query: &[u8], end: &[u8]) -> [u8; TAG_BYTES] {
        let mut mac = self.0.clone();
        absorb(&mut mac, query, end);
        let full = mac.finalize().into_bytes();
        let mut tag = [0; TAG_BYTES];
        tag.copy_from_slice(&full[..TAG_BYTES]);
        tag
    }
}

fn absorb(mac: &mut Hmac<Sha256>, query: &[u8], end: &[u8]) {
    mac.update(&(query.len() as u64).to_be_bytes());
    mac.update(query);
    mac.update(end);
}

/// How many items a page has.
pub fn size(asked: i32) -> Result<usize, Status> {
    match usize::try_from(asked) {
        Ok(0) => Ok(DEFAULT_SIZE),
        Ok(size) => Ok(size.min(MAX_SIZE)),
        Err(_) => Err(invalid("page_size", "must be 0 (for 100) to 1000")),
    }
}
