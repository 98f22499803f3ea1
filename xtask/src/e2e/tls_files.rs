//! openssl's own web server: files over https, with a certificate that nobody trusts.

use std::fs::{self, File};
use std::io::{BufRead, BufReader};
use std::path::Path;
use std::process::{Command, Stdio};

use crate::failure::{Context, Failure};
use crate::interrupt::Undone;
use crate::process;

/// A running server; it ends when dropped.
#[derive(Debug)]
pub(super) struct TlsFiles {
    _running: Undone,
}

impl TlsFiles {
    /// Serves the files of `directory` on loopback once this returns.
    pub(super) fn start(port: u16, directory: &Path) -> Result<Self, Failure> {
        let (key, cert) = (directory.join("site.key"), directory.join("site.pem"));
        fs::create_dir_all(directory).context(|| format!("cannot make {}", directory.display()))?;
        let mut make = Command::new("openssl");
        make.args(["req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-days", "1"]);
        make.args(["-subj", "/CN=nobody trusts this"]).arg("-keyout").arg(&key).arg("-out").arg(&cert);
        process::output(&mut make)?;
        let log = File::create(directory.join("s_server.log")).context(|| "cannot make a log".to_owned())?;
        let mut serve = Command::new("openssl");
        serve
            .args(["s_server", "-WWW", "-accept", &format!("127.0.0.1:{port}"), "-key"])
            .arg(key)
            .arg("-cert")
            .arg(cert);
        serve.current_dir(directory).stdin(Stdio::null()).stdout(Stdio::piped()).stderr(log);
        let mut child = serve.spawn().context(|| "cannot run openssl s_server".to_owned())?;
        let stdout = child.stdout.take();
        let running = Undone::at_the_end(move || {
            let _ = child.kill();
            let _ = child.wait();
        });
        // It says so when it listens; what it says later is read and dropped, or it would block.
        let mut lines = stdout.into_iter().flat_map(|it| BufReader::new(it).lines().map_while(Result::ok));
        if !lines.any(|line| line == "ACCEPT") {
            return Err(Failure::new("openssl s_server does not listen; see s_server.log"));
        }
        std::thread::spawn(move || lines.for_each(drop));
        Ok(Self { _running: running })
    }
}
