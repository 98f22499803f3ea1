//! Holds a poll until what it waits for has changed.
//!
//! A held request has no database connection. It registers before it reads the state, so that a change between the
//! reading and the waiting is not missed, is woken after the commit, and reads again.

use std::collections::HashMap;
use std::hash::Hash;
use std::sync::{Arc, Mutex, PoisonError};

use akamu_proto::{AccountId, AuthorizationId};
use tokio::sync::Notify;

/// The most polls held at once, of all accounts.
const MAX_HELD: usize = 1_000;
/// The most polls held at once for one account.
const MAX_HELD_FOR_ACCOUNT: usize = 20;

/// The held polls.
#[derive(Debug, Default)]
pub(crate) struct Holds {
    inner: Mutex<Inner>,
    /// One more is held.
    begun: Notify,
}

#[derive(Debug, Default)]
struct Inner {
    closed: bool,
    held: usize,
    by_account: HashMap<AccountId, usize>,
    /// Who waits for an authorization, and how many.
    waiting: HashMap<AuthorizationId, (Arc<Notify>, usize)>,
}

/// One held poll's place; gives it back when dropped.
#[derive(Debug)]
pub(crate) struct Held {
    holds: Arc<Holds>,
    account: AccountId,
    authorizations: Vec<AuthorizationId>,
    notifies: Vec<Arc<Notify>>,
}

fn release<K: Eq + Hash>(counts: &mut HashMap<K, usize>, key: &K) {
    if let Some(count) = counts.get_mut(key) {
        *count -= 1;
        if *count == 0 {
            counts.remove(key);
        }
    }
}

impl Holds {
    /// A place for a poll of `account` that waits for any of `authorizations`. `None`: answer at once.
    pub(crate) fn hold(self: &Arc<Self>, account: AccountId, authorizations: Vec<AuthorizationId>) -> Option<Held> {
        let mut inner = self.inner.lock().unwrap_or_else(PoisonError::into_inner);
        let of_account = inner.by_account.get(&account).copied().unwrap_or(0);
        if inner.closed || inner.held >= MAX_HELD || of_account >= MAX_HELD_FOR_ACCOUNT {
            return None;
        }
        inner.held += 1;
        *inner.by_account.entry(account).or_default() += 1;
        let notifies = authorizations
            .iter()
            .map(|id| {
                let (notify, count) = inner.waiting.entry(*id).or_default();
                *count += 1;
                notify.clone()
            })
            .collect();
        drop(inner);
        self.begun.notify_one();
        Some(Held { holds: self.clone(), account, authorizations, notifies })
    }

    /// Wakes those who wait for `authorization`. To be called after the commit.
    pub(crate) fn wake(&self, authorization: AuthorizationId) {
        let inner = self.inner.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some((notify, _)) = inner.waiting.get(&authorization) {
            notify.notify_waiters();
        }
    }

    /// Returns when a poll is held: at once where one is. For one caller, which is told of each that begins.
    pub(crate) async fn any(&self) {
        while self.waiting().is_empty() {
            self.begun.notified().await;
        }
    }

    /// The authorizations that are waited for.
    pub(crate) fn waiting(&self) -> Vec<AuthorizationId> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner).waiting.keys().copied().collect()
    }

    /// Wakes everybody and holds nobody any more: the server stops.
    pub(crate) fn close(&self) {
        let mut inner = self.inner.lock().unwrap_or_else(PoisonError::into_inner);
        inner.closed = true;
        inner.waiting.values().for_each(|(notify, _)| notify.notify_waiters());
    }
}

impl Held {
    /// Starts to listen now, and returns what ends when one of the authorizations changes.
    pub(crate) fn changed(&self) -> impl Future<Output = ()> + use<> {
        let waits: Vec<_> = self
            .notifies
            .iter()
            .map(|notify| {
                // `notified_owned` counts a wake from its creation on, not from its first poll.
                Box::pin(notify.clone().notified_owned())
            })
            .collect();
        async move {
            if !waits.is_empty() {
                futures_util::future::select_all(waits).await;
            }
        }
    }
}

impl Drop for Held {
    fn drop(&mut self) {
        let mut inner = self.holds.inner.lock().unwrap_or_else(PoisonError::into_inner);
        inner.held -= 1;
        release(&mut inner.by_account, &self.account);
        for id in &self.authorizations {
            if let Some((_, count)) = inner.waiting.get_mut(id) {
                *count -= 1;
                if *count == 0 {
                    inner.waiting.remove(id);
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use akamu_proto::Timestamp;
    use futures_util::FutureExt as _;

    fn id(n: u8) -> AuthorizationId {
        AuthorizationId::new(Timestamp::from_unix_secs(1), [n; 10])
    }

    #[test]
    fn a_wake_between_reading_and_waiting_is_not_missed() {
        let holds = Arc::new(Holds::default());
        let held = holds.hold(AccountId::from_i64(1).unwrap(), vec![id(1), id(2)]).unwrap();
        let changed = held.changed();
        holds.wake(id(3));
        let mut changed = Box::pin(changed);
        assert_eq!((&mut changed).now_or_never(), None);
        holds.wake(id(2));
        assert_eq!(changed.now_or_never(), Some(()));

        let changed = held.changed();
        holds.wake(id(1));
        assert_eq!(changed.now_or_never(), Some(()), "woken before the first poll");
    }

    #[test]
    fn places_are_limited_and_given_back() {
        let holds = Arc::new(Holds::default());
        let account = AccountId::from_i64(1).unwrap();
        let held: Vec<_> = (0..20).map(|n| holds.hold(account, vec![id(n)]).unwrap()).collect();
        assert!(holds.hold(account, vec![id(0)]).is_none());
        let other = AccountId::from_i64(2).unwrap();
        assert!(holds.hold(other, vec![id(0)]).is_some());
        drop(held);
        let inner = holds.inner.lock().unwrap();
        assert_eq!((inner.held, inner.by_account.len(), inner.waiting.len()), (0, 0, 0));
    }

    #[test]
    fn all_accounts_together_have_a_thousand_places() {
        let holds = Arc::new(Holds::default());
        let account = |n| AccountId::from_i64(n).unwrap();
        let mut held: Vec<_> = (0..1_000).map(|n| holds.hold(account(1 + n / 20), vec![id(0)]).unwrap()).collect();
        assert!(holds.hold(account(100), vec![id(0)]).is_none());
        drop(held.pop());
        assert!(holds.hold(account(100), vec![id(0)]).is_some());
    }

    #[test]
    fn nobody_is_held_while_stopping() {
        let holds = Arc::new(Holds::default());
        let account = AccountId::from_i64(1).unwrap();
        let held = holds.hold(account, vec![id(1)]).unwrap();
        let changed = held.changed();
        holds.close();
        assert_eq!(changed.now_or_never(), Some(()));
        assert!(holds.hold(account, vec![id(1)]).is_none());
    }
}
