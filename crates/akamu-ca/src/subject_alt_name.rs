//! Subject alternative names (RFC 5280 §4.2.1.6): between identifiers and their extension.
//!
//! Read by hand: the names are counted before each is judged, and a name of a type that gets no certificate is called by
//! its type.

use std::net::IpAddr;

use akamu_proto::Identifier;
use der::asn1::{AnyRef, Ia5String, OctetString};
use der::{Decode as _, Reader as _, SliceReader, Tag};
use x509_cert::ext::pkix::SubjectAltName;
use x509_cert::ext::pkix::name::GeneralName;

/// The most names that are read.
pub const MAX_NAMES: usize = 100;

/// Why names are not taken.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum NamesError {
    /// No GeneralNames.
    Malformed,
    /// Too many.
    TooMany { count: usize },
    /// One that gets no certificate: which, and why.
    Bad { what: String },
}

/// Reads the extension's value, DER.
pub(crate) fn parse(value: &[u8]) -> Result<Vec<Identifier>, NamesError> {
    let names = general_names(value).map_err(|_| NamesError::Malformed)?;
    if names.len() > MAX_NAMES {
        return Err(NamesError::TooMany { count: names.len() });
    }
    names.iter().map(identifier).collect()
}

fn general_names(value: &[u8]) -> der::Result<Vec<AnyRef<'_>>> {
    let mut reader = SliceReader::new(value)?;
    let names = reader.sequence(|reader| {
        let mut names = Vec::new();
        while !reader.is_finished() {
            names.push(AnyRef::decode(reader)?);
        }
        Ok::<_, der::Error>(names)
    })?;
    reader.finish()?;
    Ok(names)
}

fn identifier(name: &AnyRef<'_>) -> Result<Identifier, NamesError> {
    let bad = |what: String| NamesError::Bad { what };
    let Tag::ContextSpecific { number, .. } = name.header().tag() else { return Err(NamesError::Malformed) };
    match number.value() {
        2 => {
            let text = String::from_utf8_lossy(name.value());
            Identifier::dns(&text).map_err(|error| bad(format!("{text:?}: {error}")))
        }
        7 => {
            let octets = name.value();
            let address = <[u8; 4]>::try_from(octets)
                .map(IpAddr::from)
                .or_else(|_| <[u8; 16]>::try_from(octets).map(IpAddr::from))
                .map_err(|_| bad(format!("an IP address of {} octets; 4 or 16 are expected", octets.len())))?;
            Identifier::ip(&address.to_string()).map_err(|error| bad(format!("{address}: {error}")))
        }
        0 => Err(bad("an otherName; only dns and ip names are certified".to_owned())),
        1 => Err(bad("an e-mail address; only dns and ip names are certified".to_owned())),
        3 => Err(bad("an x400Address; only dns and ip names are certified".to_owned())),
        4 => Err(bad("a directoryName; only dns and ip names are certified".to_owned())),
        5 => Err(bad("an ediPartyName; only dns and ip names are certified".to_owned())),
        6 => Err(bad("a URI; only dns and ip names are certified".to_owned())),
        8 => Err(bad("a registeredID; only dns and ip names are certified".to_owned())),
        _ => Err(NamesError::Malformed),
    }
}

/// The extension's value for these names.
pub(crate) fn build<'a>(names: impl IntoIterator<Item = &'a Identifier>) -> der::Result<SubjectAltName> {
    names.into_iter().map(general_name).collect::<Result<_, _>>().map(SubjectAltName)
}

fn general_name(identifier: &Identifier) -> der::Result<GeneralName> {
    Ok(match identifier {
        Identifier::Dns(_) | Identifier::Wildcard(_) => GeneralName::DnsName(Ia5String::new(&identifier.value())?),
        Identifier::Ip(IpAddr::V4(address)) => GeneralName::IpAddress(OctetString::new(address.octets())?),
        Identifier::Ip(IpAddr::V6(address)) => GeneralName::IpAddress(OctetString::new(address.octets())?),
    })
}
