//! Orders (RFC 8555 §7.1.3): made with their authorizations in one transaction, read with their identifiers.
//!
//! An order is stored as `pending` until it is finalized. Whether it is ready, or can never be, is what its
//! authorizations, its account and the time say when it is read: nothing has to be told to it.

mod create;

use std::sync::Arc;

use akamu_proto::{
    AccountId, AccountStatus, AuthorizationId, AuthorizationStatus, CertificateId, ErrorType, Identifier, OrderId,
    OrderStatus, Problem, Timestamp,
};
use diesel::prelude::*;
use diesel::result::{DatabaseErrorKind, Error as DieselError};

use crate::account;
use crate::account::Account;
use crate::authorization::{self, Authorization, NewAuthorization};
use crate::connection::{AnyConnection, DbResult, corrupt, on};
use crate::error::StoreError;
use crate::known::Known;
use crate::nonce::{Redemption, load_with_account};
use crate::owned::{Owned, Reading};
use crate::schema::{authorizations, challenges, order_authorizations, orders};
use crate::store::Store;

/// An order.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Order {
    /// Its id.
    pub id: OrderId,
    /// Whose it is.
    pub account: AccountId,
    /// Its state as of the reading (§7.1.6). One that will never be valid is invalid, with an `error`.
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

/// An order's row beside one of its authorizations'.
#[derive(Queryable)]
struct Row {
    status: String,
    expires_at: i64,
    created_at: i64,
    serial: Option<Vec<u8>>,
    error: Option<String>,
    csr_digest: Option<Vec<u8>>,
    lease_token: Option<Vec<u8>>,
    authorization: Vec<u8>,
    identifier_kind: String,
    identifier_value: String,
    authorization_status: String,
    authorization_expires_at: i64,
}

/// A problem, as it is stored.
pub(crate) fn stored_problem(problem: &Problem) -> String {
    serde_json::to_string(problem).expect("a problem is JSON")
}

fn problem(error_type: ErrorType, detail: impl Into<String>) -> Problem {
    Problem { status: None, ..Problem::new(error_type, detail) }
}

/// What an order's state depends on of one of its authorizations, as it is stored.
struct Part<'a> {
    id: AuthorizationId,
    identifier: &'a Identifier,
    status: AuthorizationStatus,
    expires_at: Timestamp,
}

/// What an order is that has not been finalized.
enum Waiting {
    Pending,
    Ready,
    /// This authorization failed; its challenge knows why.
    Failed(AuthorizationId),
    Ended(Problem),
}

/// RFC 8555 §7.1.6. What happened is told before what time has done since.
fn waiting(account: &Account, expires_at: Timestamp, parts: &[Part<'_>], now: Timestamp) -> Waiting {
    if account.status != AccountStatus::Valid {
        return Waiting::Ended(problem(ErrorType::Unauthorized, "the account was deactivated"));
    }
    let mut are_valid = true;
    for part in parts {
        match part.status {
            AuthorizationStatus::Valid => {}
            AuthorizationStatus::Pending => are_valid = false,
            AuthorizationStatus::Invalid => return Waiting::Failed(part.id),
            AuthorizationStatus::Deactivated | AuthorizationStatus::Expired | AuthorizationStatus::Revoked => {
                let detail = "an authorization of the order was deactivated";
                return Waiting::Ended(problem(ErrorType::Unauthorized, detail));
            }
        }
    }
    if expires_at <= now {
        let detail = format!("the order expired at {expires_at}; make a new one");
        return Waiting::Ended(problem(ErrorType::Malformed, detail));
    }
    if let Some(expired) = parts.iter().find(|it| it.expires_at <= now) {
        let (name, at) = (expired.identifier.without_wildcard().value(), expired.expires_at);
        let detail = format!("the order's authorization for {name} expired at {at}; make a new order");
        return Waiting::Ended(problem(ErrorType::Malformed, detail));
    }
    if are_valid { Waiting::Ready } else { Waiting::Pending }
}

impl Waiting {
    /// The state, and why it is invalid; `failure` says why an authorization failed.
    fn state<E>(
        self,
        failure: impl FnOnce(AuthorizationId) -> Result<Problem, E>,
    ) -> Result<(OrderStatus, Option<Problem>), E> {
        Ok(match self {
            Self::Pending => (OrderStatus::Pending, None),
            Self::Ready => (OrderStatus::Ready, None),
            Self::Failed(id) => (OrderStatus::Invalid, Some(failure(id)?)),
            Self::Ended(problem) => (OrderStatus::Invalid, Some(problem)),
        })
    }
}

fn status(row: &Row) -> DbResult<AuthorizationStatus> {
    AuthorizationStatus::from_word(&row.authorization_status).ok_or_else(|| corrupt("authorizations.status"))
}

/// Why an authorization failed.
fn failure(connection: &mut AnyConnection, id: AuthorizationId) -> DbResult<Problem> {
    let query = challenges::table
        .filter(challenges::authorization_id.eq(id.as_octets().as_slice()))
        .filter(challenges::error.is_not_null())
        .select(challenges::error);
    let error: Option<String> = on!(connection, |it| query.first(it))?;
    error.and_then(|it| serde_json::from_str(&it).ok()).ok_or_else(|| corrupt("challenges.error"))
}

fn stored_order(
    connection: &mut AnyConnection,
    account: Account,
    id: OrderId,
    rows: &[Row],
    now: Timestamp,
) -> DbResult<Option<StoredOrder>> {
    let Some(row) = rows.first() else { return Ok(None) };
    let expires_at = Timestamp::from_unix_micros(row.expires_at);
    let error = row.error.as_deref().map(serde_json::from_str).transpose();
    let error = error.map_err(|_| corrupt("orders.error"))?;
    let mut identifiers = Vec::with_capacity(rows.len());
    let mut ids = Vec::with_capacity(rows.len());
    for it in rows {
        ids.push(AuthorizationId::from_slice(&it.authorization).ok_or_else(|| corrupt("authorizations.id"))?);
        identifiers.push(authorization::identifier(&it.identifier_kind, &it.identifier_value)?);
    }
    let (status, error) = match OrderStatus::from_word(&row.status).ok_or_else(|| corrupt("orders.status"))? {
        OrderStatus::Pending => {
            let part = |(row, (id, identifier)): (&Row, (&AuthorizationId, _))| {
                let expires_at = Timestamp::from_unix_micros(row.authorization_expires_at);
                Ok(Part { id: *id, identifier, status: status(row)?, expires_at })
            };
            let parts: Vec<_> = rows.iter().zip(ids.iter().zip(&identifiers)).map(part).collect::<DbResult<_>>()?;
            waiting(&account, expires_at, &parts, now).state(|id| failure(connection, id))?
        }
        status => (status, error),
    };
    let serial = row.serial.as_deref().filter(|_| status == OrderStatus::Valid);
    let certificate =
        serial.map(|it| CertificateId::from_slice(it).ok_or_else(|| corrupt("orders.serial"))).transpose()?;
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

/// The account's order with this id: one statement, and one more where an authorization failed.
pub(crate) fn by_id(
    connection: &mut AnyConnection,
    account: AccountId,
    id: OrderId,
    now: Timestamp,
) -> DbResult<Option<StoredOrder>> {
    read(connection, account, id, None, &mut Redemption::of(None), now)
}

/// As [`by_id`], for who may know the account; `redemption` is done on the way.
fn read(
    connection: &mut AnyConnection,
    account: AccountId,
    id: OrderId,
    known: Option<&Account>,
    redemption: &mut Redemption<'_>,
    now: Timestamp,
) -> DbResult<Option<StoredOrder>> {
    let query = orders::table
        .inner_join(order_authorizations::table.inner_join(authorizations::table))
        .filter(orders::id.eq(id.as_octets().as_slice()))
        .filter(orders::account_id.eq(account.as_i64()))
        .order(order_authorizations::position);
    let columns = (
        orders::status,
        orders::expires_at,
        orders::created_at,
        orders::serial,
        orders::error,
        orders::csr_digest,
        orders::lease_token,
        authorizations::id,
        authorizations::identifier_kind,
        authorizations::identifier_value,
        authorizations::status,
        authorizations::expires_at,
    );
    let (owner, rows): (_, Vec<Row>) = load_with_account!(connection, redemption, query, columns, orders::account_id)?;
    if rows.is_empty() {
        return Ok(None);
    }
    let account = account::owner(connection, owner.as_ref(), known, account)?;
    stored_order(connection, account, id, &rows, now)
}

impl Owned for Order {
    type Id = OrderId;

    const OPERATION: &'static str = "account_and_order";

    fn find(reading: &mut Reading<'_>, account: AccountId, id: OrderId) -> DbResult<Option<(Account, Self)>> {
        let Reading { connection, redemption, known, now } = reading;
        let found = read(connection, account, id, *known, redemption, *now)?;
        Ok(found.map(|it| (it.account, it.order)))
    }

    fn of_known(known: &mut Known, account: &Account, id: OrderId, now: Timestamp) -> Option<Self> {
        let mut order = known.order(id).filter(|it| it.account == account.id)?.clone();
        if order.status == OrderStatus::Pending {
            let part = |id: &AuthorizationId| {
                let Authorization { id, identifier, status, expires_at, .. } = known.authorization(*id)?;
                Some(Part { id: *id, identifier, status: *status, expires_at: *expires_at })
            };
            let parts: Vec<_> = order.authorizations.iter().map(part).collect::<Option<_>>()?;
            let failure = |id| known.authorization(id)?.challenges.iter().find_map(|it| it.error.clone());
            let state = waiting(account, order.expires_at, &parts, now).state(|id| failure(id).ok_or(()));
            (order.status, order.error) = state.ok()?;
        }
        Some(order)
    }
}

fn create(connection: &mut AnyConnection, new: &NewOrder, now: Timestamp) -> DbResult<OrderCreated> {
    if !create::create(connection, new, now)? {
        // Ours, where the answer to an earlier run was lost; else the id was drawn twice.
        if let Some(found) = by_id(connection, new.account, new.id, now)? {
            return Ok(OrderCreated::Created(found.order));
        }
        let account = account::by_id(connection, new.account)?;
        return if account.is_some_and(|it| it.status == AccountStatus::Valid) {
            let what = Box::new("orders.id".to_owned());
            Err(DieselError::DatabaseError(DatabaseErrorKind::UniqueViolation, what))
        } else {
            Ok(OrderCreated::AccountNotValid)
        };
    }
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
        let new = Arc::new(new);
        let made = new.clone();
        let learn = move |known: &mut Known, created: &OrderCreated| {
            if let OrderCreated::Created(order) = created {
                made.authorizations.iter().for_each(|it| known.authorization_is(it.pending(made.account)));
                known.order_is(order.clone());
            }
        };
        self.change("order_create", move |connection| create(connection, &new, now), learn).await
    }

    /// The account's order; `None` where it is absent or another's.
    ///
    /// # Errors
    /// Where the database fails.
    pub async fn order(&self, account: AccountId, id: OrderId, now: Timestamp) -> Result<Option<Order>, StoreError> {
        self.select("order", move |connection| Ok(by_id(connection, account, id, now)?.map(|it| it.order))).await
    }
}
