//! Identifiers of orders (RFC 8555 §7.1.3, §9.7.7): DNS names, wildcards (§7.1.3) and IP addresses (RFC 8738).
//!
//! Parsed once, into the one form in which they are stored, compared, probed and certified.

use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::str::FromStr;

use serde::Serialize;
use serde::ser::{SerializeStruct as _, Serializer};

use crate::ErrorType;

/// A DNS name in the preferred name syntax (RFC 1123 §2.1): lower case, without a trailing dot and without `*`.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct DnsName(Box<str>);

/// What an order asks a certificate for.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Identifier {
    /// A DNS name.
    Dns(DnsName),
    /// A wildcard: `*.` before this base domain.
    Wildcard(DnsName),
    /// An IP address (RFC 8738).
    Ip(IpAddr),
}

/// Why an identifier is refused. The text says what to write instead.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum IdentifierError {
    /// The type is neither `dns` nor `ip`.
    #[error("identifiers of this type are not supported; supported are \"dns\" and \"ip\"")]
    UnsupportedType,
    /// There is no name.
    #[error("the name is empty")]
    Empty,
    /// More than 253 octets (RFC 1035 §2.3.4).
    #[error("the name has {octets} octets; 253 is the limit")]
    NameTooLong {
        /// Its length.
        octets: usize,
    },
    /// More than 63 octets in a label (RFC 1035 §2.3.4).
    #[error("the label number {position} has {octets} octets; 63 is the limit")]
    LabelTooLong {
        /// The label's place, counted from 1.
        position: usize,
        /// Its length.
        octets: usize,
    },
    /// The name ends with a dot.
    #[error("write the name without the dot at its end")]
    TrailingDot,
    /// Two dots in a row, or one at the start.
    #[error("the name has an empty label")]
    EmptyLabel,
    /// A `*` that is not the whole first label.
    #[error("\"*\" may only stand as the whole first label, once")]
    MisplacedWildcard,
    /// `*.` before a single label.
    #[error("a wildcard needs at least two labels after \"*.\"")]
    WildcardOfSingleLabel,
    /// An octet beyond ASCII.
    #[error("write internationalised names as A-labels (\"xn--…\")")]
    NotAscii,
    /// An underscore.
    #[error("a host name has no underscore; letters, digits and hyphens are allowed")]
    Underscore,
    /// Another character outside letters, digits and hyphen.
    #[error("{character:?} is not allowed; a name has letters, digits, hyphens and dots, and neither port nor path")]
    BadCharacter {
        /// The first one that is wrong.
        character: char,
    },
    /// A label that begins or ends with a hyphen.
    #[error("a label must not begin or end with a hyphen")]
    Hyphen,
    /// A label `xn--…` that UTS 46 does not take, or would write in another way.
    #[error("{label:?} is no valid A-label")]
    BadALabel {
        /// The label.
        label: String,
    },
    /// The last label consists of digits only, as in an IPv4 address.
    #[error("the last label has digits only; for an IP address use an identifier of type \"ip\"")]
    NumericTopLabel,
    /// Text that is no IP address.
    #[error("not an IP address; write it like 192.0.2.1 or 2001:db8::1, without brackets, zone, port or prefix length")]
    NotAnAddress,
    /// An address in another form than that of RFC 5952.
    #[error("write the address in its canonical form, {canonical}")]
    NotCanonical {
        /// What to write.
        canonical: IpAddr,
    },
    /// An IPv4-mapped IPv6 address.
    #[error("an IPv4-mapped address is no identifier; write {v4}")]
    V4Mapped {
        /// What to write.
        v4: Ipv4Addr,
    },
}

impl IdentifierError {
    /// The ACME error type of this refusal (RFC 8555 §6.7).
    pub const fn error_type(&self) -> ErrorType {
        match self {
            Self::UnsupportedType => ErrorType::UnsupportedIdentifier,
            Self::WildcardOfSingleLabel => ErrorType::RejectedIdentifier,
            _ => ErrorType::Malformed,
        }
    }
}

impl DnsName {
    /// Reads a name, in any case.
    ///
    /// # Errors
    /// The first rule that it breaks.
    pub fn parse(text: &str) -> Result<Self, IdentifierError> {
        if text.is_empty() {
            return Err(IdentifierError::Empty);
        }
        if !text.is_ascii() {
            return Err(IdentifierError::NotAscii);
        }
        if text.len() > 1 && text.ends_with('.') && !text.ends_with("..") {
            return Err(IdentifierError::TrailingDot);
        }
        if text.len() > 253 {
            return Err(IdentifierError::NameTooLong { octets: text.len() });
        }
        let name = text.to_ascii_lowercase();
        for (index, label) in name.split('.').enumerate() {
            check_label(label, index + 1)?;
        }
        if name.rsplit('.').next().is_some_and(|last| last.bytes().all(|c| c.is_ascii_digit())) {
            return Err(IdentifierError::NumericTopLabel);
        }
        Ok(Self(name.into_boxed_str()))
    }

    /// The name, lower case, without a trailing dot.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

fn check_label(label: &str, position: usize) -> Result<(), IdentifierError> {
    if label.is_empty() {
        return Err(IdentifierError::EmptyLabel);
    }
    if let Some(character) = label.chars().find(|c| !c.is_ascii_alphanumeric() && *c != '-') {
        return Err(match character {
            '*' => IdentifierError::MisplacedWildcard,
            '_' => IdentifierError::Underscore,
            _ => IdentifierError::BadCharacter { character },
        });
    }
    if label.len() > 63 {
        return Err(IdentifierError::LabelTooLong { position, octets: label.len() });
    }
    if label.starts_with('-') || label.ends_with('-') {
        return Err(IdentifierError::Hyphen);
    }
    if label.starts_with("xn--") {
        let (unicode, decoded) = idna::domain_to_unicode(label);
        let survives = decoded.is_ok()
            && !unicode.is_ascii()
            && idna::domain_to_ascii_cow(unicode.as_bytes(), idna::AsciiDenyList::STD3).is_ok_and(|it| it == label);
        if !survives {
            return Err(IdentifierError::BadALabel { label: label.to_owned() });
        }
    }
    Ok(())
}

impl fmt::Display for DnsName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// Reads an identifier as people write it, without its type: an address where it is one, else a name or a wildcard.
impl FromStr for Identifier {
    type Err = IdentifierError;

    fn from_str(text: &str) -> Result<Self, IdentifierError> {
        if text.parse::<IpAddr>().is_ok() { Self::ip(text) } else { Self::dns(text) }
    }
}

impl Identifier {
    /// Reads the `type` and `value` of an identifier object.
    ///
    /// # Errors
    /// The first rule that it breaks.
    pub fn parse(kind: &str, value: &str) -> Result<Self, IdentifierError> {
        match kind {
            "dns" => Self::dns(value),
            "ip" => Self::ip(value),
            _ => Err(IdentifierError::UnsupportedType),
        }
    }

    /// Reads the value of a `dns` identifier: a name, or `*.` and a name of at least two labels.
    ///
    /// # Errors
    /// The first rule that it breaks.
    pub fn dns(value: &str) -> Result<Self, IdentifierError> {
        let Some(base) = value.strip_prefix("*.") else {
            if value.parse::<IpAddr>().is_ok() {
                return Err(IdentifierError::NumericTopLabel);
            }
            return DnsName::parse(value).map(Self::Dns);
        };
        if value.len() > 253 {
            return Err(IdentifierError::NameTooLong { octets: value.len() });
        }
        let base = DnsName::parse(base)?;
        if !base.as_str().contains('.') {
            return Err(IdentifierError::WildcardOfSingleLabel);
        }
        Ok(Self::Wildcard(base))
    }

    /// Reads the value of an `ip` identifier, which must stand in canonical text (RFC 8738 §3, RFC 5952 §4).
    ///
    /// # Errors
    /// The first rule that it breaks.
    pub fn ip(value: &str) -> Result<Self, IdentifierError> {
        let address: IpAddr = value.parse().map_err(|_| IdentifierError::NotAnAddress)?;
        if let IpAddr::V6(v6) = address
            && let Some(v4) = v6.to_ipv4_mapped()
        {
            return Err(IdentifierError::V4Mapped { v4 });
        }
        if address.to_string() != value {
            return Err(IdentifierError::NotCanonical { canonical: address });
        }
        Ok(Self::Ip(address))
    }

    /// The `type` on the wire.
    pub const fn kind(&self) -> &'static str {
        match self {
            Self::Dns(_) | Self::Wildcard(_) => "dns",
            Self::Ip(_) => "ip",
        }
    }

    /// The `value` in an order: a wildcard with its `*.`.
    pub fn value(&self) -> String {
        self.to_string()
    }

    /// Whether this is a wildcard.
    pub const fn is_wildcard(&self) -> bool {
        matches!(self, Self::Wildcard(_))
    }

    /// The name that validation is about, a wildcard's without its `*.`; `None` for an address.
    pub const fn base_domain(&self) -> Option<&DnsName> {
        match self {
            Self::Dns(name) | Self::Wildcard(name) => Some(name),
            Self::Ip(_) => None,
        }
    }

    /// The identifier of an authorization object (RFC 8555 §7.1.4): a wildcard's without its `*.`.
    #[must_use]
    pub fn without_wildcard(&self) -> Self {
        match self {
            Self::Dns(name) | Self::Wildcard(name) => Self::Dns(name.clone()),
            Self::Ip(address) => Self::Ip(*address),
        }
    }

    /// The server name of a tls-alpn-01 probe: the name, or an address's reverse mapping (RFC 8738 §6).
    pub fn server_name(&self) -> String {
        match self {
            Self::Dns(name) | Self::Wildcard(name) => name.to_string(),
            Self::Ip(IpAddr::V4(address)) => {
                let [a, b, c, d] = address.octets();
                format!("{d}.{c}.{b}.{a}.in-addr.arpa")
            }
            Self::Ip(IpAddr::V6(address)) => reverse_v6(address),
        }
    }
}

fn reverse_v6(address: &Ipv6Addr) -> String {
    let nibbles = address.octets().into_iter().rev().flat_map(|octet| [octet & 0xf, octet >> 4]);
    let mut name: String = nibbles.map(|nibble| format!("{nibble:x}.")).collect();
    name.push_str("ip6.arpa");
    name
}

impl fmt::Display for Identifier {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Dns(name) => name.fmt(f),
            Self::Wildcard(base) => write!(f, "*.{base}"),
            Self::Ip(address) => address.fmt(f),
        }
    }
}

/// As in an order: `{"type": …, "value": …}`, a wildcard with its `*.`.
impl Serialize for Identifier {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut object = serializer.serialize_struct("Identifier", 2)?;
        object.serialize_field("type", self.kind())?;
        object.serialize_field("value", &self.value())?;
        object.end()
    }
}
