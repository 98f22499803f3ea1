#![doc = include_str!("../README.md")]

mod account_uri;
mod challenge_type;
mod id;
mod identifier;
mod key_authorization;
mod problem;
mod status;
mod timestamp;

pub use account_uri::AccountUri;
pub use challenge_type::ChallengeType;
pub use id::{AccountId, AuthorizationId, CertificateId, IdError, OrderId};
pub use identifier::{DnsName, Identifier, IdentifierError};
pub use key_authorization::{KeyAuthorization, Thumbprint, Token, TokenError};
pub use problem::{ErrorType, Problem, Subproblem};
pub use status::{AccountStatus, AuthorizationStatus, ChallengeStatus, OrderStatus, RevocationReason};
pub use timestamp::{Timestamp, TimestampError};
