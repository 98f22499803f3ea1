//! The stages that an issuance cannot do without, each measured by itself, their sum, and the whole beside it: what lies
//! between is what the server adds.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

use clap::Args;
use serde::{Deserialize, Serialize};

use super::issuance::Stage;
use super::machine::Machine;
use super::measurement::Setting;
use super::proofs::ChallengeType;
use super::report::{table, write_json};
use crate::e2e::Database;
use crate::failure::{Context, Failure};
use crate::packages::Installing;
use crate::postgres::Cluster;
use crate::process;
use crate::programs::Programs;

/// What the whole is measured under, and how long.
const CLIENTS: u32 = 32;
const WARM_UP: Duration = Duration::from_secs(2);
const MEASURED: Duration = Duration::from_secs(10);

/// Benchmarks of what an issuance of one name by http-01 demands of any server that speaks ACME and keeps no state, and how
/// often each occurs: newOrder, authorization, challenge, a poll that is held, finalize, certificate.
const DEMANDED: [Count; 13] = [
    ("transport/request over kept TLS", 6),
    ("proto/parse ES256", 6),
    ("proto/verify ES256", 6),
    ("proto/key authorization", 1),
    ("json/newOrder request", 1),
    ("json/finalize request", 1),
    ("json/order", 2),
    ("json/authorization", 2),
    ("json/challenge", 1),
    ("challenge/http-01", 1),
    ("ca/check CSR P-256", 1),
    ("ca/build P-256", 1),
    ("ca/sign and check P-256", 1),
];

/// The same of the store, on either database. What is read with its account redeems a nonce on the way.
const STORED: [Count; 11] = [
    ("issue nonce", 6),
    ("check nonce", 6),
    ("account", 1),
    ("create order", 1),
    ("account and authorization", 3),
    ("begin validation", 1),
    ("record validation", 1),
    ("account and order", 1),
    ("begin issuance", 1),
    ("record issuance", 1),
    ("account and certificate", 1),
];

type Count = (&'static str, u32);

#[derive(Debug, Args)]
pub(crate) struct FloorArgs {
    /// On these databases
    #[arg(long, value_enum, value_delimiter = ',', default_values_t = Database::BOTH.to_vec())]
    database: Vec<Database>,
    /// Write the figures here too, as JSON
    #[arg(long, value_name = "FILE")]
    json: Option<PathBuf>,
    /// Install nothing: name what is missing and fail
    #[arg(long)]
    no_install: bool,
}

/// What the run found.
#[derive(Debug, Serialize)]
struct Report {
    machine: Machine,
    stages: Vec<StageCost>,
    wholes: Vec<Whole>,
}

/// A stage, in microseconds of CPU time.
#[derive(Debug, Clone, PartialEq, Serialize)]
struct StageCost {
    stage: String,
    once_us: f64,
    times: u32,
}

impl StageCost {
    fn us(&self) -> f64 {
        self.once_us * f64::from(self.times)
    }
}

/// A database's server, in milliseconds of CPU time for each certificate.
#[derive(Debug, Clone, PartialEq, Serialize)]
struct Whole {
    database: Database,
    demanded_ms: f64,
    stored_ms: f64,
    whole_ms: f64,
}

impl Whole {
    fn sum_ms(&self) -> f64 {
        self.demanded_ms + self.stored_ms
    }

    fn row(&self) -> [String; 6] {
        [
            self.database.to_string(),
            format!("{:.3}", self.demanded_ms),
            format!("{:.3}", self.stored_ms),
            format!("{:.3}", self.sum_ms()),
            format!("{:.3}", self.whole_ms),
            format!("{:.2}", self.whole_ms / self.sum_ms()),
        ]
    }
}

pub(crate) fn run(args: &FloorArgs) -> Result<(), Failure> {
    let machine = Machine::read()?;
    let programs = Programs::collect()?;
    let installing = Installing::unless_forbidden(args.no_install);
    let cluster = args.database.contains(&Database::Postgres).then(|| Cluster::start(installing)).transpose()?;
    let figures = stages(cluster.as_ref())?;
    drop(cluster);
    let demanded = costs(&figures, "", &DEMANDED)?;
    let mut report = Report { machine, stages: demanded.clone(), wholes: Vec::new() };
    let stage = Stage::new(&args.database, installing)?;
    for &database in &args.database {
        let stored = costs(&figures, &format!("{database}/"), &STORED)?;
        let setting = Setting {
            database: Some(database),
            challenge: ChallengeType::Http01,
            clients: CLIENTS,
            identifiers: 1,
            warm_up: WARM_UP,
            duration: MEASURED,
        };
        let measured = stage.measure(programs.server(), "akamu", &setting)?;
        let unknown = || Failure::new("the server's CPU time is not known");
        report.wholes.push(Whole {
            database,
            demanded_ms: sum_ms(&demanded),
            stored_ms: sum_ms(&stored),
            whole_ms: measured.cpu_ms_per_certificate.ok_or_else(unknown)?,
        });
        report.stages.extend(stored);
    }
    print!("{}", report.tables());
    args.json.as_deref().map_or(Ok(()), |path| write_json(&report, path))
}

impl Report {
    fn tables(&self) -> String {
        let stages = self.stages.iter().map(|it| {
            [it.stage.clone(), format!("{:.2}", it.once_us), it.times.to_string(), format!("{:.1}", it.us())]
        });
        let stages = table(["stage", "µs", "times", "µs a certificate"], stages);
        let heading = ["database", "protocol ms", "store ms", "floor ms", "whole ms", "ratio"];
        let wholes = table(heading, self.wholes.iter().map(Whole::row));
        format!("{}\n{stages}\n{wholes}", self.machine)
    }
}

fn sum_ms(costs: &[StageCost]) -> f64 {
    costs.iter().map(StageCost::us).sum::<f64>() / 1_000.0
}

/// What criterion measured, in microseconds, by the benchmark's name.
type Figures = BTreeMap<String, f64>;

/// Runs the benchmarks that are needed.
fn stages(cluster: Option<&Cluster>) -> Result<Figures, Failure> {
    let home = tempfile::tempdir().context(|| "cannot make a directory for the benchmarks".to_owned())?;
    let mut command = process::cargo();
    command.args(["bench", "--locked", "--quiet", "--workspace", "--bench", "floor", "--", "--noplot", &wanted()]);
    command.env("CRITERION_HOME", home.path());
    // Without it they leave PostgreSQL out.
    match cluster {
        Some(cluster) => command.env("AKAMU_TEST_POSTGRES_URL", cluster.url()),
        None => command.env_remove("AKAMU_TEST_POSTGRES_URL"),
    };
    process::run(&mut command)?;
    read(home.path())
}

/// A regular expression that matches the benchmarks that are counted, and no other one.
fn wanted() -> String {
    let stored = STORED.iter().map(|(name, _)| format!("(sqlite|postgres)/{name}"));
    let all: Vec<String> = DEMANDED.iter().map(|(name, _)| (*name).to_owned()).chain(stored).collect();
    format!("^({})$", all.join("|"))
}

/// What criterion writes of a benchmark: its name.
#[derive(Debug, Deserialize)]
struct Benchmark {
    full_id: String,
}

/// What criterion writes of a benchmark: nanoseconds.
#[derive(Debug, Deserialize)]
struct Estimates {
    median: Estimate,
}

#[derive(Debug, Deserialize)]
struct Estimate {
    point_estimate: f64,
}

/// A group and a benchmark have a directory each, below which the last run is `new`.
fn read(home: &Path) -> Result<Figures, Failure> {
    let mut figures = Figures::new();
    for group in directories(home)? {
        for benchmark in directories(&group)? {
            let new = benchmark.join("new");
            if new.is_dir() {
                let (name, estimates): (Benchmark, Estimates) =
                    (json(&new.join("benchmark.json"))?, json(&new.join("estimates.json"))?);
                figures.insert(name.full_id, estimates.median.point_estimate / 1_000.0);
            }
        }
    }
    Ok(figures)
}

fn directories(path: &Path) -> Result<Vec<PathBuf>, Failure> {
    let entries = fs::read_dir(path).context(|| format!("cannot list {}", path.display()))?;
    Ok(entries.filter_map(|it| Some(it.ok()?.path())).filter(|it| it.is_dir()).collect())
}

fn json<T: for<'a> Deserialize<'a>>(path: &Path) -> Result<T, Failure> {
    let reading = || format!("cannot read {}", path.display());
    serde_json::from_slice(&fs::read(path).context(reading)?).context(reading)
}

fn costs(figures: &Figures, group: &str, counts: &[Count]) -> Result<Vec<StageCost>, Failure> {
    let cost = |(name, times): &Count| {
        let stage = format!("{group}{name}");
        let once_us = figures.get(&stage).ok_or_else(|| Failure::new(format!("no benchmark measured {stage:?}")))?;
        Ok(StageCost { once_us: *once_us, times: *times, stage })
    };
    counts.iter().map(cost).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_criterion_wrote_is_found_by_name() {
        let home = tempfile::tempdir().unwrap();
        for (directory, name, ns) in [("sqlite/create order", "sqlite/create order", 90_000.0), ("a/b", "a/b", 1.0)] {
            let new = home.path().join(directory).join("new");
            fs::create_dir_all(&new).unwrap();
            fs::write(new.join("benchmark.json"), format!(r#"{{"group_id":"g","full_id":"{name}"}}"#)).unwrap();
            let estimates = format!(r#"{{"mean":{{"point_estimate":7.0}},"median":{{"point_estimate":{ns}}}}}"#);
            fs::write(new.join("estimates.json"), estimates).unwrap();
        }
        fs::create_dir_all(home.path().join("sqlite/report")).unwrap();
        let figures = read(home.path()).unwrap();
        assert_eq!(figures.len(), 2);
        let found = costs(&figures, "sqlite/", &[("create order", 2)]).unwrap();
        let [cost] = found.as_slice() else { panic!("{found:?}") };
        assert_eq!((cost.once_us, cost.us()), (90.0, 180.0));
        let failure = costs(&figures, "postgres/", &[("create order", 2)]).unwrap_err();
        assert_eq!(failure.to_string(), "no benchmark measured \"postgres/create order\"");
    }

    #[test]
    fn the_sum_and_the_whole_are_compared() {
        let whole = Whole { database: Database::Sqlite, demanded_ms: 0.4, stored_ms: 0.1, whole_ms: 0.75 };
        assert_eq!(whole.row(), ["sqlite", "0.400", "0.100", "0.500", "0.750", "1.50"]);
    }
}
