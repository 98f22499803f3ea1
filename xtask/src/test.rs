//! `cargo xtask test`: every test of the project, with what it needs set up.

use clap::{Args, ValueEnum};

use crate::e2e;
use crate::failure::Failure;
use crate::packages::Installing;
use crate::postgres::Cluster;
use crate::process;
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
    /// The tests on PostgreSQL
    Postgres,
    /// Real ACME clients against the server
    Clients,
}

/// Runs the house rules, the Rust tests and the real clients. Each runs even where one before it failed.
pub(crate) fn run(args: &TestArgs) -> Result<(), Failure> {
    let installing = Installing::unless_forbidden(args.no_install);
    let mut failures = Vec::new();
    let mut tally = Tally::default();
    failures.extend(step("house rules", || tidy::check(&process::project_root())).err());
    let without_postgres = args.leaves_out(Part::Postgres);
    failures.extend(step("tests", || run_cargo_test(without_postgres, installing, &mut tally)).err());
    if !args.leaves_out(Part::Clients) {
        failures.extend(step("real clients", || e2e::run(&e2e::E2eArgs::default(), installing)).err());
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

/// `cargo test` on the whole workspace, on a fresh PostgreSQL cluster unless that is left out.
fn run_cargo_test(without_postgres: bool, installing: Installing, tally: &mut Tally) -> Result<(), Failure> {
    let mut command = process::cargo();
    // Without --no-fail-fast the first failing binary would hide the results of those after it.
    command.args(["test", "--workspace", "--locked", "--no-fail-fast"]);
    let cluster = if without_postgres { None } else { Some(Cluster::start(installing)?) };
    match &cluster {
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
        let parts = [(Part::Postgres, "the tests on PostgreSQL"), (Part::Clients, "the real clients")];
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
            "left out: the tests on PostgreSQL, the real clients"
        );
    }
}
