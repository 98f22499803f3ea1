//! Files that the server's user may not read or write. Root may do everything: where the tests run as root, the server runs
//! as another user.

use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _, chown};
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use rustix::process::Signal;

use crate::{CONFIG, end, lines_of, refusal};

/// A user that needs no entry in /etc/passwd.
const OTHER_USER: u32 = 65534;

fn is_root() -> bool {
    rustix::process::geteuid().is_root()
}

/// A directory that another user can enter, with the binary in it: a clone may lie in a private home.
struct Home {
    directory: tempfile::TempDir,
}

impl Home {
    fn new() -> Self {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path();
        std::fs::set_permissions(path, std::fs::Permissions::from_mode(0o755)).unwrap();
        std::fs::copy(env!("CARGO_BIN_EXE_akamu-server"), path.join("akamu-server")).unwrap();
        std::fs::write(path.join("config.toml"), CONFIG).unwrap();
        std::fs::create_dir(path.join("data")).unwrap();
        if is_root() {
            chown(path.join("data"), Some(OTHER_USER), Some(OTHER_USER)).unwrap();
        }
        Self { directory }
    }

    fn at(&self, name: &str) -> PathBuf {
        self.directory.path().join("data").join(name)
    }

    fn server(&self) -> Command {
        let mut command = Command::new(self.directory.path().join("akamu-server"));
        command.current_dir(self.directory.path()).env_clear().stdin(Stdio::null());
        if is_root() {
            command.uid(OTHER_USER).gid(OTHER_USER);
        }
        command
    }

    /// Starts it, and returns what it says when it is ready.
    fn started(&self) -> (Child, Vec<String>) {
        lines_of(self.server())
    }
}

/// A file or directory with a mode that leaves its user less, until this is dropped.
struct Denied<'a> {
    path: &'a Path,
    mode: u32,
    owner: u32,
}

impl<'a> Denied<'a> {
    fn to(path: &'a Path, mode: u32) -> Self {
        let before = std::fs::metadata(path).unwrap();
        std::fs::set_permissions(path, std::fs::Permissions::from_mode(mode)).unwrap();
        if is_root() {
            chown(path, Some(0), None).unwrap();
        }
        Self { path, mode: before.mode(), owner: before.uid() }
    }
}

impl Drop for Denied<'_> {
    fn drop(&mut self) {
        std::fs::set_permissions(self.path, std::fs::Permissions::from_mode(self.mode)).unwrap();
        if is_root() {
            chown(self.path, Some(self.owner), None).unwrap();
        }
    }
}

#[test]
fn what_may_not_be_read_or_written_is_named_in_one_line() {
    let home = Home::new();
    let (child, ready) = home.started();
    // Killed, so that the log is there too.
    assert_eq!(end(child, Signal::KILL).0, None);
    for (name, mode, named) in [
        ("lock", 0o444, "lock"),
        ("akamu.db", 0o000, "akamu.db"),
        ("akamu.db", 0o444, "akamu.db"),
        ("akamu.db-wal", 0o000, "akamu.db-wal"),
        ("akamu.db-wal", 0o444, "akamu.db"),
        ("akamu.db-shm", 0o000, "akamu.db"),
        ("keys", 0o000, "keys"),
        ("keys/issuing.key", 0o000, "keys/issuing.key"),
        ("keys/issuing.pem", 0o000, "keys/issuing.pem"),
        // Last: the first thing that a start makes there is not there yet.
        ("", 0o000, "lock"),
        ("", 0o555, "lock"),
    ] {
        let path = home.at(name);
        if name.is_empty() {
            let _ = std::fs::remove_file(home.at("lock"));
        }
        let denied = Denied::to(&path, mode);
        let error = refusal(home.server());
        assert!(error.contains(home.at(named).to_str().unwrap()), "{name} {mode:o}: {error}");
        assert!(!error.contains("backup"), "nothing is damaged: {error}");
        drop(denied);
    }
    // Whatever was tried on the way, everything is as before.
    let (child, again) = home.started();
    assert_eq!(again, ready, "the directory and the root");
    assert_eq!(end(child, Signal::TERM).0, Some(0));
}
