//! Trial certificates: a root, servers, and partners. Production brings
//! certificates of its own (PKIoverheid).

use jiff::Timestamp;
use rcgen::{
    BasicConstraints, CertificateParams, CertifiedIssuer, DnType, ExtendedKeyUsagePurpose, IsCa,
    Issuer, KeyPair, KeyUsagePurpose, date_time_ymd,
};

use crate::identity::thumbprint;

/// The subject attribute in which Dutch government certificates carry the OIN
/// (X.520 serialNumber).
const SERIAL_NUMBER: [u64; 4] = [2, 5, 4, 5];
/// Years that a trial certificate holds.
const YEARS: i32 = 5;

/// A certificate and its private key, both PEM.
pub struct Issued {
    pub certificate: String,
    pub key: String,
    /// SHA-256 over the certificate's DER form, lower-case hex.
    pub thumbprint: String,
}

/// A root that signs trial certificates.
pub struct Root {
    issuer: Issuer<'static, KeyPair>,
    certificate: String,
    key: String,
}

impl Root {
    /// A new root with a key of its own.
    pub fn generate() -> Result<Self, rcgen::Error> {
        let mut params = dated(CertificateParams::new(Vec::new())?);
        params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
        params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
        params.distinguished_name.push(DnType::CommonName, "Samen trial root");
        let root = CertifiedIssuer::self_signed(params, KeyPair::generate()?)?;
        let (certificate, key) = (root.pem(), root.key().serialize_pem());
        Root::from_pem(&certificate, &key)
    }

    /// A root that was made before.
    pub fn from_pem(certificate: &str, key: &str) -> Result<Self, rcgen::Error> {
        let issuer = Issuer::from_ca_cert_pem(certificate, KeyPair::from_pem(key)?)?;
        Ok(Root { issuer, certificate: certificate.to_owned(), key: key.to_owned() })
    }

    pub fn certificate(&self) -> &str {
        &self.certificate
    }

    pub fn key(&self) -> &str {
        &self.key
    }

    /// A certificate for a server under these names and addresses.
    pub fn server(&self, names: &[String]) -> Result<Issued, rcgen::Error> {
        let mut params = dated(CertificateParams::new(names)?);
        let name = names.first().map_or("localhost", String::as_str);
        params.distinguished_name.push(DnType::CommonName, name);
        params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
        self.issue(params)
    }

    /// A client certificate for a partner with this name and OIN.
    pub fn partner(&self, name: &str, oin: &str) -> Result<Issued, rcgen::Error> {
        let mut params = dated(CertificateParams::new(Vec::new())?);
        params.distinguished_name.push(DnType::CommonName, name);
        params.distinguished_name.push(DnType::CustomDnType(SERIAL_NUMBER.to_vec()), oin);
        params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ClientAuth];
        self.issue(params)
    }

    fn issue(&self, mut params: CertificateParams) -> Result<Issued, rcgen::Error> {
        params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
        params.use_authority_key_identifier_extension = true;
        let key = KeyPair::generate()?;
        let certificate = params.signed_by(&key, &self.issuer)?;
        Ok(Issued {
            thumbprint: thumbprint(certificate.der()),
            certificate: certificate.pem(),
            key: key.serialize_pem(),
        })
    }
}

fn dated(mut params: CertificateParams) -> CertificateParams {
    let today = jiff::tz::TimeZone::UTC.to_datetime(Timestamp::now()).date();
    let (year, month) = (i32::from(today.year()), today.month() as u8);
    params.not_before = date_time_ymd(year, month, 1);
    params.not_after = date_time_ymd(year + YEARS, month, 1);
    params
}
