//! One connection type over both databases, and the few statements that differ between them.

use diesel::prelude::*;
use diesel::result::Error as DieselError;
use diesel::sql_types::{BigInt, Text};

use akamu_proto::Timestamp;

/// A connection to either database.
#[derive(diesel::MultiConnection)]
pub(crate) enum AnyConnection {
    /// PostgreSQL, or an engine that speaks its protocol.
    Postgres(PgConnection),
    /// Embedded SQLite.
    Sqlite(SqliteConnection),
}

/// What an operation's closure returns: its outcome, or the database's error.
pub(crate) type DbResult<T> = Result<T, DieselError>;

impl AnyConnection {
    /// The time by which leases are measured, in Unix microseconds, as an SQL expression: the database's on PostgreSQL,
    /// whose replicas' clocks disagree; `now` on SQLite, which has one owner.
    ///
    /// `akamu.clock_offset` is a session setting that only tests set, so that a lease ends without waiting.
    pub(crate) fn lease_clock(&self, now: Timestamp) -> diesel::expression::SqlLiteral<BigInt> {
        match self {
            Self::Postgres(_) => diesel::dsl::sql::<BigInt>(
                "((extract(epoch from clock_timestamp()) * 1000000)::bigint \
                 + coalesce(nullif(current_setting('akamu.clock_offset', true), ''), '0')::bigint)",
            ),
            Self::Sqlite(_) => diesel::dsl::sql::<BigInt>(&now.unix_micros().to_string()),
        }
    }
}

/// Inserts rows in one statement: `ON CONFLICT` and batch inserts exist on the two connections, not on their sum.
macro_rules! insert_all {
    ($connection:expr, $table:expr, $rows:expr) => {
        match $connection {
            $crate::connection::AnyConnection::Postgres(it) => diesel::insert_into($table).values($rows).execute(it),
            $crate::connection::AnyConnection::Sqlite(it) => diesel::insert_into($table).values($rows).execute(it),
        }
    };
}
pub(crate) use insert_all;

/// Inserts a row where none has its key; tells whether it did.
macro_rules! insert_if_new {
    ($connection:expr, $table:expr, $row:expr) => {
        match $connection {
            $crate::connection::AnyConnection::Postgres(it) => {
                diesel::insert_into($table).values($row).on_conflict_do_nothing().execute(it).map(|rows| rows == 1)
            }
            $crate::connection::AnyConnection::Sqlite(it) => {
                diesel::insert_into($table).values($row).on_conflict_do_nothing().execute(it).map(|rows| rows == 1)
            }
        }
    };
}
pub(crate) use insert_if_new;

/// The state `processing` as it stands in the indexes of queues: neither database uses a partial index for a value that
/// it is told only when the statement runs.
pub(crate) fn processing() -> diesel::expression::SqlLiteral<Text> {
    diesel::dsl::sql::<Text>("'processing'")
}

/// A text or number in a row that its type does not know: somebody else wrote it.
pub(crate) fn corrupt(what: &'static str) -> DieselError {
    DieselError::DeserializationError(what.into())
}
