//! A certificate that a client shows, to have it revoked.

use akamu_proto::{Identifier, Jwk, Timestamp};
use der::{Decode as _, Encode as _};
use x509_cert::Certificate;

use crate::encoding;
use crate::leaf::SUBJECT_ALT_NAME;
use crate::public_key::PublicKey;
use crate::serial::Serial;
use crate::subject_alt_name;

/// The largest certificate that is read: ours have at most 100 names.
const MAX_OCTETS: usize = 64 * 1024;

/// A certificate of a form that we issue. Whether it is ours, the store knows: by its serial number, and by all of its
/// octets.
#[derive(Clone, Debug)]
pub struct KnownCertificate {
    serial: Serial,
    names: Vec<Identifier>,
    key: PublicKey,
    validity: (Timestamp, Timestamp),
}

impl KnownCertificate {
    /// Reads a certificate, DER. `None` where it is none, or one that we cannot have issued.
    pub fn parse(der: &[u8]) -> Option<Self> {
        if der.len() > MAX_OCTETS {
            return None;
        }
        let certificate = Certificate::from_der(der).ok()?;
        let tbs = certificate.tbs_certificate();
        let mut names = tbs.extensions()?.iter().filter(|it| it.extn_id == SUBJECT_ALT_NAME);
        let (Some(extension), None) = (names.next(), names.next()) else { return None };
        Some(Self {
            serial: Serial::from_der_content(tbs.serial_number().as_bytes())?,
            names: subject_alt_name::parse(extension.extn_value.as_bytes()).ok()?,
            key: PublicKey::parse(&tbs.subject_public_key_info().to_der().ok()?).ok()?,
            validity: encoding::validity(&certificate),
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

    pub(crate) const fn validity(&self) -> (Timestamp, Timestamp) {
        self.validity
    }

    /// Whether this is the certificate's own key.
    pub fn has_key(&self, jwk: &Jwk) -> bool {
        self.key.is(jwk)
    }
}
