//! Authorization and challenge objects (RFC 8555 §7.1.4, §7.1.5, §8).

use serde::{Deserialize, Serialize};

use crate::{AccountUri, AuthorizationStatus, ChallengeStatus, ChallengeType, Identifier, Problem, Timestamp, Token};

/// An authorization object (§7.1.4).
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct AuthorizationObject {
    /// What it is about; a wildcard's name without its `*.`.
    pub identifier: Identifier,
    /// Its state. There is no word for a running validation: that is `pending`.
    pub status: AuthorizationStatus,
    /// When it ends.
    pub expires: Timestamp,
    /// The ways to prove control; once one has passed, that one alone.
    pub challenges: Vec<ChallengeObject>,
    /// Whether it is for a wildcard: `true`, or left out.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub wildcard: bool,
}

/// A challenge object (§8). Flat, in the order that the shell clients' patterns expect: type, url, status, token first
/// and `error` last.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct ChallengeObject {
    /// The challenge type.
    #[serde(rename = "type")]
    pub challenge_type: ChallengeType,
    /// Where the client answers.
    pub url: String,
    /// Its state.
    pub status: ChallengeStatus,
    /// The token, where the type has one.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub token: Option<Token>,
    /// The members of dns-persist-01 only.
    #[serde(flatten)]
    pub persist: Option<PersistMembers>,
    /// When the validation succeeded.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub validated: Option<Timestamp>,
    /// Why it failed.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub error: Option<Problem>,
}

/// What a dns-persist-01 challenge carries in a token's place: both drafts' spellings, because clients read either.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct PersistMembers {
    /// draft-ietf-acme-dns-persist-00 and -01.
    #[serde(rename = "issuer-domain-names")]
    pub issuer_domain_names_dashed: Vec<String>,
    /// draft-ietf-acme-dns-persist-02.
    #[serde(rename = "issuerDomainNames")]
    pub issuer_domain_names: Vec<String>,
    /// The account that the record must name (-01).
    pub accounturi: AccountUri,
}

impl PersistMembers {
    /// The members for these issuer domains and this account.
    pub fn new(issuer_domain_names: Vec<String>, accounturi: AccountUri) -> Self {
        Self { issuer_domain_names_dashed: issuer_domain_names.clone(), issuer_domain_names, accounturi }
    }
}

/// The payload of an authorization update (§7.5.2).
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
pub struct AuthorizationUpdateRequest {
    /// `deactivated`.
    pub status: Option<String>,
}
