#![doc = include_str!("../README.md")]

mod account;
mod account_uri;
mod authorization;
mod challenge_type;
mod directory;
mod id;
mod identifier;
mod jwk;
mod jws;
mod key_authorization;
mod order;
mod problem;
mod status;
mod timestamp;
#[cfg(feature = "verify")]
mod verify;

pub use account::{AccountObject, AccountUpdateRequest, Contact, ContactError, KeyChangeRequest, NewAccountRequest};
pub use account_uri::AccountUri;
pub use authorization::{AuthorizationObject, AuthorizationUpdateRequest, ChallengeObject, PersistMembers};
pub use challenge_type::ChallengeType;
pub use directory::{Directory, DirectoryMeta};
pub use id::{AccountId, AuthorizationId, CertificateId, IdError, OrderId, time_ordered_octets};
pub use identifier::{DnsName, Identifier, IdentifierError};
pub use jwk::{Jwk, JwkError, RSA_MAX_BITS, RSA_MIN_BITS};
pub use jws::{Algorithm, Jws, JwsError, KeyReference, ProtectedHeader};
pub use key_authorization::{KeyAuthorization, Thumbprint, Token, TokenError};
pub use order::{FinalizeRequest, MAX_IDENTIFIERS, NewOrderRequest, OrderObject, RevokeRequest};
pub use problem::{ErrorType, Problem, Subproblem};
pub use status::{AccountStatus, AuthorizationStatus, ChallengeStatus, OrderStatus, RevocationReason};
pub use timestamp::{Timestamp, TimestampError};
#[cfg(feature = "verify")]
pub use verify::VerifyingKey;
