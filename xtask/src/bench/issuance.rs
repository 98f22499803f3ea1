//! Certificates a second and what each costs, for each database, type of challenge and number of clients.

use std::fs;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use clap::Args;

use super::figures::Durations;
use super::machine::Machine;
use super::measurement::{Measurement, Setting, Target};
use super::paired::{self, Ratio};
use super::proofs::ChallengeType;
use super::report::Report;
use super::work::{self, Work};
use crate::e2e::Database;
use crate::failure::{Context, Failure};
use crate::name_server::NameServer;
use crate::packages::Installing;
use crate::postgres::Cluster;
use crate::programs::Programs;
use crate::server::{self, Place, Ports};

/// How often a server is started on the database that a run left.
const STARTS: usize = 5;

#[derive(Debug, Args)]
pub(crate) struct IssuanceArgs {
    /// On these databases
    #[arg(long, value_enum, value_delimiter = ',', default_values_t = Database::BOTH.to_vec())]
    database: Vec<Database>,
    /// By these types of challenge
    #[arg(long, value_enum, value_delimiter = ',', default_values_t = ChallengeType::ALL)]
    challenge: Vec<ChallengeType>,
    /// With so many clients at once
    #[arg(long, value_delimiter = ',', default_values_t = [1, 8, 32], value_parser = clap::value_parser!(u32).range(1..=4096))]
    clients: Vec<u32>,
    /// For so many names an order
    #[arg(long, value_delimiter = ',', default_values_t = [1], value_parser = clap::value_parser!(u32).range(1..=100))]
    identifiers: Vec<u32>,
    /// How long each row is measured
    #[arg(long, default_value_t = 10, value_name = "SECONDS", value_parser = clap::value_parser!(u64).range(1..=3600))]
    seconds: u64,
    /// How long the clients work before that
    #[arg(long, default_value_t = 2, value_name = "SECONDS", value_parser = clap::value_parser!(u64).range(0..=3600))]
    warm_up: u64,
    /// Write the figures here too, as JSON
    #[arg(long, value_name = "FILE")]
    json: Option<PathBuf>,
    /// Measure this server too, as the one before, in turn with ours, and print the ratios
    #[arg(long, value_name = "BINARY", conflicts_with = "against")]
    paired: Option<PathBuf>,
    /// How often both are measured, twice each time
    #[arg(long, default_value_t = 3, requires = "paired", value_parser = clap::value_parser!(u32).range(1..=1000))]
    rounds: u32,
    /// Install nothing: name what is missing and fail
    #[arg(long)]
    no_install: bool,
    /// Measure the server whose directory is here, instead of ours
    #[arg(long, value_name = "URL", requires = "root")]
    against: Option<String>,
    /// The certificate that leads to that server's, PEM
    #[arg(long, value_name = "FILE", requires = "against")]
    root: Option<PathBuf>,
    /// That server's process, to count its CPU time and memory
    #[arg(long, requires = "against")]
    pid: Option<u32>,
    /// Where that server looks for http-01
    #[arg(long, value_name = "PORT", default_value_t = 5002, requires = "against")]
    http_port: u16,
    /// Where that server looks for tls-alpn-01
    #[arg(long, value_name = "PORT", default_value_t = 5001, requires = "against")]
    tls_port: u16,
    /// Where that server's DNS is to answer, on 127.0.0.1
    #[arg(long, value_name = "PORT", default_value_t = 8053, requires = "against")]
    dns_port: u16,
}

pub(crate) fn run(args: &IssuanceArgs) -> Result<(), Failure> {
    let mut report = Report { machine: Machine::read()?, rows: Vec::new(), ratios: Vec::new() };
    match (&args.against, &args.paired) {
        (Some(url), _) => report.rows = against(url, args)?,
        (None, Some(other)) => (report.rows, report.ratios) = paired(other, args)?,
        (None, None) => report.rows = ours(args)?,
    }
    print!("{}", report.tables());
    args.json.as_deref().map_or(Ok(()), |path| report.write(path))
}

/// The server of this checkout, a new one for each row.
fn ours(args: &IssuanceArgs) -> Result<Vec<Measurement>, Failure> {
    let programs = Programs::collect()?;
    let stage = Stage::new(&args.database, Installing::unless_forbidden(args.no_install))?;
    let settings = args.settings(args.database.iter().copied().map(Some));
    settings.map(|setting| stage.measure(programs.server(), "akamu", &setting)).collect()
}

/// Another server, and that of this checkout.
fn paired(other: &Path, args: &IssuanceArgs) -> Result<(Vec<Measurement>, Vec<Ratio>), Failure> {
    // It will be started in another directory.
    let other = fs::canonicalize(other).context(|| format!("cannot find the server {}", other.display()))?;
    let programs = Programs::collect()?;
    let stage = Stage::new(&args.database, Installing::unless_forbidden(args.no_install))?;
    let (mut rows, mut ratios) = (Vec::new(), Vec::new());
    for setting in args.settings(args.database.iter().copied().map(Some)) {
        let before = || stage.measure(&other, "before", &setting);
        let after = || stage.measure(programs.server(), "after", &setting);
        let measured = paired::measure(&setting, args.rounds, before, after)?;
        rows.extend(measured.0);
        ratios.extend(measured.1);
    }
    Ok((rows, ratios))
}

/// A server that others started.
fn against(url: &str, args: &IssuanceArgs) -> Result<Vec<Measurement>, Failure> {
    let name_server = NameServer::start_at(args.dns_port)?;
    let target = Target {
        directory_url: url.to_owned(),
        root: args.root.clone().unwrap_or_default(),
        http_port: args.http_port,
        tls_port: args.tls_port,
        records: name_server.records(),
        process: args.pid,
        database_process: None,
        directory: None,
        work: &|| Ok(Work::default()),
    };
    args.settings([None].into_iter()).map(|setting| target.measure(url, &setting)).collect()
}

impl IssuanceArgs {
    fn settings(&self, databases: impl Iterator<Item = Option<Database>>) -> impl Iterator<Item = Setting> {
        let (warm_up, duration) = (Duration::from_secs(self.warm_up), Duration::from_secs(self.seconds));
        databases.flat_map(move |database| {
            self.challenge.iter().flat_map(move |&challenge| {
                self.clients.iter().flat_map(move |&clients| {
                    let setting =
                        move |&identifiers| Setting { database, challenge, clients, identifiers, warm_up, duration };
                    self.identifiers.iter().map(setting)
                })
            })
        })
    }
}

/// Where servers of ours run one after the other.
#[derive(Debug)]
pub(super) struct Site {
    pub(super) place: Place,
    /// Its name on the cluster; absent: SQLite's, in the directory.
    pub(super) database: Option<String>,
}

/// What servers of ours need around them.
#[derive(Debug)]
pub(super) struct Stage {
    name_server: NameServer,
    cluster: Option<Cluster>,
}

impl Stage {
    pub(super) fn new(databases: &[Database], installing: Installing) -> Result<Self, Failure> {
        let needs_cluster = databases.contains(&Database::Postgres);
        let cluster = if needs_cluster { Some(Cluster::start_durable(installing)?) } else { None };
        Ok(Self { name_server: NameServer::start()?, cluster })
    }

    pub(super) fn cluster(&self) -> Option<&Cluster> {
        self.cluster.as_ref()
    }

    /// A directory for servers, with a database of its own, and these tables in its configuration.
    pub(super) fn site(&self, database: Option<Database>, tables: &str) -> Result<Site, Failure> {
        let cluster = self.cluster.as_ref().filter(|_| database == Some(Database::Postgres));
        let database = cluster.map(|_| format!("akamu_bench_{}", fastrand::u32(..)));
        let mut url = None;
        if let Some((cluster, database)) = cluster.zip(database.as_deref()) {
            url = Some(cluster.create_database(database)?);
            work::prepare(cluster, database)?;
        }
        let place = Place::new(|ports| configuration(ports, &self.name_server, url.as_deref()) + tables)?;
        Ok(Site { place, database })
    }

    /// A new server, with a database of its own.
    pub(super) fn measure(&self, binary: &Path, name: &str, setting: &Setting) -> Result<Measurement, Failure> {
        self.measure_at(&self.site(setting.database, "")?, binary, name, setting)
    }

    /// A server on what earlier ones left.
    pub(super) fn measure_at(
        &self,
        site: &Site,
        binary: &Path,
        name: &str,
        setting: &Setting,
    ) -> Result<Measurement, Failure> {
        let Site { place, database } = site;
        let on_cluster = self.cluster.as_ref().zip(database.as_deref());
        let server = place.start(binary)?;
        let (ports, process) = (server.ports(), server.id());
        let work = || match on_cluster {
            Some((cluster, database)) => work::shared(cluster, database, ports.admin),
            None => work::embedded(process, ports.admin),
        };
        let target = Target {
            directory_url: server.directory_url().to_owned(),
            root: server.root(),
            http_port: ports.http,
            tls_port: ports.tls,
            records: self.name_server.records(),
            process: Some(process),
            database_process: on_cluster.map(|(cluster, _)| cluster.id()).transpose()?,
            directory: Some(on_cluster.map_or_else(|| place.directory(), |(cluster, _)| cluster.directory())),
            work: &work,
        };
        let row = target.measure(name, setting)?;
        server.stop()?;

        let mut starts = Durations::default();
        for _ in 0..STARTS {
            let begun = Instant::now();
            let server = place.start(binary)?;
            starts.push(begun.elapsed());
            server.stop()?;
        }
        Ok(Measurement { start_ms: starts.quantiles().map(|it| it.p50), ..row })
    }
}

fn configuration(ports: &Ports, name_server: &NameServer, database_url: Option<&str>) -> String {
    // It ends within [server].
    let common = server::on_loopback(ports.listen, ports, name_server, database_url.unwrap_or(server::SQLITE));
    let admin = ports.admin;
    format!("{common}dns_persist_issuer_domain = \"ca.test\"\n\n[admin]\nlisten_addr = \"127.0.0.1:{admin}\"\n")
}
