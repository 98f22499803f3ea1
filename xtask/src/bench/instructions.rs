//! What a certificate takes of the processor, counted instead of timed: the server runs in valgrind once for a few
//! certificates and once for many, and the difference is theirs. The kernel's part is not in it, nor PostgreSQL's.

mod profile;

use std::fs::{self, Permissions};
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};

use clap::Args;
use serde::Serialize;

use super::issuance::Stage;
use super::lone_client;
use super::machine::Machine;
use super::report::{table, write_json};
use crate::e2e::Database;
use crate::failure::{Context, Failure};
use crate::packages::{self, Installing, Needed};
use crate::process;
use crate::programs::Programs;

const NEEDED: &[Needed] = &[Needed { program: "valgrind", package: "valgrind" }];

/// The certificates of the first run: what is done once only is done by then.
const FIRST: u32 = 10;
/// How many functions are named.
const FUNCTIONS: usize = 20;

#[derive(Debug, Args)]
pub(crate) struct InstructionsArgs {
    /// On these databases
    #[arg(long, value_enum, value_delimiter = ',', default_values_t = Database::BOTH.to_vec())]
    database: Vec<Database>,
    /// Of so many certificates
    #[arg(long, default_value_t = 200, value_parser = clap::value_parser!(u32).range(1..=100_000))]
    certificates: u32,
    /// Write the figures here too, as JSON
    #[arg(long, value_name = "FILE")]
    json: Option<PathBuf>,
    /// Install nothing: name what is missing and fail
    #[arg(long)]
    no_install: bool,
}

#[derive(Debug, Serialize)]
struct Report {
    machine: Machine,
    servers: Vec<Cost>,
}

/// Of each certificate.
#[derive(Debug, Serialize)]
struct Cost {
    database: Database,
    instructions: f64,
    allocations: f64,
    allocated_octets: f64,
    /// Whose code they are in, most first.
    owners: Vec<(String, f64)>,
    functions: Vec<(String, f64)>,
}

pub(crate) fn run(args: &InstructionsArgs) -> Result<(), Failure> {
    let machine = Machine::read()?;
    let installing = Installing::unless_forbidden(args.no_install);
    packages::ensure(NEEDED, installing, process::in_path)?;
    let programs = Programs::collect()?;
    let stage = Stage::new(&args.database, installing)?;
    let count = |&database: &Database| cost(&stage, programs.server(), database, args.certificates);
    let report = Report { machine, servers: args.database.iter().map(count).collect::<Result<_, _>>()? };
    print!("{}", report.tables());
    args.json.as_deref().map_or(Ok(()), |path| write_json(&report, path))
}

fn cost(stage: &Stage, server: &Path, database: Database, certificates: u32) -> Result<Cost, Failure> {
    let profile = |count| profile::read(&under(stage, server, database, CALLGRIND, count)?);
    let allocated = |count| Heap::read(&under(stage, server, database, MEMCHECK, count)?);
    let each = f64::from(certificates);
    let profile = profile(FIRST + certificates)?.without(&profile(FIRST)?);
    let (first, all) = (allocated(FIRST)?, allocated(FIRST + certificates)?);
    let of_each = |costs: Vec<(String, u64)>| costs.into_iter().map(|(what, it)| (what, per(it, each))).collect();
    let mut functions = profile.functions();
    functions.truncate(FUNCTIONS);
    Ok(Cost {
        database,
        instructions: per(profile.total(), each),
        allocations: per(all.allocations.saturating_sub(first.allocations), each),
        allocated_octets: per(all.octets.saturating_sub(first.octets), each),
        owners: of_each(profile.owners()),
        functions: of_each(functions),
    })
}

#[expect(clippy::cast_precision_loss, reason = "far below 2^53")]
fn per(count: u64, certificates: f64) -> f64 {
    count as f64 / certificates
}

const CALLGRIND: &str = "--tool=callgrind --callgrind-out-file=";
const MEMCHECK: &str = "--tool=memcheck --leak-check=no --undef-value-errors=no --log-file=";

/// What valgrind says of a new server that issues so many certificates.
fn under(
    stage: &Stage,
    server: &Path,
    database: Database,
    valgrind: &str,
    certificates: u32,
) -> Result<String, Failure> {
    let site = stage.site(Some(database), "")?;
    let (wrapper, said) = (site.place.directory().join("in-valgrind"), site.place.directory().join("valgrind.out"));
    let text = format!("#!/bin/sh\nexec valgrind {valgrind}{} {} \"$@\"\n", said.display(), server.display());
    let making = || format!("cannot make {}", wrapper.display());
    fs::write(&wrapper, text).context(making)?;
    fs::set_permissions(&wrapper, Permissions::from_mode(0o755)).context(making)?;
    let running = site.place.start(&wrapper)?;
    lone_client::issue(&running, certificates)?;
    running.stop()?;
    fs::read_to_string(&said).context(|| "valgrind left nothing".to_owned())
}

/// The heap's use from start to end.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Heap {
    allocations: u64,
    octets: u64,
}

impl Heap {
    /// From memcheck's summary: "total heap usage: 1,234 allocs, 1,230 frees, 56,789 bytes allocated".
    fn read(said: &str) -> Result<Self, Failure> {
        let number = |text: &str| text.trim().replace(',', "").parse().ok();
        let found = said.lines().find_map(|line| {
            let (_, usage) = line.split_once("total heap usage: ")?;
            let (allocations, rest) = usage.split_once(" allocs, ")?;
            let (_, octets) = rest.split_once(" frees, ")?;
            Some(Self { allocations: number(allocations)?, octets: number(octets.split_once(" bytes")?.0)? })
        });
        found.ok_or_else(|| Failure::new(format!("valgrind does not tell the heap's use: {said}")))
    }
}

impl Report {
    fn tables(&self) -> String {
        let totals = self.servers.iter().map(|it| {
            [
                it.database.to_string(),
                format!("{:.2}", it.instructions / 1e6),
                format!("{:.0}", it.allocations),
                format!("{:.1}", it.allocated_octets / 1e3),
            ]
        });
        let mut text = format!(
            "{}\n{}",
            self.machine,
            table(["database", "million instructions", "allocations", "allocated KB"], totals)
        );
        for (heading, costs) in
            [("whose", (|it: &Cost| &it.owners) as fn(&Cost) -> &Vec<(String, f64)>), ("function", |it| &it.functions)]
        {
            let rows = self.servers.iter().flat_map(|server| {
                costs(server).iter().map(|(what, instructions)| {
                    [
                        server.database.to_string(),
                        what.clone(),
                        format!("{:.0}", instructions / 1e3),
                        format!("{:.1}", instructions / server.instructions * 100.0),
                    ]
                })
            });
            text += &format!("\n{}", table(["database", heading, "thousand instructions", "%"], rows));
        }
        text
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_heaps_use_is_read_from_the_summary() {
        let said =
            "==1== HEAP SUMMARY:\n==1==   total heap usage: 51,234 allocs, 50,998 frees, 7,654,321 bytes allocated\n";
        assert_eq!(Heap::read(said).unwrap(), Heap { allocations: 51_234, octets: 7_654_321 });
        assert!(Heap::read("==1== Killed\n").is_err());
    }
}
