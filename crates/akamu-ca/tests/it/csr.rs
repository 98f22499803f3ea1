//! What requests are taken, and why others are not.

use akamu_ca::{Csr, CsrError, KeyType, MAX_CSR_OCTETS};
use akamu_proto::{Identifier, Jwk};

use crate::support::{
    KEY_TYPES, UTF8, common_name, dns, dns_name, extension, extension_request, ip, ip_name, key, oid, openssl_ok,
    request, request_for, request_for_names, san, sequence, set, sign, subject, tlv,
};

use akamu_ca::SigningKey as _;

fn data(name: &str) -> Vec<u8> {
    std::fs::read(format!("{}/tests/data/{name}", env!("CARGO_MANIFEST_DIR"))).unwrap()
}

fn names(der: &[u8]) -> Vec<String> {
    Csr::parse(der).unwrap().names().map(Identifier::value).collect()
}

#[test]
fn requests_with_every_kind_of_key_are_taken() {
    for key_type in KEY_TYPES {
        assert_eq!(names(&request_for_names(&key(key_type), &["a.example"])), ["a.example"], "{key_type:?}");
    }
}

#[test]
fn requests_of_other_programs_are_taken() {
    let directory = tempfile::tempdir().unwrap();
    let request = |arguments: &[&str]| {
        let mut all = vec!["req", "-new", "-nodes", "-keyout", "key", "-outform", "DER", "-out", "csr"];
        all.extend(arguments);
        openssl_ok(directory.path(), &all);
        std::fs::read(directory.path().join("csr")).unwrap()
    };
    let p256 = ["-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256"];
    let p384 = ["-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-384"];
    for (key, hash) in [(p256, "-sha256"), (p256, "-sha384"), (p256, "-sha512"), (p384, "-sha256"), (p384, "-sha512")] {
        let der = request(&[&key[..], &[hash, "-subj", "/CN=a.example"]].concat());
        assert_eq!(names(&der), ["a.example"], "{key:?} {hash}");
    }
    for hash in ["-sha256", "-sha384", "-sha512"] {
        assert_eq!(names(&request(&["-newkey", "rsa:2048", hash, "-subj", "/CN=a.example"])), ["a.example"], "{hash}");
    }
    let pss = ["-sigopt", "rsa_padding_mode:pss", "-sigopt", "rsa_pss_saltlen:32"];
    let der = request(&[&["-newkey", "rsa:2048", "-sha256", "-subj", "/CN=a.example"], &pss[..]].concat());
    assert_eq!(names(&der), ["a.example"]);
    let der = request(&["-newkey", "rsa:2048", "-sha1", "-subj", "/CN=a.example"]);
    assert_eq!(Csr::parse(&der).unwrap_err(), CsrError::SignatureAlgorithm);

    let rcgen_key = rcgen::KeyPair::generate().unwrap();
    let parameters = rcgen::CertificateParams::new(["b.example".to_owned(), "192.0.2.1".to_owned()]).unwrap();
    let der = parameters.serialize_request(&rcgen_key).unwrap().der().to_vec();
    assert_eq!(names(&der), ["b.example", "192.0.2.1"]);
}

#[test]
fn names_come_from_the_alternative_names_and_from_a_common_name_that_is_one() {
    let key = key(KeyType::EcP256);
    let of = |subject: &[u8], general_names: &[Vec<u8>]| {
        names(&request(&key, subject, &[extension_request(&[san(general_names)])]))
    };
    let v6 = [0x20, 1, 0xd, 0xb8, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1];
    assert_eq!(
        of(&subject(&[]), &[dns_name("B.Example"), dns_name("b.example"), dns_name("*.c.example"), ip_name(&v6)]),
        ["b.example", "*.c.example", "2001:db8::1"]
    );
    assert_eq!(of(&common_name("a.example"), &[dns_name("b.example")]), ["a.example", "b.example"]);
    assert_eq!(of(&common_name("192.0.2.7"), &[dns_name("b.example")]), ["b.example", "192.0.2.7"]);
    assert_eq!(of(&common_name("b.example"), &[dns_name("b.example")]), ["b.example"]);
    for other in ["Printer, 3rd floor", "a_b.example", "", "ünï.example", "192.0.2.07"] {
        assert_eq!(of(&common_name(other), &[dns_name("b.example")]), ["b.example"], "{other}");
    }
    // BMPString, and text that is no UTF-8.
    let odd = subject(&[(0x1e, &[0, b'a']), (UTF8, &[0xff, 0xfe])]);
    assert_eq!(of(&odd, &[dns_name("b.example")]), ["b.example"]);
    // No extension request at all.
    assert_eq!(names(&request(&key, &common_name("a.example"), &[])), ["a.example"]);
}

#[test]
fn attributes_may_be_unsorted_or_left_out() {
    let key = key(KeyType::EcP256);
    let challenge_password = sequence(&[oid("1.2.840.113549.1.9.7"), set(&[tlv(UTF8, b"secret")])]);
    let extensions = extension_request(&[san(&[dns_name("a.example")])]);
    for attributes in [[challenge_password.clone(), extensions.clone()], [extensions, challenge_password]] {
        assert_eq!(names(&request(&key, &subject(&[]), &attributes)), ["a.example"]);
    }
    assert_eq!(names(&request_for(&key, &key.spki_der(), &common_name("a.example"), &[])), ["a.example"]);
}

#[test]
fn each_refusal_says_why() {
    let key = key(KeyType::EcP256);
    let with_names =
        |general_names: &[Vec<u8>]| request(&key, &subject(&[]), &[extension_request(&[san(general_names)])]);
    let bad_name = |what: &str| CsrError::BadName { what: what.to_owned() };
    let only = "only dns and ip names are certified";
    let many = |count: usize| (0..count).map(|it| dns_name(&format!("n{it}.example"))).collect::<Vec<_>>();
    let two_requests = extension_request(&[san(&[dns_name("a.example")])]);
    let good = with_names(&[dns_name("a.example")]);
    let mut trailing = good.clone();
    trailing.push(0);
    let other_key = crate::support::key(KeyType::EcP256);
    let compressed = [&[2][..], &key.spki_der()[27..59]].concat();
    let hybrid = [&[6 | key.spki_der()[90] & 1][..], &key.spki_der()[27..]].concat();
    let ec_algorithm = |curve: &str| sequence(&[oid("1.2.840.10045.2.1"), oid(curve)]);
    let spki = |algorithm: Vec<u8>, bits: &[u8]| sequence(&[algorithm, tlv(3, &[&[0][..], bits].concat())]);
    let rsa = crate::support::key(KeyType::Rsa2048);
    // rsaEncryption without its NULL.
    let rsa_bits = &rsa.spki_der()[24..];
    let rsa_without_parameters = spki(sequence(&[oid("1.2.840.113549.1.1.1")]), rsa_bits);
    let empty = tlv(0xa0, &[]);

    for (what, der, error) in [
        ("nothing", Vec::new(), CsrError::NotDer),
        ("no DER", b"-----BEGIN CERTIFICATE REQUEST-----".to_vec(), CsrError::NotDer),
        ("an empty SEQUENCE", sequence(&[]), CsrError::NotDer),
        ("an octet behind it", trailing, CsrError::NotDer),
        (
            "another version",
            sign(&key, &sequence(&[vec![2, 1, 1], subject(&[]), key.spki_der(), empty.clone()])),
            CsrError::NotDer,
        ),
        ("too long", vec![0x30; MAX_CSR_OCTETS + 1], CsrError::TooLong { octets: MAX_CSR_OCTETS + 1 }),
        ("no names", request(&key, &subject(&[]), &[]), CsrError::NoNames),
        ("an empty list of names", with_names(&[]), CsrError::NoNames),
        ("101 names", with_names(&many(101)), CsrError::TooManyNames { count: 101 }),
        (
            "101 names, none of which is one: they are counted first",
            with_names(&vec![dns_name("_"); 101]),
            CsrError::TooManyNames { count: 101 },
        ),
        (
            "100 names and another common name",
            request(&key, &common_name("cn.example"), &[extension_request(&[san(&many(100))])]),
            CsrError::TooManyNames { count: 101 },
        ),
        (
            "two extension requests",
            request(&key, &subject(&[]), &[two_requests.clone(), two_requests]),
            CsrError::Ambiguous,
        ),
        (
            "two alternative names",
            request(&key, &subject(&[]), &[extension_request(&vec![san(&[dns_name("a.example")]); 2])]),
            CsrError::Ambiguous,
        ),
        (
            "an e-mail address",
            with_names(&[dns_name("a.example"), tlv(0x81, b"a@b")]),
            bad_name(&format!("an e-mail address; {only}")),
        ),
        ("a URI", with_names(&[tlv(0x86, b"http://a")]), bad_name(&format!("a URI; {only}"))),
        ("an otherName", with_names(&[tlv(0xa0, &[5, 0])]), bad_name(&format!("an otherName; {only}"))),
        ("a directoryName", with_names(&[tlv(0xa4, &subject(&[]))]), bad_name(&format!("a directoryName; {only}"))),
        ("a registeredID", with_names(&[tlv(0x88, &[0x2a])]), bad_name(&format!("a registeredID; {only}"))),
        ("an unknown name", with_names(&[tlv(0x89, &[])]), CsrError::NotDer),
        (
            "an underscore",
            with_names(&[dns_name("a_b.example")]),
            bad_name("\"a_b.example\": a host name has no underscore; letters, digits and hyphens are allowed"),
        ),
        (
            "a NUL in a name",
            with_names(&[dns_name("a.example\0.evil.example")]),
            bad_name(
                "\"a.example\\0.evil.example\": '\\0' is not allowed; a name has letters, digits, hyphens and dots, and neither port nor path",
            ),
        ),
        (
            "an address of 5 octets",
            with_names(&[ip_name(&[1; 5])]),
            bad_name("an IP address of 5 octets; 4 or 16 are expected"),
        ),
        (
            "an IPv4-mapped address",
            with_names(&[ip_name(&[0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0xff, 0xff, 10, 0, 0, 1])]),
            bad_name("::ffff:10.0.0.1: an IPv4-mapped address is no identifier; write 10.0.0.1"),
        ),
        (
            "another key's signature",
            request_for(&other_key, &key.spki_der(), &common_name("a.example"), &empty),
            CsrError::BadSignature,
        ),
        (
            "a P-384 key's signature",
            request_for(&crate::support::key(KeyType::EcP384), &key.spki_der(), &common_name("a.example"), &empty),
            CsrError::BadSignature,
        ),
        (
            "an RSA signature, with an EC key",
            request_for(&rsa, &key.spki_der(), &common_name("a.example"), &empty),
            CsrError::SignatureAlgorithm,
        ),
        (
            "P-521",
            request_for(&key, &spki(ec_algorithm("1.3.132.0.35"), &[4; 133]), &subject(&[]), &empty),
            CsrError::UnsupportedKey,
        ),
        (
            "X25519",
            request_for(&key, &spki(sequence(&[oid("1.3.101.110")]), &[9; 32]), &subject(&[]), &empty),
            CsrError::UnsupportedKey,
        ),
        (
            "an SPKI in an SPKI",
            request_for(&key, &spki(ec_algorithm("1.2.840.10045.3.1.7"), &key.spki_der()), &subject(&[]), &empty),
            CsrError::BadKey,
        ),
        (
            "a compressed point",
            request_for(
                &key,
                &spki(ec_algorithm("1.2.840.10045.3.1.7"), &compressed),
                &common_name("a.example"),
                &empty,
            ),
            CsrError::BadKey,
        ),
        (
            "a hybrid point",
            request_for(&key, &spki(ec_algorithm("1.2.840.10045.3.1.7"), &hybrid), &common_name("a.example"), &empty),
            CsrError::BadKey,
        ),
        (
            "a point off its curve",
            request_for(&key, &spki(ec_algorithm("1.2.840.10045.3.1.7"), &[4; 65]), &common_name("a.example"), &empty),
            CsrError::BadKey,
        ),
        (
            "RSA without NULL",
            request_for(&rsa, &rsa_without_parameters, &common_name("a.example"), &empty),
            CsrError::BadKey,
        ),
        ("2047 bits", data("rsa_2047.csr"), CsrError::RsaModulus { bits: 2047 }),
        ("4097 bits", data("rsa_4097.csr"), CsrError::RsaModulus { bits: 4097 }),
        ("exponent 3", data("exponent_3.csr"), CsrError::RsaExponent),
        ("a factor 751", data("small_factor.csr"), CsrError::WeakKey("it has a small factor")),
        ("ROCA", data("roca.csr"), CsrError::WeakKey("it is a ROCA key, CVE-2017-15361")),
        ("close primes", data("close_primes.csr"), CsrError::WeakKey("its primes are too close, CVE-2022-26320")),
        ("a published key", data("published_key.csr"), CsrError::PublishedKey),
        ("a published P-384 key", data("published_key_p384.csr"), CsrError::PublishedKey),
    ] {
        assert_eq!(Csr::parse(&der).map(|_| ()), Err(error), "{what}");
    }
    assert_eq!(names(&with_names(&many(100))).len(), 100);
    assert_eq!(names(&data("rsa_2048.csr")), ["weak.example"]);
}

#[test]
fn cut_off_or_changed_anywhere_it_is_refused() {
    let key = key(KeyType::EcP256);
    let der = request(&key, &common_name("a.example"), &[extension_request(&[san(&[dns_name("a.example")])])]);
    for end in 0..der.len() {
        assert_eq!(Csr::parse(&der[..end]).map(|_| ()), Err(CsrError::NotDer), "the first {end} octets");
    }
    for index in 0..der.len() {
        for change in [1, 0x80, 0xff] {
            let mut changed = der.clone();
            changed[index] ^= change;
            assert!(Csr::parse(&changed).is_err(), "octet {index} with {change:#x}");
        }
    }
}

#[test]
fn names_must_be_exactly_the_orders() {
    let csr = Csr::parse(&request_for_names(&key(KeyType::EcP256), &["a.example", "*.b.example"])).unwrap();
    assert_eq!(csr.check_names(&[dns("*.b.example"), dns("a.example")]), Ok(()));
    let only = |missing: &[&str], extra: &[&str]| {
        let owned = |names: &[&str]| names.iter().map(ToString::to_string).collect();
        Err(CsrError::OtherNames { missing: owned(missing), extra: owned(extra) })
    };
    assert_eq!(csr.check_names(&[dns("a.example")]), only(&[], &["*.b.example"]));
    assert_eq!(csr.check_names(&[dns("a.example"), dns("*.b.example"), dns("c.example")]), only(&["c.example"], &[]));
    let other = csr.check_names(&[dns("a.example"), dns("b.example"), ip("192.0.2.1")]).unwrap_err();
    assert_eq!(
        other,
        CsrError::OtherNames {
            missing: vec!["b.example".to_owned(), "192.0.2.1".to_owned()],
            extra: vec!["*.b.example".to_owned()],
        }
    );
    assert_eq!(
        other.to_string(),
        "the CSR's names are not the order's; missing: b.example, 192.0.2.1; not in the order: *.b.example"
    );
    let many: Vec<_> = (0..20).map(|it| dns(&format!("n{it:02}.example"))).collect();
    assert_eq!(
        csr.check_names(&many).unwrap_err().to_string(),
        "the CSR's names are not the order's; missing: n00.example, n01.example, n02.example, n03.example, n04.example and 15 more; not in the order: a.example, *.b.example"
    );
}

#[test]
fn an_account_key_is_recognised() {
    use base64ct::{Base64UrlUnpadded, Encoding as _};
    let base64 = Base64UrlUnpadded::encode_string;
    for (key_type, octets) in
        [(KeyType::EcP256, 32), (KeyType::EcP384, 48), (KeyType::Ed25519, 32), (KeyType::Rsa2048, 256)]
    {
        let key = key(key_type);
        let spki = key.spki_der();
        let tail = |from: usize, count: usize| base64(&spki[spki.len() - from..][..count]);
        let jwk = match key_type {
            KeyType::Ed25519 => format!(r#"{{"kty":"OKP","crv":"Ed25519","x":"{}"}}"#, tail(32, 32)),
            KeyType::Rsa2048 => format!(r#"{{"kty":"RSA","e":"AQAB","n":"{}"}}"#, tail(5 + octets, octets)),
            _ => {
                let curve = if octets == 32 { "P-256" } else { "P-384" };
                let (x, y) = (tail(2 * octets, octets), tail(octets, octets));
                format!(r#"{{"kty":"EC","crv":"{curve}","x":"{x}","y":"{y}"}}"#)
            }
        };
        let csr = Csr::parse(&request_for_names(&key, &["a.example"])).unwrap();
        assert!(csr.is_made_with(&Jwk::parse(&jwk).unwrap()), "{key_type:?}");
        let other = Csr::parse(&request_for_names(&crate::support::key(key_type), &["a.example"])).unwrap();
        assert!(!other.is_made_with(&Jwk::parse(&jwk).unwrap()), "{key_type:?}");
    }
}

#[test]
fn requested_extensions_are_not_copied() {
    let ca = crate::support::ca(KeyType::EcP256);
    let wishes = extension_request(&[
        san(&[dns_name("a.example")]),
        // BasicConstraints CA, keyUsage keyCertSign, must-staple.
        extension("2.5.29.19", &sequence(&[vec![1, 1, 0xff]])),
        extension("2.5.29.15", &[3, 2, 2, 4]),
        extension("1.3.6.1.5.5.7.1.24", &sequence(&[vec![2, 1, 5]])),
    ]);
    let plain = extension_request(&[san(&[dns_name("a.example")])]);
    let key = key(KeyType::EcP256);
    let prepare = |attribute: Vec<u8>| {
        let csr = Csr::parse(&request(&key, &subject(&[]), &[attribute])).unwrap();
        ca.issuer.prepare(&csr, crate::support::serial(1), crate::support::now()).unwrap()
    };
    assert_eq!(prepare(wishes), prepare(plain));
}
