//! Running other programs: found in PATH, named when they fail.

use std::env;
use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use crate::failure::{Context, Failure};

/// The project's root directory.
pub(crate) fn project_root() -> PathBuf {
    // Cargo sets it when it runs us; the value from compile time would be another clone's after a copy of target/.
    let manifest_dir = env::var_os("CARGO_MANIFEST_DIR").unwrap_or_else(|| env!("CARGO_MANIFEST_DIR").into());
    let mut root = PathBuf::from(manifest_dir);
    root.pop();
    root
}

/// The cargo that runs us.
pub(crate) fn cargo() -> Command {
    let mut command = Command::new(env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
    command.current_dir(project_root());
    command
}

/// A cargo subcommand that is not in cargo's own path.
pub(crate) fn cargo_subcommand(program: &Path) -> Command {
    let mut command = Command::new(program);
    command.current_dir(project_root());
    command
}

/// The executable that a shell would run for `name`.
pub(crate) fn in_path(name: &str) -> Option<PathBuf> {
    let path = env::var_os("PATH")?;
    env::split_paths(&path).map(|directory| directory.join(name)).find(|candidate| candidate.is_file())
}

/// Runs `command` with our standard streams; anything but success is a failure.
pub(crate) fn run(command: &mut Command) -> Result<(), Failure> {
    let shown = shown(command);
    let status = command.status().context(|| format!("cannot run `{shown}`"))?;
    if status.success() { Ok(()) } else { Err(Failure::new(format!("`{shown}` ended with {status}"))) }
}

/// Runs `command` silently and returns its standard output; a failure carries what it said on standard error.
pub(crate) fn output(command: &mut Command) -> Result<String, Failure> {
    let shown = shown(command);
    let output = command.stdin(Stdio::null()).output().context(|| format!("cannot run `{shown}`"))?;
    let stdout = String::from_utf8_lossy(&output.stdout).into_owned();
    if output.status.success() {
        return Ok(stdout);
    }
    let stderr = String::from_utf8_lossy(&output.stderr);
    Err(Failure::new(format!("`{shown}` ended with {}: {}{}", output.status, stdout, stderr.trim_end())))
}

/// Runs `command`, shows each line of its standard output and hands it to `line`. Returns whether it succeeded.
pub(crate) fn tee(command: &mut Command, mut line: impl FnMut(&str)) -> Result<bool, Failure> {
    let shown = shown(command);
    let mut child = command.stdout(Stdio::piped()).spawn().context(|| format!("cannot run `{shown}`"))?;
    let stdout = child.stdout.take().expect("standard output was asked for above");
    for text in BufReader::new(stdout).split(b'\n') {
        let text = text.context(|| format!("cannot read what `{shown}` prints"))?;
        let text = String::from_utf8_lossy(&text);
        println!("{text}");
        line(&text);
    }
    let status = child.wait().context(|| format!("cannot wait for `{shown}`"))?;
    Ok(status.success())
}

/// Whether we run as root.
pub(crate) fn is_root() -> bool {
    output(Command::new("id").arg("-u")).is_ok_and(|uid| uid.trim() == "0")
}

/// `program arg arg`, the program without its directory.
fn shown(command: &Command) -> String {
    let program = Path::new(command.get_program());
    let mut shown = program.file_name().unwrap_or(program.as_os_str()).to_string_lossy().into_owned();
    for argument in command.get_args() {
        shown.push(' ');
        shown.push_str(&argument.to_string_lossy());
    }
    shown
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_failing_program_is_named_with_what_it_said() {
        let failure = output(Command::new("/bin/sh").args(["-c", "echo no such thing >&2; exit 3"])).unwrap_err();
        let text = failure.to_string();
        assert!(text.starts_with("`sh -c ") && text.ends_with("no such thing") && text.contains('3'), "{text}");
    }

    #[test]
    fn a_program_that_is_not_there_is_named() {
        let failure = run(&mut Command::new("/nonexistent/lego")).unwrap_err();
        assert!(failure.to_string().starts_with("cannot run `lego`: "), "{failure}");
    }

    #[test]
    fn tee_hands_on_every_line_and_the_outcome() {
        let mut lines = Vec::new();
        let succeeded =
            tee(Command::new("/bin/sh").args(["-c", "echo a; printf b; exit 1"]), |line| lines.push(line.to_owned()));
        assert!(!succeeded.unwrap());
        assert_eq!(lines, ["a", "b"]);
    }
}
