//! The store: where an operation becomes one transaction, off the async threads.

use std::fmt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use akamu_proto::Timestamp;
use diesel::Connection as _;
use diesel::r2d2::Pool;
use diesel::result::Error as DieselError;
use tokio::sync::{Mutex, oneshot};

use crate::connection::{AnyConnection, DbResult};
use crate::error::{OpenError, StoreError};
use crate::lease::{LeaseRequest, LeaseTerms};
use crate::migration;
use crate::nonce::Nonces;
use crate::postgres::{self, Servers};
use crate::sqlite::{self, Readers, Work, Writer};

/// How long a caller waits for a connection.
const CONNECTION_TIMEOUT: Duration = Duration::from_secs(5);

/// Where the database is, and how it is used.
#[derive(Clone)]
pub struct StoreOptions {
    place: Place,
    max_connections: u32,
    nonce_lifetime: Duration,
    clock_offset_micros: i64,
    random: fn(&mut [u8]),
}

#[derive(Clone)]
enum Place {
    Sqlite(PathBuf),
    Postgres(String),
}

impl StoreOptions {
    /// Reads a database URL: `sqlite://FILE`, relative to `data_dir`, or `postgres://…`.
    ///
    /// # Errors
    /// [`OpenError::BadUrl`].
    pub fn parse(url: &str, data_dir: &Path) -> Result<Self, OpenError> {
        let place = if let Some(file) = url.strip_prefix("sqlite://").filter(|it| !it.is_empty()) {
            Place::Sqlite(data_dir.join(file))
        } else if url.starts_with("postgres://") || url.starts_with("postgresql://") {
            Place::Postgres(url.to_owned())
        } else {
            return Err(OpenError::BadUrl { url: url.split(':').next().unwrap_or_default().to_owned() });
        };
        Ok(Self {
            place,
            max_connections: 10,
            nonce_lifetime: Duration::from_secs(3600),
            clock_offset_micros: 0,
            random: system_random,
        })
    }

    /// The most connections at once.
    #[must_use]
    pub const fn max_connections(mut self, max: u32) -> Self {
        self.max_connections = max;
        self
    }

    /// How long a nonce may be used.
    #[must_use]
    pub const fn nonce_lifetime(mut self, lifetime: Duration) -> Self {
        self.nonce_lifetime = lifetime;
        self
    }

    /// Moves PostgreSQL's clock for leases, so that a test sees one expire without waiting.
    #[must_use]
    pub const fn clock_offset_micros(mut self, micros: i64) -> Self {
        self.clock_offset_micros = micros;
        self
    }

    /// Draws the nonces' keys from another source than the system's.
    #[must_use]
    pub fn random(mut self, random: fn(&mut [u8])) -> Self {
        self.random = random;
        self
    }

    /// Whether this is the embedded database, which one process has for itself.
    pub const fn is_sqlite(&self) -> bool {
        matches!(self.place, Place::Sqlite(_))
    }
}

impl fmt::Debug for StoreOptions {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // A URL may hold a password.
        let place: &dyn fmt::Debug = match &self.place {
            Place::Sqlite(path) => path,
            Place::Postgres(_) => &"postgres",
        };
        f.debug_struct("StoreOptions").field("place", place).finish_non_exhaustive()
    }
}

fn system_random(octets: &mut [u8]) {
    aws_lc_rs::rand::fill(octets).expect("aws-lc-rs aborts by itself where the system has no randomness");
}

/// The durable state of a CA. Cheap to clone.
#[derive(Clone)]
pub struct Store {
    inner: Arc<Inner>,
}

struct Inner {
    backend: Backend,
    random: fn(&mut [u8]),
    nonces: Nonces,
}

enum Backend {
    Sqlite { writer: Mutex<Option<Writer>>, thread: Mutex<Option<std::thread::JoinHandle<()>>>, readers: Pool<Readers> },
    Postgres(Pool<Servers>),
}

impl fmt::Debug for Store {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(if self.is_sqlite() { "Store(sqlite)" } else { "Store(postgres)" })
    }
}

impl Store {
    /// Opens the database and brings its schema up to date.
    ///
    /// # Errors
    /// One line for the operator.
    pub async fn open(options: StoreOptions, now: Timestamp) -> Result<Self, OpenError> {
        let opened = tokio::task::spawn_blocking(move || Self::open_blocking(options, now)).await;
        opened.map_err(|error| OpenError::Unreachable { reason: error.to_string() })?
    }

    fn open_blocking(options: StoreOptions, now: Timestamp) -> Result<Self, OpenError> {
        let unreachable = |error: &dyn fmt::Display| OpenError::Unreachable { reason: one_line(&error.to_string()) };
        let random = options.random;
        let (backend, nonces) = match options.place {
            Place::Sqlite(path) => {
                let mut connection = sqlite::open(&path)?;
                migration::run(&mut connection, now)?;
                let readers = Pool::builder()
                    .max_size(options.max_connections.max(1))
                    .min_idle(Some(1))
                    .connection_timeout(CONNECTION_TIMEOUT)
                    .test_on_check_out(false)
                    .build(Readers { path: path.clone() })
                    .map_err(|error| unreachable(&error))?;
                let (writer, thread) = Writer::start(connection, path).map_err(|error| unreachable(&error))?;
                let nonces = Nonces::in_memory(options.nonce_lifetime, options.random, now);
                let (writer, thread) = (Mutex::new(Some(writer)), Mutex::new(Some(thread)));
                (Backend::Sqlite { writer, thread, readers }, nonces)
            }
            Place::Postgres(url) => {
                let servers = Servers { url, clock_offset_micros: options.clock_offset_micros };
                let mut connection = servers.establish().map_err(|error| unreachable(&error))?;
                migration::run(&mut connection, now)?;
                let nonces = Nonces::shared(&mut connection, options.nonce_lifetime, options.random, now)
                    .map_err(|error| unreachable(&error))?;
                let pool = Pool::builder()
                    .max_size(options.max_connections.max(1))
                    .min_idle(Some(1))
                    .connection_timeout(CONNECTION_TIMEOUT)
                    .test_on_check_out(false)
                    .build(servers)
                    .map_err(|error| unreachable(&error))?;
                (Backend::Postgres(pool), nonces)
            }
        };
        Ok(Self { inner: Arc::new(Inner { backend, random, nonces }) })
    }

    /// Whether the database is the embedded one.
    pub fn is_sqlite(&self) -> bool {
        matches!(self.inner.backend, Backend::Sqlite { .. })
    }

    pub(crate) fn lease_terms(&self, request: LeaseRequest) -> LeaseTerms {
        LeaseTerms::draw(request, self.inner.random)
    }

    pub(crate) fn nonces(&self) -> &Nonces {
        &self.inner.nonces
    }

    /// Ends the writer once everything that waits is committed. Later operations answer [`StoreError::Closed`].
    pub async fn close(&self) {
        if let Backend::Sqlite { writer, thread, .. } = &self.inner.backend {
            drop(writer.lock().await.take());
            if let Some(thread) = thread.lock().await.take() {
                let _ = tokio::task::spawn_blocking(move || thread.join()).await;
            }
        }
    }

    /// Whether the database answers.
    ///
    /// # Errors
    /// Why not.
    pub async fn ping(&self) -> Result<(), StoreError> {
        use diesel::connection::SimpleConnection as _;
        self.read("ping", |connection| connection.batch_execute("SELECT 1")).await
    }

    /// One operation that changes something: one transaction, tried again as a whole where the database cut it off.
    pub(crate) async fn write<T, F>(&self, name: &'static str, operation: F) -> Result<T, StoreError>
    where
        T: Send + 'static,
        F: FnMut(&mut AnyConnection) -> DbResult<T> + Send + 'static,
    {
        match &self.inner.backend {
            Backend::Sqlite { writer, .. } => {
                let writer = writer.lock().await.clone().ok_or(StoreError::Closed)?;
                let (reply, answer) = oneshot::channel();
                writer.send(Box::new(Task { name, operation, outcome: None, reply })).await;
                answer.await.unwrap_or(Err(StoreError::Closed))
            }
            Backend::Postgres(pool) => on_pool(pool.clone(), name, operation).await,
        }
    }

    /// One operation that changes nothing.
    pub(crate) async fn read<T, F>(&self, name: &'static str, mut operation: F) -> Result<T, StoreError>
    where
        T: Send + 'static,
        F: FnMut(&mut AnyConnection) -> DbResult<T> + Send + 'static,
    {
        match &self.inner.backend {
            Backend::Sqlite { readers, .. } => {
                let readers = readers.clone();
                blocking(move || {
                    let mut connection = readers.get().map_err(unavailable)?;
                    let connection: &mut AnyConnection = &mut connection;
                    // One transaction, so that an operation of several statements sees one state.
                    timed(name, || connection.transaction(&mut operation)).map_err(StoreError::from)
                })
                .await
            }
            Backend::Postgres(pool) => on_pool(pool.clone(), name, operation).await,
        }
    }
}

async fn on_pool<T, F>(pool: Pool<Servers>, name: &'static str, mut operation: F) -> Result<T, StoreError>
where
    T: Send + 'static,
    F: FnMut(&mut AnyConnection) -> DbResult<T> + Send + 'static,
{
    blocking(move || {
        let mut tried = 0;
        loop {
            tried += 1;
            let mut connection = pool.get().map_err(unavailable)?;
            let connection: &mut AnyConnection = &mut connection;
            match timed(name, || connection.transaction(&mut operation)) {
                Err(error) if tried < postgres::TRIES && postgres::may_try_again(&error) => {
                    tracing::debug!(operation = name, tried, %error, "tried again");
                }
                other => return other.map_err(StoreError::from),
            }
        }
    })
    .await
}

async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> Result<T, StoreError> + Send + 'static,
) -> Result<T, StoreError> {
    tokio::task::spawn_blocking(work).await.unwrap_or_else(|error| Err(StoreError::Failed(Box::new(error))))
}

fn unavailable(error: diesel::r2d2::PoolError) -> StoreError {
    StoreError::Unavailable(Box::new(error))
}

fn timed<T>(name: &'static str, run: impl FnOnce() -> Result<T, DieselError>) -> Result<T, DieselError> {
    let started = Instant::now();
    let outcome = run();
    let duration_us = u64::try_from(started.elapsed().as_micros()).unwrap_or(u64::MAX);
    tracing::debug!(operation = name, duration_us, ok = outcome.is_ok(), "transaction");
    outcome
}

/// libpq explains in several lines.
pub(crate) fn one_line(text: &str) -> String {
    text.lines().map(str::trim).filter(|it| !it.is_empty()).collect::<Vec<_>>().join("; ")
}

struct Task<T, F> {
    name: &'static str,
    operation: F,
    outcome: Option<DbResult<T>>,
    reply: oneshot::Sender<Result<T, StoreError>>,
}

impl<T, F> Work for Task<T, F>
where
    T: Send,
    F: FnMut(&mut AnyConnection) -> DbResult<T> + Send,
{
    fn name(&self) -> &'static str {
        self.name
    }

    fn run(&mut self, connection: &mut AnyConnection) -> Result<(), DieselError> {
        let Self { name, operation, .. } = self;
        match timed(name, || operation(connection)) {
            Ok(value) => {
                self.outcome = Some(Ok(value));
                Ok(())
            }
            Err(error) => {
                // The writer decides by the error, the caller gets the same one.
                let (for_writer, for_caller) = copies(error);
                self.outcome = Some(Err(for_caller));
                Err(for_writer)
            }
        }
    }

    fn reply(self: Box<Self>) {
        let outcome = self.outcome.unwrap_or(Err(DieselError::RollbackTransaction));
        let _ = self.reply.send(outcome.map_err(StoreError::from));
    }

    fn fail(self: Box<Self>, error: StoreError) {
        let _ = self.reply.send(Err(error));
    }
}

/// diesel's errors cannot be cloned; those that matter here can be said twice.
fn copies(error: DieselError) -> (DieselError, DieselError) {
    match error {
        DieselError::DatabaseError(kind, information) => {
            let message = information.message().to_owned();
            let copy = match kind {
                diesel::result::DatabaseErrorKind::UniqueViolation => {
                    diesel::result::DatabaseErrorKind::UniqueViolation
                }
                diesel::result::DatabaseErrorKind::ForeignKeyViolation => {
                    diesel::result::DatabaseErrorKind::ForeignKeyViolation
                }
                diesel::result::DatabaseErrorKind::NotNullViolation => {
                    diesel::result::DatabaseErrorKind::NotNullViolation
                }
                diesel::result::DatabaseErrorKind::CheckViolation => diesel::result::DatabaseErrorKind::CheckViolation,
                _ => diesel::result::DatabaseErrorKind::Unknown,
            };
            (DieselError::DatabaseError(kind, information), DieselError::DatabaseError(copy, Box::new(message)))
        }
        DieselError::NotFound => (DieselError::NotFound, DieselError::NotFound),
        DieselError::RollbackTransaction => (DieselError::RollbackTransaction, DieselError::RollbackTransaction),
        DieselError::DeserializationError(cause) => {
            let text = cause.to_string();
            (DieselError::DeserializationError(cause), DieselError::DeserializationError(text.into()))
        }
        other => {
            let text = other.to_string();
            (other, DieselError::QueryBuilderError(text.into()))
        }
    }
}
