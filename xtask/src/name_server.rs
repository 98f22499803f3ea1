//! The DNS of the real clients' tests and of the benchmark: a name server on loopback whose TXT records the clients set.

use std::collections::BTreeMap;
use std::io;
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use async_trait::async_trait;
use hickory_server::Server;
use hickory_server::net::runtime::Time;
use hickory_server::proto::op::{Header, HeaderCounts, Metadata, ResponseCode};
use hickory_server::proto::rr::rdata::{A, TXT};
use hickory_server::proto::rr::{RData, Record, RecordType};
use hickory_server::server::{Request, RequestHandler, ResponseHandler, ResponseInfo};
use hickory_server::zone_handler::MessageResponseBuilder;
use tokio::io::{AsyncBufReadExt, AsyncWriteExt, BufReader};
use tokio::net::{TcpListener, TcpStream, UdpSocket};
use tokio::runtime::Runtime;

use crate::failure::{Context, Failure};

/// No name but those under this one exists, for who asks the name server. `at-127-0-0-9.e2e.test` has that address, every
/// other name 127.0.0.1.
pub(crate) const ZONE: &str = "test";

/// Whose names exist for who asks at the inner address, and for nobody else: a network of its own.
pub(crate) const INNER_ZONE: &str = "corp.test";

/// A running name server; it ends when dropped.
#[derive(Debug)]
pub(crate) struct NameServer {
    address: SocketAddr,
    inner_address: SocketAddr,
    control: SocketAddr,
    records: Arc<Records>,
    _runtime: Runtime,
}

/// The TXT values of each name.
#[derive(Debug, Default)]
pub(crate) struct Records(Mutex<BTreeMap<String, Vec<String>>>);

impl NameServer {
    pub(crate) fn start() -> Result<Self, Failure> {
        Self::start_at(0)
    }

    /// At a port that others have been told; 0: any.
    pub(crate) fn start_at(port: u16) -> Result<Self, Failure> {
        let starting = || "cannot start the name server".to_owned();
        let runtime = Runtime::new().context(starting)?;
        let records = Arc::new(Records::default());
        let served: io::Result<_> = runtime.block_on(async {
            let address = serve(ZONE, port, &records).await?;
            let inner_address = serve(INNER_ZONE, 0, &records).await?;
            Ok((address, inner_address, take_orders(Arc::clone(&records)).await?))
        });
        let (address, inner_address, control) = served.context(starting)?;
        Ok(Self { address, inner_address, control, records, _runtime: runtime })
    }

    /// Where it answers questions, over UDP and TCP.
    pub(crate) fn address(&self) -> SocketAddr {
        self.address
    }

    /// Where it answers for the inner zone, and for no other.
    pub(crate) fn inner_address(&self) -> SocketAddr {
        self.inner_address
    }

    /// Where it takes orders from [`crate::e2e::dns_hook`].
    pub(crate) fn control(&self) -> SocketAddr {
        self.control
    }

    /// What it answers, which may be changed.
    pub(crate) fn records(&self) -> &Arc<Records> {
        &self.records
    }
}

/// Answers for the names of `zone`, until the runtime ends.
async fn serve(zone: &'static str, port: u16, records: &Arc<Records>) -> io::Result<SocketAddr> {
    let (udp, tcp) = loop {
        let udp = UdpSocket::bind((Ipv4Addr::LOCALHOST, port)).await?;
        // The same port may be taken for TCP.
        match TcpListener::bind(udp.local_addr()?).await {
            Ok(tcp) => break (udp, tcp),
            Err(error) if port != 0 => return Err(error),
            Err(_) => {}
        }
    };
    let address = udp.local_addr()?;
    let mut server = Server::new(Answers { zone, records: Arc::clone(records) });
    server.register_socket(udp);
    server.register_listener(tcp, Duration::from_secs(60), 32);
    tokio::spawn(async move { server.block_until_done().await });
    Ok(address)
}

/// Lets the hooks change the records, until the runtime ends.
async fn take_orders(records: Arc<Records>) -> io::Result<SocketAddr> {
    let control = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await?;
    let address = control.local_addr()?;
    tokio::spawn(async move {
        while let Ok((stream, _)) = control.accept().await {
            tokio::spawn(obey(stream, Arc::clone(&records)));
        }
    });
    Ok(address)
}

/// Reads one order and answers `ok` once it is carried out.
async fn obey(stream: TcpStream, records: Arc<Records>) -> io::Result<()> {
    let mut stream = BufReader::new(stream);
    let mut order = String::new();
    stream.read_line(&mut order).await?;
    let answer = if records.obey(order.trim_end()) { "ok\n" } else { "not understood\n" };
    stream.write_all(answer.as_bytes()).await
}

impl Records {
    /// `add NAME VALUE` or `remove NAME VALUE`: whether that is what `order` says.
    fn obey(&self, order: &str) -> bool {
        let mut words = order.splitn(3, ' ');
        let (Some(verb), Some(name), Some(value)) = (words.next(), words.next(), words.next()) else { return false };
        let mut records = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let values = records.entry(normalized(name)).or_default();
        match verb {
            "add" => values.push(value.to_owned()),
            "remove" => values.retain(|known| known != value),
            _ => return false,
        }
        true
    }

    /// From now on the name has this TXT record and no other.
    pub(crate) fn set(&self, name: &str, value: String) {
        let mut records = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        records.insert(normalized(name), vec![value]);
    }

    fn txt(&self, name: &str) -> Vec<String> {
        let records = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        records.get(&normalized(name)).cloned().unwrap_or_default()
    }

    /// What is at `name`: no such name outside `zone`, else what the type has there.
    fn lookup(&self, zone: &str, name: &str, kind: RecordType) -> (ResponseCode, Vec<RData>) {
        let name = normalized(name);
        let is_within = |zone| name.strip_suffix(zone).is_some_and(|rest| rest.is_empty() || rest.ends_with('.'));
        if !is_within(zone) || zone != INNER_ZONE && is_within(INNER_ZONE) {
            return (ResponseCode::NXDomain, Vec::new());
        }
        let data = match kind {
            RecordType::A => vec![RData::A(A(address(&name)))],
            // A record is one string of at most 255 octets or several.
            RecordType::TXT => self.txt(&name).iter().map(|value| txt(value)).collect(),
            _ => Vec::new(),
        };
        (ResponseCode::NoError, data)
    }
}

/// What the name's first label spells.
fn address(name: &str) -> Ipv4Addr {
    let label = name.split('.').next().and_then(|it| it.strip_prefix("at-"));
    label.and_then(|it| it.replace('-', ".").parse().ok()).unwrap_or(Ipv4Addr::LOCALHOST)
}

fn txt(value: &str) -> RData {
    RData::TXT(TXT::from_bytes(value.as_bytes().chunks(255).collect()))
}

fn normalized(name: &str) -> String {
    name.trim_end_matches('.').to_ascii_lowercase()
}

struct Answers {
    zone: &'static str,
    records: Arc<Records>,
}

#[async_trait]
impl RequestHandler for Answers {
    async fn handle_request<R: ResponseHandler, T: Time>(&self, request: &Request, mut responder: R) -> ResponseInfo {
        let mut metadata = Metadata::response_from_request(&request.metadata);
        metadata.authoritative = true;
        metadata.recursion_available = true;
        let mut records = Vec::new();
        if let Some(question) = request.queries.queries().first() {
            let name = question.original().name().clone();
            let (code, data) = self.records.lookup(self.zone, &name.to_ascii(), question.query_type());
            metadata.response_code = code;
            records = data.into_iter().map(|data| Record::from_rdata(name.clone(), 0, data)).collect();
        } else {
            metadata.response_code = ResponseCode::FormErr;
        }
        let response = MessageResponseBuilder::from_message_request(request).build(metadata, &records, [], [], []);
        // Who asked has gone: nobody is left to tell.
        let sent = responder.send_response(response).await;
        sent.unwrap_or_else(|_| Header { metadata, counts: HeaderCounts::default() }.into())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_holds_every_value_added_until_it_is_removed() {
        let records = Records::default();
        assert!(records.obey("add _acme-challenge.WWW.e2e.test. one"));
        assert!(records.obey("add _acme-challenge.www.e2e.test two words"));
        assert_eq!(records.txt("_acme-challenge.www.e2e.test."), ["one", "two words"]);
        assert!(records.obey("remove _acme-challenge.www.e2e.test one"));
        assert_eq!(records.txt("_acme-challenge.www.e2e.test"), ["two words"]);
    }

    #[test]
    fn a_value_that_is_set_is_the_only_one() {
        let records = Records::default();
        records.set("_acme-challenge.WWW.e2e.test", "one".to_owned());
        records.set("_acme-challenge.www.e2e.test.", "two".to_owned());
        assert_eq!(records.txt("_acme-challenge.www.e2e.test"), ["two"]);
    }

    #[test]
    fn other_orders_are_refused() {
        for order in ["", "add", "add name", "drop name value"] {
            assert!(!Records::default().obey(order), "{order}");
        }
    }

    #[test]
    fn names_under_the_zone_are_loopback_and_others_do_not_exist() {
        let records = Records::default();
        let loopback = vec![RData::A(A(Ipv4Addr::LOCALHOST))];
        assert_eq!(records.lookup(ZONE, "www.E2E.test.", RecordType::A), (ResponseCode::NoError, loopback));
        assert_eq!(records.lookup(ZONE, "nottest.", RecordType::A), (ResponseCode::NXDomain, vec![]));
        assert_eq!(records.lookup(INNER_ZONE, "www.e2e.test.", RecordType::A), (ResponseCode::NXDomain, vec![]));
        assert_eq!(records.lookup(INNER_ZONE, "www.corp.test.", RecordType::A).0, ResponseCode::NoError);
        let spelt = vec![RData::A(A(Ipv4Addr::new(127, 0, 0, 9)))];
        assert_eq!(records.lookup(ZONE, "at-127-0-0-9.e2e.test.", RecordType::A), (ResponseCode::NoError, spelt));
        assert_eq!(records.lookup(ZONE, "www.e2e.test.", RecordType::AAAA), (ResponseCode::NoError, vec![]));
        assert_eq!(records.lookup(ZONE, "www.corp.test.", RecordType::A), (ResponseCode::NXDomain, vec![]));
    }
}
