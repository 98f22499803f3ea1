//! Holds a poll until what it waits for has changed.
//!
//! A held request has no database connection. It is woken after the commit, with what was committed where that is known
//! here. It registers, and only then makes sure that what it waits for has not happened yet, so that nothing is missed.

use std::collections::HashMap;
use std::hash::Hash;
use std::sync::{Arc, Mutex, PoisonError};

use akamu_proto::{AccountId, AuthorizationId};
use akamu_store::Authorization;
use tokio::sync::{Notify, watch};

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
    waiting: HashMap<AuthorizationId, (watch::Sender<News>, usize)>,
}

/// An authorization as it was recorded; `None` where it must be read.
pub(crate) type News = Option<Arc<Authorization>>;

/// One held poll's place; gives it back when dropped.
#[derive(Debug)]
pub(crate) struct Held {
    holds: Arc<Holds>,
    account: AccountId,
    authorizations: Vec<AuthorizationId>,
    news: Vec<watch::Receiver<News>>,
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
        let news = authorizations
            .iter()
            .map(|id| {
                let (sender, count) = inner.waiting.entry(*id).or_default();
                *count += 1;
                sender.subscribe()
            })
            .collect();
        drop(inner);
        self.begun.notify_one();
        Some(Held { holds: self.clone(), account, authorizations, news })
    }

    /// Wakes those who wait for an authorization, which is now `recorded` where that is known. To be called after the
    /// commit.
    pub(crate) fn wake(&self, id: AuthorizationId, recorded: Option<Authorization>) {
        let inner = self.inner.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some((sender, _)) = inner.waiting.get(&id) {
            sender.send_replace(recorded.map(Arc::new));
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
        inner.waiting.values().for_each(|(sender, _)| drop(sender.send_replace(None)));
    }
}

impl Held {
    /// Ends when one of the authorizations has changed since the poll was held.
    pub(crate) async fn changed(&mut self) -> News {
        let changes = self.news.iter_mut().map(|it| {
            Box::pin(async {
                // Its sender lives for as long as somebody waits.
                let _ = it.changed().await;
                it.borrow_and_update().clone()
            })
        });
        futures_util::future::select_all(changes).await.0
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
    fn a_wake_before_the_waiting_is_not_missed() {
        let holds = Arc::new(Holds::default());
        let mut held = holds.hold(AccountId::from_i64(1).unwrap(), vec![id(1), id(2)]).unwrap();
        holds.wake(id(3), None);
        assert_eq!(held.changed().now_or_never(), None);
        holds.wake(id(2), None);
        assert_eq!(held.changed().now_or_never(), Some(None));
        assert_eq!(held.changed().now_or_never(), None, "it is told once");
        holds.wake(id(1), None);
        assert_eq!(held.changed().now_or_never(), Some(None), "woken before the first poll");
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
        let mut held = holds.hold(account, vec![id(1)]).unwrap();
        holds.close();
        assert_eq!(held.changed().now_or_never(), Some(None));
        assert!(holds.hold(account, vec![id(1)]).is_none());
    }
}
