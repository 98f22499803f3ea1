//! Name constraints of CA certificates (RFC 5280 §4.2.1.10) as far as they concern our leaves: dNSName and iPAddress.
//! Read once, when the issuer is loaded, so that a name which no client would accept is refused when it is ordered.

use std::fmt;
use std::net::IpAddr;

use akamu_proto::Identifier;
use der::{Decode as _, Encode as _};
use x509_cert::Certificate;
use x509_cert::ext::pkix::constraints::name::GeneralSubtree;
use x509_cert::ext::pkix::name::GeneralName;

use crate::leaf::NAME_CONSTRAINTS;

/// How many permitted subtrees a refusal names.
const SHOWN: usize = 5;

/// Why this CA may not certify a name.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum NameNotPermitted {
    /// It is under a subtree that a CA certificate excludes, or, of a wildcard, could be.
    #[error("the CA certificate {ca:?} excludes {subtree}")]
    Excluded {
        /// The subject of the CA certificate.
        ca: String,
        /// The subtree: a DNS name, or an address and prefix length.
        subtree: String,
    },
    /// It is under none of the subtrees that a CA certificate permits.
    #[error("the CA certificate {ca:?} permits only {}", shown(.permitted))]
    NotPermitted {
        /// The subject of the CA certificate.
        ca: String,
        /// The subtrees: DNS names, or addresses and prefix lengths.
        permitted: Vec<String>,
    },
}

fn shown(subtrees: &[String]) -> String {
    let more = subtrees.len().saturating_sub(SHOWN);
    let first = subtrees.get(..SHOWN).unwrap_or(subtrees).join(", ");
    if more > 0 { format!("{first} and {more} more") } else { first }
}

/// Why an extension cannot be honoured.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct NotUnderstood(pub(crate) &'static str);

/// The name constraints of one CA certificate.
#[derive(Debug)]
pub(crate) struct NameConstraints {
    ca: String,
    permitted: Vec<Subtree>,
    excluded: Vec<Subtree>,
}

/// All names under one, or all addresses of a network.
#[derive(Debug)]
enum Subtree {
    /// Lower case. Empty: every name; with a dot before it: without the name itself, as verifiers read that.
    Dns(String),
    /// The network's address, without the bits beyond the prefix.
    Ip { network: IpAddr, prefix: u32 },
}

impl NameConstraints {
    /// Reads the extension; `None`: there is none.
    pub(crate) fn of(certificate: &Certificate) -> Result<Option<Self>, NotUnderstood> {
        use x509_cert::ext::pkix::NameConstraints as Extension;
        let tbs = certificate.tbs_certificate();
        let mut found = tbs.extensions().into_iter().flatten().filter(|it| it.extn_id == NAME_CONSTRAINTS);
        let Some(value) = found.next().map(|it| it.extn_value.as_bytes()) else { return Ok(None) };
        let malformed = NotUnderstood("that are malformed");
        let extension = Extension::from_der(value).map_err(|_| malformed)?;
        let is_canonical = extension.to_der().is_ok_and(|it| it == value);
        let (permitted, excluded) = (extension.permitted_subtrees, extension.excluded_subtrees);
        let is_empty = permitted.is_none() && excluded.is_none();
        let has_empty = [&permitted, &excluded].into_iter().flatten().any(Vec::is_empty);
        if !is_canonical || is_empty || has_empty || found.next().is_some() {
            return Err(malformed);
        }
        let read = |subtrees: Option<Vec<GeneralSubtree>>| -> Result<Vec<Subtree>, NotUnderstood> {
            subtrees.into_iter().flatten().filter_map(|it| Subtree::read(&it).transpose()).collect()
        };
        let ca = tbs.subject().to_string();
        Ok(Some(Self { ca, permitted: read(permitted)?, excluded: read(excluded)? }))
    }

    /// Whether a leaf with this name is within them.
    pub(crate) fn check(&self, name: &Identifier) -> Result<(), NameNotPermitted> {
        let ca = || self.ca.clone();
        if let Some(subtree) = self.excluded.iter().find(|it| it.reaches(name)) {
            return Err(NameNotPermitted::Excluded { ca: ca(), subtree: subtree.to_string() });
        }
        // A certificate that permits names of one form leaves the other form free.
        let mut permitted = self.permitted.iter().filter(|it| it.is_of_the_form_of(name)).peekable();
        if permitted.peek().is_none() || permitted.clone().any(|it| it.contains(name)) {
            return Ok(());
        }
        Err(NameNotPermitted::NotPermitted { ca: ca(), permitted: permitted.map(Subtree::to_string).collect() })
    }
}

impl Subtree {
    /// `None`: of a form that our leaves do not have.
    fn read(subtree: &GeneralSubtree) -> Result<Option<Self>, NotUnderstood> {
        if subtree.minimum != 0 || subtree.maximum.is_some() {
            return Err(NotUnderstood("with a minimum or a maximum, which RFC 5280 does not allow"));
        }
        match &subtree.base {
            GeneralName::DnsName(name) => {
                let name = name.as_str().to_ascii_lowercase();
                is_base(&name).then_some(Self::Dns(name)).ok_or(NotUnderstood("with a dNSName that is none")).map(Some)
            }
            GeneralName::IpAddress(octets) => {
                let network = network(octets.as_bytes());
                network.ok_or(NotUnderstood("with an iPAddress that is no address and prefix mask")).map(Some)
            }
            // Clients that use webpki refuse every leaf under such a certificate, and so does the check of what is signed.
            GeneralName::DirectoryName(_) => Err(NotUnderstood("of directoryName, which many clients do not support")),
            GeneralName::OtherName(_)
            | GeneralName::Rfc822Name(_)
            | GeneralName::EdiPartyName(_)
            | GeneralName::UniformResourceIdentifier(_)
            | GeneralName::RegisteredId(_) => Ok(None),
        }
    }

    const fn is_of_the_form_of(&self, name: &Identifier) -> bool {
        match self {
            Self::Dns(_) => matches!(name, Identifier::Dns(_) | Identifier::Wildcard(_)),
            Self::Ip { .. } => matches!(name, Identifier::Ip(_)),
        }
    }

    /// Whether the name, and of a wildcard every name that it stands for, is in the subtree.
    fn contains(&self, name: &Identifier) -> bool {
        match (self, name) {
            (Self::Dns(subtree), Identifier::Dns(name)) => is_under(name.as_str(), subtree),
            (Self::Dns(subtree), Identifier::Wildcard(base)) => is_under(&format!("*.{base}"), subtree),
            (Self::Ip { network, prefix }, Identifier::Ip(address)) => masked(*address, *prefix) == *network,
            (Self::Dns(_), Identifier::Ip(_)) | (Self::Ip { .. }, Identifier::Dns(_) | Identifier::Wildcard(_)) => {
                false
            }
        }
    }

    /// Whether the name, or of a wildcard any name that it stands for, is in the subtree.
    fn reaches(&self, name: &Identifier) -> bool {
        let is_one_of = |subtree: &str, base: &str| {
            let subtree = subtree.strip_prefix('.').unwrap_or(subtree);
            subtree.split_once('.').is_some_and(|(_, rest)| rest == base)
        };
        self.contains(name)
            || matches!((self, name), (Self::Dns(it), Identifier::Wildcard(base)) if is_one_of(it, base.as_str()))
    }
}

impl fmt::Display for Subtree {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Dns(name) if name.is_empty() => f.write_str("every DNS name"),
            Self::Dns(name) => f.write_str(name),
            Self::Ip { network, prefix } => write!(f, "{network}/{prefix}"),
        }
    }
}

/// Whether verifiers take this for a subtree's name; webpki refuses every leaf under another.
fn is_base(name: &str) -> bool {
    let is_label = |label: &str| {
        let is_made_of_these = label.bytes().all(|it| it.is_ascii_alphanumeric() || matches!(it, b'-' | b'_'));
        (1..=63).contains(&label.len()) && is_made_of_these && !label.starts_with('-') && !label.ends_with('-')
    };
    let name = name.strip_prefix('.').filter(|it| !it.is_empty()).unwrap_or(name);
    let top_is_a_number = name.rsplit('.').next().is_some_and(|it| it.bytes().all(|it| it.is_ascii_digit()));
    name.is_empty() || (name.len() < 253 && name.split('.').all(is_label) && !top_is_a_number)
}

/// Whether zero or more labels before `subtree` make `name`; where it begins with a dot, one or more.
fn is_under(name: &str, subtree: &str) -> bool {
    match name.strip_suffix(subtree) {
        Some(before) => before.is_empty() || subtree.is_empty() || before.ends_with('.') != subtree.starts_with('.'),
        None => false,
    }
}

/// An address and a mask of the same length.
fn network(octets: &[u8]) -> Option<Subtree> {
    let (address, mask) = octets.split_at_checked(octets.len() / 2)?;
    let (address, mask): (IpAddr, u128) = match (<[u8; 4]>::try_from(address), <[u8; 16]>::try_from(address)) {
        (Ok(address), _) => (address.into(), u128::from(u32::from_be_bytes(mask.try_into().ok()?)) << 96),
        (_, Ok(address)) => (address.into(), u128::from_be_bytes(mask.try_into().ok()?)),
        _ => return None,
    };
    let prefix = mask.leading_ones();
    // Bits of the address beyond the prefix count for nothing.
    (mask.count_ones() == prefix).then_some(Subtree::Ip { network: masked(address, prefix), prefix })
}

/// The first `prefix` bits of an address.
fn masked(address: IpAddr, prefix: u32) -> IpAddr {
    match address {
        IpAddr::V4(it) => IpAddr::V4((u32::from(it) & !u32::MAX.checked_shr(prefix).unwrap_or(0)).into()),
        IpAddr::V6(it) => IpAddr::V6((u128::from(it) & !u128::MAX.checked_shr(prefix).unwrap_or(0)).into()),
    }
}
