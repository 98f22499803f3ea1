//! The URL that names an account: the `kid` of a JWS, and `accounturi` in a persistent TXT record.

use std::fmt;

use serde::Serialize;

use crate::AccountId;

/// An account's URL, compared octet for octet (draft-ietf-acme-dns-persist): never normalised.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize)]
#[serde(transparent)]
pub struct AccountUri(String);

impl AccountUri {
    /// The URL of `account` under `base_url`, which has no trailing slash: `<base_url>/acme/account/<id>`.
    pub fn under(base_url: &str, account: AccountId) -> Self {
        Self(format!("{base_url}/acme/account/{account}"))
    }

    /// An account URL of another shape, as an embedding CA has it.
    pub fn new(uri: impl Into<String>) -> Self {
        Self(uri.into())
    }

    /// The URL.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for AccountUri {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}
