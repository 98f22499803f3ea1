//! The one writer: many operations share one transaction and so one fsync.
//!
//! Replies are sent only after the commit. Where one of them fails, whatever for, nothing of the group is committed, and
//! each operation runs once more alone: SQLite itself answers FULL, IOERR, NOMEM and INTERRUPT by rolling back the whole
//! transaction. (A savepoint for each would spare the others this. It has SQLite copy every page that an operation changes,
//! every time, for what happens as good as never: what a client can do wrong is an outcome, and not a failure.)

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::PathBuf;

use diesel::RunQueryDsl as _;
use diesel::connection::SimpleConnection as _;
use diesel::result::{DatabaseErrorKind, Error as DieselError};
use diesel::sql_query;
use tokio::sync::{mpsc, oneshot};

use crate::connection::{AnyConnection, DbResult, kept, on};
use crate::error::StoreError;
use crate::observer::Observer;
use crate::sqlite::establish;

/// The most operations in one transaction.
const GROUP: usize = 128;
/// How often the other threads are let run before a group is committed that nothing more waits for.
const YIELDS: usize = 4;
/// Operations that may wait before callers are held back.
const QUEUE: usize = 4_096;
/// The name under which the observer hears of commits: they are where the disk is waited for.
const COMMIT: &str = "commit";

/// The way to the writer thread.
pub(super) struct Writer {
    queue: mpsc::Sender<Message>,
    observer: Observer,
}

enum Message {
    Work(Box<dyn Work>),
    Close,
}

impl Writer {
    /// Starts the thread. It ends, closing its connection, when it is told to, or when the `Writer` is gone.
    pub(super) fn start(
        connection: AnyConnection,
        path: PathBuf,
        observer: Observer,
    ) -> std::io::Result<(Self, std::thread::JoinHandle<()>)> {
        let (queue, waiting) = mpsc::channel(QUEUE);
        let state = State { connection: Some(connection), path, observer: observer.clone() };
        let thread = std::thread::Builder::new().name("akamu-writer".to_owned()).spawn(move || state.work(waiting))?;
        Ok((Self { queue, observer }, thread))
    }

    /// Hands an operation over, waiting where too many wait already, and returns what was committed of it.
    pub(super) async fn run<T, F>(&self, name: &'static str, operation: F) -> Result<T, StoreError>
    where
        T: Send + 'static,
        F: FnMut(&mut AnyConnection) -> DbResult<T> + Send + 'static,
    {
        let (reply, answer) = oneshot::channel();
        let task = Box::new(Task { name, operation, observer: self.observer.clone(), outcome: None, reply });
        self.queue.send(Message::Work(task)).await.map_err(|_| StoreError::Closed)?;
        answer.await.unwrap_or(Err(StoreError::Closed))
    }

    /// Tells the thread to end after what waits now.
    pub(super) async fn close(&self) {
        // An error says that it has ended already.
        let _ = self.queue.send(Message::Close).await;
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

struct Task<T, F> {
    name: &'static str,
    operation: F,
    observer: Observer,
    outcome: Option<DbResult<T>>,
    reply: oneshot::Sender<Result<T, StoreError>>,
}

impl<T, F> Work for Task<T, F>
where
    T: Send,
    F: FnMut(&mut AnyConnection) -> DbResult<T> + Send,
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
        let outcome = self.outcome.unwrap_or(Err(DieselError::RollbackTransaction));
        // A caller that has gone away wants no answer.
        let _ = self.reply.send(outcome.map_err(StoreError::from));
    }

    fn fail(self: Box<Self>, error: StoreError) {
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

/// Operations that wait to be run.
struct Queue {
    waiting: mpsc::Receiver<Message>,
    is_open: bool,
}

impl Queue {
    /// Waits for an operation; `None` ends the thread.
    fn wait(&mut self) -> Option<Box<dyn Work>> {
        if !self.is_open {
            return None;
        }
        let message = self.waiting.blocking_recv();
        self.take(message)
    }

    /// An operation that waits already, or that a thread brings which a busy machine has kept from running: it shares the
    /// fsync. On an idle one there is none, and that is known at once.
    fn next(&mut self) -> Option<Box<dyn Work>> {
        self.waiting().or_else(|| {
            (0..YIELDS).find_map(|_| {
                std::thread::yield_now();
                self.waiting()
            })
        })
    }

    /// An operation that waits already.
    fn waiting(&mut self) -> Option<Box<dyn Work>> {
        if !self.is_open {
            return None;
        }
        let message = self.waiting.try_recv().ok()?;
        self.take(Some(message))
    }

    fn take(&mut self, message: Option<Message>) -> Option<Box<dyn Work>> {
        match message {
            Some(Message::Work(work)) => Some(work),
            Some(Message::Close) | None => {
                self.is_open = false;
                None
            }
        }
    }
}

struct State {
    connection: Option<AnyConnection>,
    path: PathBuf,
    observer: Observer,
}

impl State {
    fn work(mut self, waiting: mpsc::Receiver<Message>) {
        let mut queue = Queue { waiting, is_open: true };
        while let Some(first) = queue.wait() {
            self.commit(vec![first], &mut queue);
        }
        // Dropping the queue answers Closed to what came too late.
    }

    /// Commits an operation together with those that wait by the time that the others of the group have run.
    fn commit(&mut self, mut group: Vec<Box<dyn Work>>, queue: &mut Queue) {
        let Err(Ended { ran, cause: error }) = self.together(&mut group, queue) else {
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

    fn together(&mut self, group: &mut Vec<Box<dyn Work>>, queue: &mut Queue) -> Result<(), Ended> {
        let observer = self.observer.clone();
        let connection = self.connection()?;
        begin(connection)?;
        let mut begun = 0;
        while let Some(work) = group.get_mut(begun) {
            let ran = work.run(connection);
            if ran != Ran::Done {
                return Err(Ended { ran, cause: work.cause() });
            }
            begun += 1;
            if begun == group.len() && begun < GROUP {
                group.extend(queue.next());
            }
        }
        Ok(observer.timed(COMMIT, || commit(connection))?)
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
