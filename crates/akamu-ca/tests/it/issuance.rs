//! A certificate in two steps, and what is checked between and after them.

use std::time::Duration;

use akamu_ca::{
    Authority, Csr, HashAlg, IssueError, IssuedCertificate, KeyError, KeyType, KnownCertificate, Profile,
    SigningKey as _,
};
use akamu_proto::{Jwk, Timestamp};
use der::{Decode as _, Encode as _};
use rustls_pki_types::{CertificateDer, ServerName, UnixTime};
use x509_cert::Certificate;

use crate::support::{
    Ca, DAY, KINDS, ca, ca_with, common_name, dns, first_run, ip, key, now, oid, profile, request, request_for_names,
    sequence, serial, tlv,
};

/// As a client: with the root alone in its trust store, and what the server sends.
fn accepts(ca: &Ca, issued: &IssuedCertificate, name: &str, usage: webpki::KeyUsage, at: Timestamp) -> bool {
    let root = CertificateDer::from(ca.issuer.root_der());
    let sent: Vec<_> = issued.chain_der().iter().map(|it| CertificateDer::from(it.as_slice())).collect();
    let leaf = webpki::EndEntityCert::try_from(&sent[0]).unwrap();
    let anchors = [webpki::anchor_from_trusted_cert(&root).unwrap()];
    let time = UnixTime::since_unix_epoch(Duration::from_secs(u64::try_from(at.unix_secs()).unwrap()));
    let path = leaf.verify_for_usage(webpki::ALL_VERIFICATION_ALGS, &anchors, &sent[1..], time, usage, None, None);
    path.is_ok() && leaf.verify_is_valid_for_subject_name(&ServerName::try_from(name).unwrap()).is_ok()
}

#[test]
fn clients_and_servers_accept_what_is_issued() {
    for key_type in KINDS {
        let ca = ca(key_type);
        let issued = ca.issue(&request_for_names(&key(KeyType::EcP256), &["a.example", "*.b.example"]));
        for name in ["a.example", "x.b.example"] {
            for usage in [webpki::KeyUsage::server_auth(), webpki::KeyUsage::client_auth()] {
                assert!(accepts(&ca, &issued, name, usage, now()), "{key_type:?} {name}");
                assert!(accepts(&ca, &issued, name, usage, issued.not_before()));
                assert!(accepts(&ca, &issued, name, usage, issued.not_after()));
                assert!(!accepts(&ca, &issued, name, usage, issued.not_after().plus(Duration::from_secs(1))));
            }
        }
        for name in ["b.example", "x.y.b.example", "c.example"] {
            assert!(!accepts(&ca, &issued, name, webpki::KeyUsage::server_auth(), now()), "{name}");
        }
    }
}

#[test]
fn the_chain_is_the_leaf_and_the_intermediate_without_the_root() {
    let ca = ca(KeyType::EcP256);
    let issued = ca.issue(&request_for_names(&key(KeyType::EcP256), &["a.example"]));
    assert_eq!(issued.chain_der(), [issued.der().to_vec(), ca.issuer.certificate_der().to_vec()]);
    let pem = issued.chain_pem();
    assert!(pem.starts_with("-----BEGIN CERTIFICATE-----\n") && pem.ends_with("-----END CERTIFICATE-----\n"));
    assert!(!pem.contains('\r') && !pem.contains("\n\n"));
    assert_eq!(pem.matches("-----BEGIN CERTIFICATE-----\n").count(), 2);
    assert!(pem.ends_with(&ca.issuer.certificate_pem()));
    assert!(pem.lines().all(|line| line.starts_with("-----") || (line.len() <= 64 && !line.contains(' '))));
}

#[test]
fn whoever_signs_the_same_tbs_makes_the_same_certificate() {
    let ca = ca(KeyType::EcP256);
    let csr = Csr::parse(&request_for_names(&key(KeyType::EcP256), &["a.example"])).unwrap();
    let tbs = ca.issuer.prepare(&csr, serial(0x99), now()).unwrap();
    assert_eq!(ca.issuer.prepare(&csr, serial(0x99), now()).unwrap(), tbs);
    let (one, other) = (ca.issuer.sign(&tbs).unwrap(), ca.issuer.sign(&tbs).unwrap());
    for issued in [&one, &other] {
        let certificate = Certificate::from_der(issued.der()).unwrap();
        assert_eq!(certificate.tbs_certificate().to_der().unwrap(), tbs);
        assert_eq!(issued.serial(), serial(0x99));
        assert_eq!(issued.serial().as_octets()[6..], [0x99; 10]);
    }
}

#[test]
fn a_certificate_outlives_no_ca_certificate() {
    let years = |years| first_run_of(years);
    let ca = ca_with(&years(1), Profile { validity: DAY * 1000, ..profile() });
    let csr = Csr::parse(&request_for_names(&key(KeyType::EcP256), &["a.example"])).unwrap();
    let issue = |at: Timestamp| ca.issuer.prepare(&csr, serial(1), at).and_then(|tbs| ca.issuer.sign(&tbs));
    assert_eq!(issue(now()).unwrap().not_after(), ca.issuer.not_after());
    assert_eq!(ca.issuer.not_after(), now().plus(DAY * 365));
    assert_eq!(issue(now()).unwrap().not_before(), now().minus(DAY / 24));
    // Before the CA began there is no certificate of it.
    assert_eq!(issue(now().minus(DAY)).unwrap().not_before(), now().minus(DAY / 24));
    let last = ca.issuer.not_after().minus(Duration::from_secs(1));
    assert!(issue(last).is_ok());
    let expired = issue(ca.issuer.not_after()).unwrap_err();
    assert!(matches!(expired, IssueError::Expired { not_after } if not_after == ca.issuer.not_after()), "{expired}");
}

fn first_run_of(years: u32) -> akamu_ca::FirstRun {
    akamu_ca::FirstRun { ca_validity_years: years, ..first_run(KeyType::EcP256) }
}

/// `sign` is given octets from a database: it signs what `prepare` makes, and nothing else that could be used.
#[test]
fn what_was_not_prepared_here_is_not_signed() {
    let ca = ca(KeyType::EcP256);
    let other =
        ca_with(&akamu_ca::FirstRun { common_name: "Other".to_owned(), ..first_run(KeyType::EcP256) }, profile());
    let csr = Csr::parse(&request_for_names(&key(KeyType::EcP256), &["a.example"])).unwrap();
    let good = ca.issuer.prepare(&csr, serial(0x42), now()).unwrap();
    let tbs_of = |der: &[u8]| Certificate::from_der(der).unwrap().tbs_certificate().to_der().unwrap();
    let replaced = |from: &[u8], to: &[u8]| {
        let at = good.windows(from.len()).position(|it| it == from).unwrap();
        [&good[..at], to, &good[at + from.len()..]].concat()
    };
    let number = serial(0x42);
    let number = number.as_octets();
    let server_auth = oid("1.3.6.1.5.5.7.3.1");
    let email_protection = oid("1.3.6.1.5.5.7.3.4");
    let client_auth = oid("1.3.6.1.5.5.7.3.2");
    for (what, tbs) in [
        ("nothing", Vec::new()),
        ("no DER", b"hello".to_vec()),
        ("no TBSCertificate", sequence(&[])),
        ("another issuer's", other.issuer.prepare(&csr, serial(0x42), now()).unwrap()),
        ("a CA's", tbs_of(ca.issuer.certificate_der())),
        ("a root's", tbs_of(ca.issuer.root_der())),
        ("one without serverAuth", replaced(&server_auth, &email_protection)),
        ("one without clientAuth", replaced(&client_auth, &email_protection)),
        (
            "one without names",
            replaced(&tlv(4, &sequence(&[tlv(0x82, b"a.example")])), &tlv(4, &sequence(&[tlv(0x86, b"a.example")]))),
        ),
        ("one whose name is none", replaced(b"a.example", b"a_example")),
        ("one with a negative serial number", replaced(number, &[&[0x80 | number[0]], &number[1..]].concat())),
        ("one with the serial number zero", replaced(number, &[0; 16])),
        ("one with an octet behind it", [&good[..], &[0]].concat()),
    ] {
        let outcome = ca.issuer.sign(&tbs);
        assert!(matches!(outcome, Err(IssueError::Unsound(_) | IssueError::Encoding(_))), "{what}: {outcome:?}");
    }
    for end in 0..good.len() {
        assert!(ca.issuer.sign(&good[..end]).is_err(), "the first {end} octets");
    }
    assert!(ca.issuer.sign(&good).is_ok());
}

#[test]
fn the_servers_own_certificate_is_for_its_names_and_key() {
    for key_type in [KeyType::EcP256, KeyType::Rsa2048] {
        let ca = ca(key_type);
        let names = [dns("localhost"), ip("127.0.0.1"), ip("::1")];
        let (issued, pkcs8) = ca.issuer.issue_server_certificate(&names, serial(3), now()).unwrap();
        for name in ["localhost", "127.0.0.1", "::1"] {
            assert!(accepts(&ca, &issued, name, webpki::KeyUsage::server_auth(), now()), "{name}");
        }
        let key = akamu_ca::FileKey::from_pkcs8(&pkcs8, HashAlg::Sha256).unwrap();
        let certificate = Certificate::from_der(issued.der()).unwrap();
        assert_eq!(certificate.tbs_certificate().subject_public_key_info().to_der().unwrap(), key.spki_der());
        assert!(certificate.tbs_certificate().subject().is_empty());
    }
}

#[test]
fn there_is_no_certificate_without_names() {
    let outcome = ca(KeyType::EcP256).issuer.issue_server_certificate(&[], serial(3), now());
    assert!(matches!(outcome, Err(IssueError::Unsound(_))), "{outcome:?}");
}

#[test]
fn a_shown_certificate_is_read_for_its_revocation() {
    let ca = ca(KeyType::EcP256);
    let key = key(KeyType::Ed25519);
    let issued = ca.issue(&request_for_names(&key, &["b.example", "a.example"]));
    let shown = KnownCertificate::parse(issued.der()).unwrap();
    assert_eq!(shown.serial(), issued.serial());
    assert_eq!(shown.names(), [dns("a.example"), dns("b.example")]);
    use base64ct::{Base64UrlUnpadded, Encoding as _};
    let jwk = |key: &akamu_ca::FileKey| {
        let spki = key.spki_der();
        let x = Base64UrlUnpadded::encode_string(&spki[spki.len() - 32..]);
        Jwk::parse(&format!(r#"{{"kty":"OKP","crv":"Ed25519","x":"{x}"}}"#)).unwrap()
    };
    assert!(shown.has_key(&jwk(&key)));
    assert!(!shown.has_key(&jwk(&crate::support::key(KeyType::Ed25519))));
    assert!(KnownCertificate::parse(ca.issuer.certificate_der()).is_none(), "it has no names");
    for (octets, is_read) in [(1_000, true), (65_536, false)] {
        let mut large = rcgen::CertificateParams::new(["a.example".to_owned()]).unwrap();
        large.serial_number = Some(rcgen::SerialNumber::from_slice(&[1; 16]));
        large.custom_extensions = vec![rcgen::CustomExtension::from_oid_content(&[1, 2, 3], vec![0; octets])];
        let large = large.self_signed(&rcgen::KeyPair::generate().unwrap()).unwrap();
        assert_eq!(KnownCertificate::parse(large.der()).is_some(), is_read, "{octets} octets");
    }
    assert!(KnownCertificate::parse(&request(&key, &common_name("a.example"), &[])).is_none());
    for end in 0..issued.der().len() {
        assert!(KnownCertificate::parse(&issued.der()[..end]).is_none(), "the first {end} octets");
    }
    for index in 0..issued.der().len() {
        let mut changed = issued.der().to_vec();
        changed[index] ^= 0xff;
        // Whatever it is read as: the store compares all octets.
        let _ = KnownCertificate::parse(&changed);
    }
}

#[test]
fn what_was_prepared_with_another_hash_is_signed_with_that_one() {
    const ALGORITHMS: [(HashAlg, &str); 3] = [
        (HashAlg::Sha256, "1.2.840.113549.1.1.11"),
        (HashAlg::Sha384, "1.2.840.113549.1.1.12"),
        (HashAlg::Sha512, "1.2.840.113549.1.1.13"),
    ];
    let ca = ca(KeyType::Rsa2048);
    let authority = Authority::new(ca.directory.path());
    let issuers = ALGORITHMS.map(|(hash, _)| authority.load(profile(), hash, now()).unwrap());
    let csr = Csr::parse(&request_for_names(&key(KeyType::EcP256), &["a.example"])).unwrap();
    for (before, (_, algorithm)) in issuers.iter().zip(ALGORITHMS) {
        let tbs = before.prepare(&csr, serial(0x42), now()).unwrap();
        for after in &issuers {
            let issued = after.sign(&tbs).unwrap();
            let certificate = Certificate::from_der(issued.der()).unwrap();
            assert_eq!(certificate.signature_algorithm().oid.to_string(), algorithm);
            assert_eq!(certificate.tbs_certificate().to_der().unwrap(), tbs);
            assert!(accepts(&ca, &issued, "a.example", webpki::KeyUsage::server_auth(), now()));
        }
    }
    // An algorithm that the key does not have: SHA-1's is none.
    let tbs = issuers[0].prepare(&csr, serial(0x42), now()).unwrap();
    let (sha256, sha1) = (oid("1.2.840.113549.1.1.11"), oid("1.2.840.113549.1.1.5"));
    let at = tbs.windows(sha256.len()).position(|it| it == sha256).unwrap();
    let refused = issuers[0].sign(&[&tbs[..at], &sha1, &tbs[at + sha1.len()..]].concat());
    assert!(matches!(refused, Err(IssueError::Key(KeyError::Algorithm { .. }))), "{refused:?}");
}
