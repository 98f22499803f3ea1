//! Threads that read, each with a connection of its own. No more than there are processors: a busy one takes the next read
//! without being woken, with its connection's pages in the processor's cache. (docs/src/decisions/readers-are-threads.md)

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use crossbeam_channel::{Receiver, Sender};
use diesel::connection::SimpleConnection as _;
use diesel::r2d2::R2D2Connection as _;
use tokio::sync::{Semaphore, oneshot};

use crate::connection::{AnyConnection, DbResult};
use crate::error::StoreError;
use crate::observer::Observer;
use crate::permit::permit;
use crate::sqlite::establish;

/// Operations that may wait, for each thread, before their callers are held back.
const QUEUE: usize = 64;

/// The way to the threads.
pub(super) struct Readers {
    queue: Mutex<Option<Sender<Work>>>,
    threads: Mutex<Vec<JoinHandle<()>>>,
    /// For what waits or runs.
    permits: Arc<Semaphore>,
    wait: Duration,
    observer: Observer,
}

type Work = Box<dyn FnOnce(&mut Reader) + Send>;

impl Readers {
    /// Starts at most `most` threads. They end, closing their connections, when they are told to, or when this is gone.
    pub(super) fn start(path: &Path, most: u32, wait: Duration, observer: Observer) -> std::io::Result<Self> {
        let most = usize::try_from(most).unwrap_or(usize::MAX);
        // Two where there is one processor: a read may take long.
        let count = thread::available_parallelism().map_or(2, usize::from).max(2).min(most).max(1);
        let (queue, waiting) = crossbeam_channel::unbounded();
        let start = |number| {
            let (reader, waiting) = (Reader { path: path.to_owned(), connection: None }, waiting.clone());
            thread::Builder::new().name(format!("akamu-reader-{number}")).spawn(move || reader.work(&waiting))
        };
        let threads = (0..count).map(start).collect::<Result<_, _>>()?;
        let permits = Arc::new(Semaphore::new(count * QUEUE));
        Ok(Self { queue: Mutex::new(Some(queue)), threads: Mutex::new(threads), permits, wait, observer })
    }

    /// Hands an operation over, waiting where too many wait already, and returns what it read.
    pub(super) async fn run<T, F>(&self, name: &'static str, operation: F) -> Result<T, StoreError>
    where
        T: Send + 'static,
        F: FnOnce(&mut AnyConnection) -> DbResult<T> + Send + 'static,
    {
        let permit = permit(&self.permits, self.wait).await?;
        let (reply, answer) = oneshot::channel();
        let observer = self.observer.clone();
        let work = move |reader: &mut Reader| {
            let outcome = reader.run(|connection| observer.timed(name, || operation(connection)));
            drop(permit);
            // A caller that has gone away wants no answer.
            let _ = reply.send(outcome);
        };
        self.send(Box::new(work))?;
        answer.await.unwrap_or(Err(StoreError::Closed))
    }

    /// The queue has no end of its own, so nothing waits here.
    fn send(&self, work: Work) -> Result<(), StoreError> {
        let queue = self.queue.lock().unwrap_or_else(PoisonError::into_inner);
        queue.as_ref().and_then(|it| it.send(work).ok()).ok_or(StoreError::Closed)
    }

    /// Tells the threads to end after what waits now, and waits until their connections are closed.
    pub(super) async fn close(&self) {
        drop(self.queue.lock().unwrap_or_else(PoisonError::into_inner).take());
        let threads = std::mem::take(&mut *self.threads.lock().unwrap_or_else(PoisonError::into_inner));
        let _ = tokio::task::spawn_blocking(|| threads.into_iter().for_each(|it| drop(it.join()))).await;
    }
}

/// A thread's connection, made when it is needed first.
struct Reader {
    path: PathBuf,
    connection: Option<AnyConnection>,
}

impl Reader {
    fn work(mut self, waiting: &Receiver<Work>) {
        while let Ok(work) = waiting.recv() {
            work(&mut self);
        }
    }

    fn run<T>(&mut self, operation: impl FnOnce(&mut AnyConnection) -> DbResult<T>) -> Result<T, StoreError> {
        let mut connection = match self.connection.take() {
            Some(connection) => connection,
            None => self.open()?,
        };
        // A panic here would end later reads with it.
        let Ok(outcome) = catch_unwind(AssertUnwindSafe(|| operation(&mut connection))) else {
            return Err(StoreError::Failed("the operation panicked".into()));
        };
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
    use std::sync::mpsc;

    use super::*;

    /// One thread on a new file.
    fn one(wait: Duration) -> (tempfile::TempDir, Arc<Readers>) {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("akamu.db");
        drop(establish(&path).unwrap());
        let readers = Readers::start(&path, 1, wait, Observer::default()).unwrap();
        (directory, Arc::new(readers))
    }

    #[tokio::test]
    async fn a_panic_fails_its_own_read_alone() {
        let (_directory, readers) = one(Duration::from_secs(60));
        let failed = readers.run::<(), _>("test", |_| panic!("no such luck")).await;
        assert!(matches!(failed, Err(StoreError::Failed(_))), "{failed:?}");
        readers.run("test", |connection| connection.batch_execute("SELECT 1")).await.unwrap();
    }

    #[tokio::test]
    async fn nobody_writes_on_a_reader() {
        let (_directory, readers) = one(Duration::from_secs(60));
        let refused = readers.run("test", |it| it.batch_execute("CREATE TABLE t (x)")).await;
        assert!(refused.is_err());
    }

    #[tokio::test]
    async fn who_finds_too_many_waiting_waits_so_long_and_no_longer() {
        let (_directory, readers) = one(Duration::from_secs(60));
        let (release, released) = mpsc::channel::<()>();
        let run = |operation: Box<dyn FnOnce() + Send>| {
            let readers = readers.clone();
            let operation = |_: &mut AnyConnection| {
                operation();
                Ok(())
            };
            tokio::spawn(async move { readers.run("test", operation).await })
        };
        let mut waiting = vec![run(Box::new(move || released.recv().unwrap_or_default()))];
        waiting.extend((1..QUEUE).map(|_| run(Box::new(|| {}))));
        tokio::task::yield_now().await;
        tokio::time::pause();
        let begun = tokio::time::Instant::now();
        let refused = run(Box::new(|| {})).await.unwrap();
        assert!(matches!(refused, Err(StoreError::Unavailable(_))), "{refused:?}");
        assert_eq!(begun.elapsed().as_secs(), 60);
        drop(release);
        for it in waiting {
            it.await.unwrap().unwrap();
        }
        run(Box::new(|| {})).await.unwrap().unwrap();
    }

    #[tokio::test]
    async fn a_closed_one_reads_nothing_more() {
        let (_directory, readers) = one(Duration::from_secs(60));
        readers.close().await;
        let closed = readers.run("test", |_| Ok(())).await;
        assert!(matches!(closed, Err(StoreError::Closed)), "{closed:?}");
    }
}
