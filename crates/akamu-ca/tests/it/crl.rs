//! CRLs (RFC 5280 §5).

use std::time::Duration;

use akamu_ca::{FirstRun, HashAlg, KeyType, Revoked};
use akamu_proto::RevocationReason;
use der::{Decode as _, Encode as _};
use x509_cert::crl::CertificateList;
use x509_cert::ext::pkix::{AuthorityKeyIdentifier, CrlNumber, CrlReason, SubjectKeyIdentifier};

use crate::support::{DAY, KINDS, ca, ca_with, first_run, now, profile, serial};

fn revoked(octet: u8, reason: RevocationReason) -> Revoked {
    Revoked { serial: serial(octet).as_octets().to_vec(), revoked_at: now(), reason }
}

#[test]
fn a_list_says_what_was_revoked_when_and_why() {
    let ca = ca(KeyType::EcP256);
    let reasons = [
        (RevocationReason::PrivilegeWithdrawn, Some(CrlReason::PrivilegeWithdrawn)),
        (RevocationReason::Unspecified, None),
        (RevocationReason::KeyCompromise, Some(CrlReason::KeyCompromise)),
        (RevocationReason::AffiliationChanged, Some(CrlReason::AffiliationChanged)),
        (RevocationReason::Superseded, Some(CrlReason::Superseded)),
        (RevocationReason::CessationOfOperation, Some(CrlReason::CessationOfOperation)),
    ];
    let entries: Vec<_> =
        reasons.iter().zip([6_u8, 5, 4, 3, 2, 1]).map(|((reason, _), at)| revoked(at, *reason)).collect();
    let der = ca.issuer.crl(7, now(), now().plus(DAY), &entries).unwrap();
    let list = CertificateList::<x509_cert::certificate::Rfc5280>::from_der(&der).unwrap();
    assert_eq!(list.to_der().unwrap(), der);
    let tbs = &list.tbs_cert_list;
    assert_eq!(tbs.version, x509_cert::Version::V2);
    assert_eq!(tbs.signature, list.signature_algorithm);
    let issuer = x509_cert::Certificate::from_der(ca.issuer.certificate_der()).unwrap();
    assert_eq!(&tbs.issuer, issuer.tbs_certificate().subject());
    let (now, hour) = (Duration::from_secs(now().unix_secs().unsigned_abs()), Duration::from_secs(3_600));
    assert_eq!(tbs.this_update.to_unix_duration(), now - hour, "for those whose clocks are behind");
    assert_eq!(tbs.next_update.unwrap().to_unix_duration(), now + DAY);

    let found = tbs.revoked_certificates.as_ref().unwrap();
    let serials: Vec<_> = found.iter().map(|it| it.serial_number.as_bytes()[15]).collect();
    assert_eq!(serials, [1, 2, 3, 4, 5, 6], "in the order of their numbers");
    for (entry, (_, reason)) in found.iter().rev().zip(reasons) {
        assert_eq!(entry.revocation_date.to_unix_duration(), now);
        let extensions = entry.crl_entry_extensions.as_deref().unwrap_or_default();
        let found: Vec<_> =
            extensions.iter().map(|it| CrlReason::from_der(it.extn_value.as_bytes()).unwrap()).collect();
        assert_eq!(found, Vec::from_iter(reason));
        assert!(extensions.iter().all(|it| it.extn_id.to_string() == "2.5.29.21" && !it.critical));
    }

    let extensions = tbs.crl_extensions.as_ref().unwrap();
    let value = |oid: &str| extensions.iter().find(|it| it.extn_id.to_string() == oid).unwrap();
    assert_eq!(extensions.len(), 2);
    let number = CrlNumber::from_der(value("2.5.29.20").extn_value.as_bytes()).unwrap();
    assert_eq!(number.0.as_bytes(), [7]);
    let authority = AuthorityKeyIdentifier::from_der(value("2.5.29.35").extn_value.as_bytes()).unwrap();
    let (_, identifier) = issuer.tbs_certificate().get_extension::<SubjectKeyIdentifier>().unwrap().unwrap();
    assert_eq!(authority.key_identifier, Some(identifier.0));
}

#[test]
fn the_order_of_the_entries_and_one_given_twice_change_nothing() {
    let ca = ca(KeyType::Ed25519);
    let [one, two] = [1, 2].map(|it| revoked(it, RevocationReason::Superseded));
    let list = |entries: &[Revoked]| ca.issuer.crl(1, now(), now().plus(DAY), entries).unwrap();
    assert_eq!(list(&[one.clone(), two.clone()]), list(&[two.clone(), one.clone(), two]));
    assert_ne!(list(&[one]), list(&[]));
}

#[test]
fn a_list_of_nothing_has_no_list() {
    let ca = ca(KeyType::EcP256);
    let der = ca.issuer.crl(1, now(), now().plus(DAY), &[]).unwrap();
    let list = CertificateList::<x509_cert::certificate::Rfc5280>::from_der(&der).unwrap();
    assert_eq!(list.tbs_cert_list.revoked_certificates, None, "RFC 5280 §5.1.2.6");
}

#[test]
fn the_hash_is_the_keys_or_for_rsa_the_configured_one() {
    let algorithm = |key_type, hash| {
        let ca = ca_with(&FirstRun { hash, ..first_run(key_type) }, profile());
        let der = ca.issuer.crl(1, now(), now().plus(DAY), &[]).unwrap();
        let list = CertificateList::<x509_cert::certificate::Rfc5280>::from_der(&der).unwrap();
        list.signature_algorithm.oid.to_string()
    };
    for hash in [HashAlg::Sha256, HashAlg::Sha512] {
        assert_eq!(algorithm(KeyType::EcP256, hash), "1.2.840.10045.4.3.2");
        assert_eq!(algorithm(KeyType::EcP384, hash), "1.2.840.10045.4.3.3");
        assert_eq!(algorithm(KeyType::Ed25519, hash), "1.3.101.112");
    }
    assert_eq!(algorithm(KeyType::Rsa2048, HashAlg::Sha256), "1.2.840.113549.1.1.11");
    assert_eq!(algorithm(KeyType::Rsa2048, HashAlg::Sha384), "1.2.840.113549.1.1.12");
    assert_eq!(algorithm(KeyType::Rsa2048, HashAlg::Sha512), "1.2.840.113549.1.1.13");
}

/// rustls-webpki as a client that was given the list.
#[test]
fn webpki_reads_the_list_of_every_kind_of_key() {
    for key_type in KINDS {
        let ca = ca(key_type);
        let entries = [revoked(1, RevocationReason::KeyCompromise), revoked(2, RevocationReason::Unspecified)];
        let der = ca.issuer.crl(i64::MAX, now(), now().plus(DAY), &entries).unwrap();
        let list = webpki::OwnedCertRevocationList::from_der(&der).unwrap();
        let list = webpki::CertRevocationList::from(list);
        assert!(list.find_serial(serial(1).as_octets()).unwrap().is_some(), "{key_type:?}");
        assert!(list.find_serial(serial(3).as_octets()).unwrap().is_none(), "{key_type:?}");
    }
}
