//! Where the database is, and how it is used.

use std::fmt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use crate::error::OpenError;
use crate::observer::{Observer, OperationRun};

/// Where the database is, and how it is used.
#[derive(Clone)]
pub struct StoreOptions {
    pub(crate) place: Place,
    pub(crate) connections: Connections,
    pub(crate) application_name: String,
    pub(crate) nonce_lifetime: Duration,
    pub(crate) clock_offset_micros: i64,
    pub(crate) random: fn(&mut [u8]),
    pub(crate) observer: Observer,
}

/// How many connections there are, and how long each thing may take.
#[derive(Clone, Debug)]
pub(crate) struct Connections {
    pub(crate) max: u32,
    pub(crate) min_idle: u32,
    pub(crate) lifetime: Duration,
    pub(crate) wait: Duration,
    pub(crate) statement_timeout: Duration,
    pub(crate) lock_timeout: Duration,
}

impl Connections {
    /// Without a 0: to the pool it would mean "none", to PostgreSQL "without limit".
    fn in_bounds(mut self) -> Self {
        self.max = self.max.max(1);
        self.min_idle = self.min_idle.clamp(1, self.max);
        for duration in [&mut self.lifetime, &mut self.wait, &mut self.statement_timeout, &mut self.lock_timeout] {
            *duration = (*duration).max(Duration::from_millis(1));
        }
        self
    }
}

#[derive(Clone)]
pub(crate) enum Place {
    Sqlite(PathBuf),
    Postgres(String),
}

impl StoreOptions {
    /// Reads a database URL: `sqlite://FILE` (or `sqlite:FILE`), relative to `data_dir`, or `postgres://…`.
    ///
    /// # Errors
    /// [`OpenError::BadUrl`].
    pub fn parse(url: &str, data_dir: &Path) -> Result<Self, OpenError> {
        let file = url.strip_prefix("sqlite://").or_else(|| url.strip_prefix("sqlite:"));
        let place = if let Some(file) = file.filter(|it| !it.is_empty() && !it.starts_with(':')) {
            Place::Sqlite(data_dir.join(file))
        } else if url.starts_with("postgres://") || url.starts_with("postgresql://") {
            Place::Postgres(url.to_owned())
        } else {
            // What follows the scheme may be a password.
            return Err(OpenError::BadUrl { scheme: url.split(':').next().unwrap_or_default().to_owned() });
        };
        Ok(Self {
            place,
            connections: Connections {
                max: 10,
                min_idle: 1,
                lifetime: Duration::from_secs(1800),
                wait: Duration::from_secs(5),
                statement_timeout: Duration::from_secs(10),
                lock_timeout: Duration::from_secs(5),
            },
            application_name: "akamu-server".to_owned(),
            nonce_lifetime: Duration::from_secs(3600),
            clock_offset_micros: 0,
            random: system_random,
            observer: Observer::default(),
        })
    }

    /// The most connections at once; on SQLite the most that read, of which there are no more than processors, or two.
    /// 10 by default.
    #[must_use]
    pub const fn max_connections(mut self, max: u32) -> Self {
        self.connections.max = max;
        self
    }

    /// The connections that PostgreSQL's pool keeps open while nobody uses them, at least. 1 by default.
    #[must_use]
    pub const fn min_idle_connections(mut self, min: u32) -> Self {
        self.connections.min_idle = min;
        self
    }

    /// How old a connection to PostgreSQL may get; an older one is closed once it is idle. Half an hour by default.
    #[must_use]
    pub const fn connection_lifetime(mut self, lifetime: Duration) -> Self {
        self.connections.lifetime = lifetime;
        self
    }

    /// How long an operation waits for a connection. 5 s by default.
    #[must_use]
    pub const fn connection_wait(mut self, wait: Duration) -> Self {
        self.connections.wait = wait;
        self
    }

    /// How long PostgreSQL may work on a statement. 10 s by default.
    #[must_use]
    pub const fn statement_timeout(mut self, timeout: Duration) -> Self {
        self.connections.statement_timeout = timeout;
        self
    }

    /// How long a statement waits for another one's lock. 5 s by default.
    #[must_use]
    pub const fn lock_timeout(mut self, timeout: Duration) -> Self {
        self.connections.lock_timeout = timeout;
        self
    }

    /// What PostgreSQL calls our connections, unless the URL names it. "akamu-server" by default.
    #[must_use]
    pub fn application_name(mut self, name: impl Into<String>) -> Self {
        self.application_name = name.into();
        self
    }

    /// How connections are made and used.
    pub(crate) fn connections(&self) -> Connections {
        self.connections.clone().in_bounds()
    }

    /// How long a nonce may be used. An hour by default.
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

    /// Draws lease tokens, nonces and their keys from another source than the system's.
    #[must_use]
    pub fn random(mut self, random: fn(&mut [u8])) -> Self {
        self.random = random;
        self
    }

    /// Tells `observe` of every run of an operation, on the thread that ran it.
    #[must_use]
    pub fn observe(mut self, observe: impl Fn(OperationRun) + Send + Sync + 'static) -> Self {
        self.observer = Observer::new(observe);
        self
    }

    /// The file of the embedded database, which one process has for itself; `None` on PostgreSQL.
    pub fn sqlite_file(&self) -> Option<&Path> {
        match &self.place {
            Place::Sqlite(file) => Some(file),
            Place::Postgres(_) => None,
        }
    }
}

impl fmt::Debug for StoreOptions {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // A URL may hold a password.
        let place: &dyn fmt::Debug = match &self.place {
            Place::Sqlite(path) => path,
            Place::Postgres(_) => &"postgres",
        };
        f.debug_struct("StoreOptions")
            .field("place", place)
            .field("connections", &self.connections)
            .field("application_name", &self.application_name)
            .finish_non_exhaustive()
    }
}

fn system_random(octets: &mut [u8]) {
    aws_lc_rs::rand::fill(octets).expect("aws-lc-rs aborts by itself where the system has no randomness");
}

#[cfg(test)]
mod tests {
    use super::*;

    fn place(url: &str) -> Option<Place> {
        StoreOptions::parse(url, Path::new("/data")).ok().map(|it| it.place)
    }

    #[test]
    fn sqlite_files_are_relative_to_the_data_directory() {
        for (url, expect) in [
            ("sqlite://akamu.db", "/data/akamu.db"),
            ("sqlite:akamu.db", "/data/akamu.db"),
            ("sqlite:///var/lib/akamu.db", "/var/lib/akamu.db"),
        ] {
            assert!(matches!(place(url), Some(Place::Sqlite(path)) if path == Path::new(expect)), "{url}");
        }
    }

    #[test]
    fn other_urls_are_refused_without_showing_their_password() {
        for url in ["", "sqlite://", "sqlite::memory:", "mysql://root:secret@host/db", "akamu.db"] {
            let error = StoreOptions::parse(url, Path::new("/data")).unwrap_err();
            assert!(matches!(error, OpenError::BadUrl { .. }), "{url}");
            assert!(!error.to_string().contains("secret"), "{error}");
        }
        let options = StoreOptions::parse("postgres://user:secret@host/db", Path::new("/data")).unwrap();
        assert!(!format!("{options:?}").contains("secret"));
    }
}
