//! Problem documents (RFC 7807) with the error types of RFC 8555 §6.7.

use serde::{Deserialize, Deserializer, Serialize, Serializer};

use crate::Identifier;

macro_rules! error_types {
    ($($(#[$doc:meta])* $variant:ident = $name:literal, $status:literal;)*) => {
        /// An ACME error type: `urn:ietf:params:acme:error:<name>`.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
        #[non_exhaustive]
        pub enum ErrorType {
            $($(#[$doc])* $variant,)*
        }

        impl ErrorType {
            /// Every type.
            pub const ALL: &[Self] = &[$(Self::$variant),*];

            /// The last part of the URN.
            pub const fn name(self) -> &'static str {
                match self { $(Self::$variant => $name),* }
            }

            /// The whole URN.
            pub const fn urn(self) -> &'static str {
                match self { $(Self::$variant => concat!("urn:ietf:params:acme:error:", $name)),* }
            }

            /// The HTTP status that usually goes with the type; a server may send another.
            pub const fn default_status(self) -> u16 {
                match self { $(Self::$variant => $status),* }
            }
        }
    };
}

error_types! {
    /// The request names an account that does not exist.
    AccountDoesNotExist = "accountDoesNotExist", 400;
    /// The certificate is revoked already.
    AlreadyRevoked = "alreadyRevoked", 400;
    /// The CSR is unacceptable.
    BadCsr = "badCSR", 400;
    /// The nonce is unknown, old, or used.
    BadNonce = "badNonce", 400;
    /// The JWS was signed by a public key that the server does not support.
    BadPublicKey = "badPublicKey", 400;
    /// The revocation reason is not allowed.
    BadRevocationReason = "badRevocationReason", 400;
    /// The JWS was signed with an algorithm that the server does not support.
    BadSignatureAlgorithm = "badSignatureAlgorithm", 400;
    /// CAA records forbid issuance.
    Caa = "caa", 403;
    /// Specific causes are in the subproblems.
    Compound = "compound", 400;
    /// The server could not connect to the validation target.
    Connection = "connection", 400;
    /// A DNS query failed.
    Dns = "dns", 400;
    /// The account must be bound to an external one.
    ExternalAccountRequired = "externalAccountRequired", 403;
    /// The response received did not match the challenge.
    IncorrectResponse = "incorrectResponse", 403;
    /// A contact URL is invalid.
    InvalidContact = "invalidContact", 400;
    /// The request is malformed.
    Malformed = "malformed", 400;
    /// The order is not ready to be finalized.
    OrderNotReady = "orderNotReady", 403;
    /// The client is too fast.
    RateLimited = "rateLimited", 429;
    /// The server will not issue for the identifier.
    RejectedIdentifier = "rejectedIdentifier", 400;
    /// The server failed.
    ServerInternal = "serverInternal", 500;
    /// TLS with the validation target failed.
    Tls = "tls", 400;
    /// The client lacks authorization.
    Unauthorized = "unauthorized", 401;
    /// A contact URL has an unsupported scheme.
    UnsupportedContact = "unsupportedContact", 400;
    /// The identifier's type is not supported.
    UnsupportedIdentifier = "unsupportedIdentifier", 400;
    /// The client must visit a URL first (terms of service).
    UserActionRequired = "userActionRequired", 403;
}

impl ErrorType {
    /// The type with this URN.
    pub fn from_urn(urn: &str) -> Option<Self> {
        Self::ALL.iter().copied().find(|it| it.urn() == urn)
    }
}

impl std::fmt::Display for ErrorType {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(self.name())
    }
}

impl Serialize for ErrorType {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(self.urn())
    }
}

impl<'de> Deserialize<'de> for ErrorType {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let urn = String::deserialize(deserializer)?;
        Self::from_urn(&urn).ok_or_else(|| serde::de::Error::custom("unknown ACME error type"))
    }
}

/// A problem document, in a response or as the `error` of a challenge or order.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Problem {
    /// What went wrong, for programs.
    #[serde(rename = "type")]
    pub error_type: ErrorType,
    /// What went wrong, for people.
    pub detail: String,
    /// The HTTP status code.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub status: Option<u16>,
    /// Per-identifier causes (RFC 8555 §6.7.1). Left out where empty, never `null`.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub subproblems: Vec<Subproblem>,
    /// With badSignatureAlgorithm: the algorithms that are accepted (RFC 8555 §6.2).
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub algorithms: Vec<String>,
}

/// A part of a problem that concerns one identifier (RFC 8555 §6.7.1).
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Subproblem {
    /// What went wrong, for programs.
    #[serde(rename = "type")]
    pub error_type: ErrorType,
    /// What went wrong, for people.
    pub detail: String,
    /// The identifier as the client wrote it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub identifier: Option<serde_json::Value>,
}

impl Problem {
    /// A problem with the type's usual status.
    pub fn new(error_type: ErrorType, detail: impl Into<String>) -> Self {
        Self {
            error_type,
            detail: detail.into(),
            status: Some(error_type.default_status()),
            subproblems: Vec::new(),
            algorithms: Vec::new(),
        }
    }

    /// The same problem with another HTTP status.
    #[must_use]
    pub fn with_status(mut self, status: u16) -> Self {
        self.status = Some(status);
        self
    }

    pub(crate) fn with_algorithms(mut self, algorithms: &[crate::Algorithm]) -> Self {
        self.algorithms = algorithms.iter().map(|it| it.as_str().to_owned()).collect();
        self
    }

    /// The same problem with these subproblems.
    #[must_use]
    pub fn with_subproblems(mut self, subproblems: Vec<Subproblem>) -> Self {
        self.subproblems = subproblems;
        self
    }
}

impl Subproblem {
    /// A subproblem about an identifier that the server understood.
    pub fn about(identifier: &Identifier, error_type: ErrorType, detail: impl Into<String>) -> Self {
        Self { error_type, detail: detail.into(), identifier: serde_json::to_value(identifier).ok() }
    }
}
