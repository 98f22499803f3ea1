//! How a validator gets a byte stream to an address: a trait, and TCP behind it.

use std::fmt;
use std::io;
#[cfg(feature = "net")]
use std::net::IpAddr;
use std::net::SocketAddr;
use std::sync::Arc;

use async_trait::async_trait;
use tokio::io::{AsyncRead, AsyncWrite};

#[cfg(feature = "net")]
use crate::source_addresses::SourceAddresses;

/// A connection, whatever carries it.
pub trait Stream: AsyncRead + AsyncWrite + Send + Unpin {}

impl<T: AsyncRead + AsyncWrite + Send + Unpin> Stream for T {}

/// Opens connections. Deadlines, address policy and limits are the caller's.
#[async_trait]
pub trait Connector: Send + Sync + fmt::Debug {
    /// Connects to exactly this address.
    ///
    /// # Errors
    /// What the operating system says; its [`io::ErrorKind`] becomes the client's error detail.
    async fn connect(&self, address: SocketAddr) -> io::Result<Box<dyn Stream>>;
}

#[async_trait]
impl<T: Connector + ?Sized> Connector for Arc<T> {
    async fn connect(&self, address: SocketAddr) -> io::Result<Box<dyn Stream>> {
        (**self).connect(address).await
    }
}

/// TCP from this machine.
#[cfg(feature = "net")]
#[derive(Clone, Copy, Debug, Default)]
pub struct TcpConnector;

#[cfg(feature = "net")]
#[async_trait]
impl Connector for TcpConnector {
    async fn connect(&self, address: SocketAddr) -> io::Result<Box<dyn Stream>> {
        let stream = tokio::net::TcpStream::connect(address).await?;
        stream.set_nodelay(true)?;
        Ok(Box::new(stream))
    }
}

/// TCP from certain addresses of this machine: one of each family, or of one family alone.
#[cfg(feature = "net")]
#[derive(Clone, Debug)]
pub struct SourceConnector {
    sources: SourceAddresses,
}

#[cfg(feature = "net")]
impl SourceConnector {
    /// Connects from the first of `sources` that is of the peer's family. Without one the connection fails
    /// ([`io::ErrorKind::AddrNotAvailable`]).
    pub fn new(sources: impl IntoIterator<Item = IpAddr>) -> Self {
        Self { sources: SourceAddresses::new(sources) }
    }
}

#[cfg(feature = "net")]
#[async_trait]
impl Connector for SourceConnector {
    async fn connect(&self, address: SocketAddr) -> io::Result<Box<dyn Stream>> {
        let stream = self.sources.connect(address).await?;
        stream.set_nodelay(true)?;
        Ok(Box::new(stream))
    }
}
