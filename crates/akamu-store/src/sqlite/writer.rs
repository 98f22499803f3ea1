//! The one writer: many operations, each in its own savepoint, share one transaction and so one fsync.
//!
//! Replies are sent only after the commit. An error that is neither an operation's own outcome nor a constraint
//! violation ends the group at once: SQLite answers FULL, IOERR, NOMEM and INTERRUPT by rolling back the whole
//! transaction, after which the next savepoint would be outermost and commit by itself. So nothing more of the group
//! runs, the connection is opened anew, and each operation runs once more alone.

use std::path::PathBuf;

use diesel::connection::SimpleConnection as _;
use diesel::result::{DatabaseErrorKind, Error as DieselError};
use tokio::sync::mpsc;

use crate::connection::AnyConnection;
use crate::{StoreError, sqlite};

/// The most operations in one transaction.
const GROUP: usize = 128;
/// Operations that may wait before callers are held back.
const QUEUE: usize = 4_096;

/// An operation on its way through the writer.
pub(crate) trait Work: Send {
    /// Its name, for the log.
    fn name(&self) -> &'static str;
    /// Runs it inside a transaction, and keeps what came of it.
    fn run(&mut self, connection: &mut AnyConnection) -> Result<(), DieselError>;
    /// Tells its caller what came of it; the commit has happened, or the operation has changed nothing.
    fn reply(self: Box<Self>);
    /// Tells its caller that it did not happen.
    fn fail(self: Box<Self>, error: StoreError);
}

/// The way to the writer thread.
#[derive(Clone, Debug)]
pub(crate) struct Writer {
    queue: mpsc::Sender<Box<dyn Work>>,
}

impl Writer {
    /// Starts the thread. It ends, closing its connection, when the last `Writer` is gone and the queue is empty.
    pub(crate) fn start(
        connection: AnyConnection,
        path: PathBuf,
    ) -> std::io::Result<(Self, std::thread::JoinHandle<()>)> {
        let (queue, waiting) = mpsc::channel(QUEUE);
        let state = State { connection: Some(connection), path };
        let thread = std::thread::Builder::new().name("akamu-writer".to_owned()).spawn(move || state.work(waiting))?;
        Ok((Self { queue }, thread))
    }

    /// Hands an operation over; waits where too many are waiting already.
    pub(crate) async fn send(&self, work: Box<dyn Work>) {
        if let Err(refused) = self.queue.send(work).await {
            refused.0.fail(StoreError::Closed);
        }
    }
}

struct State {
    connection: Option<AnyConnection>,
    path: PathBuf,
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

impl State {
    fn work(mut self, mut waiting: mpsc::Receiver<Box<dyn Work>>) {
        while let Some(first) = waiting.blocking_recv() {
            let mut group = vec![first];
            while group.len() < GROUP
                && let Ok(next) = waiting.try_recv()
            {
                group.push(next);
            }
            match self.together(&mut group) {
                Ok(()) => group.into_iter().for_each(Work::reply),
                Err(error) => {
                    tracing::error!(%error, operations = group.len(), "a transaction failed; its operations run once more, alone");
                    self.connection = None;
                    group.into_iter().for_each(|work| self.alone(work));
                }
            }
        }
    }

    fn connection(&mut self) -> Result<&mut AnyConnection, DieselError> {
        if self.connection.is_none() {
            let opened = sqlite::establish(&self.path).map_err(|error| {
                DieselError::DatabaseError(DatabaseErrorKind::UnableToSendCommand, Box::new(error.to_string()))
            })?;
            self.connection = Some(opened);
        }
        self.connection.as_mut().ok_or(DieselError::BrokenTransactionManager)
    }

    fn together(&mut self, group: &mut [Box<dyn Work>]) -> Result<(), DieselError> {
        let connection = self.connection()?;
        connection.batch_execute("BEGIN IMMEDIATE")?;
        for work in group {
            connection.batch_execute("SAVEPOINT operation")?;
            match work.run(connection) {
                Ok(()) => connection.batch_execute("RELEASE operation")?,
                Err(error) if is_own_affair(&error) => {
                    connection.batch_execute("ROLLBACK TO operation; RELEASE operation")?;
                }
                Err(error) => {
                    tracing::error!(operation = work.name(), %error, "an operation failed");
                    return Err(error);
                }
            }
        }
        connection.batch_execute("COMMIT")
    }

    fn alone(&mut self, mut work: Box<dyn Work>) {
        let outcome = self.connection().and_then(|connection| {
            connection.batch_execute("BEGIN IMMEDIATE")?;
            match work.run(connection) {
                Ok(()) => connection.batch_execute("COMMIT").map(|()| true),
                Err(error) => {
                    let rolled_back = connection.batch_execute("ROLLBACK");
                    if is_own_affair(&error) { rolled_back.map(|()| true) } else { Err(error) }
                }
            }
        });
        match outcome {
            Ok(_) => work.reply(),
            Err(error) => {
                tracing::error!(operation = work.name(), %error, "an operation failed");
                // Whatever state the connection is in, the next operation begins with a new one.
                self.connection = None;
                work.fail(error.into());
            }
        }
    }
}
