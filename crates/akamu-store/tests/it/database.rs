//! A database of a test's own.

use std::fmt::Write as _;
use std::time::Duration;

use akamu_proto::Timestamp;
use akamu_store::{OpenError, Store, StoreOptions};
use diesel::connection::SimpleConnection as _;
use diesel::prelude::*;
use diesel::sql_types::BigInt;

use crate::postgres_database::PostgresDatabase;

/// When every test begins.
pub(crate) const NOW: Timestamp = Timestamp::from_unix_secs(1_790_000_000);

/// A new database. Dropped, it is gone.
pub(crate) struct Database {
    pub(crate) store: Store,
    place: Place,
}

pub(crate) enum Place {
    Sqlite(tempfile::TempDir),
    Postgres(PostgresDatabase),
}

/// A connection beside the store's, on the same database.
pub(crate) enum Raw {
    Sqlite(SqliteConnection),
    Postgres(PgConnection),
}

#[derive(QueryableByName)]
struct Number {
    #[diesel(sql_type = BigInt)]
    number: i64,
}

impl Raw {
    pub(crate) fn execute(&mut self, sql: &str) -> QueryResult<()> {
        match self {
            Self::Sqlite(it) => it.batch_execute(sql),
            Self::Postgres(it) => it.batch_execute(sql),
        }
    }

    /// The one number that a query, whose column is called `number`, gives.
    pub(crate) fn number(&mut self, sql: &str) -> i64 {
        let query = diesel::sql_query(sql);
        let row: Number = match self {
            Self::Sqlite(it) => query.get_result(it).unwrap(),
            Self::Postgres(it) => query.get_result(it).unwrap(),
        };
        row.number
    }
}

impl Place {
    pub(crate) fn sqlite() -> Self {
        Self::Sqlite(tempfile::tempdir().unwrap())
    }

    /// In memory where the system has a directory for that: for what writes much and never loses power.
    pub(crate) fn sqlite_in_memory() -> Self {
        tempfile::tempdir_in("/dev/shm").map_or_else(|_| Self::sqlite(), Self::Sqlite)
    }

    /// `None` where there is no PostgreSQL to test on.
    pub(crate) fn postgres() -> Option<Self> {
        PostgresDatabase::new().map(Self::Postgres)
    }

    pub(crate) fn options(&self) -> StoreOptions {
        match self {
            Self::Sqlite(directory) => StoreOptions::parse("sqlite://akamu.db", directory.path()).unwrap(),
            Self::Postgres(it) => StoreOptions::parse(&it.url(), std::path::Path::new("/")).unwrap(),
        }
    }

    pub(crate) fn postgres_url(&self) -> String {
        match self {
            Self::Postgres(it) => it.url(),
            Self::Sqlite(_) => panic!("a URL is PostgreSQL's"),
        }
    }

    pub(crate) async fn open(&self) -> Result<Store, OpenError> {
        Store::open(self.options(), NOW).await
    }

    pub(crate) fn raw(&self) -> Raw {
        match self {
            Self::Sqlite(directory) => {
                let path = directory.path().join("akamu.db");
                Raw::Sqlite(SqliteConnection::establish(path.to_str().unwrap()).unwrap())
            }
            Self::Postgres(it) => Raw::Postgres(PgConnection::establish(&it.url()).unwrap()),
        }
    }
}

impl Database {
    pub(crate) async fn new(place: Place) -> Self {
        Self { store: place.open().await.unwrap(), place }
    }

    pub(crate) const fn place(&self) -> &Place {
        &self.place
    }

    pub(crate) fn raw(&self) -> Raw {
        self.place.raw()
    }

    pub(crate) fn options(&self) -> StoreOptions {
        self.place.options()
    }

    /// Where the file is.
    pub(crate) fn directory(&self) -> &std::path::Path {
        match &self.place {
            Place::Sqlite(directory) => directory.path(),
            Place::Postgres(_) => panic!("a file is SQLite's"),
        }
    }

    /// Three stores, as three processes have them. On SQLite they are one.
    pub(crate) async fn replicas(&self) -> [Store; 3] {
        let [second, third] = [self.another_replica(Duration::ZERO).await, self.another_replica(Duration::ZERO).await];
        [self.store.clone(), second.0, third.0]
    }

    /// A store that another process could have, `later` than [`NOW`], and that time. On SQLite it is the same one, which
    /// has the database for itself.
    pub(crate) async fn another_replica(&self, later: Duration) -> (Store, Timestamp) {
        let now = NOW.plus(later);
        match &self.place {
            Place::Sqlite(_) => (self.store.clone(), now),
            Place::Postgres(_) => {
                let offset = i64::try_from(later.as_micros()).unwrap();
                let options = self.place.options().clock_offset_micros(offset);
                (Store::open(options, now).await.unwrap(), now)
            }
        }
    }
}

/// Waits until `count` transactions of this database wait for a lock.
pub(crate) async fn until_blocked(raw: &mut Raw, count: i64) {
    loop {
        let sql = "SELECT count(*) AS number FROM pg_stat_activity \
                   WHERE datname = current_database() AND wait_event_type = 'Lock'";
        if raw.number(sql) == count {
            return;
        }
        tokio::task::yield_now().await;
    }
}

/// Octets as both databases write them.
pub(crate) fn hex(octets: &[u8]) -> String {
    octets.iter().fold(String::new(), |mut text, octet| {
        let _ = write!(text, "{octet:02x}");
        text
    })
}

/// Runs each body on both databases.
macro_rules! on_both_databases {
    ($(async fn $name:ident($database:ident) $body:block)*) => { $(
        mod $name {
            #[allow(unused_imports, reason = "not every body needs everything")]
            use super::*;

            async fn check($database: &$crate::database::Database) $body

            #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
            async fn sqlite() {
                check(&$crate::database::Database::new($crate::database::Place::sqlite()).await).await;
            }

            #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
            async fn postgres() {
                if let Some(place) = $crate::database::Place::postgres() {
                    check(&$crate::database::Database::new(place).await).await;
                }
            }
        }
    )* };
}
pub(crate) use on_both_databases;
