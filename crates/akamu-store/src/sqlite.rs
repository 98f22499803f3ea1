//! The embedded database: one writer thread, and reader connections beside it.

pub(crate) mod backup;
mod health;
mod readers;
mod wal;
mod writer;

use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use diesel::connection::SimpleConnection as _;
use diesel::prelude::*;
use diesel::sql_types::BigInt;

use crate::connection::{AnyConnection, DbResult};
use crate::error::{OpenError, StoreError, is_damage, is_passing, one_line};
use crate::known::{self, Known, SharedKnown};
use crate::observer::{Observer, count_statements};
use crate::options::Connections;
use health::{Health, State};
use readers::Readers;
use writer::Writer;

/// How long a statement waits for another process's lock.
const BUSY_TIMEOUT: Duration = Duration::from_secs(5);
/// How long a start waits before it tries a locked file again.
const PAUSE: Duration = Duration::from_millis(10);
/// After so many pages the log is written into the file, 16 MiB: of a page that many operations change, only what it has
/// become by then.
const LOG_PAGES: u32 = 4_096;
/// Marks a file as ours: "Akmu".
const APPLICATION_ID: i32 = 0x416b_6d75;

/// Opens a connection with every setting that durability and correctness need.
pub(crate) fn establish(path: &Path) -> Result<AnyConnection, ConnectionError> {
    let mut connection = SqliteConnection::establish(&path.to_string_lossy())?;
    connection
        .batch_execute(&format!(
            "PRAGMA busy_timeout = {};
             PRAGMA journal_mode = WAL;
             PRAGMA synchronous = FULL;
             PRAGMA foreign_keys = ON;
             PRAGMA wal_autocheckpoint = {LOG_PAGES};",
            BUSY_TIMEOUT.as_millis()
        ))
        .map_err(ConnectionError::CouldntSetupConfiguration)?;
    count_statements(&mut connection);
    Ok(AnyConnection::Sqlite(connection))
}

/// Opens the file for the first time in this process, and says in one line what is wrong with it.
pub(crate) fn open(path: &Path) -> Result<AnyConnection, OpenError> {
    wal::assert_readable(path)?;
    create(path).map_err(|error| OpenError::Unreachable { reason: format!("{}: {error}", path.display()) })?;
    recognise(path)?;
    // Of several first starts that turn the new file's journal into a log, SQLite has one wait and tells the others at once
    // that it is locked, whatever the timeout.
    let begun = Instant::now();
    loop {
        match establish(path) {
            Err(error) if is_locked(&error.to_string()) && begun.elapsed() < BUSY_TIMEOUT => std::thread::sleep(PAUSE),
            outcome => return outcome.map_err(|error| unusable(path, &error)),
        }
    }
}

/// A migration's failure that is the file's own.
pub(crate) fn of_file(path: &Path, error: OpenError) -> OpenError {
    match error {
        OpenError::Migration { reason } if is_passing(&reason) || is_damage(&reason) => unusable(path, &reason),
        other => other,
    }
}

fn is_locked(reason: &str) -> bool {
    reason.contains("database is locked")
}

/// What is wrong with the file, or with what it lies on.
fn unusable(path: &Path, error: &dyn std::fmt::Display) -> OpenError {
    let (path, reason) = (path.display().to_string(), one_line(&error.to_string()));
    if is_locked(&reason) {
        OpenError::Unreachable { reason: format!("{path}: {reason}: another program has it open; end that") }
    } else if is_passing(&reason) {
        OpenError::Unreachable {
            reason: format!(
                "{path}: {reason}; see that its file system has room, and that the server's user may write to its directory"
            ),
        }
    } else {
        OpenError::NotADatabase { path, reason }
    }
}

/// Makes the file where it is not there, readable by us alone: contacts and key authorizations are nobody else's
/// business. SQLite gives its other files the same mode.
fn create(path: &Path) -> std::io::Result<()> {
    let mut options = std::fs::File::options();
    options.create(true).truncate(false).read(true).write(true);
    #[cfg(unix)]
    std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
    options.open(path).map(drop)
}

#[derive(QueryableByName)]
struct Number {
    #[diesel(sql_type = BigInt)]
    number: i64,
}

/// Refuses a file of another program before anything in it is changed, and marks an empty one as ours.
fn recognise(path: &Path) -> Result<(), OpenError> {
    let unusable = |error: &dyn std::fmt::Display| unusable(path, error);
    let mut connection = SqliteConnection::establish(&path.to_string_lossy()).map_err(|error| unusable(&error))?;
    let number = |connection: &mut SqliteConnection, sql: &str| {
        diesel::sql_query(sql).get_result::<Number>(connection).map(|it| it.number)
    };
    let is_ours = (|| {
        connection.batch_execute(&format!("PRAGMA busy_timeout = {}; BEGIN", BUSY_TIMEOUT.as_millis()))?;
        let id = number(&mut connection, "SELECT application_id AS number FROM pragma_application_id")?;
        // Reads the schema's pages, which the pragma does not.
        let tables = number(&mut connection, "SELECT count(*) AS number FROM sqlite_master")?;
        connection.batch_execute("COMMIT")?;
        if id == i64::from(APPLICATION_ID) {
            return Ok(true);
        }
        if id != 0 || tables != 0 {
            return Ok(false);
        }
        connection.batch_execute(&format!("PRAGMA application_id = {APPLICATION_ID}"))?;
        Ok(true)
    })()
    .map_err(|error: diesel::result::Error| unusable(&error))?;
    if is_ours { Ok(()) } else { Err(OpenError::Foreign { path: path.display().to_string() }) }
}

/// Changes a page, which is written at the commit whether or not its octets are others then.
fn write_and_undo(connection: &mut AnyConnection) -> DbResult<()> {
    connection.batch_execute(
        "INSERT INTO counters (name, value) VALUES ('ping', 0); DELETE FROM counters WHERE name = 'ping'",
    )
}

/// One writer and its readers, and what need not be read.
pub(crate) struct Embedded {
    known: SharedKnown,
    writer: Writer,
    thread: Mutex<Option<std::thread::JoinHandle<()>>>,
    readers: Readers,
    health: Health,
}

impl Embedded {
    pub(crate) fn new(
        connection: AnyConnection,
        path: PathBuf,
        connections: &Connections,
        observer: Observer,
    ) -> std::io::Result<Self> {
        let readers = Readers::start(&path, connections.max, connections.wait, observer.clone())?;
        let health = Health::of(path.clone());
        let (writer, thread) = Writer::start(connection, path, observer)?;
        Ok(Self { known: SharedKnown::default(), writer, thread: Mutex::new(Some(thread)), readers, health })
    }

    pub(crate) fn known(&self) -> &SharedKnown {
        &self.known
    }

    pub(crate) async fn write<T, F, L>(&self, name: &'static str, operation: F, learn: L) -> Result<T, StoreError>
    where
        T: Send + 'static,
        F: FnMut(&mut AnyConnection) -> DbResult<T> + Send + 'static,
        L: FnOnce(&mut Known, &T) + Send + 'static,
    {
        let known = self.known.clone();
        let before_the_answer = move |outcome: Option<&T>| known.learn(outcome, learn);
        self.health.written(self.writer.run(name, operation, before_the_answer).await)
    }

    pub(crate) async fn read<T, F>(&self, name: &'static str, operation: F) -> Result<T, StoreError>
    where
        T: Send + 'static,
        F: FnOnce(&mut AnyConnection) -> DbResult<T> + Send + 'static,
    {
        self.health.read(self.readers.run(name, operation).await)
    }

    /// Whether the file can be read, and written where a write failed last.
    pub(crate) async fn ping(&self) -> Result<(), StoreError> {
        match self.health.state() {
            State::Good => self.read("ping", |connection| connection.batch_execute("SELECT 1 FROM identity")).await,
            State::Unwritable => self.write("ping", write_and_undo, known::nothing).await,
            State::Damaged => Err(self.health.damaged()),
        }
    }

    /// The writer's connection is the last one, which leaves no log behind.
    pub(crate) async fn close(&self) {
        self.readers.close().await;
        self.writer.close();
        let thread = self.thread.lock().unwrap_or_else(PoisonError::into_inner).take();
        if let Some(thread) = thread {
            let _ = tokio::task::spawn_blocking(move || thread.join()).await;
        }
    }
}
