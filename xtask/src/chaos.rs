//! `cargo xtask chaos`: real processes are killed at any moment under real ACME traffic. Nothing that was acknowledged may
//! be lost, nothing may be stuck, nothing may happen twice.

mod balancer;
mod faults;
pub(crate) mod state;
pub(crate) mod traffic;

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use clap::Args;
use tokio::runtime::Runtime;

use self::faults::{Faults, Replicas};
use self::state::State;
use self::traffic::Traffic;
use crate::acme::{Directory, Patience};
use crate::e2e::Database;
use crate::failure::{Context, Failure};
use crate::name_server::NameServer;
use crate::packages::{self, Installing};
use crate::postgres::{Pair, free_port};
use crate::process;
use crate::programs::Programs;
use crate::responder::Responder;
use crate::server::{self, Place, Ports};
use crate::table::Table;

/// How long a request or an order may take, faults included: a dead replica's lease lasts 30 s.
pub(crate) const PATIENCE: Duration = Duration::from_secs(90);

/// The database on PostgreSQL.
const DATABASE: &str = "akamu_chaos";

/// How many clients issue at once.
pub(crate) const CLIENTS: u32 = 6;

#[derive(Debug, Args)]
pub(crate) struct ChaosArgs {
    /// How many faults
    #[arg(long, default_value_t = 50)]
    rounds: u32,
    /// On this database alone
    #[arg(long, value_enum)]
    database: Option<Database>,
    /// How many replicas on PostgreSQL
    #[arg(long, default_value_t = 3, value_parser = clap::value_parser!(u32).range(1..=9))]
    replicas: u32,
    /// Draw faults and moments from this number
    #[arg(long)]
    seed: Option<u64>,
    /// Install nothing: name what is missing and fail
    #[arg(long)]
    no_install: bool,
}

impl ChaosArgs {
    /// A few rounds, for the tests.
    pub(crate) fn short(database: Option<Database>, no_install: bool) -> Self {
        Self { rounds: 6, database, replicas: 3, seed: None, no_install }
    }
}

pub(crate) fn run(args: &ChaosArgs) -> Result<(), Failure> {
    let installing = Installing::unless_forbidden(args.no_install);
    packages::ensure(state::NEEDED, installing, process::in_path)?;
    let programs = Programs::collect()?;
    let seed = args.seed.unwrap_or_else(|| fastrand::u64(..1_000_000));
    let heading = [
        "database",
        "replicas",
        "kills",
        "stops",
        "database faults",
        "fail-overs",
        "outages",
        "requests",
        "unanswered",
        "answered 503",
        "replays refused",
        "certificates",
        "lost",
        "stuck",
        "twice",
        "longest wait",
        "slowest order",
    ];
    let mut rows = vec![heading.map(str::to_owned)];
    let mut wrong = Vec::new();
    for database in [Database::Sqlite, Database::Postgres] {
        if args.database.is_none_or(|only| only == database) {
            println!("chaos: {database}, --seed {seed}");
            rows.push(run_on(database, args, seed, programs.server(), installing, &mut wrong)?);
        }
    }
    print!("{}", Table(rows));
    for it in &wrong {
        println!("WRONG: {it}");
    }
    if wrong.is_empty() { Ok(()) } else { Err(Failure::new(format!("{} things went wrong (above)", wrong.len()))) }
}

fn run_on(
    database: Database,
    args: &ChaosArgs,
    seed: u64,
    binary: &Path,
    installing: Installing,
    wrong: &mut Vec<String>,
) -> Result<[String; 17], Failure> {
    let mut pair = if database == Database::Postgres { Some(Pair::start(installing)?) } else { None };
    let url = pair.as_ref().map(|it| it.primary().create_database(DATABASE).map(|_| it.url(DATABASE))).transpose()?;
    let count = if pair.is_some() { args.replicas } else { 1 };
    let name_server = NameServer::start()?;
    let common = Ports { listen: free_port()?, http: free_port()?, tls: free_port()?, admin: free_port()? };
    let url = url.as_deref().unwrap_or(server::SQLITE);
    // Each replica listens on a port of its own; clients come through the balancer on the common one.
    let place = || Place::new(|own| server::on_loopback(own.listen, &common, &name_server, url));
    let places = (0..count).map(|_| place()).collect::<Result<Vec<_>, _>>()?;
    let replicas = Replicas::start(&places, binary)?;
    let root = replicas.root();

    let runtime = Runtime::new().context(|| "cannot start the clients".to_owned())?;
    let patience = Arc::new(Patience::new(PATIENCE));
    let traffic = runtime.block_on(async {
        balancer::start(common.listen, places.iter().map(|it| it.ports().listen).collect())?;
        let responder = Responder::start(common.http)?;
        let directory = Directory::fetch(&format!("https://localhost:{}/acme/directory", common.listen), &root).await?;
        Ok::<_, Failure>(Traffic::start(CLIENTS, &directory, &patience, &responder))
    })?;
    let mut faults = Faults::new(replicas, pair.as_mut(), fastrand::Rng::with_seed(seed));
    let mut crashes = Vec::new();
    for round in 1..=args.rounds {
        let refused = patience.unavailable.load(Ordering::Relaxed);
        let what = faults.next(round)?;
        if what.is_long_outage && patience.unavailable.load(Ordering::Relaxed) == refused {
            wrong.push(format!("{database}: {what}, and no request was answered 503"));
        }
        println!("chaos: {database}: {round}: {what}");
        crashes.extend(what.crash);
    }
    let last_fault = Instant::now();
    let outcome = runtime.block_on(traffic.finish(&crashes));
    println!("chaos: {database}: all orders were over {:.1} s later", last_fault.elapsed().as_secs_f64());
    let counts = faults.stop()?;
    let state = State::read(&places, pair.as_ref().map(Pair::primary))?;

    let problems = outcome.wrong.iter().cloned().chain(state.wrong()).chain(patience.errors());
    wrong.extend(problems.map(|it| format!("{database}: {it}")));
    let seconds = |duration: Duration| format!("{:.1} s", duration.as_secs_f64());
    let seen = |counter: &AtomicU64| counter.load(Ordering::Relaxed).to_string();
    Ok([
        database.to_string(),
        count.to_string(),
        counts.kills.to_string(),
        counts.stops.to_string(),
        counts.of_database.to_string(),
        counts.fail_overs.to_string(),
        counts.outages.to_string(),
        seen(&patience.answered),
        seen(&patience.unanswered),
        seen(&patience.unavailable),
        outcome.replays_refused.to_string(),
        outcome.certificates.to_string(),
        outcome.lost.to_string(),
        state.stuck.to_string(),
        (state.twice + outcome.twice).to_string(),
        seconds(patience.longest()),
        seconds(outcome.slowest),
    ])
}
