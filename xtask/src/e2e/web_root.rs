//! A web server for clients that only write files: it serves what they put under `/.well-known/acme-challenge/`, or sends
//! everybody to https.

use std::fs;
use std::io::{BufRead, BufReader, Write};
use std::net::{Ipv4Addr, TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use crate::failure::{Context, Failure};

const PREFIX: &str = "/.well-known/acme-challenge/";

/// A running web server; it ends when dropped.
#[derive(Debug)]
pub(super) struct WebRoot {
    port: u16,
    is_ending: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

/// What it does about a request.
#[derive(Debug)]
enum Site {
    /// The files of a directory.
    Files(PathBuf),
    /// The same over https, on this port.
    Moved(u16),
}

impl WebRoot {
    /// Serves the files of `directory` on loopback.
    pub(super) fn start(port: u16, directory: &Path) -> Result<Self, Failure> {
        Self::serve(port, Site::Files(directory.to_path_buf()))
    }

    /// Sends every request to the same host and path over https.
    pub(super) fn redirecting(port: u16, tls_port: u16) -> Result<Self, Failure> {
        Self::serve(port, Site::Moved(tls_port))
    }

    fn serve(port: u16, site: Site) -> Result<Self, Failure> {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, port))
            .context(|| format!("cannot listen on 127.0.0.1:{port} for http-01"))?;
        let is_ending = Arc::new(AtomicBool::new(false));
        let ending = Arc::clone(&is_ending);
        let thread = thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                if ending.load(Ordering::Relaxed) {
                    break;
                }
                // A peer that goes away is its own loss.
                let _ = answer(&stream, &site);
            }
        });
        Ok(Self { port, is_ending, thread: Some(thread) })
    }
}

impl Drop for WebRoot {
    fn drop(&mut self) {
        self.is_ending.store(true, Ordering::Relaxed);
        // Wakes the thread up.
        let _ = TcpStream::connect((Ipv4Addr::LOCALHOST, self.port));
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

fn answer(mut stream: &TcpStream, site: &Site) -> std::io::Result<()> {
    stream.set_read_timeout(Some(Duration::from_secs(5)))?;
    let mut lines = BufReader::new(stream).lines();
    let request = lines.next().transpose()?.unwrap_or_default();
    let mut host = String::new();
    // Closing with unread octets would reset the connection under the answer.
    while let Some(line) = lines.next().transpose()?.filter(|line| !line.is_empty()) {
        if let Some((_, value)) = line.split_once(':').filter(|(name, _)| name.eq_ignore_ascii_case("host")) {
            host = value.trim().to_owned();
        }
    }
    let (status, field, body) = match site {
        Site::Files(directory) => match file_asked_for(&request, directory).map(fs::read) {
            Some(Ok(body)) => ("200 OK", "Content-Type: application/octet-stream".to_owned(), body),
            _ => ("404 Not Found", "Content-Type: text/plain".to_owned(), Vec::new()),
        },
        Site::Moved(port) => {
            let target = request.split(' ').nth(1).unwrap_or_default();
            ("301 Moved Permanently", format!("Location: https://{host}:{port}{target}"), Vec::new())
        }
    };
    let head = format!("HTTP/1.1 {status}\r\n{field}\r\nContent-Length: {}\r\nConnection: close\r\n\r\n", body.len());
    stream.write_all(head.as_bytes())?;
    stream.write_all(&body)
}

/// The file that a request line asks for, if it is one right under the prefix.
fn file_asked_for(request: &str, directory: &Path) -> Option<PathBuf> {
    let target = request.strip_prefix("GET ")?.split(' ').next()?;
    let name = target.strip_prefix(PREFIX)?;
    let is_token =
        !name.is_empty() && name.bytes().all(|octet| octet.is_ascii_alphanumeric() || b"-_".contains(&octet));
    is_token.then(|| directory.join(name))
}

#[cfg(test)]
mod tests {
    use std::io::Read;

    use super::*;
    use crate::postgres::free_port;

    #[test]
    fn only_tokens_are_served() {
        let directory = Path::new("/srv");
        let asked = |target: &str| file_asked_for(&format!("GET {target} HTTP/1.1"), directory);
        assert_eq!(asked("/.well-known/acme-challenge/a-B_9"), Some(PathBuf::from("/srv/a-B_9")));
        for target in ["/.well-known/acme-challenge/", "/.well-known/acme-challenge/../x", "/index.html"] {
            assert_eq!(asked(target), None, "{target}");
        }
    }

    #[test]
    fn a_file_is_served_as_it_is() {
        let directory = tempfile::tempdir().unwrap();
        fs::write(directory.path().join("token"), "token.thumbprint").unwrap();
        let port = free_port().unwrap();
        let server = WebRoot::start(port, directory.path()).unwrap();
        let mut stream = TcpStream::connect((Ipv4Addr::LOCALHOST, port)).unwrap();
        stream.write_all(b"GET /.well-known/acme-challenge/token HTTP/1.1\r\nHost: a\r\n\r\n").unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).unwrap();
        assert!(answer.starts_with("HTTP/1.1 200 OK\r\n") && answer.ends_with("\r\n\r\ntoken.thumbprint"), "{answer}");
        drop(server);
        TcpListener::bind((Ipv4Addr::LOCALHOST, port)).unwrap();
    }
}
