//! pkilint, from PyPI: a linter (RFC 5280) looks at everything that the CA signs, the leaves as certbot holds them.

use std::path::Path;
use std::process::Command;

use super::certbot;
use super::client::{Client, Scenario};
use super::database::Database;
use super::python_package::PythonPackage;
use super::stage::Stage;
use crate::failure::Failure;
use crate::process;

pub(super) const PKILINT: Client = Client {
    name: "pkilint",
    needed: certbot::CERTBOT.needed,
    prepare: |installing| {
        let certbot = (certbot::CERTBOT.prepare)(installing)?;
        Ok(format!("{} with certbot {certbot}", PACKAGE.ensure(installing)?))
    },
    // What is signed does not depend on the database.
    databases: &[Database::Sqlite],
    scenarios: &[
        Scenario { challenge: "http-01", does: "lint a leaf, EC key", run: ec_leaf },
        Scenario { challenge: "http-01", does: "lint a leaf, RSA key", run: rsa_leaf },
        Scenario { challenge: "", does: "lint root and issuing certificate", run: authorities },
        Scenario { challenge: "", does: "lint the CRL, one certificate on it", run: crl },
    ],
};

const PACKAGE: PythonPackage =
    PythonPackage { name: "pkilint", version: "0.13.3", programs: &["lint_pkix_cert", "lint_crl"] };

/// No wildcard: by the letter of RFC 5280 it is no DNS name, and the linter says so.
const NAMES: &[&str] = &["http.pkilint.e2e.test", "two.pkilint.e2e.test"];

fn ec_leaf(stage: &Stage<'_>) -> Result<(), Failure> {
    leaf(stage, "ecdsa")
}

fn rsa_leaf(stage: &Stage<'_>) -> Result<(), Failure> {
    leaf(stage, "rsa")
}

/// A leaf with a key of `key_type`, by which certbot then keeps it.
fn leaf(stage: &Stage<'_>, key_type: &str) -> Result<(), Failure> {
    let mut command = certbot::standalone_certonly(stage, key_type);
    stage.run(command.args(["--key-type", key_type, "-d", &NAMES.join(",")]))?;
    stage.check(&certbot::live(stage, key_type, "fullchain.pem"), NAMES)?;
    lint_certificate(&certbot::live(stage, key_type, "cert.pem"))
}

fn authorities(stage: &Stage<'_>) -> Result<(), Failure> {
    lint_certificate(&stage.root())?;
    lint_certificate(&certbot::live(stage, "ecdsa", "chain.pem"))
}

fn crl(stage: &Stage<'_>) -> Result<(), Failure> {
    let chain = certbot::live(stage, "rsa", "fullchain.pem");
    stage.run(certbot::certbot(stage, "revoke").args(["--no-delete-after-revoke", "--cert-path"]).arg(&chain))?;
    let crl = stage.check_revoked(&chain)?;
    lint("lint_crl", &["--type", "CRL", "--profile", "PKIX"], &crl)
}

fn lint_certificate(certificate: &Path) -> Result<(), Failure> {
    lint("lint_pkix_cert", &[], certificate)
}

/// The linter ends with the number of its findings, which it prints.
fn lint(program: &str, options: &[&str], file: &Path) -> Result<(), Failure> {
    let mut command = Command::new(PACKAGE.program(program));
    process::output(command.args(["lint", "--severity", "WARNING"]).args(options).arg(file)).map(drop)
}
