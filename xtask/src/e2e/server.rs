//! The server under test: the real binary, configured as an operator would, in a directory of its own.

use std::env;
use std::fs::{self, File};
use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdout, Command, Stdio};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, mpsc};
use std::thread;
use std::time::{Duration, Instant};

use tempfile::TempDir;

use super::name_server::{INNER_ZONE, NameServer};
use crate::failure::{Context, Failure};
use crate::interrupt::Undone;
use crate::postgres::free_port;
use crate::process;

const READY_WITHIN: Duration = Duration::from_secs(30);
const STOPPED_WITHIN: Duration = Duration::from_secs(20);

/// What the server's own documentation prints before the directory's URL once it is ready.
const READY: &str = "directory  ";

/// A running server, killed when dropped.
#[derive(Debug)]
pub(super) struct Server {
    directory: PathBuf,
    child: Arc<Mutex<Child>>,
    _running: Undone,
    directory_url: String,
    http_port: u16,
    tls_port: u16,
}

impl Server {
    /// Starts `binary` on free ports, with `name_server` for every lookup and its state in the database at
    /// `database_url`, and waits until it says that it is ready.
    pub(super) fn start(binary: &Path, name_server: &NameServer, database_url: &str) -> Result<Self, Failure> {
        let temporary = tempfile::Builder::new()
            .prefix("akamu-e2e-")
            .tempdir()
            .context(|| "cannot make a directory for the server".to_owned())?;
        let directory = temporary.path().to_path_buf();
        let (port, http_port, tls_port) = (free_port()?, free_port()?, free_port()?);
        let config = directory.join("config.toml");
        fs::write(&config, configuration(port, http_port, tls_port, name_server, database_url))
            .context(|| "cannot write the server's configuration".to_owned())?;
        let log = File::create(directory.join("server.log")).context(|| "cannot make the server's log".to_owned())?;

        let mut command = Command::new(binary);
        for (name, _) in env::vars_os() {
            if name.to_string_lossy().starts_with("AKAMU_") {
                command.env_remove(name);
            }
        }
        let mut child = command
            .arg("--config")
            .arg(&config)
            .current_dir(&directory)
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(log)
            .spawn()
            .context(|| format!("cannot run {}", binary.display()))?;
        let stdout = child.stdout.take().expect("standard output was asked for above");
        let child = Arc::new(Mutex::new(child));
        let killed = Arc::clone(&child);
        let running = Undone::at_the_end(move || kill(&killed, temporary));
        let mut server =
            Self { directory, child, _running: running, directory_url: String::new(), http_port, tls_port };
        server.directory_url = directory_url(stdout)
            .ok_or_else(|| Failure::new(format!("the server does not get ready:\n{}", server.log_tail())))?;
        Ok(server)
    }

    pub(super) fn directory_url(&self) -> &str {
        &self.directory_url
    }

    /// The certificate that clients are told to trust.
    pub(super) fn root(&self) -> PathBuf {
        self.directory.join("data/root.pem")
    }

    pub(super) fn http_port(&self) -> u16 {
        self.http_port
    }

    pub(super) fn tls_port(&self) -> u16 {
        self.tls_port
    }

    /// Where clients keep what is theirs.
    pub(super) fn directory(&self) -> &Path {
        &self.directory
    }

    pub(super) fn log_tail(&self) -> String {
        tail(&self.directory.join("server.log"))
    }

    /// Asks it to stop; it must do so soon, and with success.
    pub(super) fn stop(self) -> Result<(), Failure> {
        let id = self.child().id();
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

/// Ends a server that may have ended already, then removes its directory.
fn kill(child: &Mutex<Child>, directory: TempDir) {
    let mut child = child.lock().unwrap_or_else(PoisonError::into_inner);
    let _ = child.kill();
    let _ = child.wait();
    drop(directory);
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

fn configuration(port: u16, http_port: u16, tls_port: u16, name_server: &NameServer, database_url: &str) -> String {
    let (address, inner) = (name_server.address(), name_server.inner_address());
    format!(
        r#"listen_addr = "127.0.0.1:{port}"
base_url = "https://localhost:{port}"
data_dir = "data"

[database]
url = "{database_url}"

[ca]
crl_url = "http://ca.e2e.test/ca/crl"
issuer_url = "http://ca.e2e.test/ca/issuer.der"

[server]
http_validation_port = {http_port}
tls_validation_port = {tls_port}
dns_resolver_addr = "{address}"
address_resolver_addr = "{address}"
validation_allow_networks = ["127.0.0.0/8", "::1/128"]
dns_persist_issuer_domain = "ca.e2e.test"
http01_max_redirects = 2

[[server.dns_forwarders]]
zone = "{INNER_ZONE}"
# The first is closed.
addrs = ["127.0.0.1:1", "{inner}"]
"#
    )
}

/// The last lines of a log.
pub(super) fn tail(log: &Path) -> String {
    let text = fs::read(log).map(|octets| String::from_utf8_lossy(&octets).into_owned()).unwrap_or_default();
    let lines: Vec<&str> = text.lines().collect();
    let tail = lines.get(lines.len().saturating_sub(40)..).unwrap_or_default();
    format!("last lines of {}:\n  {}", log.file_name().unwrap_or_default().to_string_lossy(), tail.join("\n  "))
}
