//! What TLS and HTTP cost a server of a kept connection, with nothing behind them: clients on other threads, which are not
//! counted, send requests as large as ACME's, and get answers as large.

#[path = "../../../benches/cpu_time.rs"]
mod cpu_time;

use std::convert::Infallible;
use std::io::{self, Read as _, Write as _};
use std::net::{SocketAddr, TcpStream};
use std::sync::Arc;
use std::thread;
use std::time::Duration;

use bytes::Bytes;
use http_body_util::{BodyExt as _, Full};
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper::{Request, Response};
use hyper_util::rt::{TokioExecutor, TokioIo};
use hyper_util::server::conn::auto;
use rcgen::{CertificateParams, KeyPair};
use rustix::time::ClockId;
use rustls::crypto::aws_lc_rs::default_provider;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use rustls::{ClientConfig, ClientConnection, RootCertStore, ServerConfig, StreamOwned};
use tokio::net::TcpListener;
use tokio::runtime::{Builder, Runtime};
use tokio::task::JoinSet;
use tokio_rustls::TlsAcceptor;

use crate::cpu_time::CpuTime;

const CLOCK: CpuTime = CpuTime(ClockId::ThreadCPUTime);

/// Octets of a signed request, and of an authorization.
const REQUEST: usize = 500;
const ANSWER: usize = 700;
/// Connections of which one server takes care at once.
const CLIENTS: u64 = 8;

fn main() {
    let mut criterion = CLOCK.criterion();
    let runtime = Builder::new_current_thread().enable_io().build().expect("a runtime");
    let peers = Peers::new(&runtime);
    let mut group = criterion.benchmark_group("transport");
    group.bench_function("TLS handshake", |it| it.iter_custom(|count| peers.handshakes(&runtime, count)));
    group.bench_function("request over kept TLS", |it| it.iter_custom(|count| peers.requests(&runtime, count)));
    group.finish();
    criterion.final_summary();
}

struct Peers {
    listener: TcpListener,
    address: SocketAddr,
    acceptor: TlsAcceptor,
    client: Arc<ClientConfig>,
}

impl Peers {
    fn new(runtime: &Runtime) -> Self {
        let listener = runtime.block_on(TcpListener::bind("127.0.0.1:0")).expect("a port");
        let key = KeyPair::generate().expect("a key");
        let params = CertificateParams::new(["localhost".to_owned()]).expect("a name");
        let certificate: CertificateDer<'static> = params.self_signed(&key).expect("a certificate").der().clone();
        let key = PrivateKeyDer::try_from(key.serialize_der()).expect("a key");
        let mut roots = RootCertStore::empty();
        roots.add(certificate.clone()).expect("a root");
        let provider = Arc::new(default_provider());
        let server = ServerConfig::builder_with_provider(Arc::clone(&provider))
            .with_safe_default_protocol_versions()
            .expect("versions")
            .with_no_client_auth()
            .with_single_cert(vec![certificate], key)
            .expect("a certificate");
        let mut client = ClientConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .expect("versions")
            .with_root_certificates(roots)
            .with_no_client_auth();
        // Each handshake is a whole one.
        client.resumption = rustls::client::Resumption::disabled();
        Self {
            address: listener.local_addr().expect("an address"),
            listener,
            acceptor: TlsAcceptor::from(Arc::new(server)),
            client: Arc::new(client),
        }
    }

    fn handshakes(&self, runtime: &Runtime, count: u64) -> Duration {
        let (address, client) = (self.address, Arc::clone(&self.client));
        let connecting = thread::spawn(move || {
            for _ in 0..count {
                let mut stream = connect(address, &client).expect("a connection");
                // Until the server has closed it.
                let _ = stream.read(&mut [0; 1]);
            }
        });
        let mut spent = Duration::ZERO;
        for _ in 0..count {
            let (stream, _) = runtime.block_on(self.listener.accept()).expect("a connection");
            let start = CLOCK.now();
            let accepted = runtime.block_on(self.acceptor.accept(stream)).expect("a handshake");
            spent += CLOCK.now().saturating_sub(start);
            drop(accepted);
        }
        connecting.join().expect("the client");
        spent
    }

    /// Clients enough that the server finds work, and is not woken for each request.
    fn requests(&self, runtime: &Runtime, count: u64) -> Duration {
        let mut asking = Vec::new();
        let mut streams = Vec::new();
        for client in 0..CLIENTS.min(count) {
            let (address, config) = (self.address, Arc::clone(&self.client));
            let share = (count - client).div_ceil(CLIENTS);
            asking.push(thread::spawn(move || ask(connect(address, &config).expect("a connection"), share)));
            let (stream, _) = runtime.block_on(self.listener.accept()).expect("a connection");
            let _ = stream.set_nodelay(true);
            streams.push(runtime.block_on(self.acceptor.accept(stream)).expect("a handshake"));
        }
        let mut connections = JoinSet::new();
        for stream in streams {
            let serve = async move {
                let server = auto::Builder::new(TokioExecutor::new());
                server.serve_connection(TokioIo::new(stream), service_fn(answer)).await.map_err(|it| it.to_string())
            };
            connections.spawn_on(serve, runtime.handle());
        }
        let start = CLOCK.now();
        let served = runtime.block_on(connections.join_all());
        let spent = CLOCK.now().saturating_sub(start);
        served.into_iter().for_each(|it| it.expect("it is the client that ends it"));
        asking.into_iter().for_each(|it| it.join().expect("the client").expect("every answer"));
        spent
    }
}

async fn answer(request: Request<Incoming>) -> Result<Response<Full<Bytes>>, Infallible> {
    let read = request.into_body().collect().await.map(|it| it.to_bytes().len()).unwrap_or_default();
    assert_eq!(read, REQUEST);
    let mut answer = Response::new(Full::from(vec![b'x'; ANSWER]));
    let headers = [
        ("content-type", "application/json"),
        ("replay-nonce", "AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA"),
        ("cache-control", "no-store"),
        ("link", "<https://localhost/acme/directory>;rel=\"index\""),
    ];
    for (name, value) in headers {
        answer.headers_mut().insert(name, http::HeaderValue::from_static(value));
    }
    Ok(answer)
}

type Tls = StreamOwned<ClientConnection, TcpStream>;

fn connect(address: SocketAddr, config: &Arc<ClientConfig>) -> io::Result<Tls> {
    let stream = TcpStream::connect(address)?;
    stream.set_nodelay(true)?;
    let name = ServerName::try_from("localhost").map_err(io::Error::other)?;
    let connection = ClientConnection::new(Arc::clone(config), name).map_err(io::Error::other)?;
    let mut stream = StreamOwned::new(connection, stream);
    stream.conn.complete_io(&mut stream.sock)?;
    Ok(stream)
}

/// Sends requests one after the other, and reads every answer to its end.
fn ask(mut stream: Tls, count: u64) -> io::Result<()> {
    let head = "POST /acme/authz/AZq1b2c3d4e5f6g7h8i9jA HTTP/1.1\r\nHost: localhost\r\n";
    let fields = format!("Content-Type: application/jose+json\r\nContent-Length: {REQUEST}\r\n\r\n");
    let request = format!("{head}{fields}{}", "x".repeat(REQUEST));
    let mut octets = [0; 4_096];
    for _ in 0..count {
        stream.write_all(request.as_bytes())?;
        let mut answer = Vec::new();
        while !is_whole(&answer) {
            match stream.read(&mut octets)? {
                0 => return Err(io::ErrorKind::UnexpectedEof.into()),
                read => answer.extend_from_slice(octets.get(..read).unwrap_or_default()),
            }
        }
    }
    stream.conn.send_close_notify();
    stream.flush()
}

fn is_whole(answer: &[u8]) -> bool {
    let end = answer.windows(4).position(|it| it == b"\r\n\r\n");
    end.is_some_and(|end| answer.len() >= end + 4 + ANSWER)
}
