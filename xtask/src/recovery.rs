//! `cargo xtask recovery`: point-in-time recovery of PostgreSQL by the commands that the book gives, with real traffic
//! before, during and after the base backup. What was acknowledged before the point is there, what came after it is not.

use std::fs;
use std::path::Path;

use clap::Args;
use rcgen::KeyPair;
use tokio::runtime::Runtime;

use crate::acme::{Challenge, Client, Directory, csr};
use crate::failure::{Context, Failure};
use crate::name_server::{NameServer, ZONE};
use crate::packages::Installing;
use crate::postgres::{Cluster, free_port};
use crate::process;
use crate::programs::Programs;
use crate::responder::Responder;
use crate::server::{self, Place, Ports};
use crate::step::step;

/// Where the commands are.
const PAGE: &str = "docs/src/postgresql.md";

/// The database in them.
const DATABASE: &str = "akamu";

#[derive(Debug, Args)]
pub(crate) struct RecoveryArgs {
    /// Install nothing: name what is missing and fail
    #[arg(long)]
    no_install: bool,
}

impl RecoveryArgs {
    /// As a part of the tests.
    pub(crate) fn new(no_install: bool) -> Self {
        Self { no_install }
    }
}

/// Certificates that a client was given.
struct Issued {
    order: String,
    certificate: String,
    chain: String,
}

/// A client and what it issues with.
struct Issuing<'a> {
    client: Client,
    responder: &'a Responder,
    key: KeyPair,
    count: u32,
}

pub(crate) fn run(args: &RecoveryArgs) -> Result<(), Failure> {
    let page = process::project_root().join(PAGE);
    let page = fs::read_to_string(&page).context(|| format!("cannot read {PAGE}"))?;
    let programs = Programs::collect()?;
    let binary = programs.server();
    let installing = Installing::unless_forbidden(args.no_install);
    let cluster = Cluster::configured(installing, |directory| placed(block(&page, "archive")?, directory, directory))?;
    cluster.shell("mkdir wal")?;
    cluster.create_database(DATABASE)?;
    let name_server = NameServer::start()?;
    let common = Ports { listen: free_port()?, http: free_port()?, tls: free_port()?, admin: free_port()? };
    let place = |cluster: &Cluster| {
        let url = cluster.database_url(DATABASE);
        Place::new(|_| server::on_loopback(common.listen, &common, &name_server, &url))
    };
    let first = place(&cluster)?;
    let server = first.start(binary)?;

    let runtime = Runtime::new().context(|| "cannot start the client".to_owned())?;
    let responder = runtime.block_on(async { Responder::start(common.http) })?;
    let directory = runtime.block_on(Directory::fetch(server.directory_url(), &server.root()))?;
    let client = runtime.block_on(Client::register(&directory))?;
    let key = KeyPair::generate().context(|| "cannot make a key".to_owned())?;
    let mut issuing = Issuing { client, responder: &responder, key, count: 0 };
    let mut kept = vec![runtime.block_on(issuing.issue())?];
    let backup = placed(block(&page, "base backup")?, cluster.directory(), cluster.directory())?;
    std::thread::scope(|scope| {
        let copying = scope.spawn(|| cluster.shell(&backup));
        while !copying.is_finished() {
            kept.push(runtime.block_on(issuing.issue())?);
        }
        copying.join().map_err(|_| Failure::new("the base backup panicked"))?
    })?;
    kept.push(runtime.block_on(issuing.issue())?);
    cluster.shell(block(&page, "restore point")?)?;
    let time = cluster.query(DATABASE, "SELECT clock_timestamp()")?;
    let after = runtime.block_on(issuing.issue())?;
    server.stop()?;
    // What `archive_timeout` does once a minute.
    cluster.query(DATABASE, "SELECT pg_switch_wal()")?;
    cluster.end()?;
    println!("recovery: {} certificates before the point, 1 after it", kept.len());

    let by_name = block(&page, "restore")?.to_owned();
    let named = by_name.lines().find(|line| line.starts_with("recovery_target_name")).unwrap_or_default();
    let by_time = by_name.replace(named, &format!("recovery_target_time = '{}'", time.trim()));
    for (what, commands) in [("to a named point", by_name), ("to a time", by_time)] {
        step(&format!("recovery {what}"), || {
            let restored = Cluster::nowhere(free_port()?)?;
            restored.shell(&placed(&commands, cluster.directory(), restored.directory())?)?;
            let place = place(&restored)?;
            place.share_keys_of(&first)?;
            let server = place.start(binary)?;
            runtime.block_on(issuing.assert_there(&kept))?;
            runtime.block_on(issuing.assert_gone(&after))?;
            runtime.block_on(issuing.issue())?;
            server.stop()
        })?;
    }
    Ok(())
}

/// The commands or settings that the page marks with this name.
fn block<'a>(page: &'a str, name: &str) -> Result<&'a str, Failure> {
    let marked = page.split_once(&format!("<!-- cargo xtask recovery: {name} -->\n```"));
    let block = marked.and_then(|(_, rest)| rest.split_once('\n')?.1.split_once("```"));
    block.map(|(block, _)| block).ok_or_else(|| Failure::new(format!("{PAGE} has no block {name:?}")))
}

/// The page's paths, where they are here: everything of the first cluster under `origin`, the restored one in `restored`.
fn placed(text: &str, origin: &Path, restored: &Path) -> Result<String, Failure> {
    const HOME: &str = "/var/lib/postgresql";
    if !text.contains(HOME) {
        return Err(Failure::new(format!("no path below {HOME} in:\n{text}")));
    }
    let text = text.replace(&format!("{HOME}/restored"), &format!("{}/data", restored.display()));
    Ok(text.replace(HOME, &origin.display().to_string()))
}

impl Issuing<'_> {
    /// A certificate for a new name.
    async fn issue(&mut self) -> Result<Issued, Failure> {
        self.count += 1;
        let names = [format!("recovered-{}.{ZONE}", self.count)];
        let thumbprint = self.client.account().thumbprint();
        let order = self.client.new_order(&names).await?;
        let put = |_: &str, challenge: &Challenge| self.responder.put(challenge.key_authorization(&thumbprint));
        self.client.prove(&order, "http-01", put).await?;
        let certificate = self.client.finalize(&order, &csr(&names, &self.key)?).await?;
        let chain = self.client.certificate(&certificate).await?;
        Ok(Issued { order: order.url, certificate, chain })
    }

    async fn assert_there(&mut self, issued: &[Issued]) -> Result<(), Failure> {
        for Issued { order, certificate, chain } in issued {
            self.client.order(order).await?;
            if self.client.certificate(certificate).await? != *chain {
                return Err(Failure::new(format!("{certificate} is another one")));
            }
        }
        Ok(())
    }

    /// What came after the point: the recovery went to the point, and not to the end of the log.
    async fn assert_gone(&mut self, issued: &Issued) -> Result<(), Failure> {
        self.client.post(&issued.order, None).await?.expect(404, "an order from after the point").map(drop)
    }
}
