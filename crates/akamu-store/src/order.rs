//! Orders (RFC 8555 §7.1.3): made with their authorizations in one transaction, read with their identifiers.

use akamu_proto::{
    AccountId, AuthorizationId, CertificateId, ErrorType, Identifier, OrderId, OrderStatus, Problem, Timestamp,
};
use diesel::prelude::*;

use crate::account;
use crate::authorization::{self, NewAuthorization};
use crate::connection::{AnyConnection, DbResult, corrupt, insert_all};
use crate::error::StoreError;
use crate::schema::{authorizations, order_authorizations, orders};
use crate::store::Store;

/// An order.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Order {
    /// Its id.
    pub id: OrderId,
    /// Whose it is.
    pub account: AccountId,
    /// Its state as of the reading: one that ran out of time is invalid, with an `error`.
    pub status: OrderStatus,
    /// When it ends.
    pub expires_at: Timestamp,
    /// What the certificate is for, in the order asked for.
    pub identifiers: Vec<Identifier>,
    /// The authorizations, in the same order.
    pub authorizations: Vec<AuthorizationId>,
    /// The certificate, where it is there.
    pub certificate: Option<CertificateId>,
    /// Why it is invalid.
    pub error: Option<Problem>,
}

/// An order to be made.
#[derive(Clone, Debug)]
pub struct NewOrder {
    /// Its id.
    pub id: OrderId,
    /// Whose it is.
    pub account: AccountId,
    /// When it ends.
    pub expires_at: Timestamp,
    /// Its authorizations, all new, one for each identifier.
    pub authorizations: Vec<NewAuthorization>,
}

/// What came of making an order.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum OrderCreated {
    /// It is there.
    Created(Order),
    /// The account is not valid any more.
    AccountNotValid,
}

type Row = (Vec<u8>, i64, String, i64, Option<Vec<u8>>, Option<String>);

const COLUMNS: (
    orders::id,
    orders::account_id,
    orders::status,
    orders::expires_at,
    orders::certificate_id,
    orders::error,
) = (orders::id, orders::account_id, orders::status, orders::expires_at, orders::certificate_id, orders::error);

/// An unfinished order's problem, as it is stored.
pub(crate) fn problem_text(detail: &str) -> String {
    let problem = Problem { status: None, ..Problem::new(ErrorType::Unauthorized, detail) };
    serde_json::to_string(&problem).unwrap_or_default()
}

fn order(connection: &mut AnyConnection, row: Row, now: Timestamp) -> DbResult<Order> {
    let (id, account, status, expires_at, certificate, error) = row;
    let mut status = OrderStatus::from_word(&status).ok_or_else(|| corrupt("orders.status"))?;
    let mut error = error.map(|it| serde_json::from_str(&it)).transpose().map_err(|_| corrupt("orders.error"))?;
    let expires_at = Timestamp::from_unix_micros(expires_at);
    if matches!(status, OrderStatus::Pending | OrderStatus::Ready) && expires_at <= now {
        status = OrderStatus::Invalid;
        error = Some(Problem::new(ErrorType::Malformed, format!("the order expired at {expires_at}; make a new one")));
    }
    let links: Vec<(Vec<u8>, String, String)> = order_authorizations::table
        .inner_join(authorizations::table)
        .filter(order_authorizations::order_id.eq(&id))
        .order(order_authorizations::position)
        .select((authorizations::id, authorizations::identifier_kind, authorizations::identifier_value))
        .load(connection)?;
    let mut identifiers = Vec::with_capacity(links.len());
    let mut ids = Vec::with_capacity(links.len());
    for (id, kind, value) in links {
        ids.push(AuthorizationId::from_slice(&id).ok_or_else(|| corrupt("authorizations.id"))?);
        identifiers.push(authorization::identifier(&kind, &value)?);
    }
    Ok(Order {
        id: OrderId::from_slice(&id).ok_or_else(|| corrupt("orders.id"))?,
        account: AccountId::from_i64(account).ok_or_else(|| corrupt("orders.account_id"))?,
        status,
        expires_at,
        identifiers,
        authorizations: ids,
        certificate: certificate
            .map(|it| CertificateId::from_slice(&it).ok_or_else(|| corrupt("orders.certificate_id")))
            .transpose()?,
        error,
    })
}

/// The account's order with this id.
pub(crate) fn by_id(
    connection: &mut AnyConnection,
    account: AccountId,
    id: OrderId,
    now: Timestamp,
) -> DbResult<Option<Order>> {
    let row = orders::table
        .find(id.as_octets().to_vec())
        .filter(orders::account_id.eq(account.as_i64()))
        .select(COLUMNS)
        .first::<Row>(connection)
        .optional()?;
    row.map(|row| order(connection, row, now)).transpose()
}

/// The orders of an authorization, locked on PostgreSQL, in id order.
pub(crate) fn lock_of_authorization(connection: &mut AnyConnection, authorization: &[u8]) -> DbResult<Vec<Vec<u8>>> {
    let ids: Vec<Vec<u8>> = order_authorizations::table
        .filter(order_authorizations::authorization_id.eq(authorization.to_vec()))
        .order(order_authorizations::order_id)
        .select(order_authorizations::order_id)
        .load(connection)?;
    if let AnyConnection::Postgres(it) = connection {
        orders::table
            .filter(orders::id.eq_any(&ids))
            .order(orders::id)
            .for_update()
            .select(orders::id)
            .load::<Vec<u8>>(it)?;
    }
    Ok(ids)
}

/// Moves the orders of an authorization that has just become valid: each whose authorizations are all valid is ready.
/// To be called after the write; a new order may have been linked since the orders were locked.
pub(crate) fn settle_valid(connection: &mut AnyConnection, authorization: &[u8]) -> DbResult<Vec<OrderId>> {
    let ids = lock_of_authorization(connection, authorization)?;
    let mut moved = Vec::new();
    for id in ids {
        let missing: i64 = order_authorizations::table
            .inner_join(authorizations::table)
            .filter(order_authorizations::order_id.eq(&id))
            .filter(authorizations::status.ne("valid"))
            .count()
            .get_result(connection)?;
        if missing == 0 {
            let changed = diesel::update(orders::table.find(&id))
                .filter(orders::status.eq("pending"))
                .set(orders::status.eq("ready"))
                .execute(connection)?;
            if changed == 1 {
                moved.push(OrderId::from_slice(&id).ok_or_else(|| corrupt("orders.id"))?);
            }
        }
    }
    Ok(moved)
}

/// Makes the unfinished orders of an authorization invalid that will never be valid.
pub(crate) fn settle_failed(
    connection: &mut AnyConnection,
    authorization: &[u8],
    error: &str,
) -> DbResult<Vec<OrderId>> {
    let ids = lock_of_authorization(connection, authorization)?;
    let mut moved = Vec::new();
    for id in ids {
        let changed = diesel::update(orders::table.find(&id))
            .filter(orders::status.eq_any(["pending", "ready"]))
            .set((orders::status.eq("invalid"), orders::error.eq(error)))
            .execute(connection)?;
        if changed == 1 {
            moved.push(OrderId::from_slice(&id).ok_or_else(|| corrupt("orders.id"))?);
        }
    }
    Ok(moved)
}

impl Store {
    /// Makes an order with its authorizations and their challenges.
    ///
    /// # Errors
    /// Where the database fails.
    pub async fn order_create(&self, new: NewOrder, now: Timestamp) -> Result<OrderCreated, StoreError> {
        self.write("order_create", move |connection| {
            if !account::is_valid(connection, new.account)? {
                return Ok(OrderCreated::AccountNotValid);
            }
            // The answer to an earlier try was lost.
            if let Some(found) = by_id(connection, new.account, new.id, now)? {
                return Ok(OrderCreated::Created(found));
            }
            let id = new.id.as_octets().as_slice();
            let row = (
                orders::id.eq(id),
                orders::account_id.eq(new.account.as_i64()),
                orders::status.eq(OrderStatus::Pending.as_str()),
                orders::expires_at.eq(new.expires_at.unix_micros()),
                orders::created_at.eq(now.unix_micros()),
            );
            diesel::insert_into(orders::table).values(row).execute(connection)?;
            authorization::insert(connection, new.account, &new.authorizations, now)?;
            let links: Vec<_> = (0_i16..)
                .zip(&new.authorizations)
                .map(|(position, it)| {
                    (
                        order_authorizations::order_id.eq(id),
                        order_authorizations::position.eq(position),
                        order_authorizations::authorization_id.eq(it.id.as_octets().as_slice()),
                    )
                })
                .collect();
            insert_all!(connection, order_authorizations::table, &links)?;
            Ok(OrderCreated::Created(Order {
                id: new.id,
                account: new.account,
                status: OrderStatus::Pending,
                expires_at: new.expires_at,
                identifiers: new.authorizations.iter().map(|it| it.identifier.clone()).collect(),
                authorizations: new.authorizations.iter().map(|it| it.id).collect(),
                certificate: None,
                error: None,
            }))
        })
        .await
    }

    /// The account's order; `None` where it is absent or another's.
    ///
    /// # Errors
    /// Where the database fails.
    pub async fn order(&self, account: AccountId, id: OrderId, now: Timestamp) -> Result<Option<Order>, StoreError> {
        self.read("order", move |connection| by_id(connection, account, id, now)).await
    }
}
