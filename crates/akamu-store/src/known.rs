//! In memory, for the one owner of an SQLite file: accounts that were read or made lately, and what is being issued, which is
//! read a few times within a second of its making. (docs/src/decisions/what-is-issued-stays-known.md)

use std::num::NonZeroUsize;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use akamu_proto::{AccountId, AuthorizationId, CertificateId, OrderId, OrderStatus};
use lru::LruCache;

use crate::account::Account;
use crate::authorization::Authorization;
use crate::certificate::Certificate;
use crate::order::Order;

/// Accounts kept, less than 1 KB each.
const ACCOUNTS: NonZeroUsize = NonZeroUsize::new(4_096).expect("it is not 0");
/// Authorizations kept, and orders, and certificates: 1 to 3 KB each, and an order of 100 names 10 KB.
const OBJECTS: NonZeroUsize = NonZeroUsize::new(2_048).expect("it is not 0");

/// Shared by who reads and by the writer, which changes it after each commit and before the answer.
#[derive(Clone, Debug, Default)]
pub(crate) struct SharedKnown(Arc<Mutex<Known>>);

/// What is known, opaque to other crates: all as it was committed, but for changes that nobody has heard of yet.
pub struct Known {
    accounts: LruCache<AccountId, Arc<Account>>,
    /// As stored, whatever their account and the time make of them.
    authorizations: LruCache<AuthorizationId, Authorization>,
    /// As stored.
    orders: LruCache<OrderId, Order>,
    certificates: LruCache<CertificateId, Certificate>,
    /// Of accounts, so far.
    changes: u64,
}

/// How many changes of accounts there were before something was read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Changes(u64);

impl Default for Known {
    fn default() -> Self {
        Self {
            accounts: LruCache::new(ACCOUNTS),
            authorizations: LruCache::new(OBJECTS),
            orders: LruCache::new(OBJECTS),
            certificates: LruCache::new(OBJECTS),
            changes: 0,
        }
    }
}

impl std::fmt::Debug for Known {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Known").finish_non_exhaustive()
    }
}

impl SharedKnown {
    pub(crate) fn lock(&self) -> MutexGuard<'_, Known> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Learns from an operation that was committed. One that failed may have been committed all the same: after it nothing
    /// is known any more.
    pub(crate) fn learn<T>(&self, outcome: Option<&T>, learn: impl FnOnce(&mut Known, &T)) {
        let mut known = self.lock();
        match outcome {
            Some(outcome) => learn(&mut known, outcome),
            None => known.forget_all(),
        }
    }
}

/// What is learned from an operation that changes nothing of what is kept here.
pub(crate) fn nothing<T>(_: &mut Known, _: &T) {}

impl Known {
    /// The account, where it is known, or since when it will be.
    pub(crate) fn account(&mut self, id: AccountId) -> Result<Arc<Account>, Changes> {
        self.accounts.get(&id).cloned().ok_or(Changes(self.changes))
    }

    /// Keeps an account that was read after `before`, unless one was changed since: it may have been this one.
    pub(crate) fn account_was_read(&mut self, account: Arc<Account>, before: Changes) {
        if Changes(self.changes) == before {
            self.accounts.put(account.id, account);
        }
    }

    /// Keeps an account as the writer has just found it.
    pub(crate) fn account_is(&mut self, account: Account) {
        self.accounts.put(account.id, Arc::new(account));
    }

    pub(crate) fn account_was_changed(&mut self, id: AccountId) {
        self.changes += 1;
        self.accounts.pop(&id);
    }

    pub(crate) fn authorization(&self, id: AuthorizationId) -> Option<&Authorization> {
        self.authorizations.peek(&id)
    }

    /// As it is stored now.
    pub(crate) fn authorization_is(&mut self, authorization: Authorization) {
        self.authorizations.put(authorization.id, authorization);
    }

    pub(crate) fn forget_authorization(&mut self, id: AuthorizationId) {
        self.authorizations.pop(&id);
    }

    pub(crate) fn order(&mut self, id: OrderId) -> Option<&Order> {
        self.orders.get(&id)
    }

    /// As it is stored now.
    pub(crate) fn order_is(&mut self, order: Order) {
        self.orders.put(order.id, order);
    }

    /// Moves an order, where it is known.
    pub(crate) fn order_has_moved(&mut self, id: OrderId, status: OrderStatus, certificate: Option<CertificateId>) {
        if let Some(order) = self.orders.get_mut(&id) {
            order.status = status;
            order.certificate = certificate;
        }
    }

    pub(crate) fn forget_order(&mut self, id: OrderId) {
        self.orders.pop(&id);
    }

    pub(crate) fn certificate(&mut self, id: CertificateId) -> Option<&Certificate> {
        self.certificates.get(&id)
    }

    pub(crate) fn certificate_is(&mut self, id: CertificateId, certificate: Certificate) {
        self.certificates.put(id, certificate);
    }

    pub(crate) fn forget_certificate(&mut self, id: CertificateId) {
        self.certificates.pop(&id);
    }

    fn forget_all(&mut self) {
        self.changes += 1;
        self.accounts.clear();
        self.authorizations.clear();
        self.orders.clear();
        self.certificates.clear();
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

    fn with_accounts(numbers: impl IntoIterator<Item = i64>) -> Known {
        let mut known = Known::default();
        for n in numbers {
            let before = known.account(account(n).id).unwrap_err();
            known.account_was_read(account(n), before);
        }
        known
    }

    fn knows(known: &mut Known, n: i64) -> bool {
        known.account(account(n).id).is_ok_and(|it| it == account(n))
    }

    #[test]
    fn what_was_read_before_a_change_is_not_kept() {
        let mut known = with_accounts([1]);
        let before = known.account(account(2).id).unwrap_err();
        known.account_was_changed(account(1).id);
        known.account_was_read(account(2), before);
        assert!(!knows(&mut known, 2), "it was read before the change");
        let after = known.account(account(2).id).unwrap_err();
        known.account_was_read(account(2), after);
        assert!(knows(&mut known, 2));
    }

    #[test]
    fn a_change_forgets_its_own_account_alone() {
        let mut known = with_accounts([1, 2]);
        known.account_was_changed(account(1).id);
        assert!(!knows(&mut known, 1) && knows(&mut known, 2));
    }

    #[test]
    fn after_a_failure_nothing_is_known_and_what_was_read_before_it_is_not_kept() {
        let shared = SharedKnown::default();
        *shared.lock() = with_accounts([1]);
        let before = shared.lock().account(account(2).id).unwrap_err();
        shared.learn(None, nothing::<()>);
        shared.lock().account_was_read(account(2), before);
        assert!((1..=2).all(|n| !knows(&mut shared.lock(), n)));
    }

    #[test]
    fn what_was_asked_for_longest_ago_is_forgotten_first() {
        let mut known = with_accounts(1..=4_096);
        assert!(knows(&mut known, 1));
        let before = known.account(account(4_097).id).unwrap_err();
        known.account_was_read(account(4_097), before);
        assert!(knows(&mut known, 1) && !knows(&mut known, 2) && knows(&mut known, 4_097));
    }
}
