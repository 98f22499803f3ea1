//! Records a result, once, and moves challenge and authorization together.

use akamu_proto::{AuthorizationId, AuthorizationStatus, ChallengeStatus, ChallengeType, Timestamp};
use diesel::dsl::exists;
use diesel::prelude::*;

use super::claim::free;
use super::{Validation, ValidationOutcome, ValidationRecorded, wants_result};
use crate::authorization::{self, Authorization};
use crate::connection::{AnyConnection, DbResult, kept, on};
use crate::error::StoreError;
use crate::lease::{Lease, LeaseToken};
use crate::schema::{authorizations, challenges};
use crate::store::Store;
use crate::{order, row_lock};

/// The most octets of a report that are kept.
pub const MAX_REPORT_OCTETS: usize = 16 * 1024;

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
        self.write("validation_record", move |connection| {
            record(connection, lease.subject(), lease.token(), &outcome, &report, now)
        })
        .await
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
    let (id, challenge_type) = (validation.authorization.id, &validation.challenge_type);
    row_lock::authorization(connection, id)?;
    if let Some(authorization) = settle(connection, validation, token, outcome, report, now)? {
        return Ok(ValidationRecorded::Recorded(authorization));
    }
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

/// Moves challenge and authorization, where the lease still holds and the result is wanted: the authorization as it is
/// then. A claim takes the challenge's row alone, so that is where the lease is asked for.
fn settle(
    connection: &mut AnyConnection,
    validation: &Validation,
    token: LeaseToken,
    outcome: &ValidationOutcome,
    report: &[u8],
    now: Timestamp,
) -> DbResult<Option<Authorization>> {
    let mut authorization = validation.authorization.clone();
    let (challenge_status, validated_at, error) = match outcome {
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
        if challenge.challenge_type == validation.challenge_type {
            challenge.status = challenge_status;
            challenge.validated_at = validated_at;
            challenge.error = error.cloned();
        }
    }
    let id = authorization.id.as_octets().as_slice();
    let update = diesel::update(challenges::table.find((id, validation.challenge_type.as_str())))
        .filter(challenges::status.eq(ChallengeStatus::Processing.as_str()))
        .filter(challenges::lease_token.eq(token.as_octets()))
        .filter(exists(wants_result(id, now.unix_micros())))
        .set((
            challenges::status.eq(challenge_status.as_str()),
            challenges::validated_at.eq(validated_at.map(Timestamp::unix_micros)),
            challenges::error.eq(error.map(order::stored_problem)),
            challenges::lease_expires_at.eq(None::<i64>),
            challenges::reported_at.eq(now.unix_micros()),
            challenges::report.eq(report),
        ));
    let changed = on!(connection, |it| kept!(update).execute(it))?;
    if changed == 0 {
        return Ok(None);
    }
    let update = diesel::update(authorizations::table.find(id)).set((
        authorizations::status.eq(authorization.status.as_str()),
        authorizations::expires_at.eq(authorization.expires_at.unix_micros()),
    ));
    on!(connection, |it| kept!(update).execute(it))?;
    Ok(Some(authorization))
}
