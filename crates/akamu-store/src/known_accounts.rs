//! Accounts that were read lately, in memory, for the one owner of an SQLite file: readers there forget what they have read
//! whenever somebody commits. (docs/src/decisions/accounts-stay-known.md)

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use akamu_proto::AccountId;

use crate::account::Account;

/// Accounts kept; each is less than 1 KB. When they are too many, all are forgotten: reading one again costs little.
const CAPACITY: usize = 4_096;

/// Accounts as they are now, but for changes that nobody has heard of yet.
#[derive(Clone, Debug, Default)]
pub(crate) struct KnownAccounts(Arc<Mutex<Kept>>);

#[derive(Debug, Default)]
struct Kept {
    accounts: HashMap<AccountId, Arc<Account>>,
    changes: u64,
}

/// How many changes there were before something was read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Changes(u64);

impl KnownAccounts {
    fn kept(&self) -> MutexGuard<'_, Kept> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The account, where it is known, or since when it will be.
    pub(crate) fn get(&self, id: AccountId) -> Result<Arc<Account>, Changes> {
        let kept = self.kept();
        kept.accounts.get(&id).cloned().ok_or(Changes(kept.changes))
    }

    /// Keeps an account that was read after `before`, unless one was changed since: it may have been this one.
    pub(crate) fn keep(&self, account: &Account, before: Changes) {
        let mut kept = self.kept();
        if Changes(kept.changes) != before {
            return;
        }
        if kept.accounts.len() >= CAPACITY {
            kept.accounts.clear();
        }
        kept.accounts.insert(account.id, Arc::new(account.clone()));
    }

    /// What an operation that changes the account holds.
    pub(crate) fn change(&self, id: AccountId) -> Change {
        Change { known: self.clone(), id }
    }
}

/// Forgets an account when it is dropped: after the commit, and before anybody hears of it.
#[derive(Debug)]
pub(crate) struct Change {
    known: KnownAccounts,
    id: AccountId,
}

impl Drop for Change {
    fn drop(&mut self) {
        let mut kept = self.known.kept();
        kept.changes += 1;
        kept.accounts.remove(&self.id);
    }
}

#[cfg(test)]
mod tests {
    use akamu_proto::AccountStatus;

    use super::*;

    fn account(n: i64) -> Arc<Account> {
        Arc::new(Account {
            id: AccountId::from_i64(n).unwrap(),
            status: AccountStatus::Valid,
            jwk: "{}".to_owned(),
            thumbprint: "A".repeat(43).parse().unwrap(),
            contact: Vec::new(),
            terms_agreed: true,
        })
    }

    #[test]
    fn what_was_read_before_a_change_is_not_kept() {
        let known = KnownAccounts::default();
        let (first, other) = (account(1), account(2));
        let before = known.get(first.id).unwrap_err();
        known.keep(&first, before);
        assert_eq!(known.get(first.id), Ok(first.clone()));

        let before = known.get(other.id).unwrap_err();
        let change = known.change(first.id);
        assert_eq!(known.get(first.id), Ok(first.clone()), "nobody has heard of the change yet");
        drop(change);
        let after = known.get(first.id).unwrap_err();
        known.keep(&first, before);
        assert_eq!(known.get(first.id), Err(after), "it was read before the change");
        known.keep(&first, after);
        assert_eq!(known.get(first.id), Ok(first));
    }

    #[test]
    fn a_change_forgets_its_own_account_alone() {
        let known = KnownAccounts::default();
        for n in [1, 2] {
            let before = known.get(account(n).id).unwrap_err();
            known.keep(&account(n), before);
        }
        drop(known.change(account(1).id));
        assert!(known.get(account(1).id).is_err());
        assert_eq!(known.get(account(2).id), Ok(account(2)));
    }

    #[test]
    fn memory_is_bounded() {
        let known = KnownAccounts::default();
        for n in 1..=4_097 {
            let before = known.get(account(n).id).unwrap_err();
            known.keep(&account(n), before);
        }
        assert_eq!(known.kept().accounts.len(), 1);
        assert_eq!(known.get(account(4_097).id), Ok(account(4_097)));
    }
}
