//! `cargo xtask flood`: what a server withstands that anybody can reach. Dead and slow connections, garbage and floods of
//! newNonce come from a process of their own, while honest clients get their certificates.

mod dead;
mod honest;
mod lateness;
mod load;
mod requests;
mod rows;

use std::path::Path;
use std::process::Command;
use std::time::Duration;

use clap::Args;
use serde_json::Value;
use tokio::runtime::Runtime;

use self::honest::{Clients, Seen};
pub(crate) use self::load::{LoadArgs, run as load};
use crate::acme::Directory;
use crate::bench::figures::{megabytes, resident};
use crate::e2e::Database;
use crate::failure::{Context, Failure};
use crate::name_server::NameServer;
use crate::packages::{self, Installing};
use crate::postgres::Cluster;
use crate::process;
use crate::programs::Programs;
use crate::responder::Responder;
use crate::server::{self, Ports, Server};
use crate::table::Table;

/// The most memory that the server may have had.
const MEMORY: u64 = 128_000_000;
/// Every dead connection is closed by then.
const CLOSED_WITHIN: Duration = Duration::from_secs(60);
/// How much longer than alone the slowest honest certificates may take.
const SLOWER: f64 = 2.0;

#[derive(Debug, Args)]
pub(crate) struct FloodArgs {
    /// How many dead and slow connections
    #[arg(long, default_value_t = 2_000)]
    connections: u32,
    /// How many of them are opened in a second
    #[arg(long, default_value_t = 200, value_parser = clap::value_parser!(u32).range(1..))]
    connections_per_second: u32,
    /// How many requests with garbage
    #[arg(long, default_value_t = 10_000)]
    garbage: u32,
    /// And in a second, beside honest clients
    #[arg(long, default_value_t = 200, value_parser = clap::value_parser!(u32).range(1..))]
    garbage_per_second: u32,
    /// How many nonces are asked for
    #[arg(long, default_value_t = 50_000)]
    nonces: u32,
    /// And in a second, beside honest clients
    #[arg(long, default_value_t = 500, value_parser = clap::value_parser!(u32).range(1..))]
    nonces_per_second: u32,
    /// How long honest clients are measured alone, in seconds
    #[arg(long, default_value_t = 30)]
    alone_secs: u64,
    /// On this database alone
    #[arg(long, value_enum)]
    database: Option<Database>,
    /// Say how much slower honest clients are, and do not judge it
    #[arg(long)]
    any_slowness: bool,
    /// Install nothing: name what is missing and fail
    #[arg(long)]
    no_install: bool,
}

impl FloodArgs {
    /// Half a minute of it, for the tests. Other programs run meanwhile: slowness shows nothing.
    pub(crate) fn short(no_install: bool) -> Self {
        Self {
            connections: 600,
            connections_per_second: 300,
            garbage: 300,
            garbage_per_second: 50,
            nonces: 1_000,
            nonces_per_second: 100,
            alone_secs: 2,
            database: Some(Database::Sqlite),
            any_slowness: true,
            no_install,
        }
    }
}

pub(crate) fn run(args: &FloodArgs) -> Result<(), Failure> {
    let installing = Installing::unless_forbidden(args.no_install);
    packages::ensure(rows::NEEDED, installing, process::in_path)?;
    let programs = Programs::collect()?;
    let heading = [
        "database",
        "dead connections",
        "last closed",
        "requests",
        "answered 5xx",
        "rows",
        "peak memory",
        "honest clients",
        "certificates",
        "tried again",
        "alone",
        "meanwhile",
        "p99 ratio",
    ];
    let mut table = vec![heading.map(str::to_owned)];
    let mut wrong = Vec::new();
    for database in [Database::Sqlite, Database::Postgres] {
        if args.database.is_none_or(|only| only == database) {
            println!(
                "flood: {database}: {} connections/s opened, {} requests/s with garbage, {} newNonce/s",
                args.connections_per_second, args.garbage_per_second, args.nonces_per_second
            );
            table.extend(run_on(database, args, &programs, installing, &mut wrong)?);
        }
    }
    println!("{}(honest: median / 99th percentile / maximum, ms, from newOrder to the certificate)", Table(table));
    for it in &wrong {
        println!("WRONG: {it}");
    }
    if wrong.is_empty() { Ok(()) } else { Err(Failure::new(format!("{} things went wrong (above)", wrong.len()))) }
}

fn run_on(
    database: Database,
    args: &FloodArgs,
    programs: &Programs,
    installing: Installing,
    wrong: &mut Vec<String>,
) -> Result<Vec<[String; 13]>, Failure> {
    let cluster = if database == Database::Postgres { Some(Cluster::start(installing)?) } else { None };
    let url = cluster.as_ref().map(|it| it.create_database(rows::DATABASE)).transpose()?;
    let name_server = NameServer::start()?;
    let url = url.as_deref().unwrap_or(server::SQLITE);
    let configuration = |ports: &Ports| server::on_loopback(ports.listen, ports, &name_server, url);
    let server = Server::start(programs.server(), configuration)?;
    let runtime = Runtime::new().context(|| "cannot start the clients".to_owned())?;
    let (responder, directory) = runtime.block_on(async {
        let responder = Responder::start(server.ports().http)?;
        Ok::<_, Failure>((responder, Directory::fetch(server.directory_url(), &server.root()).await?))
    })?;
    let flood = |arguments: &[(&str, u32)]| Flood::run(programs.hook(), &server, arguments);
    let honest = |while_this: &mut dyn FnMut() -> Result<(), Failure>| {
        let clients = runtime.block_on(Clients::start(&directory, &responder))?;
        let done = while_this();
        let seen = runtime.block_on(clients.finish());
        done.map(|()| seen)
    };

    // As fast as they are answered, and nobody else writes.
    let before = rows::count(&server, cluster.as_ref())?;
    let stored_nothing = flood(&[("--garbage", args.garbage), ("--nonces", args.nonces)])?;
    let after = rows::count(&server, cluster.as_ref())?;

    let alone = honest(&mut || {
        std::thread::sleep(Duration::from_secs(args.alone_secs));
        Ok(())
    })?;
    let mut flooded = None;
    let meanwhile = honest(&mut || {
        flooded = Some(flood(&[
            ("--connections", args.connections),
            ("--connections-per-second", args.connections_per_second),
            ("--garbage", u32::MAX),
            ("--garbage-per-second", args.garbage_per_second),
            ("--nonces", u32::MAX),
            ("--nonces-per-second", args.nonces_per_second),
        ])?);
        Ok(())
    })?;
    let flooded = flooded.unwrap_or_default();
    let (_, memory) = resident(server.id())?;
    server.stop()?;

    let mut judge = |is_right: bool, what: String| {
        if !is_right {
            wrong.push(format!("{database}: {what}"));
        }
    };
    let requests = stored_nothing.requests + flooded.requests;
    let server_errors = stored_nothing.server_errors + flooded.server_errors + meanwhile.server_errors();
    judge(before == after, format!("a flood of newNonce and garbage stored something: {before} became {after}"));
    judge(memory <= MEMORY, format!("the server had {}; {} are allowed", megabytes(memory), megabytes(MEMORY)));
    judge(flooded.open == 0, format!("{} dead connections are still open", flooded.open));
    judge(
        flooded.last_closed - flooded.late <= CLOSED_WITHIN.as_secs_f64(),
        format!("a dead connection was closed after {:.1} s", flooded.last_closed),
    );
    judge(server_errors == 0, format!("{server_errors} requests were answered 5xx"));
    judge(
        stored_nothing.requests >= u64::from(args.garbage) + u64::from(args.nonces),
        "requests are missing".to_owned(),
    );
    println!(
        "flood: {database}: the honest clients' own process was late by up to {} ms alone, {} ms meanwhile",
        alone.late.as_millis(),
        meanwhile.late.as_millis()
    );
    for failure in alone.failures().chain(meanwhile.failures()) {
        judge(false, failure.clone());
    }
    let mut table = Vec::new();
    for (name, alone, meanwhile) in [("kept", &alone.kept, &meanwhile.kept), ("anew", &alone.anew, &meanwhile.anew)] {
        let ratio = Seen::ratio(alone, meanwhile);
        judge(args.any_slowness || ratio <= SLOWER, format!("honest clients ({name}) are {ratio:.2} times as slow"));
        judge(meanwhile.durations.count() > 0, format!("honest clients ({name}) had no certificate"));
        let first = |text: String| if name == "kept" { text } else { String::new() };
        table.push([
            first(database.to_string()),
            first(args.connections.to_string()),
            first(format!("{:.1} s", flooded.last_closed)),
            first(requests.to_string()),
            first(server_errors.to_string()),
            first(if before == after { "unchanged".to_owned() } else { "CHANGED".to_owned() }),
            first(megabytes(memory)),
            name.to_owned(),
            meanwhile.durations.count().to_string(),
            meanwhile.tried_again().to_string(),
            alone.durations.to_string(),
            meanwhile.durations.to_string(),
            format!("{ratio:.2}"),
        ]);
    }
    Ok(table)
}

/// What the process of the flood saw.
#[derive(Debug, Default)]
struct Flood {
    requests: u64,
    server_errors: u64,
    /// Dead connections that nobody has closed.
    open: u64,
    /// Seconds from its opening until the flood saw it.
    last_closed: f64,
    /// Seconds for which the flood itself waited for the processor, at most.
    late: f64,
}

impl Flood {
    /// Runs it in a process of its own, which gives way to the server: it is the server that is measured.
    fn run(program: &Path, server: &Server, arguments: &[(&str, u32)]) -> Result<Self, Failure> {
        let mut command = Command::new(program);
        command.args(["flood-load", "--directory", server.directory_url(), "--root"]).arg(server.root());
        for (name, value) in arguments {
            command.args([*name, &value.to_string()]);
        }
        let said = process::output(&mut command)?;
        let said: Value = serde_json::from_str(&said).context(|| format!("the flood says {said:?}"))?;
        let count = |name: &str| said.get(name).and_then(Value::as_u64).unwrap_or_default();
        let seconds = |name: &str| said.get(name).and_then(Value::as_f64).unwrap_or_default();
        let told = said.get("told").and_then(Value::as_str).unwrap_or_default();
        println!("flood: {told}");
        Ok(Self {
            requests: count("requests"),
            server_errors: count("server_errors"),
            open: count("open"),
            last_closed: seconds("last_closed"),
            late: seconds("late"),
        })
    }
}
