//! Validations: the challenge's row is the queue, its lease the right to record the one result.

mod claim;
mod record;

use akamu_proto::{
    AccountId, AuthorizationId, ChallengeStatus, ChallengeType, Identifier, OrderId, Problem, Thumbprint, Timestamp,
    Token,
};
use diesel::prelude::*;

use crate::authorization::{self, Authorization, Challenge};
use crate::connection::{AnyConnection, DbResult};
use crate::error::StoreError;
use crate::lease::{Lease, LeaseRequest, LeaseTerms, LeaseToken};
use crate::schema::challenges;
use crate::store::Store;
use crate::{account, row_lock};

pub(crate) use claim::ClaimCursor;
pub use claim::{ClaimLimits, RunningCounts};
pub use record::{MAX_REPORT_OCTETS, StoredReport};

/// Attempts that nobody finished, after which a challenge fails: a poisonous target must not go round the replicas.
const MAX_ATTEMPTS: i16 = 3;

/// A validation to be run.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Validation {
    /// Whose it is.
    pub account: AccountId,
    /// The authorization.
    pub authorization: AuthorizationId,
    /// What the client claims to control.
    pub identifier: Identifier,
    /// The challenge's type.
    pub challenge_type: ChallengeType,
    /// The challenge's token, where the type has one.
    pub token: Option<Token>,
    /// The key authorization as it was when the client answered; for dns-persist-01 the account's URL.
    pub proof: String,
    /// For types without a token: every thumbprint that the account ever had, the current one first.
    pub thumbprints: Vec<Thumbprint>,
    /// Which attempt this is, from 1.
    pub attempt: i16,
}

/// What came of starting a validation.
#[derive(Debug)]
pub enum ValidationBegun {
    /// The caller has the lease, and is to validate.
    Started {
        /// The work.
        lease: Lease<Validation>,
        /// The authorization as it is now.
        authorization: Authorization,
    },
    /// The challenge waits in the database for a replica that has room.
    Queued(Authorization),
    /// Nothing was to be done: it is not pending, or another challenge of the authorization is processing.
    Unchanged(Authorization),
    /// The authorization is absent, another's or expired, or this type was not offered.
    NotFound,
}

/// A validation's result.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ValidationOutcome {
    /// Control is proven.
    Valid {
        /// The authorization ends then at the latest (persistUntil).
        expires_no_later_than: Option<Timestamp>,
    },
    /// It is not.
    Invalid(Problem),
}

/// What came of recording a result.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ValidationRecorded {
    /// Challenge, authorization and orders have moved.
    Recorded {
        /// The authorization as it is now.
        authorization: Authorization,
        /// The orders that became ready or invalid.
        orders: Vec<OrderId>,
    },
    /// Somebody else has the lease now.
    LeaseLost,
    /// The authorization or the account is not what it was: the report is kept, and nothing else.
    NoLongerWanted,
}

/// The work of a challenge that has just been leased.
fn validation(
    connection: &mut AnyConnection,
    authorization: &Authorization,
    challenge: &Challenge,
    proof: &str,
    attempt: i16,
) -> DbResult<Validation> {
    let thumbprints = if challenge.challenge_type.has_token() {
        Vec::new()
    } else {
        account::thumbprints(connection, authorization.account)?
    };
    Ok(Validation {
        account: authorization.account,
        authorization: authorization.id,
        identifier: authorization.identifier.clone(),
        challenge_type: challenge.challenge_type.clone(),
        token: challenge.token.clone(),
        proof: proof.to_owned(),
        thumbprints,
        attempt,
    })
}

/// Leases a challenge for its next attempt, which is counted here, before it is made. Tells whether the challenge was as
/// it had been read.
fn lease(
    connection: &mut AnyConnection,
    id: AuthorizationId,
    challenge: &Challenge,
    proof: &str,
    terms: &LeaseTerms,
    now: Timestamp,
) -> DbResult<bool> {
    let end = connection.lease_clock(now) + terms.micros();
    let changed =
        diesel::update(challenges::table.find((id.as_octets().as_slice(), challenge.challenge_type.as_str())))
            .filter(challenges::status.eq(challenge.status.as_str()))
            .filter(challenges::attempt.eq(challenge.attempt))
            .set((
                challenges::status.eq(ChallengeStatus::Processing.as_str()),
                challenges::key_auth.eq(proof),
                challenges::attempt.eq(challenge.attempt + 1),
                challenges::lease_token.eq(terms.token.as_octets()),
                challenges::lease_owner.eq(terms.owner()),
                challenges::lease_expires_at.eq(end.nullable()),
            ))
            .execute(connection)?;
    Ok(changed == 1)
}

/// Lets a pending challenge wait until a replica claims it.
fn queue(
    connection: &mut AnyConnection,
    id: AuthorizationId,
    challenge_type: &ChallengeType,
    proof: &str,
) -> DbResult<bool> {
    let changed = diesel::update(challenges::table.find((id.as_octets().as_slice(), challenge_type.as_str())))
        .filter(challenges::status.eq(ChallengeStatus::Pending.as_str()))
        .set((challenges::status.eq(ChallengeStatus::Processing.as_str()), challenges::key_auth.eq(proof)))
        .execute(connection)?;
    Ok(changed == 1)
}

fn begin(
    connection: &mut AnyConnection,
    account: AccountId,
    id: AuthorizationId,
    challenge_type: &ChallengeType,
    proof: &str,
    terms: Option<&LeaseTerms>,
    now: Timestamp,
) -> DbResult<ValidationBegun> {
    row_lock::authorization(connection, id)?;
    let Some(found) = authorization::of_account(connection, account, id, now)? else {
        return Ok(ValidationBegun::NotFound);
    };
    let Some((challenge, entry)) = found.challenge(challenge_type) else { return Ok(ValidationBegun::NotFound) };
    let is_ours = |token: LeaseToken| entry.lease_token.as_deref() == Some(token.as_octets());
    if let Some(terms) = terms
        && challenge.status == ChallengeStatus::Processing
        && is_ours(terms.token)
    {
        // The answer to an earlier run was lost.
        let subject = validation(connection, &found.authorization, challenge, proof, challenge.attempt)?;
        let lease = Lease::new(terms.token, subject);
        return Ok(ValidationBegun::Started { lease, authorization: found.authorization });
    }
    // One challenge at a time: while one is processing, the others wait.
    let is_idle = found.authorization.challenges.iter().all(|it| it.status != ChallengeStatus::Processing);
    if !found.wants_result(now) || !is_idle || challenge.status != ChallengeStatus::Pending {
        return Ok(ValidationBegun::Unchanged(found.authorization));
    }
    let has_begun = match terms {
        Some(terms) => lease(connection, id, challenge, proof, terms, now)?,
        None => queue(connection, id, challenge_type, proof)?,
    };
    if !has_begun {
        return Ok(ValidationBegun::Unchanged(found.authorization));
    }
    let lease = match terms {
        Some(terms) => {
            let subject = validation(connection, &found.authorization, challenge, proof, challenge.attempt + 1)?;
            Some(Lease::new(terms.token, subject))
        }
        None => None,
    };
    let mut authorization = found.authorization;
    for challenge in &mut authorization.challenges {
        if challenge.challenge_type == *challenge_type {
            challenge.status = ChallengeStatus::Processing;
            challenge.attempt += i16::from(lease.is_some());
        }
    }
    Ok(match lease {
        Some(lease) => ValidationBegun::Started { lease, authorization },
        None => ValidationBegun::Queued(authorization),
    })
}

impl Store {
    /// Moves a pending challenge to processing (RFC 8555 §7.5.1). With `lease` the caller is to validate; without, the
    /// challenge waits to be claimed. `proof` is what the client must show, as of now: the key authorization, or for
    /// dns-persist-01 the account's URL.
    ///
    /// # Errors
    /// Where the database fails.
    pub async fn validation_begin(
        &self,
        account: AccountId,
        id: AuthorizationId,
        challenge_type: &ChallengeType,
        proof: &str,
        lease: Option<LeaseRequest>,
        now: Timestamp,
    ) -> Result<ValidationBegun, StoreError> {
        let (challenge_type, proof) = (challenge_type.clone(), proof.to_owned());
        let terms = lease.map(|it| self.lease_terms(it));
        self.write("validation_begin", move |connection| {
            begin(connection, account, id, &challenge_type, &proof, terms.as_ref(), now)
        })
        .await
    }

    /// Gives a lease back, uncounted: the attempt has not been made.
    ///
    /// # Errors
    /// Where the database fails; then the lease expires by itself.
    pub async fn validation_release(&self, lease: Lease<Validation>) -> Result<(), StoreError> {
        self.write("validation_release", move |connection| {
            let Validation { authorization, challenge_type, .. } = lease.subject();
            let key = (authorization.as_octets().as_slice(), challenge_type.as_str());
            diesel::update(challenges::table.find(key))
                .filter(challenges::status.eq(ChallengeStatus::Processing.as_str()))
                .filter(challenges::lease_token.eq(lease.token().as_octets()))
                .set((
                    challenges::attempt.eq(challenges::attempt - 1_i16),
                    challenges::lease_token.eq(None::<Vec<u8>>),
                    challenges::lease_owner.eq(None::<Vec<u8>>),
                    challenges::lease_expires_at.eq(None::<i64>),
                ))
                .execute(connection)?;
            Ok(())
        })
        .await
    }
}
