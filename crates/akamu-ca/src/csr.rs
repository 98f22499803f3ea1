//! Certificate signing requests (RFC 2986): what of them counts, and what is refused.

use std::collections::BTreeSet;

use akamu_proto::{Identifier, Jwk};
use aws_lc_rs::signature::{self, UnparsedPublicKey, VerificationAlgorithm};
use base64ct::{Base64UrlUnpadded, Encoding as _};
use der::asn1::{ObjectIdentifier, UintRef};
use der::{Decode as _, Encode as _, Sequence};
use x509_cert::attr::Attribute;
use x509_cert::ext::Extensions;
use x509_cert::ext::pkix::SubjectAltName;
use x509_cert::request::CertReq;
use x509_cert::spki::{AlgorithmIdentifierOwned, SubjectPublicKeyInfoOwned};

use crate::encoding;
use crate::weak_rsa::{self, Weakness};

/// The largest CSR that is read: 100 names of 253 octets, an RSA key and room to spare.
pub const MAX_CSR_OCTETS: usize = 64 * 1024;
/// The most names of a CSR.
pub const MAX_NAMES: usize = 100;

const EXTENSION_REQUEST: ObjectIdentifier = ObjectIdentifier::new_unwrap("1.2.840.113549.1.9.14");
const SUBJECT_ALT_NAME: ObjectIdentifier = ObjectIdentifier::new_unwrap("2.5.29.17");
const EC_PUBLIC_KEY: ObjectIdentifier = ObjectIdentifier::new_unwrap("1.2.840.10045.2.1");
const RSA_ENCRYPTION: ObjectIdentifier = ObjectIdentifier::new_unwrap("1.2.840.113549.1.1.1");
const ED25519: ObjectIdentifier = ObjectIdentifier::new_unwrap("1.3.101.112");
const P256: ObjectIdentifier = ObjectIdentifier::new_unwrap("1.2.840.10045.3.1.7");
const P384: ObjectIdentifier = ObjectIdentifier::new_unwrap("1.3.132.0.34");

/// Why a CSR is refused, in words for the client (badCSR).
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum CsrError {
    /// It is no CSR.
    #[error("the CSR is not a PKCS #10 request, DER in base64url")]
    NotDer,
    /// It is too long.
    #[error("the CSR has {octets} octets; {MAX_CSR_OCTETS} are allowed")]
    TooLong {
        /// Its length.
        octets: usize,
    },
    /// Its key is of a kind that gets no certificate.
    #[error("the CSR's key is not supported; use EC P-256, EC P-384, RSA or Ed25519")]
    UnsupportedKey,
    /// Its RSA key is too short or too long.
    #[error("the CSR's RSA key has {bits} bits; 2048 to 4096 are allowed")]
    RsaModulus {
        /// Its length.
        bits: usize,
    },
    /// Its RSA exponent is another one.
    #[error("the CSR's RSA exponent must be 65537")]
    RsaExponent,
    /// Its RSA key can be factored.
    #[error("the CSR's RSA key is weak ({0}); make a new key with another program")]
    WeakKey(&'static str),
    /// The point is not on its curve, or the key is no key.
    #[error("the CSR's public key is no valid key")]
    BadKey,
    /// It is signed with an algorithm that is not accepted, or that does not fit the key.
    #[error("the CSR is signed with an algorithm that is not accepted; use SHA-256, SHA-384 or SHA-512")]
    SignatureAlgorithm,
    /// Its signature is wrong.
    #[error("the CSR's signature is wrong")]
    BadSignature,
    /// It has no names.
    #[error("the CSR names no dns or ip identifier")]
    NoNames,
    /// It has too many names.
    #[error("the CSR has {count} names; {MAX_NAMES} are allowed")]
    TooManyNames {
        /// How many.
        count: usize,
    },
    /// One of its names cannot be certified.
    #[error("the CSR has a name that cannot be certified: {what}")]
    BadName {
        /// Which, and why.
        what: String,
    },
    /// It has two lists of names or of extensions.
    #[error("the CSR has more than one extension request or subject alternative name")]
    Ambiguous,
    /// Its names are not the order's.
    #[error(
        "the CSR's names are not the order's{}{}",
        list("; missing: ", missing),
        list("; not in the order: ", extra)
    )]
    OtherNames {
        /// Names of the order that it lacks.
        missing: Vec<String>,
        /// Names that the order lacks.
        extra: Vec<String>,
    },
}

fn list(what: &str, names: &[String]) -> String {
    let shown: Vec<_> = names.iter().take(5).map(String::as_str).collect();
    let more = names.len().saturating_sub(shown.len());
    match (shown.is_empty(), more) {
        (true, _) => String::new(),
        (false, 0) => format!("{what}{}", shown.join(", ")),
        (false, more) => format!("{what}{} and {more} more", shown.join(", ")),
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum PublicKeyKind {
    P256,
    P384,
    Rsa,
    Ed25519,
}

/// RFC 8017 §A.1.1.
#[derive(Sequence)]
pub(crate) struct RsaPublicKey<'a> {
    pub(crate) modulus: UintRef<'a>,
    pub(crate) exponent: UintRef<'a>,
}

/// A CSR whose signature, key and names have been found good.
#[derive(Clone, Debug)]
pub struct Csr {
    pub(crate) spki: SubjectPublicKeyInfoOwned,
    pub(crate) kind: PublicKeyKind,
    pub(crate) names: BTreeSet<Identifier>,
    /// The common name, where it is one of the names.
    pub(crate) common_name: Option<String>,
}

impl Csr {
    /// Reads and judges a CSR. Extensions other than the names are ignored: none is copied into a certificate.
    ///
    /// # Errors
    /// What is wrong with it.
    pub fn parse(der: &[u8]) -> Result<Self, CsrError> {
        if der.len() > MAX_CSR_OCTETS {
            return Err(CsrError::TooLong { octets: der.len() });
        }
        let request = CertReq::from_der(der).map_err(|_| CsrError::NotDer)?;
        let spki = request.info.public_key.clone();
        let kind = judge_key(&spki)?;
        verify(&request, kind)?;
        let mut names = alternative_names(&request)?;
        let subject = request.info.subject.common_name().map_err(|_| CsrError::NotDer)?;
        let mut common_name = None;
        if let Some(name) = subject.as_ref().map(|it| it.value().into_owned())
            && let Ok(identifier) = Identifier::dns(&name).or_else(|_| Identifier::ip(&name))
        {
            // RFC 5280 §A.1: ub-common-name is 64.
            common_name = Some(identifier.value()).filter(|it| it.len() <= 64);
            names.insert(identifier);
        }
        match names.len() {
            0 => Err(CsrError::NoNames),
            count if count > MAX_NAMES => Err(CsrError::TooManyNames { count }),
            _ => Ok(Self { spki, kind, names, common_name }),
        }
    }

    /// The names, each once.
    pub fn names(&self) -> impl Iterator<Item = &Identifier> {
        self.names.iter()
    }

    /// Whether the names are exactly the order's (RFC 8555 §7.4).
    ///
    /// # Errors
    /// Which are missing, and which are not in the order.
    pub fn check_names(&self, order: &[Identifier]) -> Result<(), CsrError> {
        let wanted: BTreeSet<_> = order.iter().cloned().collect();
        let missing: Vec<_> = wanted.difference(&self.names).map(Identifier::value).collect();
        let extra: Vec<_> = self.names.difference(&wanted).map(Identifier::value).collect();
        if missing.is_empty() && extra.is_empty() { Ok(()) } else { Err(CsrError::OtherNames { missing, extra }) }
    }

    /// Whether it is made with this account key (RFC 8555 §11.1 forbids that).
    pub fn is_made_with(&self, account_key: &Jwk) -> bool {
        canonical_jwk(&self.spki, self.kind).as_deref() == Some(account_key.canonical())
    }
}

/// The canonical JWK of a public key, to be compared with an account's.
pub(crate) fn canonical_jwk(spki: &SubjectPublicKeyInfoOwned, kind: PublicKeyKind) -> Option<String> {
    let bits = spki.subject_public_key.as_bytes()?;
    let text = |octets: &[u8]| Base64UrlUnpadded::encode_string(octets);
    let point = |curve: &str, octets: usize| {
        let (x, y) = bits.strip_prefix(&[4])?.split_at_checked(octets)?;
        Some(format!(r#"{{"crv":"{curve}","kty":"EC","x":"{}","y":"{}"}}"#, text(x), text(y)))
    };
    match kind {
        PublicKeyKind::P256 => point("P-256", 32),
        PublicKeyKind::P384 => point("P-384", 48),
        PublicKeyKind::Ed25519 => Some(format!(r#"{{"crv":"Ed25519","kty":"OKP","x":"{}"}}"#, text(bits))),
        PublicKeyKind::Rsa => {
            let key = RsaPublicKey::from_der(bits).ok()?;
            let (e, n) = (text(key.exponent.as_bytes()), text(key.modulus.as_bytes()));
            Some(format!(r#"{{"e":"{e}","kty":"RSA","n":"{n}"}}"#))
        }
    }
}

/// The kind of a public key, by its algorithm alone.
pub(crate) fn kind_of(algorithm: &AlgorithmIdentifierOwned) -> Option<PublicKeyKind> {
    let curve = || algorithm.parameters.as_ref()?.decode_as::<ObjectIdentifier>().ok();
    match algorithm.oid {
        ED25519 => Some(PublicKeyKind::Ed25519),
        RSA_ENCRYPTION => Some(PublicKeyKind::Rsa),
        EC_PUBLIC_KEY => match curve()? {
            P256 => Some(PublicKeyKind::P256),
            P384 => Some(PublicKeyKind::P384),
            _ => None,
        },
        _ => None,
    }
}

fn judge_key(spki: &SubjectPublicKeyInfoOwned) -> Result<PublicKeyKind, CsrError> {
    let kind = kind_of(&spki.algorithm).ok_or(CsrError::UnsupportedKey)?;
    let bits = spki.subject_public_key.as_bytes().ok_or(CsrError::BadKey)?;
    let algorithm: &'static dyn VerificationAlgorithm = match kind {
        PublicKeyKind::P256 => &signature::ECDSA_P256_SHA256_ASN1,
        PublicKeyKind::P384 => &signature::ECDSA_P384_SHA384_ASN1,
        PublicKeyKind::Ed25519 => &signature::ED25519,
        PublicKeyKind::Rsa => {
            let key = RsaPublicKey::from_der(bits).map_err(|_| CsrError::BadKey)?;
            let modulus = key.modulus.as_bytes();
            let bits = modulus.len() * 8 - modulus.first().map_or(0, |it| it.leading_zeros() as usize);
            if !(2048..=4096).contains(&bits) {
                return Err(CsrError::RsaModulus { bits });
            }
            if key.exponent.as_bytes() != [1, 0, 1] {
                return Err(CsrError::RsaExponent);
            }
            if let Some(weakness) = weak_rsa::weakness(modulus) {
                return Err(CsrError::WeakKey(match weakness {
                    Weakness::SmallFactor => "it has a small factor",
                    Weakness::Roca => "it is a ROCA key, CVE-2017-15361",
                    Weakness::ClosePrimes => "its primes are too close, CVE-2022-26320",
                }));
            }
            &signature::RSA_PKCS1_2048_8192_SHA256
        }
    };
    signature::ParsedPublicKey::new(algorithm, bits).map_err(|_| CsrError::BadKey)?;
    Ok(kind)
}

fn verify(request: &CertReq, kind: PublicKeyKind) -> Result<(), CsrError> {
    use signature as s;
    let oid = request.algorithm.oid.to_string();
    let algorithm: &'static dyn VerificationAlgorithm = match (kind, oid.as_str()) {
        (PublicKeyKind::P256, "1.2.840.10045.4.3.2") => &s::ECDSA_P256_SHA256_ASN1,
        (PublicKeyKind::P256, "1.2.840.10045.4.3.3") => &s::ECDSA_P256_SHA384_ASN1,
        (PublicKeyKind::P256, "1.2.840.10045.4.3.4") => &s::ECDSA_P256_SHA512_ASN1,
        (PublicKeyKind::P384, "1.2.840.10045.4.3.2") => &s::ECDSA_P384_SHA256_ASN1,
        (PublicKeyKind::P384, "1.2.840.10045.4.3.3") => &s::ECDSA_P384_SHA384_ASN1,
        (PublicKeyKind::P384, "1.2.840.10045.4.3.4") => &s::ECDSA_P384_SHA512_ASN1,
        (PublicKeyKind::Rsa, "1.2.840.113549.1.1.11") => &s::RSA_PKCS1_2048_8192_SHA256,
        (PublicKeyKind::Rsa, "1.2.840.113549.1.1.12") => &s::RSA_PKCS1_2048_8192_SHA384,
        (PublicKeyKind::Rsa, "1.2.840.113549.1.1.13") => &s::RSA_PKCS1_2048_8192_SHA512,
        (PublicKeyKind::Ed25519, "1.3.101.112") => &s::ED25519,
        _ => return Err(CsrError::SignatureAlgorithm),
    };
    let message = request.info.to_der().map_err(|_| CsrError::NotDer)?;
    let key = request.info.public_key.subject_public_key.as_bytes().ok_or(CsrError::BadKey)?;
    let octets = request.signature.as_bytes().ok_or(CsrError::BadSignature)?;
    UnparsedPublicKey::new(algorithm, key).verify(&message, octets).map_err(|_| CsrError::BadSignature)
}

fn alternative_names(request: &CertReq) -> Result<BTreeSet<Identifier>, CsrError> {
    let mut requests = request.info.attributes.iter().filter(|it: &&Attribute| it.oid == EXTENSION_REQUEST);
    let Some(attribute) = requests.next() else { return Ok(BTreeSet::new()) };
    let (Some(value), 1, None) = (attribute.values.get(0), attribute.values.len(), requests.next()) else {
        return Err(CsrError::Ambiguous);
    };
    let extensions: Extensions = value.decode_as().map_err(|_| CsrError::NotDer)?;
    let mut found = extensions.iter().filter(|it| it.extn_id == SUBJECT_ALT_NAME);
    let Some(extension) = found.next() else { return Ok(BTreeSet::new()) };
    if found.next().is_some() {
        return Err(CsrError::Ambiguous);
    }
    let names = SubjectAltName::from_der(extension.extn_value.as_bytes()).map_err(|_| CsrError::NotDer)?;
    // Counted before each is parsed.
    if names.0.len() > MAX_NAMES {
        return Err(CsrError::TooManyNames { count: names.0.len() });
    }
    names.0.iter().map(|it| encoding::identifier(it).map_err(|what| CsrError::BadName { what })).collect()
}
