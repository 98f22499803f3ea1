//! Orders (RFC 8555 §7.1.3): made with their authorizations in one transaction, read with their identifiers.

use akamu_proto::{
    AccountId, AuthorizationId, CertificateId, ErrorType, Identifier, OrderId, OrderStatus, Problem, Timestamp,
};
use diesel::dsl::{exists, not};
use diesel::prelude::*;
use diesel::result::{DatabaseErrorKind, Error as DieselError};

use crate::account::Account;
use crate::authorization::{self, NewAuthorization};
use crate::connection::{AnyConnection, DbResult, corrupt, insert_all, insert_if_new};
use crate::error::StoreError;
use crate::schema::{accounts, authorizations, order_authorizations, orders};
use crate::store::Store;
use crate::{account, row_lock};

/// An order.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Order {
    /// Its id.
    pub id: OrderId,
    /// Whose it is.
    pub account: AccountId,
    /// Its state as of the reading: one that ran out of time, or whose authorization did, is invalid, with an `error`.
    pub status: OrderStatus,
    /// When it ends.
    pub expires_at: Timestamp,
    /// When it was made.
    pub created_at: Timestamp,
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
    /// Its authorizations, all new, one for each identifier, at least one.
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

/// An order with what only the store sees of it.
pub(crate) struct StoredOrder {
    pub(crate) order: Order,
    pub(crate) account: Account,
    pub(crate) csr_digest: Option<Vec<u8>>,
    pub(crate) lease_token: Option<Vec<u8>>,
}

/// An order's row beside its account's and one of its authorizations'.
#[derive(Queryable)]
struct Row {
    account: account::Row,
    status: String,
    expires_at: i64,
    created_at: i64,
    certificate: Option<Vec<u8>>,
    error: Option<String>,
    csr_digest: Option<Vec<u8>>,
    lease_token: Option<Vec<u8>>,
    authorization: Vec<u8>,
    identifier_kind: String,
    identifier_value: String,
    authorization_expires_at: i64,
}

/// A problem of ours, as it is stored.
pub(crate) fn problem_text(detail: &str) -> String {
    stored_problem(&Problem { status: None, ..Problem::new(ErrorType::Unauthorized, detail) })
}

/// A problem, as it is stored.
pub(crate) fn stored_problem(problem: &Problem) -> String {
    serde_json::to_string(problem).expect("a problem is JSON")
}

/// Why time alone made an unfinished order invalid (RFC 8555 §7.1.6): its own, or that of an authorization.
fn expiry(expires_at: Timestamp, rows: &[Row], now: Timestamp) -> Option<String> {
    if expires_at <= now {
        return Some(format!("the order expired at {expires_at}; make a new one"));
    }
    let expired = rows.iter().find(|it| it.authorization_expires_at <= now.unix_micros())?;
    let (name, at) = (&expired.identifier_value, Timestamp::from_unix_micros(expired.authorization_expires_at));
    Some(format!("the order's authorization for {name} expired at {at}; make a new order"))
}

fn stored_order(id: OrderId, rows: &[Row], now: Timestamp) -> DbResult<Option<StoredOrder>> {
    let Some(row) = rows.first() else { return Ok(None) };
    let mut status = OrderStatus::from_word(&row.status).ok_or_else(|| corrupt("orders.status"))?;
    let error = row.error.as_deref().map(serde_json::from_str).transpose();
    let mut error = error.map_err(|_| corrupt("orders.error"))?;
    let expires_at = Timestamp::from_unix_micros(row.expires_at);
    if matches!(status, OrderStatus::Pending | OrderStatus::Ready)
        && let Some(detail) = expiry(expires_at, rows, now)
    {
        status = OrderStatus::Invalid;
        error = Some(Problem { status: None, ..Problem::new(ErrorType::Malformed, detail) });
    }
    let mut identifiers = Vec::with_capacity(rows.len());
    let mut ids = Vec::with_capacity(rows.len());
    for it in rows {
        let id = AuthorizationId::from_slice(&it.authorization).ok_or_else(|| corrupt("authorizations.id"))?;
        ids.push(id);
        identifiers.push(authorization::identifier(&it.identifier_kind, &it.identifier_value)?);
    }
    let certificate = row
        .certificate
        .as_deref()
        .map(|it| CertificateId::from_slice(it).ok_or_else(|| corrupt("orders.certificate_id")))
        .transpose()?;
    let account = account::account(&row.account)?;
    let order = Order {
        id,
        account: account.id,
        status,
        expires_at,
        created_at: Timestamp::from_unix_micros(row.created_at),
        identifiers,
        authorizations: ids,
        certificate,
        error,
    };
    Ok(Some(StoredOrder { order, account, csr_digest: row.csr_digest.clone(), lease_token: row.lease_token.clone() }))
}

/// The account's order with this id, in one statement.
pub(crate) fn by_id(
    connection: &mut AnyConnection,
    account: AccountId,
    id: OrderId,
    now: Timestamp,
) -> DbResult<Option<StoredOrder>> {
    let rows: Vec<Row> = orders::table
        .inner_join(order_authorizations::table.inner_join(authorizations::table))
        .inner_join(accounts::table)
        .filter(orders::id.eq(id.as_octets().as_slice()))
        .filter(orders::account_id.eq(account.as_i64()))
        .order(order_authorizations::position)
        .select((
            account::COLUMNS,
            orders::status,
            orders::expires_at,
            orders::created_at,
            orders::certificate_id,
            orders::error,
            orders::csr_digest,
            orders::lease_token,
            authorizations::id,
            authorizations::identifier_kind,
            authorizations::identifier_value,
            authorizations::expires_at,
        ))
        .load(connection)?;
    stored_order(id, &rows, now)
}

fn order_ids(rows: &[Vec<u8>]) -> DbResult<Vec<OrderId>> {
    rows.iter().map(|it| OrderId::from_slice(it).ok_or_else(|| corrupt("orders.id"))).collect()
}

/// Makes each pending order of an authorization ready whose authorizations are all valid.
///
/// To be called after the authorization was written: an order may have been linked to it since its orders were taken.
pub(crate) fn settle_valid(connection: &mut AnyConnection, authorization: AuthorizationId) -> DbResult<Vec<OrderId>> {
    row_lock::orders_of(connection, authorization)?;
    let of_authorization = order_authorizations::table
        .filter(order_authorizations::authorization_id.eq(authorization.as_octets().as_slice()))
        .select(order_authorizations::order_id);
    let missing = order_authorizations::table
        .inner_join(authorizations::table)
        .filter(order_authorizations::order_id.eq(orders::id))
        .filter(authorizations::status.ne("valid"));
    let ready: Vec<Vec<u8>> = diesel::update(orders::table)
        .filter(orders::id.eq_any(of_authorization))
        .filter(orders::status.eq(OrderStatus::Pending.as_str()))
        .filter(not(exists(missing)))
        .set(orders::status.eq(OrderStatus::Ready.as_str()))
        .returning(orders::id)
        .load(connection)?;
    order_ids(&ready)
}

/// Makes the pending and ready orders of an authorization invalid that will never be valid. When to be called: as
/// [`settle_valid`].
pub(crate) fn settle_failed(
    connection: &mut AnyConnection,
    authorization: AuthorizationId,
    error: &str,
) -> DbResult<Vec<OrderId>> {
    row_lock::orders_of(connection, authorization)?;
    let of_authorization = order_authorizations::table
        .filter(order_authorizations::authorization_id.eq(authorization.as_octets().as_slice()))
        .select(order_authorizations::order_id);
    let failed: Vec<Vec<u8>> = diesel::update(orders::table)
        .filter(orders::id.eq_any(of_authorization))
        .filter(orders::status.eq_any(["pending", "ready"]))
        .set((orders::status.eq(OrderStatus::Invalid.as_str()), orders::error.eq(error)))
        .returning(orders::id)
        .load(connection)?;
    order_ids(&failed)
}

fn create(connection: &mut AnyConnection, new: &NewOrder, now: Timestamp) -> DbResult<OrderCreated> {
    if !account::is_valid(connection, new.account)? {
        return Ok(OrderCreated::AccountNotValid);
    }
    let id = new.id.as_octets().as_slice();
    let row = (
        orders::id.eq(id),
        orders::account_id.eq(new.account.as_i64()),
        orders::status.eq(OrderStatus::Pending.as_str()),
        orders::expires_at.eq(new.expires_at.unix_micros()),
        orders::created_at.eq(now.unix_micros()),
    );
    if !insert_if_new!(connection, orders::table, row)? {
        // Ours, where the answer to an earlier run was lost; else the id was drawn twice.
        let found = by_id(connection, new.account, new.id, now)?;
        return found.map(|it| OrderCreated::Created(it.order)).ok_or_else(|| {
            DieselError::DatabaseError(DatabaseErrorKind::UniqueViolation, Box::new("orders.id".to_owned()))
        });
    }
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
        created_at: now,
        identifiers: new.authorizations.iter().map(|it| it.identifier.clone()).collect(),
        authorizations: new.authorizations.iter().map(|it| it.id).collect(),
        certificate: None,
        error: None,
    }))
}

impl Store {
    /// Makes an order with its authorizations and their challenges.
    ///
    /// # Errors
    /// Where the database fails, or an id is taken.
    pub async fn order_create(&self, new: NewOrder, now: Timestamp) -> Result<OrderCreated, StoreError> {
        self.write("order_create", move |connection| create(connection, &new, now)).await
    }

    /// The account's order; `None` where it is absent or another's.
    ///
    /// # Errors
    /// Where the database fails.
    pub async fn order(&self, account: AccountId, id: OrderId, now: Timestamp) -> Result<Option<Order>, StoreError> {
        self.select("order", move |connection| Ok(by_id(connection, account, id, now)?.map(|it| it.order))).await
    }
    /// The account, and its order as in [`Store::order`], in one statement where both are there.
    ///
    /// # Errors
    /// Where the database fails.
    pub async fn account_and_order(
        &self,
        account: AccountId,
        id: OrderId,
        now: Timestamp,
    ) -> Result<Option<(Account, Option<Order>)>, StoreError> {
        self.select("account_and_order", move |connection| match by_id(connection, account, id, now)? {
            Some(found) => Ok(Some((found.account, Some(found.order)))),
            None => Ok(account::by_id(connection, account)?.map(|it| (it, None))),
        })
        .await
    }
}
