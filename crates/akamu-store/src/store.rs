//! The store: where an operation becomes one transaction, off the async threads.

use std::fmt;
use std::sync::Arc;

use akamu_proto::Timestamp;
use diesel::ConnectionError;
use diesel::connection::{Connection as _, SimpleConnection as _};

use crate::connection::{AnyConnection, DbResult};
use crate::error::{OpenError, StoreError, one_line};
use crate::known::{Known, SharedKnown};
use crate::lease::{LeaseRequest, LeaseTerms};
use crate::migration;
use crate::nonce::{Nonces, RedeemedNonce};
use crate::options::{Place, StoreOptions};
use crate::postgres::{Cluster, Servers, SessionNumber};
use crate::sqlite::{self, Embedded};
use crate::validation::ClaimCursor;

/// The durable state of a CA. Cheap to clone. On SQLite it, with its clones, is the one owner of its file.
///
/// Its methods are named noun first. Each is one operation: one transaction, whose outcome is an enum, never an error.
/// Dropping a future does not undo its operation, which may be committed already.
#[derive(Clone)]
pub struct Store {
    inner: Arc<Inner>,
    /// Of the request for which it changes things.
    nonce: RedeemedNonce,
}

struct Inner {
    backend: Backend,
    random: fn(&mut [u8]),
    nonces: Nonces,
    claim_cursor: ClaimCursor,
}

enum Backend {
    Sqlite(Embedded),
    Postgres(Cluster),
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

    /// Brings the schema up to date and does nothing else, for a role that may; returns the schema's version.
    ///
    /// # Errors
    /// One line for the operator.
    pub async fn migrate(options: StoreOptions) -> Result<String, OpenError> {
        let migrated = tokio::task::spawn_blocking(move || migration::version(&mut Self::migrated(&options)?));
        migrated.await.map_err(|error| OpenError::Unreachable { reason: error.to_string() })?
    }

    /// A connection to a database whose schema is up to date.
    fn migrated(options: &StoreOptions) -> Result<AnyConnection, OpenError> {
        match &options.place {
            Place::Sqlite(path) => {
                let mut connection = sqlite::open(path)?;
                migration::run(&mut connection).map_err(|error| sqlite::of_file(path, error))?;
                Ok(connection)
            }
            Place::Postgres(url) => {
                let unreachable =
                    |error: ConnectionError| OpenError::Unreachable { reason: one_line(&error.to_string()) };
                let mut connection = Servers::new(url, options).establish().map_err(unreachable)?;
                migration::run(&mut connection)?;
                Ok(connection)
            }
        }
    }

    fn open_blocking(options: StoreOptions, now: Timestamp) -> Result<Self, OpenError> {
        let unreachable = |error: &dyn fmt::Display| OpenError::Unreachable { reason: one_line(&error.to_string()) };
        let random = options.random;
        let mut connection = Self::migrated(&options)?;
        let (backend, nonces) = match &options.place {
            Place::Sqlite(path) => {
                let (path, connections) = (path.clone(), options.connections());
                let embedded = Embedded::new(connection, path, &connections, options.observer)
                    .map_err(|error| unreachable(&error))?;
                (Backend::Sqlite(embedded), Nonces::in_memory(options.nonce_lifetime, random))
            }
            Place::Postgres(url) => {
                let nonces = Nonces::shared(&mut connection, options.nonce_lifetime, random, now)
                    .map_err(|error| unreachable(&error))?;
                let cluster = Cluster::new(Servers::new(url, &options), connection, options.observer)
                    .map_err(|error| unreachable(&error))?;
                (Backend::Postgres(cluster), nonces)
            }
        };
        let claim_cursor = ClaimCursor::default();
        let inner = Arc::new(Inner { backend, random, nonces, claim_cursor });
        Ok(Self { inner, nonce: RedeemedNonce::default() })
    }

    /// The same store, for what a request with this nonce changes: nothing of it is changed where a crash of PostgreSQL lost
    /// the nonce and another request has used it since ([`StoreError::BadNonce`]).
    #[must_use]
    pub fn for_request(&self, nonce: RedeemedNonce) -> Self {
        Self { inner: self.inner.clone(), nonce }
    }

    /// Whether the database is the embedded one.
    pub fn is_sqlite(&self) -> bool {
        matches!(self.inner.backend, Backend::Sqlite(_))
    }

    /// Ends the threads of the embedded database once everything that waits is read or committed; its log is in the
    /// database file then. On SQLite, later operations that ask it answer [`StoreError::Closed`].
    pub async fn close(&self) {
        if let Backend::Sqlite(embedded) = &self.inner.backend {
            embedded.close().await;
        }
    }

    /// Whether the database answers, and on SQLite whether it is whole and can be written, as far as earlier operations
    /// have found: one that could not be written is tried again, one that is damaged stays so.
    ///
    /// # Errors
    /// Why not.
    pub async fn ping(&self) -> Result<(), StoreError> {
        match &self.inner.backend {
            Backend::Sqlite(embedded) => embedded.ping().await,
            Backend::Postgres(_) => self.select("ping", |connection| connection.batch_execute("SELECT 1")).await,
        }
    }

    pub(crate) fn lease_terms(&self, request: LeaseRequest) -> LeaseTerms {
        LeaseTerms::draw(request, self.inner.random)
    }

    pub(crate) fn claim_cursor(&self) -> &ClaimCursor {
        &self.inner.claim_cursor
    }

    /// What is known without asking the database: on SQLite, whose file has one owner.
    pub(crate) fn known(&self) -> Option<&SharedKnown> {
        match &self.inner.backend {
            Backend::Sqlite(embedded) => Some(embedded.known()),
            Backend::Postgres(_) => None,
        }
    }

    /// The newest session with PostgreSQL.
    pub(crate) fn newest_session(&self) -> SessionNumber {
        match &self.inner.backend {
            Backend::Sqlite(_) => SessionNumber::default(),
            Backend::Postgres(cluster) => cluster.newest_session(),
        }
    }

    pub(crate) fn nonces(&self) -> &Nonces {
        &self.inner.nonces
    }

    /// One operation that changes something: one transaction, run again as a whole where the database cut it off.
    ///
    /// It may therefore run more than once, also after an earlier run was committed and the answer was lost: what it
    /// inserts has ids from before the first run, and it recognises its own rows.
    ///
    /// `learn` brings what is known up to date with what was committed, before anybody is told of it.
    pub(crate) async fn write<T, F, L>(&self, name: &'static str, operation: F, learn: L) -> Result<T, StoreError>
    where
        T: Send + 'static,
        F: FnMut(&mut AnyConnection) -> DbResult<T> + Send + 'static,
        L: FnOnce(&mut Known, &T) + Send + 'static,
    {
        match &self.inner.backend {
            Backend::Sqlite(embedded) => embedded.write(name, operation, learn).await,
            Backend::Postgres(cluster) => cluster.write(name, self.nonce.clone(), operation).await,
        }
    }

    /// One operation that decides and changes in one statement, which on PostgreSQL commits by itself or with those that wait
    /// with it; what else it runs only reads, or has a transaction of its own there. Run again, and learned from, as
    /// [`Store::write`] is.
    pub(crate) async fn change<T, F, L>(&self, name: &'static str, operation: F, learn: L) -> Result<T, StoreError>
    where
        T: Send + 'static,
        F: FnMut(&mut AnyConnection) -> DbResult<T> + Send + 'static,
        L: FnOnce(&mut Known, &T) + Send + 'static,
    {
        match &self.inner.backend {
            Backend::Sqlite(embedded) => embedded.write(name, operation, learn).await,
            Backend::Postgres(cluster) => cluster.change(name, self.nonce.clone(), operation).await,
        }
    }

    /// One statement that changes nothing, or one that commits by itself: no transaction around it.
    pub(crate) async fn select<T, F>(&self, name: &'static str, operation: F) -> Result<T, StoreError>
    where
        T: Send + 'static,
        F: FnMut(&mut AnyConnection) -> DbResult<T> + Send + 'static,
    {
        match &self.inner.backend {
            Backend::Sqlite(embedded) => embedded.read(name, operation).await,
            Backend::Postgres(cluster) => cluster.read(name, operation).await,
        }
    }

    /// One operation that changes nothing: one transaction, so that several statements see one state.
    pub(crate) async fn read<T, F>(&self, name: &'static str, mut operation: F) -> Result<T, StoreError>
    where
        T: Send + 'static,
        F: FnMut(&mut AnyConnection) -> DbResult<T> + Send + 'static,
    {
        self.select(name, move |connection| connection.transaction(&mut operation)).await
    }
}
