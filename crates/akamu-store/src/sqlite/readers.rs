//! Threads that read, each with a connection of its own. No more than there are processors: a busy one takes the next read
//! with its connection's pages in the processor's cache. (docs/src/decisions/database-threads.md)

use std::path::{Path, PathBuf};
use std::thread;
use std::time::Duration;

use diesel::connection::SimpleConnection as _;
use diesel::r2d2::R2D2Connection as _;

use crate::connection::{AnyConnection, DbResult};
use crate::error::StoreError;
use crate::observer::Observer;
use crate::sqlite::establish;
use crate::threads::Threads;

/// The way to the threads.
pub(super) struct Readers {
    threads: Threads<Reader>,
    observer: Observer,
}

impl Readers {
    /// Starts at most `most` threads. They end, closing their connections, when they are told to, or when this is gone.
    pub(super) fn start(path: &Path, most: u32, wait: Duration, observer: Observer) -> std::io::Result<Self> {
        let most = usize::try_from(most).unwrap_or(usize::MAX);
        // Two where there is one processor: a read may take long.
        let count = thread::available_parallelism().map_or(2, usize::from).max(2).min(most).max(1);
        let readers = (0..count).map(|_| Reader { path: path.to_owned(), connection: None });
        Ok(Self { threads: Threads::start("akamu-reader", readers, wait)?, observer })
    }

    /// Hands an operation over and returns what it read.
    pub(super) async fn run<T, F>(&self, name: &'static str, operation: F) -> Result<T, StoreError>
    where
        T: Send + 'static,
        F: FnOnce(&mut AnyConnection) -> DbResult<T> + Send + 'static,
    {
        let observer = self.observer.clone();
        self.threads.run(move |reader| reader.run(|connection| observer.timed(name, || operation(connection)))).await
    }

    /// Tells the threads to end after what waits now, and waits until their connections are closed.
    pub(super) async fn close(&self) {
        self.threads.close().await;
    }
}

/// A thread's connection, made when it is needed first.
struct Reader {
    path: PathBuf,
    connection: Option<AnyConnection>,
}

impl Reader {
    /// An operation that panics takes the connection with it.
    fn run<T>(&mut self, operation: impl FnOnce(&mut AnyConnection) -> DbResult<T>) -> Result<T, StoreError> {
        let mut connection = match self.connection.take() {
            Some(connection) => connection,
            None => self.open()?,
        };
        let outcome = operation(&mut connection);
        if !connection.is_broken() {
            self.connection = Some(connection);
        }
        outcome.map_err(StoreError::from)
    }

    fn open(&self) -> Result<AnyConnection, StoreError> {
        let opened = establish(&self.path).map_err(|error| StoreError::Unavailable(Box::new(error)));
        let mut connection = opened?;
        connection.batch_execute("PRAGMA query_only = ON").map_err(StoreError::from)?;
        Ok(connection)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// One thread on a new file.
    fn one() -> (tempfile::TempDir, Readers) {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("akamu.db");
        drop(establish(&path).unwrap());
        let readers = Readers::start(&path, 1, Duration::from_secs(60), Observer::default()).unwrap();
        (directory, readers)
    }

    #[tokio::test]
    async fn a_panic_fails_its_own_read_alone() {
        let (_directory, readers) = one();
        let failed = readers.run::<(), _>("test", |_| panic!("no such luck")).await;
        assert!(matches!(failed, Err(StoreError::Failed(_))), "{failed:?}");
        readers.run("test", |connection| connection.batch_execute("SELECT 1")).await.unwrap();
    }

    #[tokio::test]
    async fn nobody_writes_on_a_reader() {
        let (_directory, readers) = one();
        let refused = readers.run("test", |it| it.batch_execute("CREATE TABLE t (x)")).await;
        assert!(refused.is_err());
    }
}
