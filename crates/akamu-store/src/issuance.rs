//! Issuances: from an accepted CSR to the one certificate of an order.

use akamu_proto::{AccountId, CertificateId, OrderId, OrderStatus, Problem, Timestamp};
use diesel::prelude::*;

use crate::account;
use crate::connection::{AnyConnection, DbResult, corrupt};
use crate::error::StoreError;
use crate::lease::{Lease, LeaseRequest};
use crate::order::{self, Order};
use crate::schema::{authorizations, certificates, order_authorizations, orders};
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
    /// Its id.
    pub id: CertificateId,
    /// The leaf, DER.
    pub der: Vec<u8>,
    /// Leaf and intermediates, as they are sent.
    pub chain_pem: String,
    /// Start of validity.
    pub not_before: Timestamp,
    /// End of validity.
    pub not_after: Timestamp,
}

/// What came of recording a certificate.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum IssuanceRecorded {
    /// The order is valid.
    Recorded(Order),
    /// Somebody else has the lease now.
    LeaseLost,
}

fn lock_order(connection: &mut AnyConnection, id: &[u8]) -> DbResult<()> {
    if let AnyConnection::Postgres(it) = connection {
        orders::table.find(id.to_vec()).select(orders::id).for_update().first::<Vec<u8>>(it).optional()?;
    }
    Ok(())
}

/// Whether every authorization of the order is valid and unexpired at this moment.
fn all_authorized(connection: &mut AnyConnection, id: &[u8], now: Timestamp) -> DbResult<bool> {
    let missing = order_authorizations::table
        .inner_join(authorizations::table)
        .filter(order_authorizations::order_id.eq(id.to_vec()))
        .filter(authorizations::status.ne("valid").or(authorizations::expires_at.le(now.unix_micros())))
        .select(order_authorizations::position)
        .first::<i16>(connection)
        .optional()?;
    Ok(missing.is_none())
}

impl Store {
    /// Moves a ready order to processing, where its account and every authorization is still good.
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
        let lease = self.lease_terms(lease);
        self.write("issuance_begin", move |connection| {
            let octets = id.as_octets().as_slice();
            lock_order(connection, octets)?;
            let Some(found) = order::by_id(connection, account, id, now)? else { return Ok(IssuanceBegun::NotFound) };
            let started = || Lease::new(lease.token, Issuance { account, order: id, tbs: new.tbs.clone() });
            match found.status {
                OrderStatus::Ready => {}
                OrderStatus::Processing | OrderStatus::Valid => {
                    let (digest, token): (Option<Vec<u8>>, Option<Vec<u8>>) = orders::table
                        .find(octets.to_vec())
                        .select((orders::csr_digest, orders::lease_token))
                        .first(connection)?;
                    let is_same = digest.as_deref() == Some(new.csr_digest.as_slice());
                    let is_ours = token.as_deref() == Some(lease.token.as_octets());
                    return Ok(match (is_same, is_ours && found.status == OrderStatus::Processing) {
                        // The answer to an earlier try was lost.
                        (_, true) => IssuanceBegun::Started(started()),
                        (true, false) => IssuanceBegun::Existing(found),
                        (false, false) => IssuanceBegun::OtherCsr(found),
                    });
                }
                OrderStatus::Pending | OrderStatus::Invalid => return Ok(IssuanceBegun::NotReady(found)),
            }
            if !account::is_valid(connection, account)? {
                return Ok(IssuanceBegun::NotReady(found));
            }
            if !all_authorized(connection, octets, now)? {
                let error = order::problem_text("an authorization of the order has expired; make a new order");
                diesel::update(orders::table.find(octets.to_vec()))
                    .set((orders::status.eq("invalid"), orders::error.eq(error)))
                    .execute(connection)?;
                let now_invalid = order::by_id(connection, account, id, now)?.unwrap_or(found);
                return Ok(IssuanceBegun::NotReady(now_invalid));
            }
            let end = connection.lease_clock(now) + lease.micros();
            let changed = diesel::update(orders::table.find(octets.to_vec()))
                .filter(orders::status.eq("ready"))
                .set((
                    orders::status.eq(OrderStatus::Processing.as_str()),
                    orders::csr_digest.eq(new.csr_digest.to_vec()),
                    orders::serial.eq(new.serial.to_vec()),
                    orders::tbs.eq(&new.tbs),
                    orders::lease_token.eq(lease.token.as_octets().to_vec()),
                    orders::lease_expires_at.eq(end.nullable()),
                ))
                .execute(connection)?;
            if changed == 1 { Ok(IssuanceBegun::Started(started())) } else { Ok(IssuanceBegun::NotReady(found)) }
        })
        .await
    }

    /// Stores the certificate and makes the order valid, where the lease still holds.
    ///
    /// # Errors
    /// Where the database fails; then the lease expires, and somebody signs the same again.
    pub async fn issuance_record(
        &self,
        lease: Lease<Issuance>,
        new: NewCertificate,
        now: Timestamp,
    ) -> Result<IssuanceRecorded, StoreError> {
        self.write("issuance_record", move |connection| {
            let Issuance { account, order: id, .. } = lease.subject();
            let octets = id.as_octets().as_slice();
            lock_order(connection, octets)?;
            let changed = diesel::update(orders::table.find(octets.to_vec()))
                .filter(orders::status.eq(OrderStatus::Processing.as_str()))
                .filter(orders::lease_token.eq(lease.token().as_octets().to_vec()))
                .set((
                    orders::status.eq(OrderStatus::Valid.as_str()),
                    orders::certificate_id.eq(new.id.as_octets().to_vec()),
                    orders::tbs.eq(None::<Vec<u8>>),
                    orders::lease_expires_at.eq(None::<i64>),
                ))
                .execute(connection)?;
            let found = order::by_id(connection, *account, *id, now)?;
            if changed == 0 {
                // Ours all the same, where the answer to an earlier try was lost.
                return Ok(match found {
                    Some(order) if order.certificate == Some(new.id) => IssuanceRecorded::Recorded(order),
                    _ => IssuanceRecorded::LeaseLost,
                });
            }
            let serial: Option<Vec<u8>> =
                orders::table.find(octets.to_vec()).select(orders::serial).first(connection)?;
            let row = (
                certificates::id.eq(new.id.as_octets().as_slice()),
                certificates::account_id.eq(account.as_i64()),
                certificates::order_id.eq(octets),
                certificates::serial.eq(serial.ok_or_else(|| corrupt("orders.serial"))?),
                certificates::der.eq(&new.der),
                certificates::chain_pem.eq(&new.chain_pem),
                certificates::not_before.eq(new.not_before.unix_micros()),
                certificates::not_after.eq(new.not_after.unix_micros()),
            );
            diesel::insert_into(certificates::table).values(row).execute(connection)?;
            Ok(found.map_or(IssuanceRecorded::LeaseLost, IssuanceRecorded::Recorded))
        })
        .await
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
        let error = serde_json::to_string(&problem).unwrap_or_default();
        self.write("issuance_fail", move |connection| {
            diesel::update(orders::table.find(lease.subject().order.as_octets().to_vec()))
                .filter(orders::status.eq(OrderStatus::Processing.as_str()))
                .filter(orders::lease_token.eq(lease.token().as_octets().to_vec()))
                .set((
                    orders::status.eq(OrderStatus::Invalid.as_str()),
                    orders::error.eq(&error),
                    orders::tbs.eq(None::<Vec<u8>>),
                    orders::lease_expires_at.eq(None::<i64>),
                ))
                .execute(connection)?;
            Ok(())
        })
        .await
    }

    /// Leases issuances whose holder died, at most `limit`.
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
        let lease = self.lease_terms(lease);
        self.write("issuances_claim", move |connection| {
            let rows = abandoned(connection, limit, now)?;
            let mut leases = Vec::with_capacity(rows.len());
            for (id, account, tbs) in rows {
                let end = connection.lease_clock(now) + lease.micros();
                diesel::update(orders::table.find(&id))
                    .set((
                        orders::lease_token.eq(lease.token.as_octets().to_vec()),
                        orders::lease_expires_at.eq(end.nullable()),
                    ))
                    .execute(connection)?;
                let subject = Issuance {
                    account: AccountId::from_i64(account).ok_or_else(|| corrupt("orders.account_id"))?,
                    order: OrderId::from_slice(&id).ok_or_else(|| corrupt("orders.id"))?,
                    tbs: tbs.ok_or_else(|| corrupt("orders.tbs"))?,
                };
                leases.push(Lease::new(lease.token, subject));
            }
            Ok(leases)
        })
        .await
    }
}

type Abandoned = (Vec<u8>, i64, Option<Vec<u8>>);

macro_rules! abandoned {
    ($connection:expr, $clock:expr, $limit:expr $(, $lock:ident)*) => {
        orders::table
            .filter(orders::status.eq("processing"))
            .filter(orders::lease_expires_at.is_null().or(orders::lease_expires_at.lt($clock.nullable())))
            .order(orders::id)
            .limit($limit)
            .select((orders::id, orders::account_id, orders::tbs))
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
