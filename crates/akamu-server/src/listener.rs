//! Accepts connections and gives them to hyper, in bounded number, each phase bounded in time.
//!
//! The protocol comes from ALPN: HTTP/2 where `h2` was agreed, HTTP/1.1 else. (hyper-util's own detection reads the
//! first octets without a timer.)

mod connections;
mod exchange;

use std::convert::Infallible;
use std::io;
use std::net::SocketAddr;
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use akamu_challenge::Clock;
use axum::Router;
use axum::body::Body;
use futures_util::FutureExt as _;
use http::{Request, Response};
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use hyper_util::server::graceful::GracefulConnection;
use rustix::io::Errno;
use tokio::io::{AsyncBufReadExt as _, AsyncRead, AsyncWrite};
use tokio::net::{TcpListener, TcpSocket, TcpStream};
use tokio::sync::watch;
use tokio::time::{Instant, timeout_at};
use tokio_rustls::TlsAcceptor;
use tokio_util::task::TaskTracker;
use tower::ServiceExt as _;

pub(crate) use self::connections::Connections;
pub(crate) use self::exchange::InHand;
use self::exchange::{Answer, Exchange};
use crate::metrics::{Metrics, Phase};
use crate::shutdown::stopped;

/// How long a client may take for the TLS handshake and the first octet after it.
const FIRST_OCTET: Duration = Duration::from_secs(10);
/// How long a client may take from there, or from its last answer, to the end of the next request's header. So long an
/// idle connection is kept, whatever else comes: HTTP/2's PINGs are no requests.
const REQUEST: Duration = Duration::from_secs(30);
/// How long a connection may take to end that was told to.
const END: Duration = Duration::from_secs(1);
/// A request's header may have this many octets.
const HEADER_OCTETS: usize = 16 * 1024;
/// And this many when HTTP/2 has unpacked it.
const HEADER_LIST_OCTETS: u32 = 16 * 1024;
/// Streams at once on one HTTP/2 connection.
const STREAMS: u32 = 32;
/// What a client may send by HTTP/2 that was not asked for yet, on a stream and on its connection: the least that RFC
/// 9113 §6.9.2 has for a connection.
const WINDOW: u32 = 65_535;
/// How many octets of an answer are kept for a client of HTTP/2 that does not take them.
const SEND_BUFFER: usize = 64 * 1024;
/// How many connections the kernel may keep for us. Where it has no room it drops a client's SYN, and the client tries
/// again a second later.
const BACKLOG: u32 = 4_096;
/// How long to wait before the next connection is accepted, where one could not be.
const ACCEPT_AGAIN: Duration = Duration::from_millis(100);

/// Listens at an address.
pub(crate) fn bind(address: SocketAddr) -> io::Result<TcpListener> {
    let socket = if address.is_ipv4() { TcpSocket::new_v4() } else { TcpSocket::new_v6() }?;
    // Or a restart would have to wait for the connections of before to be forgotten.
    socket.set_reuseaddr(true)?;
    socket.bind(address)?;
    socket.listen(BACKLOG)
}

/// Where connections come from.
pub(crate) trait Accept: Send + Sync {
    fn accept(&self) -> impl Future<Output = io::Result<TcpStream>> + Send;
}

impl Accept for TcpListener {
    async fn accept(&self) -> io::Result<TcpStream> {
        self.accept().await.map(|(stream, _)| stream)
    }
}

/// What is served where.
#[derive(Debug)]
pub(crate) struct Listener<S = TcpListener> {
    pub(crate) socket: S,
    pub(crate) tls: Option<Arc<rustls::ServerConfig>>,
    pub(crate) router: Router,
    pub(crate) connections: Arc<Connections>,
    pub(crate) clock: Arc<dyn Clock>,
    pub(crate) metrics: Arc<Metrics>,
}

impl<S: Accept> Listener<S> {
    /// Serves until `stop` turns true, then lets the requests in hand end. The caller bounds the time for that.
    pub(crate) async fn serve(self, mut stop: watch::Receiver<bool>) {
        let tasks = TaskTracker::new();
        let tls = self.tls.clone().map(TlsAcceptor::from);
        let mut was_refused = false;
        loop {
            let accepted = tokio::select! {
                accepted = self.socket.accept() => accepted,
                () = stopped(&mut stop) => break,
            };
            let stream = match accepted {
                Ok(stream) => stream,
                Err(error) => {
                    tokio::select! {
                        () = self.refused(&error, was_refused) => {}
                        () = stopped(&mut stop) => break,
                    }
                    was_refused = true;
                    continue;
                }
            };
            was_refused = false;
            let place = tokio::select! {
                place = self.connections.admit() => place,
                () = stopped(&mut stop) => break,
            };
            let served = Served {
                router: self.router.clone(),
                exchange: Arc::new(Exchange::new(place)),
                metrics: self.metrics.clone(),
                stop: stop.clone(),
            };
            let (tls, began) = (tls.clone(), Instant::now());
            tasks.spawn(async move {
                if let Err(error) = served.connection(stream, tls, began).await {
                    tracing::debug!(%error, "a connection ended");
                }
            });
        }
        drop(self.socket);
        tasks.close();
        tasks.wait().await;
    }

    /// What is done where a connection could not be accepted.
    async fn refused(&self, error: &io::Error, was_refused: bool) {
        if error.kind() == io::ErrorKind::ConnectionAborted {
            return;
        }
        // Said once, not ten times a second.
        if !was_refused {
            tracing::warn!(%error, "a connection could not be accepted");
        }
        // Out of file descriptors, or of the kernel's memory: the connection stays pending until some is free.
        let is_out_of_room =
            matches!(Errno::from_io_error(error), Some(Errno::MFILE | Errno::NFILE | Errno::NOBUFS | Errno::NOMEM));
        if is_out_of_room {
            self.connections.make_room();
        }
        self.clock.sleep(ACCEPT_AGAIN).await;
    }
}

/// What a connection is served with.
struct Served {
    router: Router,
    exchange: Arc<Exchange>,
    metrics: Arc<Metrics>,
    stop: watch::Receiver<bool>,
}

impl Served {
    async fn connection(mut self, stream: TcpStream, tls: Option<TlsAcceptor>, began: Instant) -> io::Result<()> {
        stream.set_nodelay(true)?;
        let exchange = self.exchange.clone();
        let Some(acceptor) = tls else {
            let first = async {
                let mut octet = [0];
                stream.peek(&mut octet).await
            };
            tokio::select! {
                first = in_time(Phase::FirstOctet, began, &self.metrics, first) => first?,
                () = exchange.must_go() => return Ok(()),
                () = stopped(&mut self.stop) => return Ok(()),
            };
            return self.http1(stream).await;
        };
        let handshake = async {
            let mut stream = in_time(Phase::Handshake, began, &self.metrics, acceptor.accept(stream)).await?;
            in_time(Phase::FirstOctet, began, &self.metrics, stream.fill_buf()).await?;
            Ok::<_, io::Error>(stream)
        };
        let stream = tokio::select! {
            done = handshake => done?,
            () = exchange.must_go() => return Ok(()),
            () = stopped(&mut self.stop) => return Ok(()),
        };
        if stream.get_ref().1.alpn_protocol() == Some(b"h2") {
            self.http2(stream).await
        } else {
            self.http1(stream).await
        }
    }

    async fn http1(self, stream: impl AsyncRead + AsyncWrite + Send + Unpin + 'static) -> io::Result<()> {
        let service = service_fn(|request| answer(self.router.clone(), self.exchange.clone(), request));
        let connection = hyper::server::conn::http1::Builder::new()
            // Its own deadline for the header is ours, see REQUEST.
            .header_read_timeout(None)
            .max_buf_size(HEADER_OCTETS)
            .serve_connection(TokioIo::new(stream), service);
        self.drive(connection).await
    }

    async fn http2(self, stream: impl AsyncRead + AsyncWrite + Send + Unpin + 'static) -> io::Result<()> {
        let (router, exchange) = (self.router.clone(), self.exchange.clone());
        let service = service_fn(move |request| answer(router.clone(), exchange.clone(), request));
        let connection = hyper::server::conn::http2::Builder::new(TokioExecutor::new())
            .timer(TokioTimer::new())
            .max_concurrent_streams(STREAMS)
            .max_header_list_size(HEADER_LIST_OCTETS)
            .initial_stream_window_size(WINDOW)
            .initial_connection_window_size(WINDOW)
            .max_send_buf_size(SEND_BUFFER)
            .serve_connection(TokioIo::new(stream), service);
        self.drive(connection).await
    }

    /// Runs a connection until it ends, has been idle for too long, or must make room.
    async fn drive(&self, connection: impl GracefulConnection<Error = hyper::Error>) -> io::Result<()> {
        self.exchange.begin();
        let mut connection = pin!(connection);
        let mut stop = self.stop.clone();
        let (mut limit, mut from) = (REQUEST, Instant::now());
        let (mut must_go, mut is_stopping) = (false, false);
        loop {
            tokio::select! {
                biased;
                // First: whenever hyper is asked it may take one more piece of an answer that nobody takes from it.
                () = self.exchange.has_been_idle(from, limit) => {
                    if limit == REQUEST {
                        self.metrics.timed_out(Phase::Request);
                    }
                    break;
                }
                ended = connection.as_mut() => return ended.map_err(io::Error::other),
                () = self.exchange.must_go(), if !must_go => must_go = true,
                () = stopped(&mut stop), if !is_stopping => is_stopping = true,
            }
            if must_go && self.exchange.waits_for_client() {
                break;
            }
            // A request in hand is answered, and nothing new begins.
            connection.as_mut().graceful_shutdown();
            (limit, from) = (END, Instant::now());
        }
        // Says goodbye, where that can be sent at once.
        connection.as_mut().graceful_shutdown();
        connection.now_or_never();
        Ok(())
    }
}

/// Waits for a client that has until [`FIRST_OCTET`].
async fn in_time<T>(
    phase: Phase,
    began: Instant,
    metrics: &Metrics,
    work: impl Future<Output = io::Result<T>>,
) -> io::Result<T> {
    match timeout_at(began + FIRST_OCTET, work).await {
        Ok(done) => done,
        Err(elapsed) => {
            metrics.timed_out(phase);
            Err(elapsed.into())
        }
    }
}

async fn answer(
    router: Router,
    exchange: Arc<Exchange>,
    request: Request<Incoming>,
) -> Result<Response<Answer>, Infallible> {
    let in_hand = exchange.request();
    let mut request = request.map(Body::new);
    request.extensions_mut().insert(in_hand.clone());
    let response = router.oneshot(request).await?;
    drop(in_hand);
    Ok(response.map(|body| exchange.answer(body)))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::atomic::{AtomicUsize, Ordering};

    use akamu_challenge::SystemClock;
    use akamu_challenge::testing::TestClock;
    use axum::routing::get;
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
    use tokio::sync::{Notify, mpsc};
    use tokio::task::yield_now;
    use tokio::time::Instant;

    async fn listener(router: Router, tls: Option<Arc<rustls::ServerConfig>>) -> Listener {
        let socket = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let metrics = Arc::<Metrics>::default();
        let connections = Connections::new(100, metrics.clone());
        Listener { socket, tls, router, connections, clock: Arc::new(SystemClock), metrics }
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

    /// Connections, and the kernel's refusals to give one, as a test sends them.
    struct Scripted {
        accepted: tokio::sync::Mutex<mpsc::UnboundedReceiver<io::Result<TcpStream>>>,
        asked: Arc<AtomicUsize>,
    }

    impl Accept for Scripted {
        async fn accept(&self) -> io::Result<TcpStream> {
            self.asked.fetch_add(1, Ordering::Relaxed);
            match self.accepted.lock().await.recv().await {
                Some(accepted) => accepted,
                None => std::future::pending().await,
            }
        }
    }

    #[tokio::test]
    async fn out_of_descriptors_an_idle_connection_is_closed_and_the_next_one_taken_later() {
        let (sender, accepted) = mpsc::unbounded_channel();
        let (asked, clock) = (Arc::<AtomicUsize>::default(), TestClock::at(SystemClock.now()));
        let Listener { socket, router, connections, metrics, .. } =
            listener(Router::new().route("/", get(async || "answered")), None).await;
        let scripted = Scripted { accepted: accepted.into(), asked: asked.clone() };
        let clock_of_listener = Arc::new(clock.clone());
        let listener = Listener { socket: scripted, tls: None, router, connections, clock: clock_of_listener, metrics };
        let (_stop, stopped) = watch::channel(false);
        tokio::spawn(listener.serve(stopped));
        let pair = async || {
            let client = TcpStream::connect(socket.local_addr().unwrap()).await.unwrap();
            (client, socket.accept().await.unwrap().0)
        };
        let (mut idle, accepted) = pair().await;
        sender.send(Ok(accepted)).unwrap();
        // Half of a header is a client that is waited for.
        idle.write_all(b"GET /").await.unwrap();
        for code in [Errno::MFILE, Errno::NFILE] {
            sender.send(Err(code.into())).unwrap();
        }
        // Closed, or reset for what was not read.
        let mut is_closed = false;
        for _ in 0..10_000 {
            yield_now().await;
            is_closed |= match idle.try_read(&mut [0]) {
                Ok(count) => count == 0,
                Err(error) => error.kind() != io::ErrorKind::WouldBlock,
            };
        }
        assert!(is_closed);
        for _ in 0..1_000 {
            yield_now().await;
        }
        assert_eq!(asked.load(Ordering::Relaxed), 2);
        let (mut next, accepted) = pair().await;
        sender.send(Ok(accepted)).unwrap();
        next.write_all(b"GET / HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n").await.unwrap();
        let answered = tokio::spawn(async move {
            let mut answer = String::new();
            next.read_to_string(&mut answer).await.unwrap();
            answer
        });
        while asked.load(Ordering::Relaxed) < 4 {
            clock.advance(ACCEPT_AGAIN);
            yield_now().await;
        }
        let answer = answered.await.unwrap();
        assert!(answer.ends_with("answered"), "{answer}");
    }

    #[tokio::test]
    async fn a_newcomer_waits_for_the_request_in_hand_that_has_the_last_place() {
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
        let listener = Listener { connections: Connections::new(1, listener.metrics.clone()), ..listener };
        let address = listener.socket.local_addr().unwrap();
        let (_stop, stopped) = watch::channel(false);
        tokio::spawn(listener.serve(stopped));
        let request = async || {
            let mut stream = TcpStream::connect(address).await.unwrap();
            stream.write_all(b"GET / HTTP/1.1\r\nHost: x\r\n\r\n").await.unwrap();
            stream
        };
        let mut first = request().await;
        entered.notified().await;
        let second = request().await;
        for _ in 0..100 {
            yield_now().await;
        }
        may_answer.notify_one();
        // It is answered first, and then makes room, although its client did not ask for that.
        let mut answer = String::new();
        first.read_to_string(&mut answer).await.unwrap();
        assert!(answer.ends_with("answered"), "{answer}");
        entered.notified().await;
        drop(second);
    }

    #[tokio::test(start_paused = true)]
    async fn a_long_answer_may_take_its_time_as_long_as_it_is_taken() {
        const LENGTH: usize = 1024 * 1024;
        for (pause, is_whole) in [(REQUEST - Duration::from_secs(1), true), (REQUEST * 2, false)] {
            let router = Router::new().route("/", get(async || vec![b'x'; LENGTH]));
            let Listener { connections, metrics, .. } = listener(Router::new(), None).await;
            let exchange = Arc::new(Exchange::new(connections.admit().await));
            let (_stop, stop) = watch::channel(false);
            // In memory: the kernel's buffers need time of their own.
            let (mut client, stream) = tokio::io::duplex(64 * 1024);
            tokio::spawn(Served { router, exchange, metrics, stop }.http1(stream));
            client.write_all(b"GET / HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n").await.unwrap();
            let (mut octets, mut taken) = (vec![0; LENGTH], 0);
            loop {
                tokio::time::sleep(pause).await;
                match client.read(&mut octets).await {
                    Ok(0) | Err(_) => break,
                    Ok(count) => taken += count,
                }
            }
            assert_eq!(taken >= LENGTH, is_whole, "{pause:?}: {taken}");
        }
    }
}
