//! JSON Web Keys of accounts (RFC 7517, RFC 7518 §6, RFC 8037) and their thumbprints (RFC 7638).

use std::fmt;

use base64ct::{Base64UrlUnpadded, Encoding as _};
use serde::Deserialize;

use crate::Thumbprint;

/// The smallest RSA modulus that is taken, in bits (RFC 7518 §3.3).
pub const RSA_MIN_BITS: usize = 2048;
/// The largest RSA modulus that is taken, in bits: a larger one costs the server more than the client.
pub const RSA_MAX_BITS: usize = 4096;

/// A public key in the shape that its kind has. Its numbers are not yet known to make sense: `VerifyingKey` checks that.
#[derive(Clone, PartialEq, Eq, Hash)]
pub struct Jwk {
    material: KeyMaterial,
    canonical: Box<str>,
}

/// The numbers of a key.
#[derive(Clone, PartialEq, Eq, Hash)]
pub(crate) enum KeyMaterial {
    /// x and y, 32 octets each.
    P256 { x: Vec<u8>, y: Vec<u8> },
    /// x and y, 48 octets each.
    P384 { x: Vec<u8>, y: Vec<u8> },
    /// Modulus and exponent, big-endian.
    Rsa { n: Vec<u8>, e: Vec<u8> },
    /// 32 octets.
    Ed25519 { x: Vec<u8> },
}

/// Why a key is not taken.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum JwkError {
    /// Not a JSON object with the members of a key.
    #[error("the JWK is malformed: {reason}")]
    Malformed {
        /// What the parser met.
        reason: String,
    },
    /// A kind of key that no account may have.
    #[error("keys of type {kty:?} with curve {crv:?} are not supported; use EC P-256, EC P-384, RSA or OKP Ed25519")]
    UnsupportedKey {
        /// The member `kty`.
        kty: String,
        /// The member `crv`.
        crv: String,
    },
    /// A member that this kind of key needs is absent.
    #[error("the JWK has no {member:?}")]
    MissingMember {
        /// Its name.
        member: &'static str,
    },
    /// A member that is not base64url, or of another length than the kind of key has.
    #[error("the JWK's {member:?} is not base64url of the right length")]
    BadMember {
        /// Its name.
        member: &'static str,
    },
    /// A private member came along.
    #[error("the JWK carries a private key; it must be considered compromised, make a new one")]
    PrivateKey,
    /// An RSA modulus outside the limits.
    #[error("the RSA modulus has {bits} bits; 2048 to 4096 are allowed")]
    RsaModulus {
        /// Its length.
        bits: usize,
    },
    /// An RSA exponent other than 65537.
    #[error("the RSA exponent must be 65537")]
    RsaExponent,
    /// x and y that are no point of the curve, or a modulus that cannot be one.
    #[error("the JWK's numbers are no valid public key")]
    NoSuchKey,
}

#[derive(Deserialize)]
struct Members {
    kty: String,
    #[serde(default)]
    crv: String,
    x: Option<String>,
    y: Option<String>,
    n: Option<String>,
    e: Option<String>,
    d: Option<serde::de::IgnoredAny>,
}

impl Jwk {
    /// Reads a JWK object.
    ///
    /// # Errors
    /// What is wrong with it.
    pub fn parse(json: &str) -> Result<Self, JwkError> {
        let members: Members =
            serde_json::from_str(json).map_err(|error| JwkError::Malformed { reason: error.to_string() })?;
        if members.d.is_some() {
            return Err(JwkError::PrivateKey);
        }
        let (material, canonical) = match (members.kty.as_str(), members.crv.as_str()) {
            ("EC", crv @ ("P-256" | "P-384")) => {
                let octets = if crv == "P-256" { 32 } else { 48 };
                let (x, x_text) = member("x", members.x, Some(octets))?;
                let (y, y_text) = member("y", members.y, Some(octets))?;
                let canonical = format!(r#"{{"crv":"{crv}","kty":"EC","x":"{x_text}","y":"{y_text}"}}"#);
                (if octets == 32 { KeyMaterial::P256 { x, y } } else { KeyMaterial::P384 { x, y } }, canonical)
            }
            ("OKP", "Ed25519") => {
                let (x, x_text) = member("x", members.x, Some(32))?;
                (KeyMaterial::Ed25519 { x }, format!(r#"{{"crv":"Ed25519","kty":"OKP","x":"{x_text}"}}"#))
            }
            ("RSA", _) => {
                let (n, n_text) = member("n", members.n, None)?;
                let (e, e_text) = member("e", members.e, None)?;
                // RFC 7518 §6.3.1.1: without leading zero octets; else one key would have many thumbprints.
                if n.first() == Some(&0) {
                    return Err(JwkError::BadMember { member: "n" });
                }
                let bits = n.len() * 8 - n.first().map_or(0, |first| first.leading_zeros() as usize);
                if !(RSA_MIN_BITS..=RSA_MAX_BITS).contains(&bits) {
                    return Err(JwkError::RsaModulus { bits });
                }
                if e != [1, 0, 1] {
                    return Err(JwkError::RsaExponent);
                }
                (KeyMaterial::Rsa { n, e }, format!(r#"{{"e":"{e_text}","kty":"RSA","n":"{n_text}"}}"#))
            }
            _ => return Err(JwkError::UnsupportedKey { kty: members.kty, crv: members.crv }),
        };
        Ok(Self { material, canonical: canonical.into_boxed_str() })
    }

    /// The required members in lexicographic order without white space (RFC 7638 §3): what is stored and hashed.
    pub fn canonical(&self) -> &str {
        &self.canonical
    }

    /// The thumbprint (RFC 7638) with SHA-256.
    pub fn thumbprint(&self) -> Thumbprint {
        Thumbprint::of_canonical_jwk(&self.canonical)
    }

    #[cfg(feature = "verify")]
    pub(crate) const fn material(&self) -> &KeyMaterial {
        &self.material
    }
}

impl fmt::Debug for Jwk {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Jwk({})", self.thumbprint())
    }
}

fn member(name: &'static str, text: Option<String>, octets: Option<usize>) -> Result<(Vec<u8>, String), JwkError> {
    let text = text.ok_or(JwkError::MissingMember { member: name })?;
    match Base64UrlUnpadded::decode_vec(&text) {
        Ok(value) if !value.is_empty() && octets.is_none_or(|octets| octets == value.len()) => Ok((value, text)),
        _ => Err(JwkError::BadMember { member: name }),
    }
}
