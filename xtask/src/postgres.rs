//! A PostgreSQL cluster that lives as long as one run of the tests.

mod pair;

use std::env;
use std::fs::{self, OpenOptions, Permissions};
use std::io::{self, BufWriter, Write};
use std::net::{Ipv4Addr, TcpListener};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use tempfile::TempDir;

use crate::failure::{Context, Failure};
use crate::interrupt::Undone;
use crate::packages::{self, Installing, Needed};
use crate::process;

pub(crate) use pair::Pair;

/// What a cluster is made and run with.
const NEEDED: &[Needed] = &[
    Needed { program: "initdb", package: "postgresql" },
    Needed { program: "pg_ctl", package: "postgresql" },
    Needed { program: "postgres", package: "postgresql" },
    Needed { program: "createdb", package: "postgresql" },
    Needed { program: "psql", package: "postgresql" },
    Needed { program: "pg_basebackup", package: "postgresql" },
];

/// PostgreSQL refuses to run as root: then it runs as this user, whom Debian's package makes.
const USER: &str = "postgres";

/// More than the tests use at once.
const MAX_CONNECTIONS: u32 = 200;

/// What counts statements by their text, where it is installed.
const STATEMENT_STATISTICS: &str = "pg_stat_statements";

/// A running cluster, stopped and removed when dropped.
#[derive(Debug)]
pub(crate) struct Cluster {
    port: u16,
    directory: PathBuf,
    _running: Undone,
}

impl Cluster {
    /// Makes a cluster and starts it on a free port of loopback. It keeps nothing: `fsync` is off.
    pub(crate) fn start(installing: Installing) -> Result<Self, Failure> {
        Self::configured(installing, |_| Ok(String::new()))
    }

    /// As [`Self::start`], but as durable as a real one. It counts statements, where it can.
    pub(crate) fn start_durable(installing: Installing) -> Result<Self, Failure> {
        packages::ensure(NEEDED, installing, binary)?;
        Self::configured(installing, |_| {
            let mut settings = "fsync = on\n".to_owned();
            if has_statement_statistics() {
                settings.push_str(&format!("shared_preload_libraries = '{STATEMENT_STATISTICS}'\n"));
                settings.push_str(&format!("{STATEMENT_STATISTICS}.track = top\n"));
            }
            Ok(settings)
        })
    }

    /// The same with these settings, which a copy of it has too. They may name paths in its directory.
    pub(crate) fn configured(
        installing: Installing,
        settings: impl FnOnce(&Path) -> Result<String, Failure>,
    ) -> Result<Self, Failure> {
        packages::ensure(NEEDED, installing, binary)?;
        let cluster = Self::nowhere(free_port()?)?;
        process::output(
            command("initdb", &cluster.directory)?
                .args(["--auth=trust", "--encoding=UTF8", "--no-locale", "--no-sync", "--username=postgres", "-D"])
                .arg(cluster.data()),
        )?;
        let of_copies = format!(
            "max_connections = {MAX_CONNECTIONS}\nfsync = off\nunix_socket_directories = '{}'\n",
            cluster.directory.display()
        );
        let settings = of_copies + &settings(&cluster.directory)?;
        OpenOptions::new()
            .append(true)
            .open(cluster.data().join("postgresql.conf"))
            .and_then(|mut file| file.write_all(settings.as_bytes()))
            .context(|| "cannot configure PostgreSQL".to_owned())?;
        cluster.start_again()?;
        println!("postgres: throwaway cluster at 127.0.0.1:{} under {}", cluster.port, cluster.directory.display());
        Ok(cluster)
    }

    /// Makes a standby of `primary`, which streams what that one writes.
    fn follow(primary: &Self, port: u16) -> Result<Self, Failure> {
        let standby = Self::nowhere(port)?;
        let mut copy = command("pg_basebackup", &standby.directory)?;
        copy.args(["--host=127.0.0.1", "--username=postgres", "--port", &primary.port.to_string()]);
        copy.args(["--checkpoint=fast", "--no-sync", "--write-recovery-conf", "--pgdata"]).arg(standby.data());
        process::output(&mut copy)?;
        standby.start_again()?;
        Ok(standby)
    }

    /// A directory for one that is not made yet, which is removed with it.
    pub(crate) fn nowhere(port: u16) -> Result<Self, Failure> {
        // Not under target/: the user `postgres` cannot enter a clone in a private home.
        let directory = tempfile::Builder::new()
            .prefix("akamu-postgres-")
            .tempdir()
            .context(|| "cannot make a directory for PostgreSQL".to_owned())?;
        let path = directory.path().to_path_buf();
        if process::is_root() {
            process::run(Command::new("chown").arg(USER).arg(&path))?;
        }
        let mode = Permissions::from_mode(0o700);
        fs::set_permissions(&path, mode).context(|| "cannot close PostgreSQL's directory".to_owned())?;
        let running = Undone::at_the_end(move || stop(&directory));
        Ok(Self { port, directory: path, _running: running })
    }

    pub(crate) fn directory(&self) -> &Path {
        &self.directory
    }

    /// Runs commands in its directory, as the user that owns it; the clients among them find it.
    pub(crate) fn shell(&self, commands: &str) -> Result<(), Failure> {
        let programs = binary("pg_ctl").ok_or_else(|| Failure::new("pg_ctl is gone"))?;
        let path = [programs.parent().map(Path::to_path_buf), env::var_os("PATH").map(PathBuf::from)];
        let path: Vec<_> = path.into_iter().flatten().map(|it| it.display().to_string()).collect();
        let mut shell = as_user(Path::new("sh"), &self.directory);
        shell.args(["-euc", commands]).env("PATH", path.join(":"));
        shell.env("PGHOST", "127.0.0.1").env("PGPORT", self.port.to_string()).env("PGUSER", "postgres");
        process::output(&mut shell).map(drop)
    }

    /// Ends it when all is written and archived.
    pub(crate) fn end(&self) -> Result<(), Failure> {
        let mut command = command("pg_ctl", &self.directory)?;
        command.args(["stop", "--wait", "--silent", "-m", "fast", "-D"]).arg(self.data());
        process::output(&mut command).map(drop)
    }

    fn data(&self) -> PathBuf {
        self.directory.join("data")
    }

    /// Has a standby take writes.
    fn promote(&self) -> Result<(), Failure> {
        let mut command = command("pg_ctl", &self.directory)?;
        process::output(command.args(["promote", "--wait", "--silent", "-D"]).arg(self.data())).map(drop)
    }

    /// Starts a cluster that has crashed.
    pub(crate) fn start_again(&self) -> Result<(), Failure> {
        let log = self.directory.join("log");
        let started = command("pg_ctl", &self.directory)?
            .args(["start", "--wait", "--silent", "-o", &options(self.port, &self.directory), "-D"])
            .arg(self.data())
            .arg("-l")
            .arg(&log)
            .stdin(Stdio::null())
            .status()
            .context(|| "cannot run pg_ctl".to_owned())?;
        if started.success() {
            return Ok(());
        }
        let said = fs::read_to_string(&log).unwrap_or_default();
        Err(Failure::new(format!("PostgreSQL does not start:\n{said}")))
    }

    /// Ends it without a checkpoint, as a crash would; the operating system keeps what was written.
    pub(crate) fn crash(&self) -> Result<(), Failure> {
        let mut command = command("pg_ctl", &self.directory)?;
        command.args(["stop", "--wait", "--silent", "-m", "immediate", "-D"]).arg(self.data());
        process::output(&mut command).map(drop)
    }

    /// Ends every connection of others.
    pub(crate) fn cut_connections(&self) -> Result<(), Failure> {
        let sql = "SELECT count(pg_terminate_backend(pid)) FROM pg_stat_activity \
                   WHERE pid <> pg_backend_pid() AND backend_type = 'client backend'";
        self.query("postgres", sql).map(drop)
    }

    /// What a query of one value answers.
    pub(crate) fn query(&self, database: &str, sql: &str) -> Result<String, Failure> {
        let path = binary("psql").ok_or_else(|| Failure::new("psql is gone"))?;
        let mut psql = Command::new(path);
        psql.args(["--no-psqlrc", "--tuples-only", "--no-align", "--command", sql, &self.database_url(database)]);
        process::output(&mut psql)
    }

    /// Runs a COPY from what `write` writes. References between rows are taken on trust: checking them takes longer than
    /// all the rest.
    pub(crate) fn feed(
        &self,
        database: &str,
        copy: &str,
        write: impl FnOnce(&mut dyn Write) -> io::Result<()>,
    ) -> Result<(), Failure> {
        let failed = || format!("psql cannot run {copy:?}");
        let path = binary("psql").ok_or_else(|| Failure::new("psql is gone"))?;
        let mut psql = Command::new(path);
        psql.args(["--no-psqlrc", "--quiet", "--command", copy, &self.database_url(database)]);
        psql.env("PGOPTIONS", "-c session_replication_role=replica").stdin(Stdio::piped());
        let mut child = psql.spawn().context(failed)?;
        let stdin = child.stdin.take().expect("standard input was asked for above");
        let mut stdin = BufWriter::with_capacity(1 << 20, stdin);
        let written = write(&mut stdin).and_then(|()| stdin.flush());
        drop(stdin);
        let status = child.wait().context(failed)?;
        written.context(failed)?;
        if status.success() { Ok(()) } else { Err(Failure::new(format!("{}: {status}", failed()))) }
    }

    /// Its first process, which starts one for each connection.
    pub(crate) fn id(&self) -> Result<u32, Failure> {
        let path = self.directory.join("data/postmaster.pid");
        let text = fs::read_to_string(&path).context(|| format!("cannot read {}", path.display()))?;
        let id = text.lines().next().and_then(|line| line.trim().parse().ok());
        id.ok_or_else(|| Failure::new(format!("{} does not begin with a number", path.display())))
    }

    /// The superuser's connection URL.
    pub(crate) fn url(&self) -> String {
        self.database_url("postgres")
    }

    /// Makes an empty database and returns its connection URL.
    pub(crate) fn create_database(&self, name: &str) -> Result<String, Failure> {
        // Not `command`: whoever connects over loopback is trusted.
        let path = binary("createdb").ok_or_else(|| Failure::new("createdb is gone"))?;
        let mut createdb = Command::new(path);
        createdb.args(["--host=127.0.0.1", "--username=postgres", "--port", &self.port.to_string(), name]);
        process::output(&mut createdb)?;
        Ok(self.database_url(name))
    }

    pub(crate) fn database_url(&self, name: &str) -> String {
        format!("postgres://postgres@127.0.0.1:{}/{name}", self.port)
    }
}

/// The server's options, as pg_ctl hands them to a shell.
fn options(port: u16, directory: &Path) -> String {
    format!(
        "-p {port} -c listen_addresses=127.0.0.1 -c unix_socket_directories='{}' \
         -c wal_retrieve_retry_interval=200ms",
        directory.display()
    )
}

/// A command of PostgreSQL, run as the user it accepts.
fn command(program: &str, directory: &Path) -> Result<Command, Failure> {
    let path = binary(program).ok_or_else(|| Failure::new(format!("{program} is gone")))?;
    Ok(as_user(&path, directory))
}

/// A program, run in PostgreSQL's directory as the user whom it belongs to.
fn as_user(path: &Path, directory: &Path) -> Command {
    let mut command = if process::is_root() {
        let mut command = Command::new("runuser");
        command.args(["-u", USER, "--"]).arg(path);
        command
    } else {
        Command::new(path)
    };
    command.current_dir(directory);
    command
}

/// Stops the cluster, if it ever started; its directory goes when dropped.
fn stop(directory: &TempDir) {
    let data = directory.path().join("data");
    if !data.join("postmaster.pid").exists() {
        return;
    }
    let stopped = command("pg_ctl", directory.path()).and_then(|mut command| {
        process::output(command.args(["stop", "--wait", "--silent", "-m", "immediate", "-D"]).arg(&data))
    });
    if let Err(failure) = stopped {
        println!("postgres: {failure}");
    }
}

/// Whether the library is there that [`Cluster::start_durable`] would have loaded: another package may hold it.
pub(crate) fn has_statement_statistics() -> bool {
    let library = |server: PathBuf| Some(server.parent()?.parent()?.join(format!("lib/{STATEMENT_STATISTICS}.so")));
    binary("postgres").and_then(library).is_some_and(|it| it.is_file())
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
