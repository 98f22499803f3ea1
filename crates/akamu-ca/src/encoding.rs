//! Between our types and ASN.1: times, names, extensions, PEM.

use std::net::IpAddr;
use std::time::Duration;

use akamu_proto::{Identifier, Timestamp};
use der::Encode;
use der::asn1::{GeneralizedTime, Ia5String, ObjectIdentifier, OctetString, UtcTime};
use der::pem::LineEnding;
use sha2::{Digest as _, Sha256};
use x509_cert::ext::Extension;
use x509_cert::ext::pkix::name::GeneralName;
use x509_cert::name::Name;
use x509_cert::time::Time;

/// RFC 5280 §4.1.2.5: UTCTime through 2049, GeneralizedTime from 2050.
pub(crate) fn time(timestamp: Timestamp) -> der::Result<Time> {
    let since_epoch = Duration::from_secs(u64::try_from(timestamp.unix_secs()).unwrap_or(0));
    match UtcTime::from_unix_duration(since_epoch) {
        Ok(time) => Ok(Time::UtcTime(time)),
        Err(_) => GeneralizedTime::from_unix_duration(since_epoch).map(Time::GeneralTime),
    }
}

pub(crate) fn timestamp(time: Time) -> Timestamp {
    Timestamp::from_unix_secs(i64::try_from(time.to_unix_duration().as_secs()).unwrap_or(i64::MAX))
}

/// An extension with this value.
pub(crate) fn extension(oid: ObjectIdentifier, critical: bool, value: &impl Encode) -> der::Result<Extension> {
    Ok(Extension { extn_id: oid, critical, extn_value: OctetString::new(value.to_der()?)? })
}

/// An identifier as a subject alternative name.
pub(crate) fn general_name(identifier: &Identifier) -> der::Result<GeneralName> {
    Ok(match identifier {
        Identifier::Dns(_) | Identifier::Wildcard(_) => GeneralName::DnsName(Ia5String::new(&identifier.value())?),
        Identifier::Ip(IpAddr::V4(address)) => GeneralName::IpAddress(OctetString::new(address.octets())?),
        Identifier::Ip(IpAddr::V6(address)) => GeneralName::IpAddress(OctetString::new(address.octets())?),
    })
}

/// A subject alternative name as an identifier. `Err` says, for a client, what is wrong with it.
pub(crate) fn identifier(name: &GeneralName) -> Result<Identifier, String> {
    match name {
        GeneralName::DnsName(name) => {
            Identifier::dns(name.as_str()).map_err(|error| format!("{:?}: {error}", name.as_str()))
        }
        GeneralName::IpAddress(octets) => {
            let octets = octets.as_bytes();
            let address = <[u8; 4]>::try_from(octets)
                .map(IpAddr::from)
                .or_else(|_| <[u8; 16]>::try_from(octets).map(IpAddr::from));
            let address = address.map_err(|_| format!("an IP address of {} octets", octets.len()))?;
            Identifier::ip(&address.to_string()).map_err(|error| format!("{address}: {error}"))
        }
        GeneralName::Rfc822Name(_) => Err("an e-mail address".to_owned()),
        GeneralName::UniformResourceIdentifier(_) => Err("a URI".to_owned()),
        GeneralName::OtherName(_)
        | GeneralName::DirectoryName(_)
        | GeneralName::EdiPartyName(_)
        | GeneralName::RegisteredId(_) => Err("a name of another type than dns and ip".to_owned()),
    }
}

/// A distinguished name with these attributes, in this order.
pub(crate) fn distinguished_name(organization: Option<&str>, common_name: &str) -> der::Result<Name> {
    let escaped = |text: &str| {
        text.chars().fold(String::new(), |mut out, c| {
            if matches!(c, ',' | '+' | '"' | '\\' | '<' | '>' | ';' | '=' | '#') {
                out.push('\\');
            }
            out.push(c);
            out
        })
    };
    // RFC 4514 writes the last attribute first.
    let mut text = format!("CN={}", escaped(common_name));
    if let Some(organization) = organization {
        text.push_str(&format!(",O={}", escaped(organization)));
    }
    text.parse()
}

/// RFC 7093 §2 method 1: the first 20 octets of the SHA-256 of the public key's bits.
pub(crate) fn key_identifier(public_key: &[u8]) -> der::Result<OctetString> {
    let digest = Sha256::digest(public_key);
    OctetString::new(digest.get(..20).unwrap_or_default())
}

/// One PEM block, LF line endings, with a newline at the end.
pub(crate) fn certificate_pem(der: &[u8]) -> String {
    der::pem::encode_string("CERTIFICATE", LineEnding::LF, der).unwrap_or_default()
}

/// Every certificate of a PEM text.
pub(crate) fn certificates_from_pem(text: &str) -> Option<Vec<Vec<u8>>> {
    const END: &str = "-----END CERTIFICATE-----";
    let blocks = text.split_inclusive(END).filter(|it| it.contains(END));
    blocks
        .map(|block| {
            let start = block.find("-----BEGIN CERTIFICATE-----")?;
            let (_, der) = der::pem::decode_vec(block.get(start..)?.as_bytes()).ok()?;
            Some(der)
        })
        .collect()
}
