//! A client and what it is put to, as data.

use crate::failure::Failure;
use crate::packages::{Installing, Needed};

use super::database::Database;
use super::stage::Stage;

/// A real ACME client.
#[derive(Debug)]
pub(super) struct Client {
    pub(super) name: &'static str,
    /// The programs it needs from Debian, its own among them where it comes from there.
    pub(super) needed: &'static [Needed],
    /// Sets up what does not come from Debian, and returns the client's version.
    pub(super) prepare: fn(Installing) -> Result<String, Failure>,
    /// What the server keeps its state in while the client runs: once on each.
    pub(super) databases: &'static [Database],
    /// Run in this order; a later one may use what an earlier one left in the client's directory.
    pub(super) scenarios: &'static [Scenario],
}

/// One thing that a client does.
#[derive(Debug)]
pub(super) struct Scenario {
    pub(super) challenge: &'static str,
    pub(super) does: &'static str,
    pub(super) run: fn(&Stage<'_>) -> Result<(), Failure>,
}
