//! Why the domain says no, and how a caller reads it.

use samen_server::reply;
use tonic::{Code, Status};

#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Rejection {
    #[error("partner {code} is registered already")]
    PartnerExists { code: String },
    #[error("another partner with this OIN is known by the certificate {thumbprint}")]
    CertificateTaken { thumbprint: String },
    #[error("there is no partner {code}")]
    NoPartner { code: String },
    #[error("there is no agreement {id}")]
    NoAgreement { id: String },
    #[error("the agreement has ended")]
    Ended,
    #[error("there is no erasure {number}")]
    NoErasure { number: u64 },
    /// Somebody else followed the log, or it has another history now.
    #[error("log {log} was not followed on from where it stands")]
    Elsewhere { log: String },
}

impl From<Rejection> for Status {
    fn from(rejection: Rejection) -> Self {
        let text = rejection.to_string();
        match &rejection {
            Rejection::PartnerExists { .. } => {
                reply::status(Code::AlreadyExists, "PARTNER_EXISTS", &text)
            }
            Rejection::CertificateTaken { .. } => {
                reply::status(Code::AlreadyExists, "CERTIFICATE_TAKEN", &text)
            }
            Rejection::NoPartner { code } => reply::not_found("partner", code),
            Rejection::NoAgreement { id } => reply::not_found("agreement", id),
            Rejection::NoErasure { number } => reply::not_found("erasure", &number.to_string()),
            Rejection::Elsewhere { .. } => reply::status(Code::Aborted, "ELSEWHERE", &text),
            Rejection::Ended => reply::precondition("AGREEMENT_ENDED", "agreement", &text),
        }
    }
}
