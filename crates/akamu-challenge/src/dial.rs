//! From an identifier to a connection: look up, leave out what may not be dialled, dial the rest in turn.

use std::fmt::Write as _;
use std::io;
use std::net::{IpAddr, SocketAddr};

use akamu_proto::{DnsName, ErrorType, Identifier};
use tokio::time::Instant;

use crate::connection_permits::ConnectionPermit;
use crate::metered::{Metered, describe};
use crate::report::millis;
use crate::{ChallengeError, Deadline, Event, Excerpt, Probe, Stream, Transcript};

/// How many addresses of one name are dialled. A name may have thousands, and would make us scan them.
const MAX_ADDRESSES: usize = 16;

/// An open connection, and the right to have it.
pub(crate) struct Dialled {
    pub(crate) peer: SocketAddr,
    pub(crate) stream: Metered<'static>,
    _permit: ConnectionPermit,
}

impl Probe {
    /// Connects to `port` of the first address of `identifier` that takes the connection, IPv6 first.
    pub(crate) async fn dial(
        &self,
        identifier: &Identifier,
        port: u16,
        deadline: Deadline,
        transcript: &mut Transcript,
    ) -> Result<Dialled, ChallengeError> {
        let found = match identifier {
            Identifier::Dns(name) | Identifier::Wildcard(name) => self.look_up(name, deadline, transcript).await?,
            Identifier::Ip(address) => vec![*address],
        };
        let addresses = self.leave_out_refused(identifier, found, transcript)?;
        let mut failures = Vec::new();
        for (index, &address) in addresses.iter().enumerate() {
            let peer = SocketAddr::new(address, port);
            let share = deadline.share(addresses.len() - index);
            let start = Instant::now();
            let outcome = self.connect(peer, share).await;
            transcript.record(Event::Dialled {
                address: peer,
                outcome: outcome.as_ref().map_or_else(Clone::clone, |_| Excerpt::new("connected")),
                duration_ms: millis(start.elapsed()),
            });
            match outcome {
                Ok((permit, stream)) => return Ok(Dialled { peer, stream: Metered::new(stream), _permit: permit }),
                Err(cause) => failures.push((address, cause)),
            }
        }
        Err(ChallengeError::new(ErrorType::Connection, tell(identifier, port, &failures)))
    }

    async fn connect(
        &self,
        peer: SocketAddr,
        deadline: Deadline,
    ) -> Result<(ConnectionPermit, Box<dyn Stream>), Excerpt> {
        if deadline.has_passed() {
            return Err(Excerpt::new("not tried: no time was left"));
        }
        let permit = match deadline.bound(self.permits.acquire(peer.ip())).await {
            Ok(permit) if !deadline.has_passed() => permit,
            _ => {
                return Err(Excerpt::new(
                    "not tried: too many connections to this address were open until the time was over",
                ));
            }
        };
        match deadline.bound(self.connector.connect(peer)).await {
            Ok(Ok(stream)) => Ok((permit, stream)),
            Ok(Err(error)) => Err(describe(&error)),
            Err(_) => Err(describe(&io::ErrorKind::TimedOut.into())),
        }
    }

    async fn look_up(
        &self,
        name: &DnsName,
        deadline: Deadline,
        transcript: &mut Transcript,
    ) -> Result<Vec<IpAddr>, ChallengeError> {
        let lookup = self.resolver.addresses(name, deadline).await;
        lookup.steps.into_iter().for_each(|step| transcript.record(step));
        lookup.outcome.map_err(|error| {
            ChallengeError::new(ErrorType::Dns, format!("no address of {name} was found (A, AAAA): {error}"))
        })
    }

    /// What may be dialled of `found`: IPv6 first, each address once, at most [`MAX_ADDRESSES`] and of both families
    /// where there are both.
    fn leave_out_refused(
        &self,
        identifier: &Identifier,
        found: Vec<IpAddr>,
        transcript: &mut Transcript,
    ) -> Result<Vec<IpAddr>, ChallengeError> {
        let (mut v6, mut v4, mut refused) = (Vec::new(), Vec::new(), Vec::new());
        for address in found {
            if let Err(rule) = self.addresses.check(address) {
                // A name may have thousands of these, and would push what happens next out of the report.
                if refused.len() < MAX_ADDRESSES {
                    transcript.record(Event::AddressRefused { address, rule: rule.clone() });
                }
                refused.push((address, rule));
                continue;
            }
            let family = if address.is_ipv6() { &mut v6 } else { &mut v4 };
            if !family.contains(&address) {
                family.push(address);
            }
        }
        if refused.len() > MAX_ADDRESSES {
            let text = format!("{} more addresses may not be dialled", refused.len() - MAX_ADDRESSES);
            transcript.record(Event::Note { text });
        }
        if v6.is_empty() && v4.is_empty() {
            let detail = match refused.as_slice() {
                [] => format!("{identifier} has no address"),
                [(address, rule), rest @ ..] => {
                    let mut detail = format!("{address} may not be dialled: {rule}");
                    if !matches!(identifier, Identifier::Ip(_)) {
                        detail = format!("{identifier} leads nowhere that may be dialled: {address} is {rule}");
                    }
                    for (address, rule) in rest.iter().take(MAX_ADDRESSES) {
                        let _ = write!(detail, "; {address} is {rule}");
                    }
                    detail
                }
            };
            return Err(ChallengeError::new(ErrorType::Connection, detail));
        }
        if v6.len() + v4.len() > MAX_ADDRESSES {
            let text = format!("of {} addresses {MAX_ADDRESSES} are dialled at most", v6.len() + v4.len());
            transcript.record(Event::Note { text });
        }
        v6.truncate(MAX_ADDRESSES - v4.len().min(MAX_ADDRESSES / 2));
        v4.truncate(MAX_ADDRESSES - v6.len());
        v6.append(&mut v4);
        Ok(v6)
    }
}

/// What happened at each address, in one sentence.
fn tell(identifier: &Identifier, port: u16, failures: &[(IpAddr, Excerpt)]) -> String {
    let target = authority(identifier, port);
    match (identifier, failures) {
        (Identifier::Ip(_), [(_, cause)]) => format!("TCP connect to {target}: {cause}"),
        (_, [(address, cause)]) => format!("TCP connect to {target} ({address}): {cause}"),
        _ => {
            let each: Vec<_> = failures.iter().map(|(address, cause)| format!("{address}: {cause}")).collect();
            format!("TCP connect to {target} failed at each address: {}", each.join("; "))
        }
    }
}

/// The identifier with a port, an IPv6 address in brackets.
pub(crate) fn authority(identifier: &Identifier, port: u16) -> String {
    match identifier {
        Identifier::Ip(address) => SocketAddr::new(*address, port).to_string(),
        Identifier::Dns(name) | Identifier::Wildcard(name) => format!("{name}:{port}"),
    }
}
