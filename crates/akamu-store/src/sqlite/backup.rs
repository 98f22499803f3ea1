//! A copy of the embedded database, taken while a server serves it: `VACUUM INTO` reads one state and stops no writer.

use std::path::Path;

use diesel::connection::SimpleConnection as _;
use diesel::prelude::*;
use diesel::sql_types::Text;

use super::{APPLICATION_ID, BUSY_TIMEOUT, Number, create, wal};
use crate::connection::AnyConnection;
use crate::error::{BackupError, one_line};
use crate::identity::{self, Identity};
use crate::migration;

/// A copy of the embedded database that was found whole.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SqliteBackup {
    /// Whose database it is.
    pub identity: Identity,
    /// The newest migration that it has.
    pub schema_version: String,
}

#[derive(QueryableByName)]
struct Finding {
    #[diesel(sql_type = Text)]
    finding: String,
}

impl SqliteBackup {
    /// Copies `database`, which other processes may be writing to, into the new file `copy`, durably, and checks it.
    /// Blocks for as long as that takes.
    ///
    /// # Errors
    /// Where `database` is not one of ours, or the copy cannot be written or is not whole.
    pub fn take(database: &Path, copy: &Path) -> Result<Self, BackupError> {
        let failed = |error: &dyn std::fmt::Display| BackupError::Copy {
            path: copy.display().to_string(),
            reason: error.to_string(),
        };
        let name = copy.to_str().ok_or_else(|| failed(&"its name is not UTF-8"))?;
        let mut connection = open(database)?;
        // Empty, it is taken for new, and it keeps its mode.
        create(copy).map_err(|error| failed(&error))?;
        diesel::sql_query("VACUUM INTO ?")
            .bind::<Text, _>(name)
            .execute(&mut connection)
            .map_err(|error| failed(&error))?;
        std::fs::File::open(copy).and_then(|it| it.sync_all()).map_err(|error| failed(&error))?;
        Self::check(copy)
    }

    /// Reads a copy from end to end, and changes nothing in it. Blocks for as long as that takes.
    ///
    /// # Errors
    /// Where it is damaged, not one of ours, of a newer version of this program, or nobody's yet.
    pub fn check(copy: &Path) -> Result<Self, BackupError> {
        let mut connection = open(copy)?;
        let unusable = |error: &dyn std::fmt::Display| unusable(copy, error);
        let found: Finding = diesel::sql_query("SELECT quick_check AS finding FROM pragma_quick_check LIMIT 1")
            .get_result(&mut connection)
            .map_err(|error| unusable(&error))?;
        if found.finding != "ok" {
            return Err(unusable(&found.finding));
        }
        let schema_version = migration::version(&mut connection)?;
        let identity = identity::read(&mut connection).map_err(|error| unusable(&error))?;
        let identity = identity.ok_or_else(|| BackupError::Nobodys { path: copy.display().to_string() })?;
        Ok(Self { identity, schema_version })
    }
}

fn unusable(path: &Path, error: &dyn std::fmt::Display) -> BackupError {
    BackupError::Unusable { path: path.display().to_string(), reason: one_line(&error.to_string()) }
}

/// Opens a file that is there and ours, in the journal mode that it has: another would be written into it.
fn open(path: &Path) -> Result<AnyConnection, BackupError> {
    let unusable = |error: &dyn std::fmt::Display| unusable(path, error);
    // SQLite would make it.
    std::fs::File::open(path).map_err(|error| unusable(&error))?;
    wal::assert_readable(path)?;
    let mut connection = SqliteConnection::establish(&path.to_string_lossy()).map_err(|error| unusable(&error))?;
    connection
        .batch_execute(&format!("PRAGMA busy_timeout = {}", BUSY_TIMEOUT.as_millis()))
        .map_err(|error| unusable(&error))?;
    let id: Number = diesel::sql_query("SELECT application_id AS number FROM pragma_application_id")
        .get_result(&mut connection)
        .map_err(|error| unusable(&error))?;
    if id.number == i64::from(APPLICATION_ID) {
        Ok(AnyConnection::Sqlite(connection))
    } else {
        Err(unusable(&"it is not akamu-server's"))
    }
}
