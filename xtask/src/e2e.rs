//! `cargo xtask e2e`: real ACME clients against the real binary.

use clap::Args;

use crate::failure::Failure;
use crate::packages::Installing;

#[derive(Debug, Default, Args)]
pub(crate) struct E2eArgs {
    /// Run this client alone
    #[arg(long, value_name = "NAME")]
    only: Option<String>,
}

/// Runs the real clients.
pub(crate) fn run(_args: &E2eArgs, _installing: Installing) -> Result<(), Failure> {
    Err(Failure::new("no client is set up yet"))
}
