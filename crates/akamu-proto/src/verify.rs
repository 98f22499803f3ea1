//! JWS signature checks, by aws-lc-rs.

use std::fmt;

use aws_lc_rs::rsa::PublicKeyComponents;
use aws_lc_rs::signature::{
    ECDSA_P256_SHA256_FIXED, ECDSA_P384_SHA384_FIXED, ED25519, ParsedPublicKey, RSA_PKCS1_2048_8192_SHA256,
    VerificationAlgorithm,
};

use crate::jwk::{Jwk, JwkError, KeyMaterial};
use crate::jws::{Algorithm, Jws, JwsError};

/// An account key that is ready to check signatures: its point or modulus has been found valid.
///
/// Making one costs about as much as a tenth of a check, so keep it, by the JWK's octets.
pub struct VerifyingKey {
    algorithm: Algorithm,
    key: ParsedPublicKey,
}

impl VerifyingKey {
    /// The key of `jwk`.
    ///
    /// # Errors
    /// [`JwkError::NoSuchKey`] where the numbers are no public key: a point off its curve, an even modulus.
    pub fn new(jwk: &Jwk) -> Result<Self, JwkError> {
        let parse = |verification: &'static dyn VerificationAlgorithm, octets: &[u8]| {
            ParsedPublicKey::new(verification, octets)
        };
        let (algorithm, key) = match jwk.material() {
            KeyMaterial::P256 { x, y } => {
                (Algorithm::Es256, parse(&ECDSA_P256_SHA256_FIXED, &[&[4], &**x, y].concat()))
            }
            KeyMaterial::P384 { x, y } => {
                (Algorithm::Es384, parse(&ECDSA_P384_SHA384_FIXED, &[&[4], &**x, y].concat()))
            }
            KeyMaterial::Ed25519 { x } => (Algorithm::EdDsa, parse(&ED25519, x)),
            KeyMaterial::Rsa { n, e } => {
                (Algorithm::Rs256, PublicKeyComponents { n, e }.to_parsed_public_key(&RSA_PKCS1_2048_8192_SHA256))
            }
        };
        let key = key.map_err(|_| JwkError::NoSuchKey)?;
        Ok(Self { algorithm, key })
    }

    /// The one algorithm that this key is used with.
    pub const fn algorithm(&self) -> Algorithm {
        self.algorithm
    }
}

impl fmt::Debug for VerifyingKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "VerifyingKey({})", self.algorithm.as_str())
    }
}

impl Jws {
    /// Checks the signature with `key`.
    ///
    /// # Errors
    /// [`JwsError::KeyMismatch`] where `alg` is not the key's, [`JwsError::BadSignature`] where the signature is wrong.
    pub fn verify(&self, key: &VerifyingKey) -> Result<(), JwsError> {
        let algorithm = self.header().algorithm;
        if algorithm != key.algorithm {
            return Err(JwsError::KeyMismatch { algorithm });
        }
        key.key.verify_sig(self.signing_input(), self.signature()).map_err(|_| JwsError::BadSignature)
    }
}
