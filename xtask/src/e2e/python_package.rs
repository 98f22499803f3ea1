//! A package from PyPI, in a Python environment of its own under target/.

use std::path::PathBuf;
use std::process::Command;

use crate::failure::{Context, Failure};
use crate::packages::Installing;
use crate::process;

/// A version of a package: what PyPI had last when the tests were last looked at.
#[derive(Debug)]
pub(super) struct PythonPackage {
    pub(super) name: &'static str,
    pub(super) version: &'static str,
    /// Its programs; the environment is there when each tells its `--help`.
    pub(super) programs: &'static [&'static str],
}

impl PythonPackage {
    /// One of its programs.
    pub(super) fn program(&self, name: &str) -> PathBuf {
        self.environment().join("bin").join(name)
    }

    /// Installs it where it is not there, and returns its version.
    pub(super) fn ensure(&self, installing: Installing) -> Result<String, Failure> {
        let Self { name, version, .. } = self;
        if self.first_failure().is_none() {
            return Ok((*version).to_owned());
        }
        if installing == Installing::Forbidden {
            return Err(Failure::new(format!("missing: {name} {version} in target/python (--no-install forbids it)")));
        }
        println!("installing {name} {version} under target/python");
        process::output(Command::new("python3").args(["-m", "venv", "--clear"]).arg(self.environment()))
            .context(|| "cannot make a Python environment (Debian: package python3-venv)".to_owned())?;
        process::output(Command::new(self.program("pip")).args(["install", "--quiet", &format!("{name}=={version}")]))?;
        self.first_failure().map_or_else(|| Ok((*version).to_owned()), Err)
    }

    /// Another version has another directory.
    fn environment(&self) -> PathBuf {
        process::project_root().join("target/python").join(format!("{}-{}", self.name, self.version))
    }

    /// Why one of its programs does not run: after a copy of target/ it may look for its Python in another place.
    fn first_failure(&self) -> Option<Failure> {
        self.programs.iter().find_map(|name| process::output(Command::new(self.program(name)).arg("--help")).err())
    }
}
