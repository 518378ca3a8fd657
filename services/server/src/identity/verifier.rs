//! Whose token it is.

use std::path::PathBuf;
use std::sync::{Arc, PoisonError, RwLock};
use std::time::{Duration, Instant};

use jiff::Timestamp;
use jsonwebtoken::jwk::{AlgorithmParameters, EllipticCurve, Jwk, JwkSet};
use jsonwebtoken::{Algorithm, DecodingKey, Validation};
use moka::sync::Cache;
use samen_log::MasterKey;
use sha2::{Digest, Sha256};

use super::{AUDIENCE, Caller, Claims, InternalTokens, TRIAL_KEY_PREFIX, role_of};
use crate::deployment::Pseudonyms;

/// Tokens whose signature need not be checked again.
const CACHED_TOKENS: u64 = 10_000;
/// How often an unknown key id may make us ask the issuer again.
const REFRESH: Duration = Duration::from_secs(10);
/// How long keys and checked tokens are trusted before they are looked at
/// anew: what a withdrawn key is worth at most.
const MAX_AGE: Duration = Duration::from_secs(600);
/// How long the issuer may take to answer.
const FETCH_TIMEOUT: Duration = Duration::from_secs(5);
/// The largest key set that is read.
const MAX_KEY_SET: usize = 256 << 10;

/// Where the keys of the deployment's issuer are.
#[derive(Clone, Debug)]
pub enum KeySource {
    /// A JWKS document in a file.
    File(PathBuf),
    /// A JWKS document over HTTPS.
    Url(String),
}

/// Checks tokens. Keys are fetched when a token names one that is not known,
/// so that the issuer can rotate them.
pub struct Verifier {
    issuer: String,
    source: KeySource,
    allow_trial: bool,
    keys: RwLock<JwkSet>,
    fetched: tokio::sync::Mutex<Option<Instant>>,
    internal: InternalTokens,
    pseudonyms: Pseudonyms,
    verified: Cache<[u8; 32], Arc<Caller>>,
}

/// Why a token is not accepted. The caller is told no more than this.
#[derive(Debug, thiserror::Error)]
pub enum IdentityError {
    #[error("the token is not valid, or has expired")]
    Token,
    #[error("the keys of the token's issuer cannot be had")]
    Keys,
}

#[derive(Debug, thiserror::Error)]
pub enum KeyError {
    #[error("{}: {reason}", path.display())]
    File { path: PathBuf, reason: String },
    #[error("{url}: {reason}")]
    Url { url: String, reason: String },
    #[error("the key {0} was generated for a trial; production refuses it")]
    Trial(String),
}

// === impl Verifier ===

impl Verifier {
    /// Checks tokens of this issuer. Refuses trial keys unless allowed.
    pub async fn new(
        issuer: &str,
        source: KeySource,
        master: &MasterKey,
        allow_trial: bool,
    ) -> Result<Self, KeyError> {
        let verifier = Verifier {
            issuer: issuer.to_owned(),
            source,
            allow_trial,
            keys: RwLock::new(JwkSet { keys: Vec::new() }),
            fetched: tokio::sync::Mutex::new(Some(Instant::now())),
            internal: InternalTokens::new(master),
            pseudonyms: Pseudonyms::new(master),
            verified: Cache::builder().max_capacity(CACHED_TOKENS).time_to_live(MAX_AGE).build(),
        };
        verifier.fetch().await?;
        Ok(verifier)
    }

    /// Who a token belongs to.
    pub async fn verify(&self, token: &str) -> Result<Arc<Caller>, IdentityError> {
        let digest: [u8; 32] = Sha256::digest(token).into();
        let now = Timestamp::now().as_second();
        if let Some(caller) = self.verified.get(&digest) {
            let holds = caller.expires.is_some_and(|until| now < until);
            return if holds { Ok(caller) } else { Err(IdentityError::Token) };
        }
        let header = jsonwebtoken::decode_header(token).map_err(|_| IdentityError::Token)?;
        let caller = match header.kid {
            None => self.internal.verify(token)?,
            Some(key_id) => {
                let key = self.key(&key_id).await?;
                self.decode(token, &key)?
            }
        };
        let caller = Arc::new(caller);
        self.verified.insert(digest, caller.clone());
        Ok(caller)
    }

    fn decode(&self, token: &str, jwk: &Jwk) -> Result<Caller, IdentityError> {
        let key = DecodingKey::from_jwk(jwk).map_err(|_| IdentityError::Token)?;
        let algorithm = algorithm(jwk).ok_or(IdentityError::Token)?;
        let claims = decode(token, &key, algorithm, &self.issuer)?;
        Ok(Caller {
            id: self.pseudonyms.of(&claims.iss, &claims.sub),
            roles: claims.roles.iter().filter_map(|name| role_of(name)).collect(),
            certificate: None,
            expires: Some(claims.exp),
        })
    }

    async fn key(&self, key_id: &str) -> Result<Jwk, IdentityError> {
        let known = self.known(key_id);
        let mut fetched = match &known {
            // Somebody is asking already; what is known holds meanwhile.
            Some(key) => match self.fetched.try_lock() {
                Ok(fetched) => fetched,
                Err(_) => return Ok(key.clone()),
            },
            None => self.fetched.lock().await,
        };
        let due = if known.is_some() { MAX_AGE } else { REFRESH };
        if fetched.is_none_or(|at| at.elapsed() > due) {
            *fetched = Some(Instant::now());
            if let Err(error) = self.fetch().await {
                tracing::error!(%error, "the issuer's keys cannot be had");
                return known.ok_or(IdentityError::Keys);
            }
        }
        self.known(key_id).ok_or(IdentityError::Token)
    }

    fn known(&self, key_id: &str) -> Option<Jwk> {
        let keys = self.keys.read().unwrap_or_else(PoisonError::into_inner);
        keys.find(key_id).cloned()
    }

    async fn fetch(&self) -> Result<(), KeyError> {
        let keys = match &self.source {
            KeySource::File(path) => {
                let failed = |reason: String| KeyError::File { path: path.clone(), reason };
                let text = tokio::fs::read(path).await.map_err(|e| failed(e.to_string()))?;
                serde_json::from_slice(&text).map_err(|e| failed(e.to_string()))?
            }
            KeySource::Url(url) => {
                let failed = |reason: String| KeyError::Url { url: url.clone(), reason };
                let text = download(url).await.map_err(|e| failed(e.to_string()))?;
                serde_json::from_slice::<JwkSet>(&text).map_err(|e| failed(e.to_string()))?
            }
        };
        let ids = keys.keys.iter().filter_map(|key| key.common.key_id.as_deref());
        if let Some(trial) = ids.into_iter().find(|id| id.starts_with(TRIAL_KEY_PREFIX))
            && !self.allow_trial
        {
            return Err(KeyError::Trial(trial.to_owned()));
        }
        *self.keys.write().unwrap_or_else(PoisonError::into_inner) = keys;
        Ok(())
    }
}

/// The algorithm of a key: what it says, or else what its type means. Never
/// the token's to choose.
fn algorithm(jwk: &Jwk) -> Option<Algorithm> {
    if let Some(said) = jwk.common.key_algorithm {
        return said.to_string().parse().ok();
    }
    match &jwk.algorithm {
        AlgorithmParameters::RSA(_) => Some(Algorithm::RS256),
        AlgorithmParameters::EllipticCurve(key) => match key.curve {
            EllipticCurve::P256 => Some(Algorithm::ES256),
            EllipticCurve::P384 => Some(Algorithm::ES384),
            _ => None,
        },
        AlgorithmParameters::OctetKeyPair(_) => Some(Algorithm::EdDSA),
        _ => None,
    }
}

async fn download(url: &str) -> Result<Vec<u8>, Box<dyn std::error::Error + Send + Sync>> {
    let client = reqwest::Client::builder().timeout(FETCH_TIMEOUT).https_only(true).build()?;
    let mut response = client.get(url).send().await?.error_for_status()?;
    let mut body = Vec::new();
    while let Some(chunk) = response.chunk().await? {
        body.extend_from_slice(&chunk);
        if body.len() > MAX_KEY_SET {
            return Err("the key set is too large".into());
        }
    }
    Ok(body)
}

pub(super) fn decode(
    token: &str,
    key: &DecodingKey,
    algorithm: Algorithm,
    issuer: &str,
) -> Result<Claims, IdentityError> {
    let mut validation = Validation::new(algorithm);
    validation.set_audience(&[AUDIENCE]);
    validation.set_issuer(&[issuer]);
    validation.set_required_spec_claims(&["exp", "iss", "aud", "sub"]);
    validation.leeway = 0;
    let data = jsonwebtoken::decode::<Claims>(token, key, &validation);
    data.map(|data| data.claims).map_err(|_| IdentityError::Token)
}
