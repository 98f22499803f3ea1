//! A database of a test's own on the throwaway PostgreSQL.

use std::io::Write as _;
use std::sync::Once;
use std::sync::atomic::{AtomicU32, Ordering};

use diesel::connection::SimpleConnection as _;
use diesel::{Connection as _, PgConnection};

/// Names a superuser's database on a throwaway cluster: `cargo xtask test` sets it.
const SERVER: &str = "AKAMU_TEST_POSTGRES_URL";

/// A new database. Dropped, it is gone.
pub(crate) struct PostgresDatabase {
    server: String,
    name: String,
}

impl PostgresDatabase {
    /// `None` where there is no PostgreSQL to test on; standard error says so.
    pub(crate) fn new() -> Option<Self> {
        static LEFT_OUT: Once = Once::new();
        static NEXT: AtomicU32 = AtomicU32::new(0);
        let Ok(server) = std::env::var(SERVER) else {
            // Not by eprintln!, whose output the test harness keeps to itself.
            LEFT_OUT.call_once(|| {
                let _ = writeln!(std::io::stderr(), "LEFT OUT: the tests on PostgreSQL, because {SERVER} is not set");
            });
            return None;
        };
        let name = format!("akamu_{}_{}", std::process::id(), NEXT.fetch_add(1, Ordering::Relaxed));
        let mut connection = PgConnection::establish(&server).expect("AKAMU_TEST_POSTGRES_URL can be reached");
        connection.batch_execute(&format!("CREATE DATABASE {name}")).unwrap();
        Some(Self { server, name })
    }

    pub(crate) fn url(&self) -> String {
        let (address, query) = match self.server.split_once('?') {
            Some((address, query)) => (address, format!("?{query}")),
            None => (self.server.as_str(), String::new()),
        };
        let (host, _) = address.rsplit_once('/').expect("AKAMU_TEST_POSTGRES_URL ends with /DATABASE");
        format!("{host}/{}{query}", self.name)
    }
}

impl Drop for PostgresDatabase {
    fn drop(&mut self) {
        let mut server = PgConnection::establish(&self.server).unwrap();
        server.batch_execute(&format!("DROP DATABASE {} WITH (FORCE)", self.name)).unwrap();
    }
}
