//! PostgreSQL: a pool whose connections are used on threads of their own, and operations that are run again as a whole.

mod groups;

use std::fmt;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use diesel::connection::SimpleConnection as _;
use diesel::prelude::*;
use diesel::r2d2::{ManageConnection, Pool, PoolError, PooledConnection, R2D2Connection as _};
use diesel::result::{DatabaseErrorKind, Error as DieselError};

use crate::connection::{AnyConnection, DbResult};
use crate::error::StoreError;
use crate::nonce::RedeemedNonce;
use crate::observer::{Observer, count_statements};
use crate::options::{Connections, StoreOptions};
use crate::outage::{Outage, Waiting};
use crate::postgres_url;
use crate::threads::Threads;
use groups::Groups;

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
    url: String,
    connections: Connections,
    /// `akamu.clock_offset`, in microseconds: only tests set it.
    clock_offset_micros: i64,
    outage: Outage,
    /// How many servers were left because they took no writes any more, as one that has been demoted. No connection from
    /// before is used again: what it reads may be old.
    left: Arc<AtomicU64>,
    opened: Opened,
    /// The number of the newest session.
    newest: Arc<AtomicU64>,
}

/// The connection by which the database was opened: the pool's first.
#[derive(Clone, Default)]
struct Opened(Arc<Mutex<Option<AnyConnection>>>);

impl Opened {
    fn take(&self) -> Option<AnyConnection> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).take()
    }
}

impl fmt::Debug for Opened {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Opened").finish_non_exhaustive()
    }
}

/// Every statement finds its rows by an index, row after row, whatever PostgreSQL knows of the tables: it plans a prepared
/// statement for a table as it then is, often new and empty, and goes on reading it as a whole until something is analysed.
/// A plan that it thinks dear for want of another is not worth compiling. An engine without these settings is left as it is.
const PLANS: &str = "
    SELECT set_config(name, value, false) FROM pg_settings JOIN (VALUES
        ('enable_seqscan', 'off'), ('enable_bitmapscan', 'off'), ('enable_hashjoin', 'off'), ('enable_mergejoin', 'off'),
        ('plan_cache_mode', 'force_generic_plan'), ('jit', 'off')
    ) AS wanted (name, value) USING (name);";

impl Servers {
    pub(crate) fn new(url: &str, options: &StoreOptions) -> Self {
        Self {
            url: postgres_url::completed(url, &options.application_name),
            connections: options.connections(),
            clock_offset_micros: options.clock_offset_micros,
            outage: Outage::default(),
            left: Arc::default(),
            opened: Opened::default(),
            newest: Arc::default(),
        }
    }

    pub(crate) fn establish(&self) -> Result<AnyConnection, ConnectionError> {
        let mut connection = PgConnection::establish(&self.url)?;
        count_statements(&mut connection);
        let mut connection = AnyConnection::Postgres(connection);
        self.configure(&mut connection)?;
        Ok(connection)
    }

    /// Sets what holds for every operation; migrations have settings of their own.
    fn configure(&self, connection: &mut AnyConnection) -> Result<(), ConnectionError> {
        connection
            .batch_execute(&format!(
                "SET client_min_messages = 'warning';
                 SET statement_timeout = {};
                 SET lock_timeout = {};
                 SET idle_in_transaction_session_timeout = '10s';
                 {PLANS}",
                self.connections.statement_timeout.as_millis(),
                self.connections.lock_timeout.as_millis(),
            ))
            .map_err(ConnectionError::CouldntSetupConfiguration)?;
        if self.clock_offset_micros != 0 {
            connection
                .batch_execute(&format!("SET akamu.clock_offset = '{}'", self.clock_offset_micros))
                .map_err(ConnectionError::CouldntSetupConfiguration)?;
        }
        Ok(())
    }
}

/// Sessions are numbered in the order in which they were made. While one works the server has not crashed since.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct SessionNumber(u64);

/// A pooled connection, and whether it is known to be dead.
pub(crate) struct Session {
    connection: AnyConnection,
    number: SessionNumber,
    is_lost: bool,
    made: Instant,
    /// How many servers had been left when it was made.
    left: u64,
}

impl ManageConnection for Servers {
    type Connection = Session;
    type Error = diesel::r2d2::Error;

    fn connect(&self) -> Result<Session, Self::Error> {
        let left = self.left.load(Ordering::Relaxed);
        let connect = || match self.opened.take() {
            Some(mut opened) => self.configure(&mut opened).map(|()| opened),
            None => self.establish(),
        };
        let connection = self.outage.trying(connect).map_err(diesel::r2d2::Error::ConnectionError)?;
        // Not before it is made: who has read the number may rely on this session's having been there.
        let number = SessionNumber(self.newest.fetch_add(1, Ordering::SeqCst) + 1);
        Ok(Session { connection, number, is_lost: false, made: Instant::now(), left })
    }

    fn is_valid(&self, session: &mut Session) -> Result<(), Self::Error> {
        session.connection.ping().map_err(diesel::r2d2::Error::QueryError)
    }

    fn has_broken(&self, session: &mut Session) -> bool {
        session.is_lost
            || session.left != self.left.load(Ordering::Relaxed)
            || session.made.elapsed() >= self.connections.lifetime
            || session.connection.is_broken()
    }
}

/// The pool, and a thread for each of its connections.
pub(crate) struct Cluster {
    sessions: Sessions,
    threads: Threads<()>,
    groups: Groups,
    observer: Observer,
}

/// The pool, and whether it can be filled.
#[derive(Clone)]
struct Sessions {
    pool: Pool<Servers>,
    outage: Outage,
    left: Arc<AtomicU64>,
    newest: Arc<AtomicU64>,
    wait: Duration,
}

impl Cluster {
    /// `opened` is a connection to these servers, which the pool goes on with.
    pub(crate) fn new(mut servers: Servers, opened: AnyConnection, observer: Observer) -> std::io::Result<Self> {
        servers.opened = Opened(Arc::new(Mutex::new(Some(opened))));
        let (outage, left, connections) = (servers.outage.clone(), servers.left.clone(), servers.connections.clone());
        let newest = servers.newest.clone();
        let pool = Pool::builder()
            .max_size(connections.max)
            .min_idle(Some(connections.min_idle))
            .max_lifetime(Some(connections.lifetime))
            .connection_timeout(RECONNECTING)
            .test_on_check_out(false)
            .build_unchecked(servers);
        let threads = Threads::start("akamu-postgres", (0..connections.max).map(|_| ()), connections.wait)?;
        let sessions = Sessions { pool, outage, left, newest, wait: connections.wait };
        Ok(Self { sessions, threads, groups: Groups::default(), observer })
    }

    /// The newest session there is.
    pub(crate) fn newest_session(&self) -> SessionNumber {
        SessionNumber(self.sessions.newest.load(Ordering::SeqCst))
    }

    /// Runs an operation for which no nonce need be redeemed.
    pub(crate) async fn read<T, F>(&self, name: &'static str, mut operation: F) -> Result<T, StoreError>
    where
        T: Send + 'static,
        F: FnMut(&mut AnyConnection) -> DbResult<T> + Send + 'static,
    {
        self.run(name, move |connection, _| operation(connection)).await
    }

    /// Runs an operation that changes something in a transaction of its own, where the nonce of the request that asks for it
    /// is redeemed still.
    pub(crate) async fn write<T, F>(
        &self,
        name: &'static str,
        nonce: RedeemedNonce,
        mut operation: F,
    ) -> Result<T, StoreError>
    where
        T: Send + 'static,
        F: FnMut(&mut AnyConnection) -> DbResult<T> + Send + 'static,
    {
        let run = for_nonce(nonce, move |connection| connection.transaction(&mut operation));
        self.run(name, run).await?.ok_or(StoreError::BadNonce)
    }

    /// The same of one that changes something by one statement, together with others that wait.
    pub(crate) async fn change<T, F>(
        &self,
        name: &'static str,
        nonce: RedeemedNonce,
        operation: F,
    ) -> Result<T, StoreError>
    where
        T: Send + 'static,
        F: FnMut(&mut AnyConnection) -> DbResult<T> + Send + 'static,
    {
        self.run_together(name, for_nonce(nonce, operation)).await?.ok_or(StoreError::BadNonce)
    }

    /// Runs an operation, again as a whole where the database has cut it off.
    async fn run<T, F>(&self, name: &'static str, operation: F) -> Result<T, StoreError>
    where
        T: Send + 'static,
        F: FnMut(&mut AnyConnection, SessionNumber) -> DbResult<T> + Send + 'static,
    {
        let waiting = Some(self.sessions.begin_to_wait()?);
        let (sessions, observer) = (self.sessions.clone(), self.observer.clone());
        let until = Instant::now() + sessions.wait;
        self.threads.run(move |()| sessions.run(name, &observer, waiting, until, operation)).await
    }
}

impl Sessions {
    /// Runs an operation on a connection for which it waits until then, again as a whole where the database has cut it off.
    fn run<T>(
        &self,
        name: &'static str,
        observer: &Observer,
        mut waiting: Option<Waiting>,
        mut until: Instant,
        mut operation: impl FnMut(&mut AnyConnection, SessionNumber) -> DbResult<T>,
    ) -> Result<T, StoreError> {
        let mut tries = 0;
        loop {
            let mut session = self.check_out(until, tries > 0)?;
            drop(waiting.take());
            tries += 1;
            let Session { connection, number, .. } = &mut *session;
            match observer.timed(name, || operation(connection, *number)) {
                Ok(done) => {
                    self.outage.succeeded();
                    return Ok(done);
                }
                Err(error) => {
                    if is_read_only(&error) {
                        self.leave(&mut session);
                    } else {
                        session.is_lost = session.connection.ping().is_err();
                    }
                    if tries >= most_tries(&error, session.is_lost) {
                        return Err(error.into());
                    }
                    tracing::debug!(operation = name, tries, %error, "run again");
                    until = Instant::now() + self.wait;
                }
            }
        }
    }

    /// Begins to wait for a connection, unless it is known that there will be none.
    fn begin_to_wait(&self) -> Result<Waiting, StoreError> {
        if self.pool.state().idle_connections == 0 {
            self.outage.may_wait()?;
        }
        self.outage.wait()
    }

    /// Takes a connection. Where one has just been found dead the others may be too: `is_suspicious` tries each.
    fn check_out(&self, until: Instant, is_suspicious: bool) -> Result<PooledConnection<Servers>, StoreError> {
        for _ in 0..self.pool.max_size() {
            let mut session = self.take(until)?;
            // Another operation may have found that its server takes no writes.
            session.is_lost = session.left != self.left.load(Ordering::Relaxed)
                || is_suspicious && session.connection.ping().is_err();
            if !session.is_lost {
                return Ok(session);
            }
        }
        self.take(until)
    }

    /// Gives a server up that takes no writes: with `target_session_attrs` libpq finds the one that does. Of several
    /// operations that find it so, the first gives up all its connections.
    fn leave(&self, session: &mut Session) {
        session.is_lost = true;
        let next = session.left + 1;
        if self.left.compare_exchange(session.left, next, Ordering::Relaxed, Ordering::Relaxed).is_ok() {
            tracing::warn!("the database takes no writes any more; another server is looked for");
        }
    }

    /// Takes an idle connection, or the next one that is made.
    fn take(&self, until: Instant) -> Result<PooledConnection<Servers>, StoreError> {
        loop {
            if let Some(session) = self.pool.try_get() {
                return Ok(session);
            }
            self.outage.may_wait()?;
            let left = until.saturating_duration_since(Instant::now());
            match self.pool.get_timeout(left.min(GLANCE)) {
                Ok(session) => return Ok(session),
                Err(error) if left.is_zero() => return Err(unavailable(error)),
                Err(_) => {}
            }
        }
    }
}

/// The operation, where this nonce is redeemed still; else nothing.
fn for_nonce<T>(
    nonce: RedeemedNonce,
    mut operation: impl FnMut(&mut AnyConnection) -> DbResult<T>,
) -> impl FnMut(&mut AnyConnection, SessionNumber) -> DbResult<Option<T>> {
    move |connection, session| {
        if nonce.holds(connection, session)? { operation(connection).map(Some) } else { Ok(None) }
    }
}

/// How often an operation that failed with this error may be run: its transaction did not happen, or it is not known
/// whether it did, and the operation recognises its own rows.
fn most_tries(error: &DieselError, is_lost: bool) -> u32 {
    match error {
        _ if is_lost => TRIES,
        DieselError::BrokenTransactionManager => TRIES,
        DieselError::DatabaseError(kind, information) => match kind {
            DatabaseErrorKind::SerializationFailure
            | DatabaseErrorKind::ClosedConnection
            | DatabaseErrorKind::UnableToSendCommand => TRIES,
            // Its text may be in any language, and nothing else tells a deadlock.
            DatabaseErrorKind::Unknown if is_timeout(information.message()) => 1,
            DatabaseErrorKind::Unknown => TRIES_UNNAMED,
            _ => 1,
        },
        _ => 1,
    }
}

/// Whether a statement was ended because it took too long: it would do so again.
fn is_timeout(message: &str) -> bool {
    ["statement timeout", "lock timeout"].iter().any(|it| message.contains(it))
}

fn is_read_only(error: &DieselError) -> bool {
    matches!(error, DieselError::DatabaseError(DatabaseErrorKind::ReadOnlyTransaction, _))
}

fn unavailable(error: PoolError) -> StoreError {
    StoreError::Unavailable(Box::new(error))
}
