//! The DNS client against name servers on loopback.

use std::future::Future;
use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use akamu_challenge::testing::TestClock;
use akamu_challenge::{
    Deadline, Dns01, DnsClient, Event, Lookup, LookupError, Resolver as _, TxtRecord, ValidationRequest, Validator as _,
};
use akamu_proto::{DnsName, Identifier, Timestamp};
use hickory_server::proto::op::{Message, MessageType, Query, ResponseCode};
use hickory_server::proto::rr::{DNSClass, Name, RecordType};
use tokio::net::UdpSocket;

use super::server::{Answer, TestServer, address, cname, name_server, record, txt};

/// Runs `future` with real sockets and a clock that stands still unless it is advanced: while a blocking task is there,
/// tokio does not move it by itself. A test that waits for ever fails after a minute.
pub(super) fn with_frozen_clock<F: Future>(future: F) -> F::Output {
    const MINUTE: Duration = Duration::from_secs(60);
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().start_paused(true).build().unwrap();
    runtime.block_on(async {
        let (end, ended) = std::sync::mpsc::channel::<()>();
        let guard = tokio::task::spawn_blocking(move || ended.recv_timeout(MINUTE));
        let output = tokio::time::timeout(60 * MINUTE, future).await.expect("the test waits for ever");
        drop(end);
        let _ = guard.await;
        output
    })
}

pub(super) fn deadline() -> Deadline {
    Deadline::after(Duration::from_secs(10))
}

async fn look_up_txt(servers: &[&TestServer], name: &str) -> Lookup<TxtRecord> {
    DnsClient::new(servers.iter().map(|it| it.address)).txt(name, deadline()).await
}

async fn look_up_addresses(server: &TestServer, name: &str) -> Lookup<IpAddr> {
    DnsClient::new([server.address]).addresses(&DnsName::parse(name).unwrap(), deadline()).await
}

/// One TXT record at `name`.
pub(super) fn found(name: &'static str, text: &'static str) -> (&'static str, Answer) {
    (name, Answer::records(vec![record(name, txt(&[text.as_bytes()]))]))
}

pub(super) fn alias(name: &'static str, target: &str) -> (&'static str, Answer) {
    (name, Answer::records(vec![record(name, cname(target))]))
}

pub(super) fn texts(lookup: &Lookup<TxtRecord>) -> Vec<String> {
    let records = lookup.outcome.as_ref().unwrap_or_else(|error| panic!("{error}: {:?}", lookup.steps));
    records.iter().map(|it| String::from_utf8(it.joined()).unwrap()).collect()
}

/// Each step as `name type transport outcome`.
pub(super) fn steps<T>(lookup: &Lookup<T>) -> Vec<String> {
    let tell = |step: &Event| match step {
        Event::Lookup { server, name, record_type, outcome, .. } => {
            let transport = server.split_once(" (").unwrap().1.trim_end_matches(')');
            format!("{name} {record_type} {transport} {outcome}")
        }
        other => other.to_string(),
    };
    lookup.steps.iter().map(tell).collect()
}

#[test]
fn several_records_and_strings_come_as_they_are() {
    with_frozen_clock(async {
        let name = "_acme-challenge.example.com";
        let records = vec![record(name, txt(&[b"one ", b"record"])), record(name, txt(&[b"\xff\x00"]))];
        let server = TestServer::with_txt(&[(name, Answer::records(records))]).await;
        let lookup = look_up_txt(&[&server], name).await;
        assert_eq!(
            lookup.outcome,
            Ok(vec![TxtRecord::new([&b"one "[..], b"record"]), TxtRecord::new([&b"\xff\x00"[..]])])
        );
        let Event::Lookup { server: asked, answers, .. } = &lookup.steps[0] else { panic!("{:?}", lookup.steps) };
        assert_eq!(*asked, format!("{} (UDP)", server.address));
        assert_eq!(answers.iter().map(|it| it.as_str()).collect::<Vec<_>>(), ["one record", r"\xff\x00"]);
        assert_eq!(steps(&lookup), ["_acme-challenge.example.com TXT UDP NOERROR"]);
    });
}

#[test]
fn each_response_code_is_told_for_what_it_is() {
    with_frozen_clock(async {
        let server = TestServer::with_txt(&[
            ("nodata.example", Answer::code(ResponseCode::NoError)),
            ("denied.example", found("denied.example", "contradiction").1.with_code(ResponseCode::NXDomain)),
            ("servfail.example", Answer::code(ResponseCode::ServFail)),
            ("refused.example", Answer::code(ResponseCode::Refused)),
            ("notimp.example", Answer::code(ResponseCode::NotImp)),
            ("referral.example", Answer::referral()),
        ])
        .await;
        for (name, error) in [
            ("nxdomain.example", LookupError::NxDomain),
            ("denied.example", LookupError::NxDomain),
            ("nodata.example", LookupError::NoData),
            ("servfail.example", LookupError::ServFail),
            ("refused.example", LookupError::Refused),
            ("notimp.example", LookupError::ResponseCode(4)),
            ("referral.example", LookupError::Referral),
        ] {
            let lookup = look_up_txt(&[&server], name).await;
            assert_eq!(lookup.outcome, Err(error), "{name}");
        }
    });
}

#[test]
fn an_alias_is_followed_one_question_at_a_time() {
    with_frozen_clock(async {
        // What the first answer says about the alias's target is not believed.
        let forged = vec![record("a.example", cname("b.example")), record("b.example", txt(&[b"forged"]))];
        let server = TestServer::with_txt(&[
            ("a.example", Answer::records(forged)),
            alias("b.example", "C.example"),
            found("C.example", "right"),
        ])
        .await;
        let lookup = look_up_txt(&[&server], "a.example").await;
        assert_eq!(texts(&lookup), ["right"]);
        assert_eq!(server.asked(), ["a.example TXT", "b.example TXT", "C.example TXT"]);
        let Event::Lookup { answers, .. } = &lookup.steps[0] else { panic!("{:?}", lookup.steps) };
        assert_eq!(answers.iter().map(|it| it.as_str()).collect::<Vec<_>>(), ["CNAME b.example"]);
    });
}

#[test]
fn an_alias_of_nothing_is_nxdomain_of_its_target() {
    with_frozen_clock(async {
        // The response code is about the last name of the chain (RFC 6604).
        let dangling = alias("a.example", "gone.example").1.with_code(ResponseCode::NXDomain);
        let moved = alias("b.example", "here.example").1.with_code(ResponseCode::NXDomain);
        let server =
            TestServer::with_txt(&[("a.example", dangling), ("b.example", moved), found("here.example", "right")])
                .await;
        let lookup = look_up_txt(&[&server], "a.example").await;
        assert_eq!(lookup.outcome, Err(LookupError::NxDomain));
        assert_eq!(steps(&lookup), ["a.example TXT UDP NXDOMAIN", "gone.example TXT UDP NXDOMAIN"]);
        assert_eq!(texts(&look_up_txt(&[&server], "b.example").await), ["right"]);
    });
}

#[test]
fn chains_of_ten_links_are_followed_and_no_longer_ones() {
    with_frozen_clock(async {
        let names: Vec<String> = (0..=11).map(|it| format!("n{it}.example")).collect();
        let mut answers: Vec<_> = names
            .windows(2)
            .map(|pair| (pair[0].as_str(), RecordType::TXT, Answer::records(vec![record(&pair[0], cname(&pair[1]))])))
            .collect();
        answers.push(("n11.example", RecordType::TXT, found("n11.example", "end").1));
        let server = TestServer::start(answers).await;
        assert_eq!(texts(&look_up_txt(&[&server], "n1.example").await), ["end"]);
        let lookup = look_up_txt(&[&server], "n0.example").await;
        assert_eq!(lookup.outcome, Err(LookupError::TooManyCnames));
        assert_eq!(lookup.steps.len(), 11);
    });
}

#[test]
fn loops_of_aliases_are_noticed() {
    with_frozen_clock(async {
        let server = TestServer::with_txt(&[
            alias("self.example", "SELF.example"),
            alias("a.example", "b.example"),
            alias("b.example", "c.example"),
            alias("c.example", "b.example"),
        ])
        .await;
        for (name, asked) in [("self.example", 1), ("a.example", 3)] {
            let lookup = look_up_txt(&[&server], name).await;
            assert_eq!(lookup.outcome, Err(LookupError::CnameLoop));
            assert_eq!(lookup.steps.len(), asked);
        }
    });
}

#[test]
fn a_truncated_answer_is_asked_for_again_over_tcp() {
    with_frozen_clock(async {
        let long = "x".repeat(200);
        let records: Vec<_> = (0..100).map(|_| record("a.example", txt(&[long.as_bytes()]))).collect();
        let server = TestServer::with_txt(&[("a.example", Answer::records(records))]).await;
        let lookup = look_up_txt(&[&server], "a.example").await;
        assert_eq!(texts(&lookup).len(), 100);
        assert_eq!(steps(&lookup), ["a.example TXT UDP truncated", "a.example TXT TCP NOERROR"]);
        let Event::Lookup { answers, .. } = &lookup.steps[1] else { panic!("{:?}", lookup.steps) };
        assert_eq!(answers.last().unwrap().as_str(), "and 84 more");
    });
}

#[test]
fn a_server_that_fails_is_followed_by_the_next() {
    with_frozen_clock(async {
        let failing = TestServer::with_txt(&[
            ("a.example", Answer::code(ResponseCode::ServFail)),
            ("b.example", Answer::code(ResponseCode::Refused)),
        ])
        .await;
        let working = TestServer::with_txt(&[
            alias("a.example", "b.example"),
            found("b.example", "right"),
            found("c.example", "right"),
        ])
        .await;
        let lookup = look_up_txt(&[&failing, &working], "a.example").await;
        assert_eq!(texts(&lookup), ["right"]);
        assert_eq!(lookup.steps.len(), 4);
        // An answer is an answer, and a denial too.
        assert_eq!(look_up_txt(&[&failing, &working], "c.example").await.outcome, Err(LookupError::NxDomain));
    });
}

#[test]
fn a_closed_port_is_known_at_once() {
    with_frozen_clock(async {
        let closed = UdpSocket::bind("127.0.0.1:0").await.unwrap().local_addr().unwrap();
        let working = TestServer::with_txt(&[found("a.example", "right")]).await;
        let lookup = DnsClient::new([closed, working.address]).txt("a.example", deadline()).await;
        assert_eq!(texts(&lookup), ["right"]);
        let lookup = DnsClient::new([closed]).txt("a.example", deadline()).await;
        let refused = LookupError::Unreachable(std::io::ErrorKind::ConnectionRefused);
        assert_eq!(lookup.outcome, Err(refused));
    });
}

#[test]
fn a_silent_server_has_its_share_of_the_time() {
    with_frozen_clock(async {
        let silent = TestServer::with_txt(&[("a.example", Answer::silence())]).await;
        let working = TestServer::with_txt(&[found("a.example", "right")]).await;
        let time = async {
            silent.has_ignored_a_question().await;
            tokio::time::advance(Duration::from_secs(5)).await;
        };
        let servers = [&silent, &working];
        let (lookup, ()) = tokio::join!(look_up_txt(&servers, "a.example"), time);
        assert_eq!(texts(&lookup), ["right"]);
        assert_eq!(steps(&lookup), ["a.example TXT UDP timed out", "a.example TXT UDP NOERROR"]);
    });
}

#[test]
fn a_lost_datagram_is_sent_again() {
    with_frozen_clock(async {
        let socket = UdpSocket::bind("127.0.0.1:0").await.unwrap();
        let client = DnsClient::new([socket.local_addr().unwrap()]);
        let server = async {
            let (first, _) = receive(&socket).await;
            tokio::time::advance(Duration::from_secs(1)).await;
            let (second, peer) = receive(&socket).await;
            assert_eq!(first, second);
            answer(&socket, peer, &second, |_| {}).await;
        };
        let (lookup, ()) = tokio::join!(client.txt("a.example", deadline()), server);
        assert_eq!(texts(&lookup), ["answer"]);
    });
}

#[test]
fn silence_until_the_deadline_is_a_timeout() {
    with_frozen_clock(async {
        let server = TestServer::with_txt(&[("a.example", Answer::silence())]).await;
        let time = async {
            server.has_ignored_a_question().await;
            tokio::time::advance(Duration::from_secs(10)).await;
        };
        let servers = [&server];
        let (lookup, ()) = tokio::join!(look_up_txt(&servers, "a.example"), time);
        assert_eq!(lookup.outcome, Err(LookupError::Timeout));
        assert_eq!(steps(&lookup), ["a.example TXT UDP timed out"]);

        let past = Deadline::after(Duration::ZERO);
        let lookup = DnsClient::new([server.address]).txt("b.example", past).await;
        assert_eq!(lookup.outcome, Err(LookupError::Timeout));
        assert!(lookup.steps.is_empty());
    });
}

#[test]
fn silence_after_a_servers_error_does_not_hide_the_error() {
    with_frozen_clock(async {
        let failing = TestServer::with_txt(&[("a.example", Answer::code(ResponseCode::ServFail))]).await;
        let silent = TestServer::with_txt(&[("a.example", Answer::silence())]).await;
        let time = async {
            silent.has_ignored_a_question().await;
            tokio::time::advance(Duration::from_secs(10)).await;
        };
        let servers = [&failing, &silent];
        let (lookup, ()) = tokio::join!(look_up_txt(&servers, "a.example"), time);
        assert_eq!(lookup.outcome, Err(LookupError::ServFail));
    });
}

#[test]
fn addresses_of_both_families_are_asked_for() {
    with_frozen_clock(async {
        let v6 = Answer::records(vec![record("www.example", cname("host.example"))]);
        let v4 = Answer::records(vec![
            record("www.example", address("10.0.0.1")),
            record("www.example", address("10.0.0.2")),
        ]);
        let host = Answer::records(vec![record("host.example", address("fd00::1"))]);
        let server = TestServer::start([
            ("www.example", RecordType::AAAA, v6),
            ("www.example", RecordType::A, v4),
            ("host.example", RecordType::AAAA, host),
        ])
        .await;
        let lookup = look_up_addresses(&server, "www.example").await;
        let expected = ["fd00::1", "10.0.0.1", "10.0.0.2"].map(|it| it.parse::<IpAddr>().unwrap());
        assert_eq!(lookup.outcome, Ok(expected.to_vec()));
        assert_eq!(
            steps(&lookup),
            ["www.example AAAA UDP NOERROR", "host.example AAAA UDP NOERROR", "www.example A UDP NOERROR"]
        );
    });
}

#[test]
fn one_family_that_fails_does_not_spoil_the_other_and_is_noted() {
    with_frozen_clock(async {
        let v4 = Answer::records(vec![record("a.example", address("10.0.0.1"))]);
        let server = TestServer::start([
            ("a.example", RecordType::AAAA, Answer::code(ResponseCode::ServFail)),
            ("a.example", RecordType::A, v4.clone()),
            ("b.example", RecordType::AAAA, Answer::code(ResponseCode::NoError)),
            ("b.example", RecordType::A, Answer::records(vec![record("b.example", address("10.0.0.1"))])),
            ("c.example", RecordType::AAAA, Answer::code(ResponseCode::ServFail)),
            ("c.example", RecordType::A, Answer::code(ResponseCode::NoError)),
            ("e.example", RecordType::AAAA, Answer::code(ResponseCode::NoError)),
        ])
        .await;
        let lookup = look_up_addresses(&server, "a.example").await;
        assert_eq!(lookup.outcome.as_ref().unwrap().len(), 1);
        let noted = "one address family of a.example failed (SERVFAIL), the other did not";
        assert_eq!(steps(&lookup)[2..], [noted]);
        // No AAAA record is nothing to note.
        assert_eq!(look_up_addresses(&server, "b.example").await.steps.len(), 2);
        // That nothing is there is not known where a question failed.
        assert_eq!(look_up_addresses(&server, "c.example").await.outcome, Err(LookupError::ServFail));
        assert_eq!(look_up_addresses(&server, "d.example").await.outcome, Err(LookupError::NxDomain));
        assert_eq!(look_up_addresses(&server, "e.example").await.outcome, Err(LookupError::NxDomain));
    });
}

#[test]
fn a_family_that_is_never_answered_leaves_time_for_dialling() {
    with_frozen_clock(async {
        let server = TestServer::start([
            ("a.example", RecordType::AAAA, Answer::silence()),
            ("a.example", RecordType::A, Answer::records(vec![record("a.example", address("10.0.0.1"))])),
        ])
        .await;
        let client = DnsClient::new([server.address]);
        let name = DnsName::parse("a.example").unwrap();
        let deadline = deadline();
        let lookup = client.addresses(&name, deadline);
        let time = async {
            server.has_ignored_a_question().await;
            // The other question may be under way still: only once it is answered does the quarter begin.
            while server.asked().len() < 2 {
                tokio::task::yield_now().await;
            }
            loop {
                tokio::time::advance(Duration::from_millis(1)).await;
            }
        };
        let lookup = tokio::select! { lookup = lookup => lookup, () = time => unreachable!() };
        assert_eq!(lookup.outcome, Ok(vec!["10.0.0.1".parse().unwrap()]));
        // A question that was given up is in the report like any other.
        let noted = "one address family of a.example failed (timed out), the other did not";
        assert_eq!(steps(&lookup), ["a.example AAAA UDP timed out", "a.example A UDP NOERROR", noted]);
        assert!(!deadline.has_passed());
    });
}

/// A question as it came, and who asked.
pub(super) async fn receive(socket: &UdpSocket) -> (Vec<u8>, SocketAddr) {
    let mut buffer = vec![0; 1_500];
    let (length, peer) = socket.recv_from(&mut buffer).await.unwrap();
    buffer.truncate(length);
    (buffer, peer)
}

/// Answers a question with one TXT record, after `change` was made to the answer.
async fn answer(socket: &UdpSocket, peer: SocketAddr, question: &[u8], change: impl FnOnce(&mut Message)) {
    let mut message = Message::from_vec(question).unwrap();
    message.metadata.message_type = MessageType::Response;
    message.add_answer(record("a.example", txt(&[b"answer"])));
    change(&mut message);
    socket.send_to(&message.to_vec().unwrap(), peer).await.unwrap();
}

#[test]
fn answers_to_other_questions_are_passed_over() {
    with_frozen_clock(async {
        let socket = UdpSocket::bind("127.0.0.1:0").await.unwrap();
        let client = DnsClient::new([socket.local_addr().unwrap()]);
        let server = async {
            let (question, peer) = receive(&socket).await;
            let forged = || record("a.example", txt(&[b"forged"]));
            socket.send_to(b"", peer).await.unwrap();
            socket.send_to(&question, peer).await.unwrap();
            answer(&socket, peer, &question, |it| {
                it.metadata.id ^= 1;
                it.answers = vec![forged()];
            })
            .await;
            answer(&socket, peer, &question, |it| {
                it.queries = vec![Query::query(Name::from_ascii("b.example.").unwrap(), RecordType::TXT)];
                it.answers = vec![forged()];
            })
            .await;
            answer(&socket, peer, &question, |it| {
                it.queries.clear();
                it.answers = vec![forged()];
            })
            .await;
            answer(&socket, peer, &question, |_| {}).await;
        };
        let (lookup, ()) = tokio::join!(client.txt("a.example", deadline()), server);
        assert_eq!(texts(&lookup), ["answer"]);
    });
}

#[test]
fn a_server_that_does_not_know_edns_is_asked_without() {
    with_frozen_clock(async {
        let socket = UdpSocket::bind("127.0.0.1:0").await.unwrap();
        let client = DnsClient::new([socket.local_addr().unwrap()]);
        for (code, outcome) in [(ResponseCode::FormErr, "FORMERR"), (ResponseCode::NotImp, "NOTIMP")] {
            let server = async {
                let (question, peer) = receive(&socket).await;
                assert_eq!(Message::from_vec(&question).unwrap().edns.unwrap().max_payload(), 1232);
                // Such a server may not even repeat the question.
                answer(&socket, peer, &question, |it| {
                    it.queries.clear();
                    it.answers.clear();
                    it.metadata.response_code = code;
                })
                .await;
                let (question, peer) = receive(&socket).await;
                assert_eq!(Message::from_vec(&question).unwrap().edns, None);
                answer(&socket, peer, &question, |_| {}).await;
            };
            let (lookup, ()) = tokio::join!(client.txt("a.example", deadline()), server);
            assert_eq!(texts(&lookup), ["answer"]);
            let asked_again = [format!("a.example TXT UDP {outcome}"), "a.example TXT UDP NOERROR".to_owned()];
            assert_eq!(steps(&lookup), asked_again);
        }
    });
}

#[test]
fn name_servers_beside_no_answer_are_a_referral_only_where_nobody_looked() {
    with_frozen_clock(async {
        let socket = UdpSocket::bind("127.0.0.1:0").await.unwrap();
        let client = DnsClient::new([socket.local_addr().unwrap()]);
        for (is_authoritative, recurses, error) in [
            (false, false, LookupError::Referral),
            (true, false, LookupError::NoData),
            (false, true, LookupError::NoData),
        ] {
            let server = async {
                let (question, peer) = receive(&socket).await;
                answer(&socket, peer, &question, |it| {
                    it.answers.clear();
                    it.authorities = vec![record("example", name_server("ns.example"))];
                    it.metadata.authoritative = is_authoritative;
                    it.metadata.recursion_available = recurses;
                })
                .await;
            };
            let (lookup, ()) = tokio::join!(client.txt("a.example", deadline()), server);
            assert_eq!(lookup.outcome, Err(error), "authoritative {is_authoritative}, recurses {recurses}");
        }
    });
}

#[test]
fn records_of_another_class_are_none() {
    with_frozen_clock(async {
        let socket = UdpSocket::bind("127.0.0.1:0").await.unwrap();
        let client = DnsClient::new([socket.local_addr().unwrap()]);
        let server = async {
            let (question, peer) = receive(&socket).await;
            answer(&socket, peer, &question, |it| it.answers[0].dns_class = DNSClass::CH).await;
        };
        let (lookup, ()) = tokio::join!(client.txt("a.example", deadline()), server);
        assert_eq!(lookup.outcome, Err(LookupError::NoData));
    });
}

#[test]
fn a_truncated_answer_of_a_server_without_tcp_is_an_error() {
    with_frozen_clock(async {
        let socket = UdpSocket::bind("127.0.0.1:0").await.unwrap();
        let client = DnsClient::new([socket.local_addr().unwrap()]);
        let server = async {
            let (question, peer) = receive(&socket).await;
            answer(&socket, peer, &question, |it| it.metadata.truncation = true).await;
        };
        let (lookup, ()) = tokio::join!(client.txt("a.example", deadline()), server);
        assert_eq!(lookup.outcome, Err(LookupError::Unreachable(std::io::ErrorKind::ConnectionRefused)));
        assert_eq!(lookup.steps.len(), 2);
    });
}

#[test]
fn what_is_no_dns_message_is_malformed() {
    with_frozen_clock(async {
        let socket = UdpSocket::bind("127.0.0.1:0").await.unwrap();
        let client = DnsClient::new([socket.local_addr().unwrap()]);
        // Cut at every length that still shows whose answer it is.
        for length in 3..70 {
            let server = async {
                let (question, peer) = receive(&socket).await;
                let mut message = Message::from_vec(&question).unwrap();
                message.metadata.message_type = MessageType::Response;
                message.add_answer(record("a.example", txt(&[&[b'x'; 100]])));
                let octets = message.to_vec().unwrap();
                socket.send_to(&octets[..length], peer).await.unwrap();
            };
            let (lookup, ()) = tokio::join!(client.txt("a.example", deadline()), server);
            assert_eq!(lookup.outcome, Err(LookupError::Malformed), "{length}");
        }
    });
}

#[test]
fn without_a_server_or_a_name_nobody_is_asked() {
    with_frozen_clock(async {
        let lookup = DnsClient::new([]).txt("a.example", deadline()).await;
        assert_eq!(lookup.outcome, Err(LookupError::NoServer));
        let server = TestServer::with_txt(&[]).await;
        for name in ["", "a..example", &format!("{}.example", "a".repeat(64)), &"a.".repeat(200)] {
            assert_eq!(look_up_txt(&[&server], name).await.outcome, Err(LookupError::BadName), "{name}");
        }
        assert!(server.asked().is_empty());
    });
}

#[test]
fn the_systems_servers_are_those_of_resolv_conf() {
    let named = |text: String| text.lines().any(|it| it.trim_start().starts_with("nameserver"));
    let is_configured = std::fs::read_to_string("/etc/resolv.conf").is_ok_and(named);
    match DnsClient::system() {
        Ok(client) => assert!(!client.servers().is_empty()),
        Err(error) => assert!(!is_configured, "{error}"),
    }
}

#[test]
fn dns_01_is_proved_through_a_chain_in_the_real_dns() {
    with_frozen_clock(async {
        let server = TestServer::with_txt(&[
            alias("_acme-challenge.example.com", "example.com.validation.example"),
            found("example.com.validation.example", "-kRIwHlSCOY8upN1sdtn2FkmeaWdvSFXsysMW__Ob1Y"),
        ])
        .await;
        let clock = TestClock::at(Timestamp::from_unix_secs(0));
        let validator = Dns01::new(DnsClient::new([server.address]), clock);
        let identifier = Identifier::dns("*.example.com").unwrap();
        let request = ValidationRequest::with_key_authorization(identifier, "mytoken.mythumbprint".parse().unwrap());
        let report = validator.validate(&request, deadline()).await;
        assert!(report.is_valid(), "{report}");
        assert_eq!(report.transcript.len(), 3);
    });
}
