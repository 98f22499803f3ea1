//! The profile of an end-entity certificate (RFC 5280 §4).

use std::time::Duration;

use akamu_proto::{Identifier, Timestamp};
use der::asn1::{Ia5String, ObjectIdentifier};
use der::flagset::FlagSet;
use der::{Any, Decode as _, Encode as _, Sequence};
use x509_cert::Version;
use x509_cert::ext::Extension;
use x509_cert::ext::pkix::crl::dp::DistributionPoint;
use x509_cert::ext::pkix::name::{DistributionPointName, GeneralName};
use x509_cert::ext::pkix::{
    AccessDescription, AuthorityInfoAccessSyntax, AuthorityKeyIdentifier, BasicConstraints, CrlDistributionPoints,
    ExtendedKeyUsage, KeyUsage, KeyUsages, SubjectKeyIdentifier,
};
use x509_cert::name::Name;
use x509_cert::serial_number::SerialNumber;
use x509_cert::spki::AlgorithmIdentifierOwned;
use x509_cert::time::Validity;

use crate::csr::Csr;
use crate::encoding::{self, extension};
use crate::issuer::{IssueError, Issuer};
use crate::key::{FileKey, KeyError, SigningKey};
use crate::public_key::PublicKey;
use crate::serial::Serial;
use crate::subject_alt_name;

/// How far the start of validity lies back: clients' clocks are wrong.
pub(crate) const BACKDATE: Duration = Duration::from_secs(3_600);

pub(crate) const SUBJECT_KEY_IDENTIFIER: ObjectIdentifier = ObjectIdentifier::new_unwrap("2.5.29.14");
pub(crate) const KEY_USAGE: ObjectIdentifier = ObjectIdentifier::new_unwrap("2.5.29.15");
pub(crate) const SUBJECT_ALT_NAME: ObjectIdentifier = ObjectIdentifier::new_unwrap("2.5.29.17");
pub(crate) const BASIC_CONSTRAINTS: ObjectIdentifier = ObjectIdentifier::new_unwrap("2.5.29.19");
pub(crate) const NAME_CONSTRAINTS: ObjectIdentifier = ObjectIdentifier::new_unwrap("2.5.29.30");
const CRL_DISTRIBUTION_POINTS: ObjectIdentifier = ObjectIdentifier::new_unwrap("2.5.29.31");
pub(crate) const AUTHORITY_KEY_IDENTIFIER: ObjectIdentifier = ObjectIdentifier::new_unwrap("2.5.29.35");
pub(crate) const EXTENDED_KEY_USAGE: ObjectIdentifier = ObjectIdentifier::new_unwrap("2.5.29.37");
const AUTHORITY_INFORMATION_ACCESS: ObjectIdentifier = ObjectIdentifier::new_unwrap("1.3.6.1.5.5.7.1.1");
const CA_ISSUERS: ObjectIdentifier = ObjectIdentifier::new_unwrap("1.3.6.1.5.5.7.48.2");
pub(crate) const SERVER_AUTH: ObjectIdentifier = ObjectIdentifier::new_unwrap("1.3.6.1.5.5.7.3.1");
pub(crate) const CLIENT_AUTH: ObjectIdentifier = ObjectIdentifier::new_unwrap("1.3.6.1.5.5.7.3.2");

/// TBSCertificate (RFC 5280 §4.1), to be written.
#[derive(Sequence)]
pub(crate) struct Tbs {
    #[asn1(context_specific = "0", default = "Default::default")]
    pub(crate) version: Version,
    pub(crate) serial_number: SerialNumber,
    pub(crate) signature: AlgorithmIdentifierOwned,
    pub(crate) issuer: Name,
    pub(crate) validity: Validity,
    pub(crate) subject: Name,
    pub(crate) subject_public_key_info: Any,
    #[asn1(context_specific = "3", tag_mode = "EXPLICIT", optional = "true")]
    pub(crate) extensions: Option<Vec<Extension>>,
}

/// The authority key identifier that says which key signs.
pub(crate) fn authority_key_identifier(issuer: &Issuer) -> Result<Extension, IssueError> {
    let spki = issuer.certificate().tbs_certificate().subject_public_key_info();
    // The issuer's own subject key identifier, however it was made.
    let key_identifier = match issuer.certificate().tbs_certificate().get_extension::<SubjectKeyIdentifier>() {
        Ok(Some((_, identifier))) => identifier.0,
        _ => encoding::key_identifier(spki.subject_public_key.raw_bytes())?,
    };
    let value = AuthorityKeyIdentifier {
        key_identifier: Some(key_identifier),
        authority_cert_issuer: None,
        authority_cert_serial_number: None,
    };
    Ok(extension(AUTHORITY_KEY_IDENTIFIER, false, &value)?)
}

struct Subject<'a> {
    key: &'a PublicKey,
    common_name: Option<&'a str>,
    names: Vec<&'a Identifier>,
}

pub(crate) fn prepare(issuer: &Issuer, csr: &Csr, serial: Serial, now: Timestamp) -> Result<Vec<u8>, IssueError> {
    let subject = Subject { key: &csr.key, common_name: csr.common_name.as_deref(), names: csr.names().collect() };
    tbs(issuer, &subject, serial, now)
}

pub(crate) fn prepare_for_key(
    issuer: &Issuer,
    key: &FileKey,
    names: &[Identifier],
    serial: Serial,
    now: Timestamp,
) -> Result<Vec<u8>, IssueError> {
    let key = PublicKey::parse(&key.spki_der()).map_err(|_| KeyError::Failed("be written"))?;
    let subject = Subject { key: &key, common_name: None, names: names.iter().collect() };
    tbs(issuer, &subject, serial, now)
}

fn tbs(issuer: &Issuer, subject: &Subject<'_>, serial: Serial, now: Timestamp) -> Result<Vec<u8>, IssueError> {
    let (start, end) = issuer.chain.validity();
    if now >= end {
        return Err(IssueError::Expired { not_after: end });
    }
    let not_before = now.minus(BACKDATE).floor_secs().max(start);
    let not_after = now.plus(issuer.profile.validity).floor_secs().min(end);
    let subject_name = match subject.common_name {
        Some(name) => encoding::distinguished_name(None, name)?,
        None => Name::default(),
    };
    let has_empty_subject = subject_name.is_empty();
    let mut usages: FlagSet<KeyUsages> = KeyUsages::DigitalSignature.into();
    if subject.key.is_rsa() {
        usages |= KeyUsages::KeyEncipherment;
    }
    let alternative_names = subject_alt_name::build(subject.names.iter().copied())?;
    let mut extensions = vec![
        authority_key_identifier(issuer)?,
        extension(SUBJECT_KEY_IDENTIFIER, false, &SubjectKeyIdentifier(encoding::key_identifier(subject.key.bits())?))?,
        extension(KEY_USAGE, true, &KeyUsage(usages))?,
        extension(EXTENDED_KEY_USAGE, false, &ExtendedKeyUsage(issuer.chain.usages().to_vec()))?,
        extension(BASIC_CONSTRAINTS, true, &BasicConstraints { ca: false, path_len_constraint: None })?,
        // RFC 5280 §4.2.1.6: critical where the subject is empty.
        extension(SUBJECT_ALT_NAME, has_empty_subject, &alternative_names)?,
    ];
    let url = |url: &str| Ia5String::new(url).map(GeneralName::UniformResourceIdentifier);
    if let Some(crl_url) = &issuer.profile.crl_url {
        let point = DistributionPoint {
            distribution_point: Some(DistributionPointName::FullName(vec![url(crl_url)?])),
            reasons: None,
            crl_issuer: None,
        };
        extensions.push(extension(CRL_DISTRIBUTION_POINTS, false, &CrlDistributionPoints(vec![point]))?);
    }
    if let Some(issuer_url) = &issuer.profile.issuer_url {
        let access = AccessDescription { access_method: CA_ISSUERS, access_location: url(issuer_url)? };
        extensions.push(extension(AUTHORITY_INFORMATION_ACCESS, false, &AuthorityInfoAccessSyntax(vec![access]))?);
    }
    let tbs = Tbs {
        version: Version::V3,
        serial_number: SerialNumber::new(serial.as_octets())?,
        signature: issuer.key.algorithm(),
        issuer: issuer.certificate().tbs_certificate().subject().clone(),
        validity: Validity::new(encoding::time(not_before)?, encoding::time(not_after)?),
        subject: subject_name,
        subject_public_key_info: Any::from_der(subject.key.spki_der())?,
        extensions: Some(extensions),
    };
    Ok(tbs.to_der()?)
}
