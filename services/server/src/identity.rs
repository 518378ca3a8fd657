//! Who calls: people and machines by token, partners by client certificate.
//!
//! - [`verifier`]: whose token it is;
//! - [`issuer`]: tokens of our own making.

use samen_proto::options::Role;
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

pub mod issuer;
pub mod verifier;

pub use issuer::{InternalTokens, Issuer};
pub use verifier::{IdentityError, KeyError, KeySource, Verifier};

/// The audience that a token must name.
pub const AUDIENCE: &str = "samen";
/// What keys that were made without anybody asking are called; production
/// refuses them.
pub const TRIAL_KEY_PREFIX: &str = "trial-";

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
