//! `cargo xtask ci`: everything that must hold before a change lands, in the order of what fails soonest.

use clap::Args;

use crate::cargo_tool;
use crate::failure::Failure;
use crate::process;
use crate::step::step;
use crate::test::{self, TestArgs};

#[derive(Debug, Args)]
pub(crate) struct CiArgs {
    #[command(flatten)]
    test: TestArgs,
}

/// Runs every step; the first that fails ends the run.
pub(crate) fn run(args: &CiArgs) -> Result<(), Failure> {
    step("formatting", || {
        cargo(&["fmt", "--all", "--check"])?;
        cargo(&["fmt", "--manifest-path", "fuzz/Cargo.toml", "--check"])
    })?;
    step("clippy", || {
        cargo(&["clippy", "--workspace", "--all-targets", "--locked", "--quiet", "--", "-D", "warnings"])
    })?;
    step("documentation", document)?;
    step("dependencies", || deny(args))?;
    step("akamu-challenge without its network", || {
        cargo(&["check", "--package", "akamu-challenge", "--no-default-features", "--locked", "--quiet"])
    })?;
    // It names and times its own parts, and has the last word.
    test::run(&args.test)
}

fn cargo(arguments: &[&str]) -> Result<(), Failure> {
    process::run(process::cargo().args(arguments))
}

fn document() -> Result<(), Failure> {
    let mut command = process::cargo();
    command.args(["doc", "--no-deps", "--workspace", "--locked", "--quiet"]).env("RUSTDOCFLAGS", "-D warnings");
    process::run(&mut command)
}

/// What deny.toml says of the tree of dependencies.
fn deny(args: &CiArgs) -> Result<(), Failure> {
    let program = cargo_tool::installed("cargo-deny", !args.test.no_install)?;
    // Offline, cargo-deny needs the packages of every platform to be here; nothing is fetched where they are.
    cargo(&["fetch", "--locked", "--quiet"])?;
    let mut command = process::cargo_subcommand(&program);
    process::run(command.args(["--offline", "--locked", "check", "bans", "licenses", "sources"]))
}
