//! The hashed accounturi (draft-ietf-acme-dns-persist-02): it names an account without showing its URL in the DNS.

use akamu_proto::{AccountUri, DnsName, Thumbprint};
use base64ct::{Base64UrlUnpadded, Encoding as _};
use sha2::{Digest as _, Sha256};

/// The only algorithm there is, with the slash that ends it in a URI.
const ALGORITHM: &str = "sha-256/";

/// Where a record with a hashed accounturi holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum BoundTo<'a> {
    /// At this base domain only.
    Domain(&'a DnsName),
    /// At every domain of the account (`*`).
    AnyDomain,
}

impl BoundTo<'_> {
    pub(super) fn as_str(&self) -> &str {
        match self {
            BoundTo::Domain(name) => name.as_str(),
            BoundTo::AnyDomain => "*",
        }
    }
}

/// The hash: base64url(SHA-256(the domain's length, one octet ‖ domain ‖ thumbprint ‖ account URL)), 43 characters.
pub fn hash_for(bound_to: BoundTo<'_>, thumbprint: &Thumbprint, account_uri: &AccountUri) -> String {
    hash_of(bound_to.as_str(), thumbprint, account_uri.as_str())
}

/// [`hash_for`] over texts, right or wrong. `domain` has at most 255 octets.
pub(super) fn hash_of(domain: &str, thumbprint: &Thumbprint, account_uri: &str) -> String {
    let length = u8::try_from(domain.len()).unwrap_or(u8::MAX);
    let digest = Sha256::new()
        .chain_update([length])
        .chain_update(domain)
        .chain_update(thumbprint.as_str())
        .chain_update(account_uri)
        .finalize();
    Base64UrlUnpadded::encode_string(&digest)
}

/// What the directory advertises as `accountHashPrefix`: the start of every hashed accounturi of a CA.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AccountHashPrefix(String);

impl AccountHashPrefix {
    /// `<base_url>/acme/account-hash/`; `base_url` has no slash at its end.
    pub fn under(base_url: &str) -> Self {
        Self(format!("{base_url}/acme/account-hash/"))
    }

    /// Another prefix, as an embedding CA has it; it ends with a slash.
    pub fn new(prefix: impl Into<String>) -> Self {
        Self(prefix.into())
    }

    /// The prefix.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// The accounturi to write into a TXT record.
    pub fn uri_for(&self, bound_to: BoundTo<'_>, thumbprint: &Thumbprint, account_uri: &AccountUri) -> String {
        format!("{}{ALGORITHM}{}", self.0, hash_for(bound_to, thumbprint, account_uri))
    }

    /// What follows this prefix in `account_uri`, where it begins so.
    pub(super) fn strip<'a>(&self, account_uri: &'a str) -> Option<HashedAccount<'a>> {
        let rest = account_uri.strip_prefix(self.0.as_str())?;
        Some(rest.strip_prefix(ALGORITHM).map_or(HashedAccount::OtherAlgorithm, HashedAccount::Hash))
    }
}

/// An accounturi under the prefix.
pub(super) enum HashedAccount<'a> {
    Hash(&'a str),
    OtherAlgorithm,
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The check values of draft-ietf-acme-dns-persist-02.
    #[test]
    fn hashes_are_those_of_the_draft() {
        let thumbprint = "NzbLsXh8uDCcd-6MNwXF4W_7noWXFZAfHkxZsRGC9Xs".parse().unwrap();
        let uri = AccountUri::new("https://ca.example/acct/123");
        let domain = DnsName::parse("example.com").unwrap();
        let hash = |bound_to| hash_for(bound_to, &thumbprint, &uri);
        assert_eq!(hash(BoundTo::Domain(&domain)), "5SQm7n6tPh2-PlLbCKGnViTXX5z19SCN4cPGQHSk-kw");
        assert_eq!(hash(BoundTo::AnyDomain), "NpDnSwUthQK8zCgFdefYxAdAVPnygMLbs9US6oO-5ug");
        assert_eq!(
            AccountHashPrefix::under("https://ca.example").uri_for(BoundTo::AnyDomain, &thumbprint, &uri),
            "https://ca.example/acme/account-hash/sha-256/NpDnSwUthQK8zCgFdefYxAdAVPnygMLbs9US6oO-5ug"
        );
    }
}
