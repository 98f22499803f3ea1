//! Names that a CA certificate's name constraints keep out (RFC 5280 §4.2.1.10): told before anything is signed.

use akamu_ca::{Csr, IssueError, Issuer, IssuerError, KeyType, NameNotPermitted};
use akamu_proto::Identifier;
use rcgen::CertificateParams;

use crate::chain::{load, make, parameters};
use crate::support::{
    dns, dns_name, extension_request, ip, ip_name, key, now, request, san, sequence, serial, subject, tlv,
};

/// Octets of the extension: permitted and excluded subtrees, each a GeneralName.
fn constraints(permitted: &[Vec<u8>], excluded: &[Vec<u8>]) -> Vec<u8> {
    let subtrees = |tag: u8, bases: &[Vec<u8>]| {
        let bases: Vec<_> = bases.iter().map(|it| sequence(std::slice::from_ref(it))).collect();
        if bases.is_empty() { Vec::new() } else { tlv(tag, &bases.concat()) }
    };
    sequence(&[subtrees(0xa0, permitted), subtrees(0xa1, excluded)])
}

fn with(name: &str, extension: Option<Vec<u8>>) -> CertificateParams {
    let mut it = parameters(name);
    it.custom_extensions = extension
        .map(|content| {
            let mut extension = rcgen::CustomExtension::from_oid_content(&[2, 5, 29, 30], content);
            extension.set_criticality(true);
            extension
        })
        .into_iter()
        .collect();
    it
}

/// An issuer of a chain of three, of which the root and the issuing certificate have these extensions.
fn issuer(of_root: Option<Vec<u8>>, of_issuing: Option<Vec<u8>>) -> Result<Issuer, IssuerError> {
    let root = make(with("Root", of_root), None);
    let middle = make(parameters("Middle"), Some(&root));
    let issuing = make(with("Issuing", of_issuing), Some(&middle));
    load(issuing.key(), &[&issuing.der, &middle.der, &root.der], now())
}

/// A subtree as it is written in these tests: `10.0.0.0/8` or a name.
fn base(text: &str) -> Vec<u8> {
    let Some((address, prefix)) = text.split_once('/') else { return dns_name(text) };
    let octets = match address.parse().unwrap() {
        std::net::IpAddr::V4(it) => it.octets().to_vec(),
        std::net::IpAddr::V6(it) => it.octets().to_vec(),
    };
    let prefix: u32 = prefix.parse().unwrap();
    let mask = (0..).step_by(8).map(|start| !0xff_u8.checked_shr(prefix.saturating_sub(start)).unwrap_or(0));
    ip_name(&octets.iter().copied().chain(mask.take(octets.len())).collect::<Vec<_>>())
}

fn bases(texts: &[&str]) -> Vec<Vec<u8>> {
    texts.iter().map(|it| base(it)).collect()
}

fn identifier(text: &str) -> Identifier {
    if text.parse::<std::net::IpAddr>().is_ok() { ip(text) } else { dns(text) }
}

fn issue(issuer: &Issuer, name: &Identifier) -> Result<(), IssueError> {
    let name = match name {
        Identifier::Dns(name) => dns_name(name.as_str()),
        Identifier::Wildcard(base) => dns_name(&format!("*.{base}")),
        Identifier::Ip(std::net::IpAddr::V4(it)) => ip_name(&it.octets()),
        Identifier::Ip(std::net::IpAddr::V6(it)) => ip_name(&it.octets()),
    };
    let csr = request(&key(KeyType::EcP256), &subject(&[]), &[extension_request(&[san(&[name])])]);
    issuer.sign(&issuer.prepare(&Csr::parse(&csr).unwrap(), serial(1), now()).unwrap()).map(drop)
}

const NAMES: [&str; 17] = [
    "corp.example",
    "a.corp.example",
    "b.a.corp.example",
    "xcorp.example",
    "*.corp.example",
    "*.a.corp.example",
    "*.b.a.corp.example",
    "corp.example.net",
    "other.example",
    "*.other.example",
    "nas",
    "10.0.0.1",
    "10.1.255.255",
    "11.0.0.0",
    "2001:db8::1",
    "2001:db9::",
    "::1",
];

#[test]
fn a_name_outside_is_refused_before_it_is_signed() {
    // Permitted, excluded, and those of NAMES that may be certified.
    let cases: [(&[&str], &[&str], &[&str]); 14] = [
        (
            &["corp.example"],
            &[],
            &[
                "corp.example",
                "a.corp.example",
                "b.a.corp.example",
                "*.corp.example",
                "*.a.corp.example",
                "*.b.a.corp.example",
                "10.0.0.1",
                "10.1.255.255",
                "11.0.0.0",
                "2001:db8::1",
                "2001:db9::",
                "::1",
            ],
        ),
        (
            &["CORP.example", "10.0.0.0/8"],
            &[],
            &[
                "corp.example",
                "a.corp.example",
                "b.a.corp.example",
                "*.corp.example",
                "*.a.corp.example",
                "*.b.a.corp.example",
                "10.0.0.1",
                "10.1.255.255",
            ],
        ),
        (
            &[".corp.example", "0.0.0.0/0"],
            &[],
            &[
                "a.corp.example",
                "b.a.corp.example",
                "*.corp.example",
                "*.a.corp.example",
                "*.b.a.corp.example",
                "10.0.0.1",
                "10.1.255.255",
                "11.0.0.0",
            ],
        ),
        // A wildcard needs all that it stands for.
        (
            &["a.corp.example", "10.0.0.1/32"],
            &[],
            &["a.corp.example", "b.a.corp.example", "*.a.corp.example", "*.b.a.corp.example", "10.0.0.1"],
        ),
        (&["nas", "10.0.0.0/15"], &[], &["nas", "10.0.0.1", "10.1.255.255"]),
        (&["corp.example", "2001:db8::/32"], &["a.corp.example"], &["corp.example", "2001:db8::1"]),
        (
            &["corp.example", "10.0.0.0/8"],
            &[".a.corp.example", "10.1.0.0/16"],
            &["corp.example", "a.corp.example", "10.0.0.1"],
        ),
        // No name that the wildcard stands for has so many labels.
        (
            &["corp.example", "::/0"],
            &["b.a.corp.example"],
            &["corp.example", "a.corp.example", "*.corp.example", "2001:db8::1", "2001:db9::", "::1"],
        ),
        (
            &[],
            &["corp.example", "0.0.0.0/0", "::/0"],
            &["xcorp.example", "corp.example.net", "other.example", "*.other.example", "nas"],
        ),
        (&[], &["", "10.0.0.0/9"], &["11.0.0.0", "2001:db8::1", "2001:db9::", "::1"]),
        (&["", "::1/128"], &["example"], &["corp.example.net", "nas", "::1"]),
        (&["other.example", "10.9.9.9/8"], &[], &["other.example", "*.other.example", "10.0.0.1", "10.1.255.255"]),
        (&["x.example", "x.test", "11.0.0.0/8"], &[], &["11.0.0.0"]),
        (&["nas", "xcorp.example", "2001:db9::/128"], &["nas"], &["xcorp.example", "2001:db9::"]),
    ];
    for (permitted, excluded, expected) in cases {
        let extension = constraints(&bases(permitted), &bases(excluded));
        for (of_root, of_issuing) in [(Some(extension.clone()), None), (None, Some(extension))] {
            let issuer = issuer(of_root, of_issuing).unwrap();
            for text in NAMES {
                let name = identifier(text);
                let may = issuer.may_certify(&name);
                assert_eq!(may.is_ok(), expected.contains(&text), "{permitted:?} {excluded:?} {text}: {may:?}");
                // What is said before is what comes out of the check of what was signed.
                let issued = issue(&issuer, &name);
                assert_eq!(issued.is_ok(), may.is_ok(), "{permitted:?} {excluded:?} {text}: {issued:?}");
            }
        }
    }
}

#[test]
fn the_certificates_of_a_chain_add_up() {
    let permit = |names: &[&str]| Some(constraints(&bases(names), &[]));
    let issuer = issuer(permit(&["a.example", "b.example"]), permit(&["b.example", "c.example"])).unwrap();
    for (name, is_good) in [("x.a.example", false), ("x.b.example", true), ("x.c.example", false)] {
        assert_eq!(issuer.may_certify(&dns(name)).is_ok(), is_good, "{name}");
    }
}

#[test]
fn a_refusal_names_the_constraint() {
    let permitted = ["a.test", "b.test", "10.0.0.0/8", "c.test", "d.test", "e.test", "f.test", "g.test"];
    let of_root = constraints(&bases(&permitted), &[]);
    let of_issuing = constraints(&[], &bases(&["bad.a.test", "", "10.9.0.1/16"]));
    let issuer = issuer(Some(of_root), Some(of_issuing)).unwrap();
    let text = |name: &str| issuer.may_certify(&identifier(name)).unwrap_err().to_string();
    assert_eq!(text("x.bad.a.test"), "the CA certificate \"CN=Issuing\" excludes bad.a.test");
    assert_eq!(text("other.test"), "the CA certificate \"CN=Issuing\" excludes every DNS name");
    assert_eq!(text("10.9.3.3"), "the CA certificate \"CN=Issuing\" excludes 10.9.0.0/16");
    assert_eq!(text("11.0.0.1"), "the CA certificate \"CN=Root\" permits only 10.0.0.0/8");

    let issuer = self::issuer(Some(constraints(&bases(&permitted), &[])), None).unwrap();
    let refused = issuer.may_certify(&dns("other.test")).unwrap_err();
    assert_eq!(
        refused.to_string(),
        "the CA certificate \"CN=Root\" permits only a.test, b.test, c.test, d.test, e.test and 2 more"
    );
    assert!(matches!(refused, NameNotPermitted::NotPermitted { permitted, .. } if permitted.len() == 7));
    // A certificate for a server of our own is refused with the same words.
    let own = issuer.issue_server_certificate(&[dns("a.test"), dns("other.test")], serial(1), now());
    let text = own.map(drop).unwrap_err().to_string();
    assert!(text.starts_with("other.test: the CA certificate \"CN=Root\" permits only a.test"), "{text}");
}

#[test]
fn constraints_under_which_no_leaf_would_be_accepted_are_refused_when_loaded() {
    let subtree = |parts: &[Vec<u8>]| tlv(0xa0, &sequence(parts));
    let name = || dns_name("a.example");
    for (what, value, text) in [
        ("neither kind", sequence(&[]), "that are malformed"),
        ("no subtree", sequence(&[tlv(0xa0, &[])]), "that are malformed"),
        ("no extension value", b"hello".to_vec(), "that are malformed"),
        ("a minimum that is the default", sequence(&[subtree(&[name(), tlv(0x80, &[0])])]), "that are malformed"),
        ("a minimum", sequence(&[subtree(&[name(), tlv(0x80, &[1])])]), "with a minimum or a maximum"),
        ("a maximum", sequence(&[subtree(&[name(), tlv(0x81, &[1])])]), "with a minimum or a maximum"),
        ("a directory", constraints(&[tlv(0xa4, &sequence(&[]))], &[]), "of directoryName"),
        ("a directory", constraints(&[], &[tlv(0xa4, &sequence(&[]))]), "of directoryName"),
        ("a dot", constraints(&[dns_name(".")], &[]), "with a dNSName that is none"),
        ("a dot at the end", constraints(&[dns_name("a.example.")], &[]), "with a dNSName that is none"),
        ("two dots", constraints(&[dns_name("..a.example")], &[]), "with a dNSName that is none"),
        ("a wildcard", constraints(&[dns_name("*.a.example")], &[]), "with a dNSName that is none"),
        ("a hyphen", constraints(&[dns_name("-a.example")], &[]), "with a dNSName that is none"),
        ("a number", constraints(&[], &[dns_name("10.0.0.1")]), "with a dNSName that is none"),
        ("a long label", constraints(&[], &[dns_name(&"l".repeat(64))]), "with a dNSName that is none"),
        ("an address", constraints(&[ip_name(&[10, 0, 0, 1])], &[]), "with an iPAddress that is no address"),
        ("no address", constraints(&[ip_name(&[])], &[]), "with an iPAddress that is no address"),
        ("a mask with a hole", constraints(&[ip_name(&[10, 0, 0, 0, 255, 0, 255, 0])], &[]), "with an iPAddress that"),
    ] {
        for of in ["Root", "Issuing"] {
            let only = |it: &str| (it == of).then(|| value.clone());
            let error = issuer(only("Root"), only("Issuing")).map(drop).unwrap_err();
            assert!(matches!(error, IssuerError::NameConstraints { .. }), "{what}: {error}");
            let expected = format!("the certificate \"CN={of}\" in the chain has name constraints {text}");
            assert!(error.to_string().starts_with(&expected), "{what}: {error}");
        }
    }
    // Forms that our leaves do not have constrain none of them.
    let others = [tlv(0x81, b"example.org"), tlv(0x86, b".example.org")];
    let issuer = issuer(None, Some(constraints(&others, &others))).unwrap();
    for text in NAMES {
        issuer.may_certify(&identifier(text)).unwrap();
        issue(&issuer, &identifier(text)).unwrap();
    }
}
