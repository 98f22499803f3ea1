//! What openssl says of a certificate that a client holds.

use std::collections::BTreeSet;
use std::path::Path;
use std::process::Command;

use crate::failure::Failure;
use crate::process;

/// Checks that the first certificate of `chain` is trusted through `root`, as a server's, and names exactly `names`.
/// Returns its serial.
pub(super) fn check(chain: &Path, root: &Path, names: &[&str]) -> Result<String, Failure> {
    let mut verify = openssl();
    verify.args(["verify", "-x509_strict", "-purpose", "sslserver", "-CAfile"]).arg(root);
    process::output(verify.arg("-untrusted").arg(chain).arg(chain))?;

    let mut show = openssl();
    show.args(["x509", "-noout", "-ext", "subjectAltName", "-in"]).arg(chain);
    let text = process::output(&mut show)?;
    let expected: BTreeSet<&str> = names.iter().copied().collect();
    let found = subject_alternative_names(&text);
    if found != expected {
        return Err(Failure::new(format!("the certificate names {found:?} instead of {expected:?}")));
    }
    serial(chain)
}

/// Whether `crl`, which must be signed by the issuer of the first certificate of `chain`, lists that certificate.
pub(super) fn is_revoked(chain: &Path, root: &Path, crl: &Path) -> Result<bool, Failure> {
    let mut verify = openssl();
    verify.args(["verify", "-crl_check", "-CAfile"]).arg(root).arg("-untrusted").arg(chain);
    match process::output(verify.arg("-CRLfile").arg(crl).arg(chain)) {
        Ok(_) => Ok(false),
        Err(refusal) if refusal.to_string().contains("certificate revoked") => Ok(true),
        Err(other) => Err(other),
    }
}

/// The serial of the first certificate of `chain`, in hexadecimal.
pub(super) fn serial(chain: &Path) -> Result<String, Failure> {
    let mut show = openssl();
    show.args(["x509", "-noout", "-serial", "-in"]).arg(chain);
    Ok(process::output(&mut show)?.trim().trim_start_matches("serial=").to_owned())
}

pub(super) fn openssl() -> Command {
    Command::new("openssl")
}

/// The names of `openssl x509 -ext subjectAltName`.
fn subject_alternative_names(text: &str) -> BTreeSet<&str> {
    let names = text.lines().skip(1).flat_map(|line| line.split(','));
    names.filter_map(|name| name.trim().split_once(':').map(|(_, name)| name)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_read_from_openssl() {
        let text = "X509v3 Subject Alternative Name: critical\n    DNS:*.a.test, DNS:a.test, IP Address:127.0.0.1\n";
        let names: Vec<&str> = subject_alternative_names(text).into_iter().collect();
        assert_eq!(names, ["*.a.test", "127.0.0.1", "a.test"]);
        assert!(subject_alternative_names("No extensions in certificate\n").is_empty());
    }
}
