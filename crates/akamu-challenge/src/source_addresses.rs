//! From which of this machine's addresses a peer is reached.

use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use tokio::net::{TcpSocket, TcpStream, UdpSocket};

/// Addresses of this machine, at most one of each family in use; with none the operating system chooses.
#[derive(Clone, Debug, Default)]
pub(crate) struct SourceAddresses(Vec<IpAddr>);

impl SourceAddresses {
    pub(crate) fn new(addresses: impl IntoIterator<Item = IpAddr>) -> Self {
        Self(addresses.into_iter().collect())
    }

    /// Whether the operating system chooses.
    pub(crate) fn is_any(&self) -> bool {
        self.0.is_empty()
    }

    /// Opens a TCP connection.
    pub(crate) async fn connect(&self, peer: SocketAddr) -> io::Result<TcpStream> {
        let source = self.towards(peer.ip())?;
        let socket = if peer.is_ipv4() { TcpSocket::new_v4() } else { TcpSocket::new_v6() }?;
        socket.bind(source)?;
        socket.connect(peer).await
    }

    /// A UDP socket of its own port that takes datagrams of `peer` alone.
    pub(crate) async fn socket_to(&self, peer: SocketAddr) -> io::Result<UdpSocket> {
        let socket = UdpSocket::bind(self.towards(peer.ip())?).await?;
        socket.connect(peer).await?;
        Ok(socket)
    }

    /// What a socket to `peer` is bound to: the first address of its family.
    ///
    /// # Errors
    /// There are addresses, and none of its family ([`io::ErrorKind::AddrNotAvailable`]).
    fn towards(&self, peer: IpAddr) -> io::Result<SocketAddr> {
        let any: IpAddr = if peer.is_ipv4() { Ipv4Addr::UNSPECIFIED.into() } else { Ipv6Addr::UNSPECIFIED.into() };
        let source = if self.0.is_empty() {
            any
        } else {
            *self.0.iter().find(|it| it.is_ipv4() == peer.is_ipv4()).ok_or(io::ErrorKind::AddrNotAvailable)?
        };
        Ok(SocketAddr::new(source, 0))
    }
}
