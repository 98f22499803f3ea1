//! Validations: the challenge's row is the queue, its lease the right to record the one result.

mod claim;
mod record;

use akamu_proto::{
    AccountStatus, AuthorizationId, AuthorizationStatus, ChallengeStatus, ChallengeType, Problem, Thumbprint,
    Timestamp, Token,
};
use diesel::dsl::{exists, not};
use diesel::prelude::*;

use crate::account;
use crate::authorization::{self, Authorization, Challenge};
use crate::connection::{AnyConnection, DbResult, kept, on};
use crate::error::StoreError;
use crate::known::Known;
use crate::lease::{Lease, LeaseRequest, LeaseTerms};
use crate::schema::{accounts, authorizations, challenges};
use crate::store::Store;

diesel::alias!(challenges as others: Others);

pub(crate) use claim::ClaimCursor;
pub use claim::{ClaimLimits, RunningCounts};
pub use record::{MAX_REPORT_OCTETS, StoredReport};

/// Attempts that nobody finished, after which a challenge fails: a poisonous target must not go round the replicas.
const MAX_ATTEMPTS: i16 = 3;

/// A validation to be run.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Validation {
    /// The authorization, as it was when the challenge was leased.
    pub authorization: Authorization,
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
    Started(Lease<Validation>),
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
    /// Challenge and authorization have moved; the authorization as it is now.
    Recorded(Authorization),
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
        authorization: processing(authorization, &challenge.challenge_type, attempt),
        challenge_type: challenge.challenge_type.clone(),
        token: challenge.token.clone(),
        proof: proof.to_owned(),
        thumbprints,
        attempt,
    })
}

/// The authorization with this challenge in processing.
fn processing(authorization: &Authorization, challenge_type: &ChallengeType, attempt: i16) -> Authorization {
    let mut authorization = authorization.clone();
    for challenge in &mut authorization.challenges {
        if challenge.challenge_type == *challenge_type {
            challenge.status = ChallengeStatus::Processing;
            challenge.attempt = attempt;
        }
    }
    authorization
}

/// A row where the authorization waits for a result and its account is valid.
#[diesel::dsl::auto_type]
fn wants_result<'a>(id: &'a [u8], now: i64) -> _ {
    let is_pending: &'static str = AuthorizationStatus::Pending.as_str();
    let is_valid: &'static str = AccountStatus::Valid.as_str();
    authorizations::table
        .inner_join(accounts::table)
        .filter(authorizations::id.eq(id))
        .filter(authorizations::status.eq(is_pending))
        .filter(authorizations::expires_at.gt(now))
        .filter(accounts::status.eq(is_valid))
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
    let end = connection.lease_clock(now).plus(terms.micros());
    let update = diesel::update(challenges::table.find((id.as_octets().as_slice(), challenge.challenge_type.as_str())))
        .filter(challenges::status.eq(challenge.status.as_str()))
        .filter(challenges::attempt.eq(challenge.attempt))
        .set((
            challenges::status.eq(ChallengeStatus::Processing.as_str()),
            challenges::key_auth.eq(proof),
            challenges::attempt.eq(challenge.attempt + 1),
            challenges::lease_token.eq(terms.token.as_octets()),
            challenges::lease_owner.eq(terms.owner()),
            challenges::lease_expires_at.eq(end.nullable()),
        ));
    let changed = on!(connection, |it| kept!(update).execute(it))?;
    Ok(changed == 1)
}

/// Moves a challenge that was read as pending to processing, where it still is, its result is wanted and no other challenge
/// of the authorization is in processing; tells whether all is so. With a lease its next attempt is counted.
fn start(
    connection: &mut AnyConnection,
    id: AuthorizationId,
    challenge: &Challenge,
    proof: &str,
    terms: Option<&LeaseTerms>,
    now: Timestamp,
) -> DbResult<bool> {
    let id = id.as_octets().as_slice();
    let pending = || {
        let busy = others
            .filter(others.field(challenges::authorization_id).eq(id))
            .filter(others.field(challenges::status).eq(ChallengeStatus::Processing.as_str()));
        challenges::table
            .find((id, challenge.challenge_type.as_str()))
            .filter(challenges::status.eq(ChallengeStatus::Pending.as_str()))
            .filter(challenges::attempt.eq(challenge.attempt))
            .filter(exists(wants_result(id, now.unix_micros())))
            .filter(not(exists(busy)))
    };
    let to_processing = (challenges::status.eq(ChallengeStatus::Processing.as_str()), challenges::key_auth.eq(proof));
    let changed = match terms {
        None => on!(connection, |it| kept!(diesel::update(pending()).set(to_processing)).execute(it))?,
        Some(terms) => {
            let end = connection.lease_clock(now).plus(terms.micros());
            let update = diesel::update(pending()).set((
                to_processing,
                challenges::attempt.eq(challenge.attempt + 1),
                challenges::lease_token.eq(terms.token.as_octets()),
                challenges::lease_owner.eq(terms.owner()),
                challenges::lease_expires_at.eq(end.nullable()),
            ));
            on!(connection, |it| kept!(update).execute(it))?
        }
    };
    Ok(changed == 1)
}

fn begin(
    connection: &mut AnyConnection,
    read: &Authorization,
    challenge_type: &ChallengeType,
    proof: &str,
    terms: Option<&LeaseTerms>,
    now: Timestamp,
) -> DbResult<ValidationBegun> {
    let challenge = read.challenges.iter().find(|it| it.challenge_type == *challenge_type);
    let Some(challenge) = challenge else { return Ok(ValidationBegun::NotFound) };
    if start(connection, read.id, challenge, proof, terms, now)? {
        let attempt = challenge.attempt + i16::from(terms.is_some());
        let authorization = processing(read, challenge_type, attempt);
        let Some(terms) = terms else { return Ok(ValidationBegun::Queued(authorization)) };
        let subject = validation(connection, &authorization, challenge, proof, attempt)?;
        return Ok(ValidationBegun::Started(Lease::new(terms.token, subject)));
    }
    let Some(found) = authorization::of_account(connection, read.account, read.id, now)? else {
        return Ok(ValidationBegun::NotFound);
    };
    let Some((challenge, entry)) = found.challenge(challenge_type) else { return Ok(ValidationBegun::NotFound) };
    match terms {
        // The answer to an earlier run was lost.
        Some(terms)
            if challenge.status == ChallengeStatus::Processing
                && entry.lease_token.as_deref() == Some(terms.token.as_octets()) =>
        {
            let subject = validation(connection, &found.authorization, challenge, proof, challenge.attempt)?;
            Ok(ValidationBegun::Started(Lease::new(terms.token, subject)))
        }
        // One challenge at a time, and each once: it is not pending, or another one is processing, or all is over.
        _ => Ok(ValidationBegun::Unchanged(found.authorization)),
    }
}

impl Store {
    /// Moves a pending challenge of `authorization`, which the caller has read, to processing (RFC 8555 §7.5.1). With
    /// `lease` the caller is to validate; without, the challenge waits to be claimed. `proof` is what the client must
    /// show, as of now: the key authorization, or for dns-persist-01 the account's URL.
    ///
    /// # Errors
    /// Where the database fails.
    pub async fn validation_begin(
        &self,
        authorization: &Authorization,
        challenge_type: &ChallengeType,
        proof: &str,
        lease: Option<LeaseRequest>,
        now: Timestamp,
    ) -> Result<ValidationBegun, StoreError> {
        let (authorization, challenge_type) = (authorization.clone(), challenge_type.clone());
        let proof = proof.to_owned();
        let terms = lease.map(|it| self.lease_terms(it));
        let (account, id) = (authorization.account, authorization.id);
        let begin = move |connection: &mut AnyConnection| {
            begin(connection, &authorization, &challenge_type, &proof, terms.as_ref(), now)
        };
        let learn = |known: &mut Known, begun: &ValidationBegun| match begun {
            ValidationBegun::Started(lease) => known.authorization_is(lease.subject().authorization.clone()),
            ValidationBegun::Queued(authorization) => known.authorization_is(authorization.clone()),
            ValidationBegun::Unchanged(_) | ValidationBegun::NotFound => {}
        };
        match self.change("validation_begin", begin, learn).await {
            // Two challenges of the authorization were answered at once; the other one is processing now.
            Err(StoreError::Constraint(_)) => {
                let found = self.authorization(account, id, now).await?;
                Ok(found.map_or(ValidationBegun::NotFound, ValidationBegun::Unchanged))
            }
            begun => begun,
        }
    }

    /// Gives a lease back, uncounted: the attempt has not been made.
    ///
    /// # Errors
    /// Where the database fails; then the lease expires by itself.
    pub async fn validation_release(&self, lease: Lease<Validation>) -> Result<(), StoreError> {
        let id = lease.subject().authorization.id;
        let release = move |connection: &mut AnyConnection| {
            let token = lease.token();
            let Validation { authorization, challenge_type, .. } = lease.subject();
            let key = (authorization.id.as_octets().as_slice(), challenge_type.as_str());
            let update = diesel::update(challenges::table.find(key))
                .filter(challenges::status.eq(ChallengeStatus::Processing.as_str()))
                .filter(challenges::lease_token.eq(token.as_octets()))
                .set((
                    challenges::attempt.eq(challenges::attempt - 1_i16),
                    challenges::lease_token.eq(None::<Vec<u8>>),
                    challenges::lease_owner.eq(None::<Vec<u8>>),
                    challenges::lease_expires_at.eq(None::<i64>),
                ));
            on!(connection, |it| kept!(update).execute(it))?;
            Ok(())
        };
        self.change("validation_release", release, move |known, ()| known.forget_authorization(id)).await
    }
}
