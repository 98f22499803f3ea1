//! When the database is away: operations are refused at once instead of each waiting for a connection, until one is made.
//!
//! Connections are tried all the while by the pool. An outage is told of twice: when it begins and when it ends.

use std::fmt;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use crate::error::StoreError;

/// How long connecting must have failed before operations are refused.
const PATIENCE: Duration = Duration::from_secs(3);
/// The most operations that wait for a connection while connecting fails.
const MOST_WAITING: usize = 1_000;

/// What is known of the database's being away. Cheap to clone.
#[derive(Clone)]
pub(crate) struct Outage(Arc<Inner>);

struct Inner {
    now: Box<dyn Fn() -> Instant + Send + Sync>,
    /// Whether connecting fails, as `state` says: read without the lock by operations that succeed.
    is_failing: AtomicBool,
    state: Mutex<Option<Failing>>,
    waiting: AtomicUsize,
}

/// Connecting fails, and nothing else has succeeded since.
struct Failing {
    since: Instant,
    cause: String,
    is_told: bool,
}

/// Why an operation was refused in an outage: what the last try to connect was told.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
struct Refused(String);

/// An operation that waits for a connection.
pub(crate) struct Waiting(Outage);

impl Drop for Waiting {
    fn drop(&mut self) {
        self.0.0.waiting.fetch_sub(1, Ordering::Relaxed);
    }
}

impl Default for Outage {
    fn default() -> Self {
        Self::with_clock(Instant::now)
    }
}

impl fmt::Debug for Outage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Outage").field("is_failing", &self.0.is_failing).finish_non_exhaustive()
    }
}

impl Outage {
    fn with_clock(now: impl Fn() -> Instant + Send + Sync + 'static) -> Self {
        Self(Arc::new(Inner {
            now: Box::new(now),
            is_failing: AtomicBool::new(false),
            state: Mutex::default(),
            waiting: AtomicUsize::new(0),
        }))
    }

    /// Tries to connect, and keeps in mind whether that succeeds. A host that does not answer fails late: what counts is
    /// when the try began.
    pub(crate) fn trying<T, E: fmt::Display>(&self, connect: impl FnOnce() -> Result<T, E>) -> Result<T, E> {
        let begun = (self.0.now)();
        let outcome = connect();
        match &outcome {
            Ok(_) => self.succeeded(),
            Err(error) => {
                let cause = error.to_string();
                let mut state = self.state();
                let failing =
                    state.get_or_insert_with(|| Failing { since: begun, cause: String::new(), is_told: false });
                failing.cause = cause;
                self.0.is_failing.store(true, Ordering::Relaxed);
            }
        }
        outcome
    }

    /// Says that the database does its work: also by a connection that it had before, while it takes no new ones.
    pub(crate) fn succeeded(&self) {
        if !self.0.is_failing.load(Ordering::Relaxed) {
            return;
        }
        let mut state = self.state();
        self.0.is_failing.store(false, Ordering::Relaxed);
        if let Some(Failing { since, is_told: true, .. }) = state.take() {
            let seconds = (self.0.now)().duration_since(since).as_secs();
            tracing::info!(seconds, "the database can be reached again");
        }
    }

    /// Counts an operation among those that wait for a connection, until the value is dropped.
    ///
    /// # Errors
    /// [`StoreError::Outage`] where connecting fails and too many wait already.
    pub(crate) fn wait(&self) -> Result<Waiting, StoreError> {
        let before = self.0.waiting.fetch_add(1, Ordering::Relaxed);
        let waiting = Waiting(self.clone());
        if before < MOST_WAITING {
            return Ok(waiting);
        }
        self.refuse_where(|_| true).map(|()| waiting)
    }

    /// Whether an operation may wait for a connection, since it has none.
    ///
    /// # Errors
    /// [`StoreError::Outage`] where connecting has failed for a while.
    pub(crate) fn may_wait(&self) -> Result<(), StoreError> {
        let now = (self.0.now)();
        self.refuse_where(|since| now.duration_since(since) >= PATIENCE)
    }

    fn refuse_where(&self, is_over: impl FnOnce(Instant) -> bool) -> Result<(), StoreError> {
        if !self.0.is_failing.load(Ordering::Relaxed) {
            return Ok(());
        }
        let mut state = self.state();
        let Some(failing) = state.as_mut() else { return Ok(()) };
        if !is_over(failing.since) {
            return Ok(());
        }
        if !failing.is_told {
            failing.is_told = true;
            let cause = &failing.cause;
            tracing::error!(cause, "the database cannot be reached; requests are answered 503 until it can");
        }
        Err(StoreError::Outage(Box::new(Refused(failing.cause.clone()))))
    }

    fn state(&self) -> MutexGuard<'_, Option<Failing>> {
        self.0.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// An outage with a clock of its own, and that clock.
    fn outage() -> (Outage, impl Fn(u64)) {
        let now = Arc::new(Mutex::new(Instant::now()));
        let clock = now.clone();
        let outage = Outage::with_clock(move || *clock.lock().unwrap());
        (outage, move |millis| *now.lock().unwrap() += Duration::from_millis(millis))
    }

    fn fails(outage: &Outage) {
        outage.trying(|| Err::<(), _>("refused")).unwrap_err();
    }

    fn assert_refused(outcome: Result<(), StoreError>) {
        let error = outcome.unwrap_err();
        assert!(matches!(error, StoreError::Outage(_)) && error.is_unavailable(), "{error:?}");
        assert_eq!(std::error::Error::source(&error).unwrap().to_string(), "refused");
    }

    /// Runs `body` and returns the log's lines.
    fn logged(body: impl FnOnce()) -> Vec<String> {
        #[derive(Clone, Default)]
        struct Log(Arc<Mutex<Vec<u8>>>);
        impl std::io::Write for Log {
            fn write(&mut self, octets: &[u8]) -> std::io::Result<usize> {
                self.0.lock().unwrap().write(octets)
            }
            fn flush(&mut self) -> std::io::Result<()> {
                Ok(())
            }
        }
        let log = Log::default();
        let writer = log.clone();
        let subscriber =
            tracing_subscriber::fmt().with_ansi(false).without_time().with_writer(move || writer.clone()).finish();
        tracing::subscriber::with_default(subscriber, body);
        let text = String::from_utf8(log.0.lock().unwrap().clone()).unwrap();
        text.lines().map(str::to_owned).collect()
    }

    #[test]
    fn operations_wait_for_three_seconds_and_then_no_longer() {
        let (outage, pass) = outage();
        assert!(outage.may_wait().is_ok());
        fails(&outage);
        pass(2_999);
        fails(&outage);
        assert!(outage.may_wait().is_ok());
        pass(1);
        assert_refused(outage.may_wait());
        assert_refused(outage.may_wait());
    }

    #[test]
    fn a_try_that_took_long_counts_from_its_begin() {
        let (outage, pass) = outage();
        outage
            .trying(|| {
                pass(3_000);
                Err::<(), _>("refused")
            })
            .unwrap_err();
        assert_refused(outage.may_wait());
    }

    #[test]
    fn it_is_over_as_soon_as_anything_succeeds() {
        for succeed in [|it: &Outage| it.trying(|| Ok::<_, &str>(())).unwrap(), |it: &Outage| it.succeeded()] {
            let (outage, pass) = outage();
            fails(&outage);
            pass(60_000);
            assert_refused(outage.may_wait());
            succeed(&outage);
            assert!(outage.may_wait().is_ok());
            fails(&outage);
            pass(2_999);
            assert!(outage.may_wait().is_ok(), "the three seconds begin anew");
            pass(1);
            assert_refused(outage.may_wait());
        }
    }

    #[test]
    fn a_thousand_wait_while_connecting_fails() {
        let (outage, _pass) = outage();
        fails(&outage);
        let mut waiting: Vec<_> = (0..MOST_WAITING).map(|_| outage.wait().unwrap_or_else(|_| panic!())).collect();
        assert_refused(outage.wait().map(drop));
        assert_refused(outage.wait().map(drop));
        assert!(outage.may_wait().is_ok(), "the thousand go on waiting");
        waiting.pop();
        assert!(outage.wait().is_ok());
    }

    #[test]
    fn any_number_waits_while_connecting_does_not_fail() {
        let (outage, _pass) = outage();
        let waiting: Vec<_> = (0..=MOST_WAITING).map(|_| outage.wait()).collect();
        assert!(waiting.iter().all(Result::is_ok));
    }

    #[test]
    fn the_log_tells_of_it_when_it_begins_and_when_it_ends() {
        let lines = logged(|| {
            let (outage, pass) = outage();
            for _ in 0..2 {
                for _ in 0..100 {
                    fails(&outage);
                    pass(100);
                    let _ = outage.may_wait();
                }
                outage.succeeded();
                outage.succeeded();
            }
            // Too short for anybody to be refused.
            fails(&outage);
            outage.succeeded();
        });
        let [begin, end, again, over] = lines.as_slice() else { panic!("{lines:?}") };
        assert_eq!((begin, end), (again, over));
        assert!(begin.contains("ERROR") && begin.contains("503") && begin.contains("refused"), "{begin}");
        assert!(end.contains("INFO") && end.contains("seconds=10"), "{end}");
    }
}
