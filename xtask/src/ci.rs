//! `cargo xtask ci`: everything that must hold before a change lands, in the order of what fails soonest.

use std::path::PathBuf;

use clap::Args;

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
    step("formatting", || cargo(&["fmt", "--all", "--check"]))?;
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
    let program = deny_program(args)?;
    // Offline, cargo-deny needs the packages of every platform to be here; nothing is fetched where they are.
    cargo(&["fetch", "--locked", "--quiet"])?;
    let mut command = process::cargo_subcommand(&program);
    process::run(command.args(["--offline", "--locked", "check", "bans", "licenses", "sources"]))
}

/// cargo-deny under target/tools, installed there once.
fn deny_program(args: &CiArgs) -> Result<PathBuf, Failure> {
    let target = process::project_root().join("target");
    let tools = target.join("tools");
    let program = tools.join("bin/cargo-deny");
    if !program.is_file() {
        if args.test.no_install {
            return Err(Failure::new("missing: cargo-deny in target/tools (--no-install forbids installing it)"));
        }
        println!("installing cargo-deny under target/tools (takes some minutes, once)");
        let mut command = process::cargo();
        command.args(["install", "--locked", "--quiet", "cargo-deny", "--root"]).arg(&tools);
        process::run(command.arg("--target-dir").arg(target.join("tools-build")))?;
    }
    Ok(program)
}
