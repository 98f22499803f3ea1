//! A linter of our own: what RFC 5280 and the CA/Browser Forum's Baseline Requirements (§7.1) say of certificates and
//! what can be told from one, for every kind of key.

use akamu_ca::{KeyType, SigningKey as _};
use akamu_proto::{Identifier, Timestamp};
use der::{Decode as _, Encode as _};
use sha2::{Digest as _, Sha256};
use x509_cert::Certificate;
use x509_cert::ext::pkix::name::{DistributionPointName, GeneralName};
use x509_cert::ext::pkix::{
    AuthorityInfoAccessSyntax, AuthorityKeyIdentifier, BasicConstraints, CrlDistributionPoints, ExtendedKeyUsage,
    KeyUsage, SubjectAltName, SubjectKeyIdentifier,
};
use x509_cert::time::Time;

use crate::support::{
    Ca, DAY, KEY_TYPES, KINDS, ca, ca_with, common_name, dns_name, extension_request, first_run, ip_name, key, now,
    profile, request, san, subject,
};

fn parse(der: &[u8]) -> Certificate {
    let certificate = Certificate::from_der(der).unwrap();
    assert_eq!(certificate.to_der().unwrap(), der, "it is not DER");
    certificate
}

fn timestamp(time: Time) -> Timestamp {
    Timestamp::from_unix_secs(i64::try_from(time.to_unix_duration().as_secs()).unwrap())
}

fn key_identifier(certificate: &Certificate) -> Vec<u8> {
    let key = certificate.tbs_certificate().subject_public_key_info().subject_public_key.raw_bytes();
    Sha256::digest(key)[..20].to_vec()
}

/// What holds for each certificate.
fn lint(certificate: &Certificate, issuer: &Certificate) {
    let tbs = certificate.tbs_certificate();
    assert_eq!(tbs.version(), x509_cert::Version::V3);
    assert_eq!(tbs.signature(), certificate.signature_algorithm());
    assert_eq!(tbs.issuer(), issuer.tbs_certificate().subject());
    assert!(tbs.issuer_unique_id().is_none() && tbs.subject_unique_id().is_none());
    let serial = tbs.serial_number().as_bytes();
    assert!((8..=20).contains(&serial.len()) && serial[0] < 0x80, "{serial:x?}");
    let mut oids: Vec<_> = tbs.extensions().unwrap().iter().map(|it| it.extn_id).collect();
    let count = oids.len();
    oids.sort();
    oids.dedup();
    assert_eq!(oids.len(), count, "an extension stands twice");
    let (critical, authority) = tbs.get_extension::<AuthorityKeyIdentifier>().unwrap().unwrap();
    assert!(!critical && authority.authority_cert_issuer.is_none() && authority.authority_cert_serial_number.is_none());
    let (_, issuers_identifier) = issuer.tbs_certificate().get_extension::<SubjectKeyIdentifier>().unwrap().unwrap();
    assert_eq!(authority.key_identifier, Some(issuers_identifier.0));
    let (critical, identifier) = tbs.get_extension::<SubjectKeyIdentifier>().unwrap().unwrap();
    assert!(!critical);
    assert_eq!(identifier.0.as_bytes(), key_identifier(certificate), "RFC 7093 §2 method 1");
    for time in [tbs.validity().not_before, tbs.validity().not_after] {
        assert_eq!(matches!(time, Time::UtcTime(_)), time.to_date_time().year() < 2050, "RFC 5280 §4.1.2.5");
    }
}

fn lint_leaf(ca: &Ca, der: &[u8], is_rsa: bool, names: &[GeneralName], has_subject: bool) {
    let (leaf, issuer) = (parse(der), parse(ca.issuer.certificate_der()));
    lint(&leaf, &issuer);
    let tbs = leaf.tbs_certificate();
    let (critical, constraints) = tbs.get_extension::<BasicConstraints>().unwrap().unwrap();
    assert!(critical && !constraints.ca && constraints.path_len_constraint.is_none());
    let (critical, usage) = tbs.get_extension::<KeyUsage>().unwrap().unwrap();
    assert!(critical && usage.digital_signature());
    assert_eq!(usage.key_encipherment(), is_rsa);
    assert!(!usage.key_cert_sign() && !usage.crl_sign() && !usage.key_agreement() && !usage.data_encipherment());
    let (critical, usage) = tbs.get_extension::<ExtendedKeyUsage>().unwrap().unwrap();
    assert!(!critical);
    let usage: Vec<_> = usage.0.iter().map(ToString::to_string).collect();
    assert_eq!(usage, ["1.3.6.1.5.5.7.3.1", "1.3.6.1.5.5.7.3.2"]);
    let (critical, found) = tbs.get_extension::<SubjectAltName>().unwrap().unwrap();
    assert_eq!(critical, !has_subject, "RFC 5280 §4.2.1.6");
    assert_eq!(tbs.subject().is_empty(), !has_subject);
    assert_eq!(found.0, names);
    let (critical, points) = tbs.get_extension::<CrlDistributionPoints>().unwrap().unwrap();
    let [point] = points.0.as_slice() else { panic!("{points:?}") };
    let Some(DistributionPointName::FullName(urls)) = &point.distribution_point else { panic!("{point:?}") };
    let uri = |text: &str| GeneralName::UniformResourceIdentifier(der::asn1::Ia5String::new(text).unwrap());
    assert!(!critical && point.reasons.is_none() && point.crl_issuer.is_none());
    assert_eq!(urls, &[uri("http://ca.example/ca/crl")]);
    let (critical, access) = tbs.get_extension::<AuthorityInfoAccessSyntax>().unwrap().unwrap();
    let [access] = access.0.as_slice() else { panic!("{access:?}") };
    assert!(!critical);
    assert_eq!(access.access_method.to_string(), "1.3.6.1.5.5.7.48.2");
    assert_eq!(access.access_location, uri("http://ca.example/ca/issuer.der"));
    assert_eq!(timestamp(tbs.validity().not_before), now().minus(DAY / 24));
    assert_eq!(timestamp(tbs.validity().not_after), now().plus(DAY * 90));
    assert_eq!(tbs.extensions().unwrap().len(), 8);
}

#[test]
fn leaves_of_every_kind_of_key_keep_to_the_profile() {
    let name = |text: &str| GeneralName::DnsName(der::asn1::Ia5String::new(text).unwrap());
    let address = GeneralName::from(std::net::IpAddr::from([192, 0, 2, 1]));
    let general_names = [dns_name("nas.example"), dns_name("*.nas.example"), ip_name(&[192, 0, 2, 1])];
    let names = [name("nas.example"), name("*.nas.example"), address];
    let subjects = KINDS.map(|it| (key(it), it == KeyType::Rsa2048));
    for issuer_type in KINDS {
        let ca = ca(issuer_type);
        for (subject_key, is_rsa) in &subjects {
            let attributes = [extension_request(&[san(&general_names)])];
            let without = ca.issue(&request(subject_key, &subject(&[]), &attributes));
            lint_leaf(&ca, without.der(), *is_rsa, &names, false);
            let with = ca.issue(&request(subject_key, &common_name("NAS.example"), &attributes));
            lint_leaf(&ca, with.der(), *is_rsa, &names, true);
            assert_eq!(parse(with.der()).tbs_certificate().subject().to_string(), "CN=nas.example");
            let spki = parse(with.der()).tbs_certificate().subject_public_key_info().to_der().unwrap();
            assert_eq!(spki, subject_key.spki_der());
        }
    }
}

#[test]
fn a_common_name_of_more_than_64_octets_is_left_out() {
    let ca = ca(KeyType::EcP256);
    let labels = "a".repeat(50);
    for (name, stands) in
        [(format!("{labels}.{}.test", "b".repeat(8)), true), (format!("{labels}.{}.test", "b".repeat(9)), false)]
    {
        let leaf = parse(ca.issue(&request(&key(KeyType::EcP256), &common_name(&name), &[])).der());
        assert_eq!(leaf.tbs_certificate().subject().is_empty(), !stands, "{} octets", name.len());
    }
}

#[test]
fn without_urls_there_is_neither_a_distribution_point_nor_an_access_description() {
    let ca = ca_with(&first_run(KeyType::EcP256), akamu_ca::Profile { crl_url: None, issuer_url: None, ..profile() });
    let leaf = parse(ca.issue(&request(&key(KeyType::EcP256), &common_name("a.example"), &[])).der());
    assert_eq!(leaf.tbs_certificate().get_extension::<CrlDistributionPoints>().unwrap(), None);
    assert_eq!(leaf.tbs_certificate().get_extension::<AuthorityInfoAccessSyntax>().unwrap(), None);
}

#[test]
fn ca_certificates_keep_to_the_profile() {
    for key_type in KEY_TYPES {
        let ca = ca(key_type);
        let (root, issuing) = (parse(ca.issuer.root_der()), parse(ca.issuer.certificate_der()));
        for (certificate, path_len, years) in [(&root, None, 20), (&issuing, Some(0), 10)] {
            lint(certificate, &root);
            let tbs = certificate.tbs_certificate();
            let (critical, constraints) = tbs.get_extension::<BasicConstraints>().unwrap().unwrap();
            assert!(critical && constraints.ca);
            assert_eq!(constraints.path_len_constraint, path_len);
            let (critical, usage) = tbs.get_extension::<KeyUsage>().unwrap().unwrap();
            assert!(critical && usage.key_cert_sign() && usage.crl_sign() && !usage.digital_signature());
            assert_eq!(timestamp(tbs.validity().not_before), now().minus(DAY / 24));
            assert_eq!(timestamp(tbs.validity().not_after), now().plus(DAY * 365 * years));
            assert_eq!(tbs.get_extension::<ExtendedKeyUsage>().unwrap().is_some(), path_len.is_some());
        }
        // The order is that of the Name, organization first; RFC 4514 shows the last first.
        assert_eq!(root.tbs_certificate().subject().to_string(), r"CN=Example Root,O=Ex\, Ample \+ Sons");
        assert_eq!(issuing.tbs_certificate().subject().to_string(), r"CN=Example Issuing CA,O=Ex\, Ample \+ Sons");
        assert_ne!(root.tbs_certificate().serial_number(), issuing.tbs_certificate().serial_number());
    }
}

#[test]
fn a_name_stands_once_and_in_a_fixed_order() {
    let ca = ca(KeyType::EcP256);
    let key = key(KeyType::EcP256);
    let of = |names: &[&str]| {
        let names: Vec<_> = names.iter().map(|it| dns_name(it)).collect();
        let der = ca.issue(&request(&key, &subject(&[]), &[extension_request(&[san(&names)])])).der().to_vec();
        akamu_ca::KnownCertificate::parse(&der).unwrap().names().iter().map(Identifier::value).collect::<Vec<_>>()
    };
    assert_eq!(of(&["b.example", "a.example", "B.example"]), ["a.example", "b.example"]);
    assert_eq!(of(&["a.example", "b.example"]), ["a.example", "b.example"]);
}
