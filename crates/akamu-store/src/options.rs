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
    pub(crate) max_connections: u32,
    pub(crate) nonce_lifetime: Duration,
    pub(crate) clock_offset_micros: i64,
    pub(crate) random: fn(&mut [u8]),
    pub(crate) observer: Observer,
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
            Place::Postgres(with_timeouts(url))
        } else {
            // What follows the scheme may be a password.
            return Err(OpenError::BadUrl { scheme: url.split(':').next().unwrap_or_default().to_owned() });
        };
        Ok(Self {
            place,
            max_connections: 10,
            nonce_lifetime: Duration::from_secs(3600),
            clock_offset_micros: 0,
            random: system_random,
            observer: Observer::default(),
        })
    }

    /// The most connections at once; on SQLite the most readers. 10 by default.
    #[must_use]
    pub const fn max_connections(mut self, max: u32) -> Self {
        self.max_connections = max;
        self
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
        f.debug_struct("StoreOptions").field("place", place).finish_non_exhaustive()
    }
}

fn system_random(octets: &mut [u8]) {
    aws_lc_rs::rand::fill(octets).expect("aws-lc-rs aborts by itself where the system has no randomness");
}

/// Bounds how long a host that does not answer is waited for, where the URL says nothing of it: libpq's own defaults are
/// hours.
fn with_timeouts(url: &str) -> String {
    const DEFAULTS: [(&str, &str); 3] =
        [("connect_timeout", "5"), ("tcp_user_timeout", "15000"), ("keepalives_idle", "30")];
    let mut url = url.to_owned();
    for (name, value) in DEFAULTS {
        let query = url.split_once('?').map(|(_, query)| query);
        if query.is_some_and(|it| it.split('&').any(|it| it.split('=').next() == Some(name))) {
            continue;
        }
        let separator = match query {
            None => "?",
            Some("") => "",
            Some(_) => "&",
        };
        url.push_str(&format!("{separator}{name}={value}"));
    }
    url
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

    #[test]
    fn timeouts_of_the_url_win() {
        assert_eq!(
            with_timeouts("postgres://host/db"),
            "postgres://host/db?connect_timeout=5&tcp_user_timeout=15000&keepalives_idle=30"
        );
        assert_eq!(
            with_timeouts("postgres://host/db?connect_timeout=1&keepalives_idle=2"),
            "postgres://host/db?connect_timeout=1&keepalives_idle=2&tcp_user_timeout=15000"
        );
    }
}
