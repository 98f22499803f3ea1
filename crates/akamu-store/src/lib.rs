#![doc = include_str!("../README.md")]

mod account;
mod authorization;
mod certificate;
mod chain;
mod clock;
mod connection;
mod crl;
mod data_dir_lock;
mod error;
mod housekeeping;
mod identity;
mod issuance;
mod known;
mod lease;
mod migration;
mod nonce;
mod observer;
mod options;
mod order;
mod outage;
mod owned;
mod postgres;
mod postgres_url;
mod row_lock;
mod schema;
mod sqlite;
mod store;
mod threads;
mod validation;

pub use account::{Account, AccountCreated, KeyChanged, NewAccount};
pub use authorization::{Authorization, Challenge, NewAuthorization, NewChallenge};
pub use certificate::{Certificate, Revoked};
pub use chain::Chain;
pub use clock::ClockCheck;
pub use crl::{CrlCheck, Revocations, RevokedCertificate, StoredCrl};
pub use data_dir_lock::{DataDirLock, LockError};
pub use error::{BackupError, OpenError, StoreError};
pub use housekeeping::{Expired, HousekeepingCursor, HousekeepingStep};
pub use identity::{Identity, IdentityOutcome};
pub use issuance::{Issuance, IssuanceBegun, IssuanceRecorded, NewCertificate, NewIssuance};
pub use known::Known;
pub use lease::{Lease, LeaseRequest, ReplicaId};
pub use nonce::{CheckedNonce, Nonce, NonceError, RedeemedNonce};
pub use observer::OperationRun;
pub use options::StoreOptions;
pub use order::{NewOrder, Order, OrderCreated};
pub use owned::{AccountAnd, Owned, Reading};
pub use sqlite::backup::SqliteBackup;
pub use store::Store;
pub use validation::{
    ClaimLimits, MAX_REPORT_OCTETS, RunningCounts, StoredReport, Validation, ValidationBegun, ValidationOutcome,
    ValidationRecorded,
};
