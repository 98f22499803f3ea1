//! Cargo's own tools that the project uses: installed under target/tools, once.

use std::path::PathBuf;

use crate::failure::Failure;
use crate::process;

/// The program `name` (`cargo-deny`), installed where it is not there yet and `may_install`.
pub(crate) fn installed(name: &str, may_install: bool) -> Result<PathBuf, Failure> {
    let target = process::project_root().join("target");
    let tools = target.join("tools");
    let program = tools.join("bin").join(name);
    if !program.is_file() {
        if !may_install {
            return Err(Failure::new(format!("missing: {name} in target/tools (--no-install forbids installing it)")));
        }
        println!("installing {name} under target/tools (takes some minutes, once)");
        let mut command = process::cargo();
        command.args(["install", "--locked", "--quiet", name, "--root"]).arg(&tools);
        process::run(command.arg("--target-dir").arg(target.join("tools-build")))?;
    }
    Ok(program)
}
