//! How DNS servers stand in the configuration.

use std::net::{IpAddr, SocketAddr};
use std::str::FromStr;

use akamu_challenge::{Dnssec, Zone};
use serde::de::Error as _;
use serde::{Deserialize, Deserializer};

/// The port of the DNS, for an address without one.
const PORT: u16 = 53;

/// A DNS server: an IP address, and its port where that is not 53.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct DnsServer(pub SocketAddr);

impl FromStr for DnsServer {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let with_port = text.parse::<SocketAddr>().ok();
        let address = with_port.or_else(|| text.parse::<IpAddr>().ok().map(|it| SocketAddr::new(it, PORT)));
        address.filter(|it| it.port() != 0).map(Self).ok_or_else(|| {
            format!(
                "{text:?} is no DNS server's address; write 10.0.0.53, or with a port 10.0.0.53:5353, [fd00::53]:5353"
            )
        })
    }
}

impl<'de> Deserialize<'de> for DnsServer {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        String::deserialize(deserializer)?.parse().map_err(D::Error::custom)
    }
}

/// `[[server.dns_forwarders]]`
#[derive(Clone, Debug, Deserialize)]
#[expect(missing_docs, reason = "each key is explained once, in KEYS")]
pub struct DnsForwarder {
    #[serde(deserialize_with = "zone")]
    pub zone: Zone,
    pub addrs: Vec<DnsServer>,
    #[serde(default)]
    pub dnssec: Dnssec,
}

fn zone<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Zone, D::Error> {
    let text = String::deserialize(deserializer)?;
    text.parse().map_err(|error| D::Error::custom(format!("{text:?}: {error}")))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_server_without_a_port_has_port_53() {
        for (text, server) in [
            ("10.0.0.53", "10.0.0.53:53"),
            ("10.0.0.53:5353", "10.0.0.53:5353"),
            ("fd00::53", "[fd00::53]:53"),
            ("[fd00::53]:5353", "[fd00::53]:5353"),
        ] {
            assert_eq!(text.parse(), Ok(DnsServer(server.parse().unwrap())), "{text}");
        }
        for text in
            ["", "dns.example", "10.0.0.53:", "10.0.0.53:0", "10.0.0.53:65536", "[fd00::53]", "10.0.0.53,10.0.0.54"]
        {
            assert!(text.parse::<DnsServer>().is_err(), "{text}");
        }
    }
}
