//! Which addresses a validator may dial.
//!
//! An applicant chooses where a CA connects to, by what its name resolves to. The policy judges the resolved address
//! that is then dialled, so there is no second lookup whose answer could differ.

use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use ipnet::IpNet;
use serde::{Serialize, Serializer};

mod registry;

use registry::{Kind, Reach};

/// Decides which addresses may be dialled.
///
/// A denied network beats an allowed one, an allowed one beats the default. By default public addresses, private ones
/// (RFC 1918), unique local ones (RFC 4193) and the shared space 100.64.0.0/10 may be dialled; loopback, link-local,
/// cloud metadata services, multicast and whatever else the IANA special-purpose registries do not call globally
/// reachable may not. IPv4-mapped addresses never may. An address of NAT64, 6to4 or Teredo is judged by the IPv4
/// address inside it, and by the networks that name it.
#[derive(Clone, Debug, Default)]
pub struct AddressPolicy {
    public_only: bool,
    allowed: Vec<IpNet>,
    denied: Vec<IpNet>,
}

/// Why an address may not be dialled.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Refusal {
    /// It lies in a network that the configuration denies.
    Denied(IpNet),
    /// It is an IPv4-mapped IPv6 address.
    V4Mapped,
    /// It is special: the registry's word for it.
    Special(&'static str),
    /// It is private, and this policy takes public addresses only: the word for it.
    NotPublic(&'static str),
    /// It carries an IPv4 address to which it leads and which is refused.
    Carries {
        /// The transition mechanism.
        mechanism: &'static str,
        /// The IPv4 address.
        inner: Ipv4Addr,
        /// Why that one is refused.
        refusal: Box<Self>,
    },
}

impl AddressPolicy {
    /// Public addresses only: what the IANA special-purpose registries call globally reachable, and nothing else.
    pub fn public_only() -> Self {
        Self { public_only: true, ..Self::default() }
    }

    /// This policy, and these networks may be dialled too.
    #[must_use]
    pub fn allow(mut self, networks: impl IntoIterator<Item = IpNet>) -> Self {
        self.allowed.extend(networks);
        self
    }

    /// This policy, and these networks may not be dialled.
    #[must_use]
    pub fn deny(mut self, networks: impl IntoIterator<Item = IpNet>) -> Self {
        self.denied.extend(networks);
        self
    }

    /// Whether `address` may be dialled.
    ///
    /// # Errors
    /// The rule that refuses it.
    pub fn check(&self, address: IpAddr) -> Result<(), Refusal> {
        let carried = match address {
            IpAddr::V4(_) => None,
            IpAddr::V6(v6) if v6.to_ipv4_mapped().is_some() => return Err(Refusal::V4Mapped),
            IpAddr::V6(v6) => carried_address(v6),
        };
        if let Some(network) = containing(&self.denied, address) {
            return Err(Refusal::Denied(network));
        }
        let Some((mechanism, inner)) = carried else {
            return if containing(&self.allowed, address).is_some() { Ok(()) } else { self.by_default(address) };
        };
        let inner_is_denied = containing(&self.denied, inner.into()).is_some();
        if containing(&self.allowed, address).is_some() && !inner_is_denied {
            return Ok(());
        }
        self.by_default(address)?;
        self.check(inner.into()).map_err(|refusal| Refusal::Carries { mechanism, inner, refusal: Box::new(refusal) })
    }

    fn by_default(&self, address: IpAddr) -> Result<(), Refusal> {
        let Kind { reach, name } = registry::kind(address);
        match reach {
            Reach::Global => Ok(()),
            Reach::Private | Reach::Carrier if self.public_only => Err(Refusal::NotPublic(name)),
            Reach::Private | Reach::Carrier => Ok(()),
            Reach::Never => Err(Refusal::Special(name)),
        }
    }
}

fn containing(networks: &[IpNet], address: IpAddr) -> Option<IpNet> {
    networks.iter().find(|it| it.contains(&address)).copied()
}

/// The IPv4 address to which an address of a transition mechanism leads.
fn carried_address(address: Ipv6Addr) -> Option<(&'static str, Ipv4Addr)> {
    let [.., a, b, c, d] = address.octets();
    match address.segments() {
        [0x64, 0xff9b, 0, 0, 0, 0, _, _] => Some(("NAT64", Ipv4Addr::new(a, b, c, d))),
        [0x2002, high, low, ..] => Some(("6to4", Ipv4Addr::from_bits((u32::from(high) << 16) | u32::from(low)))),
        // The client's address; its bits are inverted (RFC 4380 §4).
        [0x2001, 0, ..] => Some(("Teredo", Ipv4Addr::new(!a, !b, !c, !d))),
        _ => None,
    }
}

impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Denied(network) => write!(f, "in the denied network {network}"),
            Self::V4Mapped => f.write_str("IPv4-mapped"),
            Self::Special(name) => f.write_str(name),
            Self::NotPublic(name) => write!(f, "{name}, and only public addresses are allowed"),
            Self::Carries { mechanism, inner, refusal } => write!(f, "{mechanism} address of {inner}: {refusal}"),
        }
    }
}

impl Serialize for Refusal {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}
