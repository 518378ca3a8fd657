//! Tokens of our own making: the all-in-one's issuer, and what services of one
//! deployment show each other.

use std::time::Duration;

use base64::Engine;
use base64::prelude::BASE64_URL_SAFE_NO_PAD;
use jiff::Timestamp;
use jsonwebtoken::{Algorithm, DecodingKey, EncodingKey, Header};
use rcgen::{KeyPair, PKCS_ED25519};
use samen_log::MasterKey;
use samen_proto::options::Role;
use sha2::{Digest, Sha256};

use super::verifier::decode;
use super::{AUDIENCE, Caller, Claims, IdentityError, TRIAL_KEY_PREFIX, role_name};

/// The issuer of the tokens by which services of one deployment know each
/// other.
const INTERNAL: &str = "samen-internal";
/// How long a service's own token holds.
const INTERNAL_TTL: Duration = Duration::from_secs(300);

/// Makes tokens: the issuer of the all-in-one, and of trials.
pub struct Issuer {
    name: String,
    key_id: String,
    key: KeyPair,
}

/// Tokens by which the services of one deployment know each other: signed with
/// a secret that only they can derive.
#[derive(Clone)]
pub struct InternalTokens {
    encoding: EncodingKey,
    decoding: DecodingKey,
}

// === impl InternalTokens ===

impl InternalTokens {
    pub fn new(master: &MasterKey) -> Self {
        let secret = master.derive("internal tokens");
        InternalTokens {
            encoding: EncodingKey::from_secret(secret.as_slice()),
            decoding: DecodingKey::from_secret(secret.as_slice()),
        }
    }

    /// A token for the service with this name, good for some minutes.
    pub fn issue(&self, service: &str) -> Result<String, jsonwebtoken::errors::Error> {
        let claims = Claims {
            iss: INTERNAL.to_owned(),
            sub: service.to_owned(),
            aud: AUDIENCE,
            exp: Timestamp::now().as_second() + INTERNAL_TTL.as_secs() as i64,
            roles: vec![role_name(Role::Service)],
        };
        jsonwebtoken::encode(&Header::new(Algorithm::HS256), &claims, &self.encoding)
    }

    pub(super) fn verify(&self, token: &str) -> Result<Caller, IdentityError> {
        let claims = decode(token, &self.decoding, Algorithm::HS256, INTERNAL)?;
        Ok(Caller {
            id: claims.sub,
            roles: vec![Role::Service],
            certificate: None,
            expires: Some(claims.exp),
        })
    }
}

// === impl Issuer ===

impl Issuer {
    /// A new issuer with a key of its own.
    pub fn generate(name: &str, trial: bool) -> Result<Self, rcgen::Error> {
        let key = KeyPair::generate_for(&PKCS_ED25519)?;
        Ok(Issuer::with_key(name, key, trial))
    }

    /// An issuer from its private key (PKCS #8, PEM).
    pub fn from_pem(name: &str, pem: &str, trial: bool) -> Result<Self, rcgen::Error> {
        let key = KeyPair::from_pkcs8_pem_and_sign_algo(pem, &PKCS_ED25519)?;
        Ok(Issuer::with_key(name, key, trial))
    }

    fn with_key(name: &str, key: KeyPair, trial: bool) -> Self {
        let digest = Sha256::digest(key.public_key_raw());
        let prefix = if trial { TRIAL_KEY_PREFIX } else { "" };
        let key_id = format!("{prefix}{}", BASE64_URL_SAFE_NO_PAD.encode(&digest[..9]));
        Issuer { name: name.to_owned(), key_id, key }
    }

    /// The private key (PKCS #8, PEM).
    pub fn pem(&self) -> String {
        self.key.serialize_pem()
    }

    /// The public key as a JWKS document.
    pub fn key_set(&self) -> String {
        let x = BASE64_URL_SAFE_NO_PAD.encode(self.key.public_key_raw());
        serde_json::json!({"keys": [{
            "kty": "OKP", "crv": "Ed25519", "alg": "EdDSA", "use": "sig",
            "kid": self.key_id, "x": x,
        }]})
        .to_string()
    }

    /// A token for this subject with these roles.
    pub fn issue(
        &self,
        subject: &str,
        roles: &[Role],
        ttl: Duration,
    ) -> Result<String, jsonwebtoken::errors::Error> {
        let mut header = Header::new(Algorithm::EdDSA);
        header.kid = Some(self.key_id.clone());
        let claims = Claims {
            iss: self.name.clone(),
            sub: subject.to_owned(),
            aud: AUDIENCE,
            exp: Timestamp::now().as_second() + ttl.as_secs() as i64,
            roles: roles.iter().map(|role| role_name(*role)).collect(),
        };
        let key = EncodingKey::from_ed_der(&self.key.serialize_der());
        jsonwebtoken::encode(&header, &claims, &key)
    }
}
