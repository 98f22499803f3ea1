//! Issuances: from an accepted CSR to the one certificate of an order.

use std::sync::Arc;

use akamu_proto::{AccountId, AccountStatus, CertificateId, OrderId, OrderStatus, Problem, Timestamp};
use diesel::dsl::{exists, not};
use diesel::prelude::*;
use diesel::sql_types::{BigInt, Binary};

use crate::certificate::Certificate;
use crate::chain::Chain;
use crate::connection::{AnyConnection, DbResult, DidBeside, Processing, With, corrupt, kept, on};
use crate::error::StoreError;
use crate::known::{self, Known};
use crate::lease::{Lease, LeaseRequest, LeaseTerms, LeaseToken};
use crate::order::{self, Order};
use crate::schema::{accounts, authorizations, certificates, order_authorizations, orders};
use crate::store::Store;

/// What is decided before anything is signed: whoever takes over signs the same.
#[derive(Clone, Debug)]
pub struct NewIssuance {
    /// SHA-256 of the CSR's DER.
    pub csr_digest: [u8; 32],
    /// The serial number, 16 octets.
    pub serial: [u8; 16],
    /// The exact TBSCertificate, DER.
    pub tbs: Vec<u8>,
}

/// An issuance to be finished: sign `tbs`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Issuance {
    /// Whose it is.
    pub account: AccountId,
    /// The order.
    pub order: OrderId,
    /// The serial number in `tbs`, 16 octets.
    pub serial: [u8; 16],
    /// The exact TBSCertificate, DER.
    pub tbs: Vec<u8>,
}

/// What came of finalizing.
#[derive(Debug)]
pub enum IssuanceBegun {
    /// The caller has the lease, and is to sign.
    Started(Lease<Issuance>),
    /// The order is being, or was, finalized with this very CSR.
    Existing(Order),
    /// It is being, or was, finalized with another CSR.
    OtherCsr(Order),
    /// The order is not ready.
    NotReady(Order),
    /// The order is absent, or another's.
    NotFound,
}

/// A signed certificate.
#[derive(Clone, Debug)]
pub struct NewCertificate {
    /// The leaf, DER.
    pub der: Vec<u8>,
    /// What is sent after it; [`Store::chain_record`] has stored that.
    pub chain: Chain,
    /// Start of validity.
    pub not_before: Timestamp,
    /// End of validity.
    pub not_after: Timestamp,
}

/// What came of recording a certificate.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum IssuanceRecorded {
    /// The order is valid, with this certificate.
    Recorded(CertificateId),
    /// Somebody else has the lease now.
    LeaseLost,
}

/// Moves a ready order to processing, where all is good at this moment.
fn start(
    connection: &mut AnyConnection,
    account: AccountId,
    id: OrderId,
    new: &NewIssuance,
    terms: &LeaseTerms,
    now: Timestamp,
) -> DbResult<bool> {
    let id = id.as_octets().as_slice();
    let owner = accounts::table.find(account.as_i64()).filter(accounts::status.eq(AccountStatus::Valid.as_str()));
    let not_authorized = order_authorizations::table
        .inner_join(authorizations::table)
        .filter(order_authorizations::order_id.eq(id))
        .filter(authorizations::status.ne("valid").or(authorizations::expires_at.le(now.unix_micros())));
    let end = connection.lease_clock(now).plus(terms.micros());
    let update = diesel::update(orders::table.find(id))
        .filter(orders::account_id.eq(account.as_i64()))
        .filter(orders::status.eq(OrderStatus::Pending.as_str()))
        .filter(orders::expires_at.gt(now.unix_micros()))
        .filter(exists(owner))
        .filter(not(exists(not_authorized)))
        .set((
            orders::status.eq(OrderStatus::Processing.as_str()),
            orders::csr_digest.eq(new.csr_digest.as_slice()),
            orders::serial.eq(new.serial.as_slice()),
            orders::tbs.eq(&new.tbs),
            orders::lease_token.eq(terms.token.as_octets()),
            orders::lease_owner.eq(terms.owner()),
            orders::lease_expires_at.eq(end.nullable()),
        ));
    let changed = on!(connection, |it| kept!(update).execute(it))?;
    Ok(changed == 1)
}

fn begin(
    connection: &mut AnyConnection,
    account: AccountId,
    id: OrderId,
    new: &NewIssuance,
    terms: &LeaseTerms,
    now: Timestamp,
) -> DbResult<IssuanceBegun> {
    let started = || Lease::new(terms.token, Issuance { account, order: id, serial: new.serial, tbs: new.tbs.clone() });
    if start(connection, account, id, new, terms, now)? {
        return Ok(IssuanceBegun::Started(started()));
    }
    let Some(found) = order::by_id(connection, account, id, now)? else { return Ok(IssuanceBegun::NotFound) };
    match found.order.status {
        // It became ready in between.
        OrderStatus::Ready if start(connection, account, id, new, terms, now)? => Ok(IssuanceBegun::Started(started())),
        // The answer to an earlier run was lost.
        OrderStatus::Processing if found.lease_token.as_deref() == Some(terms.token.as_octets()) => {
            Ok(IssuanceBegun::Started(started()))
        }
        OrderStatus::Processing | OrderStatus::Valid => {
            let is_same = found.csr_digest.as_deref() == Some(new.csr_digest.as_slice());
            let outcome = if is_same { IssuanceBegun::Existing } else { IssuanceBegun::OtherCsr };
            Ok(outcome(found.order))
        }
        OrderStatus::Pending | OrderStatus::Ready | OrderStatus::Invalid => Ok(IssuanceBegun::NotReady(found.order)),
    }
}

fn record(
    connection: &mut AnyConnection,
    issuance: &Issuance,
    token: LeaseToken,
    new: &NewCertificate,
) -> DbResult<IssuanceRecorded> {
    let id = issuance.order.as_octets().as_slice();
    let update = || {
        diesel::update(orders::table.find(id))
            .filter(orders::status.eq(OrderStatus::Processing.as_str()))
            .filter(orders::lease_token.eq(token.as_octets()))
            .set((
                orders::status.eq(OrderStatus::Valid.as_str()),
                orders::tbs.eq(None::<Vec<u8>>),
                orders::lease_expires_at.eq(None::<i64>),
            ))
    };
    let is_recorded = match connection {
        AnyConnection::Postgres(it) => {
            let certificate = orders::table.find(id).filter(DidBeside).select((
                issuance.serial.as_slice().into_sql::<Binary>(),
                orders::account_id,
                orders::id,
                new.der.as_slice().into_sql::<Binary>(),
                new.chain.id.as_slice().into_sql::<Binary>(),
                new.not_before.unix_micros().into_sql::<BigInt>(),
                new.not_after.unix_micros().into_sql::<BigInt>(),
            ));
            let columns = (
                certificates::serial,
                certificates::account_id,
                certificates::order_id,
                certificates::der,
                certificates::chain,
                certificates::not_before,
                certificates::not_after,
            );
            let statement = diesel::insert_into(certificates::table).values(certificate).into_columns(columns);
            kept!(With { beside: update().returning(orders::id), statement }).execute(it)? == 1
        }
        AnyConnection::Sqlite(it) => {
            // One row and no SELECT: for what may be several SQLite copies each page before it changes.
            let certificate = (
                certificates::serial.eq(issuance.serial.as_slice()),
                certificates::account_id.eq(issuance.account.as_i64()),
                certificates::order_id.eq(id),
                certificates::der.eq(new.der.as_slice()),
                certificates::chain.eq(new.chain.id.as_slice()),
                certificates::not_before.eq(new.not_before.unix_micros()),
                certificates::not_after.eq(new.not_after.unix_micros()),
            );
            let insert = diesel::insert_into(certificates::table).values(certificate);
            kept!(update()).execute(it)? == 1 && kept!(insert).execute(it)? == 1
        }
    };
    let recorded = IssuanceRecorded::Recorded(CertificateId::from_octets(issuance.serial));
    if is_recorded {
        return Ok(recorded);
    }
    // Where the answer to an earlier run was lost, the token stays with the result.
    let query = orders::table
        .find(id)
        .filter(orders::status.eq(OrderStatus::Valid.as_str()))
        .filter(orders::lease_token.eq(token.as_octets()))
        .select(orders::id);
    let was_recorded = on!(connection, |it| query.first::<Vec<u8>>(it)).optional()?.is_some();
    Ok(if was_recorded { recorded } else { IssuanceRecorded::LeaseLost })
}

type Abandoned = (Vec<u8>, i64, Option<Vec<u8>>, Option<Vec<u8>>);

/// Orders in processing that nobody holds. On PostgreSQL those that another replica is claiming are left to it.
macro_rules! abandoned {
    ($connection:expr, $clock:expr, $limit:expr $(, $lock:ident)*) => {
        orders::table
            .filter(orders::status.eq(Processing))
            .filter(orders::lease_expires_at.is_null().or(orders::lease_expires_at.lt($clock.nullable())))
            .order(orders::id)
            .limit($limit)
            .select((orders::id, orders::account_id, orders::serial, orders::tbs))
            $(.$lock())*
            .load::<Abandoned>($connection)
    };
}

fn abandoned(connection: &mut AnyConnection, limit: i64, now: Timestamp) -> DbResult<Vec<Abandoned>> {
    let clock = connection.lease_clock(now);
    match connection {
        AnyConnection::Postgres(it) => abandoned!(it, clock, limit, for_update, skip_locked),
        AnyConnection::Sqlite(it) => abandoned!(it, clock, limit),
    }
}

fn claim(
    connection: &mut AnyConnection,
    terms: &LeaseTerms,
    limit: i64,
    now: Timestamp,
) -> DbResult<Vec<Lease<Issuance>>> {
    let rows = abandoned(connection, limit, now)?;
    let mut leases = Vec::with_capacity(rows.len());
    for (id, account, serial, tbs) in rows {
        let end = connection.lease_clock(now).plus(terms.micros());
        let update = diesel::update(orders::table.find(&id)).set((
            orders::lease_token.eq(terms.token.as_octets()),
            orders::lease_owner.eq(terms.owner()),
            orders::lease_expires_at.eq(end.nullable()),
        ));
        on!(connection, |it| kept!(update).execute(it))?;
        let subject = Issuance {
            account: AccountId::from_i64(account).ok_or_else(|| corrupt("orders.account_id"))?,
            order: OrderId::from_slice(&id).ok_or_else(|| corrupt("orders.id"))?,
            serial: serial.and_then(|it| it.try_into().ok()).ok_or_else(|| corrupt("orders.serial"))?,
            tbs: tbs.ok_or_else(|| corrupt("orders.tbs"))?,
        };
        leases.push(Lease::new(terms.token, subject));
    }
    Ok(leases)
}

impl Store {
    /// Moves a ready order to processing, where its account and every authorization is good at this moment.
    ///
    /// # Errors
    /// Where the database fails.
    pub async fn issuance_begin(
        &self,
        account: AccountId,
        id: OrderId,
        new: NewIssuance,
        lease: LeaseRequest,
        now: Timestamp,
    ) -> Result<IssuanceBegun, StoreError> {
        let terms = self.lease_terms(lease);
        let learn = move |known: &mut Known, begun: &IssuanceBegun| {
            if let IssuanceBegun::Started(_) = begun {
                known.order_has_moved(id, OrderStatus::Processing, None);
            }
        };
        self.change("issuance_begin", move |connection| begin(connection, account, id, &new, &terms, now), learn).await
    }

    /// Stores the certificate and makes the order valid, where the lease still holds.
    ///
    /// # Errors
    /// Where the database fails; then the lease expires, and somebody signs the same again.
    pub async fn issuance_record(
        &self,
        lease: Lease<Issuance>,
        new: NewCertificate,
        _: Timestamp,
    ) -> Result<IssuanceRecorded, StoreError> {
        let Issuance { account, order, serial, .. } = *lease.subject();
        let new = Arc::new(new);
        let made = new.clone();
        let learn = move |known: &mut Known, recorded: &IssuanceRecorded| {
            if let IssuanceRecorded::Recorded(id) = recorded {
                known.order_has_moved(order, OrderStatus::Valid, Some(*id));
                let certificate = Certificate {
                    account,
                    serial: serial.to_vec(),
                    der: made.der.clone(),
                    issuers_pem: made.chain.pem.clone(),
                    not_after: made.not_after,
                    revoked_at: None,
                };
                known.certificate_is(*id, certificate);
            }
        };
        let record = move |connection: &mut AnyConnection| record(connection, lease.subject(), lease.token(), &new);
        self.change("issuance_record", record, learn).await
    }

    /// Makes an order invalid whose certificate cannot be made, where the lease still holds.
    ///
    /// # Errors
    /// Where the database fails.
    pub async fn issuance_fail(
        &self,
        lease: Lease<Issuance>,
        problem: Problem,
        _: Timestamp,
    ) -> Result<(), StoreError> {
        let error = order::stored_problem(&problem);
        let order = lease.subject().order;
        let fail = move |connection: &mut AnyConnection| {
            let token = lease.token();
            let update = diesel::update(orders::table.find(lease.subject().order.as_octets().as_slice()))
                .filter(orders::status.eq(OrderStatus::Processing.as_str()))
                .filter(orders::lease_token.eq(token.as_octets()))
                .set((
                    orders::status.eq(OrderStatus::Invalid.as_str()),
                    orders::error.eq(&error),
                    orders::tbs.eq(None::<Vec<u8>>),
                    orders::lease_expires_at.eq(None::<i64>),
                ));
            on!(connection, |it| kept!(update).execute(it))?;
            Ok(())
        };
        self.change("issuance_fail", fail, move |known, ()| known.forget_order(order)).await
    }

    /// Leases issuances whose holder died, at most `limit`. Whoever takes one over signs the same TBSCertificate.
    ///
    /// # Errors
    /// Where the database fails.
    pub async fn issuances_claim(
        &self,
        lease: LeaseRequest,
        limit: usize,
        now: Timestamp,
    ) -> Result<Vec<Lease<Issuance>>, StoreError> {
        let limit = i64::try_from(limit).unwrap_or(i64::MAX);
        let terms = self.lease_terms(lease);
        let claim = move |connection: &mut AnyConnection| claim(connection, &terms, limit, now);
        self.write("issuances_claim", claim, known::nothing).await
    }
}
