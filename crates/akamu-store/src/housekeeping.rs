//! Removes what has expired long enough ago, in small steps, by one server at a time.
//!
//! A step reads a bounded range of an index by expiry and removes what in it is final, children before parents; what it
//! must leave it passes by, and the next round finds it again. Accounts and their thumbprints are never removed.
//! Redeemed nonces and CRLs have their own rules, beside what writes them.

use akamu_proto::{AuthorizationId, CertificateId, OrderId, Timestamp};
use diesel::dsl::{exists, not};
use diesel::prelude::*;

use crate::connection::{AnyConnection, DbResult, Processing, kept, on};
use crate::error::StoreError;
use crate::known::Known;
use crate::lease::{LeaseRequest, LeaseTerms};
use crate::schema::{authorizations, certificates, challenges, duties, order_authorizations, orders};
use crate::store::Store;

/// Rows that a step reads, and so removes at most.
const STEP: i64 = 50;
const DUTY: &str = "housekeeping";

/// What is removed after it has expired.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Expired {
    /// Orders, but for those in processing. Their certificates stay.
    Orders,
    /// Authorizations that no order has any more, with their challenges and reports.
    Authorizations,
    /// Certificates, by the end of their validity.
    Certificates,
}

/// How far a round has come.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HousekeepingCursor {
    expired_at: i64,
    id: Vec<u8>,
}

/// What came of a step.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum HousekeepingStep {
    /// It was made.
    Made {
        /// How many orders, authorizations or certificates were removed.
        removed: usize,
        /// Where the next step begins; `None`: the round is over.
        next: Option<HousekeepingCursor>,
    },
    /// Another server does this.
    NotOurs,
}

/// The lease, taken or made longer; `false`: another server has it.
fn lead(connection: &mut AnyConnection, terms: &LeaseTerms, now: Timestamp) -> DbResult<bool> {
    let clock = connection.lease_clock(now);
    let end = clock.plus(terms.micros());
    let update = diesel::update(duties::table.find(DUTY))
        .filter(duties::lease_expires_at.lt(clock).or(duties::lease_owner.eq(terms.owner())))
        .set((duties::lease_owner.eq(terms.owner()), duties::lease_expires_at.eq(end)));
    let changed = on!(connection, |it| kept!(update).execute(it))?;
    Ok(changed == 1)
}

/// The next rows of an index by expiry. On PostgreSQL they are taken, but for those that somebody else has.
macro_rules! next_rows {
    ($connection:expr, $table:ident, $id:ident, $expires_at:ident, $before:expr, $after:expr) => {{
        let rows = || {
            $table::table
                .filter($table::$expires_at.le($before))
                .filter($table::$expires_at.ge($after.expired_at))
                .filter($table::$expires_at.gt($after.expired_at).or($table::$id.gt(&$after.id)))
                .order(($table::$expires_at, $table::$id))
                .limit(STEP)
                .select(($table::$expires_at, $table::$id))
        };
        match $connection {
            AnyConnection::Postgres(it) => rows().for_update().skip_locked().load::<(i64, Vec<u8>)>(it),
            AnyConnection::Sqlite(it) => rows().load::<(i64, Vec<u8>)>(it),
        }
    }};
}

fn remove_orders(connection: &mut AnyConnection, ids: &[Vec<u8>], before: i64) -> DbResult<usize> {
    let is_final = || orders::expires_at.le(before).and(orders::status.ne(Processing));
    let ended = orders::table.filter(orders::id.eq_any(ids)).filter(is_final()).select(orders::id);
    let delete = diesel::delete(order_authorizations::table.filter(order_authorizations::order_id.eq_any(ended)));
    on!(connection, |it| delete.execute(it))?;
    on!(connection, |it| diesel::delete(orders::table.filter(orders::id.eq_any(ids)).filter(is_final())).execute(it))
}

fn remove_authorizations(connection: &mut AnyConnection, ids: &[Vec<u8>], before: i64) -> DbResult<usize> {
    let is_unused = || {
        let links = order_authorizations::table.filter(order_authorizations::authorization_id.eq(authorizations::id));
        let running = challenges::table
            .filter(challenges::authorization_id.eq(authorizations::id))
            .filter(challenges::status.eq("processing"));
        authorizations::expires_at.le(before).and(not(exists(links))).and(not(exists(running)))
    };
    let query =
        authorizations::table.filter(authorizations::id.eq_any(ids)).filter(is_unused()).select(authorizations::id);
    let unused: Vec<Vec<u8>> = on!(connection, |it| query.load(it))?;
    let delete = diesel::delete(challenges::table.filter(challenges::authorization_id.eq_any(&unused)));
    on!(connection, |it| delete.execute(it))?;
    let delete = diesel::delete(authorizations::table.filter(authorizations::id.eq_any(&unused)).filter(is_unused()));
    on!(connection, |it| delete.execute(it))
}

fn remove_certificates(connection: &mut AnyConnection, ids: &[Vec<u8>], before: i64) -> DbResult<usize> {
    let delete = diesel::delete(
        certificates::table.filter(certificates::serial.eq_any(ids)).filter(certificates::not_after.le(before)),
    );
    on!(connection, |it| delete.execute(it))
}

/// Makes a step, and tells which rows it read: what it removed is among them.
fn step(
    connection: &mut AnyConnection,
    kind: Expired,
    before: i64,
    after: &HousekeepingCursor,
) -> DbResult<(HousekeepingStep, Vec<Vec<u8>>)> {
    let rows = match kind {
        Expired::Orders => next_rows!(connection, orders, id, expires_at, before, after),
        Expired::Authorizations => next_rows!(connection, authorizations, id, expires_at, before, after),
        Expired::Certificates => next_rows!(connection, certificates, serial, not_after, before, after),
    }?;
    let is_last = i64::try_from(rows.len()).is_ok_and(|it| it < STEP);
    let next = rows
        .last()
        .filter(|_| !is_last)
        .map(|(expired_at, id)| HousekeepingCursor { expired_at: *expired_at, id: id.clone() });
    let ids: Vec<Vec<u8>> = rows.into_iter().map(|(_, id)| id).collect();
    let removed = match kind {
        _ if ids.is_empty() => 0,
        Expired::Orders => remove_orders(connection, &ids, before)?,
        Expired::Authorizations => remove_authorizations(connection, &ids, before)?,
        Expired::Certificates => remove_certificates(connection, &ids, before)?,
    };
    Ok((HousekeepingStep::Made { removed, next }, ids))
}

impl Store {
    /// Removes some of what expired at `before` or earlier, from `after` on (`None`: from the oldest). Takes `lease` for
    /// as long as it says, or makes it longer: other servers remove nothing meanwhile.
    ///
    /// # Errors
    /// Where the database fails.
    pub async fn housekeeping_step(
        &self,
        kind: Expired,
        before: Timestamp,
        after: Option<HousekeepingCursor>,
        lease: LeaseRequest,
        now: Timestamp,
    ) -> Result<HousekeepingStep, StoreError> {
        let terms = self.lease_terms(lease);
        let after = after.unwrap_or(HousekeepingCursor { expired_at: i64::MIN, id: Vec::new() });
        let step = move |connection: &mut AnyConnection| {
            if !lead(connection, &terms, now)? {
                return Ok((HousekeepingStep::NotOurs, Vec::new()));
            }
            step(connection, kind, before.unix_micros(), &after)
        };
        let learn = move |known: &mut Known, (step, ids): &(HousekeepingStep, Vec<Vec<u8>>)| {
            let has_removed = matches!(step, HousekeepingStep::Made { removed: 1.., .. });
            for id in ids.iter().filter(|_| has_removed) {
                match kind {
                    Expired::Orders => OrderId::from_slice(id).map(|it| known.forget_order(it)),
                    Expired::Authorizations => AuthorizationId::from_slice(id).map(|it| known.forget_authorization(it)),
                    Expired::Certificates => CertificateId::from_slice(id).map(|it| known.forget_certificate(it)),
                };
            }
        };
        self.write("housekeeping_step", step, learn).await.map(|(step, _)| step)
    }
}
