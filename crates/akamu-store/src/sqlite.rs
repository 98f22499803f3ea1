//! The embedded database: one writer thread, and reader connections beside it.

mod writer;

use std::path::Path;
use std::time::Duration;

use diesel::connection::SimpleConnection as _;
use diesel::prelude::*;
use diesel::r2d2::{ManageConnection, R2D2Connection as _};

pub(crate) use writer::{Work, Writer};

use crate::OpenError;
use crate::connection::AnyConnection;

/// How long a statement waits for another process's lock.
const BUSY_TIMEOUT: Duration = Duration::from_secs(5);

/// Opens a connection with every setting that durability and correctness need.
pub(crate) fn establish(path: &Path) -> Result<AnyConnection, ConnectionError> {
    let mut connection = SqliteConnection::establish(&path.to_string_lossy())?;
    connection
        .batch_execute(&format!(
            "PRAGMA busy_timeout = {};
             PRAGMA journal_mode = WAL;
             PRAGMA synchronous = FULL;
             PRAGMA foreign_keys = ON;",
            BUSY_TIMEOUT.as_millis()
        ))
        .map_err(ConnectionError::CouldntSetupConfiguration)?;
    Ok(AnyConnection::Sqlite(connection))
}

/// Opens the file for the first time in this process, and says in one line what is wrong with it.
pub(crate) fn open(path: &Path) -> Result<AnyConnection, OpenError> {
    let not_a_database = |reason: String| OpenError::NotADatabase { path: path.display().to_string(), reason };
    let mut connection = establish(path).map_err(|error| match error {
        ConnectionError::CouldntSetupConfiguration(cause) => not_a_database(cause.to_string()),
        other => OpenError::Unreachable { reason: format!("{}: {other}", path.display()) },
    })?;
    // The pragmas may succeed on a damaged file; the schema table's pages tell.
    connection
        .batch_execute("SELECT count(*) FROM sqlite_master;")
        .map_err(|error| not_a_database(error.to_string()))?;
    Ok(connection)
}

/// Makes reader connections for the pool.
#[derive(Debug)]
pub(crate) struct Readers {
    pub(crate) path: std::path::PathBuf,
}

impl ManageConnection for Readers {
    type Connection = AnyConnection;
    type Error = diesel::r2d2::Error;

    fn connect(&self) -> Result<AnyConnection, Self::Error> {
        let mut connection = establish(&self.path).map_err(diesel::r2d2::Error::ConnectionError)?;
        connection.batch_execute("PRAGMA query_only = ON;").map_err(diesel::r2d2::Error::QueryError)?;
        Ok(connection)
    }

    fn is_valid(&self, connection: &mut AnyConnection) -> Result<(), Self::Error> {
        connection.ping().map_err(diesel::r2d2::Error::QueryError)
    }

    fn has_broken(&self, connection: &mut AnyConnection) -> bool {
        connection.is_broken()
    }
}
