//! What the validation certificate must say (RFC 8737 §3): the identifier as its one alternative name, and a critical
//! acmeIdentifier with the digest of the key authorization.

use std::net::IpAddr;

use akamu_proto::Identifier;
use rustls::pki_types::CertificateDer;
use x509_cert::Certificate;
use x509_cert::der::asn1::{ObjectIdentifier, OctetString};
use x509_cert::der::{self, Decode as _};
use x509_cert::ext::Extension;
use x509_cert::ext::pkix::SubjectAltName;
use x509_cert::ext::pkix::name::GeneralName;

use crate::Excerpt;

const SUBJECT_ALT_NAME: ObjectIdentifier = ObjectIdentifier::new_unwrap("2.5.29.17");
const ACME_IDENTIFIER: ObjectIdentifier = ObjectIdentifier::new_unwrap("1.3.6.1.5.5.7.1.31");

/// The parts of a certificate that the rules are about.
pub(crate) struct ValidationCertificate {
    names: Vec<GeneralName>,
    acme_identifier: Option<Extension>,
}

/// The first rule that a certificate breaks.
#[derive(Debug, thiserror::Error)]
pub(crate) enum CertificateError {
    #[error("the certificate cannot be read: {0}")]
    Unreadable(der::Error),
    #[error("the certificate has the extension {0} twice")]
    RepeatedExtension(ObjectIdentifier),
    #[error("the certificate's subjectAltName cannot be read: {0}")]
    UnreadableNames(der::Error),
    #[error("the certificate has {0} subjectAltName entries; exactly one is expected")]
    NotOneName(usize),
    #[error("the certificate is for \"{0}\", not for {1}")]
    OtherName(Excerpt, Identifier),
    #[error("the certificate has no acmeIdentifier extension (is it the ordinary one?)")]
    NoAcmeIdentifier,
    #[error("the certificate's acmeIdentifier extension is not critical")]
    NotCritical,
    #[error("the certificate's acmeIdentifier extension is no OCTET STRING of 32 octets")]
    NotADigest,
    #[error("the digest in the certificate's acmeIdentifier extension is not that of the key authorization")]
    OtherDigest,
}

impl ValidationCertificate {
    /// Reads the certificate, and that each extension stands once (RFC 5280 §4.2).
    pub(crate) fn read(certificate: &CertificateDer<'_>) -> Result<Self, CertificateError> {
        let certificate = Certificate::from_der(certificate).map_err(CertificateError::Unreadable)?;
        let extensions = certificate.tbs_certificate().extensions().map_or(&[][..], Vec::as_slice);
        for (index, extension) in extensions.iter().enumerate() {
            if extensions.iter().take(index).any(|it| it.extn_id == extension.extn_id) {
                return Err(CertificateError::RepeatedExtension(extension.extn_id));
            }
        }
        let find = |id| extensions.iter().find(|it| it.extn_id == id);
        let names = match find(SUBJECT_ALT_NAME) {
            None => Vec::new(),
            Some(it) => {
                SubjectAltName::from_der(it.extn_value.as_bytes()).map_err(CertificateError::UnreadableNames)?.0
            }
        };
        Ok(Self { names, acme_identifier: find(ACME_IDENTIFIER).cloned() })
    }

    /// The alternative names, as text.
    pub(crate) fn names(&self) -> Vec<String> {
        self.names.iter().map(show).collect()
    }

    /// Applies the rules.
    pub(crate) fn check(&self, identifier: &Identifier, digest: &[u8; 32]) -> Result<(), CertificateError> {
        let [name] = self.names.as_slice() else {
            return Err(CertificateError::NotOneName(self.names.len()));
        };
        let is_the_name = match (identifier, name) {
            (Identifier::Dns(expected), GeneralName::DnsName(name)) => {
                name.as_str().eq_ignore_ascii_case(expected.as_str())
            }
            (Identifier::Ip(IpAddr::V4(expected)), GeneralName::IpAddress(name)) => {
                name.as_bytes() == expected.octets()
            }
            (Identifier::Ip(IpAddr::V6(expected)), GeneralName::IpAddress(name)) => {
                name.as_bytes() == expected.octets()
            }
            _ => false,
        };
        if !is_the_name {
            return Err(CertificateError::OtherName(Excerpt::new(show(name)), identifier.clone()));
        }
        let extension = self.acme_identifier.as_ref().ok_or(CertificateError::NoAcmeIdentifier)?;
        if !extension.critical {
            return Err(CertificateError::NotCritical);
        }
        let value = OctetString::from_der(extension.extn_value.as_bytes()).map_err(|_| CertificateError::NotADigest)?;
        let value: &[u8; 32] = value.as_bytes().try_into().map_err(|_| CertificateError::NotADigest)?;
        if value == digest { Ok(()) } else { Err(CertificateError::OtherDigest) }
    }
}

fn show(name: &GeneralName) -> String {
    match name {
        GeneralName::DnsName(name) => name.to_string(),
        GeneralName::IpAddress(octets) => {
            let octets = octets.as_bytes();
            let v4 = <[u8; 4]>::try_from(octets).map(IpAddr::from);
            v4.or_else(|_| <[u8; 16]>::try_from(octets).map(IpAddr::from))
                .map_or_else(|_| format!("an iPAddress of {} octets", octets.len()), |address| address.to_string())
        }
        GeneralName::Rfc822Name(name) => format!("email:{name}"),
        GeneralName::UniformResourceIdentifier(uri) => format!("URI:{uri}"),
        GeneralName::DirectoryName(_) => "a directoryName".to_owned(),
        GeneralName::OtherName(_) => "an otherName".to_owned(),
        GeneralName::EdiPartyName(_) => "an ediPartyName".to_owned(),
        GeneralName::RegisteredId(_) => "a registeredID".to_owned(),
    }
}
