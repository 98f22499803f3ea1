//! Which rows an operation takes before it decides. No-ops on SQLite, whose writer is alone.
//!
//! A decision that depends on several rows takes them in one order, so that two operations never wait for each other:
//! the account (shared), then orders by id, then the authorization, then its challenge. Whoever changes an authorization
//! takes its orders first; else two results recorded at once each see the other as pending. Whoever links an existing
//! authorization to a new order reads it FOR SHARE.

use akamu_proto::{AccountId, AuthorizationId, OrderId};
use diesel::prelude::*;

use crate::connection::{AnyConnection, DbResult};
use crate::schema::{accounts, authorizations, order_authorizations, orders};

/// Keeps an account's state as it is.
pub(crate) fn account(connection: &mut AnyConnection, id: AccountId) -> DbResult<()> {
    if let AnyConnection::Postgres(it) = connection {
        accounts::table.find(id.as_i64()).select(accounts::id).for_share().load::<i64>(it)?;
    }
    Ok(())
}

/// Takes an order.
pub(crate) fn order(connection: &mut AnyConnection, id: OrderId) -> DbResult<()> {
    if let AnyConnection::Postgres(it) = connection {
        let id = id.as_octets().as_slice();
        orders::table.find(id).select(orders::id).for_update().load::<Vec<u8>>(it)?;
    }
    Ok(())
}

/// Takes the orders that an authorization has now.
pub(crate) fn orders_of(connection: &mut AnyConnection, authorization: AuthorizationId) -> DbResult<()> {
    if let AnyConnection::Postgres(it) = connection {
        let ids = order_authorizations::table
            .filter(order_authorizations::authorization_id.eq(authorization.as_octets().as_slice()))
            .select(order_authorizations::order_id);
        orders::table
            .filter(orders::id.eq_any(ids))
            .order(orders::id)
            .select(orders::id)
            .for_update()
            .load::<Vec<u8>>(it)?;
    }
    Ok(())
}

/// Takes the unfinished orders of an account.
pub(crate) fn unfinished_orders_of(connection: &mut AnyConnection, account: AccountId) -> DbResult<()> {
    if let AnyConnection::Postgres(it) = connection {
        orders::table
            .filter(orders::account_id.eq(account.as_i64()))
            .filter(orders::status.eq_any(["pending", "ready"]))
            .order(orders::id)
            .select(orders::id)
            .for_update()
            .load::<Vec<u8>>(it)?;
    }
    Ok(())
}

/// Takes an authorization.
pub(crate) fn authorization(connection: &mut AnyConnection, id: AuthorizationId) -> DbResult<()> {
    if let AnyConnection::Postgres(it) = connection {
        let id = id.as_octets().as_slice();
        authorizations::table.find(id).select(authorizations::id).for_update().load::<Vec<u8>>(it)?;
    }
    Ok(())
}
