//! Records a result, once, and moves challenge, authorization and orders together.

use akamu_proto::{AuthorizationId, AuthorizationStatus, ChallengeStatus, ChallengeType, Timestamp};
use diesel::prelude::*;

use super::claim::free;
use super::{Validation, ValidationOutcome, ValidationRecorded, lock_authorization};
use crate::account;
use crate::authorization;
use crate::connection::{AnyConnection, DbResult};
use crate::error::StoreError;
use crate::lease::{Lease, LeaseToken};
use crate::order;
use crate::schema::{authorizations, challenges, validation_reports};
use crate::store::Store;

/// The most octets of a report that are kept.
pub const MAX_REPORT_OCTETS: usize = 16 * 1024;
/// Reports kept of one challenge.
const REPORTS: i64 = 5;

/// A validation's report.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StoredReport {
    /// When it was recorded.
    pub recorded_at: Timestamp,
    /// Its octets, as they were given.
    pub octets: Vec<u8>,
}

impl Store {
    /// Records a validation's result and its report (at most [`MAX_REPORT_OCTETS`]; the last five of a challenge are
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
        let challenge_type = challenge_type.as_str().to_owned();
        self.read("validation_reports", move |connection| {
            let rows: Vec<(i64, Vec<u8>)> = validation_reports::table
                .filter(validation_reports::authorization_id.eq(id.as_octets().to_vec()))
                .filter(validation_reports::challenge_type.eq(challenge_type.clone()))
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
    let id = validation.authorization.as_octets().as_slice();
    order::lock_of_authorization(connection, id)?;
    lock_authorization(connection, id)?;
    let row = || challenges::table.find((id.to_vec(), validation.challenge_type.as_str().to_owned()));
    let found: Option<(String, Option<Vec<u8>>)> =
        row().select((challenges::status, challenges::lease_token)).first(connection).optional()?;
    let Some((status, holder)) = found else { return Ok(ValidationRecorded::LeaseLost) };
    if holder.as_deref() != Some(token.as_octets()) {
        return Ok(ValidationRecorded::LeaseLost);
    }
    if status != ChallengeStatus::Processing.as_str() {
        // The answer to an earlier try was lost: the token stays with the result.
        return Ok(ValidationRecorded::Recorded { orders: Vec::new() });
    }
    keep_report(connection, validation, report, now)?;
    let wanted = authorization::unexpired(connection, validation.account, validation.authorization, now)?
        .is_some_and(|it| it.status == AuthorizationStatus::Pending);
    if !wanted || !account::is_valid(connection, validation.account)? {
        free(connection, validation.authorization, &validation.challenge_type)?;
        return Ok(ValidationRecorded::NoLongerWanted);
    }
    let orders = match outcome {
        ValidationOutcome::Valid { expires_no_later_than } => {
            diesel::update(row())
                .set((
                    challenges::status.eq(ChallengeStatus::Valid.as_str()),
                    challenges::validated_at.eq(now.unix_micros()),
                    challenges::lease_expires_at.eq(None::<i64>),
                ))
                .execute(connection)?;
            diesel::update(authorizations::table.find(id.to_vec()))
                .set(authorizations::status.eq(AuthorizationStatus::Valid.as_str()))
                .execute(connection)?;
            if let Some(limit) = expires_no_later_than {
                diesel::update(authorizations::table.find(id.to_vec()))
                    .filter(authorizations::expires_at.gt(limit.unix_micros()))
                    .set(authorizations::expires_at.eq(limit.unix_micros()))
                    .execute(connection)?;
            }
            order::settle_valid(connection, id)?
        }
        ValidationOutcome::Invalid(problem) => {
            let error = serde_json::to_string(problem).unwrap_or_default();
            diesel::update(row())
                .set((
                    challenges::status.eq(ChallengeStatus::Invalid.as_str()),
                    challenges::error.eq(&error),
                    challenges::lease_expires_at.eq(None::<i64>),
                ))
                .execute(connection)?;
            diesel::update(authorizations::table.find(id.to_vec()))
                .set(authorizations::status.eq(AuthorizationStatus::Invalid.as_str()))
                .execute(connection)?;
            order::settle_failed(connection, id, &error)?
        }
    };
    Ok(ValidationRecorded::Recorded { orders })
}

fn keep_report(connection: &mut AnyConnection, validation: &Validation, report: &[u8], now: Timestamp) -> DbResult<()> {
    let id = validation.authorization.as_octets().to_vec();
    let challenge_type = validation.challenge_type.as_str();
    let numbers: Vec<i16> = validation_reports::table
        .filter(validation_reports::authorization_id.eq(id.clone()))
        .filter(validation_reports::challenge_type.eq(challenge_type.to_owned()))
        .order(validation_reports::number.desc())
        .limit(REPORTS)
        .select(validation_reports::number)
        .load(connection)?;
    if numbers.len() as i64 == REPORTS
        && let Some(oldest) = numbers.last()
    {
        diesel::delete(validation_reports::table)
            .filter(validation_reports::authorization_id.eq(id.clone()))
            .filter(validation_reports::challenge_type.eq(challenge_type.to_owned()))
            .filter(validation_reports::number.le(*oldest))
            .execute(connection)?;
    }
    diesel::insert_into(validation_reports::table)
        .values((
            validation_reports::authorization_id.eq(id),
            validation_reports::challenge_type.eq(challenge_type),
            validation_reports::number.eq(numbers.first().map_or(0, |newest| newest.wrapping_add(1))),
            validation_reports::recorded_at.eq(now.unix_micros()),
            validation_reports::report.eq(report),
        ))
        .execute(connection)?;
    Ok(())
}
