//! Where a redirect leads (RFC 9110 §15.4, §10.2.2), and where it may not.

use std::sync::Arc;

use akamu_proto::{DnsName, Identifier, IdentifierError};
use http::uri::{InvalidUri, PathAndQuery};
use http::{HeaderValue, StatusCode};
use rustls::crypto::CryptoProvider;
use url::{Host, ParseError, Url};

use super::exchange::Target;
use crate::Excerpt;

/// The longest URL that is followed, in octets.
const MAX_URL: usize = 2_000;

/// Which redirects are followed.
#[derive(Clone, Debug)]
pub(super) struct Redirects {
    /// How many.
    pub(super) max: usize,
    /// To which ports.
    pub(super) ports: Vec<u16>,
    /// For https. No certificate proves anything before there is one; the handshake's signature is verified all the same.
    pub(super) provider: Arc<CryptoProvider>,
}

/// Why a redirect is not followed.
#[derive(Debug, thiserror::Error)]
pub(super) enum RedirectError {
    #[error("is longer than {MAX_URL} octets")]
    TooLong,
    #[error("is no URL: {0}")]
    NotAUrl(#[from] ParseError),
    #[error("is no URL in UTF-8")]
    NotUtf8,
    #[error("is neither http nor https")]
    OtherScheme,
    #[error("names a user or a password")]
    UserInfo,
    #[error("names no host")]
    NoHost,
    #[error("names a host that is no DNS name: {0}")]
    BadHost(IdentifierError),
    #[error("leads to port {0}; only {1:?} are followed")]
    OtherPort(u16, Vec<u16>),
    #[error("has a path that cannot be asked for: {0}")]
    BadPath(InvalidUri),
}

/// Whether a status is a redirect that is followed. 303 leads to a description of the resource, not to the resource
/// (RFC 9110 §15.4.4), 300 leaves a choice, 304 answers another question.
pub(super) fn is_redirect(status: StatusCode) -> bool {
    matches!(status.as_u16(), 301 | 302 | 307 | 308)
}

impl Redirects {
    /// The target to which `location` leads from `target`. A fragment is dropped: it is not for the server.
    pub(super) fn resolve(&self, target: &Target, location: &HeaderValue) -> Result<Target, RedirectError> {
        let location = str::from_utf8(location.as_bytes()).map_err(|_| RedirectError::NotUtf8)?;
        if location.len() > MAX_URL {
            return Err(RedirectError::TooLong);
        }
        let url = Url::parse(&target.url())?.join(location)?;
        let tls = match url.scheme() {
            "http" => None,
            "https" => Some(Arc::clone(&self.provider)),
            _ => return Err(RedirectError::OtherScheme),
        };
        if !url.username().is_empty() || url.password().is_some() {
            return Err(RedirectError::UserInfo);
        }
        let identifier = match url.host().ok_or(RedirectError::NoHost)? {
            Host::Domain(name) => {
                let name = name.strip_suffix('.').unwrap_or(name);
                Identifier::Dns(DnsName::parse(name).map_err(RedirectError::BadHost)?)
            }
            Host::Ipv4(address) => Identifier::Ip(address.into()),
            Host::Ipv6(address) => Identifier::Ip(address.into()),
        };
        let port = url.port_or_known_default().ok_or(RedirectError::OtherScheme)?;
        if !self.ports.contains(&port) {
            return Err(RedirectError::OtherPort(port, self.ports.clone()));
        }
        let path = url.query().map_or_else(|| url.path().to_owned(), |query| format!("{}?{query}", url.path()));
        let path = path.parse::<PathAndQuery>().map_err(RedirectError::BadPath)?;
        Ok(Target { identifier, port, path, tls, names_port: true })
    }
}

/// A Location as it is shown.
pub(super) fn show(location: &HeaderValue) -> Excerpt {
    Excerpt::new(location.as_bytes())
}
