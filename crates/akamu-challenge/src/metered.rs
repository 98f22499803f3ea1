//! A peer's byte stream, bounded: so many octets are read and not one more, and the first of them are remembered.

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll, Waker};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use crate::{Event, Excerpt, Stream};

/// How many octets a peer may send in one connection: a head, its body in the smallest chunks, or a TLS handshake fit.
const MAX_OCTETS: u64 = 128 * 1024;

/// One octet more than an excerpt shows, so that it knows of the rest.
const REMEMBERED: usize = Excerpt::MAX_OCTETS + 1;

/// A connection to a peer.
///
/// Nothing is read before something was written: in http-01 and tls-alpn-01 we speak first, and what a talkative peer
/// says before is an answer like any other.
pub(crate) struct Metered<'a> {
    stream: Box<dyn Stream + 'a>,
    octets: u64,
    start: Vec<u8>,
    has_written: bool,
    reader: Option<Waker>,
}

/// The peer sent more than any answer needs.
#[derive(Debug, thiserror::Error)]
#[error("the peer sent more than {} KiB", MAX_OCTETS / 1024)]
struct TooMuch;

impl<'a> Metered<'a> {
    pub(crate) fn new(stream: Box<dyn Stream + 'a>) -> Self {
        Self { stream, octets: 0, start: Vec::new(), has_written: false, reader: None }
    }

    /// The first octets that the peer sent.
    pub(crate) fn start(&self) -> Excerpt {
        Excerpt::new(&self.start)
    }

    /// How many octets the peer sent.
    pub(crate) const fn octets(&self) -> u64 {
        self.octets
    }

    /// What came over the wire, for a connection on which the protocol was not understood.
    pub(crate) fn raw_octets(&self) -> Event {
        Event::RawOctets { octets: self.octets, start: self.start() }
    }
}

impl AsyncRead for Metered<'_> {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        if !this.has_written {
            this.reader = Some(cx.waker().clone());
            return Poll::Pending;
        }
        let left = usize::try_from(MAX_OCTETS - this.octets).unwrap_or(usize::MAX);
        if left == 0 {
            return Poll::Ready(Err(io::Error::new(io::ErrorKind::InvalidData, TooMuch)));
        }
        let room = buf.remaining().min(left);
        let mut read = ReadBuf::new(buf.initialize_unfilled_to(room));
        let outcome = Pin::new(&mut this.stream).poll_read(cx, &mut read);
        let fresh = read.filled();
        this.octets += fresh.len() as u64;
        this.start.extend(fresh.iter().take(REMEMBERED - this.start.len()));
        let count = fresh.len();
        buf.advance(count);
        outcome
    }
}

impl AsyncWrite for Metered<'_> {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        let this = self.get_mut();
        let outcome = Pin::new(&mut this.stream).poll_write(cx, buf);
        if outcome.is_ready() {
            this.has_written = true;
            if let Some(reader) = this.reader.take() {
                reader.wake();
            }
        }
        outcome
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.get_mut().stream).poll_flush(cx)
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.get_mut().stream).poll_shutdown(cx)
    }
}

/// An I/O error in words that do not depend on the operating system, where it is one of the usual ones.
pub(crate) fn describe(error: &io::Error) -> Excerpt {
    Excerpt::new(match error.kind() {
        io::ErrorKind::ConnectionRefused => "connection refused".to_owned(),
        io::ErrorKind::ConnectionReset => "connection reset".to_owned(),
        io::ErrorKind::ConnectionAborted => "connection aborted".to_owned(),
        io::ErrorKind::BrokenPipe | io::ErrorKind::UnexpectedEof => "connection closed".to_owned(),
        io::ErrorKind::HostUnreachable => "host unreachable".to_owned(),
        io::ErrorKind::NetworkUnreachable => "network unreachable".to_owned(),
        io::ErrorKind::TimedOut => "timed out".to_owned(),
        _ => error.to_string(),
    })
}
