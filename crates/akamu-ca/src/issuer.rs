//! An issuer: key, chain and profile. It prepares a certificate, signs it, and checks what it signed.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use akamu_proto::{Identifier, Timestamp};
use der::Decode as _;
use der::asn1::ObjectIdentifier;
use rustls_pki_types::pem::PemObject as _;
use rustls_pki_types::{CertificateDer, ServerName, TrustAnchor, UnixTime};
use webpki::{EndEntityCert, ExtendedKeyUsageValidator, KeyPurposeIdIter, KeyUsage};
use x509_cert::{Certificate, TbsCertificate};

use crate::certificate::KnownCertificate;
use crate::chain::Chain;
use crate::csr::Csr;
use crate::encoding;
use crate::files::{self, FileError};
use crate::key::{FileKey, HashAlg, KeyError, KeyType, SigningKey};
use crate::leaf::{self, CLIENT_AUTH, SERVER_AUTH};
use crate::name_constraints::NameNotPermitted;
use crate::serial::Serial;
use crate::signed;

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
    /// The certificate file has no certificate, or PEM that cannot be read.
    #[error(
        "{path}: no certificate chain is found here; the issuing certificate, then its chain up to the root, in PEM is expected"
    )]
    NoChain {
        /// The file.
        path: String,
    },
    /// There is no certificate.
    #[error("the chain has no certificate; the issuing certificate, then its chain up to the root, is expected")]
    Empty,
    /// A certificate that is not DER, or that no client would read.
    #[error("the certificate number {number} of the chain is no X.509 certificate in DER")]
    Unreadable {
        /// Its place, counted from 1.
        number: usize,
    },
    /// The key is another certificate's.
    #[error(
        "the chain begins with the certificate {subject:?}, which is not for the issuer's key; put the key's own certificate first"
    )]
    OtherKey {
        /// The first certificate.
        subject: String,
    },
    /// A certificate of the chain is no CA's.
    #[error(
        "the certificate {subject:?} in the chain is not a CA certificate; the issuing certificate comes first, then its issuers"
    )]
    NotACa {
        /// Its subject.
        subject: String,
    },
    /// A CA's certificate that does not let it sign certificates, or the issuing one CRLs.
    #[error("the certificate {subject:?} in the chain has a key usage without {missing}; have it issued with it")]
    KeyUsage {
        /// Its subject.
        subject: String,
        /// The usage.
        missing: &'static str,
    },
    /// Certificates whose extended key usages allow nothing that is issued here.
    #[error(
        "the extended key usages of the chain, up to those of {subject:?}, leave neither serverAuth nor clientAuth; have its certificates issued with one of these in each, or without extended key usages"
    )]
    ExtendedKeyUsage {
        /// The subject of the first one with which nothing is left.
        subject: String,
    },
    /// Name constraints that would let no client accept a leaf, or that say nothing clear.
    #[error("the certificate {subject:?} in the chain has name constraints {what}; have it issued without these")]
    NameConstraints {
        /// Its subject.
        subject: String,
        /// What is wrong with them.
        what: &'static str,
    },
    /// A CA that allows fewer CAs under it than there are.
    #[error("the certificate {subject:?} in the chain does not allow so many CA certificates under it (pathLen)")]
    PathTooLong {
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
    /// A signature that clients of today do not accept.
    #[error(
        "the certificate {subject:?} in the chain is signed with an algorithm that is not accepted; SHA-256, SHA-384 or SHA-512 with RSA or ECDSA, or Ed25519, is expected"
    )]
    SignatureAlgorithm {
        /// The certificate.
        subject: String,
    },
    /// The chain ends before the root.
    #[error("the chain ends with {subject:?}, which is signed by {issuer:?}; append the certificates up to the root")]
    NoRoot {
        /// The last certificate.
        subject: String,
        /// Its issuer.
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
    /// A URL that cannot stand in certificates.
    #[error(
        "{url:?} cannot stand in certificates; an http URL in ASCII is expected (https would need the certificate)"
    )]
    BadUrl {
        /// The URL.
        url: String,
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
    /// A name that the chain's name constraints exclude.
    #[error("{name}: {reason}")]
    NameNotPermitted {
        /// The name.
        name: Identifier,
        /// Which constraint.
        reason: NameNotPermitted,
    },
    /// A certificate for a server, of a chain whose extended key usages leave clientAuth alone.
    #[error("the issuer's chain has no extended key usage serverAuth, which a server's certificate needs")]
    NotForServers,
    /// The issuing certificate, or one above it, has expired.
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
    pub(crate) chain: Chain,
    pub(crate) profile: Profile,
    /// The issuers in PEM, as they follow a leaf.
    issuers_pem: String,
}

/// A certificate that was signed and checked.
#[derive(Clone, Debug)]
pub struct IssuedCertificate {
    chain_der: Vec<Vec<u8>>,
    serial: Serial,
    not_before: Timestamp,
    not_after: Timestamp,
}

impl IssuedCertificate {
    /// The leaf, DER.
    pub fn der(&self) -> &[u8] {
        self.chain_der.first().map_or(&[], Vec::as_slice)
    }

    /// The leaf and its intermediates, PEM; the root only where it signs itself.
    pub fn chain_pem(&self) -> String {
        self.chain_der.iter().map(|it| encoding::certificate_pem(it)).collect()
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
        for url in [&profile.crl_url, &profile.issuer_url].into_iter().flatten() {
            if !url.starts_with("http://") || !url.bytes().all(|it| it.is_ascii_graphic()) {
                return Err(IssuerError::BadUrl { url: url.clone() });
            }
        }
        let chain = Chain::new(chain, &key.spki_der(), now)?;
        let issuers_pem = chain.sent().map(|it| encoding::certificate_pem(&it.der)).collect();
        Ok(Self { key, chain, profile, issuers_pem })
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
        let no_chain = || IssuerError::NoChain { path: cert_file.display().to_string() };
        let text = files::read(cert_file)?;
        let chain = CertificateDer::pem_slice_iter(text.as_bytes())
            .map(|it| it.map(|der| der.to_vec()).map_err(|_| no_chain()))
            .collect::<Result<Vec<_>, _>>()?;
        if chain.is_empty() {
            return Err(no_chain());
        }
        Self::new(Arc::new(key), chain, profile, now)
    }

    /// The issuing certificate, DER.
    pub fn certificate_der(&self) -> &[u8] {
        &self.chain.issuing().der
    }

    /// The issuing certificate, PEM.
    pub fn certificate_pem(&self) -> String {
        encoding::certificate_pem(self.certificate_der())
    }

    /// The last certificate of the chain, DER: what clients must trust.
    pub fn root_der(&self) -> &[u8] {
        &self.chain.root().der
    }

    /// When the issuing certificate ends, or the first one above it that ends earlier.
    pub fn not_after(&self) -> Timestamp {
        self.chain.validity().1
    }

    pub(crate) const fn certificate(&self) -> &Certificate {
        &self.chain.issuing().certificate
    }

    /// What is sent after a leaf (RFC 8555 §9.1): the intermediates, PEM; the root only where it signs itself.
    #[must_use]
    pub fn issuers_pem(&self) -> &str {
        &self.issuers_pem
    }

    /// Whether the name constraints of the whole chain (RFC 5280 §4.2.1.10) let clients accept a certificate with this
    /// name. A wildcard needs every name that it stands for.
    ///
    /// # Errors
    /// Which constraint forbids it.
    pub fn may_certify(&self, name: &Identifier) -> Result<(), NameNotPermitted> {
        self.chain.may_certify(name)
    }

    /// The exact TBSCertificate, DER, for a CSR. Whoever signs it makes the same certificate.
    ///
    /// # Errors
    /// Where the issuing certificate has expired.
    pub fn prepare(&self, csr: &Csr, serial: Serial, now: Timestamp) -> Result<Vec<u8>, IssueError> {
        leaf::prepare(self, csr, serial, now)
    }

    /// Whether [`Self::sign`] takes no longer than a few tenths of a millisecond: the key says so
    /// ([`SigningKey::is_quick`]).
    #[must_use]
    pub fn signs_quickly(&self) -> bool {
        self.key.is_quick()
    }

    /// Signs a TBSCertificate that [`Self::prepare`] made, and checks the outcome before anyone sees it: the octets are
    /// those prepared, and webpki accepts the certificate under ours, for the usages that our chain leaves, for each name.
    ///
    /// # Errors
    /// Where the key fails, or what was signed does not verify.
    pub fn sign(&self, tbs: &[u8]) -> Result<IssuedCertificate, IssueError> {
        // Its own: ca.hash_alg may have become another since it was prepared.
        let algorithm = TbsCertificate::from_der(tbs)?.signature().clone();
        let der = signed::sign_unchecked(&*self.key, algorithm, tbs)?;
        let certificate = self.check(&der).map_err(IssueError::Unsound)?;
        let (not_before, not_after) = certificate.validity();
        let chain_der = std::iter::once(der).chain(self.chain.sent().map(|it| it.der.clone())).collect();
        Ok(IssuedCertificate { chain_der, serial: certificate.serial(), not_before, not_after })
    }

    fn check(&self, der: &[u8]) -> Result<KnownCertificate, String> {
        let certificate = KnownCertificate::parse(der).ok_or("it is not of the form that we issue")?;
        let issuing = CertificateDer::from(self.certificate_der());
        let anchor = webpki::anchor_from_trusted_cert(&issuing).map_err(|error| error.to_string())?;
        let leaf = CertificateDer::from(der);
        let leaf = EndEntityCert::try_from(&leaf).map_err(|error| error.to_string())?;
        // Somebody may sign long after it was prepared: it is checked at a time at which it is valid.
        let seconds = u64::try_from(certificate.validity().0.unix_secs()).unwrap_or(0);
        let within = UnixTime::since_unix_epoch(Duration::from_secs(seconds));
        let verify = |anchor: TrustAnchor<'_>| {
            let usages = Usages(self.chain.usages());
            leaf.verify_for_usage(webpki::ALL_VERIFICATION_ALGS, &[anchor], &[], within, usages, None, None)
                .map(drop)
                .map_err(|error| error.to_string())
        };
        // Each further one, with the constraints of a CA above: rare, and a signature more.
        for above in self.chain.name_constraining() {
            let above = CertificateDer::from(above.der.as_slice());
            let above = webpki::anchor_from_trusted_cert(&above).map_err(|error| error.to_string())?;
            verify(TrustAnchor { name_constraints: above.name_constraints, ..anchor.clone() })?;
        }
        verify(anchor)?;
        if certificate.names().is_empty() {
            return Err("it has no names".to_owned());
        }
        for name in certificate.names() {
            let name = server_name(name).ok_or_else(|| format!("{name} is no name that clients ask for"))?;
            leaf.verify_is_valid_for_subject_name(&name).map_err(|error| error.to_string())?;
        }
        Ok(certificate)
    }

    /// A certificate for a server of our own, with a new P-256 key (PKCS #8, DER).
    ///
    /// # Errors
    /// As [`Self::prepare`] and [`Self::sign`], and where the chain leaves no serverAuth or may not certify a name.
    pub fn issue_server_certificate(
        &self,
        names: &[Identifier],
        serial: Serial,
        now: Timestamp,
    ) -> Result<(IssuedCertificate, Vec<u8>), IssueError> {
        if !self.chain.usages().contains(&SERVER_AUTH) {
            return Err(IssueError::NotForServers);
        }
        for name in names {
            let not_permitted = |reason| IssueError::NameNotPermitted { name: name.clone(), reason };
            self.may_certify(name).map_err(not_permitted)?;
        }
        let key = FileKey::generate(KeyType::EcP256, HashAlg::Sha256)?;
        let tbs = leaf::prepare_for_key(self, &key, names, serial, now)?;
        Ok((self.sign(&tbs)?, key.to_pkcs8()?))
    }
}

/// What a client would ask for under this name.
fn server_name(name: &Identifier) -> Option<ServerName<'static>> {
    match name {
        Identifier::Dns(name) => ServerName::try_from(name.as_str().to_owned()).ok(),
        Identifier::Wildcard(base) => ServerName::try_from(format!("a.{base}")).ok(),
        Identifier::Ip(address) => Some(ServerName::IpAddress((*address).into())),
    }
}

/// All of these usages, so that the signature is verified once.
struct Usages<'a>(&'a [ObjectIdentifier]);

impl ExtendedKeyUsageValidator for Usages<'_> {
    fn validate(&self, present: KeyPurposeIdIter<'_, '_>) -> Result<(), webpki::Error> {
        let present: Vec<Vec<usize>> = present.map(|it| it.map(|it| it.to_decoded_oid())).collect::<Result<_, _>>()?;
        for (usage, required) in [(SERVER_AUTH, KeyUsage::server_auth()), (CLIENT_AUTH, KeyUsage::client_auth())] {
            if self.0.contains(&usage) && !present.iter().any(|it| it.iter().copied().eq(required.oid_values())) {
                let context = webpki::RequiredEkuNotFoundContext { required, present };
                return Err(webpki::Error::RequiredEkuNotFoundContext(context));
            }
        }
        Ok(())
    }
}
