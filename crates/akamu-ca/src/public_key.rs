//! Public keys of requests and certificates: SubjectPublicKeyInfo (RFC 5280 §4.1.2.7, RFC 5480, RFC 8017, RFC 8410).

use akamu_proto::{Jwk, RSA_MAX_BITS, RSA_MIN_BITS};
use base64ct::{Base64UrlUnpadded, Encoding as _};
use der::asn1::{ObjectIdentifier, UintRef};
use der::{Decode as _, Sequence};
use x509_cert::spki::SubjectPublicKeyInfoRef;

const EC_PUBLIC_KEY: ObjectIdentifier = ObjectIdentifier::new_unwrap("1.2.840.10045.2.1");
const RSA_ENCRYPTION: ObjectIdentifier = ObjectIdentifier::new_unwrap("1.2.840.113549.1.1.1");
const ED25519: ObjectIdentifier = ObjectIdentifier::new_unwrap("1.3.101.112");
const P256: ObjectIdentifier = ObjectIdentifier::new_unwrap("1.2.840.10045.3.1.7");
const P384: ObjectIdentifier = ObjectIdentifier::new_unwrap("1.3.132.0.34");

/// A key of a kind that gets certificates, in the one form that it has there.
#[derive(Clone, PartialEq, Eq)]
pub(crate) struct PublicKey {
    spki_der: Vec<u8>,
    bits: Vec<u8>,
    material: Material,
}

#[derive(Clone, PartialEq, Eq)]
pub(crate) enum Material {
    P256,
    P384,
    Rsa { modulus: Vec<u8>, exponent: Vec<u8> },
    Ed25519,
}

/// Why a key is not taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum PublicKeyError {
    /// Another algorithm or curve.
    Unsupported,
    /// Not what its algorithm prescribes: a compressed point, absent parameters, no key at all.
    Malformed,
    /// An RSA modulus outside the limits.
    Modulus { bits: usize },
    /// An RSA exponent other than 65537.
    Exponent,
}

/// RFC 8017 §A.1.1.
#[derive(Sequence)]
struct RsaPublicKey<'a> {
    modulus: UintRef<'a>,
    exponent: UintRef<'a>,
}

impl PublicKey {
    /// Reads a SubjectPublicKeyInfo, DER. Whether a point lies on its curve shows when a signature is verified.
    pub(crate) fn parse(spki_der: &[u8]) -> Result<Self, PublicKeyError> {
        let spki = SubjectPublicKeyInfoRef::from_der(spki_der).map_err(|_| PublicKeyError::Malformed)?;
        let parameters = spki.algorithm.parameters;
        let bits = spki.subject_public_key.as_bytes().ok_or(PublicKeyError::Malformed)?;
        // RFC 5480 §2.2: 04 says that both coordinates follow, and clients read no other form.
        let is_point = |octets: usize| bits.first() == Some(&4) && bits.len() == 1 + 2 * octets;
        let (material, is_well_formed) = match spki.algorithm.oid {
            EC_PUBLIC_KEY => match parameters.and_then(|it| it.decode_as::<ObjectIdentifier>().ok()) {
                Some(P256) => (Material::P256, is_point(32)),
                Some(P384) => (Material::P384, is_point(48)),
                _ => return Err(PublicKeyError::Unsupported),
            },
            // RFC 8410 §3: parameters are absent.
            ED25519 => (Material::Ed25519, bits.len() == 32 && parameters.is_none()),
            // RFC 3279 §2.3.1: parameters are NULL.
            RSA_ENCRYPTION => (rsa(bits)?, parameters.is_some_and(|it| it.is_null())),
            _ => return Err(PublicKeyError::Unsupported),
        };
        if !is_well_formed {
            return Err(PublicKeyError::Malformed);
        }
        Ok(Self { spki_der: spki_der.to_vec(), bits: bits.to_vec(), material })
    }

    /// SubjectPublicKeyInfo, DER.
    pub(crate) fn spki_der(&self) -> &[u8] {
        &self.spki_der
    }

    /// The content of subjectPublicKey, from which key identifiers are made.
    pub(crate) fn bits(&self) -> &[u8] {
        &self.bits
    }

    pub(crate) const fn material(&self) -> &Material {
        &self.material
    }

    pub(crate) const fn is_rsa(&self) -> bool {
        matches!(self.material, Material::Rsa { .. })
    }

    /// Whether it is the key in this JWK.
    pub(crate) fn is(&self, jwk: &Jwk) -> bool {
        self.canonical_jwk().as_deref() == Some(jwk.canonical())
    }

    /// RFC 7638 §3.
    fn canonical_jwk(&self) -> Option<String> {
        let text = |octets: &[u8]| Base64UrlUnpadded::encode_string(octets);
        let point = |curve: &str, octets: usize| {
            let (x, y) = self.bits.get(1..)?.split_at_checked(octets)?;
            Some(format!(r#"{{"crv":"{curve}","kty":"EC","x":"{}","y":"{}"}}"#, text(x), text(y)))
        };
        match &self.material {
            Material::P256 => point("P-256", 32),
            Material::P384 => point("P-384", 48),
            Material::Ed25519 => Some(format!(r#"{{"crv":"Ed25519","kty":"OKP","x":"{}"}}"#, text(&self.bits))),
            Material::Rsa { modulus, exponent } => {
                Some(format!(r#"{{"e":"{}","kty":"RSA","n":"{}"}}"#, text(exponent), text(modulus)))
            }
        }
    }
}

impl std::fmt::Debug for PublicKey {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "PublicKey({})", self.canonical_jwk().unwrap_or_default())
    }
}

fn rsa(bits: &[u8]) -> Result<Material, PublicKeyError> {
    let key = RsaPublicKey::from_der(bits).map_err(|_| PublicKeyError::Malformed)?;
    let modulus = key.modulus.as_bytes();
    let bits = modulus.len() * 8 - modulus.first().map_or(0, |it| it.leading_zeros() as usize);
    if !(RSA_MIN_BITS..=RSA_MAX_BITS).contains(&bits) {
        return Err(PublicKeyError::Modulus { bits });
    }
    if key.exponent.as_bytes() != [1, 0, 1] {
        return Err(PublicKeyError::Exponent);
    }
    Ok(Material::Rsa { modulus: modulus.to_vec(), exponent: key.exponent.as_bytes().to_vec() })
}
