//! The one writer: many operations share one transaction and so one fsync.
//!
//! Replies are sent only after the commit. Where one of them fails, whatever for, nothing of the group is committed, and
//! each operation runs once more alone: SQLite itself answers FULL, IOERR, NOMEM and INTERRUPT by rolling back the whole
//! transaction. (A savepoint for each would spare the others this. It has SQLite copy every page that an operation changes,
//! every time, for what happens as good as never: what a client can do wrong is an outcome, and not a failure.)

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::PathBuf;
use std::sync::{Mutex, PoisonError};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use crossbeam_channel::{Receiver, Sender};
use diesel::RunQueryDsl as _;
use diesel::connection::SimpleConnection as _;
use diesel::result::{DatabaseErrorKind, Error as DieselError};
use diesel::sql_query;
use tokio::sync::{Semaphore, oneshot};

use crate::connection::{AnyConnection, DbResult, kept, on};
use crate::error::StoreError;
use crate::observer::Observer;
use crate::sqlite::establish;

/// The most operations in one transaction.
const GROUP: usize = 128;
/// How often the other threads are let run before a group is committed that nothing more waits for.
const YIELDS: usize = 4;
/// A group waits for as many operations as are expected, for each of these an eighth of the last commit: the more there
/// are, the more it saves. (docs/src/decisions/a-group-waits-for-the-one-before.md)
const WAIT_SHARE: u32 = 8;
/// What it waits at most: that commit may have met a disk that stood still.
const LONGEST_WAIT: Duration = Duration::from_millis(10);
/// Operations that may wait before callers are held back.
const QUEUE: usize = 4_096;
/// The name under which the observer hears of commits: they are where the disk is waited for.
const COMMIT: &str = "commit";

/// The way to the writer thread.
pub(super) struct Writer {
    queue: Mutex<Option<Sender<Box<dyn Work>>>>,
    /// For what waits in the queue or runs.
    places: Semaphore,
    observer: Observer,
}

impl Writer {
    /// Starts the thread. It ends, closing its connection, when it is told to, or when the `Writer` is gone.
    pub(super) fn start(
        connection: AnyConnection,
        path: PathBuf,
        observer: Observer,
    ) -> std::io::Result<(Self, JoinHandle<()>)> {
        let (queue, waiting) = crossbeam_channel::unbounded();
        let state =
            State { connection: Some(connection), path, observer: observer.clone(), expected: Expected::default() };
        let thread = thread::Builder::new().name("akamu-writer".to_owned()).spawn(move || state.work(&waiting))?;
        Ok((Self { queue: Mutex::new(Some(queue)), places: Semaphore::new(QUEUE), observer }, thread))
    }

    /// Hands an operation over, waiting where too many wait already, and returns what was committed of it. Before that
    /// `before_the_answer` is told, whether or not anybody still waits; `None`: it failed, and may have been committed.
    pub(super) async fn run<T, F, B>(
        &self,
        name: &'static str,
        operation: F,
        before_the_answer: B,
    ) -> Result<T, StoreError>
    where
        T: Send + 'static,
        F: FnMut(&mut AnyConnection) -> DbResult<T> + Send + 'static,
        B: FnOnce(Option<&T>) + Send + 'static,
    {
        let _place = self.places.acquire().await.map_err(|_| StoreError::Closed)?;
        let (reply, answer) = oneshot::channel();
        let observer = self.observer.clone();
        let task = Box::new(Task { name, operation, observer, outcome: None, before_the_answer, reply });
        self.send(task)?;
        answer.await.unwrap_or(Err(StoreError::Closed))
    }

    /// The queue has no end of its own, so nothing waits here.
    fn send(&self, work: Box<dyn Work>) -> Result<(), StoreError> {
        let queue = self.queue.lock().unwrap_or_else(PoisonError::into_inner);
        queue.as_ref().and_then(|it| it.send(work).ok()).ok_or(StoreError::Closed)
    }

    /// Tells the thread to end after what waits now.
    pub(super) fn close(&self) {
        drop(self.queue.lock().unwrap_or_else(PoisonError::into_inner).take());
    }
}

/// What a run of an operation leaves to the writer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Ran {
    /// To be committed.
    Done,
    /// To be undone; the connection is as good as before.
    Refused,
    /// Nothing is known of the transaction any more.
    Broken,
}

/// An operation on its way through the writer.
trait Work: Send {
    /// Runs it inside a transaction, and keeps what came of it.
    fn run(&mut self, connection: &mut AnyConnection) -> Ran;
    /// Why the last run failed, where it did.
    fn cause(&self) -> String;
    /// Tells its caller what came of the last run. The commit has happened, or nothing was changed.
    fn reply(self: Box<Self>);
    /// Tells its caller that it did not happen.
    fn fail(self: Box<Self>, error: StoreError);
}

struct Task<T, F, B> {
    name: &'static str,
    operation: F,
    observer: Observer,
    outcome: Option<DbResult<T>>,
    before_the_answer: B,
    reply: oneshot::Sender<Result<T, StoreError>>,
}

impl<T, F, B> Work for Task<T, F, B>
where
    T: Send,
    F: FnMut(&mut AnyConnection) -> DbResult<T> + Send,
    B: FnOnce(Option<&T>) + Send,
{
    fn run(&mut self, connection: &mut AnyConnection) -> Ran {
        let Self { name, operation, observer, .. } = self;
        // A panic here would end every later write of the server with it.
        let outcome = catch_unwind(AssertUnwindSafe(|| observer.timed(name, || operation(connection))));
        let (ran, outcome) = match outcome {
            Ok(Ok(done)) => (Ran::Done, Ok(done)),
            Ok(Err(error)) if is_own_affair(&error) => (Ran::Refused, Err(error)),
            Ok(Err(error)) => (Ran::Broken, Err(error)),
            Err(_) => (Ran::Broken, Err(DieselError::QueryBuilderError("the operation panicked".into()))),
        };
        self.outcome = Some(outcome);
        ran
    }

    fn cause(&self) -> String {
        let error = self.outcome.as_ref().and_then(|it| it.as_ref().err());
        error.map_or_else(String::new, |error| format!("{}: {error}", self.name))
    }

    fn reply(self: Box<Self>) {
        let outcome = self.outcome.unwrap_or(Err(DieselError::RollbackTransaction)).map_err(StoreError::from);
        (self.before_the_answer)(outcome.as_ref().ok());
        // A caller that has gone away wants no answer.
        let _ = self.reply.send(outcome);
    }

    fn fail(self: Box<Self>, error: StoreError) {
        (self.before_the_answer)(None);
        let _ = self.reply.send(Err(error));
    }
}

/// Why a group ended before its commit.
struct Ended {
    ran: Ran,
    cause: String,
}

impl From<DieselError> for Ended {
    fn from(error: DieselError) -> Self {
        Self { ran: Ran::Broken, cause: error.to_string() }
    }
}

/// Whether the transaction survives this error, so that it is the one operation's own affair.
fn is_own_affair(error: &DieselError) -> bool {
    match error {
        DieselError::DatabaseError(kind, _) => matches!(
            kind,
            DatabaseErrorKind::UniqueViolation
                | DatabaseErrorKind::ForeignKeyViolation
                | DatabaseErrorKind::NotNullViolation
                | DatabaseErrorKind::CheckViolation
        ),
        DieselError::NotFound | DieselError::RollbackTransaction | DieselError::DeserializationError(_) => true,
        _ => false,
    }
}

/// Takes the lock for writing at once: a transaction that asks for it later can find that what it has read is old.
fn begin(connection: &mut AnyConnection) -> DbResult<()> {
    on!(connection, |it| kept!(sql_query("BEGIN IMMEDIATE")).execute(it)).map(drop)
}

fn commit(connection: &mut AnyConnection) -> DbResult<()> {
    on!(connection, |it| kept!(sql_query("COMMIT")).execute(it)).map(drop)
}

/// What groups of late let expect of the next: how many operations, and how long a commit.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Expected {
    operations: usize,
    commit: Duration,
}

impl Expected {
    /// After a group of so many, whose commit took so long. After a small one a little fewer are expected than before it:
    /// it may have been chance.
    fn after(self, operations: usize, commit: Duration) -> Self {
        let fewer = self.operations - self.operations.div_ceil(8);
        Self { operations: operations.max(fewer), commit }
    }

    /// Until when the next group, which was begun then and of which so many operations have run, waits for more: clients
    /// who came together come together again. `None` where as many have come, so that who always comes alone never waits.
    fn wait(self, operations: usize, begun: Instant) -> Option<Instant> {
        let all = u32::try_from(self.operations).unwrap_or(u32::MAX);
        (operations < self.operations).then(|| begun + (self.commit.saturating_mul(all) / WAIT_SHARE).min(LONGEST_WAIT))
    }
}

/// An operation that waits already, or that a thread brings which a busy machine has kept from running, or that comes
/// before `until`: it shares the fsync. On an idle machine the second is known at once not to be there.
fn next(waiting: &Receiver<Box<dyn Work>>, until: Option<Instant>) -> Option<Box<dyn Work>> {
    let brought = || {
        (0..YIELDS).find_map(|_| {
            thread::yield_now();
            waiting.try_recv().ok()
        })
    };
    let coming = || until.and_then(|until| waiting.recv_deadline(until).ok());
    waiting.try_recv().ok().or_else(brought).or_else(coming)
}

struct State {
    connection: Option<AnyConnection>,
    path: PathBuf,
    observer: Observer,
    expected: Expected,
}

impl State {
    fn work(mut self, waiting: &Receiver<Box<dyn Work>>) {
        while let Ok(first) = waiting.recv() {
            self.commit(vec![first], waiting);
        }
    }

    /// Commits an operation together with those that wait by the time that the others of the group have run.
    fn commit(&mut self, mut group: Vec<Box<dyn Work>>, waiting: &Receiver<Box<dyn Work>>) {
        let Err(Ended { ran, cause: error }) = self.together(&mut group, waiting) else {
            return group.into_iter().for_each(Work::reply);
        };
        let undo = |connection: &mut AnyConnection| connection.batch_execute("ROLLBACK").is_ok();
        if ran == Ran::Broken || !self.connection.as_mut().is_some_and(undo) {
            self.connection = None;
        }
        let operations = group.len();
        let done = group.into_iter().map(|work| self.alone(work)).filter(|is_done| *is_done).count();
        // Where none was done, their callers say so.
        if done > 0 {
            tracing::error!(error, operations, done, "operations failed together, and ran once more alone");
        }
    }

    fn connection(&mut self) -> DbResult<&mut AnyConnection> {
        if self.connection.is_none() {
            let opened = establish(&self.path).map_err(|error| {
                DieselError::DatabaseError(DatabaseErrorKind::UnableToSendCommand, Box::new(error.to_string()))
            })?;
            self.connection = Some(opened);
        }
        self.connection.as_mut().ok_or(DieselError::BrokenTransactionManager)
    }

    fn together(&mut self, group: &mut Vec<Box<dyn Work>>, waiting: &Receiver<Box<dyn Work>>) -> Result<(), Ended> {
        let observer = self.observer.clone();
        let expected = self.expected;
        let connection = self.connection()?;
        begin(connection)?;
        let start = Instant::now();
        let mut begun = 0;
        while let Some(work) = group.get_mut(begun) {
            let ran = work.run(connection);
            if ran != Ran::Done {
                return Err(Ended { ran, cause: work.cause() });
            }
            begun += 1;
            if begun == group.len() && begun < GROUP {
                group.extend(next(waiting, expected.wait(begun, start)));
            }
        }
        let committing = Instant::now();
        observer.timed(COMMIT, || commit(connection))?;
        self.expected = expected.after(begun, committing.elapsed());
        Ok(())
    }

    /// Whether it was done; its caller is told either way, and logs what failed.
    fn alone(&mut self, mut work: Box<dyn Work>) -> bool {
        let observer = self.observer.clone();
        let ended = self.connection().and_then(|connection| {
            begin(connection)?;
            let ran = work.run(connection);
            match ran {
                Ran::Done => observer.timed(COMMIT, || commit(connection))?,
                Ran::Refused => connection.batch_execute("ROLLBACK")?,
                // The connection goes, and the transaction with it.
                Ran::Broken => {}
            }
            Ok(ran)
        });
        let is_done = matches!(ended, Ok(Ran::Done | Ran::Refused));
        if !is_done {
            // Whatever state the connection is in, the next operation begins with a new one.
            self.connection = None;
        }
        match ended {
            Ok(_) => work.reply(),
            Err(error) => work.fail(error.into()),
        }
        is_done
    }
}

#[cfg(test)]
mod tests;
