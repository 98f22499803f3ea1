//! Who is told of every operation: its name, its time, and whether the database did it.

use std::cell::Cell;
use std::fmt;
use std::sync::Arc;
use std::time::{Duration, Instant};

use diesel::connection::{Instrumentation as _, InstrumentationEvent, get_default_instrumentation};

use crate::connection::DbResult;

/// A run of an operation that has ended; on SQLite also the commit that several share, named `commit`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct OperationRun {
    /// The operation's name.
    pub name: &'static str,
    /// How long it had the database.
    pub duration: Duration,
    /// Statements that it sent; those that begin and end transactions are not counted, but for `commit` itself.
    pub statements: u64,
    /// Whether the database did it.
    pub is_done: bool,
}

thread_local! {
    /// Statements that this thread has sent: an operation runs on one thread from begin to end.
    static STATEMENTS: Cell<u64> = const { Cell::new(0) };
}

/// Has a connection tell of its statements.
pub(crate) fn count_statements(connection: &mut impl diesel::Connection) {
    // Who embeds the store may watch its statements too.
    let mut default = get_default_instrumentation();
    connection.set_instrumentation(move |event: InstrumentationEvent<'_>| {
        count_statement(&event);
        if let Some(default) = &mut default {
            default.on_connection_event(event);
        }
    });
}

fn count_statement(event: &InstrumentationEvent<'_>) {
    let change = match event {
        InstrumentationEvent::StartQuery { .. } => 1,
        // Each is sent as a query too.
        InstrumentationEvent::BeginTransaction { .. }
        | InstrumentationEvent::CommitTransaction { .. }
        | InstrumentationEvent::RollbackTransaction { .. } => u64::MAX,
        _ => 0,
    };
    STATEMENTS.with(|it| it.set(it.get().wrapping_add(change)));
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
        let (started, before) = (Instant::now(), STATEMENTS.get());
        let outcome = run();
        let statements = STATEMENTS.get().wrapping_sub(before);
        let run = OperationRun { name, duration: started.elapsed(), statements, is_done: outcome.is_ok() };
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
