//! Claims what nobody validates: what waits for room, and what a dead replica left.

use std::collections::HashMap;

use akamu_proto::{AccountId, AuthorizationId, AuthorizationStatus, ChallengeType, ErrorType, Problem, Timestamp};
use diesel::prelude::*;

use super::{MAX_ATTEMPTS, Validation, extend, lock_authorization, validation};
use crate::account;
use crate::authorization::{self, Authorization};
use crate::connection::{AnyConnection, DbResult, corrupt};
use crate::error::StoreError;
use crate::lease::{Lease, LeaseRequest, LeaseTerms};
use crate::order;
use crate::schema::{authorizations, challenges};
use crate::store::Store;

/// How much one claim may take.
#[derive(Clone, Copy, Debug)]
pub struct ClaimLimits {
    /// In all.
    pub total: usize,
    /// For one account.
    pub for_account: usize,
    /// For one base domain (or address).
    pub for_domain: usize,
}

/// Candidates looked at for each one that may be claimed, so that one account's backlog does not hide the others.
const LOOK_AHEAD: usize = 16;

type Candidate = (Vec<u8>, String, Option<String>, i16, i64);

/// What was leased, and what three attempts did not finish.
type Claimed = (Vec<Lease<Validation>>, Vec<(AuthorizationId, ChallengeType)>);

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
        let (leases, poisonous) =
            self.write("validations_claim", move |connection| claim(connection, &terms, limits, now)).await?;
        for (id, challenge_type) in poisonous {
            self.write("validation_abandon", move |connection| abandon(connection, id, &challenge_type)).await?;
        }
        Ok(leases)
    }

    /// Ends all leases: at the start of the only server on an embedded database nobody else can hold one.
    ///
    /// # Errors
    /// Where the database fails.
    pub async fn leases_void(&self) -> Result<(), StoreError> {
        self.write("leases_void", |connection| {
            diesel::update(challenges::table.filter(challenges::status.eq("processing")))
                .set(challenges::lease_expires_at.eq(None::<i64>))
                .execute(connection)?;
            diesel::update(crate::schema::orders::table.filter(crate::schema::orders::status.eq("processing")))
                .set(crate::schema::orders::lease_expires_at.eq(None::<i64>))
                .execute(connection)?;
            Ok(())
        })
        .await
    }
}

macro_rules! candidates {
    ($connection:expr, $clock:expr, $limit:expr $(, $lock:ident)*) => {
        challenges::table
            .inner_join(authorizations::table)
            .filter(challenges::status.eq("processing"))
            .filter(challenges::lease_expires_at.is_null().or(challenges::lease_expires_at.lt($clock.nullable())))
            .order(challenges::authorization_id)
            .limit($limit)
            .select((
                challenges::authorization_id,
                challenges::challenge_type,
                challenges::key_auth,
                challenges::attempt,
                authorizations::account_id,
            ))
            $(.$lock())*
            .load::<Candidate>($connection)
    };
}

fn claim(
    connection: &mut AnyConnection,
    request: &LeaseTerms,
    limits: ClaimLimits,
    now: Timestamp,
) -> DbResult<Claimed> {
    let limit = i64::try_from(limits.total.saturating_mul(LOOK_AHEAD)).unwrap_or(i64::MAX);
    let clock = connection.lease_clock(now);
    let candidates = match connection {
        AnyConnection::Postgres(it) => candidates!(it, clock, limit, for_update, skip_locked)?,
        AnyConnection::Sqlite(it) => candidates!(it, clock, limit)?,
    };
    let mut leases = Vec::new();
    let mut poisonous = Vec::new();
    let mut of_domain: HashMap<String, usize> = HashMap::new();
    for (id, challenge_type, proof, attempt) in round_robin(candidates, limits.for_account) {
        let id = AuthorizationId::from_slice(&id).ok_or_else(|| corrupt("challenges.authorization_id"))?;
        let challenge_type = ChallengeType::new(challenge_type);
        let Some(authorization) = claimable(connection, id, now)? else {
            free(connection, id, &challenge_type)?;
            continue;
        };
        if attempt >= MAX_ATTEMPTS {
            poisonous.push((id, challenge_type));
            continue;
        }
        let domain = of_domain.entry(authorization.identifier.without_wildcard().value()).or_default();
        if leases.len() >= limits.total || *domain >= limits.for_domain {
            continue;
        }
        *domain += 1;
        let row = challenges::table.find((id.as_octets().to_vec(), challenge_type.as_str().to_owned()));
        diesel::update(row)
            .set((challenges::attempt.eq(attempt + 1), challenges::lease_token.eq(request.token.as_octets().to_vec())))
            .execute(connection)?;
        extend(connection, id, &challenge_type, request, now)?;
        let proof = proof.ok_or_else(|| corrupt("challenges.key_auth"))?;
        let subject = validation(connection, &authorization, &challenge_type, &proof, attempt + 1)?;
        leases.push(Lease::new(request.token, subject));
    }
    Ok((leases, poisonous))
}

/// One of each account, then the next of each, at most `for_account` of one.
fn round_robin(
    candidates: Vec<Candidate>,
    for_account: usize,
) -> impl Iterator<Item = (Vec<u8>, String, Option<String>, i16)> {
    let mut turns: HashMap<i64, usize> = HashMap::new();
    let mut ordered: Vec<_> = candidates
        .into_iter()
        .map(|(id, challenge_type, proof, attempt, account)| {
            let turn = turns.entry(account).or_default();
            *turn += 1;
            (*turn, (id, challenge_type, proof, attempt))
        })
        .filter(|(turn, _)| *turn <= for_account)
        .collect();
    ordered.sort_by_key(|(turn, _)| *turn);
    ordered.into_iter().map(|(_, candidate)| candidate)
}

/// The authorization, where it is pending and unexpired and its account is valid.
fn claimable(connection: &mut AnyConnection, id: AuthorizationId, now: Timestamp) -> DbResult<Option<Authorization>> {
    let owner: i64 =
        authorizations::table.find(id.as_octets().to_vec()).select(authorizations::account_id).first(connection)?;
    let owner = AccountId::from_i64(owner).ok_or_else(|| corrupt("authorizations.account_id"))?;
    let found = authorization::unexpired(connection, owner, id, now)?;
    let Some(found) = found.filter(|it| it.status == AuthorizationStatus::Pending) else { return Ok(None) };
    Ok(account::is_valid(connection, owner)?.then_some(found))
}

/// Takes a challenge whose result nobody wants out of the queue.
pub(super) fn free(
    connection: &mut AnyConnection,
    id: AuthorizationId,
    challenge_type: &ChallengeType,
) -> DbResult<()> {
    diesel::update(challenges::table.find((id.as_octets().to_vec(), challenge_type.as_str().to_owned())))
        .filter(challenges::status.eq("processing"))
        .set((
            challenges::status.eq("pending"),
            challenges::lease_token.eq(None::<Vec<u8>>),
            challenges::lease_expires_at.eq(None::<i64>),
        ))
        .execute(connection)?;
    Ok(())
}

/// Fails a challenge that three attempts did not finish. In a transaction of its own, because the orders are locked
/// before anything of the authorization is.
fn abandon(connection: &mut AnyConnection, id: AuthorizationId, challenge_type: &ChallengeType) -> DbResult<()> {
    let detail =
        format!("the validation was begun {MAX_ATTEMPTS} times and not finished by this server; make a new order");
    let problem = Problem { status: None, ..Problem::new(ErrorType::ServerInternal, detail) };
    let error = serde_json::to_string(&problem).unwrap_or_default();
    order::lock_of_authorization(connection, id.as_octets())?;
    lock_authorization(connection, id.as_octets())?;
    let changed = diesel::update(challenges::table.find((id.as_octets().to_vec(), challenge_type.as_str().to_owned())))
        .filter(challenges::status.eq("processing"))
        .filter(challenges::attempt.ge(MAX_ATTEMPTS))
        .set((challenges::status.eq("invalid"), challenges::error.eq(&error)))
        .execute(connection)?;
    if changed == 1 {
        diesel::update(authorizations::table.find(id.as_octets().to_vec()))
            .filter(authorizations::status.eq("pending"))
            .set(authorizations::status.eq("invalid"))
            .execute(connection)?;
        order::settle_failed(connection, id.as_octets(), &error)?;
    }
    Ok(())
}
