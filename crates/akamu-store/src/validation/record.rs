//! Records a result, once, and moves challenge, authorization and orders together.

use akamu_proto::{AuthorizationId, AuthorizationStatus, ChallengeStatus, ChallengeType, OrderId, Timestamp};
use diesel::prelude::*;

use super::claim::free;
use super::{Validation, ValidationOutcome, ValidationRecorded};
use crate::authorization::{self, Authorization, QueueEntry};
use crate::connection::{AnyConnection, DbResult};
use crate::error::StoreError;
use crate::lease::{Lease, LeaseToken};
use crate::schema::{authorizations, challenges, validation_reports};
use crate::store::Store;
use crate::{order, row_lock};

/// The most octets of a report that are kept.
pub const MAX_REPORT_OCTETS: usize = 16 * 1024;
/// Reports kept of one challenge.
const REPORTS: i16 = 5;

/// A validation's report.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StoredReport {
    /// When it was recorded.
    pub recorded_at: Timestamp,
    /// Its octets, as they were given.
    pub octets: Vec<u8>,
}

impl Store {
    /// Records a validation's result and its report (its first [`MAX_REPORT_OCTETS`]; the last five of a challenge are
    /// kept).
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

    /// The reports that are kept of a challenge, the newest first.
    ///
    /// # Errors
    /// Where the database fails.
    pub async fn validation_reports(
        &self,
        id: AuthorizationId,
        challenge_type: &ChallengeType,
    ) -> Result<Vec<StoredReport>, StoreError> {
        let challenge_type = challenge_type.clone();
        self.select("validation_reports", move |connection| {
            let rows: Vec<(i64, Vec<u8>)> = validation_reports::table
                .filter(validation_reports::authorization_id.eq(id.as_octets().as_slice()))
                .filter(validation_reports::challenge_type.eq(challenge_type.as_str()))
                .order(validation_reports::number.desc())
                .select((validation_reports::recorded_at, validation_reports::report))
                .load(connection)?;
            let report =
                |(recorded_at, octets)| StoredReport { recorded_at: Timestamp::from_unix_micros(recorded_at), octets };
            Ok(rows.into_iter().map(report).collect())
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
    let (id, challenge_type) = (validation.authorization, &validation.challenge_type);
    row_lock::account(connection, validation.account)?;
    row_lock::orders_of(connection, id)?;
    row_lock::authorization(connection, id)?;
    let Some(found) = authorization::by_id(connection, id)? else { return Ok(ValidationRecorded::LeaseLost) };
    let Some((challenge, entry)) = found.challenge(challenge_type) else { return Ok(ValidationRecorded::LeaseLost) };
    if entry.lease_token.as_deref() != Some(token.as_octets()) {
        return Ok(ValidationRecorded::LeaseLost);
    }
    if challenge.status != ChallengeStatus::Processing {
        // The answer to an earlier run was lost: the token stays with the result.
        return Ok(ValidationRecorded::Recorded { authorization: found.authorization, orders: Vec::new() });
    }
    let number = entry.reports;
    let after = QueueEntry { reports: number + 1, ..entry.clone() };
    if !found.wants_result(now) {
        if !free(connection, id, challenge_type, &after)? {
            return Ok(ValidationRecorded::LeaseLost);
        }
        keep_report(connection, validation, number, report, now)?;
        return Ok(ValidationRecorded::NoLongerWanted);
    }
    let mut authorization = found.authorization;
    let Some(orders) = settle(connection, &mut authorization, challenge_type, &after, outcome, now)? else {
        return Ok(ValidationRecorded::LeaseLost);
    };
    keep_report(connection, validation, number, report, now)?;
    Ok(ValidationRecorded::Recorded { authorization, orders })
}

/// Moves challenge, authorization and orders, in the database and in `authorization`. `None` where another has leased
/// the challenge since it was read: a claim takes the challenge's row alone.
fn settle(
    connection: &mut AnyConnection,
    authorization: &mut Authorization,
    challenge_type: &ChallengeType,
    after: &QueueEntry,
    outcome: &ValidationOutcome,
    now: Timestamp,
) -> DbResult<Option<Vec<OrderId>>> {
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
    for challenge in authorization.challenges.iter_mut().filter(|it| it.challenge_type == *challenge_type) {
        challenge.status = challenge_status;
        challenge.validated_at = validated_at;
        challenge.error = error.cloned();
    }
    let error = error.map(order::stored_problem);
    let id = authorization.id;
    let changed = diesel::update(challenges::table.find((id.as_octets().as_slice(), challenge_type.as_str())))
        .filter(challenges::status.eq(ChallengeStatus::Processing.as_str()))
        .filter(challenges::lease_token.eq(&after.lease_token))
        .set((
            challenges::status.eq(challenge_status.as_str()),
            challenges::validated_at.eq(validated_at.map(Timestamp::unix_micros)),
            challenges::error.eq(&error),
            challenges::reports.eq(after.reports),
            challenges::lease_expires_at.eq(None::<i64>),
        ))
        .execute(connection)?;
    if changed == 0 {
        return Ok(None);
    }
    diesel::update(authorizations::table.find(id.as_octets().as_slice()))
        .set((
            authorizations::status.eq(authorization.status.as_str()),
            authorizations::expires_at.eq(authorization.expires_at.unix_micros()),
        ))
        .execute(connection)?;
    match error {
        None => order::settle_valid(connection, id).map(Some),
        Some(error) => order::settle_failed(connection, id, &error).map(Some),
    }
}

fn keep_report(
    connection: &mut AnyConnection,
    validation: &Validation,
    number: i16,
    report: &[u8],
    now: Timestamp,
) -> DbResult<()> {
    let (id, challenge_type) = (validation.authorization.as_octets().as_slice(), validation.challenge_type.as_str());
    diesel::insert_into(validation_reports::table)
        .values((
            validation_reports::authorization_id.eq(id),
            validation_reports::challenge_type.eq(challenge_type),
            validation_reports::number.eq(number),
            validation_reports::recorded_at.eq(now.unix_micros()),
            validation_reports::report.eq(report),
        ))
        .execute(connection)?;
    if number >= REPORTS {
        diesel::delete(validation_reports::table)
            .filter(validation_reports::authorization_id.eq(id))
            .filter(validation_reports::challenge_type.eq(challenge_type))
            .filter(validation_reports::number.le(number - REPORTS))
            .execute(connection)?;
    }
    Ok(())
}
