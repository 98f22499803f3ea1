//! `cargo xtask chaos`: real processes are killed at any moment under real ACME traffic. Nothing that was acknowledged may
//! be lost, nothing may be stuck, nothing may happen twice.

mod balancer;
mod faults;
pub(crate) mod state;
pub(crate) mod traffic;

use std::fs;
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
use crate::postgres::{Cluster, free_port};
use crate::process;
use crate::programs::Programs;
use crate::responder::Responder;
use crate::server::{Place, Ports};
use crate::table::Table;

/// How long a request or an order may take, faults included: a dead replica's lease lasts 30 s.
pub(crate) const PATIENCE: Duration = Duration::from_secs(90);

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
) -> Result<[String; 15], Failure> {
    let mut cluster = if database == Database::Postgres { Some(Cluster::start(installing)?) } else { None };
    let url = cluster.as_ref().map(|it| it.create_database("akamu_chaos")).transpose()?;
    let count = if cluster.is_some() { args.replicas } else { 1 };
    let name_server = NameServer::start()?;
    let common = Ports { listen: free_port()?, http: free_port()?, tls: free_port()? };
    let place = || Place::new(|own| configuration(own, &common, &name_server, url.as_deref()));
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
    let mut faults = Faults::new(replicas, cluster.as_mut(), fastrand::Rng::with_seed(seed));
    for round in 1..=args.rounds {
        let what = faults.next()?;
        println!("chaos: {database}: {round}: {what}");
    }
    let last_fault = Instant::now();
    let outcome = runtime.block_on(traffic.finish());
    println!("chaos: {database}: all orders were over {:.1} s later", last_fault.elapsed().as_secs_f64());
    let (kills, stops, of_database) = (faults.kills, faults.stops, faults.of_database);
    faults.stop()?;
    let state = State::read(&places, cluster.as_ref())?;

    let problems = outcome.wrong.iter().cloned().chain(state.wrong()).chain(patience.errors());
    wrong.extend(problems.map(|it| format!("{database}: {it}")));
    let seconds = |duration: Duration| format!("{:.1} s", duration.as_secs_f64());
    let seen = |counter: &AtomicU64| counter.load(Ordering::Relaxed).to_string();
    Ok([
        database.to_string(),
        count.to_string(),
        kills.to_string(),
        stops.to_string(),
        of_database.to_string(),
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

/// Each replica listens on a port of its own; clients come through the balancer on the common one.
pub(crate) fn configuration(
    own: &Ports,
    common: &Ports,
    name_server: &NameServer,
    database_url: Option<&str>,
) -> String {
    let Ports { listen, http, tls } = common;
    let name_server = name_server.address();
    let database_url = database_url.unwrap_or("sqlite://akamu.db");
    format!(
        r#"listen_addr = "127.0.0.1:{}"
base_url = "https://localhost:{listen}"
data_dir = "data"

[database]
url = "{database_url}"

[server]
http_validation_port = {http}
tls_validation_port = {tls}
dns_resolver_addr = "{name_server}"
address_resolver_addr = "{name_server}"
validation_allow_networks = ["127.0.0.0/8"]
"#,
        own.listen
    )
}

/// The keys of the replica that started first: one that has none would make its own, and be refused.
fn share_keys(from: &Place, to: &Place) -> Result<(), Failure> {
    let copying = || "cannot give a replica its keys".to_owned();
    let keys = to.data_dir().join("keys");
    fs::create_dir_all(&keys).context(copying)?;
    for file in fs::read_dir(from.data_dir().join("keys")).context(copying)? {
        let file = file.context(copying)?;
        fs::copy(file.path(), keys.join(file.file_name())).context(copying)?;
    }
    fs::copy(from.root(), to.root()).context(copying)?;
    Ok(())
}
