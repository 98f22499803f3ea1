//! How a name becomes a connection: which addresses, in which order, for how long, and what is told where none works.

use std::io::ErrorKind;
use std::net::SocketAddr;
use std::time::Duration;

use akamu_challenge::{
    AddressPolicy, Deadline, Event, Http01, LookupError, ValidationReport, ValidationRequest, Validator as _,
};
use akamu_proto::{ErrorType, Identifier};
use futures_util::future::join_all;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::time::Instant;

use crate::formats::setting::{Setting, run};

fn request(identifier: Identifier) -> ValidationRequest {
    ValidationRequest::with_key_authorization(identifier, "token.thumbprint".parse().unwrap())
}

fn example_com() -> ValidationRequest {
    request(Identifier::dns("example.com").unwrap())
}

async fn validate(setting: &Setting, request: ValidationRequest) -> ValidationReport {
    Http01::new(setting.probe.clone(), 80).validate(&request, Deadline::after(Duration::from_secs(10))).await
}

fn at(address: &str) -> SocketAddr {
    SocketAddr::new(address.parse().unwrap(), 80)
}

/// A server at `address` whose answer is `body`.
fn serve(setting: &Setting, address: &str, body: &'static str) {
    setting.network.serve(at(address), move |mut peer| async move {
        let _ = peer.read(&mut [0; 1024]).await;
        let _ =
            peer.write_all(format!("HTTP/1.1 200 OK\r\nContent-Length: {}\r\n\r\n{body}", body.len()).as_bytes()).await;
    });
}

fn error(report: &ValidationReport) -> (ErrorType, &str) {
    let error = report.result().unwrap_err();
    (error.error_type, &error.detail)
}

#[test]
fn ipv6_is_dialled_first_and_the_first_connection_decides() {
    run(async {
        let setting = Setting::of_example_com(&["10.0.0.1", "fd00::1"]);
        serve(&setting, "fd00::1", "wrong");
        serve(&setting, "10.0.0.1", "token.thumbprint");
        let report = validate(&setting, example_com()).await;
        assert_eq!(error(&report).0, ErrorType::IncorrectResponse);
        assert_eq!(setting.network.dialled(), [at("fd00::1")]);
    });
}

#[test]
fn an_address_that_refuses_is_followed_by_the_next() {
    run(async {
        let setting = Setting::of_example_com(&["10.0.0.1", "fd00::1"]);
        serve(&setting, "10.0.0.1", "token.thumbprint");
        let report = validate(&setting, example_com()).await;
        assert!(report.is_valid(), "{report}");
        assert_eq!(setting.network.dialled(), [at("fd00::1"), at("10.0.0.1")]);
    });
}

#[test]
fn an_address_that_stands_twice_is_dialled_once() {
    run(async {
        let setting = Setting::of_example_com(&["10.0.0.1", "10.0.0.1"]);
        validate(&setting, example_com()).await;
        assert_eq!(setting.network.dialled(), [at("10.0.0.1")]);
    });
}

#[test]
fn an_address_that_hangs_has_its_share_of_the_time() {
    run(async {
        let setting = Setting::of_example_com(&["fd00::1", "fd00::2", "10.0.0.1", "10.0.0.2"]);
        for address in ["fd00::1", "fd00::2", "10.0.0.1"] {
            setting.network.hang(at(address));
        }
        serve(&setting, "10.0.0.2", "token.thumbprint");
        let start = Instant::now();
        let report = validate(&setting, example_com()).await;
        assert!(report.is_valid(), "{report}");
        assert_eq!(start.elapsed().as_millis(), 7_500);
        let durations = report.transcript.iter().filter_map(|it| match &it.event {
            Event::Dialled { duration_ms, .. } => Some(*duration_ms),
            _ => None,
        });
        assert_eq!(durations.collect::<Vec<_>>(), [2_500, 2_500, 2_500, 0]);
    });
}

#[test]
fn a_failure_names_address_port_and_cause() {
    let told = |addresses: &[&str], kind: Option<ErrorKind>| {
        run(async {
            let setting = Setting::of_example_com(addresses);
            for address in addresses {
                match kind {
                    Some(kind) => setting.network.fail(at(address), kind),
                    None => setting.network.hang(at(address)),
                }
            }
            let report = validate(&setting, example_com()).await;
            let (error_type, detail) = error(&report);
            assert_eq!(error_type, ErrorType::Connection);
            detail.to_owned()
        })
    };
    let one = |cause: &str| format!("TCP connect to example.com:80 (10.0.0.80): {cause}");
    assert_eq!(told(&["10.0.0.80"], Some(ErrorKind::ConnectionRefused)), one("connection refused"));
    assert_eq!(told(&["10.0.0.80"], Some(ErrorKind::HostUnreachable)), one("host unreachable"));
    assert_eq!(told(&["10.0.0.80"], Some(ErrorKind::NetworkUnreachable)), one("network unreachable"));
    assert_eq!(told(&["10.0.0.80"], None), one("timed out"));
    assert_eq!(
        told(&["10.0.0.1", "fd00::1"], Some(ErrorKind::ConnectionRefused)),
        "TCP connect to example.com:80 failed at each address: fd00::1: connection refused; 10.0.0.1: connection refused"
    );
}

#[test]
fn an_address_as_identifier_is_named_once() {
    run(async {
        let setting = Setting::with_policy(AddressPolicy::default());
        let report = validate(&setting, request(Identifier::ip("fd00::1").unwrap())).await;
        assert_eq!(error(&report), (ErrorType::Connection, "TCP connect to [fd00::1]:80: connection refused"));
        let report = validate(&setting, request(Identifier::ip("::1").unwrap())).await;
        assert_eq!(error(&report), (ErrorType::Connection, "::1 may not be dialled: loopback"));
        assert_eq!(setting.network.dialled(), [at("fd00::1")]);
    });
}

#[test]
fn what_may_not_be_dialled_is_left_out_and_told() {
    run(async {
        let setting = Setting::of_example_com(&["127.0.0.1", "10.0.0.1", "::ffff:10.0.0.2", "10.0.0.1"]);
        serve(&setting, "10.0.0.1", "token.thumbprint");
        let report = validate(&setting, example_com()).await;
        assert!(report.is_valid(), "{report}");
        assert_eq!(setting.network.dialled(), [at("10.0.0.1")]);
        assert!(report.to_string().contains("127.0.0.1 may not be dialled: loopback"), "{report}");
        assert!(report.to_string().contains("::ffff:10.0.0.2 may not be dialled: IPv4-mapped"), "{report}");
    });
}

#[test]
fn nothing_that_may_be_dialled_is_a_connection_error_that_names_the_rules() {
    run(async {
        let setting = Setting::of_example_com(&["127.0.0.1", "169.254.169.254"]);
        let report = validate(&setting, example_com()).await;
        let expected = "example.com leads nowhere that may be dialled: 127.0.0.1 is loopback; \
                        169.254.169.254 is link-local (cloud metadata services)";
        assert_eq!(error(&report), (ErrorType::Connection, expected));
        assert!(setting.network.dialled().is_empty());
    });
}

#[test]
fn a_name_with_a_thousand_addresses_makes_us_dial_sixteen_of_both_families() {
    run(async {
        let setting = Setting::with_policy(AddressPolicy::default());
        let v4 = (0..1_000_u32).map(|it| std::net::Ipv4Addr::from(0x0a00_0000 + it).into());
        let v6 = (0..1_000_u128).map(|it| std::net::Ipv6Addr::from((0xfd << 120) + it + 1).into());
        setting.names.set_addresses("example.com", Ok(v4.chain(v6).collect()));
        let report = validate(&setting, example_com()).await;
        let dialled = setting.network.dialled();
        assert_eq!(dialled.len(), 16);
        assert_eq!(dialled.iter().filter(|it| it.is_ipv4()).count(), 8);
        assert!(report.to_octets().len() < akamu_challenge::MAX_REPORT_OCTETS);
    });
}

#[test]
fn a_lookup_that_fails_is_a_dns_error_that_says_how() {
    let told = |outcome| {
        run(async {
            let setting = Setting::with_policy(AddressPolicy::default());
            setting.names.set_addresses("example.com", Err(outcome));
            let report = validate(&setting, example_com()).await;
            let (error_type, detail) = error(&report);
            assert_eq!(error_type, ErrorType::Dns);
            (detail.to_owned(), report.duration_ms)
        })
    };
    let (detail, took) = told(LookupError::NxDomain);
    assert!(detail.starts_with("no address of example.com was found (A, AAAA): "), "{detail}");
    assert_eq!(took, 0);
    assert_eq!(told(LookupError::Timeout).1, 10_000);
}

#[test]
fn an_address_for_which_no_time_is_left_is_not_dialled() {
    run(async {
        let setting = Setting::of_example_com(&["10.0.0.80"]);
        let validator = Http01::new(setting.probe, 80);
        let report = validator.validate(&example_com(), Deadline::after(Duration::ZERO)).await;
        assert!(error(&report).1.ends_with("(10.0.0.80): not tried: no time was left"), "{report}");
        assert!(setting.network.dialled().is_empty());
    });
}

#[test]
fn an_address_gets_thirty_two_connections_at_once_and_waiting_ends_at_the_deadline() {
    run(async {
        let setting = Setting::of_example_com(&["10.0.0.80"]);
        setting.network.serve(at("10.0.0.80"), |peer| async move {
            std::future::pending::<()>().await;
            drop(peer);
        });
        let reports = join_all((0..40).map(|_| validate(&setting, example_com()))).await;
        assert_eq!(setting.network.dialled().len(), 32);
        let waited = reports.iter().filter(|it| {
            error(it).1.ends_with("too many connections to this address were open until the time was over")
        });
        assert_eq!(waited.count(), 8);
        assert!(reports.iter().all(|it| it.duration_ms == 10_000));
    });
}

#[test]
fn the_places_that_a_probe_looks_from_share_the_connections_to_an_address() {
    run(async {
        let setting = Setting::of_example_com(&["10.0.0.80"]);
        setting.network.serve(at("10.0.0.80"), |peer| async move {
            std::future::pending::<()>().await;
            drop(peer);
        });
        let here = Http01::new(setting.probe.clone(), 80);
        let there = Http01::new(setting.probe.elsewhere(setting.names.clone(), setting.network.clone()), 80);
        let request = example_com();
        let deadline = Deadline::after(Duration::from_secs(10));
        join_all((0..20).flat_map(|_| [&here, &there]).map(|it| it.validate(&request, deadline))).await;
        assert_eq!(setting.network.dialled().len(), 32);
    });
}

#[test]
fn a_permit_goes_to_the_next_when_an_exchange_is_over() {
    run(async {
        let setting = Setting::of_example_com(&["10.0.0.80"]);
        setting.network.serve(at("10.0.0.80"), |mut peer| async move {
            tokio::time::sleep(Duration::from_secs(1)).await;
            let _ = peer.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 16\r\n\r\ntoken.thumbprint").await;
        });
        let start = Instant::now();
        let reports = join_all((0..96).map(|_| validate(&setting, example_com()))).await;
        assert!(reports.iter().all(ValidationReport::is_valid));
        assert_eq!(start.elapsed().as_secs(), 3);
    });
}
