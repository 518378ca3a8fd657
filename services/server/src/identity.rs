//! Who calls: people and machines by token, partners by client certificate.

use std::path::PathBuf;
use std::sync::{Arc, PoisonError, RwLock};
use std::time::{Duration, Instant};

use base64::Engine;
use base64::prelude::BASE64_URL_SAFE_NO_PAD;
use jiff::Timestamp;
use jsonwebtoken::jwk::{AlgorithmParameters, EllipticCurve, Jwk, JwkSet};
use jsonwebtoken::{Algorithm, DecodingKey, EncodingKey, Header, Validation};
use moka::sync::Cache;
use rcgen::{KeyPair, PKCS_ED25519};
use samen_log::MasterKey;
use samen_proto::options::Role;
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use crate::deployment::Pseudonyms;

/// The audience that a token must name.
pub const AUDIENCE: &str = "samen";
/// What keys that were made without anybody asking are called; production
/// refuses them.
pub const TRIAL_KEY_PREFIX: &str = "trial-";
/// The issuer of the tokens by which services of one deployment know each
/// other.
const INTERNAL: &str = "samen-internal";
/// How long a service's own token holds.
const INTERNAL_TTL: Duration = Duration::from_secs(300);
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

/// Who calls. Put into each request's extensions by the access layer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Caller {
    /// The pseudonymous id of a person, the name of a service, or the OIN of
    /// a partner.
    pub id: String,
    pub roles: Vec<Role>,
    /// The client certificate by which a partner is known.
    pub certificate: Option<Certificate>,
    /// When the token ends, in seconds since 1970; a certificate is looked at
    /// anew by those who care.
    pub expires: Option<i64>,
}

/// What is known from a client certificate whose chain was verified.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Certificate {
    /// The serialNumber in its subject (organisatie-identificatienummer).
    pub oin: String,
    /// SHA-256 over its DER form, lower-case hex.
    pub thumbprint: String,
}

/// What a token says.
#[derive(Debug, Serialize, Deserialize)]
struct Claims {
    iss: String,
    sub: String,
    /// Written as one name; read by the validation, which also takes a list
    /// (RFC 7519, 4.1.3).
    #[serde(skip_deserializing)]
    aud: &'static str,
    exp: i64,
    #[serde(default)]
    roles: Vec<String>,
}

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

#[derive(Debug, thiserror::Error)]
pub enum KeyError {
    #[error("{}: {reason}", path.display())]
    File { path: PathBuf, reason: String },
    #[error("{url}: {reason}")]
    Url { url: String, reason: String },
    #[error("the key {0} was generated for a trial; production refuses it")]
    Trial(String),
}

// === impl Caller ===

impl Caller {
    pub fn has(&self, role: Role) -> bool {
        self.roles.contains(&role)
    }

    /// Whether the caller has at least one of these roles.
    pub fn has_any(&self, roles: &[Role]) -> bool {
        roles.iter().any(|role| self.has(*role))
    }
}

/// A role as a token writes it: `process_lead`.
pub fn role_name(role: Role) -> String {
    role.as_str_name().trim_start_matches("ROLE_").to_lowercase()
}

/// The role that a token means. A certificate's and a service's role cannot be
/// had by an ordinary token.
fn role_of(name: &str) -> Option<Role> {
    let role = Role::from_str_name(&format!("ROLE_{}", name.to_uppercase()))?;
    (!matches!(role, Role::Unspecified | Role::Partner | Role::Service)).then_some(role)
}

/// The roles that an ordinary token can carry.
pub fn token_roles() -> impl Iterator<Item = Role> {
    (1..).map_while(|n| Role::try_from(n).ok()).filter(|r| role_of(&role_name(*r)).is_some())
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
        let mut fetched = self.fetched.lock().await;
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

fn decode(
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

    fn verify(&self, token: &str) -> Result<Caller, IdentityError> {
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

// === impl Certificate ===

impl Certificate {
    /// Reads a client certificate in DER form. `None` when its subject carries
    /// no serialNumber.
    pub fn from_der(der: &[u8]) -> Option<Self> {
        let (_, certificate) = x509_parser::parse_x509_certificate(der).ok()?;
        let oin = certificate
            .subject()
            .iter_by_oid(&x509_parser::oid_registry::OID_X509_SERIALNUMBER)
            .next()?
            .as_str()
            .ok()?
            .to_owned();
        Some(Certificate { oin, thumbprint: thumbprint(der) })
    }
}

/// SHA-256 over a certificate's DER form, lower-case hex.
pub fn thumbprint(der: &[u8]) -> String {
    Sha256::digest(der).iter().map(|byte| format!("{byte:02x}")).collect()
}
