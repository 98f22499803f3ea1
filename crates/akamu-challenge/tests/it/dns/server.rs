//! A name server of scripted answers on loopback, over UDP and TCP at one port.

use std::collections::HashMap;
use std::net::{IpAddr, SocketAddr};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use async_trait::async_trait;
use hickory_server::Server;
use hickory_server::net::runtime::Time;
use hickory_server::proto::op::{Edns, Header, HeaderCounts, Metadata, ResponseCode};
use hickory_server::proto::rr::rdata::{A, AAAA, CNAME, NS, TXT};
use hickory_server::proto::rr::{Name, RData, Record, RecordType};
use hickory_server::server::{Request, RequestHandler, ResponseHandler, ResponseInfo};
use hickory_server::zone_handler::MessageResponseBuilder;
use tokio::net::{TcpListener, UdpSocket};
use tokio::sync::Notify;

/// What the server does about a question.
#[derive(Clone, Debug)]
pub(super) struct Answer {
    code: ResponseCode,
    pub(super) records: Vec<Record>,
    authorities: Vec<Record>,
    is_silent: bool,
}

/// A running server; it stops when dropped.
pub(super) struct TestServer {
    pub(super) address: SocketAddr,
    state: Arc<State>,
    _server: Server<Handler>,
}

struct State {
    answers: HashMap<(String, RecordType), Answer>,
    asked: Mutex<Vec<(String, IpAddr)>>,
    ignored: Notify,
}

struct Handler(Arc<State>);

/// An absolute name; the root is empty.
pub(super) fn name(text: &str) -> Name {
    if text.is_empty() {
        return Name::root();
    }
    Name::from_labels(text.split('.').map(str::as_bytes)).unwrap()
}

pub(super) fn record(owner: &str, data: RData) -> Record {
    Record::from_rdata(name(owner), 60, data)
}

pub(super) fn txt(strings: &[&[u8]]) -> RData {
    RData::TXT(TXT::from_bytes(strings.to_vec()))
}

pub(super) fn cname(target: &str) -> RData {
    RData::CNAME(CNAME(name(target)))
}

pub(super) fn name_server(host: &str) -> RData {
    RData::NS(NS(name(host)))
}

pub(super) fn address(text: &str) -> RData {
    text.parse().map(|it| RData::A(A(it))).unwrap_or_else(|_| RData::AAAA(AAAA(text.parse().unwrap())))
}

impl Answer {
    pub(super) fn records(records: Vec<Record>) -> Self {
        Self { records, ..Self::code(ResponseCode::NoError) }
    }

    pub(super) fn code(code: ResponseCode) -> Self {
        Self { code, records: Vec::new(), authorities: Vec::new(), is_silent: false }
    }

    pub(super) fn referral() -> Self {
        let authorities = vec![record("example.com", name_server("ns.example.com"))];
        Self { authorities, ..Self::code(ResponseCode::NoError) }
    }

    pub(super) fn silence() -> Self {
        Self { is_silent: true, ..Self::code(ResponseCode::NoError) }
    }

    pub(super) fn with_authorities(self, authorities: Vec<Record>) -> Self {
        Self { authorities, ..self }
    }

    pub(super) fn with_code(self, code: ResponseCode) -> Self {
        Self { code, ..self }
    }
}

impl TestServer {
    /// A server that answers these questions, and NXDOMAIN to all others.
    pub(super) async fn start(answers: impl IntoIterator<Item = (&str, RecordType, Answer)>) -> Self {
        let answers = answers.into_iter().map(|(name, kind, answer)| ((name.to_owned(), kind), answer)).collect();
        let state = Arc::new(State { answers, asked: Mutex::default(), ignored: Notify::new() });
        let (udp, tcp) = loop {
            let udp = UdpSocket::bind("127.0.0.1:0").await.unwrap();
            // The same port may be taken for TCP.
            if let Ok(tcp) = TcpListener::bind(udp.local_addr().unwrap()).await {
                break (udp, tcp);
            }
        };
        let address = udp.local_addr().unwrap();
        let mut server = Server::new(Handler(Arc::clone(&state)));
        server.register_socket(udp);
        server.register_listener(tcp, Duration::from_secs(60), 32);
        Self { address, state, _server: server }
    }

    /// A server with TXT answers only.
    pub(super) async fn with_txt(answers: &[(&str, Answer)]) -> Self {
        Self::start(answers.iter().map(|(name, answer)| (*name, RecordType::TXT, answer.clone()))).await
    }

    /// Each question, as `name type`.
    pub(super) fn asked(&self) -> Vec<String> {
        self.state.asked.lock().unwrap().iter().map(|(question, _)| question.clone()).collect()
    }

    /// Who sent each question.
    pub(super) fn asked_by(&self) -> Vec<IpAddr> {
        self.state.asked.lock().unwrap().iter().map(|(_, source)| *source).collect()
    }

    /// Returns once a question has been met with silence.
    pub(super) async fn has_ignored_a_question(&self) {
        self.state.ignored.notified().await;
    }
}

#[async_trait]
impl RequestHandler for Handler {
    async fn handle_request<R: ResponseHandler, T: Time>(&self, request: &Request, mut responder: R) -> ResponseInfo {
        let question = request.queries.queries()[0].original();
        let name = question.name().to_ascii().trim_end_matches('.').to_owned();
        let kind = question.query_type();
        self.0.asked.lock().unwrap().push((format!("{name} {kind}"), request.src().ip()));
        assert!(request.metadata.recursion_desired);

        let nxdomain = Answer::code(ResponseCode::NXDomain);
        let answer = self.0.answers.get(&(name, kind)).unwrap_or(&nxdomain);
        let mut metadata = Metadata::response_from_request(&request.metadata);
        if answer.is_silent {
            self.0.ignored.notify_one();
            return Header { metadata, counts: HeaderCounts::default() }.into();
        }
        metadata.response_code = answer.code;
        metadata.recursion_available = false;
        // Nobody may rest on that.
        metadata.authentic_data = true;
        let mut edns = Edns::new();
        edns.set_max_payload(request.max_payload());
        let mut builder = MessageResponseBuilder::from_message_request(request);
        builder.edns(&edns);
        let response = builder.build(metadata, &answer.records, &answer.authorities, [], []);
        responder.send_response(response).await.unwrap()
    }
}
