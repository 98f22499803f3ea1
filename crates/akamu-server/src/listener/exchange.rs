//! What goes on at a connection: which requests are in hand, and since when the client is waited for.

use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll};
use std::time::Duration;

use axum::body::{Body, Bytes, HttpBody};
use hyper::body::{Frame, SizeHint};
use tokio::time::{Instant, sleep_until};
use tokio_util::sync::CancellationToken;

use super::connections::Place;
use crate::request_body::Share;

/// A longer answer is given out in pieces, each of which is a sign that the client takes it.
const PIECE: usize = 16 * 1024;

/// A connection's requests.
#[derive(Debug)]
pub(crate) struct Exchange {
    state: Mutex<State>,
    must_go: CancellationToken,
}

#[derive(Debug)]
struct State {
    place: Place,
    /// Requests that are not answered.
    in_hand: usize,
    /// Those of them whose body has not come.
    without_body: usize,
    /// When the client last did what it was waited for.
    last: Instant,
    /// A body did not come whole: nothing that this client does makes it live longer.
    is_failing: bool,
}

impl State {
    fn did(&mut self) {
        if !self.is_failing {
            self.last = Instant::now();
        }
    }

    /// Who waits for a body waits for the client.
    fn has_changed(&mut self) {
        if self.in_hand > self.without_body {
            self.place.busy();
        } else {
            self.place.idle();
        }
    }
}

impl Exchange {
    pub(super) fn new(place: Place) -> Self {
        let must_go = place.must_go().clone();
        let state = State { place, in_hand: 0, without_body: 0, last: Instant::now(), is_failing: false };
        Self { state: Mutex::new(state), must_go }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The first octet of the first request has come.
    pub(super) fn begin(&self) {
        let mut state = self.lock();
        state.did();
        state.has_changed();
    }

    /// A request's header has come.
    pub(super) fn request(self: &Arc<Self>) -> Arc<InHand> {
        let mut state = self.lock();
        state.did();
        state.in_hand += 1;
        state.has_changed();
        Arc::new(InHand { exchange: self.clone(), share: Mutex::default() })
    }

    /// Returns when this connection must make room for another one.
    pub(super) async fn must_go(&self) {
        self.must_go.cancelled().await;
    }

    /// Whether no request is in hand but such as wait for the client.
    pub(super) fn waits_for_client(&self) -> bool {
        let state = self.lock();
        state.in_hand == state.without_body
    }

    /// Returns when the client has been waited for so long, at the earliest so long after `from`, and no request is in
    /// hand. (Those without their body have a deadline of their own.)
    pub(super) async fn has_been_idle(&self, from: Instant, limit: Duration) {
        let mut until = from + limit;
        loop {
            sleep_until(until).await;
            let now = Instant::now();
            let state = self.lock();
            // A request in hand may be answered at once, and the time begins then.
            let since = if state.in_hand > 0 { now } else { state.last };
            drop(state);
            until = since.max(from) + limit;
            if until <= now {
                return;
            }
        }
    }

    /// The same answer, in pieces that show that the client takes it.
    pub(super) fn answer(self: &Arc<Self>, body: Body) -> Answer {
        Answer { exchange: self.clone(), body, rest: Bytes::new() }
    }
}

/// A request, until it is answered or given up.
#[derive(Debug)]
pub(crate) struct InHand {
    exchange: Arc<Exchange>,
    share: Mutex<Option<Share>>,
}

impl InHand {
    /// Its body has to come.
    pub(crate) fn wait_for_body(&self) -> WithoutBody<'_> {
        let mut state = self.exchange.lock();
        state.without_body += 1;
        state.has_changed();
        WithoutBody { exchange: &self.exchange, has_come: false }
    }

    /// What its body may have of the memory for all bodies, until it is answered.
    pub(crate) fn keep(&self, share: Share) {
        *self.share.lock().unwrap_or_else(PoisonError::into_inner) = Some(share);
    }
}

impl Drop for InHand {
    fn drop(&mut self) {
        let mut state = self.exchange.lock();
        state.did();
        state.in_hand -= 1;
        state.has_changed();
    }
}

/// A request that waits for its body.
#[derive(Debug)]
pub(crate) struct WithoutBody<'a> {
    exchange: &'a Exchange,
    has_come: bool,
}

impl WithoutBody<'_> {
    /// It has come whole.
    pub(crate) fn has_come(mut self) {
        self.has_come = true;
    }
}

impl Drop for WithoutBody<'_> {
    fn drop(&mut self) {
        let mut state = self.exchange.lock();
        state.is_failing |= !self.has_come;
        state.without_body -= 1;
        state.has_changed();
    }
}

/// An answer's body.
#[derive(Debug)]
pub(super) struct Answer {
    exchange: Arc<Exchange>,
    body: Body,
    rest: Bytes,
}

impl HttpBody for Answer {
    type Data = Bytes;
    type Error = axum::Error;

    fn poll_frame(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, axum::Error>>> {
        let this = self.get_mut();
        if this.rest.is_empty() {
            let frame = match Pin::new(&mut this.body).poll_frame(context) {
                Poll::Ready(Some(Ok(frame))) => frame,
                other => return other,
            };
            match frame.into_data() {
                Ok(data) => this.rest = data,
                Err(trailers) => return Poll::Ready(Some(Ok(trailers))),
            }
        }
        this.exchange.lock().did();
        let piece = this.rest.split_to(this.rest.len().min(PIECE));
        Poll::Ready(Some(Ok(Frame::data(piece))))
    }

    fn is_end_stream(&self) -> bool {
        self.rest.is_empty() && self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        let of_body = self.body.size_hint();
        let rest = self.rest.len() as u64;
        let mut hint = SizeHint::new();
        // The upper bound first: the lower one may not be above it.
        if let Some(upper) = of_body.upper() {
            hint.set_upper(upper.saturating_add(rest));
        }
        hint.set_lower(of_body.lower().saturating_add(rest));
        hint
    }
}
