//! A PostgreSQL cluster that lives as long as one run of the tests.

use std::fs::{self, Permissions};
use std::net::{Ipv4Addr, TcpListener};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use tempfile::TempDir;

use crate::failure::{Context, Failure};
use crate::packages::{self, Installing, Needed};
use crate::process;

/// What a cluster is made and run with.
const NEEDED: &[Needed] = &[
    Needed { program: "initdb", package: "postgresql" },
    Needed { program: "pg_ctl", package: "postgresql" },
    Needed { program: "postgres", package: "postgresql" },
];

/// PostgreSQL refuses to run as root: then it runs as this user, whom Debian's package makes.
const USER: &str = "postgres";

/// A running cluster, stopped and removed when dropped. It keeps nothing: `fsync` is off.
#[derive(Debug)]
pub(crate) struct Cluster {
    // Not under target/: the user `postgres` cannot enter a clone in a private home.
    directory: TempDir,
    port: u16,
}

impl Cluster {
    /// Makes a cluster and starts it on a free port of loopback.
    pub(crate) fn start(installing: Installing) -> Result<Self, Failure> {
        packages::ensure(NEEDED, installing, binary)?;
        let directory = tempfile::Builder::new()
            .prefix("akamu-postgres-")
            .tempdir()
            .context(|| "cannot make a directory for PostgreSQL".to_owned())?;
        if process::is_root() {
            process::run(Command::new("chown").arg(USER).arg(directory.path()))?;
        }
        let mode = Permissions::from_mode(0o700);
        fs::set_permissions(directory.path(), mode).context(|| "cannot close PostgreSQL's directory".to_owned())?;

        let cluster = Self { directory, port: free_port()? };
        let data = cluster.data();
        process::output(
            cluster
                .command("initdb")?
                .args(["--auth=trust", "--encoding=UTF8", "--no-locale", "--no-sync", "--username=postgres", "-D"])
                .arg(&data),
        )?;
        let log = cluster.directory.path().join("log");
        let started = cluster
            .command("pg_ctl")?
            .args(["start", "--wait", "--silent", "-o", &cluster.options(), "-D"])
            .arg(&data)
            .arg("-l")
            .arg(&log)
            .stdin(Stdio::null())
            .status()
            .context(|| "cannot run pg_ctl".to_owned())?;
        if !started.success() {
            let said = fs::read_to_string(&log).unwrap_or_default();
            return Err(Failure::new(format!("PostgreSQL does not start:\n{said}")));
        }
        println!(
            "postgres: throwaway cluster at 127.0.0.1:{} under {}",
            cluster.port,
            cluster.directory.path().display()
        );
        Ok(cluster)
    }

    /// The superuser's connection URL.
    pub(crate) fn url(&self) -> String {
        format!("postgres://postgres@127.0.0.1:{}/postgres", self.port)
    }

    fn data(&self) -> PathBuf {
        self.directory.path().join("data")
    }

    /// The server's options, as pg_ctl hands them to a shell.
    fn options(&self) -> String {
        format!(
            "-p {} -c listen_addresses=127.0.0.1 -c unix_socket_directories='{}' -c fsync=off \
             -c max_connections=200",
            self.port,
            self.directory.path().display()
        )
    }

    /// A command of PostgreSQL, run as the user it accepts.
    fn command(&self, program: &str) -> Result<Command, Failure> {
        let path = binary(program).ok_or_else(|| Failure::new(format!("{program} is gone")))?;
        let mut command = if process::is_root() {
            let mut command = Command::new("runuser");
            command.args(["-u", USER, "--"]).arg(path);
            command
        } else {
            Command::new(path)
        };
        command.current_dir(self.directory.path());
        Ok(command)
    }
}

impl Drop for Cluster {
    fn drop(&mut self) {
        let stopped = self.command("pg_ctl").and_then(|mut command| {
            process::output(command.args(["stop", "--wait", "--silent", "-m", "immediate", "-D"]).arg(self.data()))
        });
        // A cluster that never started has no process, and that is what pg_ctl then complains of.
        if let Err(failure) = stopped
            && self.data().join("postmaster.pid").exists()
        {
            println!("postgres: {failure}");
        }
    }
}

/// PostgreSQL's program: Debian keeps the servers of all versions apart, out of PATH.
fn binary(program: &str) -> Option<PathBuf> {
    newest(Path::new("/usr/lib/postgresql"), program).or_else(|| process::in_path(program))
}

/// `program` of the highest version installed under `versions`.
fn newest(versions: &Path, program: &str) -> Option<PathBuf> {
    let installed = fs::read_dir(versions).ok()?.filter_map(|entry| {
        let directory = entry.ok()?.path();
        let version: u32 = directory.file_name()?.to_str()?.parse().ok()?;
        let path = directory.join("bin").join(program);
        path.is_file().then_some((version, path))
    });
    installed.max().map(|(_, path)| path)
}

/// A port that nobody listens on right now.
pub(crate) fn free_port() -> Result<u16, Failure> {
    let address = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).and_then(|listener| listener.local_addr());
    address.map(|address| address.port()).context(|| "loopback has no free port".to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_highest_version_that_has_the_program_is_taken() {
        let versions = tempfile::tempdir().unwrap();
        for (version, program) in [("9", "initdb"), ("15", "initdb"), ("17", "psql")] {
            let bin = versions.path().join(version).join("bin");
            fs::create_dir_all(&bin).unwrap();
            fs::write(bin.join(program), "").unwrap();
        }
        assert_eq!(newest(versions.path(), "initdb"), Some(versions.path().join("15/bin/initdb")));
        assert_eq!(newest(versions.path(), "postgres"), None);
    }
}
