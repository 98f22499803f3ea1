//! What can go wrong with the database. The texts carry no SQL, no path and no address; those are in `source()`.

use diesel::result::{DatabaseErrorKind, Error as DieselError};

/// An operation's failure. What an operation may decide is an outcome, never an error.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    /// The database cannot be reached or has no room; the same operation may succeed later.
    #[error("the database cannot be used now")]
    Unavailable(#[source] Box<dyn std::error::Error + Send + Sync>),
    /// The database has been out of reach for a while: nothing was waited for. The log tells of it once, when it begins,
    /// and once when it ends.
    #[error("the database cannot be reached")]
    Outage(#[source] Box<dyn std::error::Error + Send + Sync>),
    /// Two rows that must not both be there: a caller drew an id or serial twice, or broke an order of operations.
    #[error("the database refused a row")]
    Constraint(#[source] Box<dyn std::error::Error + Send + Sync>),
    /// Something in the database cannot be read: its file is damaged, or a row was changed by hand.
    #[error("the database holds something that cannot be read")]
    Corrupt(#[source] Box<dyn std::error::Error + Send + Sync>),
    /// The database refused a statement.
    #[error("the database failed")]
    Failed(#[source] Box<dyn std::error::Error + Send + Sync>),
    /// The request's nonce is another request's: the database crashed, forgot that it was redeemed, and was asked by
    /// another one first. Nothing was changed.
    #[error("the nonce has been used by another request")]
    BadNonce,
    /// The store has been closed.
    #[error("the database is closed")]
    Closed,
}

type Cause = Box<dyn std::error::Error + Send + Sync>;

impl StoreError {
    /// Whether a client should try again later (503).
    pub const fn is_unavailable(&self) -> bool {
        matches!(self, Self::Unavailable(_) | Self::Outage(_) | Self::Closed)
    }

    /// Whether it is the file that is damaged, and not one row of it.
    pub(crate) fn is_damage(&self) -> bool {
        let Self::Corrupt(cause) = self else { return false };
        matches!(cause.downcast_ref(), Some(DieselError::DatabaseError(..)))
    }

    /// The same with another cause.
    pub(crate) fn map_cause(self, map: impl FnOnce(Cause) -> Cause) -> Self {
        match self {
            Self::Unavailable(cause) => Self::Unavailable(map(cause)),
            Self::Outage(cause) => Self::Outage(map(cause)),
            Self::Constraint(cause) => Self::Constraint(map(cause)),
            Self::Corrupt(cause) => Self::Corrupt(map(cause)),
            Self::Failed(cause) => Self::Failed(map(cause)),
            Self::BadNonce => Self::BadNonce,
            Self::Closed => Self::Closed,
        }
    }
}

impl From<DieselError> for StoreError {
    fn from(error: DieselError) -> Self {
        match &error {
            DieselError::DatabaseError(kind, information) => match kind {
                DatabaseErrorKind::UniqueViolation
                | DatabaseErrorKind::ForeignKeyViolation
                | DatabaseErrorKind::NotNullViolation
                | DatabaseErrorKind::CheckViolation
                | DatabaseErrorKind::RestrictViolation
                | DatabaseErrorKind::ExclusionViolation => Self::Constraint(Box::new(error)),
                DatabaseErrorKind::ClosedConnection
                | DatabaseErrorKind::UnableToSendCommand
                | DatabaseErrorKind::SerializationFailure
                | DatabaseErrorKind::ReadOnlyTransaction => Self::Unavailable(Box::new(error)),
                _ if is_passing(information.message()) => Self::Unavailable(Box::new(error)),
                _ if is_damage(information.message()) => Self::Corrupt(Box::new(error)),
                _ => Self::Failed(Box::new(error)),
            },
            DieselError::BrokenTransactionManager | DieselError::AlreadyInTransaction => {
                Self::Unavailable(Box::new(error))
            }
            DieselError::DeserializationError(_) => Self::Corrupt(Box::new(error)),
            _ => Self::Failed(Box::new(error)),
        }
    }
}

/// Whether a message of a kind that diesel does not name is about a state that may pass.
pub(crate) fn is_passing(message: &str) -> bool {
    const PASSING: &[&str] = &[
        "database or disk is full",
        "disk I/O error",
        "database is locked",
        "unable to open database file",
        "attempt to write a readonly database",
        "out of memory",
        "interrupted",
        "deadlock detected",
        "terminating connection",
        "the database system is",
        "server closed the connection",
        "statement timeout",
        "lock timeout",
        "could not connect",
        "connection to server",
    ];
    PASSING.iter().any(|it| message.contains(it))
}

/// Whether a message of SQLite's is about a file that is not what it wrote.
pub(crate) fn is_damage(message: &str) -> bool {
    const DAMAGE: &[&str] =
        &["database disk image is malformed", "file is not a database", "malformed database schema"];
    DAMAGE.iter().any(|it| message.contains(it))
}

/// Why a database cannot be opened: one line for the operator.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    /// The URL is of another kind.
    #[error("{scheme:?} begins no database URL; write sqlite://akamu.db or postgres://user@host/database")]
    BadUrl {
        /// What stands before the first colon.
        scheme: String,
    },
    /// The database does not answer, or refuses us.
    #[error("cannot be reached: {reason}")]
    Unreachable {
        /// The database's own words.
        reason: String,
    },
    /// The file is no SQLite database, or is damaged.
    #[error("{path} is no usable SQLite database ({reason}); restore it from a backup, or move it away to begin anew")]
    NotADatabase {
        /// The file.
        path: String,
        /// SQLite's own words.
        reason: String,
    },
    /// The file is an SQLite database of another program.
    #[error("{path} is the SQLite database of another program; name another file in database.url")]
    Foreign {
        /// The file.
        path: String,
    },
    /// The file is no write-ahead log, or is damaged.
    #[error(
        "{path} is no write-ahead log of SQLite, or is damaged; what was answered last is in it: restore the database from a backup, or move this file away to go on without it"
    )]
    NotALog {
        /// The file.
        path: String,
    },
    /// The schema is of a later version of this program.
    #[error(
        "the database was written by a newer version of akamu-server (it has migration {found}, this one knows {known}); run that version, or restore a backup"
    )]
    Newer {
        /// The newest migration in the database.
        found: String,
        /// The newest one that this program has.
        known: String,
    },
    /// The schema is not there, or of an earlier version, and this role may not change it.
    #[error(
        "{}, and this role may not change that; run `akamu-server migrate` with the URL of the role that owns the tables (AKAMU_DATABASE__URL=postgres://OWNER@HOST/DATABASE)",
        lacks(found.as_deref(), needed)
    )]
    MayNotMigrate {
        /// The newest migration in the database.
        found: Option<String>,
        /// The newest one that this program has.
        needed: String,
    },
    /// Another process has been migrating for too long.
    #[error(
        "another server has been bringing the database's schema up to date for {waited_secs} s, which takes minutes where much is stored; start this one when that one is done"
    )]
    Locked {
        /// How long was waited.
        waited_secs: u64,
    },
    /// A migration failed.
    #[error("the schema could not be brought up to date: {reason}")]
    Migration {
        /// The database's own words.
        reason: String,
    },
}

fn lacks(found: Option<&str>, needed: &str) -> String {
    match found {
        Some(found) => format!("the database has migration {found}, and this version of akamu-server needs {needed}"),
        None => "the database has no tables of akamu-server that this role may read".to_owned(),
    }
}

/// Why there is no copy of a database, or none to trust: one line for the operator.
#[derive(Debug, thiserror::Error)]
pub enum BackupError {
    /// The file cannot be opened, is damaged, or is another program's.
    #[error("{path} is no whole database of akamu-server: {reason}")]
    Unusable {
        /// The file.
        path: String,
        /// SQLite's own words, or the system's.
        reason: String,
    },
    /// The copy cannot be written.
    #[error("{path}: the copy could not be written: {reason}")]
    Copy {
        /// The copy.
        path: String,
        /// SQLite's own words, or the system's.
        reason: String,
    },
    /// No server has started on the database.
    #[error("{path} belongs to no CA yet: start the server once")]
    Nobodys {
        /// The file.
        path: String,
    },
    /// Its log or its schema cannot be read, or is of a later version of this program.
    #[error(transparent)]
    Schema(#[from] OpenError),
}

/// libpq explains in several lines, and so does SQLite what is damaged.
pub(crate) fn one_line(text: &str) -> String {
    text.lines().map(str::trim).filter(|it| !it.is_empty()).collect::<Vec<_>>().join("; ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_role_that_may_not_migrate_is_told_who_may() {
        let text = |found: Option<&str>| {
            let found = found.map(str::to_owned);
            OpenError::MayNotMigrate { found, needed: "2".to_owned() }.to_string()
        };
        let older = text(Some("1"));
        assert!(
            older.starts_with("the database has migration 1, and this version of akamu-server needs 2, "),
            "{older}"
        );
        assert!(text(None).starts_with("the database has no tables of akamu-server"), "{}", text(None));
        for text in [older, text(None)] {
            assert!(text.contains("`akamu-server migrate`") && text.contains("AKAMU_DATABASE__URL="), "{text}");
        }
    }
}
