//! CRLs (RFC 5280 §5): their numbers grow strictly, whoever makes them.

use akamu_proto::{RevocationReason, Timestamp};
use diesel::prelude::*;

use crate::connection::{DbResult, corrupt, insert_if_new};
use crate::error::StoreError;
use crate::schema::{certificates, counters, crls};
use crate::store::Store;

const NUMBER: &str = "crl_number";
/// CRLs kept.
const KEPT: i64 = 3;

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

/// A CRL as it was signed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StoredCrl {
    /// Its number.
    pub number: i64,
    /// Its octets.
    pub der: Vec<u8>,
    /// When it was made.
    pub this_update: Timestamp,
    /// When the next one is due.
    pub next_update: Timestamp,
}

type Row = (i64, Vec<u8>, i64, i64);

fn stored_crl((number, der, this_update, next_update): Row) -> StoredCrl {
    StoredCrl {
        number,
        der,
        this_update: Timestamp::from_unix_micros(this_update),
        next_update: Timestamp::from_unix_micros(next_update),
    }
}

fn revoked_certificate(
    (serial, revoked_at, reason): (Vec<u8>, Option<i64>, Option<i16>),
) -> DbResult<RevokedCertificate> {
    let reason = reason.and_then(|it| RevocationReason::from_code(it.into()));
    Ok(RevokedCertificate {
        serial,
        revoked_at: revoked_at.map(Timestamp::from_unix_micros).ok_or_else(|| corrupt("certificates.revoked_at"))?,
        reason: reason.ok_or_else(|| corrupt("certificates.revocation_reason"))?,
    })
}

impl Store {
    /// The certificates that belong on a CRL made `now`, by serial number: revoked, and unexpired or expired for less
    /// than the newest CRL's period (RFC 5280 §3.3: one more regular CRL shows them).
    ///
    /// # Errors
    /// Where the database fails.
    pub async fn revoked_certificates(&self, now: Timestamp) -> Result<Vec<RevokedCertificate>, StoreError> {
        self.read("revoked_certificates", move |connection| {
            let newest: Option<(i64, i64)> = crls::table
                .order(crls::number.desc())
                .select((crls::this_update, crls::next_update))
                .first(connection)
                .optional()?;
            let period = newest.map_or(0, |(this_update, next_update)| next_update - this_update);
            let mut rows: Vec<(Vec<u8>, Option<i64>, Option<i16>)> = certificates::table
                .filter(certificates::revoked_at.is_not_null())
                .filter(certificates::not_after.gt(now.unix_micros() - period))
                .select((certificates::serial, certificates::revoked_at, certificates::revocation_reason))
                .load(connection)?;
            // Not by the database, which would walk through every serial number there is.
            rows.sort_unstable();
            rows.into_iter().map(revoked_certificate).collect()
        })
        .await
    }

    /// The number for the next CRL: more than any before, also where the database was restored from a backup: it is at
    /// least the second of `now`.
    ///
    /// # Errors
    /// Where the database fails.
    pub async fn crl_number_next(&self, now: Timestamp) -> Result<i64, StoreError> {
        self.write("crl_number_next", move |connection| {
            let row = || counters::table.find(NUMBER);
            // The first update takes the row, so that two replicas cannot draw one number.
            diesel::update(row()).set(counters::value.eq(counters::value + 1)).execute(connection)?;
            diesel::update(row())
                .filter(counters::value.lt(now.unix_secs()))
                .set(counters::value.eq(now.unix_secs()))
                .execute(connection)?;
            row().select(counters::value).first(connection)
        })
        .await
    }

    /// Keeps a CRL, for every replica to serve.
    ///
    /// # Errors
    /// Where the database fails.
    pub async fn crl_record(
        &self,
        number: i64,
        der: &[u8],
        this_update: Timestamp,
        next_update: Timestamp,
    ) -> Result<(), StoreError> {
        let der = der.to_vec();
        self.write("crl_record", move |connection| {
            let row = (
                crls::number.eq(number),
                crls::der.eq(&der),
                crls::this_update.eq(this_update.unix_micros()),
                crls::next_update.eq(next_update.unix_micros()),
            );
            insert_if_new!(connection, crls::table, row)?;
            let kept: Vec<i64> =
                crls::table.order(crls::number.desc()).limit(KEPT).select(crls::number).load(connection)?;
            if let Some(oldest) = kept.last() {
                diesel::delete(crls::table.filter(crls::number.lt(*oldest))).execute(connection)?;
            }
            Ok(())
        })
        .await
    }

    /// The newest CRL.
    ///
    /// # Errors
    /// Where the database fails.
    pub async fn crl_latest(&self) -> Result<Option<StoredCrl>, StoreError> {
        self.select("crl_latest", |connection| {
            let row = crls::table
                .order(crls::number.desc())
                .select((crls::number, crls::der, crls::this_update, crls::next_update))
                .first::<Row>(connection)
                .optional()?;
            Ok(row.map(stored_crl))
        })
        .await
    }
}
