//! How a validator asks the DNS: a trait that tells "no such name" from "nobody answered".
//!
//! The real DNS is in `resolver/dns_client.rs`; an in-memory one, `TestNames`, comes with the feature `testing`.

use std::fmt;
use std::io;
use std::net::IpAddr;
use std::sync::Arc;

use akamu_proto::DnsName;
use async_trait::async_trait;

use crate::{Deadline, Event};

#[cfg(feature = "net")]
mod dns_client;
mod localhost;

#[cfg(feature = "net")]
pub use dns_client::{
    DnsClient, Dnssec, Forwarder, SystemServersError, TrustAnchorError, TrustAnchors, Zone, ZoneError,
};
pub use localhost::LocalhostResolver;

/// Asks for records of absolute names, anew each time: no cache, no search list, no hosts file.
///
/// Returns at the deadline at the latest, with the steps that it took by then.
#[async_trait]
pub trait Resolver: Send + Sync + fmt::Debug {
    /// The TXT records of `name`: absolute, without a dot at its end; it may begin with underscore labels.
    async fn txt(&self, name: &str, deadline: Deadline) -> Lookup<TxtRecord>;

    /// The addresses of `name`: AAAA and A, asked for at once. Where one of the two fails and the other does not, there
    /// are addresses, and the steps tell of the failure.
    async fn addresses(&self, name: &DnsName, deadline: Deadline) -> Lookup<IpAddr>;
}

/// One resolver for several validators, or one that is chosen at run time.
#[async_trait]
impl<R: Resolver + ?Sized> Resolver for Arc<R> {
    async fn txt(&self, name: &str, deadline: Deadline) -> Lookup<TxtRecord> {
        (**self).txt(name, deadline).await
    }

    async fn addresses(&self, name: &DnsName, deadline: Deadline) -> Lookup<IpAddr> {
        (**self).addresses(name, deadline).await
    }
}

/// What came of a question.
#[derive(Clone, Debug)]
pub struct Lookup<T> {
    /// The records, at least one; or why there are none.
    pub outcome: Result<Vec<T>, LookupError>,
    /// Each question that was sent, as [`Event::Lookup`], and notes; for the report.
    pub steps: Vec<Event>,
}

/// A TXT record (RFC 1035 §3.3.14): one character-string or several.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TxtRecord {
    strings: Vec<Vec<u8>>,
}

impl TxtRecord {
    /// The record of these character-strings.
    pub fn new<S: Into<Vec<u8>>>(strings: impl IntoIterator<Item = S>) -> Self {
        Self { strings: strings.into_iter().map(Into::into).collect() }
    }

    /// The character-strings.
    pub fn strings(&self) -> &[Vec<u8>] {
        &self.strings
    }

    /// The octets of all character-strings, without anything between them.
    pub fn joined(&self) -> Vec<u8> {
        self.strings.concat()
    }
}

/// Why there are no records.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum LookupError {
    /// The name does not exist.
    #[error("NXDOMAIN")]
    NxDomain,
    /// The name exists and has no such record.
    #[error("no such record")]
    NoData,
    /// The server failed, for instance at DNSSEC.
    #[error("SERVFAIL")]
    ServFail,
    /// The server does not answer such questions.
    #[error("REFUSED")]
    Refused,
    /// The server answered with another error.
    #[error("response code {0}")]
    ResponseCode(u16),
    /// The server named others to ask, and does not ask them itself.
    #[error("a referral to other name servers; a server that resolves names by itself is needed")]
    Referral,
    /// No server answered in time.
    #[error("timed out")]
    Timeout,
    /// No server could be reached.
    #[error("the DNS server cannot be reached: {0}")]
    Unreachable(io::ErrorKind),
    /// The server answered something that is no DNS message.
    #[error("malformed answer")]
    Malformed,
    /// A CNAME chain leads back to a name in it.
    #[error("the CNAME chain is a loop")]
    CnameLoop,
    /// A CNAME chain of more than ten links.
    #[error("the CNAME chain has more than 10 links")]
    TooManyCnames,
    /// The question's name is longer than the DNS allows (RFC 1035 §2.3.4), or no name at all.
    #[error("the DNS has no room for this name")]
    BadName,
    /// The answer does not stand up to DNSSEC, or what is needed to judge it cannot be had (RFC 4035 §4.3).
    #[error("DNSSEC: {name}: {reason}")]
    Dnssec {
        /// Whose records it is about.
        name: String,
        /// What is wrong with them.
        reason: String,
    },
    /// There is nobody to ask.
    #[error("no DNS server is configured")]
    NoServer,
    /// Anything else, in words.
    #[error("{0}")]
    Other(String),
}

impl LookupError {
    /// Whether the DNS said that there is nothing, rather than failed to say.
    pub const fn is_absence(&self) -> bool {
        matches!(self, Self::NxDomain | Self::NoData)
    }
}
