//! Doors to what the validators read a peer's octets with, without the lookup or handshake before it: for fuzzing.

use akamu_proto::{DnsName, Identifier};
use rustls::pki_types::CertificateDer;

use crate::PersistUntil;
use crate::dns_persist_01::record::PersistRecord;
use crate::tls_alpn_01::certificate::ValidationCertificate;

/// What stands in a TXT record of dns-persist-01.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PersistFields {
    /// The value of accounturi.
    pub account_uri: String,
    /// The value of policy.
    pub policy: Option<String>,
    /// The value of persistUntil.
    pub persist_until: Option<PersistUntil>,
}

/// Reads a record for one of `issuer_domains`, as [`DnsPersist01`](crate::DnsPersist01) does.
///
/// # Errors
/// Why it proves nothing, whoever asks; it goes on a sentence that begins with the record.
pub fn read_persist_record(octets: &[u8], issuer_domains: &[DnsName]) -> Result<PersistFields, String> {
    let record = PersistRecord::read(octets, issuer_domains).map_err(|rejection| rejection.to_string())?;
    Ok(PersistFields {
        account_uri: record.account_uri.to_owned(),
        policy: record.policy.map(ToOwned::to_owned),
        persist_until: record.persist_until,
    })
}

/// Applies the rules of [`TlsAlpn01`](crate::TlsAlpn01) to a certificate, DER. `digest` is that of the key authorization.
///
/// # Errors
/// The first rule that it breaks.
pub fn check_validation_certificate(
    certificate: &[u8],
    identifier: &Identifier,
    digest: &[u8; 32],
) -> Result<(), String> {
    let certificate = CertificateDer::from(certificate);
    ValidationCertificate::read(&certificate)
        .and_then(|it| it.check(identifier, digest))
        .map_err(|error| error.to_string())
}
