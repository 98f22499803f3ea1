//! Between our types and ASN.1: times, names, extensions, PEM.

use std::time::Duration;

use akamu_proto::Timestamp;
use der::asn1::{GeneralizedTime, ObjectIdentifier, OctetString, UtcTime};
use der::pem::LineEnding;
use der::{Any, Decode as _, Encode, Tag};
use sha2::{Digest as _, Sha256};
use x509_cert::Certificate;
use x509_cert::attr::AttributeTypeAndValue;
use x509_cert::ext::Extension;
use x509_cert::name::{Name, RdnSequence, RelativeDistinguishedName};
use x509_cert::time::Time;

const COMMON_NAME: ObjectIdentifier = ObjectIdentifier::new_unwrap("2.5.4.3");
const ORGANIZATION: ObjectIdentifier = ObjectIdentifier::new_unwrap("2.5.4.10");

/// RFC 5280 §4.1.2.5: UTCTime through 2049, GeneralizedTime from 2050.
pub(crate) fn time(timestamp: Timestamp) -> der::Result<Time> {
    let since_epoch = Duration::from_secs(u64::try_from(timestamp.unix_secs()).unwrap_or(0));
    match UtcTime::from_unix_duration(since_epoch) {
        Ok(time) => Ok(Time::UtcTime(time)),
        Err(_) => GeneralizedTime::from_unix_duration(since_epoch).map(Time::GeneralTime),
    }
}

fn timestamp(time: Time) -> Timestamp {
    Timestamp::from_unix_secs(i64::try_from(time.to_unix_duration().as_secs()).unwrap_or(i64::MAX))
}

/// Start and end of a certificate's validity.
pub(crate) fn validity(certificate: &Certificate) -> (Timestamp, Timestamp) {
    let validity = certificate.tbs_certificate().validity();
    (timestamp(validity.not_before), timestamp(validity.not_after))
}

/// An extension with this value.
pub(crate) fn extension(oid: ObjectIdentifier, critical: bool, value: &impl Encode) -> der::Result<Extension> {
    Ok(Extension { extn_id: oid, critical, extn_value: OctetString::new(value.to_der()?)? })
}

/// A distinguished name of these attributes, in this order. UTF8String (RFC 5280 §4.1.2.4).
pub(crate) fn distinguished_name(organization: Option<&str>, common_name: &str) -> der::Result<Name> {
    let mut name = RdnSequence::default();
    for (oid, text) in organization.map(|it| (ORGANIZATION, it)).into_iter().chain([(COMMON_NAME, common_name)]) {
        let value = Any::new(Tag::Utf8String, text.as_bytes())?;
        name.push(RelativeDistinguishedName::try_from(vec![AttributeTypeAndValue { oid, value }])?);
    }
    Name::from_der(&name.to_der()?)
}

/// RFC 7093 §2 method 1: the first 20 octets of the SHA-256 of the public key's bits.
pub(crate) fn key_identifier(public_key: &[u8]) -> der::Result<OctetString> {
    let digest = Sha256::digest(public_key);
    OctetString::new(digest.get(..20).unwrap_or_default())
}

/// A certificate, DER, as one PEM block (RFC 7468 §5): LF line endings, with a newline at the end.
pub fn certificate_pem(der: &[u8]) -> String {
    der::pem::encode_string("CERTIFICATE", LineEnding::LF, der).unwrap_or_default()
}
