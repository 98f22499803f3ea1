//! How a validator gets a byte stream to an address: a trait, and TCP behind it.

use std::fmt;
use std::io;
use std::net::SocketAddr;

use async_trait::async_trait;
use tokio::io::{AsyncRead, AsyncWrite};

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
