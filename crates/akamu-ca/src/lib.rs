#![doc = include_str!("../README.md")]

mod certificate;
mod chain;
mod compromised_key;
mod crl;
mod csr;
mod encoding;
mod encrypted_key;
mod files;
mod first_run;
mod issuer;
mod key;
mod leaf;
mod name_constraints;
mod public_key;
mod serial;
mod signed;
mod subject_alt_name;
mod weak_rsa;

pub use certificate::KnownCertificate;
pub use crl::Revoked;
pub use csr::{Csr, CsrError, MAX_CSR_OCTETS};
pub use encoding::certificate_pem;
pub use encrypted_key::{decrypted_pem, encrypted_pem};
pub use files::FileError;
pub use first_run::{Authority, FirstRun, FirstRunError};
pub use issuer::{IssueError, IssuedCertificate, Issuer, IssuerError, Profile};
pub use key::{FileKey, HashAlg, KeyError, KeyType, SigningKey};
pub use name_constraints::NameNotPermitted;
pub use serial::Serial;
pub use subject_alt_name::MAX_NAMES;
