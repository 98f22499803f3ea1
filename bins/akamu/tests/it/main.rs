//! The binary as an operator runs it: what it prints, how it ends.
#![expect(clippy::unwrap_used, reason = "a test may panic")]

use std::io::{BufRead as _, BufReader, Read as _};
use std::path::Path;
use std::process::{Child, Command, Output, Stdio};

use rustix::process::{Pid, Signal, kill_process};

fn akamu_server(directory: &Path) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_akamu-server"));
    command.current_dir(directory).env_clear().stdin(Stdio::null());
    command
}

fn run(directory: &Path, arguments: &[&str]) -> Output {
    akamu_server(directory).args(arguments).output().unwrap()
}

fn text(octets: &[u8]) -> &str {
    std::str::from_utf8(octets).unwrap()
}

const CONFIG: &str = "base_url = \"https://localhost\"\nlisten_addr = \"127.0.0.1:0\"\ndata_dir = \"data\"\n";

/// A server that has said that it is ready.
fn ready(directory: &Path, arguments: &[&str]) -> (Child, Vec<String>) {
    std::fs::write(directory.join("config.toml"), CONFIG).unwrap();
    started(directory, arguments)
}

/// The same, with the config.toml that is there.
fn started(directory: &Path, arguments: &[&str]) -> (Child, Vec<String>) {
    let mut child =
        akamu_server(directory).args(arguments).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    let lines = BufReader::new(child.stdout.take().unwrap()).lines().take(3).map(Result::unwrap).collect();
    (child, lines)
}

fn end(mut child: Child, signal: Signal) -> (Option<i32>, String) {
    kill_process(Pid::from_child(&child), signal).unwrap();
    let mut log = String::new();
    child.stderr.take().unwrap().read_to_string(&mut log).unwrap();
    (child.wait().unwrap().code(), log)
}

#[test]
fn it_says_when_it_is_ready_and_ends_with_0_on_either_signal() {
    let directory = tempfile::tempdir().unwrap();
    for signal in [Signal::TERM, Signal::INT] {
        let (child, lines) = ready(directory.path(), &[]);
        let [directory_line, root, sha256] = lines.as_slice() else { panic!("{lines:?}") };
        assert_eq!(directory_line, "directory  https://localhost/acme/directory");
        let path = root.strip_prefix("root       ").unwrap();
        assert!(Path::new(path).is_absolute() && Path::new(path).is_file(), "{root}");
        assert_eq!(sha256.strip_prefix("SHA-256    ").unwrap().len(), 64);
        let (code, log) = end(child, signal);
        assert_eq!(code, Some(0), "{log}");
        assert!(log.contains("stopped"), "{log}");
    }
}

#[test]
fn json_logs_are_one_object_a_line() {
    let directory = tempfile::tempdir().unwrap();
    let (child, _) = ready(directory.path(), &["serve", "--log-format", "json"]);
    let (code, log) = end(child, Signal::TERM);
    assert_eq!(code, Some(0), "{log}");
    assert!(log.lines().count() >= 2, "{log}");
    for line in log.lines() {
        let entry: serde_json::Value = serde_json::from_str(line).unwrap_or_else(|error| panic!("{error}: {line}"));
        assert!(entry["level"].is_string() && entry["timestamp"].is_string(), "{line}");
    }
}

#[test]
fn help_and_version_go_to_standard_output() {
    let directory = tempfile::tempdir().unwrap();
    let version = run(directory.path(), &["--version"]);
    assert_eq!(text(&version.stdout), concat!("akamu-server ", env!("CARGO_PKG_VERSION"), "\n"));
    let help = run(directory.path(), &["--help"]);
    for word in ["--config", "--data-dir", "--listen", "--base-url", "--log-format", "config", "adopt"] {
        assert!(text(&help.stdout).contains(word), "{word}: {}", text(&help.stdout));
    }
    assert!(version.status.success() && help.status.success());
    assert_eq!(run(directory.path(), &["--nonsense"]).status.code(), Some(2));
}

#[test]
fn a_wrong_configuration_ends_in_one_line_on_standard_error() {
    let directory = tempfile::tempdir().unwrap();
    std::fs::write(directory.path().join("config.toml"), format!("{CONFIG}liste_addr = 1\n")).unwrap();
    for arguments in [[].as_slice(), &["config"]] {
        let output = run(directory.path(), arguments);
        assert_eq!(output.status.code(), Some(78));
        assert!(output.stdout.is_empty());
        let error = text(&output.stderr);
        assert_eq!(error.lines().count(), 1, "{error}");
        assert!(
            error.starts_with("akamu-server: ") && error.contains("config.toml line 4: there is no key liste_addr")
        );
    }
}

#[test]
fn a_database_is_given_to_another_base_url_after_it_is_shown_what_that_means() {
    let directory = tempfile::tempdir().unwrap();
    let adopt = |arguments: &[&str]| {
        let output = run(directory.path(), &[&["adopt"], arguments].concat());
        assert!(output.status.success(), "{}", text(&output.stderr));
        text(&output.stdout).to_owned()
    };
    std::fs::write(directory.path().join("config.toml"), CONFIG).unwrap();
    assert!(adopt(&["--yes"]).contains("The database is new"));
    assert!(!directory.path().join("data").exists());
    let (child, _) = ready(directory.path(), &[]);
    assert_eq!(end(child, Signal::TERM).0, Some(0));
    assert!(adopt(&["--yes"]).contains("nothing is to be done"));

    let moved = CONFIG.replace("https://localhost", "https://127.0.0.1");
    std::fs::write(directory.path().join("config.toml"), moved).unwrap();
    let refused = run(directory.path(), &[]);
    assert_eq!(refused.status.code(), Some(69));
    let error = text(&refused.stderr).lines().last().unwrap_or_default();
    assert!(error.contains("`akamu-server adopt`"), "{error}");
    let shown = adopt(&[]);
    for part in ["base_url https://localhost\n", "base_url https://127.0.0.1\n", "_validation-persist", "--yes"] {
        assert!(shown.contains(part), "{part}: {shown}");
    }
    assert_eq!(run(directory.path(), &[]).status.code(), Some(69), "to show is not to record");
    assert!(adopt(&["--yes"]).ends_with("Recorded.\n"));
    let (child, lines) = started(directory.path(), &[]);
    assert_eq!(lines.first().map(String::as_str), Some("directory  https://127.0.0.1/acme/directory"));
    assert_eq!(end(child, Signal::TERM).0, Some(0));
}

#[test]
fn config_prints_a_file_that_is_in_force() {
    let directory = tempfile::tempdir().unwrap();
    std::fs::write(directory.path().join("config.toml"), CONFIG).unwrap();
    let output = run(directory.path(), &["config"]);
    assert!(output.status.success(), "{}", text(&output.stderr));
    assert!(text(&output.stdout).contains("base_url = \"https://localhost\"  # "), "{}", text(&output.stdout));
}
