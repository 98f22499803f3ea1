//! The binary as an operator runs it: what it prints, how it ends.
#![expect(clippy::unwrap_used, reason = "a test may panic")]

mod access;
mod damage;

use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::TcpListener;
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
    let mut server = akamu_server(directory);
    server.args(arguments);
    lines_of(server)
}

/// The process, and what it says when it is ready: nothing, where it ends instead.
fn lines_of(mut server: Command) -> (Child, Vec<String>) {
    let mut child = server.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    let lines = BufReader::new(child.stdout.take().unwrap()).lines().take(3).map(Result::unwrap).collect();
    (child, lines)
}

fn end(mut child: Child, signal: Signal) -> (Option<i32>, String) {
    kill_process(Pid::from_child(&child), signal).unwrap();
    let mut log = String::new();
    child.stderr.take().unwrap().read_to_string(&mut log).unwrap();
    (child.wait().unwrap().code(), log)
}

/// The one line of a server that does not start. Nothing else is said, on either stream.
fn refusal(server: Command) -> String {
    let (child, lines) = lines_of(server);
    let (code, error) = end(child, Signal::KILL);
    assert!(lines.is_empty(), "it started: {lines:?}");
    assert_eq!(code, Some(69), "{error}");
    assert_eq!(error.lines().count(), 1, "{error}");
    error.trim_end().strip_prefix("akamu-server: ").unwrap().to_owned()
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
    for word in [
        "--config",
        "--data-dir",
        "--listen",
        "--base-url",
        "--log-format",
        "config",
        "check",
        "persist-record",
        "adopt",
        "migrate",
        "backup",
        "restore",
    ] {
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
fn migrate_makes_the_schema_and_no_ca() {
    let directory = tempfile::tempdir().unwrap();
    std::fs::write(directory.path().join("config.toml"), CONFIG).unwrap();
    for _ in 0..2 {
        let output = run(directory.path(), &["migrate"]);
        assert_eq!(output.status.code(), Some(0), "{}", text(&output.stderr));
        let said = text(&output.stdout);
        assert!(said.starts_with("the schema is up to date: migration 2026") && said.lines().count() == 1, "{said}");
    }
    assert!(!directory.path().join("data/keys").exists());
    let (child, _) = ready(directory.path(), &[]);
    assert_eq!(end(child, Signal::TERM).0, Some(0));
    std::fs::write(directory.path().join("data/akamu.db"), "no database, but a text").unwrap();
    let output = run(directory.path(), &["migrate"]);
    assert_eq!(output.status.code(), Some(69));
    assert!(text(&output.stderr).lines().count() == 1, "{}", text(&output.stderr));
}

#[test]
fn a_serving_database_is_backed_up_and_restored_in_one_line_each() {
    let (ours, theirs) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let (child, lines) = ready(ours.path(), &[]);
    let backup = theirs.path().join("backup");
    let backup = backup.to_str().unwrap();
    let output = run(ours.path(), &["backup", backup]);
    assert_eq!(output.status.code(), Some(0), "{}", text(&output.stderr));
    let files = "akamu.db, root.pem, keys/issuing.key, keys/issuing.pem, keys/root.key";
    let said = text(&output.stdout);
    assert!(said.starts_with(&format!("{backup}: backup of https://localhost: {files}; ")), "{said}");
    assert!(said.ends_with(" octets\n") && said.lines().count() == 1, "{said}");
    let without = run(ours.path(), &["backup", "without", "--without-keys"]);
    assert!(text(&without.stdout).contains("\nnot in it: "), "{}", text(&without.stdout));
    std::fs::write(ours.path().join("passphrase"), "open sesame\n").unwrap();
    let encrypted = run(ours.path(), &["backup", "encrypted", "--passphrase-file", "passphrase"]);
    assert_eq!(encrypted.status.code(), Some(0), "{}", text(&encrypted.stderr));
    let key = std::fs::read_to_string(ours.path().join("encrypted/keys/issuing.key")).unwrap();
    assert!(key.starts_with("-----BEGIN ENCRYPTED PRIVATE KEY-----\n"), "{key}");
    assert_eq!(end(child, Signal::KILL).0, None);

    std::fs::write(theirs.path().join("config.toml"), CONFIG).unwrap();
    let output = run(theirs.path(), &["restore", "backup"]);
    assert_eq!(output.status.code(), Some(0), "{}", text(&output.stderr));
    let said = text(&output.stdout);
    assert!(said.contains(": restored https://localhost as of ") && said.contains("badNonce"), "{said}");
    let (child, again) = started(theirs.path(), &[]);
    assert_eq!((&again[0], &again[2]), (&lines[0], &lines[2]), "the directory and the root");
    assert_eq!(end(child, Signal::TERM).0, Some(0));

    std::fs::write(theirs.path().join("empty"), "\n").unwrap();
    let postgres = ["AKAMU_DATABASE__URL", "postgres://localhost/akamu"];
    for (arguments, variable, status, expected) in [
        (&["backup", backup][..], None, 2, "is not empty"),
        (&["restore", backup], None, 2, "is there already"),
        (&["restore", "data"], None, 2, "data/backup.json: is no backup's"),
        (&["restore", backup, "--base-url", "https://other.test"], None, 2, "base_url is https://other.test"),
        (&["backup", "other", "--passphrase-file", "absent"], None, 1, "absent: "),
        (&["backup", "other", "--passphrase-file", "empty"], None, 2, "empty: its first line is empty"),
        (&["backup", "absent/backup"], None, 1, "absent/backup.partial: "),
        (&["backup", "other"], Some(postgres), 2, "pg_dump"),
        (&["restore", backup], Some(postgres), 2, "docs/src/backup.md"),
        (&["backup"], None, 2, "DIR"),
    ] {
        let mut command = akamu_server(theirs.path());
        let output = command.args(arguments).envs(variable.map(|[name, value]| (name, value))).output().unwrap();
        let error = text(&output.stderr);
        assert_eq!(output.status.code(), Some(status), "{arguments:?}: {error}");
        assert!(error.contains(expected), "{arguments:?}: {error}");
        assert!(arguments.len() == 1 || error.lines().count() == 1, "{error}");
    }
}

#[test]
fn check_validates_from_here_and_says_so_by_its_exit_status() {
    let directory = tempfile::tempdir().unwrap();
    let web = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = web.local_addr().unwrap().port();
    let server = format!("[server]\nhttp_validation_port = {port}\nvalidation_allow_networks = [\"127.0.0.0/8\"]\n");
    std::fs::write(directory.path().join("config.toml"), format!("{CONFIG}{server}")).unwrap();
    let token = "DGyRejmCefe7v4NfDGDKfA";
    let thumbprint = "9jg46WB3rR_AHD-EBXdN7cBkH1WOu0tA3M9fm21mqTI";
    let body = format!("{token}.{thumbprint}");
    std::thread::spawn(move || {
        for stream in web.incoming() {
            let mut stream = stream.unwrap();
            let _ = stream.read(&mut [0; 4096]);
            let _ = write!(stream, "HTTP/1.1 200 OK\r\nContent-Length: {}\r\n\r\n{body}", body.len());
        }
    });
    let check = |arguments: &[&str]| {
        let output = run(directory.path(), &[&["check", "127.0.0.1", "--type", "http-01"], arguments].concat());
        (output.status.code(), text(&output.stdout).to_owned(), text(&output.stderr).to_owned())
    };
    let proof = ["--token", token, "--thumbprint", thumbprint];
    let (code, story, _) = check(&proof);
    assert_eq!(code, Some(0), "{story}");
    assert!(story.contains(&format!("TCP 127.0.0.1:{port}: connected")), "{story}");
    assert!(story.trim_end().ends_with(" ms  valid") && !story.contains('\u{1b}'), "{story}");
    let (code, json, _) = check(&[&proof[..], &["--json"]].concat());
    let report: serde_json::Value = serde_json::from_str(&json).unwrap();
    assert_eq!((code, report["method"].as_str()), (Some(0), Some("http-01")), "{json}");

    let (code, story, _) = check(&["--token", "another", "--thumbprint", thumbprint]);
    assert_eq!(code, Some(1), "{story}");
    assert!(story.contains("invalid: incorrectResponse: "), "{story}");
    let (code, story, _) = check(&[]);
    assert_eq!(code, Some(1), "{story}");
    assert!(story.contains("Nothing to look for was given"), "{story}");

    for arguments in [&["--token", "a b", "--thumbprint", thumbprint][..], &["--token", token], &["--account", "x"]] {
        let (code, out, error) = check(arguments);
        assert_eq!((code, out.as_str()), (Some(2), ""), "{arguments:?}: {error}");
    }
    let output = run(directory.path(), &["check", "*.a.test", "--type", "http-01"]);
    assert_eq!(output.status.code(), Some(2));
    let expected = "akamu-server: http-01 is not offered for *.a.test here; offered are: dns-01\n";
    assert_eq!(text(&output.stderr), expected);
    assert!(!directory.path().join("data").exists(), "nothing is made");
}

#[test]
fn persist_record_prints_what_the_server_accepts() {
    let directory = tempfile::tempdir().unwrap();
    let server = "[server]\ndns_persist_issuer_domain = \"ca.test\"\n";
    std::fs::write(directory.path().join("config.toml"), format!("{CONFIG}{server}")).unwrap();
    let account = "https://localhost/acme/account/1907";
    let print = |name: &str, arguments: &[&str]| {
        run(directory.path(), &[&["persist-record", name, "--account", account], arguments].concat())
    };
    let thumbprint = "9jg46WB3rR_AHD-EBXdN7cBkH1WOu0tA3M9fm21mqTI";
    let output = print("example.com", &["--wildcard", "--until", "9000-01-01T00:00:00Z", "--thumbprint", thumbprint]);
    assert!(output.status.success(), "{}", text(&output.stderr));
    let lines: Vec<_> = text(&output.stdout).lines().filter(|it| !it.is_empty() && !it.starts_with(';')).collect();
    let name = "_validation-persist.example.com. IN TXT";
    assert_eq!(lines.len(), 4, "{lines:?}");
    assert_eq!(
        lines[..2],
        [
            format!("{name} \"ca.test; accounturi={account}; policy=wildcard; persistUntil=221845392000\""),
            format!("{name} \"ca.test; accounturi={account}; policy=wildcard; persistUntil=9000-01-01T00:00:00Z\""),
        ]
    );
    for line in &lines[2..] {
        assert!(
            line.starts_with(&format!("{name} \"ca.test; accounturi=https://localhost/acme/account-hash/sha-256/"))
        );
    }
    let wildcard = print("*.example.com", &[]);
    assert!(text(&wildcard.stdout).contains(&format!("{name} \"ca.test; accounturi={account}; policy=wildcard\"")));
    for (name, arguments, expected) in [
        ("10.0.0.1", &[][..], "10.0.0.1 is an address"),
        ("bad_name", &[], "bad_name: "),
        ("example.com", &["--until", "tomorrow"], "--until tomorrow: is no time"),
        ("example.com", &["--until", "2020-01-01T00:00:00Z"], "--until 2020-01-01T00:00:00Z: that is over"),
    ] {
        let output = print(name, arguments);
        assert_eq!(output.status.code(), Some(2));
        let error = text(&output.stderr);
        assert!(error.starts_with(&format!("akamu-server: {expected}")) && error.lines().count() == 1, "{error}");
    }
    let other = run(directory.path(), &["persist-record", "example.com", "--account", "https://other.test/1"]);
    assert_eq!(other.status.code(), Some(2));
    assert!(text(&other.stderr).contains("https://localhost/acme/account/<number>"), "{}", text(&other.stderr));
}

#[test]
fn config_prints_a_file_that_is_in_force() {
    let directory = tempfile::tempdir().unwrap();
    std::fs::write(directory.path().join("config.toml"), CONFIG).unwrap();
    let output = run(directory.path(), &["config"]);
    assert!(output.status.success(), "{}", text(&output.stderr));
    assert!(text(&output.stdout).contains("base_url = \"https://localhost\"  # "), "{}", text(&output.stdout));
}
