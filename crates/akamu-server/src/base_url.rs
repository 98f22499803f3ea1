//! The URL that clients use, and every URL below it (RFC 8555 §7.1).
//!
//! All URLs are made from the configured base, never from a request's Host.

use akamu_proto::{AccountId, AccountUri, AuthorizationId, CertificateId, ChallengeType, OrderId};
use serde::Deserialize;

/// The base of every URL: `https://host[:port][/path]`, without a trailing slash.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(try_from = "String")]
pub struct BaseUrl {
    text: String,
    host: String,
    path: String,
}

impl TryFrom<String> for BaseUrl {
    type Error = String;

    fn try_from(text: String) -> Result<Self, String> {
        let url = url::Url::parse(&text)
            .map_err(|error| format!("{text:?} is no URL ({error}); write https://acme.example.com"))?;
        if !matches!(url.scheme(), "https" | "http") {
            return Err(format!("{text:?} must begin with https://"));
        }
        let Some(host) = url.host_str() else { return Err(format!("{text:?} has no host")) };
        if host.starts_with('[') {
            return Err(format!("{text:?}: shell clients cannot read URLs with brackets; use a host name"));
        }
        if url.query().is_some() || url.fragment().is_some() || !url.username().is_empty() || url.password().is_some() {
            return Err(format!("{text:?} must be scheme, host, port and path only"));
        }
        if url.path().contains([',', '[', ']', '"', '%', ' ']) {
            return Err(format!("{text:?}: the path must be of letters, digits, '/', '-', '.' and '_'"));
        }
        let canonical = url.as_str().trim_end_matches('/').to_owned();
        if canonical != text {
            return Err(format!("write it as {canonical:?}"));
        }
        Ok(Self { host: host.to_owned(), path: url.path().trim_end_matches('/').to_owned(), text })
    }
}

impl BaseUrl {
    /// The URL.
    pub fn as_str(&self) -> &str {
        &self.text
    }

    /// Its host: a name or an IPv4 address.
    pub fn host(&self) -> &str {
        &self.host
    }

    /// Its path: empty, or with a leading and without a trailing slash.
    pub fn path(&self) -> &str {
        &self.path
    }

    /// The URL of a request's path.
    pub fn of_path(&self, path: &str) -> String {
        format!("{}{}", self.text, path.strip_prefix(self.path.as_str()).unwrap_or(path))
    }

    pub(crate) fn directory(&self) -> String {
        format!("{}/acme/directory", self.text)
    }

    pub(crate) fn resource(&self, name: &str) -> String {
        format!("{}/acme/{name}", self.text)
    }

    pub(crate) fn account(&self, id: AccountId) -> AccountUri {
        AccountUri::under(&self.text, id)
    }

    /// The account that a `kid` names, where it is one of ours.
    pub(crate) fn account_id(&self, kid: &str) -> Option<AccountId> {
        kid.strip_prefix(&self.text)?.strip_prefix("/acme/account/")?.parse().ok()
    }

    pub(crate) fn order(&self, id: OrderId) -> String {
        format!("{}/acme/order/{id}", self.text)
    }

    pub(crate) fn finalize(&self, id: OrderId) -> String {
        format!("{}/acme/order/{id}/finalize", self.text)
    }

    pub(crate) fn authorization(&self, id: AuthorizationId) -> String {
        format!("{}/acme/authz/{id}", self.text)
    }

    pub(crate) fn challenge(&self, id: AuthorizationId, challenge_type: &ChallengeType) -> String {
        format!("{}/acme/chall/{id}/{challenge_type}", self.text)
    }

    pub(crate) fn certificate(&self, id: CertificateId) -> String {
        format!("{}/acme/cert/{id}", self.text)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_base_url_is_written_in_one_way() {
        let read = |text: &str| BaseUrl::try_from(text.to_owned());
        for text in ["https://acme.example.com", "https://acme.example.com:8443/ca", "http://10.0.0.1:8080"] {
            assert_eq!(read(text).unwrap().as_str(), text);
        }
        assert_eq!(read("https://acme.example.com/").unwrap_err(), "write it as \"https://acme.example.com\"");
        assert_eq!(read("https://ACME.example.com").unwrap_err(), "write it as \"https://acme.example.com\"");
        for text in [
            "",
            "acme.example.com",
            "ftp://x",
            "https://[::1]:14000",
            "https://a/?q",
            "https://a/#f",
            "https://u@a",
            "https://:p@a",
            "https://a/b,c",
            "https://a/b%20c",
        ] {
            assert!(read(text).is_err(), "{text}");
        }
    }

    #[test]
    fn urls_keep_the_base_path() {
        let base = BaseUrl::try_from("https://a.example/ca".to_owned()).unwrap();
        assert_eq!(base.of_path("/ca/acme/new-order"), "https://a.example/ca/acme/new-order");
        let account = AccountId::from_i64(42).unwrap();
        assert_eq!(base.account_id(base.account(account).as_str()), Some(account));
        assert_eq!(base.account_id("https://b.example/ca/acme/account/42"), None);
        assert_eq!(base.account_id("https://a.example/ca/acme/account/042"), None);
    }
}
