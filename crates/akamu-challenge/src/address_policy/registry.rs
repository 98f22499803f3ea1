//! The IANA IPv4 and IPv6 Special-Purpose Address Registries (RFC 6890) as data, with the few addresses that they do
//! not list: multicast, cloud metadata services, and what is no unicast address at all.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use ipnet::IpNet;

/// How far an address reaches.
#[derive(Clone, Copy)]
pub(super) enum Reach {
    /// Everywhere.
    Global,
    /// Within somebody's own network: dialled unless only public addresses are.
    Private,
    /// As far as the IPv4 address inside it; the registry says neither yes nor no.
    Carrier,
    /// Nowhere that a validation has business with.
    Never,
}

/// What an address is.
pub(super) struct Kind {
    pub(super) reach: Reach,
    pub(super) name: &'static str,
}

const fn v4(octets: [u8; 4], prefix_len: u8) -> IpNet {
    let [a, b, c, d] = octets;
    IpNet::new_assert(IpAddr::V4(Ipv4Addr::new(a, b, c, d)), prefix_len)
}

const fn v6(segments: [u16; 8], prefix_len: u8) -> IpNet {
    let [a, b, c, d, e, f, g, h] = segments;
    IpNet::new_assert(IpAddr::V6(Ipv6Addr::new(a, b, c, d, e, f, g, h)), prefix_len)
}

/// The narrowest network that holds an address says what it is.
const NETWORKS: &[(IpNet, Reach, &str)] = &[
    (v4([0, 0, 0, 0], 0), Reach::Global, "public"),
    (v4([0, 0, 0, 0], 8), Reach::Never, "\"this network\" (0.0.0.0/8)"),
    (v4([10, 0, 0, 0], 8), Reach::Private, "private (RFC 1918)"),
    (v4([100, 64, 0, 0], 10), Reach::Private, "shared address space (RFC 6598)"),
    (v4([100, 100, 100, 200], 32), Reach::Never, "cloud metadata service"),
    (v4([127, 0, 0, 0], 8), Reach::Never, "loopback"),
    (v4([168, 63, 129, 16], 32), Reach::Never, "cloud metadata service"),
    (v4([169, 254, 0, 0], 16), Reach::Never, "link-local (cloud metadata services)"),
    (v4([172, 16, 0, 0], 12), Reach::Private, "private (RFC 1918)"),
    (v4([192, 0, 0, 0], 24), Reach::Never, "IETF protocol assignments (192.0.0.0/24)"),
    (v4([192, 0, 0, 9], 32), Reach::Global, "PCP anycast"),
    (v4([192, 0, 0, 10], 32), Reach::Global, "TURN anycast"),
    (v4([192, 0, 0, 192], 32), Reach::Never, "cloud metadata service"),
    (v4([192, 0, 2, 0], 24), Reach::Never, "documentation"),
    (v4([192, 88, 99, 0], 24), Reach::Never, "deprecated 6to4 relay anycast"),
    (v4([192, 168, 0, 0], 16), Reach::Private, "private (RFC 1918)"),
    (v4([198, 18, 0, 0], 15), Reach::Never, "benchmarking"),
    (v4([198, 51, 100, 0], 24), Reach::Never, "documentation"),
    (v4([203, 0, 113, 0], 24), Reach::Never, "documentation"),
    (v4([224, 0, 0, 0], 4), Reach::Never, "multicast"),
    (v4([240, 0, 0, 0], 4), Reach::Never, "reserved (240.0.0.0/4)"),
    (v4([255, 255, 255, 255], 32), Reach::Never, "broadcast"),
    (v6([0; 8], 0), Reach::Never, "not global unicast"),
    (v6([0; 8], 128), Reach::Never, "unspecified"),
    (v6([0, 0, 0, 0, 0, 0, 0, 1], 128), Reach::Never, "loopback"),
    (v6([0, 0, 0, 0, 0, 0xffff, 0, 0], 96), Reach::Never, "IPv4-mapped"),
    (v6([0x64, 0xff9b, 0, 0, 0, 0, 0, 0], 96), Reach::Global, "NAT64"),
    (v6([0x64, 0xff9b, 1, 0, 0, 0, 0, 0], 48), Reach::Never, "local NAT64 (64:ff9b:1::/48)"),
    (v6([0x100, 0, 0, 0, 0, 0, 0, 0], 64), Reach::Never, "discard-only"),
    (v6([0x100, 0, 0, 1, 0, 0, 0, 0], 64), Reach::Never, "dummy prefix"),
    (v6([0x2000, 0, 0, 0, 0, 0, 0, 0], 3), Reach::Global, "public"),
    (v6([0x2001, 0, 0, 0, 0, 0, 0, 0], 23), Reach::Never, "IETF protocol assignments (2001::/23)"),
    (v6([0x2001, 0, 0, 0, 0, 0, 0, 0], 32), Reach::Carrier, "Teredo"),
    (v6([0x2001, 1, 0, 0, 0, 0, 0, 1], 128), Reach::Global, "PCP anycast"),
    (v6([0x2001, 1, 0, 0, 0, 0, 0, 2], 128), Reach::Global, "TURN anycast"),
    (v6([0x2001, 1, 0, 0, 0, 0, 0, 3], 128), Reach::Global, "DNS-SD SRP anycast"),
    (v6([0x2001, 2, 0, 0, 0, 0, 0, 0], 48), Reach::Never, "benchmarking"),
    (v6([0x2001, 3, 0, 0, 0, 0, 0, 0], 32), Reach::Global, "AMT"),
    (v6([0x2001, 4, 0x112, 0, 0, 0, 0, 0], 48), Reach::Global, "AS112"),
    (v6([0x2001, 0x20, 0, 0, 0, 0, 0, 0], 28), Reach::Global, "ORCHIDv2"),
    (v6([0x2001, 0x30, 0, 0, 0, 0, 0, 0], 28), Reach::Global, "drone remote identification"),
    (v6([0x2001, 0xdb8, 0, 0, 0, 0, 0, 0], 32), Reach::Never, "documentation"),
    (v6([0x2002, 0, 0, 0, 0, 0, 0, 0], 16), Reach::Carrier, "6to4"),
    (v6([0x3fff, 0, 0, 0, 0, 0, 0, 0], 20), Reach::Never, "documentation"),
    (v6([0x5f00, 0, 0, 0, 0, 0, 0, 0], 16), Reach::Never, "segment routing identifiers"),
    (v6([0xfc00, 0, 0, 0, 0, 0, 0, 0], 7), Reach::Private, "unique local (RFC 4193)"),
    (v6([0xfd00, 0x42, 0, 0, 0, 0, 0, 0x42], 128), Reach::Never, "cloud metadata service"),
    (v6([0xfd00, 0xec2, 0, 0, 0, 0, 0, 0x254], 128), Reach::Never, "cloud metadata service"),
    (v6([0xfd20, 0xce, 0, 0, 0, 0, 0, 0x254], 128), Reach::Never, "cloud metadata service"),
    (v6([0xfe80, 0, 0, 0, 0, 0, 0, 0], 10), Reach::Never, "link-local"),
    (v6([0xff00, 0, 0, 0, 0, 0, 0, 0], 8), Reach::Never, "multicast"),
];

/// What `address` is.
pub(super) fn kind(address: IpAddr) -> Kind {
    NETWORKS
        .iter()
        .filter(|(network, _, _)| network.contains(&address))
        .max_by_key(|(network, _, _)| network.prefix_len())
        .map_or(Kind { reach: Reach::Never, name: "unknown" }, |&(_, reach, name)| Kind { reach, name })
}
