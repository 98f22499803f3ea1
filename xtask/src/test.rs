//! `cargo xtask test`: every test of the project, with what it needs set up.

use clap::{Args, ValueEnum};

use crate::chaos::{self, ChaosArgs};
use crate::e2e::{self, Database, E2eArgs};
use crate::failure::Failure;
use crate::flood::{self, FloodArgs};
use crate::full_disk::{self, FullDiskArgs};
use crate::packages::Installing;
use crate::postgres::Cluster;
use crate::power_cut::{self, PowerCutArgs};
use crate::process;
use crate::recovery::{self, RecoveryArgs};
use crate::step::step;
use crate::tally::Tally;
use crate::tidy;

/// Where tests find the PostgreSQL superuser's connection URL.
const POSTGRES_URL: &str = "AKAMU_TEST_POSTGRES_URL";

#[derive(Debug, Args)]
pub(crate) struct TestArgs {
    /// Install nothing: name what is missing and fail
    #[arg(long)]
    pub(crate) no_install: bool,
    /// Leave a part out (and say so in the last line)
    #[arg(long, value_enum, value_delimiter = ',', value_name = "PARTS")]
    without: Vec<Part>,
}

/// A part of the tests that needs more of the machine than a Rust toolchain.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Part {
    /// The tests and the clients on PostgreSQL
    Postgres,
    /// Real ACME clients against the server
    Clients,
    /// Processes killed, the power cut, a full disk and a flood, under traffic: a few rounds of each
    Faults,
}

/// Runs the house rules, the Rust tests, the real clients and some faults. Each runs even where one before it failed.
pub(crate) fn run(args: &TestArgs) -> Result<(), Failure> {
    let installing = Installing::unless_forbidden(args.no_install);
    // Of the tests and of the clients; nothing runs where it is wanted and missing.
    let cluster = if args.leaves_out(Part::Postgres) { None } else { Some(Cluster::start(installing)?) };
    let mut failures = Vec::new();
    let mut tally = Tally::default();
    failures.extend(step("house rules", || tidy::check(&process::project_root())).err());
    failures.extend(step("tests", || run_cargo_test(cluster.as_ref(), &mut tally)).err());
    if !args.leaves_out(Part::Clients) {
        let clients = if cluster.is_some() { E2eArgs::default() } else { E2eArgs::on(Database::Sqlite) };
        failures.extend(step("real clients", || e2e::run(&clients, cluster.as_ref(), installing)).err());
    }
    if !args.leaves_out(Part::Faults) {
        let database = if cluster.is_some() { None } else { Some(Database::Sqlite) };
        failures.extend(step("faults", || chaos::run(&ChaosArgs::short(database, args.no_install))).err());
        failures.extend(step("power cuts", || power_cut::run(&PowerCutArgs::short(args.no_install))).err());
        failures.extend(step("full disk", || full_disk::run(&FullDiskArgs::short(args.no_install))).err());
        if cluster.is_some() {
            failures.extend(step("recovery", || recovery::run(&RecoveryArgs::new(args.no_install))).err());
        }
        failures.extend(step("flood", || flood::run(&FloodArgs::short(args.no_install))).err());
    }

    for name in tally.failed_names() {
        println!("failed: {name}");
    }
    for failure in &failures {
        println!("{failure}");
    }
    println!("{tally}");
    println!("{}", args.left_out());
    if failures.is_empty() { Ok(()) } else { Err(Failure::new("tests failed (above)")) }
}

/// `cargo test` on the whole workspace, on `cluster` too unless that is left out.
fn run_cargo_test(cluster: Option<&Cluster>, tally: &mut Tally) -> Result<(), Failure> {
    let mut command = process::cargo();
    // Without --no-fail-fast the first failing binary would hide the results of those after it.
    command.args(["test", "--workspace", "--locked", "--no-fail-fast"]);
    match cluster {
        Some(cluster) => command.env(POSTGRES_URL, cluster.url()),
        None => command.env_remove(POSTGRES_URL),
    };
    let succeeded = process::tee(&mut command, |line| tally.read(line))?;
    match (succeeded, tally.any_failed()) {
        (true, _) => Ok(()),
        (false, true) => Err(Failure::new("failed, by name above")),
        (false, false) => Err(Failure::new("cargo test failed (above)")),
    }
}

impl TestArgs {
    fn leaves_out(&self, part: Part) -> bool {
        self.without.contains(&part)
    }

    /// The last line of the run.
    fn left_out(&self) -> String {
        let parts = [
            (Part::Postgres, "everything on PostgreSQL"),
            (Part::Clients, "the real clients"),
            (Part::Faults, "the faults"),
        ];
        let left_out: Vec<&str> =
            parts.iter().filter(|(part, _)| self.leaves_out(*part)).map(|(_, named)| *named).collect();
        if left_out.is_empty() { "nothing left out".to_owned() } else { format!("left out: {}", left_out.join(", ")) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn without(parts: &[Part]) -> TestArgs {
        TestArgs { no_install: false, without: parts.to_vec() }
    }

    #[test]
    fn the_last_line_says_what_was_left_out() {
        assert_eq!(without(&[]).left_out(), "nothing left out");
        assert_eq!(without(&[Part::Clients]).left_out(), "left out: the real clients");
        assert_eq!(
            without(&[Part::Clients, Part::Postgres]).left_out(),
            "left out: everything on PostgreSQL, the real clients"
        );
    }
}
