//! The flattened JWS that every ACME POST is (RFC 8555 §6.2, RFC 7515 §7.2.2).
//!
//! [`Jws::parse`] applies the rules that need neither key nor database. The caller then compares `url`, finds the key
//! that `kid` names, checks the signature and redeems the nonce, in this order.

use std::fmt;

use base64ct::{Base64UrlUnpadded, Encoding as _};
use serde::Deserialize;
use serde_json::value::RawValue;

use crate::jwk::{Jwk, JwkError};
use crate::{ErrorType, Problem};

/// A signature algorithm (RFC 7518 §3.1, RFC 8037 §3.1) that an account key may use.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Algorithm {
    /// ECDSA with P-256 and SHA-256.
    Es256,
    /// ECDSA with P-384 and SHA-384.
    Es384,
    /// RSASSA-PKCS1-v1_5 with SHA-256.
    Rs256,
    /// Ed25519.
    EdDsa,
}

impl Algorithm {
    /// Every algorithm, as a badSignatureAlgorithm problem lists them (RFC 8555 §6.2).
    pub const ALL: &[Self] = &[Self::Es256, Self::Es384, Self::Rs256, Self::EdDsa];

    /// The value of `alg`.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Es256 => "ES256",
            Self::Es384 => "ES384",
            Self::Rs256 => "RS256",
            Self::EdDsa => "EdDSA",
        }
    }

    fn from_name(name: &str) -> Option<Self> {
        Self::ALL.iter().copied().find(|it| it.as_str() == name)
    }
}

/// Who signed: a key in the header, or an account.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum KeyReference {
    /// The key itself (newAccount, revokeCert by certificate key).
    Jwk(Box<Jwk>),
    /// The account's URL (all others).
    Kid(String),
}

/// The protected header of an ACME request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ProtectedHeader {
    /// `alg`.
    pub algorithm: Algorithm,
    /// `nonce`, not checked. An inner JWS (RFC 8555 §7.3.5) has none.
    pub nonce: Option<String>,
    /// `url`, not checked.
    pub url: String,
    /// `jwk` or `kid`, exactly one.
    pub key: KeyReference,
}

/// A JWS whose shape is right and whose signature has not been checked.
#[derive(Clone)]
pub struct Jws {
    header: ProtectedHeader,
    payload: Vec<u8>,
    #[cfg_attr(not(feature = "verify"), expect(dead_code, reason = "only the signature check reads it"))]
    signing_input: String,
    #[cfg_attr(not(feature = "verify"), expect(dead_code, reason = "only the signature check reads it"))]
    signature: Vec<u8>,
}

/// Which rule a request breaks.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum JwsError {
    /// The body is not a JSON object with the members of a flattened JWS.
    #[error("the request body is not a flattened JWS: {reason}")]
    NotFlattened {
        /// What the parser met.
        reason: String,
    },
    /// `signatures` (RFC 8555 §6.2: flattened serialization only).
    #[error("the general JWS serialization (\"signatures\") is not accepted; use the flattened one")]
    GeneralSerialization,
    /// `header` (RFC 8555 §6.2).
    #[error("the JWS must not have an unprotected \"header\"")]
    UnprotectedHeader,
    /// A member that is not base64url without padding (RFC 8555 §6.1).
    #[error("the JWS's {member:?} is not base64url without padding")]
    NotBase64Url {
        /// Its name.
        member: &'static str,
    },
    /// The protected header is not a JSON object with the right members.
    #[error("the protected header is malformed: {reason}")]
    BadHeader {
        /// What the parser met.
        reason: String,
    },
    /// `alg` is absent.
    #[error("the protected header has no \"alg\"")]
    NoAlgorithm,
    /// `alg` is not one of ours.
    #[error("the algorithm {name:?} is not accepted; use ES256, ES384, RS256 or EdDSA")]
    BadAlgorithm {
        /// Its name.
        name: String,
    },
    /// `crit` names an extension; we understand none (RFC 7515 §4.1.11).
    #[error("\"crit\" names extensions; none is understood here")]
    Critical,
    /// `b64` (RFC 8555 §6.2, RFC 7797).
    #[error("\"b64\" must not be used")]
    UnencodedPayload,
    /// `url` is absent (RFC 8555 §6.4).
    #[error("the protected header has no \"url\"")]
    NoUrl,
    /// Both `jwk` and `kid`.
    #[error("the protected header has both \"jwk\" and \"kid\"; exactly one is allowed")]
    BothKeys,
    /// Neither `jwk` nor `kid`.
    #[error("the protected header has neither \"jwk\" nor \"kid\"")]
    NoKey,
    /// The key in `jwk` is not taken.
    #[error(transparent)]
    Key(#[from] JwkError),
    /// The key is of another kind than `alg` says.
    #[error("the key does not fit the algorithm {}", algorithm.as_str())]
    KeyMismatch {
        /// The value of `alg`.
        algorithm: Algorithm,
    },
    /// The signature is wrong.
    #[error("the JWS signature is wrong")]
    BadSignature,
}

impl JwsError {
    /// The ACME error type (RFC 8555 §6.7).
    pub const fn error_type(&self) -> ErrorType {
        match self {
            Self::BadAlgorithm { .. } => ErrorType::BadSignatureAlgorithm,
            Self::Key(JwkError::Malformed { .. }) => ErrorType::Malformed,
            Self::Key(_) | Self::KeyMismatch { .. } => ErrorType::BadPublicKey,
            _ => ErrorType::Malformed,
        }
    }

    /// The problem document; one for a wrong algorithm lists the right ones (RFC 8555 §6.2).
    pub fn problem(&self) -> Problem {
        let problem = Problem::new(self.error_type(), self.to_string());
        match self {
            Self::BadAlgorithm { .. } => problem.with_algorithms(Algorithm::ALL),
            _ => problem,
        }
    }
}

#[derive(Deserialize)]
#[serde(expecting = "a JSON object with \"protected\", \"payload\" and \"signature\"")]
struct Flattened<'a> {
    protected: Option<String>,
    payload: Option<String>,
    signature: Option<String>,
    #[serde(borrow)]
    header: Option<&'a RawValue>,
    #[serde(borrow)]
    signatures: Option<&'a RawValue>,
}

#[derive(Deserialize)]
#[serde(expecting = "a JSON object")]
struct Header<'a> {
    alg: Option<String>,
    nonce: Option<String>,
    url: Option<String>,
    kid: Option<String>,
    #[serde(borrow)]
    jwk: Option<&'a RawValue>,
    #[serde(borrow)]
    crit: Option<&'a RawValue>,
    #[serde(borrow)]
    b64: Option<&'a RawValue>,
}

fn decode(member: &'static str, text: &str) -> Result<Vec<u8>, JwsError> {
    Base64UrlUnpadded::decode_vec(text).map_err(|_| JwsError::NotBase64Url { member })
}

/// A JSON array where an object is due would deserialise into a struct by position.
fn is_object(json: &[u8]) -> bool {
    json.trim_ascii_start().first() == Some(&b'{')
}

impl Jws {
    /// Reads a request body.
    ///
    /// # Errors
    /// The first rule that it breaks.
    pub fn parse(body: &[u8]) -> Result<Self, JwsError> {
        let not_flattened = |reason: String| JwsError::NotFlattened { reason };
        if !is_object(body) {
            return Err(not_flattened("a JSON object is expected".to_owned()));
        }
        let jws: Flattened<'_> = serde_json::from_slice(body).map_err(|error| not_flattened(error.to_string()))?;
        if jws.signatures.is_some() {
            return Err(JwsError::GeneralSerialization);
        }
        if jws.header.is_some() {
            return Err(JwsError::UnprotectedHeader);
        }
        let member =
            |name: &str, text: Option<String>| text.ok_or_else(|| not_flattened(format!("{name:?} is missing")));
        let protected = member("protected", jws.protected)?;
        let payload = member("payload", jws.payload)?;
        let signature = decode("signature", &member("signature", jws.signature)?)?;
        let header = parse_header(&decode("protected", &protected)?)?;
        let payload_octets = decode("payload", &payload)?;
        Ok(Self { header, payload: payload_octets, signing_input: format!("{protected}.{payload}"), signature })
    }

    /// The protected header.
    pub const fn header(&self) -> &ProtectedHeader {
        &self.header
    }

    /// The payload; empty for POST-as-GET (RFC 8555 §6.3). Only to be believed once the signature has been checked.
    pub fn payload(&self) -> &[u8] {
        &self.payload
    }

    #[cfg(feature = "verify")]
    pub(crate) fn signing_input(&self) -> &[u8] {
        self.signing_input.as_bytes()
    }

    #[cfg(feature = "verify")]
    pub(crate) fn signature(&self) -> &[u8] {
        &self.signature
    }
}

fn parse_header(json: &[u8]) -> Result<ProtectedHeader, JwsError> {
    let bad_header = |reason: String| JwsError::BadHeader { reason };
    if !is_object(json) {
        return Err(bad_header("a JSON object is expected".to_owned()));
    }
    let header: Header<'_> = serde_json::from_slice(json).map_err(|error| bad_header(error.to_string()))?;
    let name = header.alg.ok_or(JwsError::NoAlgorithm)?;
    let algorithm = Algorithm::from_name(&name).ok_or(JwsError::BadAlgorithm { name })?;
    if header.crit.is_some() {
        return Err(JwsError::Critical);
    }
    if header.b64.is_some() {
        return Err(JwsError::UnencodedPayload);
    }
    let url = header.url.ok_or(JwsError::NoUrl)?;
    let key = match (header.jwk, header.kid) {
        (Some(jwk), None) => {
            if !is_object(jwk.get().as_bytes()) {
                return Err(JwkError::Malformed { reason: "a JSON object is expected".to_owned() }.into());
            }
            KeyReference::Jwk(Box::new(Jwk::parse(jwk.get())?))
        }
        (None, Some(kid)) => KeyReference::Kid(kid),
        (Some(_), Some(_)) => return Err(JwsError::BothKeys),
        (None, None) => return Err(JwsError::NoKey),
    };
    Ok(ProtectedHeader { algorithm, nonce: header.nonce, url, key })
}

impl fmt::Debug for Jws {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Jws").field("header", &self.header).finish_non_exhaustive()
    }
}
