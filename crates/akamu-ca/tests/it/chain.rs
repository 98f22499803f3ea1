//! Chains that come from elsewhere (ca.key_file, ca.cert_file): what is taken, and why others are not.

use std::sync::Arc;

use akamu_ca::{FileKey, HashAlg, IssueError, Issuer, IssuerError, KeyType, Profile, SigningKey as _};
use akamu_proto::Timestamp;
use der::Decode as _;
use rcgen::{
    BasicConstraints, CertificateParams, DnType, ExtendedKeyUsagePurpose, GeneralSubtree, IsCa, KeyIdMethod,
    KeyUsagePurpose, NameConstraints,
};

use crate::support::{DAY, ca, key, now, profile, request_for_names, serial};

/// A CA certificate by rcgen, with which another program stands for a company's own CA.
pub(crate) struct Made {
    pub(crate) der: Vec<u8>,
    issuer: rcgen::Issuer<'static, rcgen::KeyPair>,
    pkcs8: Vec<u8>,
}

impl Made {
    pub(crate) fn key(&self) -> FileKey {
        FileKey::from_pkcs8(&self.pkcs8, HashAlg::Sha256).unwrap()
    }
}

pub(crate) fn parameters(name: &str) -> CertificateParams {
    let mut parameters = CertificateParams::default();
    parameters.distinguished_name.push(DnType::CommonName, name);
    parameters.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    parameters.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
    parameters.not_before = rcgen::date_time_ymd(2026, 1, 1);
    parameters.not_after = rcgen::date_time_ymd(2036, 1, 1);
    parameters
}

pub(crate) fn make(parameters: CertificateParams, issuer: Option<&Made>) -> Made {
    let key = rcgen::KeyPair::generate().unwrap();
    let pkcs8 = key.serialize_der();
    let certificate = match issuer {
        Some(issuer) => parameters.signed_by(&key, &issuer.issuer).unwrap(),
        None => parameters.self_signed(&key).unwrap(),
    };
    Made { der: certificate.der().to_vec(), issuer: rcgen::Issuer::new(parameters, key), pkcs8 }
}

pub(crate) fn load(key: FileKey, chain: &[&[u8]], now: Timestamp) -> Result<Issuer, IssuerError> {
    Issuer::new(Arc::new(key), chain.iter().map(|it| it.to_vec()).collect(), profile(), now)
}

#[test]
fn chains_of_one_two_and_three_issue() {
    let root = make(parameters("Root"), None);
    let middle = make(parameters("Middle"), Some(&root));
    let issuing = make(parameters("Issuing"), Some(&middle));
    for (key, chain, sent) in [
        (root.key(), vec![&root.der[..]], 1),
        (middle.key(), vec![&middle.der[..], &root.der], 1),
        (issuing.key(), vec![&issuing.der[..], &middle.der, &root.der], 2),
    ] {
        let issuer = load(key, &chain, now()).unwrap();
        assert_eq!(issuer.certificate_der(), chain[0]);
        assert_eq!(issuer.root_der(), root.der);
        let csr =
            akamu_ca::Csr::parse(&request_for_names(&crate::support::key(KeyType::EcP256), &["a.example"])).unwrap();
        let issued = issuer.sign(&issuer.prepare(&csr, serial(1), now()).unwrap()).unwrap();
        // The root comes along where it signs itself, since certbot refuses a chain of one.
        assert_eq!(issued.chain_der()[1..], chain[..sent]);
        let leaf = x509_cert::Certificate::from_der(issued.der()).unwrap();
        let issuing = x509_cert::Certificate::from_der(chain[0]).unwrap();
        use x509_cert::ext::pkix::{AuthorityKeyIdentifier, SubjectKeyIdentifier};
        let (_, ours) = leaf.tbs_certificate().get_extension::<AuthorityKeyIdentifier>().unwrap().unwrap();
        let (_, theirs) = issuing.tbs_certificate().get_extension::<SubjectKeyIdentifier>().unwrap().unwrap();
        assert_eq!(ours.key_identifier, Some(theirs.0), "the issuer's own identifier, however it was made");
    }
}

#[test]
fn a_certificate_ends_with_the_first_of_its_chain() {
    let mut short = parameters("Root");
    short.not_after = rcgen::date_time_ymd(2026, 12, 1);
    let root = make(short, None);
    let issuing = make(parameters("Issuing"), Some(&root));
    let issuer = load(issuing.key(), &[&issuing.der, &root.der], now()).unwrap();
    assert_eq!(issuer.not_after().to_string(), "2026-12-01T00:00:00Z");
    let csr = akamu_ca::Csr::parse(&request_for_names(&key(KeyType::EcP256), &["a.example"])).unwrap();
    let issued = issuer.sign(&issuer.prepare(&csr, serial(1), now()).unwrap()).unwrap();
    assert_eq!(issued.not_after(), issuer.not_after());
}

#[test]
fn each_refusal_says_why() {
    let root = make(parameters("Root"), None);
    let middle = make(parameters("Middle"), Some(&root));
    let issuing = make(parameters("Issuing"), Some(&middle));
    let other_root = make(parameters("Root"), None);
    let forged = make(parameters("Middle"), Some(&other_root));
    let mut without_sign = parameters("Middle");
    without_sign.key_usages = vec![KeyUsagePurpose::CrlSign];
    let without_sign = make(without_sign, Some(&root));
    let mut without_crl = parameters("Issuing");
    without_crl.key_usages = vec![KeyUsagePurpose::KeyCertSign];
    let without_crl = make(without_crl, Some(&root));
    let mut leaf = parameters("Leaf");
    leaf.is_ca = IsCa::ExplicitNoCa;
    leaf.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
    leaf.key_identifier_method = KeyIdMethod::Sha256;
    let leaf = make(leaf, Some(&root));
    let mut constrained = parameters("Root");
    constrained.is_ca = IsCa::Ca(BasicConstraints::Constrained(1));
    let constrained = make(constrained, None);
    let under = make(parameters("Middle"), Some(&constrained));
    let under_under = make(parameters("Issuing"), Some(&under));
    let under_under_under = make(parameters("Lowest"), Some(&under_under));
    let mut cut = root.der.clone();
    cut.pop();
    let mut changed_root = root.der.clone();
    *changed_root.last_mut().unwrap() ^= 1;

    type Case<'a> = (&'a str, &'a Made, Vec<&'a [u8]>, &'a str);
    let cases: [Case<'_>; 15] = [
        ("none", &root, vec![], "the chain has no certificate"),
        ("no certificate", &root, vec![b"hello"], "the certificate number 1 of the chain is no X.509 certificate"),
        (
            "one cut off",
            &middle,
            vec![&middle.der, &cut],
            "the certificate number 2 of the chain is no X.509 certificate",
        ),
        (
            "another key's",
            &middle,
            vec![&issuing.der, &middle.der, &root.der],
            "the chain begins with the certificate \"CN=Issuing\", which is not for the issuer's key",
        ),
        (
            "the root first",
            &issuing,
            vec![&root.der, &middle.der, &issuing.der],
            "the chain begins with the certificate \"CN=Root\", which is not for the issuer's key",
        ),
        (
            "a gap",
            &issuing,
            vec![&issuing.der, &root.der],
            "the certificate \"CN=Issuing\" is not signed by the next one of the chain, \"CN=Root\"",
        ),
        (
            "another order",
            &issuing,
            vec![&issuing.der, &root.der, &middle.der],
            "the certificate \"CN=Issuing\" is not signed by the next one of the chain, \"CN=Root\"",
        ),
        (
            "a certificate of the same name by another key",
            &forged,
            vec![&forged.der, &root.der],
            "the certificate \"CN=Middle\" is not signed by the next one of the chain, \"CN=Root\"",
        ),
        (
            "a root whose signature is another's",
            &middle,
            vec![&middle.der, &changed_root],
            "the certificate \"CN=Root\" is not signed by the next one of the chain, \"CN=Root\"",
        ),
        (
            "no root",
            &issuing,
            vec![&issuing.der, &middle.der],
            "the chain ends with \"CN=Middle\", which is signed by \"CN=Root\"; append the certificates up to the root",
        ),
        (
            "something behind the root",
            &middle,
            vec![&middle.der, &root.der, &other_root.der],
            "the certificate \"CN=Root\" is not signed by the next one of the chain, \"CN=Root\"",
        ),
        (
            "a leaf",
            &leaf,
            vec![&leaf.der, &root.der],
            "the certificate \"CN=Leaf\" in the chain is not a CA certificate",
        ),
        (
            "one that may not sign",
            &without_sign,
            vec![&without_sign.der, &root.der],
            "the certificate \"CN=Middle\" in the chain has a key usage without keyCertSign",
        ),
        (
            "one that may not sign CRLs",
            &without_crl,
            vec![&without_crl.der, &root.der],
            "the certificate \"CN=Issuing\" in the chain has a key usage without cRLSign",
        ),
        (
            "too long a path",
            &under_under_under,
            vec![&under_under_under.der, &under_under.der, &under.der, &constrained.der],
            "the certificate \"CN=Root\" in the chain does not allow so many CA certificates under it",
        ),
    ];
    for (what, key, chain, text) in cases {
        let error = load(key.key(), &chain, now()).map(drop).unwrap_err().to_string();
        assert!(error.starts_with(text), "{what}: {error}");
        assert!(!error.contains('\n'), "{what}");
    }
    assert!(load(under.key(), &[&under.der, &constrained.der], now()).is_ok());
    assert!(
        load(under_under.key(), &[&under_under.der, &under.der, &constrained.der], now())
            .is_err_and(|it| matches!(it, IssuerError::PathTooLong { .. }))
    );
}

#[test]
fn a_chain_is_refused_before_and_after_its_time() {
    let root = make(parameters("Root"), None);
    let issuing = make(parameters("Issuing"), Some(&root));
    let at = |time: &str| load(issuing.key(), &[&issuing.der, &root.der], time.parse().unwrap()).map(drop);
    for time in ["2025-12-31T23:59:59Z", "2036-01-01T00:00:01Z"] {
        let error = at(time).unwrap_err();
        assert!(matches!(error, IssuerError::OutOfTime { .. }), "{error}");
        assert_eq!(
            error.to_string(),
            format!(
                "the certificate \"CN=Issuing\" in the chain is valid from 2026-01-01T00:00:00Z to 2036-01-01T00:00:00Z, and it is {time}"
            )
        );
    }
    for time in ["2026-01-01T00:00:00Z", "2036-01-01T00:00:00Z"] {
        assert!(at(time).is_ok(), "{time}");
    }
}

#[test]
fn urls_must_be_http_and_ascii() {
    let ca = ca(KeyType::EcP256);
    let root = make(parameters("Root"), None);
    for url in ["https://ca.example/crl", "ca.example", "http://cä.example/", "http://ca.example/a b", ""] {
        for profile in [
            Profile { crl_url: Some(url.to_owned()), ..profile() },
            Profile { issuer_url: Some(url.to_owned()), ..profile() },
        ] {
            let error = Issuer::new(Arc::new(root.key()), vec![root.der.clone()], profile, now()).map(drop);
            assert!(matches!(error, Err(IssuerError::BadUrl { .. })), "{url}");
        }
    }
    assert!(ca.issuer.not_after() > now().plus(DAY));
}

#[test]
fn files_are_read_with_text_and_other_blocks_between_the_certificates() {
    let directory = tempfile::tempdir().unwrap();
    let root = make(parameters("Root"), None);
    let issuing = make(parameters("Issuing"), Some(&root));
    let pem = |der: &[u8]| der::pem::encode_string("CERTIFICATE", der::pem::LineEnding::CRLF, der).unwrap();
    let (key_file, cert_file) = (directory.path().join("k"), directory.path().join("c"));
    issuing.key().write_new(&key_file).unwrap();
    let load = |text: String| {
        std::fs::write(&cert_file, text).unwrap();
        Issuer::load(&key_file, &cert_file, profile(), HashAlg::Sha256, now())
    };
    let issuer = load(format!("subject=Issuing\n{}\r\n\r\nthe root:\n{}", pem(&issuing.der), pem(&root.der))).unwrap();
    assert_eq!(issuer.root_der(), root.der);
    assert_eq!(issuer.certificate_der(), issuing.der);
    for text in [String::new(), "hello".to_owned(), pem(&issuing.der).replace("-----END", "-----")] {
        let error = load(text).map(drop).unwrap_err().to_string();
        assert!(error.starts_with(&format!("{}: no certificate chain is found here;", cert_file.display())), "{error}");
    }
    std::fs::remove_file(&cert_file).unwrap();
    let error = Issuer::load(&key_file, &cert_file, profile(), HashAlg::Sha256, now()).map(drop).unwrap_err();
    assert!(error.to_string().starts_with(&format!("{}: No such file", cert_file.display())), "{error}");
    assert_eq!(issuing.key().spki_der(), issuing.key().spki_der());
}

fn certifies(issuer: &Issuer, name: &str) -> Result<(), IssueError> {
    let csr = akamu_ca::Csr::parse(&request_for_names(&key(KeyType::EcP256), &[name])).unwrap();
    issuer.sign(&issuer.prepare(&csr, serial(1), now())?).map(drop)
}

#[test]
fn the_name_constraints_of_every_ca_certificate_hold() {
    let constrained = |name: &str, domain: &str| {
        let mut it = parameters(name);
        let permitted_subtrees = vec![GeneralSubtree::DnsName(domain.to_owned())];
        it.name_constraints = Some(NameConstraints { permitted_subtrees, excluded_subtrees: Vec::new() });
        it
    };
    for constrains in 0..3 {
        let of = |level: usize, name: &str| {
            if level == constrains { constrained(name, "corp.example") } else { parameters(name) }
        };
        let root = make(of(0, "Root"), None);
        let middle = make(of(1, "Middle"), Some(&root));
        let issuing = make(of(2, "Issuing"), Some(&middle));
        let issuer = load(issuing.key(), &[&issuing.der, &middle.der, &root.der], now()).unwrap();
        certifies(&issuer, "a.corp.example").unwrap();
        let refused = certifies(&issuer, "a.other.example");
        assert!(matches!(refused, Err(IssueError::Unsound(_))), "level {constrains}: {refused:?}");
    }
    // Two that leave nothing in common.
    let root = make(constrained("Root", "a.example"), None);
    let issuing = make(constrained("Issuing", "b.example"), Some(&root));
    let issuer = load(issuing.key(), &[&issuing.der, &root.der], now()).unwrap();
    for name in ["x.a.example", "x.b.example"] {
        assert!(matches!(certifies(&issuer, name), Err(IssueError::Unsound(_))), "{name}");
    }
}

/// The extended key usages of a leaf by this issuer.
fn usages_of_a_leaf(issuer: &Issuer) -> Vec<String> {
    let csr = akamu_ca::Csr::parse(&request_for_names(&key(KeyType::EcP256), &["a.example"])).unwrap();
    let issued = issuer.sign(&issuer.prepare(&csr, serial(1), now()).unwrap()).unwrap();
    let leaf = x509_cert::Certificate::from_der(issued.der()).unwrap();
    use x509_cert::ext::pkix::ExtendedKeyUsage;
    let (_, usages) = leaf.tbs_certificate().get_extension::<ExtendedKeyUsage>().unwrap().unwrap();
    usages.0.iter().map(ToString::to_string).collect()
}

#[test]
fn a_leaf_has_the_usages_that_every_ca_certificate_allows() {
    use ExtendedKeyUsagePurpose::{Any, ClientAuth, EmailProtection, ServerAuth};
    const SERVER: &str = "1.3.6.1.5.5.7.3.1";
    const CLIENT: &str = "1.3.6.1.5.5.7.3.2";
    let with = |name: &str, usages: &[ExtendedKeyUsagePurpose]| {
        let mut it = parameters(name);
        it.extended_key_usages = usages.to_vec();
        it
    };
    // Of the root, of the issuing certificate, and of a leaf, or the subject that leaves none.
    type Case<'a> = (&'a [ExtendedKeyUsagePurpose], &'a [ExtendedKeyUsagePurpose], Result<&'a [&'a str], &'a str>);
    let cases: [Case<'_>; 12] = [
        (&[], &[], Ok(&[SERVER, CLIENT])),
        (&[], &[ServerAuth, ClientAuth], Ok(&[SERVER, CLIENT])),
        (&[], &[ClientAuth, EmailProtection, ServerAuth], Ok(&[SERVER, CLIENT])),
        (&[], &[ServerAuth], Ok(&[SERVER])),
        (&[], &[ClientAuth], Ok(&[CLIENT])),
        (&[], &[Any], Ok(&[SERVER, CLIENT])),
        (&[], &[EmailProtection, Any], Ok(&[SERVER, CLIENT])),
        (&[ServerAuth], &[], Ok(&[SERVER])),
        (&[ServerAuth], &[Any], Ok(&[SERVER])),
        (&[ServerAuth], &[ServerAuth, ClientAuth], Ok(&[SERVER])),
        (&[ServerAuth], &[ClientAuth], Err("CN=Root")),
        (&[], &[EmailProtection], Err("CN=Issuing")),
    ];
    for (of_root, of_issuing, expected) in cases {
        let root = make(with("Root", of_root), None);
        let issuing = make(with("Issuing", of_issuing), Some(&root));
        let what = format!("{of_root:?} {of_issuing:?}");
        match (load(issuing.key(), &[&issuing.der, &root.der], now()), expected) {
            (Ok(issuer), Ok(expected)) => {
                assert_eq!(usages_of_a_leaf(&issuer), expected, "{what}");
                let own = issuer.issue_server_certificate(&[crate::support::dns("a.example")], serial(2), now());
                assert_eq!(own.is_ok(), expected.contains(&SERVER), "{what}");
                assert!(own.is_ok() || matches!(own, Err(IssueError::NotForServers)), "{what}");
            }
            (Err(error @ IssuerError::ExtendedKeyUsage { .. }), Err(expected)) => {
                let text = error.to_string();
                assert!(text.contains(&format!("{expected:?}")) && !text.contains('\n'), "{what}: {text}");
            }
            (other, _) => panic!("{what}: {:?}", other.map(drop)),
        }
    }
}
