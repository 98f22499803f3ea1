//! Accounts (RFC 8555 §7.1.2), their keys, and every thumbprint that they ever had.

use akamu_proto::{AccountId, AccountStatus, Thumbprint, Timestamp};
use diesel::prelude::*;
use diesel::result::{DatabaseErrorKind, Error as DieselError};

use crate::connection::{AnyConnection, DbResult, corrupt, insert_if_new, kept, on};
use crate::error::StoreError;
use crate::known::Known;
use crate::nonce::{Redemption, load_redeeming};
use crate::schema::{account_thumbprints, accounts};
use crate::store::Store;

/// An account.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Account {
    /// Its id.
    pub id: AccountId,
    /// Its state.
    pub status: AccountStatus,
    /// Its current key: the canonical JWK (RFC 7638 §3).
    pub jwk: String,
    /// The current key's thumbprint.
    pub thumbprint: Thumbprint,
    /// Contact URLs.
    pub contact: Vec<String>,
    /// Whether the terms of service were agreed to.
    pub terms_agreed: bool,
}

/// An account to be made.
#[derive(Clone, Debug)]
pub struct NewAccount {
    /// Its id, drawn at random.
    pub id: AccountId,
    /// Its key: the canonical JWK.
    pub jwk: String,
    /// The key's thumbprint.
    pub thumbprint: Thumbprint,
    /// Contact URLs.
    pub contact: Vec<String>,
    /// Whether the terms of service were agreed to.
    pub terms_agreed: bool,
}

/// What came of making an account.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum AccountCreated {
    /// It is new.
    Created(Account),
    /// The key had an account already, in whatever state.
    Existing(Account),
}

/// What came of a key change.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum KeyChanged {
    /// The account has the new key.
    Changed(Account),
    /// The new key is this account's.
    KeyInUse(AccountId),
    /// The account is not valid any more, or has not the old key.
    Conflict,
}

/// An account's row.
pub(crate) type Row = (i64, String, String, String, String, bool);

pub(crate) const COLUMNS: (
    accounts::id,
    accounts::status,
    accounts::jwk,
    accounts::thumbprint,
    accounts::contact,
    accounts::terms_agreed,
) = (accounts::id, accounts::status, accounts::jwk, accounts::thumbprint, accounts::contact, accounts::terms_agreed);

pub(crate) fn account((id, status, jwk, thumbprint, contact, terms_agreed): &Row) -> DbResult<Account> {
    Ok(Account {
        id: AccountId::from_i64(*id).ok_or_else(|| corrupt("accounts.id"))?,
        status: AccountStatus::from_word(status).ok_or_else(|| corrupt("accounts.status"))?,
        jwk: jwk.clone(),
        thumbprint: thumbprint.parse().map_err(|_| corrupt("accounts.thumbprint"))?,
        contact: serde_json::from_str(contact).map_err(|_| corrupt("accounts.contact"))?,
        terms_agreed: *terms_agreed,
    })
}

fn contact_text(contact: &[String]) -> String {
    serde_json::to_string(contact).expect("strings are JSON")
}

pub(crate) fn by_id(connection: &mut AnyConnection, id: AccountId) -> DbResult<Option<Account>> {
    read(connection, id, &mut Redemption::of(None))
}

/// The account with this id; `redemption` is done on the way.
pub(crate) fn read(
    connection: &mut AnyConnection,
    id: AccountId,
    redemption: &mut Redemption<'_>,
) -> DbResult<Option<Account>> {
    let rows: Vec<Row> = load_redeeming!(connection, redemption, accounts::table.find(id.as_i64()), COLUMNS)?;
    rows.first().map(account).transpose()
}

/// The account that an object's row belongs to: read beside it, or known before, or to be read now.
pub(crate) fn owner(
    connection: &mut AnyConnection,
    beside: Option<&Row>,
    known: Option<&Account>,
    id: AccountId,
) -> DbResult<Account> {
    match (beside, known.filter(|it| it.id == id)) {
        (Some(row), _) => account(row),
        (None, Some(known)) => Ok(known.clone()),
        (None, None) => by_id(connection, id)?.ok_or_else(|| corrupt("account_id")),
    }
}

fn by_thumbprint(connection: &mut AnyConnection, thumbprint: &Thumbprint) -> DbResult<Option<Account>> {
    let row = accounts::table.filter(accounts::thumbprint.eq(thumbprint.as_str().to_owned())).select(COLUMNS);
    on!(connection, |it| row.first::<Row>(it)).optional()?.as_ref().map(account).transpose()
}

/// Every thumbprint that the account ever had, the current key's first, then the newest.
pub(crate) fn thumbprints(connection: &mut AnyConnection, id: AccountId) -> DbResult<Vec<Thumbprint>> {
    let current: Option<String> =
        on!(connection, |it| accounts::table.find(id.as_i64()).select(accounts::thumbprint).first(it)).optional()?;
    let query = account_thumbprints::table
        .filter(account_thumbprints::account_id.eq(id.as_i64()))
        .order(account_thumbprints::added_at.desc())
        .select(account_thumbprints::thumbprint);
    let all: Vec<String> = on!(connection, |it| query.load(it))?;
    let earlier = all.into_iter().filter(|it| Some(it) != current.as_ref());
    current
        .iter()
        .cloned()
        .chain(earlier)
        .map(|it| it.parse().map_err(|_| corrupt("account_thumbprints.thumbprint")))
        .collect()
}

fn keep_thumbprint(
    connection: &mut AnyConnection,
    id: AccountId,
    thumbprint: &Thumbprint,
    now: Timestamp,
) -> DbResult<()> {
    let row = (
        account_thumbprints::account_id.eq(id.as_i64()),
        account_thumbprints::thumbprint.eq(thumbprint.as_str()),
        account_thumbprints::added_at.eq(now.unix_micros()),
    );
    insert_if_new!(connection, account_thumbprints::table, row).map(drop)
}

/// What is learned from an operation that may have changed an account.
fn changed<T>(id: AccountId) -> impl FnOnce(&mut Known, &T) {
    move |known, _| known.account_was_changed(id)
}

impl Store {
    /// Makes an account, or finds the one that the key has.
    ///
    /// # Errors
    /// Where the database fails, or the id is taken.
    pub async fn account_create(&self, new: NewAccount, now: Timestamp) -> Result<AccountCreated, StoreError> {
        let create = move |connection: &mut AnyConnection| {
            let contact = contact_text(&new.contact);
            let row = (
                accounts::id.eq(new.id.as_i64()),
                accounts::status.eq(AccountStatus::Valid.as_str()),
                accounts::jwk.eq(&new.jwk),
                accounts::thumbprint.eq(new.thumbprint.as_str()),
                accounts::contact.eq(contact),
                accounts::terms_agreed.eq(new.terms_agreed),
                accounts::created_at.eq(now.unix_micros()),
            );
            if insert_if_new!(connection, accounts::table, row)? {
                keep_thumbprint(connection, new.id, &new.thumbprint, now)?;
            }
            match by_thumbprint(connection, &new.thumbprint)? {
                Some(found) if found.id == new.id => Ok(AccountCreated::Created(found)),
                Some(found) => Ok(AccountCreated::Existing(found)),
                // Only the id was taken.
                None => Err(DieselError::DatabaseError(
                    DatabaseErrorKind::UniqueViolation,
                    Box::new("accounts.id".to_owned()),
                )),
            }
        };
        let learn = |known: &mut Known, created: &AccountCreated| match created {
            AccountCreated::Created(account) | AccountCreated::Existing(account) => known.account_is(account.clone()),
        };
        self.write("account_create", create, learn).await
    }

    /// The account with this id.
    ///
    /// # Errors
    /// Where the database fails.
    pub async fn account(&self, id: AccountId) -> Result<Option<Account>, StoreError> {
        self.select("account", move |connection| by_id(connection, id)).await
    }

    /// The account whose current key has this thumbprint.
    ///
    /// # Errors
    /// Where the database fails.
    pub async fn account_by_thumbprint(&self, thumbprint: &Thumbprint) -> Result<Option<Account>, StoreError> {
        let thumbprint = thumbprint.clone();
        self.select("account_by_thumbprint", move |connection| by_thumbprint(connection, &thumbprint)).await
    }

    /// Every thumbprint that the account ever had, the current key's first.
    ///
    /// # Errors
    /// Where the database fails.
    pub async fn account_thumbprints(&self, id: AccountId) -> Result<Vec<Thumbprint>, StoreError> {
        self.read("account_thumbprints", move |connection| thumbprints(connection, id)).await
    }

    /// Replaces the contact URLs of a valid account; `None` where there is none.
    ///
    /// # Errors
    /// Where the database fails.
    pub async fn account_update_contact(
        &self,
        id: AccountId,
        contact: Vec<String>,
        _: Timestamp,
    ) -> Result<Option<Account>, StoreError> {
        let update = move |connection: &mut AnyConnection| {
            let contact = contact_text(&contact);
            let update = diesel::update(accounts::table.find(id.as_i64()))
                .filter(accounts::status.eq(AccountStatus::Valid.as_str()))
                .set(accounts::contact.eq(contact));
            let changed = on!(connection, |it| kept!(update).execute(it))?;
            if changed == 1 { by_id(connection, id) } else { Ok(None) }
        };
        self.write("account_update_contact", update, changed(id)).await
    }

    /// Closes a valid account for good (§7.3.6). From then on its pending and ready orders read as invalid, its pending
    /// authorizations as deactivated, and results of its validations are not recorded. `None` where there is no such
    /// account.
    ///
    /// # Errors
    /// Where the database fails.
    pub async fn account_deactivate(&self, id: AccountId, _: Timestamp) -> Result<Option<Account>, StoreError> {
        let deactivate = move |connection: &mut AnyConnection| {
            let update = diesel::update(accounts::table.find(id.as_i64()))
                .filter(accounts::status.eq(AccountStatus::Valid.as_str()))
                .set(accounts::status.eq(AccountStatus::Deactivated.as_str()));
            on!(connection, |it| kept!(update).execute(it))?;
            by_id(connection, id)
        };
        self.write("account_deactivate", deactivate, changed(id)).await
    }

    /// Gives a valid account a new key (§7.3.5). The old thumbprint is kept.
    ///
    /// # Errors
    /// Where the database fails.
    pub async fn account_change_key(
        &self,
        id: AccountId,
        old: &Thumbprint,
        new_jwk: &str,
        new: &Thumbprint,
        now: Timestamp,
    ) -> Result<KeyChanged, StoreError> {
        let (old, new_jwk, new) = (old.clone(), new_jwk.to_owned(), new.clone());
        let for_loser = new.clone();
        let change_key = move |connection: &mut AnyConnection| {
            match by_thumbprint(connection, &new)? {
                // Ours: the answer to an earlier run was lost.
                Some(found) if found.id == id && old != new => return Ok(KeyChanged::Changed(found)),
                Some(found) => return Ok(KeyChanged::KeyInUse(found.id)),
                None => {}
            }
            let update = diesel::update(accounts::table.find(id.as_i64()))
                .filter(accounts::status.eq(AccountStatus::Valid.as_str()))
                .filter(accounts::thumbprint.eq(old.as_str()))
                .set((accounts::jwk.eq(&new_jwk), accounts::thumbprint.eq(new.as_str())));
            let changed = on!(connection, |it| kept!(update).execute(it))?;
            if changed == 1 {
                keep_thumbprint(connection, id, &new, now)?;
            }
            // An earlier run may have been committed only while this one waited for the row.
            let found = by_id(connection, id)?.filter(|it| it.thumbprint == new);
            Ok(found.map_or(KeyChanged::Conflict, KeyChanged::Changed))
        };
        match self.write("account_change_key", change_key, changed(id)).await {
            // Two accounts took the key at once; the row of the other one is there now.
            Err(StoreError::Constraint(_)) => {
                let winner = self.account_by_thumbprint(&for_loser).await?;
                Ok(winner.map_or(KeyChanged::Conflict, |it| KeyChanged::KeyInUse(it.id)))
            }
            other => other,
        }
    }
}
