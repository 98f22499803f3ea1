//! How a validator asks the DNS: a trait that tells "no such name" from "nobody answered".

use std::fmt;
use std::net::IpAddr;

use akamu_proto::DnsName;
use async_trait::async_trait;

use crate::{Deadline, Event};

/// Asks for records of absolute names, anew each time: no cache, no search list, no hosts file.
///
/// Returns at the deadline at the latest, with the steps that it took by then.
#[async_trait]
pub trait Resolver: Send + Sync + fmt::Debug {
    /// The TXT records of `name`, which may begin with underscore labels.
    async fn txt(&self, name: &str, deadline: Deadline) -> Lookup<TxtRecord>;

    /// The addresses of `name`, A and AAAA.
    async fn addresses(&self, name: &DnsName, deadline: Deadline) -> Lookup<IpAddr>;
}

/// What came of a question.
#[derive(Clone, Debug)]
pub struct Lookup<T> {
    /// The records, at least one; or why there are none.
    pub outcome: Result<Vec<T>, LookupError>,
    /// Each question that was sent, for the report.
    pub steps: Vec<Event>,
}

/// A TXT record: the octets of its character-strings, joined without anything between them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TxtRecord(pub Vec<u8>);

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
    /// No server answered in time.
    #[error("timed out")]
    Timeout,
    /// A CNAME chain is a loop, or too long.
    #[error("a CNAME chain that loops or is too long")]
    CnameLoop,
    /// Anything else, in words.
    #[error("{0}")]
    Other(String),
}
