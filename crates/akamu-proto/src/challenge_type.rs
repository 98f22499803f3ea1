//! The name of a challenge type (RFC 8555 §9.7.8, "ACME Validation Methods").

use std::borrow::Cow;
use std::fmt;

use serde::{Deserialize, Serialize};

/// A challenge type's name. A CA with a validator of its own makes its own name with [`ChallengeType::new`].
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct ChallengeType(Cow<'static, str>);

impl ChallengeType {
    /// RFC 8555 §8.3.
    pub const HTTP_01: Self = Self(Cow::Borrowed("http-01"));
    /// RFC 8555 §8.4.
    pub const DNS_01: Self = Self(Cow::Borrowed("dns-01"));
    /// RFC 8737.
    pub const TLS_ALPN_01: Self = Self(Cow::Borrowed("tls-alpn-01"));
    /// draft-ietf-acme-dns-persist.
    pub const DNS_PERSIST_01: Self = Self(Cow::Borrowed("dns-persist-01"));

    /// The type with this name.
    pub fn new(name: impl Into<Cow<'static, str>>) -> Self {
        Self(name.into())
    }

    /// The name.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// Whether the client answers with a key authorization, so that the challenge carries a token.
    pub fn has_token(&self) -> bool {
        *self != Self::DNS_PERSIST_01
    }
}

impl fmt::Display for ChallengeType {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}
