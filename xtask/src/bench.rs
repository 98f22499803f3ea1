//! `cargo xtask bench`: how fast the release build is, measured by clients of our own on this machine's loopback.

mod cpu_time;
mod dead_targets;
pub(crate) mod figures;
mod floor;
mod growth;
mod instructions;
mod issuance;
mod load;
mod lone_client;
mod machine;
mod measurement;
mod paired;
mod plot;
mod proofs;
mod report;
mod work;

use std::env;
use std::os::unix::process::CommandExt as _;
use std::process::Command;

use clap::{Args, Subcommand};

use crate::failure::{Context, Failure};
use crate::process;

#[derive(Debug, Args)]
pub(crate) struct BenchArgs {
    #[command(subcommand)]
    scenario: Scenario,
}

#[derive(Debug, Subcommand)]
enum Scenario {
    /// Certificates a second, what each costs, and how long each step takes
    Issuance(Box<issuance::IssuanceArgs>),
    /// The stages of an issuance by themselves, their sum, and the whole beside it
    Floor(floor::FloorArgs),
    /// What a certificate costs where a million lie already, beside where none does
    Growth(growth::GrowthArgs),
    /// The processor's instructions and the allocations that a certificate takes, by whose code they are
    Instructions(instructions::InstructionsArgs),
    /// Draws the figures of `issuance --json`
    Plot(plot::PlotArgs),
    /// What honest clients feel while hundreds of validations wait for hosts that never answer
    DeadTargets(dead_targets::DeadTargetsArgs),
}

pub(crate) fn run(args: &BenchArgs) -> Result<(), Failure> {
    if cfg!(debug_assertions) && !matches!(args.scenario, Scenario::Plot(_)) {
        return run_optimised();
    }
    match &args.scenario {
        Scenario::Issuance(args) => issuance::run(args),
        Scenario::Floor(args) => floor::run(args),
        Scenario::Growth(args) => growth::run(args),
        Scenario::Instructions(args) => instructions::run(args),
        Scenario::Plot(args) => plot::run(args),
        Scenario::DeadTargets(args) => dead_targets::run(args),
    }
}

/// Becomes a release build of this program: clients that are slow themselves would take the processors from the server.
fn run_optimised() -> Result<(), Failure> {
    let mut cargo = Command::new(process::cargo().get_program());
    cargo.args(["run", "--release", "--locked", "--quiet", "--package", "xtask", "--manifest-path"]);
    cargo.arg(process::project_root().join("Cargo.toml")).arg("--").args(env::args_os().skip(1));
    Err(cargo.exec()).context(|| "cannot run cargo".to_owned())
}
