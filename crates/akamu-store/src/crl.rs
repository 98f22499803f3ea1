//! CRLs (RFC 5280 §5): their numbers grow strictly, whoever makes them.

use akamu_proto::{RevocationReason, Timestamp};
use diesel::prelude::*;

use crate::connection::{AnyConnection, DbResult, corrupt, insert_if_new, kept, on};
use crate::error::StoreError;
use crate::known;
use crate::schema::{certificates, counters, crls};
use crate::store::Store;

const NUMBER: &str = "crl_number";
const REVOCATIONS: &str = "revocations";
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

/// What a CRL is made of.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Revocations {
    /// The entries, by serial number.
    pub certificates: Vec<RevokedCertificate>,
    /// How many revocations there have been, those that are not listed any more among them.
    pub count: i64,
}

/// How the newest CRL of all replicas stands to one of them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CrlCheck {
    /// The newest one, where it is newer than this replica's.
    pub newer: Option<StoredCrl>,
    /// Whether it was made after the last revocation.
    pub is_complete: bool,
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

/// One revocation more. It changes the row that [`Store::crl_check`] compares, so that none stays off the CRL whose
/// replica died.
pub(crate) fn count_revocation(connection: &mut AnyConnection) -> DbResult<()> {
    let row = counters::table.find(REVOCATIONS);
    let update = diesel::update(row).set(counters::value.eq(counters::value + 1));
    on!(connection, |it| kept!(update).execute(it))?;
    Ok(())
}

fn revocations(connection: &mut AnyConnection) -> DbResult<i64> {
    on!(connection, |it| counters::table.find(REVOCATIONS).select(counters::value).first(it))
}

impl Store {
    /// What belongs on a CRL made `now`: the certificates that are revoked, and unexpired or expired for less than the
    /// newest CRL's period (RFC 5280 §3.3: one more regular CRL shows them).
    ///
    /// # Errors
    /// Where the database fails.
    pub async fn revocations(&self, now: Timestamp) -> Result<Revocations, StoreError> {
        self.read("revocations", move |connection| {
            // First: what is revoked meanwhile may be listed and not counted, never the other way round.
            let count = revocations(connection)?;
            let query = crls::table.order(crls::number.desc()).select((crls::this_update, crls::next_update));
            let newest: Option<(i64, i64)> = on!(connection, |it| query.first(it)).optional()?;
            let period = newest.map_or(0, |(this_update, next_update)| next_update - this_update);
            let query = certificates::table
                .filter(certificates::revoked_at.is_not_null())
                .filter(certificates::not_after.gt(now.unix_micros() - period))
                .select((certificates::serial, certificates::revoked_at, certificates::revocation_reason));
            let mut rows: Vec<(Vec<u8>, Option<i64>, Option<i16>)> = on!(connection, |it| query.load(it))?;
            // Not by the database, which would walk through every serial number there is.
            rows.sort_unstable();
            let certificates = rows.into_iter().map(revoked_certificate).collect::<DbResult<_>>()?;
            Ok(Revocations { certificates, count })
        })
        .await
    }

    /// The number for the next CRL: more than any before, also where the database was restored from a backup: it is at
    /// least the second of `now`.
    ///
    /// # Errors
    /// Where the database fails.
    pub async fn crl_number_next(&self, now: Timestamp) -> Result<i64, StoreError> {
        let draw = move |connection: &mut AnyConnection| {
            let row = || counters::table.find(NUMBER);
            // The first update takes the row, so that two replicas cannot draw one number.
            let update = diesel::update(row()).set(counters::value.eq(counters::value + 1));
            on!(connection, |it| kept!(update).execute(it))?;
            let update = diesel::update(row())
                .filter(counters::value.lt(now.unix_secs()))
                .set(counters::value.eq(now.unix_secs()));
            on!(connection, |it| kept!(update).execute(it))?;
            on!(connection, |it| row().select(counters::value).first(it))
        };
        self.write("crl_number_next", draw, known::nothing).await
    }

    /// Keeps a CRL that was made of so many revocations, for every replica to serve; tells how many old ones it removed.
    ///
    /// # Errors
    /// Where the database fails.
    pub async fn crl_record(&self, crl: &StoredCrl, revocations: i64) -> Result<usize, StoreError> {
        let StoredCrl { number, der, this_update, next_update } = crl.clone();
        let record = move |connection: &mut AnyConnection| {
            let row = (
                crls::number.eq(number),
                crls::der.eq(&der),
                crls::revocations.eq(revocations),
                crls::this_update.eq(this_update.unix_micros()),
                crls::next_update.eq(next_update.unix_micros()),
            );
            insert_if_new!(connection, crls::table, row)?;
            let kept: Vec<i64> =
                on!(connection, |it| crls::table.order(crls::number.desc()).limit(KEPT).select(crls::number).load(it))?;
            kept.last().map_or(Ok(0), |oldest| {
                on!(connection, |it| diesel::delete(crls::table.filter(crls::number.lt(*oldest))).execute(it))
            })
        };
        self.write("crl_record", record, known::nothing).await
    }

    /// When the newest CRL is out of date, without its octets, which may be millions.
    ///
    /// # Errors
    /// Where the database fails.
    pub async fn crl_next_update(&self) -> Result<Option<Timestamp>, StoreError> {
        self.read("crl_next_update", |connection| {
            let query = crls::table.order(crls::number.desc()).select(crls::next_update);
            let newest = on!(connection, |it| query.first(it)).optional()?;
            Ok(newest.map(Timestamp::from_unix_micros))
        })
        .await
    }

    /// Whether there is a newer CRL than the one of this number (0: none), and whether the newest is complete.
    ///
    /// # Errors
    /// Where the database fails.
    pub async fn crl_check(&self, number: i64) -> Result<CrlCheck, StoreError> {
        self.read("crl_check", move |connection| {
            let newest = || crls::table.order(crls::number.desc());
            let made_of: Option<i64> = on!(connection, |it| newest().select(crls::revocations).first(it)).optional()?;
            let query = newest().filter(crls::number.gt(number)).select((
                crls::number,
                crls::der,
                crls::this_update,
                crls::next_update,
            ));
            let newer = on!(connection, |it| query.first::<Row>(it)).optional()?;
            Ok(CrlCheck { newer: newer.map(stored_crl), is_complete: made_of == Some(revocations(connection)?) })
        })
        .await
    }
}
