//! What the tests need from the machine: found, or installed from Debian after saying so, or named.

use std::path::{Path, PathBuf};
use std::process::Command;

use crate::failure::Failure;
use crate::process;

/// A program that a Debian package brings.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Needed {
    pub(crate) program: &'static str,
    pub(crate) package: &'static str,
}

/// Whether missing packages may be installed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Installing {
    Allowed,
    Forbidden,
}

impl Installing {
    /// What `--no-install` says.
    pub(crate) fn unless_forbidden(is_forbidden: bool) -> Self {
        if is_forbidden { Self::Forbidden } else { Self::Allowed }
    }
}

/// Makes sure that `found` finds each program, by installing what is missing where that is allowed and possible.
pub(crate) fn ensure(
    needed: &[Needed],
    installing: Installing,
    found: impl Fn(&str) -> Option<PathBuf>,
) -> Result<(), Failure> {
    let missing = || needed.iter().copied().filter(|needed| found(needed.program).is_none()).collect::<Vec<_>>();
    let absent = missing();
    if absent.is_empty() {
        return Ok(());
    }
    if let Some(obstacle) = obstacle(installing) {
        return Err(Failure::new(format!("{} ({obstacle})", named(&absent))));
    }
    let packages: Vec<&str> = absent.iter().map(|needed| needed.package).collect();
    println!("installing from Debian, because its programs are missing: {}", packages.join(" "));
    if apt_get(&["install", "--yes", "--no-install-recommends"], &packages).is_err() {
        apt_get(&["update"], &[])?;
        apt_get(&["install", "--yes", "--no-install-recommends"], &packages)?;
    }
    let still = missing();
    if still.is_empty() { Ok(()) } else { Err(Failure::new(format!("{} (even after installing)", named(&still)))) }
}

/// Why nothing can be installed here.
fn obstacle(installing: Installing) -> Option<&'static str> {
    if installing == Installing::Forbidden {
        return Some("--no-install forbids installing it");
    }
    if !Path::new("/etc/debian_version").exists() || process::in_path("apt-get").is_none() {
        return Some("this is not Debian: install it by your system's means");
    }
    (!process::is_root()).then_some("installing it takes root")
}

fn named(missing: &[Needed]) -> String {
    let each: Vec<String> =
        missing.iter().map(|needed| format!("{} of Debian's package {}", needed.program, needed.package)).collect();
    format!("missing: {}", each.join(", "))
}

fn apt_get(arguments: &[&str], packages: &[&str]) -> Result<(), Failure> {
    let mut command = Command::new("apt-get");
    command.arg("-qq").args(arguments).args(packages).env("DEBIAN_FRONTEND", "noninteractive");
    process::run(&mut command)
}

#[cfg(test)]
mod tests {
    use super::*;

    const LEGO: Needed = Needed { program: "lego", package: "lego" };
    const INITDB: Needed = Needed { program: "initdb", package: "postgresql" };

    #[test]
    fn nothing_is_installed_when_everything_is_there() {
        assert!(ensure(&[LEGO], Installing::Forbidden, |_| Some(PathBuf::from("/usr/bin/lego"))).is_ok());
    }

    #[test]
    fn what_is_missing_is_named_with_its_package_when_installing_is_forbidden() {
        let found = |program: &str| (program == "lego").then(|| PathBuf::from("/usr/bin/lego"));
        let failure = ensure(&[LEGO, INITDB], Installing::Forbidden, found).unwrap_err();
        assert_eq!(
            failure.to_string(),
            "missing: initdb of Debian's package postgresql (--no-install forbids installing it)"
        );
    }
}
