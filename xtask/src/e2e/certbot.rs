//! certbot, from PyPI, in a Python environment under target/.

use std::path::PathBuf;
use std::process::Command;

use super::certificate::serial;
use super::client::{Client, Scenario};
use super::database::Database;
use super::python_package::PythonPackage;
use super::stage::Stage;
use crate::failure::Failure;
use crate::packages::Needed;

const PACKAGE: PythonPackage = PythonPackage { name: "certbot", version: "5.8.0", programs: &["certbot"] };

pub(super) const CERTBOT: Client = Client {
    name: "certbot",
    needed: &[
        Needed { program: "python3", package: "python3-venv" },
        Needed { program: "openssl", package: "openssl" },
        Needed { program: "curl", package: "curl" },
    ],
    prepare: |installing| PACKAGE.ensure(installing),
    databases: Database::BOTH,
    scenarios: &[
        Scenario { challenge: "http-01", does: "standalone, two names", run: standalone },
        Scenario { challenge: "http-01", does: "standalone, IP address", run: address },
        Scenario { challenge: "dns-01", does: "hooks, wildcard and base", run: wildcard },
        Scenario { challenge: "http-01, dns-01", does: "renew --force-renewal", run: renew },
        Scenario { challenge: "", does: "revoke, then on the CRL", run: revoke },
    ],
};

const HTTP_NAMES: &[&str] = &["http.certbot.e2e.test", "two.certbot.e2e.test"];
const ADDRESS: &str = "127.0.0.1";
const DNS_NAMES: &[&str] = &["dns.certbot.e2e.test", "*.dns.certbot.e2e.test"];

pub(super) fn program() -> PathBuf {
    PACKAGE.program("certbot")
}

/// A command of certbot's, which keeps everything in the client's directory.
pub(super) fn certbot(stage: &Stage<'_>, subcommand: &str) -> Command {
    let mut command = Command::new(program());
    command.arg(subcommand).args(["--non-interactive", "--server", stage.directory_url()]);
    for (option, directory) in [("--config-dir", "config"), ("--work-dir", "work"), ("--logs-dir", "logs")] {
        command.arg(option).arg(stage.path(directory));
    }
    command.env("REQUESTS_CA_BUNDLE", stage.root());
    command
}

/// A new certificate, kept under `kept_as`.
fn certonly(stage: &Stage<'_>, kept_as: &str) -> Command {
    let mut command = certbot(stage, "certonly");
    command.args(["--agree-tos", "--register-unsafely-without-email", "--cert-name", kept_as]);
    command
}

fn chain(stage: &Stage<'_>, kept_as: &str) -> PathBuf {
    live(stage, kept_as, "fullchain.pem")
}

/// The file `name` of the certificate kept under `kept_as`: cert.pem, chain.pem or both in fullchain.pem.
pub(super) fn live(stage: &Stage<'_>, kept_as: &str, name: &str) -> PathBuf {
    stage.path(format!("config/live/{kept_as}/{name}"))
}

fn standalone(stage: &Stage<'_>) -> Result<(), Failure> {
    let mut command = standalone_certonly(stage, "http");
    stage.run(command.args(["-d", &HTTP_NAMES.join(",")]))?;
    stage.check(&chain(stage, "http"), HTTP_NAMES).map(drop)
}

fn address(stage: &Stage<'_>) -> Result<(), Failure> {
    let mut command = standalone_certonly(stage, "address");
    stage.run(command.args(["--ip-address", ADDRESS]))?;
    stage.check(&chain(stage, "address"), &[ADDRESS]).map(drop)
}

/// As [`certonly`], with certbot's own web server.
pub(super) fn standalone_certonly(stage: &Stage<'_>, kept_as: &str) -> Command {
    let mut command = certonly(stage, kept_as);
    command.args(["--standalone", "--http-01-port", &stage.http_port().to_string()]);
    command
}

fn wildcard(stage: &Stage<'_>) -> Result<(), Failure> {
    let hook = |verb| stage.script(verb, &format!("$DNS {verb} _acme-challenge.$CERTBOT_DOMAIN $CERTBOT_VALIDATION\n"));
    let (add, remove) = (hook("add")?, hook("remove")?);
    let mut command = certonly(stage, "dns");
    command.args(["-d", &DNS_NAMES.join(","), "--manual", "--preferred-challenges", "dns"]);
    command.arg("--manual-auth-hook").arg(add).arg("--manual-cleanup-hook").arg(remove);
    stage.run(&mut command)?;
    stage.check(&chain(stage, "dns"), DNS_NAMES).map(drop)
}

fn renew(stage: &Stage<'_>) -> Result<(), Failure> {
    let held = [("http", HTTP_NAMES), ("address", &[ADDRESS]), ("dns", DNS_NAMES)];
    let before = held.map(|(kept_as, _)| serial(&chain(stage, kept_as)));
    stage.run(certbot(stage, "renew").args(["--force-renewal", "--no-random-sleep-on-renew"]))?;
    for ((kept_as, names), before) in held.into_iter().zip(before) {
        if stage.check(&chain(stage, kept_as), names)? == before? {
            return Err(Failure::new(format!("the certificate kept as {kept_as} is the old one")));
        }
    }
    Ok(())
}

fn revoke(stage: &Stage<'_>) -> Result<(), Failure> {
    let chain = chain(stage, "http");
    let mut command = certbot(stage, "revoke");
    command.args(["--reason", "superseded", "--no-delete-after-revoke", "--cert-path"]).arg(&chain);
    stage.run(&mut command)?;
    stage.check_revoked(&chain).map(drop)
}
