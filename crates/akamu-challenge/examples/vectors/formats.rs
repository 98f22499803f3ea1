//! The formats of `vectors/*.json` that are about validation: what a case says, and how it is played.
//!
//! The crate's tests take this file in, so that a case is checked in one way only.

pub(crate) mod address_policy;
pub(crate) mod dns;
pub(crate) mod dns_01;
pub(crate) mod dns_persist_01;
pub(crate) mod expected;
pub(crate) mod http_01;
pub(crate) mod parsed;
pub(crate) mod setting;
pub(crate) mod tls_alpn_01;
