//! Who is asked about which name, and who is asked last after a silence.

use std::io::ErrorKind;
use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use akamu_challenge::{DnsClient, Dnssec, Forwarder, LookupError, Resolver as _};
use akamu_proto::DnsName;
use hickory_server::proto::op::ResponseCode;
use hickory_server::proto::rr::RecordType;

use super::client::{alias, deadline, found, steps, texts, with_frozen_clock};
use super::server::{Answer, TestServer, address, record, txt};

fn forwarder(zone: &str, servers: &[&TestServer]) -> Forwarder {
    Forwarder::new(zone.parse().unwrap(), servers.iter().map(|it| it.address), Dnssec::Off)
}

#[test]
fn the_longest_zone_decides_label_by_label_and_in_any_case() {
    with_frozen_clock(async {
        let [default, corp, lab] = [TestServer::with_txt(&[]), TestServer::with_txt(&[]), TestServer::with_txt(&[])];
        let (default, corp, lab) = tokio::join!(default, corp, lab);
        let client = DnsClient::new([default.address])
            .with_forwarders([forwarder("corp.example", &[&corp]), forwarder("Lab.corp.example.", &[&lab])]);
        for name in [
            "corp.example",
            "a.corp.example",
            "A.CORP.Example",
            "lab.corp.example",
            "a.b.lab.CORP.example",
            "xlab.corp.example",
            "xcorp.example",
            "example",
            "corp.example.org",
        ] {
            assert_eq!(client.txt(name, deadline()).await.outcome, Err(LookupError::NxDomain));
        }
        assert_eq!(default.asked(), ["xcorp.example TXT", "example TXT", "corp.example.org TXT"]);
        assert_eq!(
            corp.asked(),
            ["corp.example TXT", "a.corp.example TXT", "A.CORP.Example TXT", "xlab.corp.example TXT"]
        );
        assert_eq!(lab.asked(), ["lab.corp.example TXT", "a.b.lab.CORP.example TXT"]);
    });
}

#[test]
fn a_forwarder_of_the_root_leaves_nothing_to_the_others() {
    with_frozen_clock(async {
        let all = TestServer::with_txt(&[found("a.example", "right")]).await;
        let client = DnsClient::new([]).with_forwarders([forwarder(".", &[&all])]);
        assert_eq!(texts(&client.txt("a.example", deadline()).await), ["right"]);
    });
}

#[test]
fn each_link_of_a_chain_is_asked_of_its_own_zones_servers() {
    with_frozen_clock(async {
        let outside = TestServer::with_txt(&[
            alias("_acme-challenge.www.example.org", "www.validation.corp.example"),
            found("end.example.net", "right"),
        ])
        .await;
        let inside = TestServer::with_txt(&[alias("www.validation.corp.example", "end.example.net")]).await;
        let client = DnsClient::new([outside.address]).with_forwarders([forwarder("corp.example", &[&inside])]);
        let lookup = client.txt("_acme-challenge.www.example.org", deadline()).await;
        assert_eq!(texts(&lookup), ["right"]);
        assert_eq!(outside.asked(), ["_acme-challenge.www.example.org TXT", "end.example.net TXT"]);
        assert_eq!(inside.asked(), ["www.validation.corp.example TXT"]);
    });
}

#[test]
fn addresses_are_asked_of_a_forwarder_too() {
    with_frozen_clock(async {
        let default = TestServer::with_txt(&[]).await;
        let v4 = Answer::records(vec![record("www.corp.example", address("10.0.0.1"))]);
        let inside = TestServer::start([("www.corp.example", RecordType::A, v4)]).await;
        let client = DnsClient::new([default.address]).with_forwarders([forwarder("corp.example", &[&inside])]);
        let lookup = client.addresses(&DnsName::parse("www.corp.example").unwrap(), deadline()).await;
        assert_eq!(lookup.outcome, Ok(vec!["10.0.0.1".parse().unwrap()]));
        assert!(default.asked().is_empty());
    });
}

#[test]
fn a_forwarders_servers_stand_in_for_each_other_and_nobody_else_does() {
    with_frozen_clock(async {
        let default = TestServer::with_txt(&[found("a.corp.example", "from outside")]).await;
        let failing = TestServer::with_txt(&[
            ("a.corp.example", Answer::code(ResponseCode::ServFail)),
            ("b.corp.example", Answer::code(ResponseCode::ServFail)),
        ])
        .await;
        let refusing = Answer::code(ResponseCode::Refused);
        let working = TestServer::with_txt(&[found("a.corp.example", "right"), ("b.corp.example", refusing)]).await;
        let client =
            DnsClient::new([default.address]).with_forwarders([forwarder("corp.example", &[&failing, &working])]);
        assert_eq!(texts(&client.txt("a.corp.example", deadline()).await), ["right"]);
        // A failure is a failure: not absence, and no reason to ask elsewhere.
        assert_eq!(client.txt("b.corp.example", deadline()).await.outcome, Err(LookupError::ServFail));
        assert!(default.asked().is_empty());
    });
}

/// Each server that was asked, in order.
fn asked<T>(lookup: &akamu_challenge::Lookup<T>) -> Vec<SocketAddr> {
    let server = |step: &akamu_challenge::Event| match step {
        akamu_challenge::Event::Lookup { server, .. } => server.split_once(' ').unwrap().0.parse().ok(),
        _ => None,
    };
    lookup.steps.iter().filter_map(server).collect()
}

#[test]
fn a_server_that_timed_out_is_asked_last_for_half_a_minute() {
    with_frozen_clock(async {
        let silent = TestServer::with_txt(&[
            ("a.example", Answer::silence()),
            ("b.example", Answer::silence()),
            found("c.example", "awake"),
        ])
        .await;
        let working = TestServer::with_txt(&[
            alias("a.example", "b.example"),
            found("b.example", "right"),
            found("c.example", "second"),
        ])
        .await;
        let client = DnsClient::new([silent.address, working.address]);
        let time = async {
            silent.has_ignored_a_question().await;
            tokio::time::advance(Duration::from_secs(5)).await;
        };
        let (lookup, ()) = tokio::join!(client.txt("a.example", deadline()), time);
        assert_eq!(texts(&lookup), ["right"]);
        // Its share was used up once, not once for each link.
        assert_eq!(asked(&lookup), [silent.address, working.address, working.address]);

        // The client's next lookups, and its clones', do not begin there either.
        let lookup = client.clone().txt("b.example", deadline()).await;
        assert_eq!(asked(&lookup), [working.address]);
        // Who is asked last is still asked.
        let denied = DnsClient::new([silent.address, working.address]);
        assert_eq!(texts(&denied.txt("c.example", deadline()).await), ["awake"]);

        tokio::time::advance(Duration::from_secs(30)).await;
        assert_eq!(texts(&client.txt("c.example", deadline()).await), ["awake"]);
    });
}

#[test]
fn where_all_servers_rest_all_are_asked() {
    with_frozen_clock(async {
        let silent = TestServer::with_txt(&[("a.example", Answer::silence()), found("b.example", "awake")]).await;
        let client = DnsClient::new([silent.address]);
        let time = async {
            silent.has_ignored_a_question().await;
            tokio::time::advance(Duration::from_secs(10)).await;
        };
        let (lookup, ()) = tokio::join!(client.txt("a.example", deadline()), time);
        assert_eq!(lookup.outcome, Err(LookupError::Timeout));
        let lookup = client.txt("b.example", deadline()).await;
        assert_eq!(texts(&lookup), ["awake"]);
        assert_eq!(steps(&lookup), ["b.example TXT UDP NOERROR"]);
    });
}

#[test]
fn every_server_is_asked_from_the_source_address_over_udp_and_tcp() {
    with_frozen_clock(async {
        let long = "x".repeat(200);
        let records = (0..100).map(|_| record("a.example", txt(&[long.as_bytes()]))).collect();
        let default = TestServer::with_txt(&[("a.example", Answer::records(records))]).await;
        let inside = TestServer::with_txt(&[found("a.corp.example", "right")]).await;
        let from_there = |it: DnsClient| it.with_sources(["::1".parse().unwrap(), "127.0.0.9".parse().unwrap()]);
        let zones = || [forwarder("corp.example", &[&inside])];
        let plain = DnsClient::new([default.address]);
        // In whatever order the client is made.
        for client in [
            from_there(plain.clone().with_forwarders(zones())).with_dnssec(Dnssec::Off),
            from_there(plain.clone()).with_forwarders(zones()),
        ] {
            assert_eq!(texts(&client.txt("a.example", deadline()).await).len(), 100);
            assert_eq!(texts(&client.txt("a.corp.example", deadline()).await), ["right"]);
        }
        assert_eq!(default.asked_by(), ["127.0.0.9".parse::<IpAddr>().unwrap(); 4]);
        assert_eq!(inside.asked_by(), ["127.0.0.9".parse::<IpAddr>().unwrap(); 2]);
        let of_another_family = plain.with_sources(["::1".parse().unwrap()]);
        let outcome = of_another_family.txt("a.example", deadline()).await.outcome;
        assert_eq!(outcome, Err(LookupError::Unreachable(ErrorKind::AddrNotAvailable)));
    });
}
