//! What the crate promises, on certificates that it makes and requests that come from elsewhere.

#![expect(clippy::unwrap_used, clippy::indexing_slicing, reason = "a test may panic")]

mod chain;
mod crl;
mod csr;
mod first_run;
mod issuance;
mod key_file;
mod name_constraints;
mod openssl;
mod profile;
mod support;
