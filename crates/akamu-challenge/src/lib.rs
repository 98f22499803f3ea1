#![doc = include_str!("../README.md")]

mod address_policy;
mod clock;
mod connection_permits;
mod connector;
mod dial;
mod dns_01;
mod dns_persist_01;
mod http_01;
mod metered;
mod perspective;
mod probe;
mod report;
mod resolver;
#[cfg(feature = "net")]
mod source_addresses;
#[cfg(feature = "testing")]
pub mod testing;
mod tls_alpn_01;
mod tls_handshake;
mod txt_lookup;
mod validator;

pub use address_policy::{AddressPolicy, Refusal};
#[cfg(feature = "net")]
pub use clock::SystemClock;
pub use clock::{Clock, Deadline, DeadlinePassed};
pub use connector::{Connector, Stream};
#[cfg(feature = "net")]
pub use connector::{SourceConnector, TcpConnector};
pub use dns_01::Dns01;
pub use dns_persist_01::{AccountHashPrefix, BoundTo, DnsPersist01, PersistUntil, RecordToCreate, hash_for};
pub use http_01::Http01;
pub use perspective::{Perspective, PerspectiveName, PerspectiveNameError, Quorum, QuorumError};
pub use probe::Probe;
pub use report::{
    ChallengeError, Conclusion, DnssecStatus, Entry, Event, Excerpt, MAX_REPORT_OCTETS, Transcript, Validated,
    ValidationReport,
};
#[cfg(feature = "net")]
pub use resolver::{DnsClient, Dnssec, Forwarder, SystemServersError, TrustAnchorError, TrustAnchors, Zone, ZoneError};
pub use resolver::{LocalhostResolver, Lookup, LookupError, Resolver, TxtRecord};
pub use tls_alpn_01::TlsAlpn01;
pub use validator::{Expected, ValidationRequest, Validator, ValidatorSet};
