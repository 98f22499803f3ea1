//! vectors/tls_alpn_01.json against real handshakes, and servers that break them off.

use std::path::Path;
use std::time::Duration;

use akamu_challenge::{Event, ValidationReport};
use akamu_proto::ErrorType;
use serde_json::Value;

use crate::case_file;
use crate::formats::setting::Attempt;
use crate::formats::tls_alpn_01::{Alpn, Behaviour, Case, Plays, Version};

#[test]
fn every_vector_ends_as_it_says() {
    case_file::assert_holds::<Case>("tls_alpn_01", 51);
}

/// Runs the case with this id, at another server where one is given.
fn validate(id: &str, server: Option<Plays>) -> Attempt {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../vectors/tls_alpn_01.json");
    let file: Value = serde_json::from_str(&std::fs::read_to_string(path).unwrap()).unwrap();
    let mut case = file["cases"].as_array().unwrap().iter().find(|it| it["id"] == id).unwrap().clone();
    case.as_object_mut().unwrap().retain(|member, _| member != "id" && member != "why");
    let mut case: Case = serde_json::from_value(case).unwrap();
    if server.is_some() {
        case.server = server;
    }
    case.validate().0
}

/// How a case ends whose server does something else.
fn ends(id: &str, server: Plays) -> (ErrorType, String, ValidationReport, Duration) {
    let Attempt { report, took, .. } = validate(id, Some(server));
    let error = report.result().unwrap_err().clone();
    let detail = error.detail.strip_prefix("example.com:443 (10.0.0.43:443): ").unwrap().to_owned();
    (error.error_type, detail, report, took)
}

#[test]
fn a_handshake_that_breaks_off_is_told_with_its_cause() {
    let failed = "the TLS handshake failed: ";
    for (behaviour, words) in [
        (Behaviour::Close, "connection closed"),
        (Behaviour::Reset, "connection reset"),
        (Behaviour::Alert, "received fatal alert: HandshakeFailure"),
        (Behaviour::Plaintext, r#"the answer is no TLS: "HTTP/1.1 400 Bad Request\r\nConnection: close\r\n\r\n""#),
    ] {
        let (error_type, detail, report, took) = ends("good-p256", Plays::Breaks(behaviour));
        assert_eq!(
            (error_type, detail, took),
            (ErrorType::Tls, format!("{failed}{words}"), Duration::ZERO),
            "{report}"
        );
    }
}

#[test]
fn an_address_as_identifier_is_named_once() {
    let Attempt { report, .. } = validate("good-ipv6", Some(Plays::Breaks(Behaviour::Close)));
    let detail = &report.result().unwrap_err().detail;
    assert_eq!(detail, "[fd12:3456:789a::1]:443: the TLS handshake failed: connection closed");
}

#[test]
fn a_version_that_is_too_old_is_told_as_that() {
    for version in [Version::Tls10, Version::Tls11] {
        let (error_type, detail, report, took) = ends("good-p256", shakes_hands(version, "acme-tls/1"));
        let words = "the TLS handshake failed: the server speaks neither TLS 1.2 nor TLS 1.3";
        assert_eq!((error_type, detail.as_str(), took), (ErrorType::Tls, words, Duration::ZERO), "{report}");
    }
}

#[test]
fn a_handshake_that_hangs_ends_at_the_deadline() {
    let (error_type, detail, report, took) = ends("good-p256", Plays::Breaks(Behaviour::Hang));
    assert_eq!((error_type, detail.as_str(), took.as_secs()), (ErrorType::Tls, "the TLS handshake timed out", 10));
    assert!(matches!(report.transcript.last().unwrap().event, Event::RawOctets { octets: 0, .. }), "{report}");
}

fn shakes_hands(version: Version, protocol: &str) -> Plays {
    Plays::ShakesHands { version, alpn: Some(Alpn::Selects(protocol.to_owned())) }
}

#[test]
fn a_server_without_the_certificates_key_fails_in_either_version() {
    for version in [Version::Tls12, Version::Tls13] {
        let (error_type, detail, report, _) = ends("key-not-of-certificate", shakes_hands(version, "acme-tls/1"));
        assert_eq!(error_type, ErrorType::Tls);
        assert_eq!(detail, "the TLS handshake failed: the server does not have the certificate's key", "{report}");
        assert!(report.transcript.iter().any(|it| matches!(it.event, Event::Certificate { .. })), "{report}");
    }
}

#[test]
fn every_kind_of_key_is_taken_in_either_version() {
    for id in ["good-p256", "good-rsa", "good-ed25519"] {
        for version in [Version::Tls12, Version::Tls13] {
            let report = validate(id, Some(shakes_hands(version, "acme-tls/1"))).report;
            assert!(report.is_valid(), "{id} {version:?}: {report}");
        }
    }
}

#[test]
fn a_protocol_that_was_not_offered_is_refused() {
    // In TLS 1.3 the forged offer already spoils the keys; in TLS 1.2 the selection itself is what is seen.
    let (_, detail, report, _) = ends("alpn-h2", shakes_hands(Version::Tls12, "h2"));
    assert!(detail.contains("SelectedUnofferedApplicationProtocol"), "{report}");
}

#[test]
fn the_transcript_shows_the_handshake_and_the_certificate() {
    let report = validate("san-two-names", None).report;
    let [.., Event::TlsHandshake { server_name, outcome, version, alpn, .. }, Event::Certificate { sha256, names }] =
        report.transcript.iter().map(|it| &it.event).collect::<Vec<_>>()[..]
    else {
        panic!("{report}")
    };
    assert_eq!(
        (server_name.as_str(), outcome.as_str(), version.as_deref()),
        ("example.com", "complete", Some("TLS 1.3"))
    );
    assert_eq!(alpn.as_ref().unwrap().as_str(), "acme-tls/1");
    assert_eq!(sha256.len(), 64);
    assert_eq!(names.len(), 2, "{report}");
}

#[test]
fn the_process_keeps_its_own_default_provider() {
    assert!(validate("good-p256", None).report.is_valid());
    assert!(rustls::crypto::CryptoProvider::get_default().is_none());
}
