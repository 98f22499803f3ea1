//! A certificate that a client shows, to have it revoked.

use akamu_proto::{Identifier, Jwk};
use der::Decode as _;
use x509_cert::Certificate;
use x509_cert::ext::pkix::SubjectAltName;

use crate::csr::{canonical_jwk, kind_of};
use crate::encoding;
use crate::serial::Serial;

/// A certificate of a form that we issue. Whether it is ours, the store knows.
#[derive(Clone, Debug)]
pub struct KnownCertificate {
    serial: Serial,
    names: Vec<Identifier>,
    canonical_jwk: Option<String>,
}

impl KnownCertificate {
    /// Reads a certificate, DER. `None` where it is none, or one that we cannot have issued.
    pub fn parse(der: &[u8]) -> Option<Self> {
        let certificate = Certificate::from_der(der).ok()?;
        let tbs = certificate.tbs_certificate();
        let (_, names) = tbs.get_extension::<SubjectAltName>().ok()??;
        let spki = tbs.subject_public_key_info();
        Some(Self {
            serial: Serial::from_der_content(tbs.serial_number().as_bytes())?,
            names: names.0.iter().map(|it| encoding::identifier(it).ok()).collect::<Option<_>>()?,
            canonical_jwk: kind_of(&spki.algorithm).and_then(|kind| canonical_jwk(spki, kind)),
        })
    }

    /// The serial number.
    pub const fn serial(&self) -> Serial {
        self.serial
    }

    /// The names.
    pub fn names(&self) -> &[Identifier] {
        &self.names
    }

    /// Whether this is the certificate's own key.
    pub fn has_key(&self, jwk: &Jwk) -> bool {
        self.canonical_jwk.as_deref() == Some(jwk.canonical())
    }
}
