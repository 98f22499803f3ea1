//! Claims what nobody validates: what waits for room, and what a dead replica left.
//!
//! A claim goes round the accounts that have something waiting, from where the last one of this process ended, and takes
//! one validation of each before a second of any: a client with a long queue does not make the others wait.

use std::collections::{BTreeMap, VecDeque};
use std::sync::atomic::{AtomicI64, Ordering};

use akamu_proto::{AccountId, AuthorizationId, ChallengeType, ErrorType, Problem, Timestamp};
use diesel::prelude::*;

use super::{MAX_ATTEMPTS, Validation, lease, validation};
use crate::authorization::{self, QueueEntry};
use crate::connection::{AnyConnection, DbResult, Processing, corrupt, kept, on};
use crate::error::StoreError;
use crate::known::{self, Known};
use crate::lease::{Lease, LeaseRequest, LeaseTerms};
use crate::schema::{authorizations, challenges, duties, orders};
use crate::store::Store;
use crate::{order, row_lock};

/// How much one claim may take.
#[derive(Clone, Debug)]
pub struct ClaimLimits {
    /// In all.
    pub total: usize,
    /// For one account, what runs already included.
    pub for_account: usize,
    /// For one base domain (or address), what runs already included.
    pub for_domain: usize,
    /// What runs already.
    pub running: RunningCounts,
}

/// How many validations a replica runs already.
#[derive(Clone, Debug, Default)]
pub struct RunningCounts {
    /// Of each account.
    pub by_account: BTreeMap<AccountId, usize>,
    /// Of each base domain, as [`Identifier::without_wildcard`](akamu_proto::Identifier::without_wildcard) shows it.
    pub by_domain: BTreeMap<String, usize>,
}

impl ClaimLimits {
    /// Whether what runs already keeps a claim from taking something that waits.
    pub fn is_reached(&self) -> bool {
        let RunningCounts { by_account, by_domain } = &self.running;
        self.total == 0
            || by_account.values().any(|it| *it >= self.for_account)
            || by_domain.values().any(|it| *it >= self.for_domain)
    }

    /// How many of an account may be taken.
    fn left_for(&self, account: i64) -> usize {
        let running = AccountId::from_i64(account).and_then(|it| self.running.by_account.get(&it));
        self.for_account.saturating_sub(running.copied().unwrap_or(0)).min(self.total)
    }
}

/// The account at which the next claim begins.
#[derive(Debug, Default)]
pub(crate) struct ClaimCursor(AtomicI64);

/// What a claim found.
#[derive(Default)]
struct Claimed {
    leases: Vec<Lease<Validation>>,
    /// Taken out of the queue.
    unwanted: Vec<AuthorizationId>,
    /// Begun [`MAX_ATTEMPTS`] times, and finished by nobody.
    poisonous: Vec<(AuthorizationId, ChallengeType)>,
    /// The account after which the next claim begins.
    last_account: i64,
}

impl Store {
    /// Leases challenges that are processing and that nobody holds, round robin over accounts. Those that three
    /// attempts did not finish fail here.
    ///
    /// # Errors
    /// Where the database fails.
    pub async fn validations_claim(
        &self,
        lease: LeaseRequest,
        limits: ClaimLimits,
        now: Timestamp,
    ) -> Result<Vec<Lease<Validation>>, StoreError> {
        let terms = self.lease_terms(lease);
        let cursor = &self.claim_cursor().0;
        let after = cursor.load(Ordering::Relaxed);
        let claim = move |connection: &mut AnyConnection| claim(connection, &terms, &limits, after, now);
        let learn = |known: &mut Known, claimed: &Claimed| {
            claimed.leases.iter().for_each(|it| known.authorization_is(it.subject().authorization.clone()));
            claimed.unwanted.iter().for_each(|it| known.forget_authorization(*it));
        };
        let claimed = self.write("validations_claim", claim, learn).await?;
        cursor.store(claimed.last_account, Ordering::Relaxed);
        for (id, challenge_type) in claimed.poisonous {
            let abandon = move |connection: &mut AnyConnection| abandon(connection, id, &challenge_type);
            self.write("validation_abandon", abandon, move |known, ()| known.forget_authorization(id)).await?;
        }
        Ok(claimed.leases)
    }

    /// Ends all leases: at the start of the only server on an embedded database nobody else can hold one.
    ///
    /// # Errors
    /// Where the database fails.
    pub async fn leases_void(&self) -> Result<(), StoreError> {
        let void = |connection: &mut AnyConnection| {
            let update = diesel::update(challenges::table.filter(challenges::status.eq(Processing)))
                .set(challenges::lease_expires_at.eq(None::<i64>));
            on!(connection, |it| kept!(update).execute(it))?;
            let update = diesel::update(orders::table.filter(orders::status.eq(Processing)))
                .set(orders::lease_expires_at.eq(None::<i64>));
            on!(connection, |it| kept!(update).execute(it))?;
            let update = diesel::update(duties::table).set(duties::lease_expires_at.eq(0));
            on!(connection, |it| kept!(update).execute(it))?;
            Ok(())
        };
        self.write("leases_void", void, known::nothing).await
    }
}

type Candidate = (Vec<u8>, String);

/// The waiting challenges of one account, at most `limit`. On PostgreSQL only the challenges' rows are taken, and those
/// that another replica is claiming are left to it.
macro_rules! candidates {
    ($connection:expr, $clock:expr, $account:expr, $limit:expr $(, $lock:ident)*) => {
        challenges::table
            .filter(challenges::status.eq(Processing))
            .filter(challenges::account_id.eq($account))
            .filter(challenges::lease_expires_at.is_null().or(challenges::lease_expires_at.lt($clock.nullable())))
            .order((challenges::account_id, challenges::authorization_id))
            .limit($limit)
            .select((challenges::authorization_id, challenges::challenge_type))
            $(.$lock())*
            .load::<Candidate>($connection)
    };
}

fn candidates(connection: &mut AnyConnection, account: i64, limit: i64, now: Timestamp) -> DbResult<Vec<Candidate>> {
    let clock = connection.lease_clock(now);
    match connection {
        AnyConnection::Postgres(it) => candidates!(it, clock, account, limit, for_update, skip_locked),
        AnyConnection::Sqlite(it) => candidates!(it, clock, account, limit),
    }
}

/// The first account after `after` that has something waiting.
fn next_account(connection: &mut AnyConnection, after: i64, now: Timestamp) -> DbResult<Option<i64>> {
    let clock = connection.lease_clock(now);
    let query = challenges::table
        .filter(challenges::status.eq(Processing))
        .filter(challenges::account_id.gt(after))
        .filter(challenges::lease_expires_at.is_null().or(challenges::lease_expires_at.lt(clock.nullable())))
        .order(challenges::account_id)
        .select(challenges::account_id);
    on!(connection, |it| query.first(it)).optional()
}

/// Up to `most` accounts that have something waiting, round from `after`.
fn accounts_in_turn(connection: &mut AnyConnection, after: i64, most: usize, now: Timestamp) -> DbResult<Vec<i64>> {
    let mut found = Vec::new();
    let mut cursor = after;
    let mut has_wrapped = false;
    while found.len() < most {
        match next_account(connection, cursor, now)? {
            Some(account) if has_wrapped && account > after => break,
            Some(account) => {
                found.push(account);
                cursor = account;
            }
            None if has_wrapped || after == 0 => break,
            // Ids are positive.
            None => {
                has_wrapped = true;
                cursor = 0;
            }
        }
    }
    Ok(found)
}

fn claim(
    connection: &mut AnyConnection,
    terms: &LeaseTerms,
    limits: &ClaimLimits,
    after: i64,
    now: Timestamp,
) -> DbResult<Claimed> {
    // Those that may have nothing more take up no place among those that are asked.
    let most = limits.total + limits.running.by_account.len();
    let accounts = accounts_in_turn(connection, after, most, now)?.into_iter();
    let accounts: Vec<_> = accounts.filter(|it| limits.left_for(*it) > 0).take(limits.total).collect();
    let mut claimed = Claimed { last_account: accounts.last().copied().unwrap_or(0), ..Claimed::default() };
    let mut waiting: VecDeque<VecDeque<Candidate>> = VecDeque::new();
    for account in accounts {
        let limit = i64::try_from(limits.left_for(account)).unwrap_or(i64::MAX);
        waiting.push_back(candidates(connection, account, limit, now)?.into());
    }
    let mut of_domain = limits.running.by_domain.clone();
    while let Some(mut of_account) = waiting.pop_front() {
        let Some((id, challenge_type)) = of_account.pop_front() else { continue };
        waiting.push_back(of_account);
        if claimed.leases.len() >= limits.total {
            break;
        }
        let id = AuthorizationId::from_slice(&id).ok_or_else(|| corrupt("challenges.authorization_id"))?;
        let challenge_type = ChallengeType::new(challenge_type);
        let Some(found) = authorization::by_id(connection, id)? else { continue };
        let Some((challenge, entry)) = found.challenge(&challenge_type) else { continue };
        if !found.wants_result(now) {
            free(connection, id, &challenge_type, entry)?;
            claimed.unwanted.push(id);
            continue;
        }
        if challenge.attempt >= MAX_ATTEMPTS {
            claimed.poisonous.push((id, challenge_type));
            continue;
        }
        let domain = of_domain.entry(found.authorization.identifier.without_wildcard().value()).or_default();
        if *domain >= limits.for_domain {
            continue;
        }
        let proof = entry.key_auth.as_deref().ok_or_else(|| corrupt("challenges.key_auth"))?;
        if lease(connection, id, challenge, proof, terms, now)? {
            *domain += 1;
            let subject = validation(connection, &found.authorization, challenge, proof, challenge.attempt + 1)?;
            claimed.leases.push(Lease::new(terms.token, subject));
        }
    }
    Ok(claimed)
}

/// Takes a challenge whose result nobody wants out of the queue; tells whether its lease was as it had been read.
pub(super) fn free(
    connection: &mut AnyConnection,
    id: AuthorizationId,
    challenge_type: &ChallengeType,
    entry: &QueueEntry,
) -> DbResult<bool> {
    let update = diesel::update(challenges::table.find((id.as_octets().as_slice(), challenge_type.as_str())))
        .filter(challenges::status.eq(Processing))
        .filter(challenges::lease_token.eq(&entry.lease_token).or(challenges::lease_token.is_null()))
        .set((
            challenges::status.eq("pending"),
            challenges::lease_token.eq(None::<Vec<u8>>),
            challenges::lease_owner.eq(None::<Vec<u8>>),
            challenges::lease_expires_at.eq(None::<i64>),
        ));
    let changed = on!(connection, |it| kept!(update).execute(it))?;
    Ok(changed == 1)
}

/// Fails a challenge that three attempts did not finish. In a transaction of its own, because authorizations are taken
/// before challenges.
fn abandon(connection: &mut AnyConnection, id: AuthorizationId, challenge_type: &ChallengeType) -> DbResult<()> {
    let detail =
        format!("the validation was begun {MAX_ATTEMPTS} times and not finished by this server; make a new order");
    let problem = Problem { status: None, ..Problem::new(ErrorType::ServerInternal, detail) };
    let error = order::stored_problem(&problem);
    row_lock::authorization(connection, id)?;
    let update = diesel::update(challenges::table.find((id.as_octets().as_slice(), challenge_type.as_str())))
        .filter(challenges::status.eq(Processing))
        .filter(challenges::attempt.ge(MAX_ATTEMPTS))
        .set((
            challenges::status.eq("invalid"),
            challenges::error.eq(&error),
            challenges::lease_token.eq(None::<Vec<u8>>),
            challenges::lease_expires_at.eq(None::<i64>),
        ));
    let changed = on!(connection, |it| kept!(update).execute(it))?;
    if changed == 1 {
        let update = diesel::update(authorizations::table.find(id.as_octets().as_slice()))
            .filter(authorizations::status.eq("pending"))
            .set(authorizations::status.eq("invalid"));
        on!(connection, |it| kept!(update).execute(it))?;
    }
    Ok(())
}
