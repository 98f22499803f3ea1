//! lego, from Debian.

use std::path::PathBuf;
use std::process::Command;

use super::certificate::serial;
use super::client::{Client, Scenario};
use super::database::Database;
use super::stage::Stage;
use crate::failure::Failure;
use crate::packages::{Installing, Needed};
use crate::process;

pub(super) const LEGO: Client = Client {
    name: "lego",
    needed: &[
        Needed { program: "lego", package: "lego" },
        Needed { program: "openssl", package: "openssl" },
        Needed { program: "curl", package: "curl" },
    ],
    prepare: version,
    databases: Database::BOTH,
    scenarios: &[
        Scenario { challenge: "http-01", does: "own web server, two names", run: http },
        Scenario { challenge: "tls-alpn-01", does: "own TLS server, two names", run: tls },
        Scenario { challenge: "dns-01", does: "exec, wildcard and base", run: wildcard },
        Scenario { challenge: "tls-alpn-01", does: "renew", run: renew },
        Scenario { challenge: "", does: "revoke, then on the CRL", run: revoke },
    ],
};

const HTTP_NAMES: &[&str] = &["http.lego.e2e.test", "two.lego.e2e.test"];
const TLS_NAMES: &[&str] = &["tls.lego.e2e.test", "three.lego.e2e.test"];
const DNS_NAMES: &[&str] = &["dns.lego.e2e.test", "*.dns.lego.e2e.test"];

/// The package's: Debian's lego itself says `dev`.
fn version(_installing: Installing) -> Result<String, Failure> {
    let mut query = Command::new("dpkg-query");
    let version = process::output(query.args(["--show", "--showformat=${Version}", "lego"]));
    Ok(version.unwrap_or_else(|_| "(not Debian's)".to_owned()))
}

/// lego for `names`, whose certificate it keeps under the first one.
fn lego(stage: &Stage<'_>, names: &[&str]) -> Command {
    let mut command = Command::new("lego");
    command.args(["--server", stage.directory_url(), "--accept-tos", "--email", "lego@e2e.test", "--path"]);
    command.arg(stage.path("lego")).env("LEGO_CA_CERTIFICATES", stage.root());
    for name in names {
        command.args(["--domains", name]);
    }
    command
}

fn chain(stage: &Stage<'_>, name: &str) -> PathBuf {
    stage.path(format!("lego/certificates/{name}.crt"))
}

fn http(stage: &Stage<'_>) -> Result<(), Failure> {
    let address = format!("127.0.0.1:{}", stage.http_port());
    stage.run(lego(stage, HTTP_NAMES).args(["--http", "--http.port", &address, "run"]))?;
    stage.check(&chain(stage, "http.lego.e2e.test"), HTTP_NAMES).map(drop)
}

fn tls_lego(stage: &Stage<'_>) -> Command {
    let mut command = lego(stage, TLS_NAMES);
    command.args(["--tls", "--tls.port", &format!("127.0.0.1:{}", stage.tls_port())]);
    command
}

fn tls(stage: &Stage<'_>) -> Result<(), Failure> {
    stage.run(tls_lego(stage).arg("run"))?;
    stage.check(&chain(stage, "tls.lego.e2e.test"), TLS_NAMES).map(drop)
}

fn wildcard(stage: &Stage<'_>) -> Result<(), Failure> {
    let hook = "case $1 in present) verb=add ;; *) verb=remove ;; esac\n$DNS $verb \"$2\" \"$3\"\n";
    let mut command = lego(stage, DNS_NAMES);
    command.args(["--dns", "exec", "--dns.disable-cp", "--dns.resolvers", &stage.name_server().to_string(), "run"]);
    command.env("EXEC_PATH", stage.script("hook", hook)?);
    // Seconds between the two names, which share a record's name, and between looks at it: else 60 and 2.
    command.env("EXEC_SEQUENCE_INTERVAL", "1").env("EXEC_POLLING_INTERVAL", "1");
    stage.run(&mut command)?;
    stage.check(&chain(stage, "dns.lego.e2e.test"), DNS_NAMES).map(drop)
}

fn renew(stage: &Stage<'_>) -> Result<(), Failure> {
    let chain = chain(stage, "tls.lego.e2e.test");
    let before = serial(&chain)?;
    stage.run(tls_lego(stage).args(["renew", "--days", "1000", "--no-random-sleep"]))?;
    if stage.check(&chain, TLS_NAMES)? == before {
        return Err(Failure::new("the certificate is the old one"));
    }
    Ok(())
}

fn revoke(stage: &Stage<'_>) -> Result<(), Failure> {
    // --keep: else it moves the certificate away.
    stage.run(lego(stage, &["http.lego.e2e.test"]).args(["revoke", "--keep"]))?;
    stage.check_revoked(&chain(stage, "http.lego.e2e.test")).map(drop)
}
