//! Connections that cost a client nothing: half-open ones, and such as say something now and then and never all of it.

use std::fmt;
use std::sync::Arc;
use std::time::{Duration, Instant};

use rustls::pki_types::ServerName;
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio::task::JoinSet;
use tokio::time::{Interval, sleep, timeout};
use tokio_rustls::TlsConnector;

use crate::acme::Directory;
use crate::failure::Failure;

/// How long a connection is held at most: the server should have closed it long before.
const PATIENCE: Duration = Duration::from_secs(90);
/// How often one that is slow sends something.
const PAUSE: Duration = Duration::from_secs(4);

/// What a connection does.
#[derive(Debug, Clone, Copy)]
enum Kind {
    HalfOpen,
    Handshake,
    Header,
    Body,
    Idle,
    Http2Pings,
    Http2Bodies,
}

const KINDS: [(Kind, &str); 7] = [
    (Kind::HalfOpen, "half-open"),
    (Kind::Handshake, "in the handshake"),
    (Kind::Header, "in a header"),
    (Kind::Body, "in a body"),
    (Kind::Idle, "idle"),
    (Kind::Http2Pings, "idle by HTTP/2 with PINGs"),
    (Kind::Http2Bodies, "in 32 bodies by HTTP/2"),
];

/// How they ended, by kind.
#[derive(Debug, Default)]
pub(super) struct Dead([Ended; KINDS.len()]);

#[derive(Debug, Default)]
struct Ended {
    closed: u64,
    /// TCP or TLS was refused.
    refused: u64,
    open: u64,
    last_closed: Duration,
}

impl Dead {
    pub(super) fn open(&self) -> u64 {
        self.0.iter().map(|it| it.open).sum()
    }

    /// The longest that one lived, from its opening.
    pub(super) fn last_closed(&self) -> Duration {
        self.0.iter().map(|it| it.last_closed).max().unwrap_or_default()
    }
}

/// What is closed when, for people.
impl fmt::Display for Dead {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (ended, (_, name)) in self.0.iter().zip(KINDS) {
            let Ended { closed, refused, open, last_closed } = ended;
            if closed + refused + open > 0 {
                let last = last_closed.as_secs_f64();
                write!(f, "{name}: {closed} closed within {last:.1} s, {refused} not let in, {open} open; ")?;
            }
        }
        Ok(())
    }
}

enum End {
    Closed(Duration),
    Refused,
    Open,
}

/// Opens `count`, each kind in turn, and holds each until the server closes it.
pub(super) async fn hold(directory: &Directory, count: u32, mut pace: Interval) -> Result<Dead, Failure> {
    let server = Arc::new(Server::of(directory));
    let mut tasks = JoinSet::new();
    for ((index, (kind, _)), _) in KINDS.into_iter().enumerate().cycle().zip(0..count) {
        pace.tick().await;
        let server = Arc::clone(&server);
        tasks.spawn(async move {
            let begun = Instant::now();
            let end = match timeout(PATIENCE, server.hold(kind)).await {
                Ok(Some(())) => End::Closed(begun.elapsed()),
                Ok(None) => End::Refused,
                Err(_) => End::Open,
            };
            (index, end)
        });
    }
    let mut dead = Dead::default();
    for (index, end) in tasks.join_all().await {
        let Some(ended) = dead.0.get_mut(index) else { continue };
        match end {
            End::Closed(after) => {
                ended.closed += 1;
                ended.last_closed = ended.last_closed.max(after);
            }
            End::Refused => ended.refused += 1,
            End::Open => ended.open += 1,
        }
    }
    Ok(dead)
}

struct Server {
    authority: String,
    http_1: TlsConnector,
    http_2: TlsConnector,
}

impl Server {
    fn of(directory: &Directory) -> Self {
        let authority = directory.new_nonce().split('/').nth(2).unwrap_or_default().to_owned();
        let mut with_h2 = (**directory.tls()).clone();
        with_h2.alpn_protocols = vec![b"h2".to_vec()];
        Self { authority, http_1: Arc::clone(directory.tls()).into(), http_2: Arc::new(with_h2).into() }
    }

    /// `None` where the server did not let it in; else it has been closed.
    async fn hold(&self, kind: Kind) -> Option<()> {
        let tcp = TcpStream::connect(&self.authority).await.ok()?;
        let host = &self.authority;
        match kind {
            Kind::HalfOpen => until_closed(tcp, b"", b"").await,
            // The head of a record with 512 octets of a ClientHello.
            Kind::Handshake => until_closed(tcp, b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03", b"x").await,
            Kind::Header => {
                let head = format!("GET /acme/directory HTTP/1.1\r\nHost: {host}\r\nX: ");
                until_closed(tls(&self.http_1, tcp).await?, head.as_bytes(), b"x").await;
            }
            Kind::Body => {
                let head = format!(
                    "POST /acme/new-order HTTP/1.1\r\nHost: {host}\r\nContent-Type: application/jose+json\r\n\
                     Content-Length: 100000\r\n\r\n"
                );
                let half = [head.as_bytes(), &[b' '; 8_000]].concat();
                until_closed(tls(&self.http_1, tcp).await?, &half, b" ").await;
            }
            Kind::Idle => {
                let request = format!("GET /acme/directory HTTP/1.1\r\nHost: {host}\r\n\r\n");
                until_closed(tls(&self.http_1, tcp).await?, request.as_bytes(), b"").await;
            }
            Kind::Http2Pings => {
                until_closed(tls(&self.http_2, tcp).await?, PREFACE, &frame(6, 0, 0, b"01234567")).await;
            }
            Kind::Http2Bodies => {
                let bodies = (0..32).flat_map(|it| frame(1, 4, it * 2 + 1, &post(host)));
                let octets: Vec<u8> = PREFACE.iter().copied().chain(bodies).collect();
                until_closed(tls(&self.http_2, tcp).await?, &octets, &frame(6, 0, 0, b"01234567")).await;
            }
        }
        Some(())
    }
}

async fn tls(connector: &TlsConnector, tcp: TcpStream) -> Option<impl AsyncRead + AsyncWrite + Unpin + use<>> {
    let name = ServerName::try_from("localhost").ok()?;
    connector.connect(name, tcp).await.ok()
}

/// Sends `first`, then `now_and_then`, and reads whatever comes until the server closes.
async fn until_closed(mut stream: impl AsyncRead + AsyncWrite + Unpin, first: &[u8], now_and_then: &[u8]) {
    let mut buffer = [0; 1_024];
    if stream.write_all(first).await.is_err() {
        return;
    }
    loop {
        tokio::select! {
            read = stream.read(&mut buffer) => if matches!(read, Ok(0) | Err(_)) {
                return;
            },
            () = sleep(PAUSE) => {
                if stream.write_all(now_and_then).await.is_err() || stream.flush().await.is_err() {
                    return;
                }
            }
        }
    }
}

/// HTTP/2's preface and an empty SETTINGS frame.
const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\x04\0\0\0\0\0";

/// An HTTP/2 frame (RFC 9113 §4.1) of less than 256 octets.
fn frame(kind: u8, flags: u8, stream: u8, payload: &[u8]) -> Vec<u8> {
    let length = u8::try_from(payload.len()).unwrap_or(u8::MAX);
    [&[0, 0, length, kind, flags, 0, 0, 0, stream], payload].concat()
}

/// The header of a POST whose body is to come, literal (RFC 7541 §6.2.2).
fn post(authority: &str) -> Vec<u8> {
    let fields = [
        (":method", "POST"),
        (":scheme", "https"),
        (":authority", authority),
        (":path", "/acme/new-order"),
        ("content-type", "application/jose+json"),
    ];
    let length = |text: &str| u8::try_from(text.len()).unwrap_or_default();
    let literal = |(name, value): (&str, &str)| {
        [&[0, length(name)], name.as_bytes(), &[length(value)], value.as_bytes()].concat()
    };
    fields.into_iter().flat_map(literal).collect()
}
