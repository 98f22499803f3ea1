//! The directory object (RFC 8555 §7.1.1).

use serde::Serialize;

/// The directory: the URL of each resource that works, and what a client should know.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Directory {
    /// §7.2.
    pub new_nonce: String,
    /// §7.3.
    pub new_account: String,
    /// §7.4.
    pub new_order: String,
    /// §7.6.
    pub revoke_cert: String,
    /// §7.3.5.
    pub key_change: String,
    /// What is good to know beforehand.
    pub meta: DirectoryMeta,
}

/// The directory's `meta`. What does not apply is left out, never `null`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct DirectoryMeta {
    /// The current terms of service.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub terms_of_service: Option<String>,
    /// A page about the CA.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub website: Option<String>,
    /// The names by which CAA records know the CA; acme.sh reads the issuer of dns-persist-01 here too.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub caa_identities: Vec<String>,
    /// The issuer domains of dns-persist-01 (draft-ietf-acme-dns-persist-02).
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub issuer_domain_names: Vec<String>,
    /// What a hashed `accounturi` begins with (draft-ietf-acme-dns-persist-02).
    #[serde(skip_serializing_if = "Option::is_none")]
    pub account_hash_prefix: Option<String>,
}
