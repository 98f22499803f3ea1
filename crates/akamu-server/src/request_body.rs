//! Reads the body of a request: bounded in octets, in time, and together with all others in memory.

use std::collections::BTreeMap;
use std::fmt;
use std::pin::pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use axum::body::Bytes;
use axum::extract::Request;
use http_body_util::BodyExt as _;
use tokio::sync::Notify;
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;

use crate::app::App;
use crate::error::AcmeError;
use crate::listener::InHand;
use crate::metrics::Phase;

/// How long a request's body may take.
const BODY: Duration = Duration::from_secs(20);
/// How many octets the bodies of all requests in hand may have together.
const ALL_BODIES: usize = 16 * 1024 * 1024;
/// What one counts for before it has any octets: a request that waits for its body takes memory, too.
const EMPTY_BODY: usize = 8 * 1024;

/// The memory for the bodies of all connections. Where it is used up, the request gives up that has waited for its body
/// longest: who would fill it with bodies that never end is answered 503, not who comes next.
pub(crate) struct BodyMemory {
    state: Mutex<State>,
    has_been_given_back: Notify,
}

struct State {
    free: usize,
    /// What those have who were told to give up.
    promised: usize,
    /// What those want who wait for it.
    wanted: usize,
    next_turn: u64,
    /// Those that wait for more, in the order in which they began.
    incomplete: BTreeMap<u64, Incomplete>,
}

struct Incomplete {
    octets: usize,
    must_give_up: CancellationToken,
}

/// What one body has of it, until it is dropped.
pub(crate) struct Share {
    memory: Arc<BodyMemory>,
    turn: u64,
    octets: usize,
    /// What it waits for.
    wanted: usize,
    must_give_up: CancellationToken,
}

impl Default for BodyMemory {
    fn default() -> Self {
        Self::of(ALL_BODIES)
    }
}

impl BodyMemory {
    fn of(octets: usize) -> Self {
        let state = State { free: octets, promised: 0, wanted: 0, next_turn: 0, incomplete: BTreeMap::new() };
        Self { state: Mutex::new(state), has_been_given_back: Notify::new() }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Nothing yet, for a body that begins.
    fn share(self: &Arc<Self>) -> Share {
        let mut state = self.lock();
        let (turn, must_give_up) = (state.next_turn, CancellationToken::new());
        state.next_turn += 1;
        state.incomplete.insert(turn, Incomplete { octets: 0, must_give_up: must_give_up.clone() });
        drop(state);
        Share { memory: self.clone(), turn, octets: 0, wanted: 0, must_give_up }
    }
}

impl Share {
    /// Takes more. Where there is no more, the one that began first gives up: perhaps this one.
    async fn take(&mut self, octets: usize) -> Result<(), AcmeError> {
        let memory = self.memory.clone();
        loop {
            let mut given_back = pin!(memory.has_been_given_back.notified());
            // What is given back from here on is not missed.
            given_back.as_mut().enable();
            if self.try_take(octets)? {
                return Ok(());
            }
            tokio::select! {
                () = given_back => {}
                () = self.must_give_up.cancelled() => return Err(AcmeError::TooManyBodies),
            }
        }
    }

    /// False where others were told to give up: as many as all need that wait, and no more.
    fn try_take(&mut self, octets: usize) -> Result<bool, AcmeError> {
        let mut state = self.memory.lock();
        state.wanted -= std::mem::take(&mut self.wanted);
        if self.must_give_up.is_cancelled() {
            return Err(AcmeError::TooManyBodies);
        }
        if let Some(left) = state.free.checked_sub(octets) {
            state.free = left;
            self.octets += octets;
            if let Some(own) = state.incomplete.get_mut(&self.turn) {
                own.octets = self.octets;
            }
            return Ok(true);
        }
        while state.free + state.promised < state.wanted + octets {
            match state.incomplete.pop_first() {
                Some((turn, first)) if turn != self.turn => {
                    first.must_give_up.cancel();
                    state.promised += first.octets;
                }
                _ => return Err(AcmeError::TooManyBodies),
            }
        }
        self.wanted = octets;
        state.wanted += octets;
        Ok(false)
    }

    /// The body is complete: nobody waits for it.
    fn complete(&self) {
        self.memory.lock().incomplete.remove(&self.turn);
    }
}

impl Drop for Share {
    fn drop(&mut self) {
        let mut state = self.memory.lock();
        state.incomplete.remove(&self.turn);
        state.free += self.octets;
        state.wanted -= self.wanted;
        if self.must_give_up.is_cancelled() {
            state.promised -= self.octets;
        }
        drop(state);
        self.memory.has_been_given_back.notify_waiters();
    }
}

impl fmt::Debug for Share {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Share").field("octets", &self.octets).finish_non_exhaustive()
    }
}

impl fmt::Debug for BodyMemory {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("BodyMemory").finish_non_exhaustive()
    }
}

/// The whole body. Its share of the memory is kept until the request is answered.
pub(crate) async fn read(mut request: Request, app: &App) -> Result<Bytes, AcmeError> {
    let in_hand = request.extensions_mut().remove::<Arc<InHand>>();
    let waiting = in_hand.as_ref().map(|it| it.wait_for_body());
    let mut share = app.body_memory.share();
    let limit = app.settings.max_body_bytes;
    // The header is of no more use, and not kept while the body comes.
    let body = request.into_body();
    let resting = app.admission.rest();
    let Ok(body) = timeout(BODY, collect(body, limit, &mut share)).await else {
        app.metrics.timed_out(Phase::Body);
        return Err(AcmeError::BodyTimeout);
    };
    drop(resting);
    let body = body?;
    share.complete();
    if let Some(waiting) = waiting {
        waiting.has_come();
    }
    if let Some(in_hand) = &in_hand {
        in_hand.keep(share);
    }
    Ok(body)
}

async fn collect(mut body: axum::body::Body, limit: usize, share: &mut Share) -> Result<Bytes, AcmeError> {
    share.take(EMPTY_BODY).await?;
    let must_give_up = share.must_give_up.clone();
    let mut octets = Vec::new();
    loop {
        let frame = tokio::select! {
            biased;
            () = must_give_up.cancelled() => return Err(AcmeError::TooManyBodies),
            frame = body.frame() => frame,
        };
        let Some(frame) = frame else { return Ok(octets.into()) };
        let Ok(data) = frame.map_err(|_| AcmeError::BodyTruncated)?.into_data() else { continue };
        if octets.len() + data.len() > limit {
            return Err(AcmeError::BodyTooLarge { limit });
        }
        share.take(data.len()).await?;
        octets.extend_from_slice(&data);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use futures_util::FutureExt as _;

    #[test]
    fn the_body_that_began_first_gives_up_and_who_comes_next_has_its_octets() {
        let memory = Arc::new(BodyMemory::of(100));
        let mut complete = memory.share();
        complete.take(30).now_or_never().unwrap().unwrap();
        complete.complete();
        let (mut first, mut second, mut third) = (memory.share(), memory.share(), memory.share());
        first.take(40).now_or_never().unwrap().unwrap();
        second.take(30).now_or_never().unwrap().unwrap();
        let mut next = Box::pin(third.take(40));
        assert!(next.as_mut().now_or_never().is_none());
        assert_eq!([&complete, &first, &second].map(|it| it.must_give_up.is_cancelled()), [false, true, false]);
        drop(first);
        next.as_mut().now_or_never().unwrap().unwrap();
        drop(next);
        // Whoever is the first that waits gives up itself.
        assert!(matches!(second.take(1).now_or_never(), Some(Err(AcmeError::TooManyBodies))));
        drop((complete, second, third));
        let state = memory.lock();
        assert_eq!((state.free, state.promised, state.wanted), (100, 0, 0));
        assert!(state.incomplete.is_empty());
    }

    #[test]
    fn no_more_bodies_give_up_than_are_in_the_way() {
        let memory = Arc::new(BodyMemory::of(100));
        let mut first: Vec<_> = (0..10).map(|_| memory.share()).collect();
        for share in &mut first {
            share.take(10).now_or_never().unwrap().unwrap();
        }
        let (mut a, mut b) = (memory.share(), memory.share());
        let (mut a, mut b) = (Box::pin(a.take(15)), Box::pin(b.take(15)));
        for _ in 0..5 {
            assert!(a.as_mut().now_or_never().is_none() && b.as_mut().now_or_never().is_none());
        }
        let told: Vec<_> = first.iter().map(|it| it.must_give_up.is_cancelled()).collect();
        assert_eq!(told, [true, true, true, false, false, false, false, false, false, false]);
        first.drain(..3);
        a.now_or_never().unwrap().unwrap();
        b.now_or_never().unwrap().unwrap();
    }
}
