//! Targets that mean harm: whatever they send, hold back or break off, an attempt ends at its deadline, reads no more than
//! its limits, leaves nothing behind, and tells what it saw in escaped and bounded words.

mod cancelled;
mod content;
mod dialling;
mod dns;
mod http;
mod redirects;
mod tls;

use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::task::{Context, Poll};
use std::time::Duration;

use akamu_challenge::testing::{TestClock, TestNames, TestNetwork, TestPeer};
use akamu_challenge::{
    AddressPolicy, ChallengeError, Connector, Deadline, Http01, MAX_REPORT_OCTETS, Probe, Resolver, Stream, TlsAlpn01,
    ValidationReport, ValidationRequest, Validator,
};
use akamu_proto::{ErrorType, Identifier, Timestamp};
use async_trait::async_trait;
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _, ReadBuf};
use tokio::time::{Instant, sleep};

use crate::formats::setting::run;

/// The time that each attempt has.
const DEADLINE: Duration = Duration::from_secs(10);

const KEY_AUTHORIZATION: &str = "evaGxf.9jg46WB3rR_AHD";

/// The most that is read from one connection.
const MOST_READ: u64 = 128 * 1024;

/// A network in memory that knows what was read from its peers, and how many connections are open.
#[derive(Clone, Debug, Default)]
struct Watched {
    network: TestNetwork,
    read: Arc<AtomicU64>,
    open: Arc<AtomicUsize>,
}

impl Watched {
    fn read(&self) -> u64 {
        self.read.load(Ordering::SeqCst)
    }

    fn open(&self) -> usize {
        self.open.load(Ordering::SeqCst)
    }
}

#[async_trait]
impl Connector for Watched {
    async fn connect(&self, address: SocketAddr) -> std::io::Result<Box<dyn Stream>> {
        let stream = self.network.connect(address).await?;
        self.open.fetch_add(1, Ordering::SeqCst);
        Ok(Box::new(WatchedStream { stream, watched: self.clone() }))
    }
}

struct WatchedStream {
    stream: Box<dyn Stream>,
    watched: Watched,
}

impl Drop for WatchedStream {
    fn drop(&mut self) {
        self.watched.open.fetch_sub(1, Ordering::SeqCst);
    }
}

impl AsyncRead for WatchedStream {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<std::io::Result<()>> {
        let before = buf.filled().len();
        let outcome = Pin::new(&mut self.stream).poll_read(cx, buf);
        self.watched.read.fetch_add((buf.filled().len() - before) as u64, Ordering::SeqCst);
        outcome
    }
}

impl AsyncWrite for WatchedStream {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<std::io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write(cx, buf)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<std::io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<std::io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }
}

/// `example.com` at 10.0.0.80, on a watched network.
struct World {
    names: TestNames,
    watched: Watched,
}

impl World {
    fn new() -> Self {
        let it = Self { names: TestNames::default(), watched: Watched::default() };
        it.names.set_addresses("example.com", Ok(vec!["10.0.0.80".parse().unwrap()]));
        it
    }

    fn probe(&self) -> Probe {
        self.probe_with(self.names.clone())
    }

    fn probe_with(&self, resolver: impl Resolver + 'static) -> Probe {
        Probe::new(resolver, self.watched.clone(), clock(), AddressPolicy::default())
    }

    fn http_01(&self) -> Http01 {
        Http01::new(self.probe(), 80)
    }

    fn tls_alpn_01(&self) -> TlsAlpn01 {
        TlsAlpn01::new(self.probe(), 443)
    }

    /// One attempt for `example.com`, and that it kept to what holds for every attempt.
    async fn validate(&self, validator: &dyn Validator) -> Seen {
        let start = Instant::now();
        let report = validator.validate(&request("example.com"), Deadline::after(DEADLINE)).await;
        let seen = Seen { report, took: start.elapsed(), read: self.watched.read() };
        assert!(seen.took <= DEADLINE + Duration::from_millis(1), "{:?}\n{}", seen.took, seen.report);
        assert!(seen.report.to_octets().len() <= MAX_REPORT_OCTETS, "{}", seen.report);
        if let Err(error) = seen.report.result() {
            assert!(error.detail.len() <= ChallengeError::MAX_DETAIL, "{error}");
        }
        let told = seen.report.to_string();
        assert!(told.chars().all(|it| it == '\n' || it == '…' || (' '..='~').contains(&it)), "{told}");
        assert_eq!(self.watched.open(), 0, "{told}");
        seen
    }
}

/// What an attempt left.
struct Seen {
    report: ValidationReport,
    took: Duration,
    /// Octets read from all peers.
    read: u64,
}

impl Seen {
    fn error(&self) -> (ErrorType, &str) {
        let error = self.report.result().expect_err("a hostile target is not valid");
        (error.error_type, &error.detail)
    }
}

fn clock() -> TestClock {
    TestClock::at(Timestamp::from_unix_secs(1_772_366_400))
}

fn request(name: &str) -> ValidationRequest {
    ValidationRequest::with_key_authorization(Identifier::dns(name).unwrap(), KEY_AUTHORIZATION.parse().unwrap())
}

/// What a peer does in the end.
#[derive(Clone, Debug)]
enum Then {
    Close,
    Reset,
    Hang,
    /// One octet of this a second, over and over.
    Drip(Vec<u8>),
    /// This over and over, as fast as it is taken.
    Flood(Vec<u8>),
}

impl Then {
    async fn act(self, mut peer: TestPeer) {
        match self {
            Self::Close => {}
            // Later than what was said: a reset takes with it what was not read yet.
            Self::Reset => {
                sleep(Duration::from_millis(1)).await;
                peer.reset();
            }
            // Only until the other side goes: a task that outlives its connection would keep it open.
            Self::Hang => drop(peer.read(&mut [0]).await),
            Self::Drip(octets) => {
                for octet in octets.into_iter().cycle() {
                    sleep(Duration::from_secs(1)).await;
                    if peer.write_u8(octet).await.is_err() {
                        return;
                    }
                }
            }
            Self::Flood(octets) => while peer.write_all(&octets).await.is_ok() {},
        }
    }
}

/// Reads until `end` came, or nothing more does.
async fn read_until(peer: &mut TestPeer, end: &[u8]) -> Vec<u8> {
    let mut octets = Vec::new();
    while !octets.ends_with(end) {
        match peer.read_u8().await {
            Ok(octet) => octets.push(octet),
            Err(_) => break,
        }
    }
    octets
}

/// Serves each connection to `address`: its request is read, `says` sent, and then comes what comes.
fn serve(network: &TestNetwork, address: &str, says: impl Into<Vec<u8>>, then: Then) {
    let says = says.into();
    network.serve(address.parse().unwrap(), move |mut peer| {
        let (says, then) = (says.clone(), then.clone());
        async move {
            read_until(&mut peer, b"\r\n\r\n").await;
            if peer.write_all(&says).await.is_ok() {
                then.act(peer).await;
            }
        }
    });
}
