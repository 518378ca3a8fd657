//! Links that show one photo, until a moment.
//!
//! Whoever may see a request is given links to its photos, and needs nothing
//! else to open them: a browser fetches a picture without a token. So a link
//! is short-lived, and says nothing but which photo and until when, under the
//! deployment's own key. Nothing is stored for it, and every replica knows it.

use std::time::Duration;

use base64::Engine;
use base64::prelude::BASE64_URL_SAFE_NO_PAD;
use hmac::{Hmac, KeyInit, Mac};
use jiff::Timestamp;
use samen_log::MasterKey;
use sha2::Sha256;
use uuid::Uuid;

use super::PhotoId;

/// How long a link usually holds: time to look, not to pass it on.
pub const LIFETIME: Duration = Duration::from_secs(600);
/// What these links are for: one for something else is another.
const PURPOSE: &[u8] = b"show a photo\0";
const ID_BYTES: usize = 16;
const UNTIL_BYTES: usize = 8;
const TAG_BYTES: usize = 16;

/// Makes links to photos, and checks them.
#[derive(Clone)]
pub struct Links(Hmac<Sha256>);

/// What a link that holds shows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Link {
    pub photo: PhotoId,
    /// From this moment on it shows nothing. Whole seconds.
    pub until: Timestamp,
}

/// The link was not made here, or no longer holds. Which of the two is nobody's
/// business.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("this link does not hold, or no longer")]
pub struct NoLink;

// === impl Links ===

impl Links {
    pub fn new(master: &MasterKey) -> Self {
        let key = master.derive("photo links");
        Links(Hmac::new_from_slice(key.as_slice()).expect("HMAC takes a key of any length"))
    }

    /// A token that shows this photo until then, to the second; safe in a URL.
    pub fn make(&self, photo: PhotoId, until: Timestamp) -> String {
        let mut token = photo.0.into_bytes().to_vec();
        token.extend(until.as_second().to_be_bytes());
        let tag = self.mac(&token).finalize().into_bytes();
        token.extend(&tag[..TAG_BYTES]);
        BASE64_URL_SAFE_NO_PAD.encode(token)
    }

    /// The path of a link, as [`http`](super::http) serves it.
    pub fn path(&self, photo: PhotoId, until: Timestamp) -> String {
        format!("/photos/{}", self.make(photo, until))
    }

    /// What a token shows now.
    pub fn check(&self, token: &str, now: Timestamp) -> Result<Link, NoLink> {
        let token = BASE64_URL_SAFE_NO_PAD.decode(token).map_err(|_| NoLink)?;
        let (said, tag) = token.split_at_checked(ID_BYTES + UNTIL_BYTES).ok_or(NoLink)?;
        if tag.len() != TAG_BYTES {
            return Err(NoLink);
        }
        // In constant time.
        self.mac(said).verify_truncated_left(tag).map_err(|_| NoLink)?;
        let (id, until) = said.split_first_chunk::<ID_BYTES>().ok_or(NoLink)?;
        let until = i64::from_be_bytes(until.try_into().map_err(|_| NoLink)?);
        let until = Timestamp::from_second(until).map_err(|_| NoLink)?;
        if now >= until {
            return Err(NoLink);
        }
        Ok(Link { photo: PhotoId(Uuid::from_bytes(*id)), until })
    }

    fn mac(&self, said: &[u8]) -> Hmac<Sha256> {
        let mut mac = self.0.clone();
        mac.update(PURPOSE);
        mac.update(said);
        mac
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const NOW: i64 = 1_774_623_600;

    fn links() -> Links {
        Links::new(&MasterKey::generate(false))
    }

    fn at(second: i64) -> Timestamp {
        Timestamp::from_second(second).expect("a moment in range")
    }

    #[test]
    fn a_link_shows_its_photo_until_its_moment_and_not_then() {
        let (links, photo) = (links(), PhotoId::generate());
        let until = at(NOW) + LIFETIME;
        let token = links.make(photo, until);
        assert_eq!(links.check(&token, at(NOW)), Ok(Link { photo, until }));
        assert!(links.check(&token, until - Duration::from_nanos(1)).is_ok());
        assert_eq!(links.check(&token, until), Err(NoLink));
        assert_eq!(links.path(photo, until), format!("/photos/{token}"));
    }

    #[test]
    fn a_link_of_another_deployment_is_none() {
        let token = links().make(PhotoId::generate(), at(NOW + 600));
        assert_eq!(links().check(&token, at(NOW)), Err(NoLink));
    }

    proptest! {
        #[test]
        fn no_altered_link_holds(index in 0usize..40, flip in 1u8..=255, cut in 0usize..54) {
            let links = links();
            let token = links.make(PhotoId::generate(), at(NOW + 600));
            let mut bytes = BASE64_URL_SAFE_NO_PAD.decode(&token).expect("our own token");
            bytes[index] ^= flip;
            let altered = BASE64_URL_SAFE_NO_PAD.encode(&bytes);
            prop_assert_eq!(links.check(&altered, at(NOW)), Err(NoLink));
            prop_assert_eq!(links.check(&token[..cut], at(NOW)), Err(NoLink));
            prop_assert_eq!(links.check(&format!("{token}A"), at(NOW)), Err(NoLink));
        }

        #[test]
        fn nothing_that_is_typed_is_a_link(token in ".{0,80}") {
            prop_assert_eq!(links().check(&token, at(NOW)), Err(NoLink));
        }
    }
}
