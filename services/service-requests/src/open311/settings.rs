//! What an operator says of this door: a JSON file.
//!
//! ```json
//! {
//!   "url": "https://meldingen.example.nl/open311/v2",
//!   "contact": "open311@example.nl",
//!   "key_service": "https://www.example.nl/open311",
//!   "keys": [
//!     {"name": "an-app", "sha256": "<64 hex digits>", "per_minute": 60, "per_day": 5000}
//!   ]
//! }
//! ```

use std::collections::BTreeSet;
use std::num::NonZeroU32;

use serde::Deserialize;

use crate::domain::catalogue::is_word;

/// What is said of the door; nothing, and nobody reports through it.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Settings {
    /// Where it is to the world; where nobody says so, what a caller called it.
    pub url: Option<String>,
    /// Who answers for it.
    pub contact: String,
    /// How to get a key.
    pub key_service: String,
    /// What discovery calls it: production, or test.
    #[serde(rename = "type")]
    pub kind: String,
    pub keys: Vec<Key>,
}

/// A client that may report, and how much.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Key {
    /// What records call the client: lower-case letters, digits and hyphens.
    pub name: String,
    /// Of the key itself, which is kept nowhere: SHA-256, in hex.
    #[serde(deserialize_with = "hash")]
    pub sha256: [u8; 32],
    #[serde(default = "per_minute")]
    pub per_minute: NonZeroU32,
    #[serde(default = "per_day")]
    pub per_day: NonZeroU32,
}

/// Why settings cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum SettingsError {
    #[error("not as it must be: {0}")]
    Malformed(#[from] serde_json::Error),
    #[error("keys.name: {0:?} must be lower-case letters, digits and hyphens, and differ")]
    Name(String),
    #[error("keys.sha256: that of {0:?} must differ from others")]
    Hash(String),
    #[error("type: must be production or test")]
    Kind,
}

// === impl Settings ===

impl Settings {
    pub fn parse(json: &str) -> Result<Self, SettingsError> {
        let settings: Settings = serde_json::from_str(json)?;
        if !["production", "test"].contains(&settings.kind.as_str()) {
            return Err(SettingsError::Kind);
        }
        let (mut names, mut hashes) = (BTreeSet::new(), BTreeSet::new());
        for key in &settings.keys {
            if !is_word(&key.name) || !names.insert(&key.name) {
                return Err(SettingsError::Name(key.name.clone()));
            }
            if !hashes.insert(key.sha256) {
                return Err(SettingsError::Hash(key.name.clone()));
            }
        }
        Ok(settings)
    }
}

impl Default for Settings {
    fn default() -> Self {
        Settings {
            url: None,
            contact: String::new(),
            key_service: String::new(),
            kind: "production".to_owned(),
            keys: Vec::new(),
        }
    }
}

fn per_minute() -> NonZeroU32 {
    const { NonZeroU32::new(60).unwrap() }
}

fn per_day() -> NonZeroU32 {
    const { NonZeroU32::new(5_000).unwrap() }
}

fn hash<'de, D: serde::Deserializer<'de>>(from: D) -> Result<[u8; 32], D::Error> {
    let text = String::deserialize(from)?;
    let mut hash = [0; 32];
    let of = |at: usize| u8::from_str_radix(text.get(2 * at..2 * at + 2)?, 16).ok();
    let hex = text.len() == 64 && text.bytes().all(|byte| byte.is_ascii_hexdigit());
    for (at, byte) in hash.iter_mut().enumerate() {
        let read = of(at).filter(|_| hex);
        *byte = read.ok_or_else(|| serde::de::Error::custom("sha256 must be 64 hex digits"))?;
    }
    Ok(hash)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_wrong_is_named() {
        let key = |name: &str, hash: &str| {
            format!("{{\"keys\": [{{\"name\": \"{name}\", \"sha256\": \"{hash}\"}}]}}")
        };
        let hash = "ab".repeat(32);
        let settings = Settings::parse(&key("app", &hash)).expect("settings");
        assert_eq!(settings.keys[0].sha256, [0xab; 32]);
        assert_eq!(settings.keys[0].per_day.get(), 5_000);
        for (wrong, named) in [
            (key("app", "ab"), "sha256"),
            (key("app", &"é".repeat(32)), "sha256"),
            (key("An app", &hash), "keys.name"),
            ("{\"type\": \"x\"}".to_owned(), "type"),
            ("{\"unknown\": 1}".to_owned(), "unknown"),
        ] {
            let error = Settings::parse(&wrong).expect_err(&wrong).to_string();
            assert!(error.contains(named), "{error}");
        }
    }
}
