//! The resources of RFC 8555 §7.1, one file each: translate, call one store operation, translate back.

pub(crate) mod account;
pub(crate) mod authority;
pub(crate) mod authorization;
pub(crate) mod certificate;
pub(crate) mod challenge;
pub(crate) mod directory;
pub(crate) mod finalize;
pub(crate) mod key_change;
pub(crate) mod new_nonce;
pub(crate) mod order;
pub(crate) mod revocation;
