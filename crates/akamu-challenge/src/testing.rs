//! A network, names and a clock in memory (feature `testing`).
//!
//! Under tokio's paused clock every timeout, split answer, reset and slow octet is replayed the same way each time, and
//! takes no time.

#[cfg(feature = "net")]
mod name_server;
mod parsers;

use std::collections::HashMap;
use std::fmt;
use std::future::{Future, pending};
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::pin::Pin;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll};
use std::time::Duration;

use akamu_proto::{DnsName, Timestamp};
use async_trait::async_trait;
use tokio::io::{AsyncRead, AsyncWrite, DuplexStream, ReadBuf};
use tokio::sync::watch;

#[cfg(feature = "net")]
pub use name_server::TestNameServer;
pub use parsers::{PersistFields, check_validation_certificate, read_persist_record};

use crate::{Clock, Connector, Deadline, Lookup, LookupError, Resolver, Stream, TxtRecord};

/// A clock that shows what it is set to. Who sleeps by it wakes when it has been set late enough.
#[derive(Clone, Debug)]
pub struct TestClock {
    now: Arc<watch::Sender<Timestamp>>,
}

impl TestClock {
    /// A clock that shows `now`.
    pub fn at(now: Timestamp) -> Self {
        Self { now: Arc::new(watch::Sender::new(now)) }
    }

    /// Shows a later time from now on.
    pub fn advance(&self, duration: Duration) {
        self.now.send_modify(|now| *now = now.plus(duration));
    }
}

#[async_trait]
impl Clock for TestClock {
    fn now(&self) -> Timestamp {
        *self.now.borrow()
    }

    async fn sleep(&self, duration: Duration) {
        let until = self.now().plus(duration);
        // The sender is ours: it cannot be gone.
        let _ = self.now.subscribe().wait_for(|now| *now >= until).await;
    }
}

/// Names and their records. A name that was not told exists nowhere.
#[derive(Clone, Debug, Default)]
pub struct TestNames {
    addresses: Records<IpAddr>,
    txt: Records<TxtRecord>,
}

/// The outcome of each name's lookup, shared by all clones.
#[derive(Clone, Debug)]
struct Records<T>(Arc<Mutex<HashMap<String, Lookup<T>>>>);

impl<T> Default for Records<T> {
    fn default() -> Self {
        Self(Arc::default())
    }
}

impl<T: Clone> Records<T> {
    fn set(&self, name: &str, outcome: Result<Vec<T>, LookupError>) {
        self.0
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .insert(name.to_owned(), Lookup { outcome, steps: Vec::new() });
    }

    async fn look_up(&self, name: &str, deadline: Deadline) -> Lookup<T> {
        let known = self.0.lock().unwrap_or_else(PoisonError::into_inner).get(name).cloned();
        let lookup = known.unwrap_or_else(|| Lookup { outcome: Err(LookupError::NxDomain), steps: Vec::new() });
        if matches!(lookup.outcome, Err(LookupError::Timeout)) {
            tokio::time::sleep_until(deadline.instant()).await;
        }
        lookup
    }
}

impl TestNames {
    /// Sets the outcome of looking up the addresses of `name`. [`LookupError::Timeout`] comes at the deadline.
    pub fn set_addresses(&self, name: &str, outcome: Result<Vec<IpAddr>, LookupError>) {
        self.addresses.set(name, outcome);
    }

    /// Sets the outcome of looking up the TXT records of `name`. [`LookupError::Timeout`] comes at the deadline.
    pub fn set_txt(&self, name: &str, outcome: Result<Vec<TxtRecord>, LookupError>) {
        self.txt.set(name, outcome);
    }
}

#[async_trait]
impl Resolver for TestNames {
    async fn txt(&self, name: &str, deadline: Deadline) -> Lookup<TxtRecord> {
        self.txt.look_up(name, deadline).await
    }

    async fn addresses(&self, name: &DnsName, deadline: Deadline) -> Lookup<IpAddr> {
        self.addresses.look_up(name.as_str(), deadline).await
    }
}

/// What answers at an address.
type Serve = dyn Fn(TestPeer) -> Pin<Box<dyn Future<Output = ()> + Send>> + Send + Sync;

#[derive(Clone)]
enum Listener {
    Fails(io::ErrorKind),
    Hangs,
    Serves(Arc<Serve>),
}

/// A network in memory. At an address that was not told, connections are refused.
#[derive(Clone, Default)]
pub struct TestNetwork {
    listeners: Arc<Mutex<HashMap<SocketAddr, Listener>>>,
    dialled: Arc<Mutex<Vec<SocketAddr>>>,
}

impl TestNetwork {
    /// Connections to `address` are taken, and each is `serve`d in a task of its own.
    pub fn serve<F, T>(&self, address: SocketAddr, serve: F)
    where
        F: Fn(TestPeer) -> T + Send + Sync + 'static,
        T: Future<Output = ()> + Send + 'static,
    {
        self.listen(address, Listener::Serves(Arc::new(move |peer| Box::pin(serve(peer)))));
    }

    /// Connections to `address` fail in this way.
    pub fn fail(&self, address: SocketAddr, kind: io::ErrorKind) {
        self.listen(address, Listener::Fails(kind));
    }

    /// Connections to `address` never come about.
    pub fn hang(&self, address: SocketAddr) {
        self.listen(address, Listener::Hangs);
    }

    /// Every address that was dialled, in order.
    pub fn dialled(&self) -> Vec<SocketAddr> {
        self.dialled.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    fn listen(&self, address: SocketAddr, listener: Listener) {
        self.listeners.lock().unwrap_or_else(PoisonError::into_inner).insert(address, listener);
    }
}

#[async_trait]
impl Connector for TestNetwork {
    async fn connect(&self, address: SocketAddr) -> io::Result<Box<dyn Stream>> {
        self.dialled.lock().unwrap_or_else(PoisonError::into_inner).push(address);
        let listener = self.listeners.lock().unwrap_or_else(PoisonError::into_inner).get(&address).cloned();
        match listener.unwrap_or(Listener::Fails(io::ErrorKind::ConnectionRefused)) {
            Listener::Fails(kind) => Err(kind.into()),
            Listener::Hangs => pending().await,
            Listener::Serves(serve) => {
                let (ours, theirs) = tokio::io::duplex(64 * 1024);
                let is_reset = Arc::new(AtomicBool::new(false));
                tokio::spawn(serve(TestPeer { stream: theirs, is_reset: Arc::clone(&is_reset) }));
                Ok(Box::new(TestPeer { stream: ours, is_reset }))
            }
        }
    }
}

impl fmt::Debug for TestNetwork {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("TestNetwork").field("dialled", &self.dialled()).finish_non_exhaustive()
    }
}

/// One end of a connection in memory.
#[derive(Debug)]
pub struct TestPeer {
    stream: DuplexStream,
    is_reset: Arc<AtomicBool>,
}

impl TestPeer {
    /// Ends the connection as a TCP RST does: the other side's next read or write fails.
    pub fn reset(self) {
        self.is_reset.store(true, Ordering::SeqCst);
    }

    fn check_reset(&self) -> io::Result<()> {
        if self.is_reset.load(Ordering::SeqCst) { Err(io::ErrorKind::ConnectionReset.into()) } else { Ok(()) }
    }
}

impl AsyncRead for TestPeer {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let outcome = Pin::new(&mut self.stream).poll_read(cx, buf);
        if outcome.is_ready() {
            self.check_reset()?;
        }
        outcome
    }
}

impl AsyncWrite for TestPeer {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        self.check_reset()?;
        Pin::new(&mut self.stream).poll_write(cx, buf)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }
}
