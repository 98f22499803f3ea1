#![doc = include_str!("../README.md")]

mod address_policy;
mod clock;
mod connector;
mod report;
mod validator;

pub use address_policy::{AddressPolicy, Refusal};
#[cfg(feature = "net")]
pub use clock::SystemClock;
pub use clock::{Clock, Deadline, DeadlinePassed};
#[cfg(feature = "net")]
pub use connector::TcpConnector;
pub use connector::{Connector, Stream};
pub use report::{
    ChallengeError, Conclusion, Entry, Event, Excerpt, MAX_REPORT_OCTETS, Transcript, Validated, ValidationReport,
};
pub use validator::{Expected, ValidationRequest, Validator, ValidatorSet};
