//! Validations: the challenge's row is the queue, its lease the right to record the one result.

mod claim;
mod record;

use akamu_proto::{
    AccountId, AuthorizationId, AuthorizationStatus, ChallengeStatus, ChallengeType, Identifier, OrderId, Problem,
    Thumbprint, Timestamp,
};
use diesel::prelude::*;

use crate::account;
use crate::authorization::{self, Authorization};
use crate::connection::{AnyConnection, DbResult};
use crate::error::StoreError;
use crate::lease::{Lease, LeaseRequest, LeaseTerms};
use crate::schema::{authorizations, challenges};
use crate::store::Store;

pub use claim::ClaimLimits;
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
        /// The orders that became ready or invalid.
        orders: Vec<OrderId>,
    },
    /// Somebody else has the lease now.
    LeaseLost,
    /// The authorization or the account is not what it was: the report is kept, and nothing else.
    NoLongerWanted,
}

/// Takes the authorization's row for this transaction.
fn lock_authorization(connection: &mut AnyConnection, authorization: &[u8]) -> DbResult<()> {
    if let AnyConnection::Postgres(it) = connection {
        authorizations::table
            .find(authorization.to_vec())
            .select(authorizations::id)
            .for_update()
            .first::<Vec<u8>>(it)
            .optional()?;
    }
    Ok(())
}

/// The work of a challenge that has just been leased.
fn validation(
    connection: &mut AnyConnection,
    authorization: &Authorization,
    challenge_type: &ChallengeType,
    proof: &str,
    attempt: i16,
) -> DbResult<Validation> {
    let thumbprints =
        if challenge_type.has_token() { Vec::new() } else { account::thumbprints(connection, authorization.account)? };
    Ok(Validation {
        account: authorization.account,
        authorization: authorization.id,
        identifier: authorization.identifier.clone(),
        challenge_type: challenge_type.clone(),
        proof: proof.to_owned(),
        thumbprints,
        attempt,
    })
}

impl Store {
    /// Moves a pending challenge to processing (RFC 8555 §7.5.1). With `lease` the caller is to validate; without, the
    /// challenge waits to be claimed.
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
        let lease = lease.map(|it| self.lease_terms(it));
        self.write("validation_begin", move |connection| {
            lock_authorization(connection, id.as_octets())?;
            let Some(found) = authorization::unexpired(connection, account, id, now)? else {
                return Ok(ValidationBegun::NotFound);
            };
            let Some(challenge) = found.challenges.iter().find(|it| it.challenge_type == challenge_type) else {
                return Ok(ValidationBegun::NotFound);
            };
            if let Some(lease) = &lease
                && challenge.status == ChallengeStatus::Processing
                && holds(connection, id, &challenge_type, lease)?
            {
                // The answer to an earlier try was lost.
                let subject = validation(connection, &found, &challenge_type, &proof, 1)?;
                let lease = Lease::new(lease.token, subject);
                return Ok(ValidationBegun::Started { lease, authorization: found });
            }
            let may_start = found.status == AuthorizationStatus::Pending
                && challenge.status == ChallengeStatus::Pending
                && found.challenges.iter().all(|it| it.status != ChallengeStatus::Processing)
                && account::is_valid(connection, account)?;
            if !may_start {
                return Ok(ValidationBegun::Unchanged(found));
            }
            let row = challenges::table.find((id.as_octets().to_vec(), challenge_type.as_str().to_owned()));
            diesel::update(row)
                .set((
                    challenges::status.eq(ChallengeStatus::Processing.as_str()),
                    challenges::key_auth.eq(&proof),
                    challenges::attempt.eq(i16::from(lease.is_some())),
                    challenges::lease_token.eq(lease.as_ref().map(|it| it.token.as_octets().to_vec())),
                ))
                .execute(connection)?;
            if let Some(lease) = &lease {
                extend(connection, id, &challenge_type, lease, now)?;
            }
            let mut authorization = found;
            for challenge in &mut authorization.challenges {
                if challenge.challenge_type == challenge_type {
                    challenge.status = ChallengeStatus::Processing;
                }
            }
            let Some(lease) = &lease else { return Ok(ValidationBegun::Queued(authorization)) };
            let subject = validation(connection, &authorization, &challenge_type, &proof, 1)?;
            Ok(ValidationBegun::Started { lease: Lease::new(lease.token, subject), authorization })
        })
        .await
    }

    /// Gives a lease back, uncounted: the attempt has not been made.
    ///
    /// # Errors
    /// Where the database fails; then the lease expires by itself.
    pub async fn validation_release(&self, lease: Lease<Validation>) -> Result<(), StoreError> {
        let token = lease.token();
        let (id, challenge_type) = (lease.subject().authorization, lease.subject().challenge_type.clone());
        self.write("validation_release", move |connection| {
            let row = challenges::table.find((id.as_octets().to_vec(), challenge_type.as_str().to_owned()));
            diesel::update(row)
                .filter(challenges::status.eq(ChallengeStatus::Processing.as_str()))
                .filter(challenges::lease_token.eq(token.as_octets().to_vec()))
                .set((
                    challenges::attempt.eq(challenges::attempt - 1_i16),
                    challenges::lease_token.eq(None::<Vec<u8>>),
                    challenges::lease_expires_at.eq(None::<i64>),
                ))
                .execute(connection)?;
            Ok(())
        })
        .await
    }
}

/// Whether the challenge is leased with this token.
fn holds(
    connection: &mut AnyConnection,
    id: AuthorizationId,
    challenge_type: &ChallengeType,
    lease: &LeaseTerms,
) -> DbResult<bool> {
    let token: Option<Option<Vec<u8>>> = challenges::table
        .find((id.as_octets().to_vec(), challenge_type.as_str().to_owned()))
        .select(challenges::lease_token)
        .first(connection)
        .optional()?;
    Ok(token.flatten().as_deref() == Some(lease.token.as_octets()))
}

/// Sets the end of a challenge's lease, by the clock of leases.
fn extend(
    connection: &mut AnyConnection,
    id: AuthorizationId,
    challenge_type: &ChallengeType,
    lease: &LeaseTerms,
    now: Timestamp,
) -> DbResult<()> {
    let end = connection.lease_clock(now);
    let row = challenges::table.find((id.as_octets().to_vec(), challenge_type.as_str().to_owned()));
    diesel::update(row).set(challenges::lease_expires_at.eq((end + lease.micros()).nullable())).execute(connection)?;
    Ok(())
}
