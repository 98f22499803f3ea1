//! acme-tiny, from Debian: 200 lines of Python that post the whole challenge by themselves.

use std::process::Command;

use super::client::{Client, Scenario};
use super::database::Database;
use super::stage::Stage;
use crate::failure::Failure;
use crate::packages::{Installing, Needed};
use crate::process;

pub(super) const ACME_TINY: Client = Client {
    name: "acme-tiny",
    needed: &[Needed { program: "acme-tiny", package: "acme-tiny" }, Needed { program: "openssl", package: "openssl" }],
    prepare: version,
    databases: Database::BOTH,
    scenarios: &[Scenario { challenge: "http-01", does: "files, own CSR, RSA keys", run: http }],
};

const NAMES: &[&str] = &["http.acme-tiny.e2e.test", "two.acme-tiny.e2e.test"];

/// The package's: acme-tiny has no way to tell.
fn version(_installing: Installing) -> Result<String, Failure> {
    let mut query = Command::new("dpkg-query");
    let version = process::output(query.args(["--show", "--showformat=${Version}", "acme-tiny"]));
    Ok(version.unwrap_or_else(|_| "(not Debian's)".to_owned()))
}

fn http(stage: &Stage<'_>) -> Result<(), Failure> {
    let mut account = Command::new("openssl");
    stage.run(account.args(["genrsa", "-out"]).arg(stage.path("account.key")).arg("2048"))?;
    let names: Vec<String> = NAMES.iter().map(|name| format!("DNS:{name}")).collect();
    let mut request = Command::new("openssl");
    request.args(["req", "-new", "-newkey", "rsa:2048", "-nodes", "-subj", "/", "-addext"]);
    request.arg(format!("subjectAltName={}", names.join(","))).arg("-keyout").arg(stage.path("key.pem"));
    stage.run(request.arg("-out").arg(stage.path("request.pem")))?;

    let (_web, directory) = stage.web_root("web")?;
    let mut command = Command::new("acme-tiny");
    // Its own check would look the names up in the machine's DNS.
    command.args(["--disable-check", "--directory-url", stage.directory_url(), "--account-key"]);
    command.arg(stage.path("account.key")).arg("--csr").arg(stage.path("request.pem"));
    command.arg("--acme-dir").arg(directory).env("SSL_CERT_FILE", stage.root());
    stage.run_into("chain.pem", &mut command)?;
    stage.check(&stage.path("chain.pem"), NAMES).map(drop)
}
