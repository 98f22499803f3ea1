//! `cargo xtask release`: the server as a release is to be built. The compiler is told which code runs often, by a profile
//! of the benchmark's load.

use std::env;
use std::ffi::OsString;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use clap::Args;

use crate::cargo_tool;
use crate::failure::{Context, Failure};
use crate::packages::{self, Installing, Needed};
use crate::process;
use crate::programs::{PREBUILT, copy, running, target};

/// What turns the counters of a run into a profile. Debian's reads those of the toolchain's LLVM, which is newer.
const PROFDATA: Needed = Needed { program: "llvm-profdata", package: "llvm-19" };
const DEBIAN_LLVM: &str = "/usr/lib/llvm-19/bin";

/// What the server does while the counters run: every type of challenge on every database, a lone client and many.
const LOAD: [&str; 6] = ["bench", "issuance", "--clients", "1,32", "--warm-up", "0"];

#[derive(Debug, Args)]
pub(crate) struct ReleaseArgs {
    /// How long the server works for each type of challenge, number of clients and database
    #[arg(long, default_value_t = 6, value_name = "SECONDS", value_parser = clap::value_parser!(u64).range(1..=3600))]
    seconds: u64,
    /// Install nothing: name what is missing and fail
    #[arg(long)]
    no_install: bool,
}

pub(crate) fn run(args: &ReleaseArgs) -> Result<(), Failure> {
    let path = with_profdata(Installing::unless_forbidden(args.no_install))?;
    let cargo_pgo = cargo_tool::installed("cargo-pgo", !args.no_install)?;
    let pgo = |step: &str| {
        let mut command = process::cargo_subcommand(&cargo_pgo);
        command.args(["pgo", step, "--", "--package", "akamu", "--locked"]);
        process::run(command.envs(path.iter().map(|path| ("PATH", path))))
    };
    // cargo-pgo names the platform to cargo, so that build scripts are not instrumented.
    let platform = rustc(&["--print", "host-tuple"])?;
    let built = target().join(platform).join("release/akamu-server");

    println!("1 of 3: building the server with counters");
    pgo("build")?;
    println!("2 of 3: counting what runs under the benchmark's load");
    let mut load = Command::new(running()?);
    load.args(LOAD).args(["--seconds", &args.seconds.to_string()]).args(args.no_install.then_some("--no-install"));
    process::output(load.env(PREBUILT, &built))?;
    println!("3 of 3: building the server by what was counted");
    pgo("optimize")?;

    // Where it is built there may be one with counters.
    let guided = target().join("guided");
    fs::create_dir_all(&guided).context(|| format!("cannot make {}", guided.display()))?;
    println!("the server is {}", copy(&built, &guided.join("akamu-server"))?.display());
    Ok(())
}

/// The PATH in which cargo-pgo finds llvm-profdata; absent where the toolchain has its own, which it prefers.
fn with_profdata(installing: Installing) -> Result<Option<OsString>, Failure> {
    let libraries = PathBuf::from(rustc(&["--print", "target-libdir"])?);
    if libraries.with_file_name("bin").join(PROFDATA.program).is_file() {
        return Ok(None);
    }
    let debian = Path::new(DEBIAN_LLVM);
    packages::ensure(&[PROFDATA], installing, |program| Some(debian.join(program)).filter(|it| it.is_file()))?;
    let path = env::var_os("PATH").unwrap_or_default();
    let path = env::join_paths([debian.to_owned()].into_iter().chain(env::split_paths(&path)));
    path.map(Some).context(|| "cannot add to PATH".to_owned())
}

/// What the toolchain of this project says.
fn rustc(arguments: &[&str]) -> Result<String, Failure> {
    let said = process::output(Command::new("rustc").current_dir(process::project_root()).args(arguments))?;
    Ok(said.trim_end().to_owned())
}

#[cfg(test)]
mod tests {
    use clap::Parser as _;

    use super::*;
    use crate::{Cli, Task};

    #[test]
    fn the_load_is_one_that_the_benchmark_knows() {
        let load = ["cargo xtask"].into_iter().chain(LOAD).chain(["--seconds", "6", "--no-install"]);
        assert!(matches!(Cli::try_parse_from(load).unwrap().task, Task::Bench(_)));
    }
}
