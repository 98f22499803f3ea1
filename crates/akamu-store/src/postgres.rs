//! PostgreSQL: a pool whose connections are used on blocking threads, and operations that are tried again as a whole.

use diesel::connection::SimpleConnection as _;
use diesel::prelude::*;
use diesel::r2d2::{ManageConnection, R2D2Connection as _};
use diesel::result::{DatabaseErrorKind, Error as DieselError};

use crate::connection::AnyConnection;

/// How often an operation is tried whose transaction the database has cut off.
pub(crate) const TRIES: u32 = 5;

/// Makes connections for the pool.
#[derive(Debug)]
pub(crate) struct Servers {
    pub(crate) url: String,
    /// `akamu.clock_offset`, in microseconds: only tests set it.
    pub(crate) clock_offset_micros: i64,
}

impl Servers {
    pub(crate) fn establish(&self) -> Result<AnyConnection, ConnectionError> {
        let mut connection = PgConnection::establish(&self.url)?;
        connection
            .batch_execute(
                "SET application_name = 'akamu-server';
                 SET statement_timeout = '10s';
                 SET lock_timeout = '5s';
                 SET idle_in_transaction_session_timeout = '10s';",
            )
            .map_err(ConnectionError::CouldntSetupConfiguration)?;
        if self.clock_offset_micros != 0 {
            connection
                .batch_execute(&format!("SET akamu.clock_offset = '{}'", self.clock_offset_micros))
                .map_err(ConnectionError::CouldntSetupConfiguration)?;
        }
        Ok(AnyConnection::Postgres(connection))
    }
}

impl ManageConnection for Servers {
    type Connection = AnyConnection;
    type Error = diesel::r2d2::Error;

    fn connect(&self) -> Result<AnyConnection, Self::Error> {
        self.establish().map_err(diesel::r2d2::Error::ConnectionError)
    }

    fn is_valid(&self, connection: &mut AnyConnection) -> Result<(), Self::Error> {
        connection.ping().map_err(diesel::r2d2::Error::QueryError)
    }

    fn has_broken(&self, connection: &mut AnyConnection) -> bool {
        connection.is_broken()
    }
}

/// Whether the whole operation may be run again: its transaction did not happen, or it is not known whether it did and
/// the operation looks for its own rows first.
pub(crate) fn may_try_again(error: &DieselError) -> bool {
    match error {
        DieselError::DatabaseError(kind, information) => match kind {
            DatabaseErrorKind::SerializationFailure
            | DatabaseErrorKind::ClosedConnection
            | DatabaseErrorKind::UnableToSendCommand => true,
            _ => ["deadlock detected", "terminating connection", "server closed the connection"]
                .iter()
                .any(|it| information.message().contains(it)),
        },
        DieselError::BrokenTransactionManager => true,
        _ => false,
    }
}
