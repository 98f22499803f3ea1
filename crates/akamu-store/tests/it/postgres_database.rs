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
    pub(crate) server: String,
    pub(crate) name: String,
    /// Who connects, where it is not the superuser.
    pub(crate) user: Option<String>,
}

/// The superuser's URL; `None` where there is no PostgreSQL to test on, and standard error says so.
pub(crate) fn server() -> Option<String> {
    static LEFT_OUT: Once = Once::new();
    let server = std::env::var(SERVER).ok();
    if server.is_none() {
        // Not by eprintln!, whose output the test harness keeps to itself.
        LEFT_OUT.call_once(|| {
            let _ = writeln!(std::io::stderr(), "LEFT OUT: the tests on PostgreSQL, because {SERVER} is not set");
        });
    }
    server
}

pub(crate) fn new_name() -> String {
    static NEXT: AtomicU32 = AtomicU32::new(0);
    format!("akamu_{}_{}", std::process::id(), NEXT.fetch_add(1, Ordering::Relaxed))
}

impl PostgresDatabase {
    /// `None` where there is no PostgreSQL to test on.
    pub(crate) fn new() -> Option<Self> {
        let (server, name) = (server()?, new_name());
        let mut connection = PgConnection::establish(&server).expect("AKAMU_TEST_POSTGRES_URL can be reached");
        connection.batch_execute(&format!("CREATE DATABASE {name}")).unwrap();
        Some(Self { server, name, user: None })
    }

    pub(crate) fn url(&self) -> String {
        let (address, query) = match self.server.split_once('?') {
            Some((address, query)) => (address, format!("?{query}")),
            None => (self.server.as_str(), String::new()),
        };
        let (host, _) = address.rsplit_once('/').expect("AKAMU_TEST_POSTGRES_URL ends with /DATABASE");
        let (scheme, authority) = host.split_once("://").expect("AKAMU_TEST_POSTGRES_URL is a URL");
        let authority = match &self.user {
            Some(user) => format!("{user}:secret@{}", authority.rsplit('@').next().unwrap_or_default()),
            None => authority.to_owned(),
        };
        format!("{scheme}://{authority}/{}{query}", self.name)
    }
}

impl Drop for PostgresDatabase {
    fn drop(&mut self) {
        let mut server = PgConnection::establish(&self.server).unwrap();
        server.batch_execute(&format!("DROP DATABASE {} WITH (FORCE)", self.name)).unwrap();
        // Those that a test may have made for it.
        server.batch_execute(&format!("DROP ROLE IF EXISTS {0}_owner, {0}_server", self.name)).unwrap();
    }
}
