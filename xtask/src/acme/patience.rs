//! Trying again, as a client that wants its certificate does.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use tokio::time::sleep;

use super::Answer;
use crate::failure::Failure;

/// Between two tries without an answer.
const PAUSE: Duration = Duration::from_millis(50);

/// The longest that a client waits because the server asks for it.
const LONGEST_PAUSE: Duration = Duration::from_secs(1);

/// How long a request is tried, and what was seen meanwhile. Shared by all clients of a run.
#[derive(Debug)]
pub(crate) struct Patience {
    limit: Duration,
    /// Whether each request opens a connection of its own, which may lead to another replica.
    pub(super) connects_anew: bool,
    /// Requests that were answered.
    pub(crate) answered: AtomicU64,
    /// Tries that no answer came to.
    pub(crate) unanswered: AtomicU64,
    /// 503, a problem document with Retry-After.
    pub(crate) unavailable: AtomicU64,
    errors: Mutex<Vec<String>>,
    longest: Mutex<Duration>,
}

/// One request.
pub(super) struct Trying<'a> {
    patience: &'a Patience,
    begun: Instant,
}

impl Patience {
    pub(crate) fn new(limit: Duration) -> Self {
        Self {
            limit,
            connects_anew: true,
            answered: AtomicU64::new(0),
            unanswered: AtomicU64::new(0),
            unavailable: AtomicU64::new(0),
            errors: Mutex::default(),
            longest: Mutex::default(),
        }
    }

    /// The same, with connections that are kept.
    pub(crate) fn keeping_connections(mut self) -> Self {
        self.connects_anew = false;
        self
    }

    /// The longest that a request had to be tried.
    pub(crate) fn longest(&self) -> Duration {
        *self.longest.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Answers of the server's errors that are no proper 503.
    pub(crate) fn errors(&self) -> Vec<String> {
        self.errors.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    pub(super) fn begin(&self) -> Trying<'_> {
        Trying { patience: self, begun: Instant::now() }
    }
}

impl Trying<'_> {
    /// The answer, or nothing once it is time to try again.
    pub(super) async fn judge(
        &mut self,
        url: &str,
        answer: Result<Answer, Failure>,
    ) -> Result<Option<Answer>, Failure> {
        let took = self.begun.elapsed();
        let (pause, seen) = match answer {
            Ok(answer) if !answer.status.is_server_error() => {
                self.patience.answered.fetch_add(1, Ordering::Relaxed);
                let mut longest = self.patience.longest.lock().unwrap_or_else(PoisonError::into_inner);
                *longest = longest.max(took);
                return Ok(Some(answer));
            }
            Ok(answer) => {
                let seen = format!("{} {}", answer.status.as_u16(), String::from_utf8_lossy(&answer.body));
                if answer.is_unavailable() {
                    self.patience.unavailable.fetch_add(1, Ordering::Relaxed);
                } else {
                    let mut errors = self.patience.errors.lock().unwrap_or_else(PoisonError::into_inner);
                    errors.push(format!("{url}: {seen}"));
                }
                (Duration::from_secs(answer.retry_after().unwrap_or(1)).min(LONGEST_PAUSE), seen)
            }
            Err(failure) => {
                self.patience.unanswered.fetch_add(1, Ordering::Relaxed);
                (PAUSE, failure.to_string())
            }
        };
        if took > self.patience.limit {
            return Err(Failure::new(format!("{url} is not answered for {} s: {seen}", took.as_secs())));
        }
        sleep(pause).await;
        Ok(None)
    }
}
