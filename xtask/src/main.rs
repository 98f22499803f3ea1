//! The project's own commands: `cargo xtask test`, `cargo xtask ci`, `cargo xtask e2e`.

#![expect(clippy::print_stdout, reason = "a command line tool: what it prints is what it is for")]

mod acme;
mod bench;
mod cargo_tool;
mod chaos;
mod ci;
mod docs;
mod e2e;
mod failure;
mod flood;
mod full_disk;
mod fuzz;
mod interrupt;
mod name_server;
mod packages;
mod postgres;
mod power_cut;
mod process;
mod programs;
mod recovery;
mod release;
mod responder;
mod server;
mod step;
mod table;
mod tally;
mod test;
mod tidy;
mod tls_alpn_responder;
mod vectors;

use std::process::ExitCode;

use clap::{Args, Parser, Subcommand};

use crate::e2e::dns_hook;
use crate::packages::Installing;

/// The project's own commands
#[derive(Debug, Parser)]
#[command(name = "cargo xtask", bin_name = "cargo xtask")]
struct Cli {
    #[command(subcommand)]
    task: Task,
}

#[derive(Debug, Subcommand)]
enum Task {
    /// Run every test: house rules, unit and wire tests on both databases, real clients
    Test(test::TestArgs),
    /// Run what must hold before a change lands: formatting, lints, documentation, dependencies, then every test
    Ci(ci::CiArgs),
    /// Check the house rules alone: crate arrows, names, pages, links
    Tidy,
    /// Write the generated parts of the book anew
    Docs,
    /// Run real ACME clients against the server
    E2e(E2eCommand),
    /// Build the server for a release, by a profile of the benchmark's load (half an hour on two cores)
    Release(release::ReleaseArgs),
    /// Measure the release build
    Bench(bench::BenchArgs),
    /// Kill servers and databases at any moment under real traffic, and look for what was lost
    Chaos(chaos::ChaosArgs),
    /// Cut the power at any moment of a first start and of real traffic, and look for what was lost
    PowerCut(power_cut::PowerCutArgs),
    /// Fill the disk under real traffic, make room again, and look for what was lost
    FullDisk(full_disk::FullDiskArgs),
    /// Recover PostgreSQL to a point in time by the commands in the book
    Recovery(recovery::RecoveryArgs),
    /// Flood a server with dead connections, garbage and newNonce, and look at memory and at what honest clients feel
    Flood(flood::FloodArgs),
    /// Run test vectors, ours or others of the same formats
    Vectors(vectors::VectorsArgs),
    /// Fuzz what reads a peer's octets, one target after the other
    Fuzz(fuzz::FuzzArgs),
    /// Set a TXT record of the running clients' test
    #[command(hide = true)]
    DnsHook(dns_hook::DnsHookArgs),
    /// Be the flood
    #[command(hide = true)]
    FloodLoad(flood::LoadArgs),
}

#[derive(Debug, Args)]
struct E2eCommand {
    #[command(flatten)]
    e2e: e2e::E2eArgs,
    /// Install nothing: name what is missing and fail
    #[arg(long)]
    no_install: bool,
}

fn main() -> ExitCode {
    let outcome = match &Cli::parse().task {
        Task::Test(args) => test::run(args),
        Task::Ci(args) => ci::run(args),
        Task::Tidy => tidy::check(&process::project_root()),
        Task::Docs => docs::run(),
        Task::E2e(args) => e2e::run(&args.e2e, None, Installing::unless_forbidden(args.no_install)),
        Task::Release(args) => release::run(args),
        Task::Bench(args) => bench::run(args),
        Task::Chaos(args) => chaos::run(args),
        Task::PowerCut(args) => power_cut::run(args),
        Task::FullDisk(args) => full_disk::run(args),
        Task::Recovery(args) => recovery::run(args),
        Task::Flood(args) => flood::run(args),
        Task::FloodLoad(args) => flood::load(args),
        // Its exit status says more.
        Task::Vectors(args) => return vectors::run(args),
        Task::Fuzz(args) => fuzz::run(args),
        Task::DnsHook(args) => dns_hook::run(args),
    };
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => {
            eprintln!("xtask: {failure}");
            ExitCode::FAILURE
        }
    }
}
