//! The server under test: the real binary, configured as an operator would, in a directory of its own.

use std::env;
use std::ffi::OsStr;
use std::fs::{self, OpenOptions};
use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdout, Command, Stdio};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, mpsc};
use std::thread;
use std::time::{Duration, Instant};

use crate::failure::{Context, Failure};
use crate::interrupt::Undone;
use crate::name_server::NameServer;
use crate::postgres::free_port;
use crate::process;

const READY_WITHIN: Duration = Duration::from_secs(30);
const STOPPED_WITHIN: Duration = Duration::from_secs(20);

/// What the server's own documentation prints before the directory's URL once it is ready.
const READY: &str = "directory  ";

/// Where a server lives: a directory with its configuration, log and data, and its ports. It survives the server.
#[derive(Debug, Clone)]
pub(crate) struct Place {
    directory: Arc<Directory>,
    ports: Ports,
}

/// Removed once nobody uses it any more, or this program is told to end.
#[derive(Debug)]
struct Directory {
    path: PathBuf,
    _removed: Undone,
}

/// Free ports of loopback.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Ports {
    /// Where the server listens.
    pub(crate) listen: u16,
    /// Where it looks for http-01.
    pub(crate) http: u16,
    /// Where it looks for tls-alpn-01.
    pub(crate) tls: u16,
    /// Where it serves its metrics, if it is told to.
    pub(crate) admin: u16,
}

/// A running server, killed when dropped.
#[derive(Debug)]
pub(crate) struct Server {
    child: Arc<Mutex<Child>>,
    _running: Undone,
    directory_url: String,
    place: Place,
}

impl Place {
    /// A directory with this configuration, in which `data_dir` must be "data".
    pub(crate) fn new(configuration: impl FnOnce(&Ports) -> String) -> Result<Self, Failure> {
        let temporary = tempfile::Builder::new()
            .prefix("akamu-server-")
            .tempdir()
            .context(|| "cannot make a directory for the server".to_owned())?;
        let path = temporary.path().to_path_buf();
        let ports = Ports { listen: free_port()?, http: free_port()?, tls: free_port()?, admin: free_port()? };
        fs::write(path.join("config.toml"), configuration(&ports))
            .context(|| "cannot write the server's configuration".to_owned())?;
        let directory = Directory { path, _removed: Undone::at_the_end(move || drop(temporary)) };
        Ok(Self { directory: Arc::new(directory), ports })
    }

    /// Starts `binary` and waits until it is ready. Its log goes on where an earlier one's ended.
    pub(crate) fn start(&self, binary: &Path) -> Result<Server, Failure> {
        self.start_in(binary, &[])
    }

    /// The same with these variables in its environment.
    pub(crate) fn start_in(&self, binary: &Path, environment: &[(&str, &OsStr)]) -> Result<Server, Failure> {
        let log = OpenOptions::new().create(true).append(true).open(self.log());
        let log = log.context(|| "cannot make the server's log".to_owned())?;
        let mut command = Command::new(binary);
        for (name, _) in env::vars_os() {
            if name.to_string_lossy().starts_with("AKAMU_") {
                command.env_remove(name);
            }
        }
        let mut child = command
            .args(["--config", "config.toml"])
            .envs(environment.iter().copied())
            .current_dir(self.directory())
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(log)
            .spawn()
            .context(|| format!("cannot run {}", binary.display()))?;
        let stdout = child.stdout.take().expect("standard output was asked for above");
        let child = Arc::new(Mutex::new(child));
        let killed = Arc::clone(&child);
        let running = Undone::at_the_end(move || kill(&killed));
        let Some(directory_url) = directory_url(stdout) else {
            return Err(Failure::new(format!("the server does not get ready:\n{}", tail(&self.log()))));
        };
        Ok(Server { child, _running: running, directory_url, place: self.clone() })
    }

    /// Gives it the keys of the server that started first: one that has none would make its own, and be refused.
    pub(crate) fn share_keys_of(&self, first: &Self) -> Result<(), Failure> {
        let copying = || "cannot give a server the keys of another".to_owned();
        let keys = self.data_dir().join("keys");
        fs::create_dir_all(&keys).context(copying)?;
        for file in fs::read_dir(first.data_dir().join("keys")).context(copying)? {
            let file = file.context(copying)?;
            fs::copy(file.path(), keys.join(file.file_name())).context(copying)?;
        }
        fs::copy(first.root(), self.root()).context(copying)?;
        Ok(())
    }

    pub(crate) fn directory(&self) -> &Path {
        &self.directory.path
    }

    pub(crate) fn data_dir(&self) -> PathBuf {
        self.directory().join("data")
    }

    /// The certificate that clients are told to trust.
    pub(crate) fn root(&self) -> PathBuf {
        self.data_dir().join("root.pem")
    }

    pub(crate) fn ports(&self) -> Ports {
        self.ports
    }

    fn log(&self) -> PathBuf {
        self.directory().join("server.log")
    }
}

impl Server {
    /// Starts `binary` with this configuration in a directory of its own.
    pub(crate) fn start(binary: &Path, configuration: impl FnOnce(&Ports) -> String) -> Result<Self, Failure> {
        Place::new(configuration)?.start(binary)
    }

    pub(crate) fn directory_url(&self) -> &str {
        &self.directory_url
    }

    /// The certificate that clients are told to trust.
    pub(crate) fn root(&self) -> PathBuf {
        self.place.root()
    }

    pub(crate) fn data_dir(&self) -> PathBuf {
        self.place.data_dir()
    }

    pub(crate) fn ports(&self) -> Ports {
        self.place.ports
    }

    /// Its process.
    pub(crate) fn id(&self) -> u32 {
        self.child().id()
    }

    /// Where clients keep what is theirs.
    pub(crate) fn directory(&self) -> &Path {
        self.place.directory()
    }

    pub(crate) fn log_tail(&self) -> String {
        tail(&self.place.log())
    }

    /// Asks it to stop; it must do so soon, and with success.
    pub(crate) fn stop(self) -> Result<(), Failure> {
        let id = self.id();
        process::output(Command::new("kill").arg("-TERM").arg(id.to_string()))?;
        let deadline = Instant::now() + STOPPED_WITHIN;
        loop {
            match self.child().try_wait().context(|| "cannot wait for the server".to_owned())? {
                Some(status) if status.success() => return Ok(()),
                Some(status) => {
                    return Err(Failure::new(format!(
                        "told to stop, the server ends with {status}:\n{}",
                        self.log_tail()
                    )));
                }
                None if Instant::now() > deadline => {
                    let waited = STOPPED_WITHIN.as_secs();
                    return Err(Failure::new(format!("told to stop, the server still runs {waited} s later")));
                }
                None => thread::sleep(Duration::from_millis(20)),
            }
        }
    }

    fn child(&self) -> MutexGuard<'_, Child> {
        self.child.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The embedded database, in the server's data directory.
pub(crate) const SQLITE: &str = "sqlite://akamu.db";

/// A configuration for clients that come to the ports of `common` and answer challenges there; the server listens on
/// `listen`.
pub(crate) fn on_loopback(listen: u16, common: &Ports, name_server: &NameServer, database_url: &str) -> String {
    let Ports { listen: base, http, tls, .. } = common;
    let name_server = name_server.address();
    format!(
        r#"listen_addr = "127.0.0.1:{listen}"
base_url = "https://localhost:{base}"
data_dir = "data"

[database]
url = "{database_url}"

[server]
http_validation_port = {http}
tls_validation_port = {tls}
dns_resolver_addr = "{name_server}"
address_resolver_addr = "{name_server}"
validation_allow_networks = ["127.0.0.0/8"]
"#
    )
}

/// Ends a server that may have ended already.
fn kill(child: &Mutex<Child>) {
    let mut child = child.lock().unwrap_or_else(PoisonError::into_inner);
    let _ = child.kill();
    let _ = child.wait();
}

/// Waits for the line that says the server is ready; what it prints later is read and dropped, or it would block.
fn directory_url(stdout: ChildStdout) -> Option<String> {
    let (sender, receiver) = mpsc::channel();
    thread::spawn(move || {
        for line in BufReader::new(stdout).lines().map_while(Result::ok) {
            if let Some(url) = line.strip_prefix(READY) {
                // Nobody listens once the time is over.
                let _ = sender.send(url.trim().to_owned());
            }
        }
    });
    receiver.recv_timeout(READY_WITHIN).ok()
}

/// The last lines of a log.
pub(crate) fn tail(log: &Path) -> String {
    let text = fs::read(log).map(|octets| String::from_utf8_lossy(&octets).into_owned()).unwrap_or_default();
    let lines: Vec<&str> = text.lines().collect();
    let tail = lines.get(lines.len().saturating_sub(40)..).unwrap_or_default();
    format!("last lines of {}:\n  {}", log.file_name().unwrap_or_default().to_string_lossy(), tail.join("\n  "))
}
