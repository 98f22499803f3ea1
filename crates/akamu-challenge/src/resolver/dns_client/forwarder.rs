//! Which servers are asked about the names of a zone.

use std::fmt;
use std::net::SocketAddr;
use std::str::FromStr;
use std::sync::Arc;

use hickory_net::proto::rr::Name;

use super::Dnssec;
use super::exchange::Network;
use super::servers::Servers;

/// A zone by its name: that name and every one below it; `.` is all names.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Zone(pub(super) Name);

/// That is no name of a zone.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("this is no zone: write a domain name such as corp.example, in ASCII (xn--…), or \".\" for all names")]
pub struct ZoneError;

impl FromStr for Zone {
    type Err = ZoneError;

    /// Reads a name with or without a dot at its end: letters, digits, `-` and `_` in labels, in any case.
    fn from_str(text: &str) -> Result<Self, ZoneError> {
        if text == "." {
            return Ok(Self(Name::root()));
        }
        let labels = || text.strip_suffix('.').unwrap_or(text).split('.');
        let is_label =
            |it: &str| !it.is_empty() && it.bytes().all(|c| c.is_ascii_alphanumeric() || matches!(c, b'-' | b'_'));
        if !labels().all(is_label) {
            return Err(ZoneError);
        }
        Name::from_labels(labels().map(str::as_bytes)).map(|name| Self(name.to_lowercase())).map_err(|_| ZoneError)
    }
}

/// In lower case, without a dot at the end; the root is `.`.
impl fmt::Display for Zone {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let text = self.0.to_ascii();
        f.write_str(text.strip_suffix('.').filter(|it| !it.is_empty()).unwrap_or(&text))
    }
}

impl Zone {
    /// Whether this is the root, which holds all names.
    pub fn is_root(&self) -> bool {
        self.0.is_root()
    }
}

/// The servers of a zone. Clones share what they know about servers that do not answer.
#[derive(Clone, Debug)]
pub struct Forwarder {
    pub(super) zone: Zone,
    pub(super) servers: Arc<Servers>,
}

impl Forwarder {
    /// Sends questions about `zone` to these servers, in this order.
    pub fn new(zone: Zone, servers: impl IntoIterator<Item = SocketAddr>, dnssec: Dnssec) -> Self {
        Self { zone, servers: Arc::new(Servers::new(servers, dnssec)) }
    }

    pub(super) fn over(self, network: Network) -> Self {
        Self { servers: Arc::new(self.servers.over(network)), ..self }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_zone_is_read_in_any_case_and_with_or_without_its_dot() {
        for (text, zone) in [
            ("corp.example", "corp.example"),
            ("Corp.EXAMPLE.", "corp.example"),
            ("_acme-challenge.corp.example", "_acme-challenge.corp.example"),
            ("10.in-addr.arpa", "10.in-addr.arpa"),
            (".", "."),
        ] {
            assert_eq!(text.parse::<Zone>().unwrap().to_string(), zone, "{text}");
        }
    }

    #[test]
    fn what_is_no_name_is_no_zone() {
        let long_label = "a".repeat(64);
        let long_name = "a.".repeat(200);
        for text in ["", "..", ".corp", "a..b", "*.corp", "corp example", "bücher.example", &long_label, &long_name] {
            assert_eq!(text.parse::<Zone>(), Err(ZoneError), "{text}");
        }
    }
}
