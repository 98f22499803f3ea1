//! How many connections there may be at once, and which one makes room for a new one: the one whose client has been
//! waited for longest. (Why: docs/src/decisions/the-longest-idle-makes-room.md)

use std::collections::BTreeMap;
use std::fmt;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::sync::{Notify, OwnedSemaphorePermit, Semaphore};
use tokio_util::sync::CancellationToken;

use crate::metrics::{Counted, Metrics};

/// The connections of one listener, or of several that share a limit.
pub(crate) struct Connections {
    most: usize,
    /// A permit for each that is open, be it on its way out.
    open: Arc<Semaphore>,
    places: Mutex<Places>,
    /// One more place is free, or could be made free.
    one_waits: Notify,
    metrics: Arc<Metrics>,
}

/// The places that are taken; those who wait for their client by the order in which they began to.
#[derive(Default)]
struct Places {
    taken: usize,
    next_turn: u64,
    /// No request has begun, or not even TLS.
    half_open: BTreeMap<u64, CancellationToken>,
    idle: BTreeMap<u64, CancellationToken>,
}

/// A connection's place; half-open at first. Free again when dropped.
pub(super) struct Place {
    connections: Arc<Connections>,
    turn: Option<u64>,
    must_go: CancellationToken,
    _open: OwnedSemaphorePermit,
    _counted: Counted,
}

impl Connections {
    /// Room for `most`.
    pub(crate) fn new(most: usize, metrics: Arc<Metrics>) -> Arc<Self> {
        // Those that have been told to go, and still have to.
        let leaving = most / 8 + 1;
        let open = Arc::new(Semaphore::new(most.saturating_add(leaving).min(Semaphore::MAX_PERMITS)));
        Arc::new(Self { most, open, places: Mutex::default(), one_waits: Notify::new(), metrics })
    }

    /// A place for a new connection. Where none is free, the connection whose client has been waited for longest makes
    /// room; where every one has a request in hand, this waits for the first that has not.
    pub(super) async fn admit(self: &Arc<Self>) -> Place {
        let open = self.open.clone().acquire_owned().await.expect("this semaphore is never closed");
        while !self.lock().take(self.most) {
            // It goes while the newcomer begins: one that waited for it would keep all that come next waiting, too.
            if !self.make_room() {
                self.one_waits.notified().await;
            }
        }
        let must_go = CancellationToken::new();
        let turn = Some(self.lock().insert(|places| &mut places.half_open, must_go.clone()));
        self.one_waits.notify_one();
        let _counted = self.metrics.connection();
        Place { connections: self.clone(), turn, must_go, _open: open, _counted }
    }

    /// Lets the connection go whose client has been waited for longest; false where each has a request in hand.
    pub(super) fn make_room(&self) -> bool {
        let has_made_room = self.lock().let_longest_go(self.most);
        if has_made_room {
            self.metrics.out_of_room();
        }
        has_made_room
    }

    fn lock(&self) -> MutexGuard<'_, Places> {
        self.places.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl fmt::Debug for Connections {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Connections").field("most", &self.most).finish_non_exhaustive()
    }
}

impl Places {
    /// One of the free places, where there is one.
    fn take(&mut self, most: usize) -> bool {
        let is_free = self.taken < most;
        self.taken += usize::from(is_free);
        is_free
    }

    fn insert(
        &mut self,
        of: impl FnOnce(&mut Self) -> &mut BTreeMap<u64, CancellationToken>,
        must_go: CancellationToken,
    ) -> u64 {
        let turn = self.next_turn;
        self.next_turn += 1;
        of(self).insert(turn, must_go);
        turn
    }

    fn remove(&mut self, turn: u64) {
        if self.half_open.remove(&turn).is_none() {
            self.idle.remove(&turn);
        }
    }

    /// Half-open ones go first while they have more than half of all places: a flood of them then closes nobody else.
    /// With fewer the longest of all goes, or who has the other places could leave newcomers a handful that is gone
    /// before a handshake ends.
    fn let_longest_go(&mut self, most: usize) -> bool {
        let half_open_go_first = self.half_open.len() > most / 2;
        let from = match (self.half_open.first_key_value(), self.idle.first_key_value()) {
            (Some((half_open, _)), Some((idle, _))) if !half_open_go_first && idle < half_open => &mut self.idle,
            (Some(_), _) => &mut self.half_open,
            (None, _) => &mut self.idle,
        };
        let Some((_, must_go)) = from.pop_first() else { return false };
        // Its place is free from now on, and not once more when it has gone.
        must_go.cancel();
        self.taken -= 1;
        true
    }
}

impl Place {
    /// Cancelled when this connection makes room for another one.
    pub(super) const fn must_go(&self) -> &CancellationToken {
        &self.must_go
    }

    /// It waits for its client, from now on if it did not do so already.
    pub(super) fn idle(&mut self) {
        self.busy();
        // Whoever is told to go makes room once.
        if !self.must_go.is_cancelled() {
            let turn = self.connections.lock().insert(|places| &mut places.idle, self.must_go.clone());
            self.turn = Some(turn);
            self.connections.one_waits.notify_one();
        }
    }

    /// It has a request in hand, and stays.
    pub(super) fn busy(&mut self) {
        if let Some(turn) = self.turn.take() {
            self.connections.lock().remove(turn);
        }
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        self.busy();
        let mut places = self.connections.lock();
        if !self.must_go.is_cancelled() {
            places.taken -= 1;
            self.connections.one_waits.notify_one();
        }
    }
}

impl fmt::Debug for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Place").field("turn", &self.turn).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use std::pin::pin;

    use super::*;
    use futures_util::FutureExt as _;

    fn connections(most: usize) -> Arc<Connections> {
        Connections::new(most, Arc::default())
    }

    /// A place for who finds one free.
    fn place(connections: &Arc<Connections>) -> Place {
        connections.admit().now_or_never().unwrap()
    }

    /// Lets one make room; says which.
    fn goes(connections: &Connections, places: &[&Place]) -> Option<usize> {
        let before: Vec<_> = places.iter().map(|it| it.must_go.is_cancelled()).collect();
        let somebody = connections.make_room();
        let which = places.iter().zip(before).position(|(it, before)| it.must_go.is_cancelled() && !before);
        assert_eq!(which.is_some(), somebody);
        which
    }

    #[test]
    fn whose_client_was_waited_for_longest_makes_room_and_who_has_a_request_stays() {
        let connections = connections(8);
        let [mut a, mut b, mut c, mut d] = [(); 4].map(|()| place(&connections));
        b.idle();
        a.idle();
        c.busy();
        d.busy();
        d.idle();
        let e = place(&connections);
        let places = [&a, &b, &c, &d, &e];
        let order: Vec<_> = std::iter::from_fn(|| goes(&connections, &places)).collect();
        assert_eq!(order, [1, 0, 3, 4]);
        // Who must go has no turn again, and who has gone none at all.
        a.idle();
        drop((b, d, e));
        assert_eq!(goes(&connections, &[&a, &c]), None);
    }

    #[test]
    fn half_open_ones_go_first_while_they_have_more_than_half_of_the_places() {
        let connections = connections(6);
        let [mut a, mut b] = [(); 2].map(|()| place(&connections));
        a.idle();
        b.idle();
        let [c, d, e, f] = [(); 4].map(|()| place(&connections));
        let places = [&a, &b, &c, &d, &e, &f];
        let order: Vec<_> = std::iter::from_fn(|| goes(&connections, &places)).collect();
        assert_eq!(order, [2, 0, 1, 3, 4, 5]);
    }

    #[test]
    fn a_newcomer_waits_while_each_has_a_request_and_one_that_has_none_any_more_makes_room() {
        let connections = connections(2);
        let [mut a, mut b] = [(); 2].map(|()| place(&connections));
        a.busy();
        b.busy();
        let mut newcomer = pin!(connections.admit());
        assert!(newcomer.as_mut().now_or_never().is_none());
        b.idle();
        a.idle();
        // It does not wait until the other one has gone; and for one, one goes.
        let mut newcomer = newcomer.now_or_never().unwrap();
        assert_eq!([&a, &b].map(|it| it.must_go.is_cancelled()), [false, true]);
        newcomer.busy();
        a.busy();
        // The place of who has gone was given away already.
        drop(b);
        assert!(connections.admit().now_or_never().is_none());
        drop(a);
        assert!(connections.admit().now_or_never().is_some());
    }

    #[test]
    fn those_that_are_told_to_go_are_few_at_a_time() {
        let connections = connections(8);
        let mut places: Vec<_> = std::iter::from_fn(|| connections.admit().now_or_never()).take(20).collect();
        // Eight, and two whose predecessors are still here.
        assert_eq!(places.len(), 10);
        places.remove(0);
        assert!(connections.admit().now_or_never().is_some());
    }
}
