//! What an account has, read together with it by a request that its key has signed.

use std::fmt;
use std::sync::Arc;

use akamu_proto::{AccountId, Timestamp};

use crate::account::{self, Account};
use crate::connection::{AnyConnection, DbResult};
use crate::error::StoreError;
use crate::known::Known;
use crate::nonce::{CheckedNonce, RedeemedNonce, RedeemedRow, Redeeming, Redemption};
use crate::store::Store;

/// What can be read together with its account: an authorization, an order, a certificate, or nothing at all. Only this
/// crate knows how.
pub trait Owned: Sized + Send + 'static {
    /// What names it.
    type Id: Copy + Send + 'static;

    /// The operation's name.
    const OPERATION: &'static str;

    /// The account, and this, where it is there and the account's: in one statement.
    ///
    /// # Errors
    /// Where the database fails.
    fn find(
        reading: &mut Reading<'_>,
        account: AccountId,
        id: Self::Id,
    ) -> Result<Option<(Account, Self)>, diesel::result::Error>;

    /// This, where it is known and the account's.
    fn of_known(known: &mut Known, account: &Account, id: Self::Id, now: Timestamp) -> Option<Self>;
}

/// One run of the operation that reads it, opaque to other crates. Its first statement redeems the nonce too.
pub struct Reading<'a> {
    pub(crate) connection: &'a mut AnyConnection,
    pub(crate) redemption: Redemption<'a>,
    /// The account, where it need not be read.
    pub(crate) known: Option<&'a Account>,
    pub(crate) now: Timestamp,
}

impl fmt::Debug for Reading<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Reading").finish_non_exhaustive()
    }
}

impl Owned for () {
    type Id = ();

    const OPERATION: &'static str = "account";

    fn find(reading: &mut Reading<'_>, account: AccountId, (): ()) -> DbResult<Option<(Account, Self)>> {
        Ok(account::read(reading.connection, account, &mut reading.redemption)?.map(|it| (it, ())))
    }

    fn of_known(_: &mut Known, _: &Account, (): (), _: Timestamp) -> Option<Self> {
        Some(())
    }
}

/// What an account's request found.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum AccountAnd<T> {
    /// The account, what it has by this id (`None` where that is absent, another's or has expired), and the nonce, where
    /// there was one to redeem.
    Found(Arc<Account>, Option<T>, RedeemedNonce),
    /// There is no such account.
    NoAccount,
    /// The nonce was redeemed already, or is not ours after all.
    BadNonce,
}

impl Store {
    /// An account, what it has by this id, and the redemption of the nonce of the request that asks: one operation, and
    /// one statement where all is there. On SQLite what was read or made lately is not read again.
    ///
    /// Only a sender who has proved to be the account may have a nonce redeemed.
    ///
    /// # Errors
    /// Where the database fails; then the nonce may or may not be redeemed.
    pub async fn account_and<T: Owned>(
        &self,
        account: AccountId,
        id: T::Id,
        nonce: Option<CheckedNonce>,
        now: Timestamp,
    ) -> Result<AccountAnd<T>, StoreError> {
        let row = match nonce {
            None => None,
            Some(nonce) => match self.redeeming(nonce, now).await? {
                Redeeming::Refused => return Ok(AccountAnd::BadNonce),
                Redeeming::Done => None,
                Redeeming::InTable(row) => Some(row),
            },
        };
        let Some(shared) = self.known() else { return self.find(account, id, row, None, now).await };
        let known = {
            let mut known = shared.lock();
            known.account(account).map(|account| (T::of_known(&mut known, &account, id, now), account))
        };
        match known {
            Ok((Some(object), account)) => Ok(AccountAnd::Found(account, Some(object), RedeemedNonce::default())),
            Ok((None, known)) => self.find(account, id, row, Some(known), now).await,
            Err(changes) => {
                let found = self.find(account, id, row, None, now).await?;
                if let AccountAnd::Found(account, ..) = &found {
                    shared.lock().account_was_read(account.clone(), changes);
                }
                Ok(found)
            }
        }
    }

    async fn find<T: Owned>(
        &self,
        account: AccountId,
        id: T::Id,
        row: Option<Arc<RedeemedRow>>,
        known: Option<Arc<Account>>,
        now: Timestamp,
    ) -> Result<AccountAnd<T>, StoreError> {
        self.select(T::OPERATION, move |connection| {
            let redemption = Redemption::of(row.as_deref());
            let mut reading = Reading { connection, redemption, known: known.as_deref(), now };
            let found = T::find(&mut reading, account, id)?;
            if !reading.redemption.finish(reading.connection)? {
                return Ok(AccountAnd::BadNonce);
            }
            let (account, object) = match (found, reading.known) {
                (Some((account, object)), _) => (Some(account), Some(object)),
                (None, Some(known)) => (Some(known.clone()), None),
                (None, None) => (account::by_id(reading.connection, account)?, None),
            };
            let Some(account) = account else { return Ok(AccountAnd::NoAccount) };
            Ok(AccountAnd::Found(Arc::new(account), object, RedeemedNonce::of(row.clone())))
        })
        .await
    }
}
