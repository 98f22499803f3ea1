#![doc = include_str!("../README.md")]

mod address_policy;
mod clock;
mod connection_permits;
mod connector;
mod dial;
mod http_01;
mod metered;
mod probe;
mod report;
mod resolver;
#[cfg(feature = "testing")]
pub mod testing;
mod tls_alpn_01;
mod validator;

pub use address_policy::{AddressPolicy, Refusal};
#[cfg(feature = "net")]
pub use clock::SystemClock;
pub use clock::{Clock, Deadline, DeadlinePassed};
#[cfg(feature = "net")]
pub use connector::TcpConnector;
pub use connector::{Connector, Stream};
pub use http_01::Http01;
pub use probe::Probe;
pub use report::{
    ChallengeError, Conclusion, Entry, Event, Excerpt, MAX_REPORT_OCTETS, Transcript, Validated, ValidationReport,
};
pub use resolver::{Lookup, LookupError, Resolver, TxtRecord};
pub use tls_alpn_01::TlsAlpn01;
pub use validator::{Expected, ValidationRequest, Validator, ValidatorSet};
