//! Account objects and requests (RFC 8555 §7.1.2, §7.3).

use serde::{Deserialize, Serialize};

use crate::{AccountStatus, ErrorType};

/// The payload of newAccount (§7.3).
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct NewAccountRequest {
    /// Contact URLs, as sent; see [`Contact::parse`].
    pub contact: Option<Vec<String>>,
    /// The terms of service are agreed to.
    pub terms_of_service_agreed: Option<bool>,
    /// Only look the account up (§7.3.1).
    pub only_return_existing: Option<bool>,
}

/// The payload of an account update (§7.3.2) or deactivation (§7.3.6); both may be absent.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
pub struct AccountUpdateRequest {
    /// The new contact URLs.
    pub contact: Option<Vec<String>>,
    /// `deactivated`, or the status that the account has.
    pub status: Option<String>,
}

/// The payload of the inner JWS of keyChange (§7.3.5).
#[derive(Clone, Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct KeyChangeRequest<'a> {
    /// The account's URL.
    pub account: String,
    /// The key that the account has now.
    #[serde(borrow)]
    pub old_key: &'a serde_json::value::RawValue,
}

/// An account object (§7.1.2). It has no `orders` URL until there is such a list.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct AccountObject {
    /// Its state.
    pub status: AccountStatus,
    /// Contact URLs.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub contact: Vec<String>,
    /// Whether the terms of service were agreed to; absent where nothing was said.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub terms_of_service_agreed: bool,
}

/// A contact URL that the server can use: `mailto:` with one address (§7.3).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Contact(String);

/// Why a contact URL is refused.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum ContactError {
    /// Another scheme than `mailto`.
    #[error("the contact {url:?} is not supported; use mailto:name@example.com")]
    UnsupportedScheme {
        /// The URL.
        url: String,
    },
    /// `mailto` with more than one address or with header fields (§7.3 forbids both), or with something else.
    #[error("the contact {url:?} must be \"mailto:\" and one address, without header fields")]
    NotOneAddress {
        /// The URL.
        url: String,
    },
    /// More contacts than are kept.
    #[error("there are {count} contacts; 10 are allowed")]
    TooMany {
        /// How many were sent.
        count: usize,
    },
}

impl ContactError {
    /// The ACME error type (§6.7).
    pub const fn error_type(&self) -> ErrorType {
        match self {
            Self::UnsupportedScheme { .. } => ErrorType::UnsupportedContact,
            Self::NotOneAddress { .. } | Self::TooMany { .. } => ErrorType::InvalidContact,
        }
    }
}

impl Contact {
    /// The most contacts that an account may have.
    pub const MAX: usize = 10;

    /// Reads a contact URL.
    ///
    /// # Errors
    /// The first rule that it breaks.
    pub fn parse(url: &str) -> Result<Self, ContactError> {
        let Some((scheme, address)) = url.split_once(':') else {
            return Err(ContactError::UnsupportedScheme { url: excerpt(url) });
        };
        if !scheme.eq_ignore_ascii_case("mailto") {
            return Err(ContactError::UnsupportedScheme { url: excerpt(url) });
        }
        let one_address = url.len() <= 320
            && address.bytes().all(|c| c.is_ascii_graphic() && !matches!(c, b',' | b'?' | b'<' | b'>' | b'"'))
            && address.split_once('@').is_some_and(|(local, host)| {
                !local.is_empty() && !host.is_empty() && !host.contains('@') && !host.starts_with('.')
            });
        if one_address { Ok(Self(url.to_owned())) } else { Err(ContactError::NotOneAddress { url: excerpt(url) }) }
    }

    /// Reads all of an account's contact URLs.
    ///
    /// # Errors
    /// The first rule that one of them breaks.
    pub fn parse_all(urls: &[String]) -> Result<Vec<Self>, ContactError> {
        if urls.len() > Self::MAX {
            return Err(ContactError::TooMany { count: urls.len() });
        }
        urls.iter().map(|url| Self::parse(url)).collect()
    }

    /// The URL.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

fn excerpt(url: &str) -> String {
    url.chars().take(100).collect()
}
