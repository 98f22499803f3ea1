//! Certificates, and their revocation.

use std::sync::Arc;

use akamu_proto::{AccountId, CertificateId, RevocationReason, Timestamp};
use diesel::prelude::*;

use crate::account::Account;
use crate::connection::{AnyConnection, DbResult, corrupt, kept, on};
use crate::error::StoreError;
use crate::known::Known;
use crate::nonce::{Redemption, load_with_account};
use crate::owned::{Owned, Reading};
use crate::schema::{certificates, chains};
use crate::store::Store;
use crate::{account, crl};

/// A certificate as it was issued.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Certificate {
    /// Who got it.
    pub account: AccountId,
    /// Its serial number, 16 octets.
    pub serial: Vec<u8>,
    /// The leaf, DER.
    pub der: Vec<u8>,
    /// What is sent after the leaf: the issuers' certificates, PEM.
    pub issuers_pem: Arc<str>,
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

type Row = (i64, Vec<u8>, Vec<u8>, String, i64, Option<i64>);

const COLUMNS: (
    certificates::account_id,
    certificates::serial,
    certificates::der,
    chains::pem,
    certificates::not_after,
    certificates::revoked_at,
) = (
    certificates::account_id,
    certificates::serial,
    certificates::der,
    chains::pem,
    certificates::not_after,
    certificates::revoked_at,
);

fn certificate((account, serial, der, issuers_pem, not_after, revoked_at): Row) -> DbResult<Certificate> {
    Ok(Certificate {
        account: AccountId::from_i64(account).ok_or_else(|| corrupt("certificates.account_id"))?,
        serial,
        der,
        issuers_pem: issuers_pem.into(),
        not_after: Timestamp::from_unix_micros(not_after),
        revoked_at: revoked_at.map(Timestamp::from_unix_micros),
    })
}

impl Owned for Certificate {
    type Id = CertificateId;

    const OPERATION: &'static str = "account_and_certificate";

    fn find(reading: &mut Reading<'_>, account: AccountId, id: CertificateId) -> DbResult<Option<(Account, Self)>> {
        read(reading.connection, account, id, reading.known, &mut reading.redemption)
    }

    fn of_known(known: &mut Known, account: &Account, id: CertificateId, _: Timestamp) -> Option<Self> {
        known.certificate(id).filter(|it| it.account == account.id).cloned()
    }
}

/// The account, where it is not known, and its certificate with this id; `redemption` is done on the way.
fn read(
    connection: &mut AnyConnection,
    account: AccountId,
    id: CertificateId,
    known: Option<&Account>,
    redemption: &mut Redemption<'_>,
) -> DbResult<Option<(Account, Certificate)>> {
    let query = certificates::table
        .find(id.as_octets().as_slice())
        .inner_join(chains::table)
        .filter(certificates::account_id.eq(account.as_i64()));
    let (owner, rows): (_, Vec<Row>) =
        load_with_account!(connection, redemption, query, COLUMNS, certificates::account_id)?;
    let Some(row) = rows.into_iter().next() else { return Ok(None) };
    Ok(Some((account::owner(connection, owner.as_ref(), known, account)?, certificate(row)?)))
}

impl Store {
    /// The account's certificate; `None` where it is absent or another's.
    ///
    /// # Errors
    /// Where the database fails.
    pub async fn certificate(&self, account: AccountId, id: CertificateId) -> Result<Option<Certificate>, StoreError> {
        self.select("certificate", move |connection| {
            Ok(read(connection, account, id, None, &mut Redemption::of(None))?.map(|(_, certificate)| certificate))
        })
        .await
    }

    /// The certificate with this serial number (16 octets), whoever's it is.
    ///
    /// # Errors
    /// Where the database fails.
    pub async fn certificate_by_serial(&self, serial: &[u8]) -> Result<Option<Certificate>, StoreError> {
        let serial = serial.to_vec();
        self.select("certificate_by_serial", move |connection| {
            let row = certificates::table.find(&serial).inner_join(chains::table).select(COLUMNS);
            on!(connection, |it| row.first::<Row>(it)).optional()?.map(certificate).transpose()
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
        let mut ran_before = false;
        let id = CertificateId::from_slice(&serial);
        let revoke = move |connection: &mut AnyConnection| {
            let runs_again = std::mem::replace(&mut ran_before, true);
            let update =
                diesel::update(certificates::table.find(&serial)).filter(certificates::revoked_at.is_null()).set((
                    certificates::revoked_at.eq(now.unix_micros()),
                    certificates::revocation_reason.eq(i16::from(reason.code())),
                ));
            let changed = on!(connection, |it| kept!(update).execute(it))?;
            if changed == 1 {
                crl::count_revocation(connection)?;
                return Ok(Revoked::Revoked);
            }
            let query = certificates::table.find(&serial).select(certificates::revoked_at);
            let revoked_at: Option<Option<i64>> = on!(connection, |it| query.first(it)).optional()?;
            Ok(match revoked_at {
                None => Revoked::NotFound,
                // Ours: the answer to an earlier run was lost.
                Some(at) if runs_again && at == Some(now.unix_micros()) => Revoked::Revoked,
                Some(_) => Revoked::AlreadyRevoked,
            })
        };
        let learn = move |known: &mut Known, _: &Revoked| id.into_iter().for_each(|it| known.forget_certificate(it));
        self.write("certificate_revoke", revoke, learn).await
    }
}
