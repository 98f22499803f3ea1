//! Certificate revocation lists (RFC 5280 §5).

use std::collections::BTreeMap;

use akamu_proto::{RevocationReason, Timestamp};
use der::asn1::{ObjectIdentifier, Uint};
use der::{Encode as _, Enumerated};
use x509_cert::Version;
use x509_cert::crl::{RevokedCert, TbsCertList};
use x509_cert::ext::pkix::CrlNumber;
use x509_cert::serial_number::SerialNumber;

use crate::encoding::{self, extension};
use crate::issuer::{IssueError, Issuer};
use crate::leaf::{BACKDATE, authority_key_identifier};
use crate::signed;

const CRL_NUMBER: ObjectIdentifier = ObjectIdentifier::new_unwrap("2.5.29.20");
const REASON_CODE: ObjectIdentifier = ObjectIdentifier::new_unwrap("2.5.29.21");

/// An entry of a CRL.
#[derive(Clone, Debug)]
pub struct Revoked {
    /// The serial number, big-endian.
    pub serial: Vec<u8>,
    /// When it was revoked.
    pub revoked_at: Timestamp,
    /// Why.
    pub reason: RevocationReason,
}

/// CRLReason (RFC 5280 §5.3.1), those that are given.
#[derive(Clone, Copy, Enumerated)]
#[asn1(type = "ENUMERATED")]
#[repr(u8)]
enum Reason {
    KeyCompromise = 1,
    AffiliationChanged = 3,
    Superseded = 4,
    CessationOfOperation = 5,
    PrivilegeWithdrawn = 9,
}

/// RFC 5280 §5.3.1: `unspecified` is said by leaving the extension out.
const fn reason(reason: RevocationReason) -> Option<Reason> {
    Some(match reason {
        RevocationReason::Unspecified => return None,
        RevocationReason::KeyCompromise => Reason::KeyCompromise,
        RevocationReason::AffiliationChanged => Reason::AffiliationChanged,
        RevocationReason::Superseded => Reason::Superseded,
        RevocationReason::CessationOfOperation => Reason::CessationOfOperation,
        RevocationReason::PrivilegeWithdrawn => Reason::PrivilegeWithdrawn,
    })
}

impl Issuer {
    /// Signs a CRL with this number, DER. Its thisUpdate lies an hour before `now`, as a certificate's notBefore does: to
    /// those whose clocks are behind a CRL from the future is none.
    ///
    /// # Errors
    /// Where the key fails.
    pub fn crl(
        &self,
        number: i64,
        now: Timestamp,
        next_update: Timestamp,
        revoked: &[Revoked],
    ) -> Result<Vec<u8>, IssueError> {
        // One entry a serial number, in their order: the same list is the same octets.
        let revoked: BTreeMap<&[u8], &Revoked> = revoked.iter().map(|it| (it.serial.as_slice(), it)).collect();
        let entries = revoked
            .values()
            .map(|it| {
                let extensions = reason(it.reason).map(|it| extension(REASON_CODE, false, &it)).transpose()?;
                Ok(RevokedCert {
                    serial_number: SerialNumber::new(&it.serial)?,
                    revocation_date: encoding::time(it.revoked_at)?,
                    crl_entry_extensions: extensions.map(|it| vec![it]),
                })
            })
            .collect::<Result<Vec<RevokedCert>, der::Error>>()?;
        let number = CrlNumber(Uint::new(&number.max(0).to_be_bytes())?);
        let list = TbsCertList {
            version: Version::V2,
            signature: self.key.algorithm(),
            issuer: self.certificate().tbs_certificate().subject().clone(),
            this_update: encoding::time(now.minus(BACKDATE).max(self.chain.validity().0))?,
            next_update: Some(encoding::time(next_update)?),
            // RFC 5280 §5.1.2.6: absent where there are none.
            revoked_certificates: Some(entries).filter(|it| !it.is_empty()),
            crl_extensions: Some(vec![authority_key_identifier(self)?, extension(CRL_NUMBER, false, &number)?]),
        };
        signed::sign(&*self.key, list.signature.clone(), &list.to_der()?)
    }
}
