//! Tokens, thumbprints and the key authorization that joins them (RFC 8555 §8.1).

use std::fmt;
use std::str::FromStr;

use base64ct::{Base64UrlUnpadded, Encoding as _};
use serde::Serialize;
use sha2::{Digest as _, Sha256};

/// The text has characters outside the base64url alphabet, or a wrong length.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("not a token or thumbprint: base64url without padding is expected")]
pub struct TokenError;

fn is_base64url(text: &str) -> bool {
    text.bytes().all(|c| c.is_ascii_alphanumeric() || matches!(c, b'-' | b'_'))
}

/// A challenge's token (RFC 8555 §8.1): base64url characters, at least 128 bits of entropy in those that we make.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize)]
#[serde(transparent)]
pub struct Token(String);

impl Token {
    /// A token from 32 random octets: 43 characters.
    pub fn from_random(octets: [u8; 32]) -> Self {
        Self(Base64UrlUnpadded::encode_string(&octets))
    }

    /// The token's text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl FromStr for Token {
    type Err = TokenError;

    fn from_str(text: &str) -> Result<Self, TokenError> {
        if (1..=128).contains(&text.len()) && is_base64url(text) { Ok(Self(text.to_owned())) } else { Err(TokenError) }
    }
}

impl fmt::Display for Token {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// A key's JWK thumbprint (RFC 7638): base64url(SHA-256 over the canonical JWK), 43 characters.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Thumbprint(String);

impl Thumbprint {
    /// The thumbprint of a key whose canonical JWK (RFC 7638 §3) is `canonical_jwk`.
    pub fn of_canonical_jwk(canonical_jwk: &str) -> Self {
        Self(Base64UrlUnpadded::encode_string(&Sha256::digest(canonical_jwk)))
    }

    /// The 43 characters.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

/// Takes any non-empty base64url text: test vectors and the spec use words in a thumbprint's place.
impl FromStr for Thumbprint {
    type Err = TokenError;

    fn from_str(text: &str) -> Result<Self, TokenError> {
        if (1..=128).contains(&text.len()) && is_base64url(text) { Ok(Self(text.to_owned())) } else { Err(TokenError) }
    }
}

impl fmt::Display for Thumbprint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// What a client must show: `token "." thumbprint` (RFC 8555 §8.1).
///
/// `Debug` does not show it: whoever knows it can answer http-01 for the account's holder.
#[derive(Clone, PartialEq, Eq)]
pub struct KeyAuthorization {
    text: String,
    token_len: usize,
}

impl KeyAuthorization {
    /// The key authorization of `token` for the key with `thumbprint`.
    pub fn new(token: &Token, thumbprint: &Thumbprint) -> Self {
        Self { text: format!("{token}.{thumbprint}"), token_len: token.as_str().len() }
    }

    /// The text that http-01 expects as the body (RFC 8555 §8.3).
    pub fn as_str(&self) -> &str {
        &self.text
    }

    /// The token's text.
    pub fn token(&self) -> &str {
        self.text.get(..self.token_len).unwrap_or_default()
    }

    /// The value that dns-01 expects: base64url(SHA-256(key authorization)) (RFC 8555 §8.4).
    pub fn dns_value(&self) -> String {
        Base64UrlUnpadded::encode_string(&self.digest())
    }

    /// The digest that tls-alpn-01 expects (RFC 8737 §3).
    pub fn digest(&self) -> [u8; 32] {
        Sha256::digest(&self.text).into()
    }
}

/// Reads a stored key authorization.
impl FromStr for KeyAuthorization {
    type Err = TokenError;

    fn from_str(text: &str) -> Result<Self, TokenError> {
        let (token, thumbprint) = text.split_once('.').ok_or(TokenError)?;
        Ok(Self::new(&token.parse()?, &thumbprint.parse()?))
    }
}

impl fmt::Debug for KeyAuthorization {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("KeyAuthorization(…)")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn dns_value_is_the_digest_of_the_whole_text() {
        // The inputs of the specification's example; the value by `printf %s mytoken.mythumbprint | openssl dgst -sha256`.
        let key_authorization: KeyAuthorization = "mytoken.mythumbprint".parse().unwrap();
        assert_eq!(key_authorization.dns_value(), "-kRIwHlSCOY8upN1sdtn2FkmeaWdvSFXsysMW__Ob1Y");
        assert_eq!(key_authorization.token(), "mytoken");
        assert_eq!(format!("{key_authorization:?}"), "KeyAuthorization(…)");
    }

    #[test]
    fn tokens_are_base64url() {
        for text in ["", "a b", "a=", "a/b", "a.b", "ä", "../x"] {
            assert_eq!(text.parse::<Token>(), Err(TokenError), "{text}");
        }
        assert_eq!(Token::from_random([0xff; 32]).as_str().len(), 43);
    }
}
