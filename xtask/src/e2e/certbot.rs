//! certbot, from PyPI, in a Python environment under target/.

use std::path::PathBuf;
use std::process::Command;

use super::certificate::serial;
use super::client::{Client, Scenario};
use super::stage::Stage;
use crate::failure::{Context, Failure};
use crate::packages::{Installing, Needed};
use crate::process;

/// The version that is tested: what PyPI had last when the tests were last looked at.
const VERSION: &str = "5.8.0";

pub(super) const CERTBOT: Client = Client {
    name: "certbot",
    needed: &[
        Needed { program: "python3", package: "python3-venv" },
        Needed { program: "openssl", package: "openssl" },
        Needed { program: "curl", package: "curl" },
    ],
    prepare,
    scenarios: &[
        Scenario { challenge: "http-01", does: "standalone, two names", run: standalone },
        Scenario { challenge: "dns-01", does: "hooks, wildcard and base", run: wildcard },
        Scenario { challenge: "http-01, dns-01", does: "renew --force-renewal", run: renew },
        Scenario { challenge: "", does: "revoke, then on the CRL", run: revoke },
    ],
};

const HTTP_NAMES: &[&str] = &["http.certbot.e2e.test", "two.certbot.e2e.test"];
const DNS_NAMES: &[&str] = &["dns.certbot.e2e.test", "*.dns.certbot.e2e.test"];

pub(super) fn program() -> PathBuf {
    process::project_root().join("target/venv/bin/certbot")
}

fn prepare(installing: Installing) -> Result<String, Failure> {
    if version().as_deref() != Some(VERSION) {
        if installing == Installing::Forbidden {
            return Err(Failure::new(format!("missing: certbot {VERSION} in target/venv (--no-install forbids it)")));
        }
        println!("installing certbot {VERSION} under target/venv");
        let venv = process::project_root().join("target/venv");
        process::output(Command::new("python3").args(["-m", "venv", "--clear"]).arg(&venv))
            .context(|| "cannot make a Python environment (Debian: package python3-venv)".to_owned())?;
        let mut pip = Command::new(venv.join("bin/pip"));
        process::output(pip.args(["install", "--quiet", &format!("certbot=={VERSION}")]))?;
    }
    version().ok_or_else(|| Failure::new("certbot does not run"))
}

/// The installed one's version: it prints `certbot 5.8.0`.
fn version() -> Option<String> {
    let printed = process::output(Command::new(program()).arg("--version")).ok()?;
    Some(printed.trim().strip_prefix("certbot ")?.to_owned())
}

fn certbot(stage: &Stage<'_>, subcommand: &str) -> Command {
    let mut command = Command::new(program());
    command.arg(subcommand).args(["--non-interactive", "--server", stage.directory_url()]);
    for (option, directory) in [("--config-dir", "config"), ("--work-dir", "work"), ("--logs-dir", "logs")] {
        command.arg(option).arg(stage.path(directory));
    }
    command.env("REQUESTS_CA_BUNDLE", stage.root());
    command
}

/// A new certificate for `names`, kept under the first one.
fn certonly(stage: &Stage<'_>, names: &[&str]) -> Command {
    let mut command = certbot(stage, "certonly");
    command.args(["--agree-tos", "--register-unsafely-without-email"]);
    for name in names {
        command.args(["-d", name]);
    }
    command
}

fn chain(stage: &Stage<'_>, name: &str) -> PathBuf {
    stage.path(format!("config/live/{name}/fullchain.pem"))
}

fn standalone(stage: &Stage<'_>) -> Result<(), Failure> {
    let port = stage.http_port().to_string();
    stage.run(certonly(stage, HTTP_NAMES).args(["--standalone", "--http-01-port", &port]))?;
    stage.check(&chain(stage, "http.certbot.e2e.test"), HTTP_NAMES).map(drop)
}

fn wildcard(stage: &Stage<'_>) -> Result<(), Failure> {
    let hook = |verb| stage.script(verb, &format!("$DNS {verb} _acme-challenge.$CERTBOT_DOMAIN $CERTBOT_VALIDATION\n"));
    let (add, remove) = (hook("add")?, hook("remove")?);
    let mut command = certonly(stage, DNS_NAMES);
    command.args(["--manual", "--preferred-challenges", "dns"]);
    command.arg("--manual-auth-hook").arg(add).arg("--manual-cleanup-hook").arg(remove);
    stage.run(&mut command)?;
    stage.check(&chain(stage, "dns.certbot.e2e.test"), DNS_NAMES).map(drop)
}

fn renew(stage: &Stage<'_>) -> Result<(), Failure> {
    let held = [("http.certbot.e2e.test", HTTP_NAMES), ("dns.certbot.e2e.test", DNS_NAMES)];
    let before = held.map(|(name, _)| serial(&chain(stage, name)));
    stage.run(certbot(stage, "renew").args(["--force-renewal", "--no-random-sleep-on-renew"]))?;
    for ((name, names), before) in held.into_iter().zip(before) {
        if stage.check(&chain(stage, name), names)? == before? {
            return Err(Failure::new(format!("the certificate for {name} is the old one")));
        }
    }
    Ok(())
}

fn revoke(stage: &Stage<'_>) -> Result<(), Failure> {
    let chain = chain(stage, "http.certbot.e2e.test");
    let mut command = certbot(stage, "revoke");
    command.args(["--reason", "superseded", "--no-delete-after-revoke", "--cert-path"]).arg(&chain);
    stage.run(&mut command)?;
    stage.check_revoked(&chain)
}
