//! The certificate of a tls-alpn-01 server (RFC 8737 §3), after the handshake.

#![no_main]

use akamu_challenge::testing::check_validation_certificate;
use akamu_proto::{Identifier, KeyAuthorization};
use libfuzzer_sys::fuzz_target;

/// As in vectors/tls_alpn_01.json, so that its certificates are good here too.
const KEY_AUTHORIZATION: &str =
    "evaGxfADs6pSRb2LAv9IZf17Dt3juxGJ-PCt92wr-oA.NzbLsXh8uDCcd-6MNwXF4W_7noWXFZAfHkxZsRGC9Xs";
/// DER of acmeIdentifier's OBJECT IDENTIFIER, 1.3.6.1.5.5.7.1.31, and of its `critical`.
const CRITICAL_ACME_IDENTIFIER: &[u8] = b"\x06\x08\x2b\x06\x01\x05\x05\x07\x01\x1f\x01\x01\xff";

fuzz_target!(|certificate: &[u8]| {
    let digest = KEY_AUTHORIZATION.parse::<KeyAuthorization>().expect("it is one").digest();
    for (kind, name) in [("dns", "example.com"), ("ip", "10.0.0.43"), ("ip", "2001:db8::43")] {
        let identifier = Identifier::parse(kind, name).expect("it is an identifier");
        match check_validation_certificate(certificate, &identifier, &digest) {
            Ok(()) => {
                let named = match &identifier {
                    Identifier::Ip(std::net::IpAddr::V4(it)) => it.octets().to_vec(),
                    Identifier::Ip(std::net::IpAddr::V6(it)) => it.octets().to_vec(),
                    other => other.value().into_bytes(),
                };
                let lower = certificate.to_ascii_lowercase();
                assert!(lower.windows(named.len()).any(|it| it == named.to_ascii_lowercase()), "{name} is not in it");
                assert!(certificate.windows(32).any(|it| it == digest), "the digest is not in it");
                let critical = CRITICAL_ACME_IDENTIFIER;
                assert!(certificate.windows(critical.len()).any(|it| it == critical), "it is not critical");
                // One octet more or less, or another digest, is another certificate.
                let cut = &certificate[..certificate.len() - 1];
                assert!(check_validation_certificate(cut, &identifier, &digest).is_err());
                assert!(check_validation_certificate(&[certificate, &[0]].concat(), &identifier, &digest).is_err());
                assert!(check_validation_certificate(certificate, &identifier, &[0; 32]).is_err());
            }
            Err(told) => {
                assert!(!told.chars().any(char::is_control), "{told:?}");
                assert!(told.len() <= 1_000, "{} octets: {told}", told.len());
            }
        }
    }
});
