//! Authorizations and their challenges (RFC 8555 §7.1.4, §7.1.5).

use akamu_proto::{
    AccountId, AuthorizationId, AuthorizationStatus, ChallengeStatus, ChallengeType, Identifier, Problem, Timestamp,
    Token,
};
use diesel::prelude::*;

use crate::connection::{AnyConnection, DbResult, corrupt, insert_all};
use crate::error::StoreError;
use crate::order;
use crate::schema::{authorizations, challenges};
use crate::store::Store;

/// An authorization with its challenges.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Authorization {
    /// Its id.
    pub id: AuthorizationId,
    /// Whose it is.
    pub account: AccountId,
    /// What it is about, a wildcard as one.
    pub identifier: Identifier,
    /// Its state.
    pub status: AuthorizationStatus,
    /// When it ends.
    pub expires_at: Timestamp,
    /// The challenges, in the order in which they were offered.
    pub challenges: Vec<Challenge>,
}

/// A challenge of an authorization.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Challenge {
    /// Its type.
    pub challenge_type: ChallengeType,
    /// Its token, where the type has one.
    pub token: Option<Token>,
    /// Its state.
    pub status: ChallengeStatus,
    /// When its validation succeeded.
    pub validated_at: Option<Timestamp>,
    /// Why it failed.
    pub error: Option<Problem>,
}

/// An authorization to be made.
#[derive(Clone, Debug)]
pub struct NewAuthorization {
    /// Its id.
    pub id: AuthorizationId,
    /// What it is about.
    pub identifier: Identifier,
    /// When it ends.
    pub expires_at: Timestamp,
    /// The challenges to offer, at least one.
    pub challenges: Vec<NewChallenge>,
}

/// A challenge to be offered.
#[derive(Clone, Debug)]
pub struct NewChallenge {
    /// Its type.
    pub challenge_type: ChallengeType,
    /// Its token, where the type has one.
    pub token: Option<Token>,
}

const WILDCARD: &str = "wildcard";

/// How an identifier is stored: its kind, and its value without `*.`.
pub(crate) fn stored(identifier: &Identifier) -> (&'static str, String) {
    let kind = if identifier.is_wildcard() { WILDCARD } else { identifier.kind() };
    (kind, identifier.without_wildcard().value())
}

/// An identifier from its row.
pub(crate) fn identifier(kind: &str, value: &str) -> DbResult<Identifier> {
    let parsed = match kind {
        WILDCARD => Identifier::dns(&format!("*.{value}")),
        _ => Identifier::parse(kind, value),
    };
    parsed.map_err(|_| corrupt("authorizations.identifier"))
}

/// Inserts new authorizations with their challenges.
pub(crate) fn insert(
    connection: &mut AnyConnection,
    account: AccountId,
    new: &[NewAuthorization],
    now: Timestamp,
) -> DbResult<()> {
    let rows: Vec<_> = new
        .iter()
        .map(|it| {
            let (kind, value) = stored(&it.identifier);
            (
                authorizations::id.eq(it.id.as_octets().as_slice()),
                authorizations::account_id.eq(account.as_i64()),
                authorizations::identifier_kind.eq(kind),
                authorizations::identifier_value.eq(value),
                authorizations::status.eq(AuthorizationStatus::Pending.as_str()),
                authorizations::expires_at.eq(it.expires_at.unix_micros()),
                authorizations::created_at.eq(now.unix_micros()),
            )
        })
        .collect();
    insert_all!(connection, authorizations::table, &rows)?;
    let rows: Vec<_> = new
        .iter()
        .flat_map(|it| (0_i16..).zip(&it.challenges).map(move |(position, challenge)| (it, position, challenge)))
        .map(|(it, position, challenge)| {
            (
                challenges::authorization_id.eq(it.id.as_octets().as_slice()),
                challenges::challenge_type.eq(challenge.challenge_type.as_str()),
                challenges::position.eq(position),
                challenges::token.eq(challenge.token.as_ref().map(Token::as_str)),
                challenges::status.eq(ChallengeStatus::Pending.as_str()),
                challenges::attempt.eq(0_i16),
            )
        })
        .collect();
    insert_all!(connection, challenges::table, &rows)?;
    Ok(())
}

type Row = (i64, String, String, String, i64);
type ChallengeRow = (String, Option<String>, String, Option<i64>, Option<String>);

fn challenge((challenge_type, token, status, validated_at, error): ChallengeRow) -> DbResult<Challenge> {
    Ok(Challenge {
        challenge_type: ChallengeType::new(challenge_type),
        token: token.map(|it| it.parse()).transpose().map_err(|_| corrupt("challenges.token"))?,
        status: ChallengeStatus::from_word(&status).ok_or_else(|| corrupt("challenges.status"))?,
        validated_at: validated_at.map(Timestamp::from_unix_micros),
        error: error.map(|it| serde_json::from_str(&it)).transpose().map_err(|_| corrupt("challenges.error"))?,
    })
}

/// The account's authorization with this id, whatever its age.
pub(crate) fn by_id(
    connection: &mut AnyConnection,
    account: AccountId,
    id: AuthorizationId,
) -> DbResult<Option<Authorization>> {
    let octets = id.as_octets().to_vec();
    let row: Option<Row> = authorizations::table
        .find(&octets)
        .filter(authorizations::account_id.eq(account.as_i64()))
        .select((
            authorizations::account_id,
            authorizations::identifier_kind,
            authorizations::identifier_value,
            authorizations::status,
            authorizations::expires_at,
        ))
        .first(connection)
        .optional()?;
    let Some((_, kind, value, status, expires_at)) = row else { return Ok(None) };
    let rows: Vec<ChallengeRow> = challenges::table
        .filter(challenges::authorization_id.eq(&octets))
        .order(challenges::position)
        .select((
            challenges::challenge_type,
            challenges::token,
            challenges::status,
            challenges::validated_at,
            challenges::error,
        ))
        .load(connection)?;
    Ok(Some(Authorization {
        id,
        account,
        identifier: identifier(&kind, &value)?,
        status: AuthorizationStatus::from_word(&status).ok_or_else(|| corrupt("authorizations.status"))?,
        expires_at: Timestamp::from_unix_micros(expires_at),
        challenges: rows.into_iter().map(challenge).collect::<DbResult<_>>()?,
    }))
}

/// As [`by_id`], but one that has expired is as if absent.
pub(crate) fn unexpired(
    connection: &mut AnyConnection,
    account: AccountId,
    id: AuthorizationId,
    now: Timestamp,
) -> DbResult<Option<Authorization>> {
    Ok(by_id(connection, account, id)?.filter(|it| it.expires_at > now))
}

impl Store {
    /// The account's authorization; `None` where it is absent, another's, or has expired.
    ///
    /// # Errors
    /// Where the database fails.
    pub async fn authorization(
        &self,
        account: AccountId,
        id: AuthorizationId,
        now: Timestamp,
    ) -> Result<Option<Authorization>, StoreError> {
        self.read("authorization", move |connection| unexpired(connection, account, id, now)).await
    }

    /// Gives up a pending or valid authorization (RFC 8555 §7.5.2). Its unfinished orders become invalid. One in another
    /// state is returned as it is; `None` as in [`Store::authorization`].
    ///
    /// # Errors
    /// Where the database fails.
    pub async fn authorization_deactivate(
        &self,
        account: AccountId,
        id: AuthorizationId,
        now: Timestamp,
    ) -> Result<Option<Authorization>, StoreError> {
        self.write("authorization_deactivate", move |connection| {
            let octets = id.as_octets().as_slice();
            order::lock_of_authorization(connection, octets)?;
            let changed = diesel::update(authorizations::table.find(octets.to_vec()))
                .filter(authorizations::account_id.eq(account.as_i64()))
                .filter(authorizations::expires_at.gt(now.unix_micros()))
                .filter(authorizations::status.eq_any(["pending", "valid"]))
                .set(authorizations::status.eq(AuthorizationStatus::Deactivated.as_str()))
                .execute(connection)?;
            if changed == 1 {
                let error = order::problem_text("an authorization of the order was deactivated");
                order::settle_failed(connection, octets, &error)?;
            }
            unexpired(connection, account, id, now)
        })
        .await
    }

    /// Whether the account holds valid, unexpired authorizations for all of these (RFC 8555 §7.6).
    ///
    /// # Errors
    /// Where the database fails.
    pub async fn identifiers_authorized(
        &self,
        account: AccountId,
        identifiers: &[Identifier],
        now: Timestamp,
    ) -> Result<bool, StoreError> {
        let wanted: Vec<_> = identifiers.iter().map(stored).collect();
        self.read("identifiers_authorized", move |connection| {
            for (kind, value) in &wanted {
                let held = authorizations::table
                    .filter(authorizations::account_id.eq(account.as_i64()))
                    .filter(authorizations::identifier_value.eq(value.clone()))
                    .filter(authorizations::identifier_kind.eq((*kind).to_owned()))
                    .filter(authorizations::status.eq("valid"))
                    .filter(authorizations::expires_at.gt(now.unix_micros()))
                    .select(authorizations::account_id)
                    .first::<i64>(connection)
                    .optional()?;
                if held.is_none() {
                    return Ok(false);
                }
            }
            Ok(!wanted.is_empty())
        })
        .await
    }
}
