//! `cargo xtask e2e`: real ACME clients against the real binary, each certificate checked by openssl.

mod acme_tiny;
mod certbot;
mod certificate;
mod client;
mod database;
mod dehydrated;
pub(crate) mod dns_hook;
mod lego;
mod pkilint;
mod python_package;
mod stage;

mod tls_files;
mod trial;
mod web_root;

use clap::Args;

use self::client::{Client, Scenario};
pub(crate) use self::database::Database;
use self::stage::Stage;
use crate::failure::Failure;
use crate::name_server::{INNER_ZONE, NameServer};
use crate::packages::{self, Installing};
use crate::postgres::Cluster;
use crate::process;
use crate::programs::Programs;
use crate::server::{Ports, Server};
use crate::table::Table;

const CLIENTS: &[Client] =
    &[certbot::CERTBOT, lego::LEGO, dehydrated::DEHYDRATED, acme_tiny::ACME_TINY, pkilint::PKILINT, trial::TRIAL];

/// Below the data directory.
const SQLITE_URL: &str = "sqlite://akamu.db";

#[derive(Debug, Default, Args)]
pub(crate) struct E2eArgs {
    /// Run this client alone
    #[arg(long, value_name = "NAME")]
    only: Option<String>,
    /// Keep the server's state in this database alone
    #[arg(long, value_enum)]
    database: Option<Database>,
}

impl E2eArgs {
    /// Every client on one database.
    pub(crate) fn on(database: Database) -> Self {
        Self { only: None, database: Some(database) }
    }

    fn wants(&self, database: Database) -> bool {
        self.database.is_none_or(|only| only == database)
    }
}

/// A client that is ready to run.
#[derive(Debug)]
struct Prepared {
    client: &'static Client,
    /// Its name and version.
    named: String,
}

/// What came of one scenario.
#[derive(Debug)]
struct Outcome {
    client: String,
    database: Database,
    scenario: &'static Scenario,
    result: Result<(), Failure>,
}

/// Runs every scenario of every client on each database, prints the table, and fails where one failed. PostgreSQL is
/// `cluster`, or one that is started for the run.
pub(crate) fn run(args: &E2eArgs, cluster: Option<&Cluster>, installing: Installing) -> Result<(), Failure> {
    let clients = chosen(args)?;
    let on = |database: Database| clients.iter().any(|it| args.wants(database) && it.databases.contains(&database));
    let mut rounds = Vec::new();
    if on(Database::Sqlite) {
        rounds.push((Database::Sqlite, SQLITE_URL.to_owned()));
    }
    let own;
    if on(Database::Postgres) {
        let cluster = if let Some(shared) = cluster {
            shared
        } else {
            own = Cluster::start(installing)?;
            &own
        };
        rounds.push((Database::Postgres, cluster.create_database("akamu_e2e")?));
    }
    let prepared = clients.into_iter().map(|client| prepare(client, installing)).collect::<Result<Vec<_>, _>>()?;
    let programs = Programs::collect()?;

    let mut outcomes = Vec::new();
    let ended =
        rounds.iter().try_for_each(|(database, url)| run_on(*database, url, &prepared, &programs, &mut outcomes));
    print!("{}", table(&outcomes));
    ended?;
    match outcomes.iter().filter(|outcome| outcome.result.is_err()).count() {
        0 => Ok(()),
        failed => Err(Failure::new(format!("{failed} of {} scenarios failed (above)", outcomes.len()))),
    }
}

fn prepare(client: &'static Client, installing: Installing) -> Result<Prepared, Failure> {
    packages::ensure(client.needed, installing, process::in_path)?;
    let version = (client.prepare)(installing)?;
    Ok(Prepared { client, named: format!("{} {version}", client.name) })
}

/// Runs the clients against one server, whose state is in the database at `url`.
fn run_on(
    database: Database,
    url: &str,
    clients: &[Prepared],
    programs: &Programs,
    outcomes: &mut Vec<Outcome>,
) -> Result<(), Failure> {
    let name_server = NameServer::start()?;
    let server = Server::start(programs.server(), |ports| configuration(ports, &name_server, url))?;
    println!("{database}: {}", server.directory_url());
    for Prepared { client, named } in clients.iter().filter(|it| it.client.databases.contains(&database)) {
        let stage = Stage::new(&server, &name_server, programs, client.name)?;
        for scenario in client.scenarios {
            println!("{database}: {named}: {} {}", scenario.challenge, scenario.does);
            let result = (scenario.run)(&stage);
            if let Err(failure) = &result {
                println!("{failure}\n{}", stage.log_tails());
            }
            outcomes.push(Outcome { client: named.clone(), database, scenario, result });
        }
    }
    server.stop()
}

/// Like an operator's, with `name_server` for every lookup.
fn configuration(ports: &Ports, name_server: &NameServer, database_url: &str) -> String {
    let Ports { listen: port, http: http_port, tls: tls_port, .. } = ports;
    let (address, inner) = (name_server.address(), name_server.inner_address());
    format!(
        r#"listen_addr = "127.0.0.1:{port}"
base_url = "https://localhost:{port}"
data_dir = "data"

[database]
url = "{database_url}"

[ca]
crl_url = "http://ca.e2e.test/ca/crl"
issuer_url = "http://ca.e2e.test/ca/issuer.der"

[server]
http_validation_port = {http_port}
tls_validation_port = {tls_port}
dns_resolver_addr = "{address}"
address_resolver_addr = "{address}"
validation_allow_networks = ["127.0.0.0/8", "::1/128"]
dns_persist_issuer_domain = "ca.e2e.test"
http01_max_redirects = 2

[[server.dns_forwarders]]
zone = "{INNER_ZONE}"
# The first is closed.
addrs = ["127.0.0.1:1", "{inner}"]
"#
    )
}

/// The clients that `args` asks for: all that run on its database, or the one that it names.
fn chosen(args: &E2eArgs) -> Result<Vec<&'static Client>, Failure> {
    let runs = |client: &&Client| client.databases.iter().any(|database| args.wants(*database));
    let Some(name) = &args.only else { return Ok(CLIENTS.iter().filter(runs).collect()) };
    let names: Vec<&str> = CLIENTS.iter().map(|client| client.name).collect();
    let client = CLIENTS.iter().find(|client| client.name == name);
    let client = client.ok_or_else(|| Failure::new(format!("no client {name}: {}", names.join(", "))))?;
    let only = || Failure::new(format!("{name} does not run on the database of --database"));
    Some(client).filter(runs).map(|client| vec![client]).ok_or_else(only)
}

fn table(outcomes: &[Outcome]) -> Table<5> {
    let mut rows = vec![["client", "database", "challenge", "what it did", "result"].map(str::to_owned)];
    for Outcome { client, database, scenario, result } in outcomes {
        let result = match result {
            Ok(()) => "passed".to_owned(),
            Err(failure) => format!("FAILED: {}", failure.to_string().lines().next().unwrap_or_default()),
        };
        let (challenge, does) = (scenario.challenge.to_owned(), scenario.does.to_owned());
        rows.push([client.clone(), database.to_string(), challenge, does, result]);
    }
    Table(rows)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn chosen_names(only: Option<&str>, database: Option<Database>) -> Result<Vec<&'static str>, String> {
        let clients = chosen(&E2eArgs { only: only.map(str::to_owned), database });
        clients.map(|clients| clients.iter().map(|client| client.name).collect()).map_err(|failure| failure.to_string())
    }

    #[test]
    fn a_client_that_is_not_known_is_answered_with_those_that_are() {
        assert_eq!(chosen_names(Some("lego"), None).unwrap(), ["lego"]);
        assert_eq!(
            chosen_names(Some("leggo"), None).unwrap_err(),
            "no client leggo: certbot, lego, dehydrated, acme-tiny, pkilint, trial"
        );
    }

    #[test]
    fn a_client_runs_only_on_the_databases_that_it_has() {
        let on_postgres = chosen_names(None, Some(Database::Postgres)).unwrap();
        assert!(on_postgres.contains(&"lego") && !on_postgres.contains(&"trial"), "{on_postgres:?}");
        assert_eq!(chosen_names(Some("trial"), None).unwrap(), ["trial"]);
        assert_eq!(
            chosen_names(Some("trial"), Some(Database::Postgres)).unwrap_err(),
            "trial does not run on the database of --database"
        );
    }
}
