//! Authorizations and their challenges (RFC 8555 §7.1.4, §7.1.5).

use std::collections::HashSet;

use akamu_proto::{
    AccountId, AccountStatus, AuthorizationId, AuthorizationStatus, ChallengeStatus, ChallengeType, Identifier,
    Problem, Timestamp, Token,
};
use diesel::prelude::*;

use crate::account;
use crate::account::Account;
use crate::connection::{AnyConnection, DbResult, Valid, corrupt, kept, on};
use crate::error::StoreError;
use crate::known::Known;
use crate::nonce::{Redemption, load_with_account};
use crate::owned::{Owned, Reading};
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
    /// Its state. A pending one of an account that is not valid is deactivated.
    pub status: AuthorizationStatus,
    /// When it ends.
    pub expires_at: Timestamp,
    /// The challenges, in the order in which they were offered.
    pub challenges: Vec<Challenge>,
}

impl Authorization {
    fn is_of_account(&self, account: AccountId, now: Timestamp) -> bool {
        self.account == account && self.is_unexpired(now)
    }

    fn is_unexpired(&self, now: Timestamp) -> bool {
        self.expires_at > now
    }
}

/// What an authorization's stored state is under its account.
fn under(account: &Account, stored: AuthorizationStatus) -> AuthorizationStatus {
    match stored {
        AuthorizationStatus::Pending if account.status != AccountStatus::Valid => AuthorizationStatus::Deactivated,
        status => status,
    }
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
    /// How often its validation was begun.
    pub attempt: i16,
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

impl NewAuthorization {
    /// As it is once it was made.
    pub(crate) fn pending(&self, account: AccountId) -> Authorization {
        let challenge = |new: &NewChallenge| Challenge {
            challenge_type: new.challenge_type.clone(),
            token: new.token.clone(),
            status: ChallengeStatus::Pending,
            validated_at: None,
            error: None,
            attempt: 0,
        };
        Authorization {
            id: self.id,
            account,
            identifier: self.identifier.clone(),
            status: AuthorizationStatus::Pending,
            expires_at: self.expires_at,
            challenges: self.challenges.iter().map(challenge).collect(),
        }
    }
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

/// An authorization with what only the store sees of it.
pub(crate) struct StoredAuthorization {
    pub(crate) authorization: Authorization,
    pub(crate) account: Account,
    /// Beside each challenge, in the same order.
    pub(crate) queue: Vec<QueueEntry>,
}

/// A challenge's place in the queue of validations.
#[derive(Clone, Debug)]
pub(crate) struct QueueEntry {
    pub(crate) key_auth: Option<String>,
    pub(crate) lease_token: Option<Vec<u8>>,
}

impl StoredAuthorization {
    /// The challenge of a type, with its place in the queue.
    pub(crate) fn challenge(&self, challenge_type: &ChallengeType) -> Option<(&Challenge, &QueueEntry)> {
        self.authorization.challenges.iter().zip(&self.queue).find(|(it, _)| it.challenge_type == *challenge_type)
    }

    /// Whether a validation's result may be recorded: all is as it was when it began.
    pub(crate) fn wants_result(&self, now: Timestamp) -> bool {
        self.authorization.is_unexpired(now) && self.authorization.status == AuthorizationStatus::Pending
    }
}

/// A challenge's row beside its authorization's.
#[derive(Queryable)]
struct Row {
    position: i16,
    account: i64,
    identifier_kind: String,
    identifier_value: String,
    status: String,
    expires_at: i64,
    challenge_type: String,
    token: Option<String>,
    challenge_status: String,
    validated_at: Option<i64>,
    error: Option<String>,
    attempt: i16,
    key_auth: Option<String>,
    lease_token: Option<Vec<u8>>,
}

fn challenge(row: &Row) -> DbResult<Challenge> {
    let error = row.error.as_deref().map(serde_json::from_str).transpose();
    Ok(Challenge {
        challenge_type: ChallengeType::new(row.challenge_type.clone()),
        token: row.token.as_deref().map(str::parse).transpose().map_err(|_| corrupt("challenges.token"))?,
        status: ChallengeStatus::from_word(&row.challenge_status).ok_or_else(|| corrupt("challenges.status"))?,
        validated_at: row.validated_at.map(Timestamp::from_unix_micros),
        error: error.map_err(|_| corrupt("challenges.error"))?,
        attempt: row.attempt,
    })
}

/// The authorization with this id, whosever and however old.
pub(crate) fn by_id(connection: &mut AnyConnection, id: AuthorizationId) -> DbResult<Option<StoredAuthorization>> {
    read(connection, id, None, &mut Redemption::of(None))
}

/// As [`by_id`], for who may know the account; `redemption` is done on the way.
fn read(
    connection: &mut AnyConnection,
    id: AuthorizationId,
    known: Option<&Account>,
    redemption: &mut Redemption<'_>,
) -> DbResult<Option<StoredAuthorization>> {
    let query = challenges::table
        .inner_join(authorizations::table)
        .filter(challenges::authorization_id.eq(id.as_octets().as_slice()));
    let columns = (
        challenges::position,
        authorizations::account_id,
        authorizations::identifier_kind,
        authorizations::identifier_value,
        authorizations::status,
        authorizations::expires_at,
        challenges::challenge_type,
        challenges::token,
        challenges::status,
        challenges::validated_at,
        challenges::error,
        challenges::attempt,
        challenges::key_auth,
        challenges::lease_token,
    );
    let (owner, mut rows): (_, Vec<Row>) =
        load_with_account!(connection, redemption, query, columns, challenges::account_id)?;
    // A few rows: less work here than for the database.
    rows.sort_unstable_by_key(|it| it.position);
    let Some(row) = rows.first() else { return Ok(None) };
    let account = AccountId::from_i64(row.account).ok_or_else(|| corrupt("authorizations.account_id"))?;
    let account = account::owner(connection, owner.as_ref(), known, account)?;
    let stored = AuthorizationStatus::from_word(&row.status).ok_or_else(|| corrupt("authorizations.status"))?;
    let authorization = Authorization {
        id,
        account: account.id,
        identifier: identifier(&row.identifier_kind, &row.identifier_value)?,
        status: under(&account, stored),
        expires_at: Timestamp::from_unix_micros(row.expires_at),
        challenges: rows.iter().map(challenge).collect::<DbResult<_>>()?,
    };
    let entry = |it: Row| QueueEntry { key_auth: it.key_auth, lease_token: it.lease_token };
    Ok(Some(StoredAuthorization { authorization, account, queue: rows.into_iter().map(entry).collect() }))
}

/// As [`by_id`], but another account's and one that has expired are as if absent.
pub(crate) fn of_account(
    connection: &mut AnyConnection,
    account: AccountId,
    id: AuthorizationId,
    now: Timestamp,
) -> DbResult<Option<StoredAuthorization>> {
    Ok(by_id(connection, id)?.filter(|it| it.authorization.is_of_account(account, now)))
}

impl Owned for Authorization {
    type Id = AuthorizationId;

    const OPERATION: &'static str = "account_and_authorization";

    fn find(reading: &mut Reading<'_>, account: AccountId, id: AuthorizationId) -> DbResult<Option<(Account, Self)>> {
        let found = read(reading.connection, id, reading.known, &mut reading.redemption)?;
        let found = found.filter(|it| it.authorization.is_of_account(account, reading.now));
        Ok(found.map(|it| (it.account, it.authorization)))
    }

    fn of_known(known: &mut Known, account: &Account, id: AuthorizationId, now: Timestamp) -> Option<Self> {
        let stored = known.authorization(id).filter(|it| it.is_of_account(account.id, now))?;
        Some(Self { status: under(account, stored.status), ..stored.clone() })
    }
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
        self.select("authorization", move |connection| {
            Ok(of_account(connection, account, id, now)?.map(|it| it.authorization))
        })
        .await
    }

    /// Those of these authorizations that wait for a validation, whichever replica runs it.
    ///
    /// # Errors
    /// Where the database fails.
    pub async fn authorizations_processing(
        &self,
        ids: &[AuthorizationId],
    ) -> Result<HashSet<AuthorizationId>, StoreError> {
        let ids: Vec<_> = ids.iter().map(|it| it.as_octets().to_vec()).collect();
        self.select("authorizations_processing", move |connection| {
            let query = challenges::table
                .inner_join(authorizations::table)
                .filter(challenges::authorization_id.eq_any(&ids))
                .filter(challenges::status.eq(ChallengeStatus::Processing.as_str()))
                .filter(authorizations::status.eq(AuthorizationStatus::Pending.as_str()))
                .select(challenges::authorization_id);
            let rows: Vec<Vec<u8>> = on!(connection, |it| query.load(it))?;
            let id = |octets: &Vec<u8>| AuthorizationId::from_slice(octets).ok_or_else(|| corrupt("challenges"));
            rows.iter().map(id).collect()
        })
        .await
    }

    /// Gives up a pending or valid authorization (RFC 8555 §7.5.2). From then on its unfinished orders read as invalid.
    /// One in another state is returned as it is; `None` as in [`Store::authorization`].
    ///
    /// # Errors
    /// Where the database fails.
    pub async fn authorization_deactivate(
        &self,
        account: AccountId,
        id: AuthorizationId,
        now: Timestamp,
    ) -> Result<Option<Authorization>, StoreError> {
        let deactivate = move |connection: &mut AnyConnection| {
            let update = diesel::update(authorizations::table.find(id.as_octets().as_slice()))
                .filter(authorizations::account_id.eq(account.as_i64()))
                .filter(authorizations::expires_at.gt(now.unix_micros()))
                .filter(authorizations::status.eq_any(["pending", "valid"]))
                .set(authorizations::status.eq(AuthorizationStatus::Deactivated.as_str()));
            on!(connection, |it| kept!(update).execute(it))?;
            Ok(of_account(connection, account, id, now)?.map(|it| it.authorization))
        };
        self.write("authorization_deactivate", deactivate, move |known, _| known.forget_authorization(id)).await
    }

    /// Whether the account holds valid, unexpired authorizations for all of these (RFC 8555 §7.6). Of none: no.
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
                let query = authorizations::table
                    .filter(authorizations::account_id.eq(account.as_i64()))
                    .filter(authorizations::identifier_value.eq(value))
                    .filter(authorizations::identifier_kind.eq(*kind))
                    .filter(authorizations::status.eq(Valid))
                    .filter(authorizations::expires_at.gt(now.unix_micros()))
                    .select(authorizations::account_id);
                let held = on!(connection, |it| query.first::<i64>(it)).optional()?;
                if held.is_none() {
                    return Ok(false);
                }
            }
            Ok(!wanted.is_empty())
        })
        .await
    }
}
