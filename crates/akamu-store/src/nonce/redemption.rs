//! A nonce of several replicas, redeemed by the statement that reads what its request is about.

use std::sync::Arc;

use diesel::dsl::{Eq, sql};
use diesel::pg::Pg;
use diesel::prelude::*;
use diesel::query_builder::{Query, QueryFragment};
use diesel::sql_types::Text;

use crate::connection::{AnyConnection, DbResult, kept};
use crate::postgres::SessionNumber;
use crate::schema::redeemed_nonces;

/// How far a redemption is before the database is asked.
pub(crate) enum Redeeming {
    /// It was redeemed already, or is not ours.
    Refused,
    /// It is redeemed.
    Done,
    /// This row is to be inserted.
    InTable(Arc<RedeemedRow>),
}

/// A redeemed nonce's row.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct RedeemedRow {
    pub(super) nonce: Vec<u8>,
    /// Whose redemption it is: a run whose answer was lost recognises its own row.
    pub(super) owner: [u8; 16],
    /// The newest session before it was redeemed.
    pub(super) since: SessionNumber,
}

type Nonce<'a> = Eq<redeemed_nonces::nonce, &'a [u8]>;
type Owner<'a> = Eq<redeemed_nonces::owner, &'a [u8]>;

impl RedeemedRow {
    fn values(&self) -> (Nonce<'_>, Owner<'_>) {
        (redeemed_nonces::nonce.eq(self.nonce.as_slice()), redeemed_nonces::owner.eq(self.owner.as_slice()))
    }
}

/// The nonce of a request, redeemed. What the request changes is changed [for it](crate::Store::for_request).
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct RedeemedNonce(Option<Arc<RedeemedRow>>);

impl RedeemedNonce {
    /// Of this row, or kept in memory.
    pub(crate) const fn of(row: Option<Arc<RedeemedRow>>) -> Self {
        Self(row)
    }

    /// Whether it is redeemed still, before something is changed in this session: a crash of PostgreSQL may have lost the
    /// row, whose commit waited for no disk, and ends every session. In one from before the row is there; in a later one it
    /// is inserted where it is missing, to be durable with what is changed.
    pub(crate) fn holds(&self, connection: &mut AnyConnection, session: SessionNumber) -> DbResult<bool> {
        match (&self.0, connection) {
            (Some(row), AnyConnection::Postgres(it)) if session > row.since => {
                let insert = diesel::insert_into(redeemed_nonces::table).values(row.values()).on_conflict_do_nothing();
                Ok(kept!(insert).execute(it)? == 1 || is_own(it, row)?)
            }
            _ => Ok(true),
        }
    }
}

/// Inserts the row where there is none. What the request changes is committed after this and makes it durable: a commit
/// of its own need not wait for the disk.
pub(crate) fn insert(row: &RedeemedRow) -> impl QueryFragment<Pg> + Query<SqlType = Text> {
    diesel::insert_into(redeemed_nonces::table)
        .values(row.values())
        .on_conflict_do_nothing()
        .returning(sql::<Text>("set_config('synchronous_commit', 'off', true)"))
}

/// A redemption, in one run of an operation.
pub(crate) struct Redemption<'a> {
    row: Option<&'a RedeemedRow>,
    is_sent: bool,
    is_done: bool,
}

impl<'a> Redemption<'a> {
    /// Of this row, or of none.
    pub(crate) const fn of(row: Option<&'a RedeemedRow>) -> Self {
        Self { row, is_sent: false, is_done: row.is_none() }
    }

    /// The row, the first time that a statement can take it along.
    pub(crate) fn send(&mut self) -> Option<&'a RedeemedRow> {
        let row = self.row.filter(|_| !self.is_sent);
        self.is_sent = true;
        row
    }

    /// Whether the row was new; `None` where the statement found nothing and could not tell.
    pub(crate) fn sent(&mut self, is_new: Option<bool>) {
        self.is_done = is_new == Some(true);
    }

    /// Redeems what no statement has redeemed; `false` where it was redeemed for another request.
    pub(crate) fn finish(self, connection: &mut AnyConnection) -> DbResult<bool> {
        match (self.row, connection) {
            (Some(row), AnyConnection::Postgres(it)) if !self.is_done => redeem(it, row),
            _ => Ok(self.is_done),
        }
    }
}

fn redeem(connection: &mut PgConnection, row: &RedeemedRow) -> DbResult<bool> {
    Ok(kept!(insert(row)).get_result::<String>(connection).optional()?.is_some() || is_own(connection, row)?)
}

fn is_own(connection: &mut PgConnection, row: &RedeemedRow) -> DbResult<bool> {
    let owner = redeemed_nonces::table.find(&row.nonce).select(redeemed_nonces::owner);
    Ok(owner.first::<Vec<u8>>(connection).optional()?.as_deref() == Some(row.owner.as_slice()))
}

/// Loads these columns of a query, and redeems in the same statement what is to be redeemed.
macro_rules! load_redeeming {
    ($connection:expr, $redemption:expr, $query:expr, $columns:expr) => {
        match $connection {
            $crate::connection::AnyConnection::Postgres(it) => match $redemption.send() {
                Some(row) => {
                    let statement = $query.select(($crate::connection::DidBeside, $columns));
                    let with = $crate::connection::With { beside: $crate::nonce::insert(row), statement };
                    $crate::connection::kept!(with).load::<(bool, _)>(it).map(|rows| {
                        $redemption.sent(rows.first().map(|(is_new, _)| *is_new));
                        rows.into_iter().map(|(_, row)| row).collect::<Vec<_>>()
                    })
                }
                None => $query.select($columns).load(it),
            },
            $crate::connection::AnyConnection::Sqlite(it) => $query.select($columns).load(it),
        }
    };
}
pub(crate) use load_redeeming;

/// As [`load_redeeming`], with the account that the rows belong to, whose id `$account_id` is: on PostgreSQL in the same
/// statement, on SQLite not at all, for who asks there may know it.
macro_rules! load_with_account {
    ($connection:expr, $redemption:expr, $query:expr, $columns:expr, $account_id:expr) => {
        if let $crate::connection::AnyConnection::Postgres(_) = $connection {
            let of_rows = $crate::schema::accounts::id.eq($account_id);
            let query = $query.inner_join($crate::schema::accounts::table.on(of_rows));
            $crate::nonce::load_redeeming!($connection, $redemption, query, ($crate::account::COLUMNS, $columns)).map(
                |rows: Vec<($crate::account::Row, _)>| {
                    let (mut owners, rows): (Vec<_>, Vec<_>) = rows.into_iter().unzip();
                    (owners.pop(), rows)
                },
            )
        } else {
            $crate::nonce::load_redeeming!($connection, $redemption, $query, $columns).map(|rows| (None, rows))
        }
    };
}
pub(crate) use load_with_account;
