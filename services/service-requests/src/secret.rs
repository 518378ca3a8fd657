//! The secret of a request: whoever has it sees the reporter's page without
//! signing in.

use base64::Engine;
use base64::prelude::BASE64_URL_SAFE_NO_PAD;
use hmac::{Hmac, KeyInit, Mac};
use samen_log::MasterKey;
use sha2::Sha256;
use uuid::Uuid;

/// Makes and checks them. Cheap to clone.
#[derive(Clone)]
pub struct Secrets(Hmac<Sha256>);

impl Secrets {
    pub fn new(master: &MasterKey) -> Self {
        let key = master.derive("secrets of requests");
        Secrets(Hmac::new_from_slice(key.as_slice()).expect("HMAC takes a key of any length"))
    }

    /// The secret of the request with this id: 43 characters, safe in a URL.
    /// Empty for an id that is none.
    pub fn of(&self, id: &str) -> String {
        let Ok(id) = Uuid::parse_str(id) else { return String::new() };
        let mut mac = self.0.clone();
        mac.update(id.as_bytes());
        let tag = mac.finalize().into_bytes();
        BASE64_URL_SAFE_NO_PAD.encode([id.as_bytes().as_slice(), &tag[..16]].concat())
    }

    /// The id of the request that a secret is of. `None` for one that is
    /// nobody's.
    pub fn open(&self, secret: &str) -> Option<String> {
        let bytes = BASE64_URL_SAFE_NO_PAD.decode(secret).ok()?;
        let (id, tag) = bytes.split_first_chunk::<16>()?;
        let mut mac = self.0.clone();
        mac.update(id);
        (tag.len() == 16).then_some(())?;
        mac.verify_truncated_left(tag).ok()?;
        Some(Uuid::from_bytes(*id).to_string())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_secret_opens_its_own_request_only() {
        let secrets = Secrets::new(&MasterKey::generate(true));
        let id = Uuid::now_v7().to_string();
        let secret = secrets.of(&id);
        assert_eq!(secret.len(), 43);
        assert_eq!(secrets.open(&secret), Some(id.clone()));
        for at in 0..secret.len() {
            let mut forged = secret.clone().into_bytes();
            forged[at] = if forged[at] == b'A' { b'B' } else { b'A' };
            let forged = String::from_utf8(forged).expect("letters");
            assert_eq!(secrets.open(&forged), None, "{at}");
        }
        assert_eq!(secrets.open(&secret[..30]), None);
        assert_eq!(secrets.open(""), None);
        let others = Secrets::new(&MasterKey::generate(true));
        assert_eq!(others.open(&secret), None);
    }
}
