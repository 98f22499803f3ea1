//! `cargo xtask bench`: how fast the release build is, measured by clients of our own on this machine's loopback.

mod dead_targets;
pub(crate) mod figures;

use clap::{Args, Subcommand};

use crate::failure::Failure;

#[derive(Debug, Args)]
pub(crate) struct BenchArgs {
    #[command(subcommand)]
    scenario: Scenario,
}

#[derive(Debug, Subcommand)]
enum Scenario {
    /// What honest clients feel while hundreds of validations wait for hosts that never answer
    DeadTargets(dead_targets::DeadTargetsArgs),
}

pub(crate) fn run(args: &BenchArgs) -> Result<(), Failure> {
    match &args.scenario {
        Scenario::DeadTargets(args) => dead_targets::run(args),
    }
}
