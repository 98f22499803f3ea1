//! Who is told of every operation: its name, its time, and whether the database did it.

use std::fmt;
use std::sync::Arc;
use std::time::{Duration, Instant};

use crate::connection::DbResult;

/// A run of an operation that has ended; on SQLite also the commit that several share, named `commit`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct OperationRun {
    /// The operation's name.
    pub name: &'static str,
    /// How long it had the database.
    pub duration: Duration,
    /// Whether the database did it.
    pub is_done: bool,
}

/// Told of every run, on the thread of the database: it must be quick.
#[derive(Clone)]
pub(crate) struct Observer(Arc<dyn Fn(OperationRun) + Send + Sync>);

impl Observer {
    pub(crate) fn new(observe: impl Fn(OperationRun) + Send + Sync + 'static) -> Self {
        Self(Arc::new(observe))
    }

    /// Runs an operation and tells observer and log its name, its time and whether it succeeded.
    pub(crate) fn timed<T>(&self, name: &'static str, run: impl FnOnce() -> DbResult<T>) -> DbResult<T> {
        let started = Instant::now();
        let outcome = run();
        let run = OperationRun { name, duration: started.elapsed(), is_done: outcome.is_ok() };
        let duration_us = u64::try_from(run.duration.as_micros()).unwrap_or(u64::MAX);
        tracing::debug!(operation = name, duration_us, ok = run.is_done, "transaction");
        (self.0)(run);
        outcome
    }
}

impl Default for Observer {
    fn default() -> Self {
        Self::new(|_| {})
    }
}

impl fmt::Debug for Observer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Observer")
    }
}
