//! The name servers in `/etc/resolv.conf` (resolv.conf(5)). Nothing else there concerns a client that asks absolute names
//! at its own pace, so nothing else there is read, or can be wrong.

use std::net::{IpAddr, Ipv6Addr, SocketAddr, SocketAddrV6};

use crate::Excerpt;

/// Where servers listen, as the file cannot say otherwise.
const PORT: u16 = 53;

/// What the file says.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct NameServers {
    /// In order.
    pub(super) servers: Vec<SocketAddr>,
    /// Entries that are no address, or are one on an interface that is not there.
    pub(super) unusable: Vec<Excerpt>,
}

impl NameServers {
    /// Reads the file's text; `interface` is the number of a network interface.
    pub(super) fn read(text: &str, interface: impl Fn(&str) -> Option<u32>) -> Self {
        let mut found = Self::default();
        for line in text.lines() {
            let mut words = line.split_ascii_whitespace();
            let (Some("nameserver"), Some(value)) = (words.next(), words.next()) else { continue };
            match socket_addr(value, &interface) {
                Some(server) => found.servers.push(server),
                None => found.unusable.push(Excerpt::new(value)),
            }
        }
        found
    }
}

/// An address; an IPv6 one may say on which interface it is, by name or by number (`fe80::1%eth0`, RFC 4007 §11).
fn socket_addr(value: &str, interface: impl Fn(&str) -> Option<u32>) -> Option<SocketAddr> {
    let Some((address, zone)) = value.split_once('%') else {
        return value.parse::<IpAddr>().ok().map(|it| SocketAddr::new(it, PORT));
    };
    let address: Ipv6Addr = address.parse().ok()?;
    let scope = zone.parse().ok().or_else(|| interface(zone))?;
    Some(SocketAddrV6::new(address, PORT, 0, scope).into())
}

/// The kernel's number of a network interface.
pub(super) fn interface_index(name: &str) -> Option<u32> {
    if name.is_empty() || name.starts_with('.') || name.contains('/') {
        return None;
    }
    std::fs::read_to_string(format!("/sys/class/net/{name}/ifindex")).ok()?.trim_ascii().parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(text: &str) -> NameServers {
        NameServers::read(text, |name| (name == "eth0").then_some(7))
    }

    fn servers(text: &str) -> Vec<String> {
        read(text).servers.iter().map(ToString::to_string).collect()
    }

    #[test]
    fn name_servers_come_in_order_and_the_rest_is_passed_over() {
        let text = "# nameserver 192.0.2.9\n;nameserver 192.0.2.8\nnameserver 192.0.2.1\r\nsearch a..b -- \u{fffd}\n\
                    options ndots:x edns0\n nameserver\t2001:db8::1 # ours\nnameservers 192.0.2.7\nnameserver\n";
        assert_eq!(servers(text), ["192.0.2.1:53", "[2001:db8::1]:53"]);
        assert_eq!(read(text).unusable, []);
        assert_eq!(read(""), NameServers::default());
    }

    #[test]
    fn a_link_local_server_keeps_its_interface() {
        assert_eq!(servers("nameserver fe80::1%eth0\nnameserver fe80::2%3"), ["[fe80::1%7]:53", "[fe80::2%3]:53"]);
    }

    #[test]
    fn what_cannot_be_asked_is_told_and_hides_nobody_else() {
        let text = "nameserver fe80::1%wlan9\nnameserver dns.example\nnameserver 192.0.2.1%eth0\nnameserver 192.0.2.2";
        assert_eq!(servers(text), ["192.0.2.2:53"]);
        assert_eq!(read(text).unusable, ["fe80::1%wlan9", "dns.example", "192.0.2.1%eth0"].map(Excerpt::new));
    }

    #[test]
    fn interfaces_are_known_by_name_and_no_path_is_followed() {
        for name in ["", ".", "..", "../net/lo", "no-such-interface"] {
            assert_eq!(interface_index(name), None, "{name}");
        }
    }
}
