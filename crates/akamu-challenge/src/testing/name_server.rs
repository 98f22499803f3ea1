//! A name server in memory, for the DNS client itself: what it reads are messages, as a server or a forger sends them.

use std::fmt;
use std::net::{Ipv4Addr, SocketAddr, SocketAddrV4};
use std::sync::Arc;

use crate::DnsClient;

/// Where the server seems to be (RFC 5737).
const ADDRESS: SocketAddr = SocketAddr::V4(SocketAddrV4::new(Ipv4Addr::new(192, 0, 2, 53), 53));

/// Answers to a query, each a whole DNS message (RFC 1035 §4).
type Answers = dyn Fn(&[u8]) -> Vec<Vec<u8>> + Send + Sync;

/// A name server that is a function. Over UDP each of its messages is a datagram, and where none is an answer the time is
/// up at once; over TCP the first is the answer.
#[derive(Clone)]
pub struct TestNameServer(Arc<Answers>);

impl TestNameServer {
    /// A server that answers a query, its octets, with these messages.
    pub fn new(answers: impl Fn(&[u8]) -> Vec<Vec<u8>> + Send + Sync + 'static) -> Self {
        Self(Arc::new(answers))
    }

    /// A client of this server, without DNSSEC.
    pub fn client(&self) -> DnsClient {
        DnsClient::in_memory(self.clone(), ADDRESS)
    }

    /// What comes back.
    pub(crate) fn answers(&self, query: &[u8]) -> Vec<Vec<u8>> {
        (self.0)(query)
    }
}

impl fmt::Debug for TestNameServer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("TestNameServer").finish_non_exhaustive()
    }
}
