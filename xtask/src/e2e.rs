//! `cargo xtask e2e`: real ACME clients against the real binary, each certificate checked by openssl.

mod acme_tiny;
mod certbot;
mod certificate;
mod client;
mod dehydrated;
pub(crate) mod dns_hook;
mod lego;
mod name_server;
mod programs;
mod server;
mod stage;
mod table;
mod trial;
mod web_root;

use clap::Args;

use self::client::{Client, Scenario};
use self::name_server::NameServer;
use self::programs::Programs;
use self::server::Server;
use self::stage::Stage;
use self::table::Table;
use crate::failure::Failure;
use crate::packages::{self, Installing};
use crate::process;

const CLIENTS: &[Client] = &[certbot::CERTBOT, lego::LEGO, dehydrated::DEHYDRATED, acme_tiny::ACME_TINY, trial::TRIAL];

#[derive(Debug, Default, Args)]
pub(crate) struct E2eArgs {
    /// Run this client alone
    #[arg(long, value_name = "NAME")]
    only: Option<String>,
}

/// What came of one scenario.
#[derive(Debug)]
struct Outcome {
    client: String,
    scenario: &'static Scenario,
    result: Result<(), Failure>,
}

/// Runs every scenario of every client, prints the table, and fails where one failed.
pub(crate) fn run(args: &E2eArgs, installing: Installing) -> Result<(), Failure> {
    let clients = chosen(args.only.as_deref())?;
    let mut versions = Vec::new();
    for client in &clients {
        packages::ensure(client.needed, installing, process::in_path)?;
        versions.push((client.prepare)(installing)?);
    }
    let programs = Programs::collect()?;
    let name_server = NameServer::start()?;
    let server = Server::start(programs.server(), name_server.address())?;

    let mut outcomes = Vec::new();
    for (client, version) in clients.into_iter().zip(versions) {
        let stage = Stage::new(&server, &name_server, &programs, client.name)?;
        outcomes.extend(run_client(client, &version, &stage));
    }
    let stopped = server.stop();
    print!("{}", table(&outcomes));
    stopped?;
    match outcomes.iter().filter(|outcome| outcome.result.is_err()).count() {
        0 => Ok(()),
        failed => Err(Failure::new(format!("{failed} of {} scenarios failed (above)", outcomes.len()))),
    }
}

fn chosen(only: Option<&str>) -> Result<Vec<&'static Client>, Failure> {
    let Some(name) = only else { return Ok(CLIENTS.iter().collect()) };
    let names: Vec<&str> = CLIENTS.iter().map(|client| client.name).collect();
    let client = CLIENTS.iter().find(|client| client.name == name);
    client.map(|client| vec![client]).ok_or_else(|| Failure::new(format!("no client {name}: {}", names.join(", "))))
}

fn run_client(client: &'static Client, version: &str, stage: &Stage<'_>) -> Vec<Outcome> {
    let named = format!("{} {version}", client.name);
    let mut outcomes = Vec::new();
    for scenario in client.scenarios {
        println!("{named}: {} {}", scenario.challenge, scenario.does);
        let result = (scenario.run)(stage);
        if let Err(failure) = &result {
            println!("{failure}\n{}", stage.log_tails());
        }
        outcomes.push(Outcome { client: named.clone(), scenario, result });
    }
    outcomes
}

fn table(outcomes: &[Outcome]) -> Table<4> {
    let mut rows = vec![["client", "challenge", "what it did", "result"].map(str::to_owned)];
    for Outcome { client, scenario, result } in outcomes {
        let result = match result {
            Ok(()) => "passed".to_owned(),
            Err(failure) => format!("FAILED: {}", failure.to_string().lines().next().unwrap_or_default()),
        };
        rows.push([client.clone(), scenario.challenge.to_owned(), scenario.does.to_owned(), result]);
    }
    Table(rows)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_client_that_is_not_known_is_answered_with_those_that_are() {
        assert_eq!(chosen(Some("lego")).unwrap().len(), 1);
        assert_eq!(
            chosen(Some("leggo")).unwrap_err().to_string(),
            "no client leggo: certbot, lego, dehydrated, acme-tiny, trial"
        );
    }
}
