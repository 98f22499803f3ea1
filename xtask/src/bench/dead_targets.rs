//! Hundreds of validations wait for hosts that never answer; an honest client must not notice.

use std::net::Ipv4Addr;
use std::time::{Duration, Instant};

use clap::Args;
use futures_util::future::try_join_all;
use rcgen::KeyPair;
use tokio::runtime::Runtime;
use tokio::task::JoinSet;

use super::figures::{Durations, megabytes, resident};

use crate::acme::{Challenge, Client, Directory, Order};
use crate::failure::{Context, Failure};
use crate::name_server::{NameServer, ZONE};
use crate::programs::Programs;
use crate::responder::{BlackHole, Responder};
use crate::server::{self, Ports, Server};
use crate::table::Table;

/// How many certificates the honest client gets before.
const BEFORE: usize = 50;

#[derive(Debug, Args)]
pub(crate) struct DeadTargetsArgs {
    /// How many validations of dead hosts
    #[arg(long, default_value_t = 500)]
    count: u16,
}

pub(crate) fn run(args: &DeadTargetsArgs) -> Result<(), Failure> {
    let programs = Programs::collect()?;
    let mut rows = vec![
        [
            "dead hosts",
            "of accounts",
            "honest before",
            "honest meanwhile",
            "certificates",
            "memory before",
            "at most",
            "all over after",
        ]
        .map(str::to_owned),
    ];
    for accounts in [1, 10] {
        let name_server = NameServer::start()?;
        let configuration = |ports: &Ports| server::on_loopback(ports.listen, ports, &name_server, server::SQLITE);
        let server = Server::start(programs.server(), configuration)?;
        let runtime = Runtime::new().context(|| "cannot start the clients".to_owned())?;
        rows.push(runtime.block_on(measure(&server, args.count, accounts))?);
        server.stop()?;
    }
    println!("{}(honest: median / 99th percentile / maximum, ms, from newOrder to the certificate)", Table(rows));
    Ok(())
}

async fn measure(server: &Server, count: u16, accounts: u16) -> Result<[String; 8], Failure> {
    let port = server.ports().http;
    let (honest, _dead) = (Responder::start(port)?, BlackHole::start(port).await?);
    let directory = Directory::fetch(server.directory_url(), &server.root()).await?;
    let mut client = Client::register(&directory).await?;
    let key = KeyPair::generate().context(|| "cannot make a key".to_owned())?;

    let mut before = Durations::default();
    for _ in 0..BEFORE {
        before.push(issue(&mut client, &key, &honest).await?);
    }
    let (idle, _) = resident(server.id())?;

    let start = Instant::now();
    let begun = try_join_all((0..accounts).map(|account| begin(&directory, account, accounts, count))).await?;
    let mut waiting = JoinSet::new();
    for (client, orders) in begun {
        for order in orders {
            let mut client = client.beside()?;
            waiting.spawn(async move { client.is_proved(&order).await });
        }
    }
    let mut meanwhile = Durations::default();
    while !waiting.is_empty() {
        meanwhile.push(issue(&mut client, &key, &honest).await?);
        while let Some(ended) = waiting.try_join_next() {
            if ended.context(|| "a client panicked".to_owned())?? {
                return Err(Failure::new("a dead host proved a name"));
            }
        }
    }
    let over = start.elapsed();
    let (_, most) = resident(server.id())?;
    Ok([
        count.to_string(),
        accounts.to_string(),
        before.to_string(),
        meanwhile.to_string(),
        meanwhile.count().to_string(),
        megabytes(idle),
        megabytes(most),
        format!("{:.1} s", over.as_secs_f64()),
    ])
}

/// One account's share of the dead hosts: each an address of its own, in a domain of its own.
async fn begin(
    directory: &Directory,
    account: u16,
    accounts: u16,
    count: u16,
) -> Result<(Client, Vec<Order>), Failure> {
    let mut client = Client::register(directory).await?;
    let mut orders = Vec::new();
    for host in (account..count).step_by(accounts.into()) {
        let [high, low] = host.to_be_bytes();
        let address = Ipv4Addr::new(127, 8, high, low).to_string().replace('.', "-");
        orders.push(client.begin(&[format!("at-{address}.dead-{host}.{ZONE}")], "http-01").await?);
    }
    Ok((client, orders))
}

async fn issue(client: &mut Client, key: &KeyPair, honest: &Responder) -> Result<Duration, Failure> {
    let start = Instant::now();
    let thumbprint = client.account().thumbprint();
    let names = [format!("honest.{ZONE}")];
    let put = |_: &str, challenge: &Challenge| honest.put(challenge.key_authorization(&thumbprint));
    client.issue(&names, key, "http-01", put).await?;
    Ok(start.elapsed())
}
