//! What a client meets: the server, the DNS, and a directory of its own in which its output is logged.

use std::ffi::OsStr;
use std::fs::{self, File, OpenOptions};
use std::net::SocketAddr;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use super::certificate;
use super::dns_hook::CONTROL;
use super::web_root::WebRoot;
use crate::failure::{Context, Failure};
use crate::name_server::NameServer;
use crate::programs::Programs;
use crate::server::{Server, tail};

/// No client needs longer for one certificate.
const ENDS_WITHIN: Duration = Duration::from_secs(120);

/// The CRL is made after the revocation has been answered.
const LISTED_WITHIN: Duration = Duration::from_secs(10);

/// The surroundings of one client.
#[derive(Debug)]
pub(super) struct Stage<'a> {
    server: &'a Server,
    name_server: &'a NameServer,
    programs: &'a Programs,
    directory: PathBuf,
}

impl<'a> Stage<'a> {
    /// The surroundings of `client`.
    pub(super) fn new(
        server: &'a Server,
        name_server: &'a NameServer,
        programs: &'a Programs,
        client: &str,
    ) -> Result<Self, Failure> {
        let directory = server.directory().join(client);
        fs::create_dir(&directory).context(|| format!("cannot make a directory for {client}"))?;
        Ok(Self { server, name_server, programs, directory })
    }

    pub(super) fn directory_url(&self) -> &str {
        self.server.directory_url()
    }

    /// The server's program, for who starts one of his own.
    pub(super) fn server_program(&self) -> &Path {
        self.programs.server()
    }

    pub(super) fn root(&self) -> PathBuf {
        self.server.root()
    }

    pub(super) fn http_port(&self) -> u16 {
        self.server.ports().http
    }

    pub(super) fn tls_port(&self) -> u16 {
        self.server.ports().tls
    }

    pub(super) fn name_server(&self) -> SocketAddr {
        self.name_server.address()
    }

    /// A path in the client's directory.
    pub(super) fn path(&self, name: impl AsRef<Path>) -> PathBuf {
        self.directory.join(name)
    }

    /// Runs `command` with its output in the client's log. It must succeed in time.
    pub(super) fn run(&self, command: &mut Command) -> Result<(), Failure> {
        let log = self.log()?;
        let stdout = log.try_clone().context(|| "cannot share the client's log".to_owned())?;
        self.finish(command.stdout(stdout).stderr(log))
    }

    /// As [`Self::run`], with the standard output in a file of the client's directory.
    pub(super) fn run_into(&self, output: &str, command: &mut Command) -> Result<(), Failure> {
        let stdout = File::create(self.path(output)).context(|| format!("cannot make {output}"))?;
        self.finish(command.stdout(stdout).stderr(self.log()?))
    }

    /// Checks the chain at `path` and returns the serial of its first certificate.
    pub(super) fn check(&self, path: &Path, names: &[&str]) -> Result<String, Failure> {
        certificate::check(path, &self.root(), names)
    }

    /// Waits until the server's CRL lists the first certificate of `chain`, and returns where that CRL lies.
    pub(super) fn check_revoked(&self, chain: &Path) -> Result<PathBuf, Failure> {
        let url = self.directory_url().replace("/acme/directory", "/ca/crl");
        let deadline = Instant::now() + LISTED_WITHIN;
        loop {
            let mut fetch = Command::new("curl");
            fetch.args(["--silent", "--show-error", "--fail", "--cacert"]).arg(self.root()).arg(&url);
            self.run_into("crl.der", &mut fetch)?;
            if certificate::is_revoked(chain, &self.root(), &self.path("crl.der"))? {
                return Ok(self.path("crl.der"));
            }
            if Instant::now() > deadline {
                let waited = LISTED_WITHIN.as_secs();
                return Err(Failure::new(format!("{waited} s later the CRL does not list the certificate")));
            }
            thread::sleep(Duration::from_millis(100));
        }
    }

    /// Serves the files of the client's directory `name` under `/.well-known/acme-challenge/`.
    pub(super) fn web_root(&self, name: &str) -> Result<(WebRoot, PathBuf), Failure> {
        let directory = self.path(name);
        fs::create_dir_all(&directory).context(|| format!("cannot make {}", directory.display()))?;
        Ok((WebRoot::start(self.http_port(), &directory)?, directory))
    }

    /// Writes `body` as a shell script, in which `$DNS` adds and removes records.
    pub(super) fn script(&self, name: &str, body: &str) -> Result<PathBuf, Failure> {
        let path = self.path(name);
        let program = self.programs.hook().display();
        fs::write(&path, format!("#!/bin/sh\nset -eu\nDNS=\"{program} dns-hook\"\n{body}"))
            .and_then(|()| fs::set_permissions(&path, fs::Permissions::from_mode(0o755)))
            .context(|| format!("cannot write {}", path.display()))?;
        Ok(path)
    }

    pub(super) fn log_tails(&self) -> String {
        format!("{}\n{}", tail(&self.directory.join("client.log")), self.server.log_tail())
    }

    fn log(&self) -> Result<File, Failure> {
        let path = self.directory.join("client.log");
        OpenOptions::new().create(true).append(true).open(path).context(|| "cannot open the client's log".to_owned())
    }

    fn finish(&self, command: &mut Command) -> Result<(), Failure> {
        let program = Path::new(command.get_program()).file_name().unwrap_or_else(|| OsStr::new("client"));
        let program = program.to_string_lossy().into_owned();
        command.stdin(Stdio::null()).current_dir(&self.directory);
        command.env(CONTROL, self.name_server.control().to_string());
        let mut child = command.spawn().context(|| format!("cannot run {program}"))?;
        let deadline = Instant::now() + ENDS_WITHIN;
        loop {
            match child.try_wait().context(|| format!("cannot wait for {program}"))? {
                Some(status) if status.success() => return Ok(()),
                Some(status) => return Err(Failure::new(format!("{program} ended with {status}"))),
                None if Instant::now() > deadline => {
                    let _ = child.kill();
                    let _ = child.wait();
                    return Err(Failure::new(format!("{program} still ran after {} s", ENDS_WITHIN.as_secs())));
                }
                None => thread::sleep(Duration::from_millis(20)),
            }
        }
    }
}
