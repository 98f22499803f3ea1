//! Certificate revocation lists (RFC 5280 §5).

use akamu_proto::{RevocationReason, Timestamp};
use der::asn1::{AnyRef, ObjectIdentifier, Uint};
use der::{Encode as _, Enumerated, Sequence, Tag};
use x509_cert::Version;
use x509_cert::crl::RevokedCert;
use x509_cert::ext::Extensions;
use x509_cert::ext::pkix::CrlNumber;
use x509_cert::name::Name;
use x509_cert::serial_number::SerialNumber;
use x509_cert::spki::AlgorithmIdentifierOwned;
use x509_cert::time::Time;

use crate::encoding::{self, extension};
use crate::issuer::{IssueError, Issuer};
use crate::leaf::{BACKDATE, authority_key_identifier};
use crate::signed::{self, Signed};

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

/// RFC 5280 §5.1, as x509-cert's `TbsCertList`, but for the entries, which are octets already.
#[derive(Sequence)]
struct TbsCertList<'a> {
    version: Version,
    signature: AlgorithmIdentifierOwned,
    issuer: Name,
    this_update: Time,
    next_update: Time,
    revoked_certificates: Option<AnyRef<'a>>,
    #[asn1(context_specific = "0", tag_mode = "EXPLICIT")]
    crl_extensions: Extensions,
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
    /// Whether a CRL, DER, is signed by our key.
    pub fn has_signed_crl(&self, der: &[u8]) -> bool {
        Signed::parse(der).is_ok_and(|it| it.verify(&self.key.spki_der()).is_ok())
    }

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
        let mut revoked: Vec<&Revoked> = revoked.iter().collect();
        revoked.sort_by_key(|it| &it.serial);
        revoked.dedup_by_key(|it| &it.serial);
        // As octets at once, which take less memory than entries do.
        let mut entries = Vec::new();
        for it in revoked {
            let extensions = reason(it.reason).map(|it| extension(REASON_CODE, false, &it)).transpose()?;
            let entry: RevokedCert = RevokedCert {
                serial_number: SerialNumber::new(&it.serial)?,
                revocation_date: encoding::time(it.revoked_at)?,
                crl_entry_extensions: extensions.map(|it| vec![it]),
            };
            entry.encode_to_vec(&mut entries)?;
        }
        let number = CrlNumber(Uint::new(&number.max(0).to_be_bytes())?);
        let list = TbsCertList {
            version: Version::V2,
            signature: self.key.algorithm(),
            issuer: self.certificate().tbs_certificate().subject().clone(),
            this_update: encoding::time(now.minus(BACKDATE).max(self.chain.validity().0))?,
            next_update: encoding::time(next_update)?,
            // RFC 5280 §5.1.2.6: absent where there are none.
            revoked_certificates: if entries.is_empty() { None } else { Some(AnyRef::new(Tag::Sequence, &entries)?) },
            crl_extensions: vec![authority_key_identifier(self)?, extension(CRL_NUMBER, false, &number)?],
        };
        let (algorithm, tbs) = (list.signature.clone(), list.to_der()?);
        drop(entries);
        signed::sign(&*self.key, algorithm, &tbs)
    }
}
