//! The programs of a run, as copies: what cargo built may be built anew meanwhile, in this checkout or in another one that
//! shares its target directory.

use std::env;
use std::fs;
use std::path::{Path, PathBuf};

use crate::failure::{Context, Failure};
use crate::interrupt::Undone;
use crate::process;

/// Names a prebuilt server to run instead of building one.
pub(crate) const PREBUILT: &str = "XTASK_SERVER";

/// The copies, removed when dropped.
#[derive(Debug)]
pub(crate) struct Programs {
    server: PathBuf,
    hook: PathBuf,
    _directory: Undone,
}

impl Programs {
    /// Builds the server, unless the environment names one, and copies it and this program.
    pub(crate) fn collect() -> Result<Self, Failure> {
        let directory = tempfile::Builder::new()
            .prefix("akamu-e2e-programs-")
            .tempdir()
            .context(|| "cannot make a directory for the programs".to_owned())?;
        let built = server()?;
        let server = copy(&built, &directory.path().join("akamu-server"))?;
        let hook = copy(&running()?, &directory.path().join("xtask"))?;
        println!("server under test: {}", built.display());
        Ok(Self { server, hook, _directory: Undone::at_the_end(move || drop(directory)) })
    }

    /// The server under test.
    pub(crate) fn server(&self) -> &Path {
        &self.server
    }

    /// This program, whose `dns-hook` the clients' hooks call.
    pub(crate) fn hook(&self) -> &Path {
        &self.hook
    }
}

/// The server to test: the one that the environment names, or a fresh release build.
fn server() -> Result<PathBuf, Failure> {
    if let Some(prebuilt) = env::var_os(PREBUILT) {
        return Ok(prebuilt.into());
    }
    process::run(process::cargo().args(["build", "--release", "--locked", "--quiet", "--package", "akamu"]))?;
    Ok(target().join("release/akamu-server"))
}

/// Where cargo builds.
pub(crate) fn target() -> PathBuf {
    // Cargo, which runs in the root, takes a relative one from there.
    process::project_root().join(env::var_os("CARGO_TARGET_DIR").unwrap_or_else(|| "target".into()))
}

/// This program, even where its file has been replaced or removed.
pub(crate) fn running() -> Result<PathBuf, Failure> {
    let running = PathBuf::from("/proc/self/exe");
    if running.exists() { Ok(running) } else { env::current_exe().context(|| "cannot find this program".to_owned()) }
}

pub(crate) fn copy(from: &Path, to: &Path) -> Result<PathBuf, Failure> {
    fs::copy(from, to).context(|| format!("cannot copy {}", from.display()))?;
    Ok(to.to_path_buf())
}

#[cfg(test)]
mod tests {
    use std::process::Command;

    use super::*;

    #[test]
    fn the_copy_of_this_program_runs() {
        let directory = tempfile::tempdir().unwrap();
        let copy = copy(&running().unwrap(), &directory.path().join("xtask")).unwrap();
        // Here this program is the test harness.
        let printed = process::output(Command::new(&copy).args(["--list", "the_copy_of_this_program_runs"])).unwrap();
        assert!(printed.contains("the_copy_of_this_program_runs: test"), "{printed}");
    }
}
