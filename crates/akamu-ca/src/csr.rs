//! Certificate signing requests (RFC 2986): what of them counts, and what is refused.
//!
//! Of a request counts its key, its signature, and its names. Everything else is ignored, extensions too: nothing is
//! copied into a certificate.

use std::collections::BTreeSet;

use akamu_proto::{Identifier, Jwk};
use aws_lc_rs::signature::{ECDSA_P256_SHA256_ASN1, ECDSA_P384_SHA384_ASN1, ED25519, ParsedPublicKey};
use der::asn1::{AnyRef, ObjectIdentifier};
use der::{Decode as _, Reader as _, SliceReader, Tag};
use x509_cert::ext::Extensions;

use crate::compromised_key;
use crate::public_key::{Material, PublicKey, PublicKeyError};
use crate::signed::{SignatureError, Signed};
use crate::subject_alt_name::{self, MAX_NAMES, NamesError};
use crate::weak_rsa::{self, Weakness};

/// The largest CSR that is read: 100 names of 253 octets, an RSA key and room to spare.
pub const MAX_CSR_OCTETS: usize = 64 * 1024;
/// RFC 5280 §A.1: ub-common-name.
const MAX_COMMON_NAME: usize = 64;

const EXTENSION_REQUEST: ObjectIdentifier = ObjectIdentifier::new_unwrap("1.2.840.113549.1.9.14");
const SUBJECT_ALT_NAME: ObjectIdentifier = ObjectIdentifier::new_unwrap("2.5.29.17");
const COMMON_NAME: ObjectIdentifier = ObjectIdentifier::new_unwrap("2.5.4.3");

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
    /// Its private key is published.
    #[error("the CSR's private key is published, as an example; make a key of your own")]
    PublishedKey,
    /// The point is not on its curve or is compressed, or the key is no key.
    #[error("the CSR's public key is no valid key of its kind")]
    BadKey,
    /// It is signed with an algorithm that is not accepted, or that does not fit the key.
    #[error("the CSR is signed with an algorithm that is not accepted; use SHA-256, SHA-384 or SHA-512")]
    SignatureAlgorithm,
    /// Its signature is wrong.
    #[error("the CSR's signature is not one by its own key")]
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

impl From<PublicKeyError> for CsrError {
    fn from(error: PublicKeyError) -> Self {
        match error {
            PublicKeyError::Unsupported => Self::UnsupportedKey,
            PublicKeyError::Malformed => Self::BadKey,
            PublicKeyError::Modulus { bits } => Self::RsaModulus { bits },
            PublicKeyError::Exponent => Self::RsaExponent,
        }
    }
}

impl From<NamesError> for CsrError {
    fn from(error: NamesError) -> Self {
        match error {
            NamesError::Malformed => Self::NotDer,
            NamesError::TooMany { count } => Self::TooManyNames { count },
            NamesError::Bad { what } => Self::BadName { what },
        }
    }
}

/// A CSR whose signature, key and names have been found good.
#[derive(Clone, Debug)]
pub struct Csr {
    pub(crate) key: PublicKey,
    pub(crate) names: BTreeSet<Identifier>,
    /// The common name, where it is one of the names and short enough.
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
        let signed = Signed::parse(der).map_err(|_| CsrError::NotDer)?;
        let request = Request::parse(signed.tbs).map_err(|_| CsrError::NotDer)?;
        let key = PublicKey::parse(request.spki_der)?;
        signed.verify(key.spki_der()).map_err(|error| match error {
            SignatureError::Algorithm => CsrError::SignatureAlgorithm,
            SignatureError::Wrong if is_no_key(&key) => CsrError::BadKey,
            SignatureError::Wrong => CsrError::BadSignature,
        })?;
        refuse_known_private_keys(&key)?;
        let mut names: BTreeSet<_> = match subject_alternative_name(request.attributes)? {
            Some(value) => subject_alt_name::parse(&value)?.into_iter().collect(),
            None => BTreeSet::new(),
        };
        let common_names: Vec<_> = request.common_names.iter().filter_map(|it| name_or_address(it)).collect();
        let common_name = common_names.first().map(Identifier::value).filter(|it| it.len() <= MAX_COMMON_NAME);
        names.extend(common_names);
        match names.len() {
            0 => Err(CsrError::NoNames),
            count if count > MAX_NAMES => Err(CsrError::TooManyNames { count }),
            _ => Ok(Self { key, names, common_name }),
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
        self.key.is(account_key)
    }
}

/// CertificationRequestInfo (RFC 2986 §4.1).
///
/// Read by hand, since clients do not all sort their attributes as DER wants it.
struct Request<'a> {
    common_names: Vec<&'a str>,
    spki_der: &'a [u8],
    /// The content of the attributes.
    attributes: &'a [u8],
}

impl<'a> Request<'a> {
    fn parse(der: &'a [u8]) -> der::Result<Self> {
        // It is one TLV, so there is nothing behind it.
        SliceReader::new(der)?.sequence(|reader| {
            if u8::decode(reader)? != 0 {
                return Err(der::ErrorKind::Failed.into());
            }
            let subject = reader.tlv_bytes()?;
            let spki_der = reader.tlv_bytes()?;
            // They have no OPTIONAL, and some devices leave them out nevertheless.
            let attributes: &[u8] = if reader.is_finished() { &[] } else { AnyRef::decode(reader)?.value() };
            Ok::<_, der::Error>(Self { common_names: common_names(subject)?, spki_der, attributes })
        })
    }
}

/// The common names of a Name that are text of an ASCII kind.
fn common_names(name: &[u8]) -> der::Result<Vec<&str>> {
    let mut found = Vec::new();
    SliceReader::new(name)?.sequence(|reader| {
        while !reader.is_finished() {
            let mut attributes = SliceReader::new(AnyRef::decode(reader)?.value())?;
            while !attributes.is_finished() {
                let (oid, value) = attributes.sequence(|reader| {
                    Ok::<_, der::Error>((ObjectIdentifier::decode(reader)?, AnyRef::decode(reader)?))
                })?;
                let is_text = matches!(
                    value.header().tag(),
                    Tag::Utf8String | Tag::PrintableString | Tag::Ia5String | Tag::TeletexString
                );
                if oid == COMMON_NAME && is_text {
                    found.extend(std::str::from_utf8(value.value()));
                }
            }
        }
        Ok::<_, der::Error>(())
    })?;
    Ok(found)
}

fn name_or_address(common_name: &str) -> Option<Identifier> {
    Identifier::dns(common_name).or_else(|_| Identifier::ip(common_name)).ok()
}

/// The value of the subject alternative name that the attributes ask for.
fn subject_alternative_name(attributes: &[u8]) -> Result<Option<Vec<u8>>, CsrError> {
    let requests = extension_requests(attributes).map_err(|_| CsrError::NotDer)?;
    let [request] = requests.as_slice() else {
        return if requests.is_empty() { Ok(None) } else { Err(CsrError::Ambiguous) };
    };
    let extensions = Extensions::from_der(request).map_err(|_| CsrError::NotDer)?;
    let mut found = extensions.into_iter().filter(|it| it.extn_id == SUBJECT_ALT_NAME);
    match (found.next(), found.next()) {
        (Some(extension), None) => Ok(Some(extension.extn_value.into_bytes().into_vec())),
        (None, _) => Ok(None),
        (Some(_), Some(_)) => Err(CsrError::Ambiguous),
    }
}

/// The values of all extension requests (RFC 2985 §5.4.2).
fn extension_requests(attributes: &[u8]) -> der::Result<Vec<&[u8]>> {
    let mut found = Vec::new();
    let mut reader = SliceReader::new(attributes)?;
    while !reader.is_finished() {
        let (oid, values) = reader
            .sequence(|reader| Ok::<_, der::Error>((ObjectIdentifier::decode(reader)?, AnyRef::decode(reader)?)))?;
        if oid == EXTENSION_REQUEST {
            let mut values = SliceReader::new(values.value())?;
            while !values.is_finished() {
                found.push(values.tlv_bytes()?);
            }
        }
    }
    Ok(found)
}

/// Told only after a signature has failed: whether the key is to blame.
fn is_no_key(key: &PublicKey) -> bool {
    match key.material() {
        Material::P256 => ParsedPublicKey::new(&ECDSA_P256_SHA256_ASN1, key.bits()).is_err(),
        Material::P384 => ParsedPublicKey::new(&ECDSA_P384_SHA384_ASN1, key.bits()).is_err(),
        Material::Ed25519 => ParsedPublicKey::new(&ED25519, key.bits()).is_err(),
        Material::Rsa { .. } => false,
    }
}

fn refuse_known_private_keys(key: &PublicKey) -> Result<(), CsrError> {
    if compromised_key::is_published(key.spki_der()) {
        return Err(CsrError::PublishedKey);
    }
    let Material::Rsa { modulus, .. } = key.material() else { return Ok(()) };
    match weak_rsa::weakness(modulus) {
        None => Ok(()),
        Some(Weakness::SmallFactor) => Err(CsrError::WeakKey("it has a small factor")),
        Some(Weakness::Roca) => Err(CsrError::WeakKey("it is a ROCA key, CVE-2017-15361")),
        Some(Weakness::ClosePrimes) => Err(CsrError::WeakKey("its primes are too close, CVE-2022-26320")),
    }
}
