//! dehydrated, from Debian: a shell script on curl and openssl.

use std::fs;
use std::path::PathBuf;
use std::process::Command;

use super::client::{Client, Scenario};
use super::database::Database;
use super::stage::Stage;
use super::tls_files::TlsFiles;
use super::web_root::WebRoot;
use crate::failure::{Context, Failure};
use crate::packages::{Installing, Needed};
use crate::process;

pub(super) const DEHYDRATED: Client = Client {
    name: "dehydrated",
    needed: &[
        Needed { program: "dehydrated", package: "dehydrated" },
        Needed { program: "openssl", package: "openssl" },
        Needed { program: "curl", package: "curl" },
    ],
    prepare: version,
    databases: Database::BOTH,
    scenarios: &[
        Scenario { challenge: "http-01", does: "files, two names", run: http },
        Scenario { challenge: "http-01", does: "a site that redirects to https", run: redirected },
        Scenario { challenge: "dns-01", does: "hook, wildcard and base", run: wildcard },
        Scenario { challenge: "dns-01", does: "a forwarder's zone, its first server dead", run: forwarded },
        Scenario { challenge: "", does: "revoke, then on the CRL", run: revoke },
    ],
};

/// Where it puts files up.
const WELL_KNOWN: &str = "web/.well-known/acme-challenge";

const HTTP_NAMES: &[&str] = &["http.dehydrated.e2e.test", "two.dehydrated.e2e.test"];
const MOVED_NAMES: &[&str] = &["moved.dehydrated.e2e.test"];
const INNER_NAMES: &[&str] = &["dehydrated.corp.test", "*.dehydrated.corp.test"];
const DNS_NAMES: &[&str] = &["dns.dehydrated.e2e.test", "*.dns.dehydrated.e2e.test"];

fn version(_installing: Installing) -> Result<String, Failure> {
    let printed = process::output(Command::new("dehydrated").arg("--version"))?;
    let version = printed.lines().find_map(|line| line.strip_prefix("Dehydrated version: "));
    version.map(str::to_owned).ok_or_else(|| Failure::new("dehydrated does not tell its version"))
}

/// dehydrated with a configuration file of its own.
fn dehydrated(stage: &Stage<'_>) -> Result<Command, Failure> {
    let config = stage.path("config");
    let text = format!(
        "CA=\"{}\"\nBASEDIR=\"{}\"\nWELLKNOWN=\"{}\"\nCURL_OPTS=\"--cacert {}\"\nPRIVATE_KEY_RENEW=yes\n",
        stage.directory_url(),
        stage.path("base").display(),
        stage.path(WELL_KNOWN).display(),
        stage.root().display()
    );
    for directory in ["base", WELL_KNOWN] {
        fs::create_dir_all(stage.path(directory)).context(|| format!("cannot make {directory}"))?;
    }
    fs::write(&config, text).context(|| "cannot write dehydrated's configuration".to_owned())?;
    let mut command = Command::new("dehydrated");
    command.arg("--config").arg(config);
    Ok(command)
}

fn issue(stage: &Stage<'_>, alias: &str, names: &[&str]) -> Result<Command, Failure> {
    let mut command = dehydrated(stage)?;
    command.args(["--cron", "--alias", alias]);
    for name in names {
        command.args(["--domain", name]);
    }
    Ok(command)
}

fn chain(stage: &Stage<'_>, alias: &str) -> PathBuf {
    stage.path(format!("base/certs/{alias}/fullchain.pem"))
}

fn http(stage: &Stage<'_>) -> Result<(), Failure> {
    stage.run(dehydrated(stage)?.args(["--register", "--accept-terms"]))?;
    let _web = stage.web_root(WELL_KNOWN)?;
    stage.run(issue(stage, "http", HTTP_NAMES)?.args(["--challenge", "http-01"]))?;
    stage.check(&chain(stage, "http"), HTTP_NAMES).map(drop)
}

fn redirected(stage: &Stage<'_>) -> Result<(), Failure> {
    let _site = WebRoot::redirecting(stage.http_port(), stage.tls_port())?;
    let _files = TlsFiles::start(stage.tls_port(), &stage.path("web"))?;
    stage.run(issue(stage, "moved", MOVED_NAMES)?.args(["--challenge", "http-01"]))?;
    stage.check(&chain(stage, "moved"), MOVED_NAMES).map(drop)
}

fn wildcard(stage: &Stage<'_>) -> Result<(), Failure> {
    stage.run(&mut issue_by_dns(stage, "dns", DNS_NAMES)?)?;
    stage.check(&chain(stage, "dns"), DNS_NAMES).map(drop)
}

fn forwarded(stage: &Stage<'_>) -> Result<(), Failure> {
    stage.run(&mut issue_by_dns(stage, "inner", INNER_NAMES)?)?;
    stage.check(&chain(stage, "inner"), INNER_NAMES).map(drop)
}

fn issue_by_dns(stage: &Stage<'_>, alias: &str, names: &[&str]) -> Result<Command, Failure> {
    let hook = "case $1 in\n\
                deploy_challenge) $DNS add \"_acme-challenge.$2\" \"$4\" ;;\n\
                clean_challenge) $DNS remove \"_acme-challenge.$2\" \"$4\" ;;\n\
                esac\n";
    let mut command = issue(stage, alias, names)?;
    command.args(["--challenge", "dns-01", "--hook"]).arg(stage.script("hook", hook)?);
    Ok(command)
}

fn revoke(stage: &Stage<'_>) -> Result<(), Failure> {
    // It renames the file that it revokes, and the link fullchain.pem would lead nowhere.
    let kept = stage.path("revoked.pem");
    fs::copy(chain(stage, "http"), &kept).context(|| "cannot keep the chain".to_owned())?;
    stage.run(dehydrated(stage)?.arg("--revoke").arg(stage.path("base/certs/http/cert.pem")))?;
    stage.check_revoked(&kept).map(drop)
}
