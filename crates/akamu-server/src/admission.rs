//! How many requests are worked on at once. Past that nothing new is begun, so that what was begun ends in time: newAccount
//! and newOrder are answered 503 before they are read, all others are answered as ever.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread::available_parallelism;

use axum::extract::{Request, State};
use axum::middleware::Next;
use axum::response::{IntoResponse as _, Response};

use crate::app::App;
use crate::error::AcmeError;

/// Requests for each processor where the configuration does not say how many: as many as share commits well.
const FOR_EACH_PROCESSOR: usize = 32;

/// The requests that are worked on, and how many there may be before nothing new is begun.
#[derive(Debug)]
pub(crate) struct Admission {
    most: usize,
    now: AtomicUsize,
}

/// A request that is worked on, or one that rests: gives back what it changed when dropped.
#[derive(Debug)]
pub(crate) struct Counted {
    admission: Arc<Admission>,
    is_resting: bool,
}

impl Admission {
    /// With so many requests at once, or as many as this machine's processors are good for.
    pub(crate) fn new(most: Option<u32>) -> Self {
        let usual = || available_parallelism().map_or(1, usize::from) * FOR_EACH_PROCESSOR;
        let most = most.map_or_else(usual, |it| usize::try_from(it).unwrap_or(usize::MAX));
        Self { most, now: AtomicUsize::new(0) }
    }

    /// One more is worked on.
    pub(crate) fn work(self: &Arc<Self>) -> Counted {
        self.now.fetch_add(1, Ordering::Relaxed);
        Counted { admission: self.clone(), is_resting: false }
    }

    /// One that is worked on waits for its client, or for something to happen.
    pub(crate) fn rest(self: &Arc<Self>) -> Counted {
        self.now.fetch_sub(1, Ordering::Relaxed);
        Counted { admission: self.clone(), is_resting: true }
    }

    /// Whether there are more than there may be.
    fn is_exceeded(&self) -> bool {
        self.now.load(Ordering::Relaxed) > self.most
    }
}

impl Drop for Counted {
    fn drop(&mut self) {
        if self.is_resting {
            self.admission.now.fetch_add(1, Ordering::Relaxed);
        } else {
            self.admission.now.fetch_sub(1, Ordering::Relaxed);
        }
    }
}

/// Before a request that begins something new.
pub(crate) async fn begin(State(app): State<Arc<App>>, request: Request, next: Next) -> Response {
    if app.admission.is_exceeded() {
        return AcmeError::TooManyRequests.into_response();
    }
    next.run(request).await
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn those_that_rest_do_not_count() {
        let admission = Arc::new(Admission::new(Some(2)));
        let working: Vec<_> = (0..3).map(|_| admission.work()).collect();
        assert!(admission.is_exceeded());
        let resting = admission.rest();
        assert!(!admission.is_exceeded());
        drop(resting);
        assert!(admission.is_exceeded());
        drop(working);
        assert_eq!(admission.now.load(Ordering::Relaxed), 0);
    }
}
