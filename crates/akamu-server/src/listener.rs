//! Accepts connections and gives them to hyper, each phase bounded in time.
//!
//! The protocol comes from ALPN: HTTP/2 where `h2` was agreed, HTTP/1.1 else. (hyper-util's own detection reads the
//! first octets without a timer.)

use std::io;
use std::sync::Arc;
use std::time::Duration;

use akamu_challenge::Clock;
use axum::Router;
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use hyper_util::server::graceful::GracefulShutdown;
use hyper_util::service::TowerToHyperService;
use tokio::io::{AsyncBufReadExt as _, AsyncRead, AsyncWrite};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio::time::timeout;
use tokio_rustls::TlsAcceptor;

use crate::metrics::{Metrics, Phase};
use crate::shutdown::stopped;

/// How long a client may take for the TLS handshake, and for the first octet after it.
const HANDSHAKE: Duration = Duration::from_secs(10);
/// How long a client may take for a request's header, and how long an idle connection is kept.
const HEADER: Duration = Duration::from_secs(30);
/// A request's header may have this many octets.
const HEADER_OCTETS: usize = 16 * 1024;
/// And this many when HTTP/2 has unpacked it.
const HEADER_LIST_OCTETS: u32 = 16 * 1024;
/// Streams at once on one HTTP/2 connection.
const STREAMS: u32 = 64;
/// How long to wait before the next connection is accepted, where one could not be.
const ACCEPT_AGAIN: Duration = Duration::from_millis(100);
/// How often a silent HTTP/2 connection is asked whether it still lives, and how long it may take to say so.
const PING: Duration = Duration::from_secs(20);

/// What is served where.
#[derive(Debug)]
pub(crate) struct Listener {
    pub(crate) socket: TcpListener,
    pub(crate) tls: Option<Arc<rustls::ServerConfig>>,
    pub(crate) router: Router,
    pub(crate) clock: Arc<dyn Clock>,
    pub(crate) metrics: Arc<Metrics>,
}

impl Listener {
    /// Serves until `stop` turns true, then lets the requests in hand end. The caller bounds the time for that.
    pub(crate) async fn serve(self, mut stop: watch::Receiver<bool>) {
        let graceful = Arc::new(GracefulShutdown::new());
        let tls = self.tls.map(TlsAcceptor::from);
        loop {
            let accepted = tokio::select! {
                accepted = self.socket.accept() => accepted,
                () = stopped(&mut stop) => break,
            };
            let stream = match accepted {
                Ok((stream, _)) => stream,
                Err(error) => {
                    // Out of file descriptors: the pending connection stays pending, so wait for one to be freed.
                    tracing::warn!(%error, "a connection could not be accepted");
                    self.clock.sleep(ACCEPT_AGAIN).await;
                    continue;
                }
            };
            let counted = self.metrics.connection();
            let served =
                Served { router: self.router.clone(), watcher: graceful.watcher(), metrics: self.metrics.clone() };
            let connection = connection(stream, tls.clone(), served, stop.clone());
            tokio::spawn(async move {
                let _counted = counted;
                if let Err(error) = connection.await {
                    tracing::debug!(%error, "a connection ended");
                }
            });
        }
        drop(self.socket);
        if let Some(graceful) = Arc::into_inner(graceful) {
            graceful.shutdown().await;
        }
    }
}

type Watcher = hyper_util::server::graceful::Watcher;

/// What a connection is served with.
struct Served {
    router: Router,
    watcher: Watcher,
    metrics: Arc<Metrics>,
}

/// Waits for a client that has until [`HANDSHAKE`].
async fn in_time<T>(phase: Phase, metrics: &Metrics, work: impl Future<Output = io::Result<T>>) -> io::Result<T> {
    match timeout(HANDSHAKE, work).await {
        Ok(done) => done,
        Err(elapsed) => {
            metrics.timed_out(phase);
            Err(elapsed.into())
        }
    }
}

async fn connection(
    stream: TcpStream,
    tls: Option<TlsAcceptor>,
    served: Served,
    mut stop: watch::Receiver<bool>,
) -> io::Result<()> {
    stream.set_nodelay(true)?;
    let Some(acceptor) = tls else {
        let first = async {
            let mut octet = [0];
            stream.peek(&mut octet).await
        };
        let first = tokio::select! {
            first = in_time(Phase::FirstOctet, &served.metrics, first) => first,
            () = stopped(&mut stop) => return Ok(()),
        };
        first?;
        return http1(stream, served).await;
    };
    let handshake = async {
        let mut stream = in_time(Phase::Handshake, &served.metrics, acceptor.accept(stream)).await?;
        in_time(Phase::FirstOctet, &served.metrics, stream.fill_buf()).await?;
        Ok::<_, io::Error>(stream)
    };
    let stream = tokio::select! {
        done = handshake => done?,
        () = stopped(&mut stop) => return Ok(()),
    };
    if stream.get_ref().1.alpn_protocol() == Some(b"h2") {
        http2(stream, served).await
    } else {
        http1(stream, served).await
    }
}

async fn http1(
    stream: impl AsyncRead + AsyncWrite + Send + Unpin + 'static,
    Served { router, watcher, metrics }: Served,
) -> io::Result<()> {
    let connection = hyper::server::conn::http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(HEADER)
        .max_buf_size(HEADER_OCTETS)
        .serve_connection(TokioIo::new(stream), TowerToHyperService::new(router));
    watcher.watch(connection).await.map_err(|error| ended(error, Phase::Header, &metrics))
}

async fn http2(
    stream: impl AsyncRead + AsyncWrite + Send + Unpin + 'static,
    Served { router, watcher, metrics }: Served,
) -> io::Result<()> {
    let connection = hyper::server::conn::http2::Builder::new(TokioExecutor::new())
        .timer(TokioTimer::new())
        .max_concurrent_streams(STREAMS)
        .max_header_list_size(HEADER_LIST_OCTETS)
        .keep_alive_interval(PING)
        .keep_alive_timeout(PING)
        .serve_connection(TokioIo::new(stream), TowerToHyperService::new(router));
    watcher.watch(connection).await.map_err(|error| ended(error, Phase::Ping, &metrics))
}

/// Why a connection ended; `phase` is what hyper waits for with a deadline.
fn ended(error: hyper::Error, phase: Phase, metrics: &Metrics) -> io::Error {
    if error.is_timeout() {
        metrics.timed_out(phase);
    }
    io::Error::other(error)
}

#[cfg(test)]
mod tests {
    use super::*;
    use akamu_challenge::SystemClock;
    use axum::routing::get;
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
    use tokio::sync::Notify;
    use tokio::task::yield_now;
    use tokio::time::Instant;

    async fn listener(router: Router, tls: Option<Arc<rustls::ServerConfig>>) -> Listener {
        let socket = TcpListener::bind("127.0.0.1:0").await.unwrap();
        Listener { socket, tls, router, clock: Arc::new(SystemClock), metrics: Arc::default() }
    }

    /// TLS with no certificate: good for connections whose handshake never begins.
    fn tls() -> Arc<rustls::ServerConfig> {
        let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        let builder = rustls::ServerConfig::builder_with_provider(provider).with_safe_default_protocol_versions();
        let resolver = rustls::server::ResolvesServerCertUsingSni::new();
        Arc::new(builder.unwrap().with_no_client_auth().with_cert_resolver(Arc::new(resolver)))
    }

    #[tokio::test]
    async fn a_stop_answers_the_request_in_hand_and_takes_no_connection_more() {
        let (entered, may_answer) = (Arc::new(Notify::new()), Arc::new(Notify::new()));
        let handler = {
            let (entered, may_answer) = (entered.clone(), may_answer.clone());
            async move || {
                entered.notify_one();
                may_answer.notified().await;
                "answered"
            }
        };
        let listener = listener(Router::new().route("/", get(handler)), None).await;
        let address = listener.socket.local_addr().unwrap();
        let (stop, stopped) = watch::channel(false);
        let serving = tokio::spawn(listener.serve(stopped));
        let mut stream = TcpStream::connect(address).await.unwrap();
        stream.write_all(b"GET / HTTP/1.1\r\nHost: x\r\n\r\n").await.unwrap();
        entered.notified().await;
        stop.send_replace(true);
        let mut attempts = 0;
        while TcpStream::connect(address).await.is_ok() {
            assert!(attempts < 1_000, "connections are still taken");
            attempts += 1;
            yield_now().await;
        }
        assert!(!serving.is_finished());
        may_answer.notify_one();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).await.unwrap();
        assert!(answer.starts_with("HTTP/1.1 200 OK") && answer.ends_with("answered"), "{answer}");
        serving.await.unwrap();
    }

    #[tokio::test(start_paused = true)]
    async fn a_stop_does_not_wait_for_who_says_nothing() {
        for tls in [None, Some(tls())] {
            let listener = listener(Router::new(), tls).await;
            let address = listener.socket.local_addr().unwrap();
            let (stop, stopped) = watch::channel(false);
            let serving = tokio::spawn(listener.serve(stopped));
            let silent = TcpStream::connect(address).await.unwrap();
            for _ in 0..100 {
                yield_now().await;
            }
            let begun = Instant::now();
            stop.send_replace(true);
            serving.await.unwrap();
            assert_eq!(begun.elapsed(), Duration::ZERO);
            drop(silent);
        }
    }
}
