//! Below ACME: protocol versions, where the server is reached, and clients that are slow or stop half-way.

use std::sync::Arc;
use std::time::Duration;

use akamu_challenge::Clock as _;
use akamu_challenge::testing::TestClock;
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::time_provider::TimeProvider;
use rustls::version::{TLS12, TLS13};
use rustls::{ClientConfig, RootCertStore, SupportedProtocolVersion};
use serde_json::json;
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio::time::Instant;
use tokio_rustls::client::TlsStream;

use crate::client::Client;
use crate::database::{Database, on_both_databases};
use crate::issuance::{finalize, ready_order, verified_names};
use crate::metrics::scrape;
use crate::server::{Place, TestServer, http_client};

on_both_databases! {
    a_certificate_is_had_by_http_1_1,
    a_base_url_may_have_a_path,
}

#[derive(Debug)]
struct TimeOf(TestClock);

impl TimeProvider for TimeOf {
    fn current_time(&self) -> Option<UnixTime> {
        Some(UnixTime::since_unix_epoch(Duration::from_secs(u64::try_from(self.0.now().unix_secs()).unwrap())))
    }
}

/// A TLS connection to the ACME server, by a client that has its clock.
pub(crate) async fn tls(
    server: &TestServer,
    version: &'static SupportedProtocolVersion,
    protocol: &str,
) -> TlsStream<TcpStream> {
    let mut roots = RootCertStore::empty();
    roots.add(CertificateDer::from_pem_file(server.root_pem()).unwrap()).unwrap();
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let clock = Arc::new(TimeOf(server.clock.clone()));
    let builder = ClientConfig::builder_with_details(provider, clock).with_protocol_versions(&[version]).unwrap();
    let mut config = builder.with_root_certificates(roots).with_no_client_auth();
    config.alpn_protocols = vec![protocol.as_bytes().to_vec()];
    let stream = TcpStream::connect(server.place.address()).await.unwrap();
    let connector = tokio_rustls::TlsConnector::from(Arc::new(config));
    connector.connect(ServerName::try_from("localhost").unwrap(), stream).await.unwrap()
}

/// A request in hand, by HTTP/1.1: the server has read its head and waits for its body, which is returned.
pub(crate) async fn half(
    server: &TestServer,
    client: &Client,
    url: &str,
    payload: &str,
) -> (TlsStream<TcpStream>, String) {
    let body = client.key.jws(&client.protected(url).await, payload).to_string();
    let mut stream = tls(server, &TLS13, "http/1.1").await;
    let head = format!(
        "POST {} HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/jose+json\r\nContent-Length: {}\r\n\
         Expect: 100-continue\r\n\r\n",
        url.strip_prefix(&server.base).unwrap(),
        body.len()
    );
    stream.write_all(head.as_bytes()).await.unwrap();
    let mut proceed = [0; 25];
    stream.read_exact(&mut proceed).await.unwrap();
    assert_eq!(&proceed, b"HTTP/1.1 100 Continue\r\n\r\n");
    (stream, body)
}

/// Everything that comes until the server closes.
pub(crate) async fn rest(mut stream: impl AsyncRead + Unpin) -> String {
    let mut octets = Vec::new();
    // A server that stops may leave out TLS' close_notify.
    let _ = stream.read_to_end(&mut octets).await;
    String::from_utf8_lossy(&octets).into_owned()
}

async fn exchange(stream: impl AsyncRead + AsyncWrite + Unpin, octets: &str) -> String {
    let mut stream = stream;
    stream.write_all(octets.as_bytes()).await.unwrap();
    rest(stream).await
}

#[tokio::test]
async fn both_versions_of_tls_and_of_http_are_spoken() {
    let server = Database::Sqlite.server().await;
    let request = "GET /acme/directory HTTP/1.1\r\nHOST: localhost\r\nConnection: close\r\n\r\n";
    for version in [&TLS12, &TLS13] {
        let stream = tls(&server, version, "http/1.1").await;
        assert_eq!(stream.get_ref().1.protocol_version(), Some(version.version));
        assert_eq!(stream.get_ref().1.alpn_protocol(), Some(&b"http/1.1"[..]));
        let answer = exchange(stream, request).await;
        assert!(answer.starts_with("HTTP/1.1 200 OK\r\n"), "{answer}");
    }
    let response = server.http.get(format!("{}/acme/directory", server.base)).send().await.unwrap();
    assert_eq!(response.version(), reqwest::Version::HTTP_2);
}

async fn a_certificate_is_had_by_http_1_1(database: Database) {
    let server = database.server().await;
    let http = http_client(&server.root_pem()).http1_only().build().unwrap();
    let response = http.get(format!("{}/acme/directory", server.base)).send().await.unwrap();
    assert_eq!(response.version(), reqwest::Version::HTTP_11);
    let client = Client { http, ..server.registered().await };
    let order = ready_order(&server, &client, &["one.test"], "http-01").await.json();
    assert_eq!(verified_names(&server, &finalize(&client, &order, &["one.test"]).await), ["one.test"]);
}

async fn a_base_url_may_have_a_path(database: Database) {
    let server = Place::on(&database).path("/pki/ca1").start().await;
    let client = server.registered().await;
    let directory = client.get("/acme/directory").await.expect(200).json();
    for (_, url) in directory.as_object().unwrap().iter().filter(|(_, it)| it.is_string()) {
        assert!(url.as_str().unwrap().starts_with(&server.base), "{url}");
    }
    let order = ready_order(&server, &client, &["path.test"], "dns-01").await.json();
    for url in [&order["finalize"], &order["authorizations"][0]] {
        assert!(url.as_str().unwrap().starts_with(&format!("{}/acme/", server.base)), "{url}");
    }
    finalize(&client, &order, &["path.test"]).await;
    // The directory is an ACME client's business.
    assert_eq!(client.get("/ca/crl").await.expect(200).headers_named("link"), [""; 0]);
    let elsewhere = Client { base: server.base.replace("/pki/ca1", ""), ..client };
    elsewhere.get("/acme/directory").await.expect_problem(404, "malformed");
}

#[tokio::test]
async fn no_url_comes_from_the_host_field() {
    let server = Database::Sqlite.server().await;
    let stream = tls(&server, &TLS13, "http/1.1").await;
    let request = "GET /acme/directory HTTP/1.1\r\nHost: evil.test\r\nX-Forwarded-Host: evil.test\r\n\
                   Forwarded: host=evil.test\r\nConnection: close\r\n\r\n";
    let answer = exchange(stream, request).await;
    assert!(answer.contains(&server.base) && !answer.contains("evil"), "{answer}");
}

#[tokio::test]
async fn the_servers_own_certificate_is_renewed_while_it_runs() {
    let server = Database::Sqlite.server().await;
    let certificate = async || {
        let stream = tls(&server, &TLS13, "h2").await;
        stream.get_ref().1.peer_certificates().unwrap()[0].clone()
    };
    let first = certificate().await;
    // It lives for ninety days.
    server.clock.advance(Duration::from_secs(59 * 86_400));
    assert_eq!(certificate().await, first);
    server.clock.advance(Duration::from_secs(2 * 86_400));
    let mut seconds = 0;
    while certificate().await == first {
        assert!(seconds < 86_400, "no other certificate in {seconds} s");
        seconds += 100;
        server.clock.advance(Duration::from_secs(100));
    }
    server.clock.advance(Duration::from_secs(58 * 86_400));
    certificate().await;
}

#[tokio::test]
async fn a_proxy_may_end_tls() {
    let server = Database::Sqlite.server_with("[tls]\nenabled = false\n").await;
    let stream = TcpStream::connect(server.place.address()).await.unwrap();
    let answer = exchange(stream, "GET /acme/directory HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n").await;
    assert!(answer.starts_with("HTTP/1.1 200 OK\r\n") && answer.contains(&server.base), "{answer}");
}

/// The head of a POST to newOrder with a body of a hundred octets.
const POST: &str = "POST /acme/new-order HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/jose+json\r\n\
                    Content-Length: 100\r\n\r\n";

#[tokio::test]
async fn a_body_that_ends_early_is_a_problem() {
    let server = Database::Sqlite.server().await;
    let mut stream = tls(&server, &TLS13, "http/1.1").await;
    stream.write_all(POST.as_bytes()).await.unwrap();
    stream.write_all(b"{\"protected\":").await.unwrap();
    stream.shutdown().await.unwrap();
    let answer = rest(stream).await;
    assert!(answer.starts_with("HTTP/1.1 400 Bad Request\r\n"), "{answer}");
    assert!(answer.contains("application/problem+json") && answer.contains("ended early"), "{answer}");
    assert!(answer.contains("replay-nonce: "), "{answer}");
}

#[tokio::test]
async fn a_body_larger_than_allowed_is_not_read_to_its_end() {
    let server = Database::Sqlite.server_with("[server]\nmax_body_bytes = 1000\n").await;
    let head = POST.replace("Content-Length: 100", "Content-Length: 1000000000");
    let mut stream = tls(&server, &TLS13, "http/1.1").await;
    stream.write_all(head.as_bytes()).await.unwrap();
    stream.write_all(&[b' '; 1001]).await.unwrap();
    let answer = rest(stream).await;
    assert!(answer.starts_with("HTTP/1.1 413 Payload Too Large\r\n"), "{answer}");
    assert!(answer.contains("application/problem+json") && answer.contains("larger than 1000 octets"), "{answer}");
}

#[tokio::test]
async fn a_header_larger_than_allowed_is_refused() {
    let server = Database::Sqlite.server().await;
    let stream = tls(&server, &TLS13, "http/1.1").await;
    let long = format!("GET /acme/directory HTTP/1.1\r\nHost: localhost\r\nX: {}\r\n\r\n", "x".repeat(20_000));
    let answer = exchange(stream, &long).await;
    assert!(answer.starts_with("HTTP/1.1 431 "), "{answer}");
    // HTTP/2 packs it: what counts is its size unpacked.
    let url = format!("{}/acme/directory", server.base);
    let response = server.http.get(url).header("x", "x".repeat(20_000)).send().await.unwrap();
    assert_eq!((response.version(), response.status().as_u16()), (reqwest::Version::HTTP_2, 431));
}

/// What a slow client sends, and after how many seconds the server has closed the connection.
async fn closed_after(stream: impl AsyncRead + AsyncWrite + Unpin, octets: &str) -> (u64, String) {
    let mut stream = stream;
    stream.write_all(octets.as_bytes()).await.unwrap();
    // From here on time passes as fast as all wait for it.
    tokio::time::pause();
    let begun = Instant::now();
    let answer = rest(stream).await;
    // The server began to wait a little earlier.
    let seconds = (begun.elapsed() + Duration::from_millis(500)).as_secs();
    tokio::time::resume();
    (seconds, answer)
}

#[tokio::test]
async fn slow_clients_are_disconnected() {
    let server = Database::Sqlite.server_with("[ca]\nhttp_listen_addr = \"127.0.0.1:0\"\n").await;
    let tcp = async || TcpStream::connect(server.place.address()).await.unwrap();
    let plain = async || TcpStream::connect(server.running.authority_addr.unwrap()).await.unwrap();
    let nothing = String::new();
    assert_eq!(closed_after(tcp().await, "").await, (10, nothing.clone()), "no handshake");
    assert_eq!(closed_after(tcp().await, "\u{16}\u{3}\u{1}").await, (10, nothing.clone()), "half a handshake");
    let http_1 = async || tls(&server, &TLS13, "http/1.1").await;
    assert_eq!(closed_after(http_1().await, "").await, (10, nothing.clone()), "no first octet");
    assert_eq!(closed_after(tls(&server, &TLS13, "h2").await, "").await, (10, nothing.clone()), "nor by HTTP/2");
    assert_eq!(closed_after(plain().await, "").await, (10, nothing.clone()), "nor without TLS");
    let (seconds, _) = closed_after(http_1().await, "GET /acme/directory HTTP/1.1\r\nHost:").await;
    assert_eq!(seconds, 30, "half a header");
    let (seconds, _) = closed_after(plain().await, "GET /ca/crl HTTP/1.1\r\nHost:").await;
    assert_eq!(seconds, 30, "half a header without TLS");
    let (seconds, answer) = closed_after(http_1().await, &format!("{POST}{{")).await;
    assert_eq!(seconds, 20, "half a body");
    assert!(answer.starts_with("HTTP/1.1 408 ") && answer.contains("application/problem+json"), "{answer}");
    let (seconds, _) = closed_after(tls(&server, &TLS13, "h2").await, PREFACE).await;
    assert_eq!(seconds, 30, "a silent HTTP/2 connection");
}

/// HTTP/2's preface and an empty SETTINGS frame.
const PREFACE: &str = "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\u{4}\0\0\0\0\0";

/// An HTTP/2 frame with these flags.
fn frame(kind: u8, flags: u8, stream: u8, payload: &[u8]) -> Vec<u8> {
    let length = u8::try_from(payload.len()).unwrap();
    [&[0, 0, length, kind, flags, 0, 0, 0, stream], payload].concat()
}

/// After how many seconds the server has closed a connection that sends this every five seconds.
async fn closed_although_it_sends(mut stream: TlsStream<TcpStream>, octets: &[u8]) -> u64 {
    tokio::time::pause();
    let begun = Instant::now();
    let mut buffer = [0; 1024];
    for sent in 1..100 {
        let next = tokio::time::sleep_until(begun + Duration::from_secs(5 * sent));
        tokio::pin!(next);
        loop {
            tokio::select! {
                () = &mut next => break,
                read = stream.read(&mut buffer) => if matches!(read, Ok(0) | Err(_)) {
                    let seconds = (begun.elapsed() + Duration::from_millis(500)).as_secs();
                    tokio::time::resume();
                    return seconds;
                },
            }
        }
        let _ = stream.write_all(octets).await;
    }
    panic!("never closed");
}

/// Idle is a connection without a request in hand, whatever else comes.
#[tokio::test]
async fn pings_and_settings_keep_no_connection() {
    let server = Database::Sqlite.server().await;
    for octets in [frame(6, 0, 0, b"01234567"), frame(4, 0, 0, b"")] {
        let mut stream = tls(&server, &TLS13, "h2").await;
        stream.write_all(PREFACE.as_bytes()).await.unwrap();
        assert_eq!(closed_although_it_sends(stream, &octets).await, 30);
    }
    // Nor a header octet by octet.
    let mut stream = tls(&server, &TLS13, "http/1.1").await;
    stream.write_all(b"GET /acme/directory HTTP/1.1\r\nHost: local").await.unwrap();
    assert_eq!(closed_although_it_sends(stream, b"x").await, 30);
}

/// The header of a POST to newOrder, by HPACK without Huffman and without its table; the body is to come.
fn h2_post() -> Vec<u8> {
    let literal = |name: &str, value: &str| {
        let (name_octets, value_octets) = (u8::try_from(name.len()).unwrap(), u8::try_from(value.len()).unwrap());
        [&[0, name_octets], name.as_bytes(), &[value_octets], value.as_bytes()].concat()
    };
    let fields = [
        literal(":method", "POST"),
        literal(":scheme", "https"),
        literal(":authority", "localhost"),
        literal(":path", "/acme/new-order"),
        literal("content-type", "application/jose+json"),
    ];
    frame(1, 4, 1, &fields.concat())
}

#[tokio::test]
async fn a_body_that_does_not_come_makes_its_connection_live_no_longer() {
    let server = Database::Sqlite.server().await;
    let mut stream = tls(&server, &TLS13, "h2").await;
    stream.write_all(PREFACE.as_bytes()).await.unwrap();
    stream.write_all(&h2_post()).await.unwrap();
    // 408 after 20 s, of which 10 s are left.
    assert_eq!(closed_although_it_sends(stream, &frame(6, 0, 0, b"01234567")).await, 30);
}

/// One request and the head of its answer.
async fn is_answered(stream: &mut TlsStream<TcpStream>) -> bool {
    let request = "HEAD /acme/directory HTTP/1.1\r\nHost: localhost\r\n\r\n";
    if stream.write_all(request.as_bytes()).await.is_err() {
        return false;
    }
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        match stream.read_u8().await {
            Ok(octet) => head.push(octet),
            Err(_) => return false,
        }
    }
    head.starts_with(b"HTTP/1.1 200 OK\r\n")
}

#[tokio::test]
async fn the_longest_idle_makes_room_for_a_new_connection() {
    let settings = "[server]\nmax_connections = 3\n[admin]\nlisten_addr = \"127.0.0.1:0\"\n";
    let server = Database::Sqlite.server_with(settings).await;
    let mut streams = Vec::new();
    for _ in 0..3 {
        let mut stream = tls(&server, &TLS13, "http/1.1").await;
        assert!(is_answered(&mut stream).await);
        streams.push(stream);
    }
    // The first is not the longest idle one any more.
    assert!(is_answered(&mut streams[0]).await);
    let mut newcomer = tls(&server, &TLS13, "http/1.1").await;
    assert!(is_answered(&mut newcomer).await);
    let mut answered = Vec::new();
    for stream in &mut streams {
        answered.push(is_answered(stream).await);
    }
    assert_eq!(answered, [true, false, true]);
    assert!(is_answered(&mut newcomer).await);
    let scraped = scrape(&server).await;
    assert_eq!(scraped.value("akamu_connections_out_of_room_total"), 1.0);
}

/// Each holds all but the last octet of a body of the largest size: together more than all bodies may have.
#[tokio::test]
async fn the_body_that_is_waited_for_longest_makes_room_for_others() {
    let server = Database::Sqlite.server().await;
    let head = POST.replace("Content-Length: 100", "Content-Length: 131072");
    let mut streams = Vec::new();
    // A hundred and twenty have room beside what each counts for in any case.
    for _ in 0..121 {
        let mut stream = tls(&server, &TLS13, "http/1.1").await;
        stream.write_all(head.as_bytes()).await.unwrap();
        stream.write_all(&[b' '; 131_071]).await.unwrap();
        streams.push(stream);
    }
    let answer = rest(&mut streams[0]).await;
    assert!(answer.starts_with("HTTP/1.1 503 Service Unavailable\r\n"), "{answer}");
    assert!(answer.contains("retry-after: 5\r\n") && answer.contains("application/problem+json"), "{answer}");
    assert!(answer.contains("too many request bodies"), "{answer}");
    // Who comes next is served.
    let client = server.registered().await;
    client.post(&client.kid, &json!({})).await.expect(200);
}

#[tokio::test]
async fn an_idle_connection_is_closed() {
    let server = Database::Sqlite.server().await;
    let mut stream = tls(&server, &TLS13, "http/1.1").await;
    stream.write_all(b"GET /acme/nothing HTTP/1.1\r\nHost: localhost\r\n\r\n").await.unwrap();
    assert_eq!(stream.read_u8().await.unwrap(), b'H');
    let (seconds, _) = closed_after(stream, "").await;
    assert_eq!(seconds, 30);
}

#[tokio::test]
async fn requests_are_answered_while_others_are_slow() {
    // There is room for few of them.
    let server = Database::Sqlite.server_with("[server]\nmax_connections = 10\n").await;
    let mut slow = Vec::new();
    for _ in 0..100 {
        slow.push(TcpStream::connect(server.place.address()).await.unwrap());
    }
    let client = server.registered().await;
    client.post(&client.kid, &json!({})).await.expect(200);
    drop(slow);
}

/// HTTP/2 lets a client open 32 streams at once.
#[tokio::test]
async fn the_streams_of_a_connection_are_limited() {
    let server = Database::Sqlite.server().await;
    let mut stream = tls(&server, &TLS13, "h2").await;
    stream.write_all(PREFACE.as_bytes()).await.unwrap();
    let mut head = [0; 9];
    stream.read_exact(&mut head).await.unwrap();
    assert_eq!(head[3], 4, "the first frame is SETTINGS");
    let mut settings = vec![0; usize::from(head[2])];
    stream.read_exact(&mut settings).await.unwrap();
    // RFC 9113 §6.5.2: SETTINGS_MAX_CONCURRENT_STREAMS is 3.
    assert!(settings.chunks(6).any(|it| it == [0, 3, 0, 0, 0, 32]), "{settings:?}");
}
