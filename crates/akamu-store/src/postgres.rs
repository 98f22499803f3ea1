//! PostgreSQL: a pool whose connections are used on blocking threads, and operations that are run again as a whole.

use std::sync::Arc;
use std::time::{Duration, Instant};

use diesel::connection::SimpleConnection as _;
use diesel::prelude::*;
use diesel::r2d2::{ManageConnection, Pool, PoolError, PooledConnection, R2D2Connection as _};
use diesel::result::{DatabaseErrorKind, Error as DieselError};
use tokio::sync::Semaphore;

use crate::connection::{AnyConnection, DbResult};
use crate::error::StoreError;
use crate::observer::{Observer, count_statements};
use crate::outage::{Outage, Waiting};

/// How long a caller waits for a connection.
pub(crate) const CONNECTION_TIMEOUT: Duration = Duration::from_secs(5);
/// How often one that waits looks whether there is an outage meanwhile.
const GLANCE: Duration = Duration::from_millis(250);
/// Twice the longest pause between two tries of the pool to connect.
const RECONNECTING: Duration = Duration::from_secs(1);
/// How often an operation is run whose transaction the database has cut off.
const TRIES: u32 = 5;
/// How often one is run that failed for a reason which diesel does not name: a deadlock is among these.
const TRIES_UNNAMED: u32 = 3;

/// Makes connections for the pool.
#[derive(Clone, Debug)]
pub(crate) struct Servers {
    pub(crate) url: String,
    /// `akamu.clock_offset`, in microseconds: only tests set it.
    pub(crate) clock_offset_micros: i64,
    pub(crate) outage: Outage,
}

impl Servers {
    pub(crate) fn establish(&self) -> Result<AnyConnection, ConnectionError> {
        let mut connection = PgConnection::establish(&self.url)?;
        connection
            .batch_execute(
                "SET application_name = 'akamu-server';
                 SET client_min_messages = 'warning';
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
        count_statements(&mut connection);
        Ok(AnyConnection::Postgres(connection))
    }
}

/// A pooled connection, and whether it is known to be dead.
pub(crate) struct Session {
    connection: AnyConnection,
    is_lost: bool,
}

impl ManageConnection for Servers {
    type Connection = Session;
    type Error = diesel::r2d2::Error;

    fn connect(&self) -> Result<Session, Self::Error> {
        let connection = self.outage.trying(|| self.establish()).map_err(diesel::r2d2::Error::ConnectionError)?;
        Ok(Session { connection, is_lost: false })
    }

    fn is_valid(&self, session: &mut Session) -> Result<(), Self::Error> {
        session.connection.ping().map_err(diesel::r2d2::Error::QueryError)
    }

    fn has_broken(&self, session: &mut Session) -> bool {
        session.is_lost || session.connection.is_broken()
    }
}

/// The pool, and a permit for each of its connections: an operation waits for one before it takes a thread.
pub(crate) struct Cluster {
    sessions: Sessions,
    permits: Arc<Semaphore>,
    observer: Observer,
}

/// The pool, and whether it can be filled.
#[derive(Clone)]
struct Sessions {
    pool: Pool<Servers>,
    outage: Outage,
}

impl Cluster {
    pub(crate) fn new(servers: Servers, max_connections: u32, observer: Observer) -> Self {
        let max = max_connections.max(1);
        let outage = servers.outage.clone();
        let pool = Pool::builder()
            .max_size(max)
            .min_idle(Some(1))
            .connection_timeout(RECONNECTING)
            .test_on_check_out(false)
            .build_unchecked(servers);
        Self { sessions: Sessions { pool, outage }, permits: permits(max), observer }
    }

    /// Runs an operation, again as a whole where the database has cut it off.
    pub(crate) async fn run<T, F>(&self, name: &'static str, mut operation: F) -> Result<T, StoreError>
    where
        T: Send + 'static,
        F: FnMut(&mut AnyConnection) -> DbResult<T> + Send + 'static,
    {
        let mut waiting = Some(self.sessions.wait()?);
        let (sessions, observer) = (self.sessions.clone(), self.observer.clone());
        blocking(&self.permits, move || {
            let mut tries = 0;
            loop {
                let mut session = sessions.check_out(tries > 0)?;
                drop(waiting.take());
                tries += 1;
                let connection = &mut session.connection;
                match observer.timed(name, || operation(connection)) {
                    Ok(done) => {
                        sessions.outage.succeeded();
                        return Ok(done);
                    }
                    Err(error) => {
                        session.is_lost = session.connection.ping().is_err();
                        if tries >= most_tries(&error, session.is_lost) {
                            return Err(error.into());
                        }
                        tracing::debug!(operation = name, tries, %error, "run again");
                    }
                }
            }
        })
        .await
    }
}

impl Sessions {
    /// Begins to wait for a connection, unless it is known that there will be none.
    fn wait(&self) -> Result<Waiting, StoreError> {
        if self.pool.state().idle_connections == 0 {
            self.outage.may_wait()?;
        }
        self.outage.wait()
    }

    /// Takes a connection. Where one has just been found dead the others may be too: `is_suspicious` tries each.
    fn check_out(&self, is_suspicious: bool) -> Result<PooledConnection<Servers>, StoreError> {
        for _ in 0..self.pool.max_size() {
            let mut session = self.take()?;
            if !is_suspicious || session.connection.ping().is_ok() {
                return Ok(session);
            }
            session.is_lost = true;
        }
        self.take()
    }

    /// Takes an idle connection, or the next one that is made.
    fn take(&self) -> Result<PooledConnection<Servers>, StoreError> {
        let end = Instant::now() + CONNECTION_TIMEOUT;
        loop {
            if let Some(session) = self.pool.try_get() {
                return Ok(session);
            }
            self.outage.may_wait()?;
            let left = end.saturating_duration_since(Instant::now());
            match self.pool.get_timeout(left.min(GLANCE)) {
                Ok(session) => return Ok(session),
                Err(error) if left.is_zero() => return Err(unavailable(error)),
                Err(_) => {}
            }
        }
    }
}

/// How often an operation that failed with this error may be run: its transaction did not happen, or it is not known
/// whether it did, and the operation recognises its own rows.
fn most_tries(error: &DieselError, is_lost: bool) -> u32 {
    match error {
        _ if is_lost => TRIES,
        DieselError::BrokenTransactionManager => TRIES,
        DieselError::DatabaseError(kind, _) => match kind {
            DatabaseErrorKind::SerializationFailure
            | DatabaseErrorKind::ClosedConnection
            | DatabaseErrorKind::UnableToSendCommand => TRIES,
            // Its text may be in any language, and nothing else tells a deadlock.
            DatabaseErrorKind::Unknown => TRIES_UNNAMED,
            _ => 1,
        },
        _ => 1,
    }
}

pub(crate) fn permits(max: u32) -> Arc<Semaphore> {
    Arc::new(Semaphore::new(usize::try_from(max).unwrap_or(Semaphore::MAX_PERMITS)))
}

/// Runs `work` on a blocking thread, once there is a permit for it.
pub(crate) async fn blocking<T: Send + 'static>(
    permits: &Arc<Semaphore>,
    work: impl FnOnce() -> Result<T, StoreError> + Send + 'static,
) -> Result<T, StoreError> {
    let permit = match tokio::time::timeout(CONNECTION_TIMEOUT, permits.clone().acquire_owned()).await {
        Ok(Ok(permit)) => permit,
        Ok(Err(_)) => return Err(StoreError::Closed),
        Err(elapsed) => return Err(StoreError::Unavailable(Box::new(elapsed))),
    };
    let work = move || {
        let done = work();
        drop(permit);
        done
    };
    tokio::task::spawn_blocking(work).await.unwrap_or_else(|error| Err(StoreError::Failed(Box::new(error))))
}

pub(crate) fn unavailable(error: PoolError) -> StoreError {
    StoreError::Unavailable(Box::new(error))
}
