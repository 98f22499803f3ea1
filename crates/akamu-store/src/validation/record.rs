//! Records a result, once, and moves challenge and authorization together.

use akamu_proto::{AccountStatus, AuthorizationId, AuthorizationStatus, ChallengeStatus, ChallengeType, Timestamp};
use diesel::dsl::exists;
use diesel::prelude::*;
use diesel::sql_query;
use diesel::sql_types::{BigInt, Binary, Nullable, Text};

use super::claim::free;
use super::{Validation, ValidationOutcome, ValidationRecorded, wants_result};
use crate::authorization::{self, Authorization};
use crate::connection::{AnyConnection, DbResult, kept, on};
use crate::error::StoreError;
use crate::known::Known;
use crate::lease::{Lease, LeaseToken};
use crate::schema::{authorizations, challenges};
use crate::store::Store;
use crate::{order, row_lock};

/// The most octets of a report that are kept.
pub const MAX_REPORT_OCTETS: usize = 16 * 1024;

/// Moves challenge and authorization on PostgreSQL. It takes the authorization first, as whatever moves both ([`row_lock`]).
const SETTLE: &str = "
    WITH wanted AS (
        SELECT authorizations.id FROM authorizations JOIN accounts ON accounts.id = account_id
        WHERE authorizations.id = $1 AND authorizations.status = $2 AND expires_at > $3 AND accounts.status = $4
        FOR UPDATE OF authorizations
    ), settled AS (
        UPDATE challenges
        SET status = $5, validated_at = $6, error = $7, lease_expires_at = NULL, reported_at = $3, report = $8
        FROM wanted
        WHERE authorization_id = $1 AND challenge_type = $9 AND status = $10 AND lease_token = $11
        RETURNING authorization_id
    )
    UPDATE authorizations SET status = $12, expires_at = $13 FROM settled WHERE id = $1";

/// A validation's report.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StoredReport {
    /// When it was recorded.
    pub recorded_at: Timestamp,
    /// Its octets, as they were given.
    pub octets: Vec<u8>,
}

impl Store {
    /// Records a validation's result and its report (its first [`MAX_REPORT_OCTETS`]).
    ///
    /// # Errors
    /// Where the database fails; then the lease expires, and somebody validates again.
    pub async fn validation_record(
        &self,
        lease: Lease<Validation>,
        outcome: ValidationOutcome,
        report: &[u8],
        now: Timestamp,
    ) -> Result<ValidationRecorded, StoreError> {
        let report: Vec<u8> = report.iter().copied().take(MAX_REPORT_OCTETS).collect();
        let id = lease.subject().authorization.id;
        let learn = move |known: &mut Known, recorded: &ValidationRecorded| match recorded {
            ValidationRecorded::Recorded(authorization) => known.authorization_is(authorization.clone()),
            ValidationRecorded::LeaseLost | ValidationRecorded::NoLongerWanted => known.forget_authorization(id),
        };
        let record = move |connection: &mut AnyConnection| {
            record(connection, lease.subject(), lease.token(), &outcome, &report, now)
        };
        self.change("validation_record", record, learn).await
    }

    /// The report of a challenge's last attempt that came to an end.
    ///
    /// # Errors
    /// Where the database fails.
    pub async fn validation_report(
        &self,
        id: AuthorizationId,
        challenge_type: &ChallengeType,
    ) -> Result<Option<StoredReport>, StoreError> {
        let challenge_type = challenge_type.clone();
        self.select("validation_report", move |connection| {
            let query = challenges::table
                .find((id.as_octets().as_slice(), challenge_type.as_str()))
                .select((challenges::reported_at, challenges::report));
            let row: Option<(Option<i64>, Option<Vec<u8>>)> = on!(connection, |it| query.first(it)).optional()?;
            let Some((Some(reported_at), Some(octets))) = row else { return Ok(None) };
            Ok(Some(StoredReport { recorded_at: Timestamp::from_unix_micros(reported_at), octets }))
        })
        .await
    }
}

fn record(
    connection: &mut AnyConnection,
    validation: &Validation,
    token: LeaseToken,
    outcome: &ValidationOutcome,
    report: &[u8],
    now: Timestamp,
) -> DbResult<ValidationRecorded> {
    let authorization = settled(&validation.authorization, &validation.challenge_type, outcome, now);
    if settle(connection, &authorization, &validation.challenge_type, token, report, now)? {
        return Ok(ValidationRecorded::Recorded(authorization));
    }
    match connection {
        // What is found stays so until it is dealt with.
        AnyConnection::Postgres(_) => connection.transaction(|it| leave_unsettled(it, validation, token, report, now)),
        AnyConnection::Sqlite(_) => leave_unsettled(connection, validation, token, report, now),
    }
}

/// A result that moved nothing: it is recorded already, comes too late, or is not wanted any more.
fn leave_unsettled(
    connection: &mut AnyConnection,
    validation: &Validation,
    token: LeaseToken,
    report: &[u8],
    now: Timestamp,
) -> DbResult<ValidationRecorded> {
    let (id, challenge_type) = (validation.authorization.id, &validation.challenge_type);
    row_lock::authorization(connection, id)?;
    let Some(found) = authorization::by_id(connection, id)? else { return Ok(ValidationRecorded::LeaseLost) };
    let Some((challenge, entry)) = found.challenge(challenge_type) else { return Ok(ValidationRecorded::LeaseLost) };
    if entry.lease_token.as_deref() != Some(token.as_octets()) {
        return Ok(ValidationRecorded::LeaseLost);
    }
    if challenge.status != ChallengeStatus::Processing {
        // The answer to an earlier run was lost: the token stays with the result.
        return Ok(ValidationRecorded::Recorded(found.authorization));
    }
    if !free(connection, id, challenge_type, entry)? {
        return Ok(ValidationRecorded::LeaseLost);
    }
    let update = diesel::update(challenges::table.find((id.as_octets().as_slice(), challenge_type.as_str())))
        .set((challenges::reported_at.eq(now.unix_micros()), challenges::report.eq(report)));
    on!(connection, |it| kept!(update).execute(it))?;
    Ok(ValidationRecorded::NoLongerWanted)
}

/// The authorization as this result of a challenge of it makes it.
fn settled(
    authorization: &Authorization,
    challenge_type: &ChallengeType,
    outcome: &ValidationOutcome,
    now: Timestamp,
) -> Authorization {
    let mut authorization = authorization.clone();
    let (status, validated_at, error) = match outcome {
        ValidationOutcome::Valid { expires_no_later_than } => {
            authorization.status = AuthorizationStatus::Valid;
            authorization.expires_at =
                expires_no_later_than.map_or(authorization.expires_at, |it| it.min(authorization.expires_at));
            (ChallengeStatus::Valid, Some(now), None)
        }
        ValidationOutcome::Invalid(problem) => {
            authorization.status = AuthorizationStatus::Invalid;
            (ChallengeStatus::Invalid, None, Some(problem))
        }
    };
    for challenge in &mut authorization.challenges {
        if challenge.challenge_type == *challenge_type {
            challenge.status = status;
            challenge.validated_at = validated_at;
            challenge.error = error.cloned();
        }
    }
    authorization
}

/// Moves challenge and authorization, where the lease still holds and the result is wanted; tells whether it did. A claim
/// takes the challenge's row alone, so that is where the lease is asked for.
fn settle(
    connection: &mut AnyConnection,
    settled: &Authorization,
    challenge_type: &ChallengeType,
    token: LeaseToken,
    report: &[u8],
    now: Timestamp,
) -> DbResult<bool> {
    let Some(challenge) = settled.challenges.iter().find(|it| it.challenge_type == *challenge_type) else {
        return Ok(false);
    };
    let id = settled.id.as_octets().as_slice();
    let error = challenge.error.as_ref().map(order::stored_problem);
    match connection {
        AnyConnection::Postgres(it) => {
            let statement = sql_query(SETTLE)
                .bind::<Binary, _>(id)
                .bind::<Text, _>(AuthorizationStatus::Pending.as_str())
                .bind::<BigInt, _>(now.unix_micros())
                .bind::<Text, _>(AccountStatus::Valid.as_str())
                .bind::<Text, _>(challenge.status.as_str())
                .bind::<Nullable<BigInt>, _>(challenge.validated_at.map(Timestamp::unix_micros))
                .bind::<Nullable<Text>, _>(error)
                .bind::<Binary, _>(report)
                .bind::<Text, _>(challenge_type.as_str())
                .bind::<Text, _>(ChallengeStatus::Processing.as_str())
                .bind::<Binary, _>(token.as_octets())
                .bind::<Text, _>(settled.status.as_str())
                .bind::<BigInt, _>(settled.expires_at.unix_micros());
            Ok(kept!(statement).execute(it)? == 1)
        }
        AnyConnection::Sqlite(it) => {
            let of_challenge = diesel::update(challenges::table.find((id, challenge_type.as_str())))
                .filter(challenges::status.eq(ChallengeStatus::Processing.as_str()))
                .filter(challenges::lease_token.eq(token.as_octets()))
                .filter(exists(wants_result(id, now.unix_micros())))
                .set((
                    challenges::status.eq(challenge.status.as_str()),
                    challenges::validated_at.eq(challenge.validated_at.map(Timestamp::unix_micros)),
                    challenges::error.eq(error),
                    challenges::lease_expires_at.eq(None::<i64>),
                    challenges::reported_at.eq(now.unix_micros()),
                    challenges::report.eq(report),
                ));
            let of_authorization = diesel::update(authorizations::table.find(id)).set((
                authorizations::status.eq(settled.status.as_str()),
                authorizations::expires_at.eq(settled.expires_at.unix_micros()),
            ));
            Ok(kept!(of_challenge).execute(it)? == 1 && kept!(of_authorization).execute(it)? == 1)
        }
    }
}
