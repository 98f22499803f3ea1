//! An issuer: key, certificate and profile. It prepares a certificate, signs it, and checks what it signed.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use akamu_proto::{Identifier, Timestamp};
use der::asn1::BitString;
use der::{Decode as _, Encode as _, Sequence};
use rustls_pki_types::{CertificateDer, UnixTime};
use x509_cert::Certificate;
use x509_cert::ext::pkix::BasicConstraints;
use x509_cert::spki::AlgorithmIdentifierOwned;

use crate::csr::Csr;
use crate::encoding;
use crate::files::{self, FileError};
use crate::key::{FileKey, HashAlg, KeyError, KeyType, SigningKey};
use crate::leaf;
use crate::serial::Serial;

/// What certificates are made like.
#[derive(Clone, Debug)]
pub struct Profile {
    /// How long a certificate is valid; it never outlives its issuer.
    pub validity: Duration,
    /// The CRL's URL, http.
    pub crl_url: Option<String>,
    /// The URL of the issuing certificate, http.
    pub issuer_url: Option<String>,
}

/// Why an issuer cannot be used: one line for the operator.
#[derive(Debug, thiserror::Error)]
pub enum IssuerError {
    /// The key.
    #[error(transparent)]
    Key(#[from] KeyError),
    /// A file.
    #[error(transparent)]
    File(#[from] FileError),
    /// The certificate file has none, or one that cannot be read.
    #[error(
        "{path}: no certificate chain is found here; the issuing certificate, then its chain up to the root, in PEM is expected"
    )]
    NoChain {
        /// The file.
        path: String,
    },
    /// The key is another certificate's.
    #[error("the issuing certificate is not for this key: the first certificate of the chain must be the key's")]
    OtherKey,
    /// A certificate of the chain is no CA's.
    #[error(
        "the certificate {subject:?} in the chain is not a CA certificate; the issuing certificate comes first, then its issuers"
    )]
    NotACa {
        /// Its subject.
        subject: String,
    },
    /// The chain is not in order.
    #[error(
        "the certificate {subject:?} is not signed by the next one of the chain, {issuer:?}; put each certificate's issuer after it"
    )]
    BrokenChain {
        /// The certificate.
        subject: String,
        /// The next one.
        issuer: String,
    },
    /// A certificate of the chain has expired, or is not yet valid.
    #[error("the certificate {subject:?} in the chain is valid from {not_before} to {not_after}, and it is {now}")]
    OutOfTime {
        /// The certificate.
        subject: String,
        /// Its first second.
        not_before: Timestamp,
        /// Its last second.
        not_after: Timestamp,
        /// The time.
        now: Timestamp,
    },
}

/// Why something was not issued: the issuer's fault, never the client's.
#[derive(Debug, thiserror::Error)]
pub enum IssueError {
    /// It could not be encoded.
    #[error("encoding failed")]
    Encoding(#[from] der::Error),
    /// It could not be signed.
    #[error("signing failed")]
    Key(#[from] KeyError),
    /// What was signed does not verify, or is not what was to be signed.
    #[error("the signed certificate does not hold: {0}")]
    Unsound(String),
    /// The issuing certificate has expired.
    #[error("the issuing certificate expired at {not_after}")]
    Expired {
        /// When.
        not_after: Timestamp,
    },
}

/// Signs certificates and CRLs.
#[derive(Debug)]
pub struct Issuer {
    pub(crate) key: Arc<dyn SigningKey>,
    /// The issuing certificate, then its issuers up to the root.
    chain: Vec<Vec<u8>>,
    pub(crate) certificate: Certificate,
    pub(crate) profile: Profile,
    /// The issuers in PEM, as they follow a leaf.
    sent_pem: String,
    sent_der: Vec<Vec<u8>>,
}

/// A certificate that was signed and checked.
#[derive(Clone, Debug)]
pub struct IssuedCertificate {
    der: Vec<u8>,
    chain_pem: String,
    chain_der: Vec<Vec<u8>>,
    serial: Serial,
    not_before: Timestamp,
    not_after: Timestamp,
}

impl IssuedCertificate {
    /// The leaf, DER.
    pub fn der(&self) -> &[u8] {
        &self.der
    }

    /// The leaf and its intermediates, PEM; the root only where it signs itself.
    pub fn chain_pem(&self) -> &str {
        &self.chain_pem
    }

    /// The same as [`Self::chain_pem`], each DER.
    pub fn chain_der(&self) -> &[Vec<u8>] {
        &self.chain_der
    }

    /// The serial number.
    pub const fn serial(&self) -> Serial {
        self.serial
    }

    /// Start of validity.
    pub const fn not_before(&self) -> Timestamp {
        self.not_before
    }

    /// End of validity.
    pub const fn not_after(&self) -> Timestamp {
        self.not_after
    }
}

/// RFC 5280 §4.1, with the signed part as it is.
#[derive(Sequence)]
struct Signed<'a> {
    tbs: der::asn1::AnyRef<'a>,
    algorithm: AlgorithmIdentifierOwned,
    signature: BitString,
}

/// The signed part, and its signature around it.
pub(crate) fn sign(key: &dyn SigningKey, tbs: &[u8]) -> Result<Vec<u8>, IssueError> {
    let signature = BitString::from_bytes(&key.sign(tbs)?)?;
    Ok(Signed { tbs: der::asn1::AnyRef::from_der(tbs)?, algorithm: key.algorithm(), signature }.to_der()?)
}

fn is_self_signed(certificate: &Certificate) -> bool {
    certificate.tbs_certificate().subject() == certificate.tbs_certificate().issuer()
}

fn validity(certificate: &Certificate) -> (Timestamp, Timestamp) {
    let validity = certificate.tbs_certificate().validity();
    (encoding::timestamp(validity.not_before), encoding::timestamp(validity.not_after))
}

/// Whether `issuer`'s key signed `certificate`.
fn is_signed_by(der: &[u8], issuer_der: &[u8], now: Timestamp) -> bool {
    let (leaf, issuer) = (CertificateDer::from(der), CertificateDer::from(issuer_der));
    let Ok(anchor) = webpki::anchor_from_trusted_cert(&issuer) else { return false };
    let Ok(leaf) = webpki::EndEntityCert::try_from(&leaf) else { return false };
    let now = UnixTime::since_unix_epoch(Duration::from_secs(u64::try_from(now.unix_secs()).unwrap_or(0)));
    let usage = webpki::KeyUsage::server_auth();
    match leaf.verify_for_usage(webpki::ALL_VERIFICATION_ALGS, &[anchor], &[], now, usage, None, None) {
        Ok(_) => true,
        // The signature is checked before this is found: a CA is here in a leaf's place.
        Err(error) => matches!(error, webpki::Error::CaUsedAsEndEntity),
    }
}

impl Issuer {
    /// An issuer with this key and chain: the issuing certificate, then its issuers up to the root, each DER.
    ///
    /// # Errors
    /// What is wrong with them.
    pub fn new(
        key: Arc<dyn SigningKey>,
        chain: Vec<Vec<u8>>,
        profile: Profile,
        now: Timestamp,
    ) -> Result<Self, IssuerError> {
        let no_chain = || IssuerError::NoChain { path: "the chain".to_owned() };
        let parsed: Vec<_> =
            chain.iter().map(|it| Certificate::from_der(it)).collect::<Result<_, _>>().map_err(|_| no_chain())?;
        let certificate = parsed.first().cloned().ok_or_else(no_chain)?;
        let spki = certificate.tbs_certificate().subject_public_key_info().to_der().unwrap_or_default();
        if spki != key.spki_der() {
            return Err(IssuerError::OtherKey);
        }
        let subject = |certificate: &Certificate| certificate.tbs_certificate().subject().to_string();
        for certificate in &parsed {
            let constraints = certificate.tbs_certificate().get_extension::<BasicConstraints>();
            if !constraints.is_ok_and(|it| it.is_some_and(|(_, it)| it.ca)) {
                return Err(IssuerError::NotACa { subject: subject(certificate) });
            }
            let (not_before, not_after) = validity(certificate);
            if now < not_before || now > not_after {
                return Err(IssuerError::OutOfTime { subject: subject(certificate), not_before, not_after, now });
            }
        }
        for ((certificate, der), (issuer, issuer_der)) in
            parsed.iter().zip(&chain).zip(parsed.iter().zip(&chain).skip(1))
        {
            let names_match = certificate.tbs_certificate().issuer() == issuer.tbs_certificate().subject();
            if !names_match || !signature_holds(certificate, der, issuer, issuer_der) {
                return Err(IssuerError::BrokenChain { subject: subject(certificate), issuer: subject(issuer) });
            }
        }
        // The root stays away where it signs nothing but intermediates: the client has it (certbot refuses a chain of one).
        let ends_in_root = parsed.last().is_some_and(is_self_signed);
        let sent = if ends_in_root && chain.len() > 1 { chain.len() - 1 } else { chain.len() };
        let sent_der: Vec<_> = chain.iter().take(sent).cloned().collect();
        let sent_pem = sent_der.iter().map(|it| encoding::certificate_pem(it)).collect();
        Ok(Self { key, chain, certificate, profile, sent_pem, sent_der })
    }

    /// Reads an issuer from files: a PKCS #8 key and a chain, PEM.
    ///
    /// # Errors
    /// What is wrong, where, and what to write instead.
    pub fn load(
        key_file: &Path,
        cert_file: &Path,
        profile: Profile,
        hash: HashAlg,
        now: Timestamp,
    ) -> Result<Self, IssuerError> {
        let key = FileKey::from_pem_file(key_file, hash)?;
        let chain = encoding::certificates_from_pem(&files::read(cert_file)?);
        let chain = chain.filter(|it| !it.is_empty());
        let chain = chain.ok_or_else(|| IssuerError::NoChain { path: cert_file.display().to_string() })?;
        Self::new(Arc::new(key), chain, profile, now)
    }

    /// The issuing certificate, DER.
    pub fn certificate_der(&self) -> &[u8] {
        self.chain.first().map_or(&[], Vec::as_slice)
    }

    /// The issuing certificate, PEM.
    pub fn certificate_pem(&self) -> String {
        encoding::certificate_pem(self.certificate_der())
    }

    /// The last certificate of the chain, DER: what clients must trust.
    pub fn root_der(&self) -> &[u8] {
        self.chain.last().map_or(&[], Vec::as_slice)
    }

    /// When the issuing certificate ends.
    pub fn not_after(&self) -> Timestamp {
        validity(&self.certificate).1
    }

    /// The exact TBSCertificate, DER, for a CSR. Whoever signs it makes the same certificate.
    ///
    /// # Errors
    /// Where the issuing certificate has expired.
    pub fn prepare(&self, csr: &Csr, serial: Serial, now: Timestamp) -> Result<Vec<u8>, IssueError> {
        leaf::prepare(self, csr, serial, now)
    }

    /// Signs a TBSCertificate that [`Self::prepare`] made, and checks the outcome before anyone sees it.
    ///
    /// # Errors
    /// Where the key fails, or what was signed does not verify.
    pub fn sign(&self, tbs: &[u8]) -> Result<IssuedCertificate, IssueError> {
        let der = sign(&*self.key, tbs)?;
        let unsound = |what: &str| IssueError::Unsound(what.to_owned());
        let parsed = Certificate::from_der(&der).map_err(|_| unsound("it cannot be parsed"))?;
        if parsed.tbs_certificate().to_der()? != tbs {
            return Err(unsound("it is not what was prepared"));
        }
        let (not_before, not_after) = validity(&parsed);
        let within = not_before.plus(Duration::from_secs(1)).min(not_after);
        if !is_signed_by(&der, self.certificate_der(), within) {
            return Err(unsound("its signature, validity or usage does not verify"));
        }
        let serial = Serial::from_der_content(parsed.tbs_certificate().serial_number().as_bytes());
        let chain_pem = format!("{}{}", encoding::certificate_pem(&der), self.sent_pem);
        let chain_der = std::iter::once(der.clone()).chain(self.sent_der.iter().cloned()).collect();
        Ok(IssuedCertificate {
            der,
            chain_pem,
            chain_der,
            serial: serial.ok_or_else(|| unsound("its serial number is too long"))?,
            not_before,
            not_after,
        })
    }

    /// A certificate for a server of our own, with a new P-256 key (PKCS #8, DER).
    ///
    /// # Errors
    /// As [`Self::prepare`] and [`Self::sign`].
    pub fn issue_server_certificate(
        &self,
        names: &[Identifier],
        serial: Serial,
        now: Timestamp,
    ) -> Result<(IssuedCertificate, Vec<u8>), IssueError> {
        let key = FileKey::generate(KeyType::EcP256, HashAlg::Sha256)?;
        let tbs = leaf::prepare_for_key(self, &key, names, serial, now)?;
        Ok((self.sign(&tbs)?, key.to_pkcs8()?))
    }
}

/// Whether a CA certificate is signed by the next one of its chain. The time is the certificate's own: it is judged
/// elsewhere.
fn signature_holds(certificate: &Certificate, der: &[u8], issuer: &Certificate, issuer_der: &[u8]) -> bool {
    let (start, issuer_start) = (validity(certificate).0, validity(issuer).0);
    is_signed_by(der, issuer_der, start.max(issuer_start))
}
