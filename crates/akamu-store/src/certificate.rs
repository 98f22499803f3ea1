//! Certificates, and their revocation.

use akamu_proto::{AccountId, CertificateId, RevocationReason, Timestamp};
use diesel::prelude::*;

use crate::connection::{DbResult, corrupt};
use crate::error::StoreError;
use crate::schema::certificates;
use crate::store::Store;

/// A certificate as it was issued.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Certificate {
    /// Who got it.
    pub account: AccountId,
    /// The leaf, DER.
    pub der: Vec<u8>,
    /// Leaf and intermediates, as they are sent.
    pub chain_pem: String,
    /// End of validity.
    pub not_after: Timestamp,
    /// When it was revoked.
    pub revoked_at: Option<Timestamp>,
}

/// What came of a revocation.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Revoked {
    /// It is revoked now.
    Revoked,
    /// It was already.
    AlreadyRevoked,
    /// There is no such certificate.
    NotFound,
}

/// An entry of the CRL.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RevokedCertificate {
    /// The serial number, 16 octets.
    pub serial: Vec<u8>,
    /// When it was revoked.
    pub revoked_at: Timestamp,
    /// Why.
    pub reason: RevocationReason,
}

type Row = (i64, Vec<u8>, String, i64, Option<i64>);

const COLUMNS: (
    certificates::account_id,
    certificates::der,
    certificates::chain_pem,
    certificates::not_after,
    certificates::revoked_at,
) = (
    certificates::account_id,
    certificates::der,
    certificates::chain_pem,
    certificates::not_after,
    certificates::revoked_at,
);

fn certificate((account, der, chain_pem, not_after, revoked_at): Row) -> DbResult<Certificate> {
    Ok(Certificate {
        account: AccountId::from_i64(account).ok_or_else(|| corrupt("certificates.account_id"))?,
        der,
        chain_pem,
        not_after: Timestamp::from_unix_micros(not_after),
        revoked_at: revoked_at.map(Timestamp::from_unix_micros),
    })
}

impl Store {
    /// The account's certificate; `None` where it is absent or another's.
    ///
    /// # Errors
    /// Where the database fails.
    pub async fn certificate(&self, account: AccountId, id: CertificateId) -> Result<Option<Certificate>, StoreError> {
        self.read("certificate", move |connection| {
            let row = certificates::table
                .find(id.as_octets().to_vec())
                .filter(certificates::account_id.eq(account.as_i64()))
                .select(COLUMNS);
            row.first::<Row>(connection).optional()?.map(certificate).transpose()
        })
        .await
    }

    /// The certificate with this serial number (16 octets), whoever's it is.
    ///
    /// # Errors
    /// Where the database fails.
    pub async fn certificate_by_serial(&self, serial: &[u8]) -> Result<Option<Certificate>, StoreError> {
        let serial = serial.to_vec();
        self.read("certificate_by_serial", move |connection| {
            let row = certificates::table.filter(certificates::serial.eq(serial.clone())).select(COLUMNS);
            row.first::<Row>(connection).optional()?.map(certificate).transpose()
        })
        .await
    }

    /// Revokes a certificate.
    ///
    /// # Errors
    /// Where the database fails.
    pub async fn certificate_revoke(
        &self,
        serial: &[u8],
        reason: RevocationReason,
        now: Timestamp,
    ) -> Result<Revoked, StoreError> {
        let serial = serial.to_vec();
        self.write("certificate_revoke", move |connection| {
            let changed = diesel::update(certificates::table)
                .filter(certificates::serial.eq(serial.clone()))
                .filter(certificates::revoked_at.is_null())
                .set((
                    certificates::revoked_at.eq(now.unix_micros()),
                    certificates::revocation_reason.eq(i16::from(reason.code())),
                ))
                .execute(connection)?;
            if changed == 1 {
                return Ok(Revoked::Revoked);
            }
            let known = certificates::table
                .filter(certificates::serial.eq(serial.clone()))
                .select(certificates::account_id)
                .first::<i64>(connection)
                .optional()?;
            Ok(if known.is_some() { Revoked::AlreadyRevoked } else { Revoked::NotFound })
        })
        .await
    }

    /// The revoked certificates whose validity ends after `since` (RFC 5280 §3.3: one that expired stays for one more
    /// regular CRL).
    ///
    /// # Errors
    /// Where the database fails.
    pub async fn revoked_certificates(&self, since: Timestamp) -> Result<Vec<RevokedCertificate>, StoreError> {
        self.read("revoked_certificates", move |connection| {
            let rows: Vec<(Vec<u8>, Option<i64>, Option<i16>)> = certificates::table
                .filter(certificates::revoked_at.is_not_null())
                .filter(certificates::not_after.gt(since.unix_micros()))
                .order(certificates::serial)
                .select((certificates::serial, certificates::revoked_at, certificates::revocation_reason))
                .load(connection)?;
            rows.into_iter()
                .map(|(serial, revoked_at, reason)| {
                    let reason = reason.and_then(|it| RevocationReason::from_code(it.into()));
                    Ok(RevokedCertificate {
                        serial,
                        revoked_at: revoked_at
                            .map(Timestamp::from_unix_micros)
                            .ok_or_else(|| corrupt("certificates.revoked_at"))?,
                        reason: reason.ok_or_else(|| corrupt("certificates.revocation_reason"))?,
                    })
                })
                .collect()
        })
        .await
    }
}
