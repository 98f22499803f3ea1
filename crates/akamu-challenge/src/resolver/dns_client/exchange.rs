//! How one message travels: a datagram each way, or a TCP connection for it alone.
//!
//! What a forger off the path would have to guess (RFC 5452): the id, drawn by hickory for each question, and the port,
//! drawn by the operating system for each socket. The socket is connected, so the kernel takes datagrams of the server
//! only, and a closed port is known at once instead of at the deadline.

use std::io;
use std::net::SocketAddr;
use std::time::Duration;

use hickory_net::proto::op::{self, Edns, Message, ResponseCode};
use hickory_net::proto::rr::{Name, RecordType};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::UdpSocket;
use tokio::time::timeout;

use super::LookupError;
use crate::source_addresses::SourceAddresses;

/// The UDP payload that we say we take (EDNS, RFC 6891 §6.2.3): what reaches everyone without fragments.
const MAX_PAYLOAD: u16 = 1232;

/// Room for a datagram of a server that sends more than it was told to.
const MAX_DATAGRAM: usize = 4096;

/// How long the first datagram may take; each further one twice as long as the one before.
const FIRST_WAIT: Duration = Duration::from_secs(1);

/// What carries messages.
#[derive(Clone, Debug)]
pub(super) enum Network {
    /// From these addresses of this machine.
    Sockets(SourceAddresses),
    #[cfg(feature = "testing")]
    Memory(crate::testing::TestNameServer),
}

impl Default for Network {
    fn default() -> Self {
        Self::Sockets(SourceAddresses::default())
    }
}

/// A message that asks.
pub(super) struct Query {
    message: Message,
    octets: Vec<u8>,
}

pub(super) enum Reply {
    Whole(Message),
    /// Only the first part fitted (TC).
    Truncated,
}

impl Query {
    /// With `signatures` they are asked for (DO), and that the server leaves judging them to us (CD, RFC 6840 §5.9).
    pub(super) fn new(
        name: &Name,
        record_type: RecordType,
        with_edns: bool,
        signatures: bool,
    ) -> Result<Self, LookupError> {
        let mut message = Message::query();
        message.metadata.recursion_desired = true;
        message.metadata.checking_disabled = signatures;
        message.add_query(op::Query::query(name.clone(), record_type));
        if with_edns {
            let mut edns = Edns::new();
            edns.set_max_payload(MAX_PAYLOAD);
            edns.set_dnssec_ok(signatures);
            message.set_edns(edns);
        }
        let octets = message.to_vec().map_err(|_| LookupError::BadName)?;
        Ok(Self { message, octets })
    }

    /// Sends the question again and again until the server answers; the caller sets the limit.
    pub(super) async fn over_udp(&self, server: SocketAddr, network: &Network) -> Result<Reply, LookupError> {
        match network {
            Network::Sockets(sources) => self.over_udp_socket(server, sources).await,
            #[cfg(feature = "testing")]
            Network::Memory(memory) => {
                let reply = memory.answers(&self.octets).iter().find_map(|it| self.read(it));
                reply.unwrap_or(Err(LookupError::Timeout))
            }
        }
    }

    async fn over_udp_socket(&self, server: SocketAddr, sources: &SourceAddresses) -> Result<Reply, LookupError> {
        let socket = sources.socket_to(server).await.map_err(unreachable)?;
        let mut wait = FIRST_WAIT;
        loop {
            socket.send(&self.octets).await.map_err(unreachable)?;
            if let Ok(reply) = timeout(wait, self.receive(&socket)).await {
                return reply;
            }
            wait = wait.saturating_mul(2);
        }
    }

    async fn receive(&self, socket: &UdpSocket) -> Result<Reply, LookupError> {
        let mut buffer = vec![0; MAX_DATAGRAM];
        loop {
            let length = socket.recv(&mut buffer).await.map_err(unreachable)?;
            if let Some(reply) = self.read(buffer.get(..length).unwrap_or(&buffer)) {
                return reply;
            }
        }
    }

    /// Asks over a connection of its own.
    pub(super) async fn over_tcp(&self, server: SocketAddr, network: &Network) -> Result<Reply, LookupError> {
        let answer = match network {
            Network::Sockets(sources) => self.exchange_over_tcp(server, sources).await.map_err(unreachable)?,
            #[cfg(feature = "testing")]
            Network::Memory(memory) => memory.answers(&self.octets).into_iter().next().unwrap_or_default(),
        };
        self.read(&answer).unwrap_or(Err(LookupError::Malformed))
    }

    async fn exchange_over_tcp(&self, server: SocketAddr, sources: &SourceAddresses) -> io::Result<Vec<u8>> {
        let length = u16::try_from(self.octets.len()).map_err(io::Error::other)?;
        let mut message = length.to_be_bytes().to_vec();
        message.extend_from_slice(&self.octets);
        let mut stream = sources.connect(server).await?;
        stream.write_all(&message).await?;
        let mut answer = vec![0; usize::from(stream.read_u16().await?)];
        stream.read_exact(&mut answer).await?;
        Ok(answer)
    }

    /// What these octets answer; `None` where they are no answer to this question.
    fn read(&self, octets: &[u8]) -> Option<Result<Reply, LookupError>> {
        const IS_RESPONSE: u8 = 0x80;
        const IS_TRUNCATED: u8 = 0x02;
        let [id_high, id_low, flags, ..] = *octets else { return None };
        if u16::from_be_bytes([id_high, id_low]) != self.message.metadata.id || flags & IS_RESPONSE == 0 {
            return None;
        }
        // Before the rest is read: it may end in the middle of a record.
        if flags & IS_TRUNCATED != 0 {
            return Some(Ok(Reply::Truncated));
        }
        let Ok(answer) = Message::from_vec(octets) else { return Some(Err(LookupError::Malformed)) };
        let code = answer.metadata.response_code;
        let repeats_question = answer.queries == self.message.queries
            || answer.queries.is_empty() && !matches!(code, ResponseCode::NoError | ResponseCode::NXDomain);
        repeats_question.then_some(Ok(Reply::Whole(answer)))
    }
}

#[expect(clippy::needless_pass_by_value, reason = "map_err hands it over")]
fn unreachable(error: io::Error) -> LookupError {
    LookupError::Unreachable(error.kind())
}
