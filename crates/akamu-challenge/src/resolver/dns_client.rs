//! The real DNS, by a client of our own over hickory's messages: it shows each question, response code and alias, which
//! a resolver that answers from a cache, a hosts file or a search list would hide.
//!
//! Here is who is asked, and which alias is followed; zones with servers of their own are in `dns_client/forwarder.rs`,
//! fail-over in `dns_client/servers.rs`, one question to one server in `dns_client/question.rs`, how its message travels
//! in `dns_client/exchange.rs`, and whether its answer is to be believed in `dns_client/dnssec.rs`. The system's servers
//! are read in `dns_client/resolv_conf.rs`.

use std::fs;
use std::future::Future;
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::pin::pin;
use std::sync::Arc;

use akamu_proto::DnsName;
use async_trait::async_trait;
use futures_util::future::{Either, select};
use hickory_net::proto::op::{Message, ResponseCode};
use hickory_net::proto::rr::{DNSClass, Name, RData, RecordType};

use super::{Lookup, LookupError, Resolver, TxtRecord};
use crate::source_addresses::SourceAddresses;
#[cfg(feature = "testing")]
use crate::testing::TestNameServer;
use crate::{Clock, Deadline, Event, Excerpt, SystemClock};

mod dnssec;
mod exchange;
mod forwarder;
mod question;
mod resolv_conf;
mod servers;
mod steps;

pub use dnssec::{Dnssec, TrustAnchorError, TrustAnchors};
pub use forwarder::{Forwarder, Zone, ZoneError};

use dnssec::validate;
use exchange::Network;
use resolv_conf::{NameServers, interface_index};
use servers::Servers;
use steps::Steps;

/// How many CNAME records are followed from one name.
const MAX_CNAMES: usize = 10;

/// Asks recursive name servers.
///
/// Each lookup is asked anew, of the first server, and of the next where one fails: each within (what is left of the
/// deadline) ÷ (servers left). A server that did not answer in time is asked after the others for 30 seconds. UDP comes
/// first, TCP after a truncated answer. Aliases (CNAME) are followed one question at a time, ten at most, each put to the
/// servers of *its* zone. Clones share what they know about servers that do not answer.
#[derive(Clone, Debug)]
pub struct DnsClient {
    default: Arc<Servers>,
    forwarders: Arc<[Forwarder]>,
    sources: SourceAddresses,
    trust_anchors: Arc<TrustAnchors>,
    clock: Arc<dyn Clock>,
}

/// Where the operating system names its DNS servers.
const RESOLV_CONF: &str = "/etc/resolv.conf";

/// The operating system names no DNS server.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum SystemServersError {
    /// The file that names them cannot be read.
    #[error("{RESOLV_CONF} cannot be read: {0}")]
    Unreadable(io::Error),
    /// It names no server.
    #[error("{RESOLV_CONF} names no DNS server")]
    NoServer,
    /// It names these, each no address, or one on an interface that is not there.
    #[error("{RESOLV_CONF} names no DNS server that can be asked, only {}", quoted(.0))]
    Unusable(Vec<Excerpt>),
}

fn quoted(entries: &[Excerpt]) -> String {
    entries.iter().map(|it| format!("\"{it}\"")).collect::<Vec<_>>().join(", ")
}

impl DnsClient {
    /// A client of these servers, in this order, without DNSSEC.
    pub fn new(servers: impl IntoIterator<Item = SocketAddr>) -> Self {
        Self {
            default: Arc::new(Servers::new(servers, Dnssec::Off)),
            forwarders: Arc::default(),
            sources: SourceAddresses::default(),
            trust_anchors: Arc::default(),
            clock: Arc::new(SystemClock),
        }
    }

    /// A client of a server in memory, for which this address stands.
    #[cfg(feature = "testing")]
    pub(crate) fn in_memory(server: TestNameServer, address: SocketAddr) -> Self {
        let servers = Servers::new([address], Dnssec::Off).over(Network::Memory(server));
        Self { default: Arc::new(servers), ..Self::new([]) }
    }

    /// A client of the servers that the operating system names at this moment (`nameserver` in /etc/resolv.conf). Entries
    /// that cannot be asked are passed over.
    ///
    /// # Errors
    /// The file cannot be read, or names no server that can be asked.
    pub fn system() -> Result<Self, SystemServersError> {
        let text = fs::read(RESOLV_CONF).map_err(SystemServersError::Unreadable)?;
        Self::of_resolv_conf(&String::from_utf8_lossy(&text))
    }

    fn of_resolv_conf(text: &str) -> Result<Self, SystemServersError> {
        let NameServers { servers, unusable } = NameServers::read(text, interface_index);
        match (servers.is_empty(), unusable.is_empty()) {
            (false, _) => Ok(Self::new(servers)),
            (true, true) => Err(SystemServersError::NoServer),
            (true, false) => Err(SystemServersError::Unusable(unusable)),
        }
    }

    /// Whether the answers of these servers are validated. Forwarders have settings of their own.
    #[must_use]
    pub fn with_dnssec(self, dnssec: Dnssec) -> Self {
        Self { default: Arc::new(self.default.with_dnssec(dnssec)), ..self }
    }

    /// Names in a forwarder's zone are asked of its servers; the longest zone that holds a name decides.
    #[must_use]
    pub fn with_forwarders(self, forwarders: impl IntoIterator<Item = Forwarder>) -> Self {
        let from_there =
            |it: Forwarder| if self.sources.is_any() { it } else { it.over(Network::Sockets(self.sources.clone())) };
        Self { forwarders: forwarders.into_iter().map(from_there).collect(), ..self }
    }

    /// Where chains of trust begin, other than at the root's keys of 2017 and 2024.
    #[must_use]
    pub fn with_trust_anchors(self, trust_anchors: TrustAnchors) -> Self {
        Self { trust_anchors: Arc::new(trust_anchors), ..self }
    }

    /// What time it is for signatures, other than by the system's clock.
    #[must_use]
    pub fn with_clock(self, clock: impl Clock + 'static) -> Self {
        Self { clock: Arc::new(clock), ..self }
    }

    /// Asks from these addresses of this machine: each server, a forwarder's too, from the first that is of its family.
    /// Without one it is [`LookupError::Unreachable`] ([`io::ErrorKind::AddrNotAvailable`]).
    #[must_use]
    pub fn with_sources(self, sources: impl IntoIterator<Item = IpAddr>) -> Self {
        let sources = SourceAddresses::new(sources);
        Self {
            default: Arc::new(self.default.over(Network::Sockets(sources.clone()))),
            forwarders: self.forwarders.iter().map(|it| it.clone().over(Network::Sockets(sources.clone()))).collect(),
            sources,
            ..self
        }
    }

    /// The servers of names outside all forwarders' zones, in the order in which they are asked.
    pub fn servers(&self) -> &[SocketAddr] {
        self.default.addresses()
    }
}

#[async_trait]
impl Resolver for DnsClient {
    async fn txt(&self, name: &str, deadline: Deadline) -> Lookup<TxtRecord> {
        let steps = Steps::default();
        let outcome = self.records(name, RecordType::TXT, deadline, &steps).await;
        Lookup { outcome: outcome.map(|data| data.iter().filter_map(txt_record).collect()), steps: steps.take() }
    }

    async fn addresses(&self, name: &DnsName, deadline: Deadline) -> Lookup<IpAddr> {
        let (v6_steps, v4_steps, notes) = (Steps::default(), Steps::default(), Steps::default());
        let v6 = self.records(name.as_str(), RecordType::AAAA, deadline, &v6_steps);
        let v4 = self.records(name.as_str(), RecordType::A, deadline, &v4_steps);
        let (v6, v4) = both(v6, v4, deadline).await;
        let outcome = match (v6, v4) {
            (Ok(v6), Ok(v4)) => Ok(v6.into_iter().chain(v4).collect()),
            (Ok(found), Err(error)) | (Err(error), Ok(found)) => {
                if !error.is_absence() {
                    let text = format!("one address family of {name} failed ({error}), the other did not");
                    notes.push(Event::Note { text });
                }
                Ok(found)
            }
            (Err(v6), Err(v4)) => Err(more_telling(v6, v4)),
        };
        let steps = [v6_steps, v4_steps, notes].iter().flat_map(Steps::take).collect();
        Lookup { outcome: outcome.map(|data: Vec<_>| data.iter().filter_map(RData::ip_addr).collect()), steps }
    }
}

impl DnsClient {
    /// The records of `name`, and of what it is an alias of; at least one.
    async fn records(
        &self,
        name: &str,
        record_type: RecordType,
        deadline: Deadline,
        steps: &Steps,
    ) -> Result<Vec<RData>, LookupError> {
        // Labels make the name absolute and may hold underscores.
        let mut name = Name::from_labels(name.split('.').map(str::as_bytes)).map_err(|_| LookupError::BadName)?;
        let mut seen = vec![name.clone()];
        loop {
            let target = match self.answer(&name, record_type, deadline, steps).await? {
                Found::Records(records) => return Ok(records),
                Found::Alias(target) => target,
            };
            if seen.contains(&target) {
                return Err(LookupError::CnameLoop);
            }
            if seen.len() > MAX_CNAMES {
                return Err(LookupError::TooManyCnames);
            }
            seen.push(target.clone());
            name = target;
        }
    }

    /// What the servers of `name` say about it; with DNSSEC, what the zone's signatures vouch for.
    async fn answer(
        &self,
        name: &Name,
        record_type: RecordType,
        deadline: Deadline,
        steps: &Steps,
    ) -> Result<Found, LookupError> {
        let servers = self.servers_for(name);
        let is_validated = servers.dnssec == Dnssec::RequireIfSigned;
        let answer = servers.ask(name, record_type, is_validated, deadline, steps).await?;
        let found = read(&answer, name, record_type);
        let may_be_used = found.as_ref().map_or_else(LookupError::is_absence, |_| true);
        if is_validated && may_be_used {
            let has = match found {
                Ok(Found::Records(_)) => Some(record_type),
                Ok(Found::Alias(_)) => Some(RecordType::CNAME),
                Err(_) => None,
            };
            // Boxed: the chain of trust is a large future that most lookups do without.
            Box::pin(validate(self, &answer, name, record_type, has, deadline, steps)).await?;
        }
        found
    }

    /// Who is asked about `name`. The answer depends on the name alone, so that an alias may lead to other servers.
    fn servers_for(&self, name: &Name) -> &Servers {
        let holds = self.forwarders.iter().filter(|it| it.zone.0.zone_of(name));
        holds.max_by_key(|it| it.zone.0.iter().len()).map_or(&self.default, |it| &it.servers)
    }
}

/// Both outcomes. Once one family has addresses the other has a quarter of what is left: a server that ignores questions
/// for AAAA must not use up the time that dialling needs.
async fn both<F>(v6: F, v4: F, deadline: Deadline) -> (F::Output, F::Output)
where
    F: Future<Output = Result<Vec<RData>, LookupError>>,
{
    let wait = |found: &F::Output| if found.is_ok() { deadline.share(4) } else { deadline };
    match select(pin!(v6), pin!(v4)).await {
        Either::Left((v6, v4)) => {
            let v4 = wait(&v6).bound(v4).await.unwrap_or(Err(LookupError::Timeout));
            (v6, v4)
        }
        Either::Right((v4, v6)) => {
            let v6 = wait(&v4).bound(v6).await.unwrap_or(Err(LookupError::Timeout));
            (v6, v4)
        }
    }
}

enum Found {
    Records(Vec<RData>),
    Alias(Name),
}

/// What an answer says about `name` itself. What it says about other names, an alias's target among them, is not
/// believed but asked for.
fn read(answer: &Message, name: &Name, record_type: RecordType) -> Result<Found, LookupError> {
    let own = || answer.answers.iter().filter(|it| it.name == *name && it.dns_class == DNSClass::IN);
    let exists = answer.metadata.response_code == ResponseCode::NoError;
    let records: Vec<_> = own().map(|it| &it.data).filter(|it| it.record_type() == record_type).cloned().collect();
    if exists && !records.is_empty() {
        return Ok(Found::Records(records));
    }
    // The response code is about the chain's last name (RFC 6604 §2), so an alias counts under NXDOMAIN too.
    let alias = own().find_map(|it| if let RData::CNAME(target) = &it.data { Some(target.0.clone()) } else { None });
    if let Some(target) = alias {
        return Ok(Found::Alias(target));
    }
    if !exists {
        return Err(LookupError::NxDomain);
    }
    let names_others = answer.authorities.iter().any(|it| it.record_type() == RecordType::NS);
    if names_others && !answer.metadata.authoritative && !answer.metadata.recursion_available {
        return Err(LookupError::Referral);
    }
    Err(LookupError::NoData)
}

/// The one of two failures that says more: an error that a server sent before silence, anything before absence.
fn more_telling(a: LookupError, b: LookupError) -> LookupError {
    let rank = |error: &LookupError| match error {
        LookupError::NoData => 0,
        LookupError::NxDomain => 1,
        LookupError::Timeout => 2,
        LookupError::Unreachable(_) => 3,
        _ => 4,
    };
    if rank(&b) > rank(&a) { b } else { a }
}

fn txt_record(data: &RData) -> Option<TxtRecord> {
    match data {
        RData::TXT(txt) => Some(TxtRecord::new(txt.txt_data.iter().map(|it| it.to_vec()))),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_system_without_a_server_says_why() {
        let why = |text| DnsClient::of_resolv_conf(text).unwrap_err().to_string();
        assert_eq!(why("search example.com"), "/etc/resolv.conf names no DNS server");
        assert_eq!(
            why("nameserver dns.example\nnameserver fe80::1%no-such"),
            "/etc/resolv.conf names no DNS server that can be asked, only \"dns.example\", \"fe80::1%no-such\""
        );
        let client = DnsClient::of_resolv_conf("nameserver dns.example\nnameserver 192.0.2.1").unwrap();
        assert_eq!(client.servers(), ["192.0.2.1:53".parse().unwrap()]);
    }
}
