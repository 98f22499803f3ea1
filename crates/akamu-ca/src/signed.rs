//! What is signed in X.509: the signed part, an algorithm and a signature. Certificates (RFC 5280 §4.1), CRLs (§5.1) and
//! requests (RFC 2986 §4) have this one shape.
//!
//! The signed part is kept as the octets that came: a signature is about octets, and what is parsed and written again
//! need not be the same.

use der::asn1::{AnyRef, BitString, BitStringRef};
use der::{Decode as _, Encode as _, Reader as _, Sequence, SliceReader, Tag};
use rustls_pki_types::SubjectPublicKeyInfoDer;
use x509_cert::spki::AlgorithmIdentifierOwned;

use crate::issuer::IssueError;
use crate::key::SigningKey;

/// Something signed, read.
pub(crate) struct Signed<'a> {
    /// The signed part, with tag and length.
    pub(crate) tbs: &'a [u8],
    /// The content of the AlgorithmIdentifier.
    algorithm: &'a [u8],
    signature: &'a [u8],
}

/// Why a signature is not accepted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum SignatureError {
    /// Its algorithm is none of those that are accepted, or does not fit the key.
    Algorithm,
    /// It is not this key's signature of these octets.
    Wrong,
}

impl<'a> Signed<'a> {
    /// Reads DER.
    pub(crate) fn parse(der: &'a [u8]) -> der::Result<Self> {
        let mut reader = SliceReader::new(der)?;
        let signed = reader.sequence(|reader| {
            let tbs = reader.tlv_bytes()?;
            let algorithm = AnyRef::decode(reader)?;
            algorithm.header().tag().assert_eq(Tag::Sequence)?;
            let signature = BitStringRef::decode(reader)?;
            let signature = signature.as_bytes().ok_or(der::ErrorKind::Failed)?;
            Ok::<_, der::Error>(Self { tbs, algorithm: algorithm.value(), signature })
        })?;
        reader.finish()?;
        Ok(signed)
    }

    /// Whether the key with this SubjectPublicKeyInfo made the signature.
    pub(crate) fn verify(&self, spki_der: &[u8]) -> Result<(), SignatureError> {
        let spki = SubjectPublicKeyInfoDer::from(spki_der);
        let key = webpki::RawPublicKeyEntity::try_from(&spki).map_err(|_| SignatureError::Wrong)?;
        let mut outcome = SignatureError::Algorithm;
        for algorithm in webpki::ALL_VERIFICATION_ALGS {
            if algorithm.signature_alg_id().as_ref() != self.algorithm {
                continue;
            }
            // One signature algorithm stands once for each kind of key (ecdsa-with-SHA256: P-256, P-384, P-521).
            match key.verify_signature(*algorithm, self.tbs, self.signature) {
                Ok(()) => return Ok(()),
                Err(webpki::Error::UnsupportedSignatureAlgorithmForPublicKeyContext(_)) => {}
                Err(_) => outcome = SignatureError::Wrong,
            }
        }
        Err(outcome)
    }
}

#[derive(Sequence)]
struct Whole<'a> {
    tbs: AnyRef<'a>,
    algorithm: AlgorithmIdentifierOwned,
    signature: BitString,
}

/// Signs `tbs`, which names `algorithm`, and checks the signature before anyone sees it: a fault in one computation can
/// give the key away.
pub(crate) fn sign(
    key: &dyn SigningKey,
    algorithm: AlgorithmIdentifierOwned,
    tbs: &[u8],
) -> Result<Vec<u8>, IssueError> {
    let der = sign_unchecked(key, algorithm, tbs)?;
    let is_sound = Signed::parse(&der)?.verify(&key.spki_der()).is_ok();
    if is_sound { Ok(der) } else { Err(IssueError::Unsound("its signature is not by the issuer's key".to_owned())) }
}

/// Signs `tbs`; the caller checks the signature.
pub(crate) fn sign_unchecked(
    key: &dyn SigningKey,
    algorithm: AlgorithmIdentifierOwned,
    tbs: &[u8],
) -> Result<Vec<u8>, IssueError> {
    let signature = BitString::from_bytes(&key.sign(&algorithm, tbs)?)?;
    let der = Whole { tbs: AnyRef::from_der(tbs)?, algorithm, signature }.to_der()?;
    if Signed::parse(&der)?.tbs == tbs {
        Ok(der)
    } else {
        Err(IssueError::Unsound("its signed part is not what was prepared".to_owned()))
    }
}
