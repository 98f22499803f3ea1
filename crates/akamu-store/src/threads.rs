//! Threads for what blocks, as a database does. They take it from one queue, and a busy one takes the next without being
//! woken. (docs/src/decisions/database-threads.md)

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use crossbeam_channel::{Receiver, Sender};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, oneshot};
use tokio::time::{Instant, timeout_at};

use crate::error::StoreError;

/// Operations that may wait in the queue, for each thread, before their callers are held back.
const QUEUE: usize = 64;

/// The way to threads that have a `C` each.
pub(crate) struct Threads<C> {
    queue: Mutex<Option<Sender<Work<C>>>>,
    threads: Mutex<Vec<JoinHandle<()>>>,
    /// For what waits in the queue or runs.
    permits: Arc<Semaphore>,
    wait: Duration,
}

type Work<C> = Box<dyn FnOnce(&mut C) + Send>;

impl<C: Send + 'static> Threads<C> {
    /// Starts a thread for each context. They end when they are told to, or when this is gone. An operation waits `wait`
    /// for one.
    pub(crate) fn start(name: &str, contexts: impl IntoIterator<Item = C>, wait: Duration) -> std::io::Result<Self> {
        let (queue, waiting) = crossbeam_channel::unbounded();
        let start = |(number, context)| {
            let waiting = waiting.clone();
            thread::Builder::new().name(format!("{name}-{number}")).spawn(move || work(context, &waiting))
        };
        let threads = contexts.into_iter().enumerate().map(start).collect::<Result<Vec<_>, _>>()?;
        let permits = Arc::new(Semaphore::new(threads.len() * QUEUE));
        Ok(Self { queue: Mutex::new(Some(queue)), threads: Mutex::new(threads), permits, wait })
    }

    /// Runs an operation on the next thread that is free, and returns what came of it.
    pub(crate) async fn run<T, F>(&self, operation: F) -> Result<T, StoreError>
    where
        T: Send + 'static,
        F: FnOnce(&mut C) -> Result<T, StoreError> + Send + 'static,
    {
        let until = Instant::now() + self.wait;
        let permit = self.permit(until).await?;
        let (reply, mut answer) = oneshot::channel();
        // Set by the thread that begins with it, or by a caller who does not wait any more.
        let is_taken = Arc::new(AtomicBool::new(false));
        let work = {
            let is_taken = is_taken.clone();
            move |context: &mut C| {
                if is_taken.swap(true, Ordering::Relaxed) {
                    return;
                }
                // A panic here would end later operations with it.
                let outcome = catch_unwind(AssertUnwindSafe(|| operation(context)))
                    .unwrap_or_else(|_| Err(StoreError::Failed("the operation panicked".into())));
                drop(permit);
                // A caller that has gone away wants no answer.
                let _ = reply.send(outcome);
            }
        };
        self.send(Box::new(work))?;
        let answered = match timeout_at(until, &mut answer).await {
            Ok(answered) => answered,
            Err(elapsed) if !is_taken.swap(true, Ordering::Relaxed) => return Err(unavailable(elapsed)),
            Err(_) => answer.await,
        };
        answered.unwrap_or(Err(StoreError::Closed))
    }

    /// Runs what answers its callers itself, on the next thread that is free; nobody waits for it. Where it panics it is
    /// dropped.
    pub(crate) fn hand_over(&self, work: impl FnOnce(&mut C) + Send + 'static) -> Result<(), StoreError> {
        self.send(Box::new(|context| drop(catch_unwind(AssertUnwindSafe(|| work(context))))))
    }

    /// The right to wait in the queue.
    pub(crate) async fn permit(&self, until: Instant) -> Result<OwnedSemaphorePermit, StoreError> {
        match timeout_at(until, self.permits.clone().acquire_owned()).await {
            Ok(permit) => permit.map_err(|_| StoreError::Closed),
            Err(elapsed) => Err(unavailable(elapsed)),
        }
    }

    /// The queue has no end of its own, so nothing waits here.
    fn send(&self, work: Work<C>) -> Result<(), StoreError> {
        let queue = self.queue.lock().unwrap_or_else(PoisonError::into_inner);
        queue.as_ref().and_then(|it| it.send(work).ok()).ok_or(StoreError::Closed)
    }

    /// Tells the threads to end after what waits now, and waits until they have dropped what they have.
    pub(crate) async fn close(&self) {
        drop(self.queue.lock().unwrap_or_else(PoisonError::into_inner).take());
        let threads = std::mem::take(&mut *self.threads.lock().unwrap_or_else(PoisonError::into_inner));
        let _ = tokio::task::spawn_blocking(|| threads.into_iter().for_each(|it| drop(it.join()))).await;
    }
}

fn work<C>(mut context: C, waiting: &Receiver<Work<C>>) {
    while let Ok(work) = waiting.recv() {
        work(&mut context);
    }
}

pub(crate) fn unavailable(elapsed: tokio::time::error::Elapsed) -> StoreError {
    StoreError::Unavailable(Box::new(elapsed))
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc;

    use tokio::task::JoinHandle;

    use super::*;

    const MINUTE: Duration = Duration::from_secs(60);

    /// One thread, which counts what it runs.
    fn one() -> Arc<Threads<usize>> {
        Arc::new(Threads::start("test", [0], MINUTE).unwrap())
    }

    fn run(
        threads: &Arc<Threads<usize>>,
        operation: impl FnOnce() + Send + 'static,
    ) -> JoinHandle<Result<usize, StoreError>> {
        let threads = threads.clone();
        let operation = |count: &mut usize| {
            operation();
            *count += 1;
            Ok(*count)
        };
        tokio::spawn(async move { threads.run(operation).await })
    }

    #[tokio::test]
    async fn a_panic_fails_its_own_operation_alone() {
        let threads = one();
        let failed = run(&threads, || panic!("no such luck")).await.unwrap();
        assert!(matches!(failed, Err(StoreError::Failed(_))), "{failed:?}");
        assert_eq!(run(&threads, || {}).await.unwrap().unwrap(), 1);
    }

    #[tokio::test]
    async fn a_panic_of_what_nobody_waits_for_ends_no_thread() {
        let threads = one();
        threads.hand_over(|_| panic!("no such luck")).unwrap();
        assert_eq!(run(&threads, || {}).await.unwrap().unwrap(), 1);
    }

    #[tokio::test]
    async fn who_finds_the_thread_busy_waits_so_long_and_what_it_wanted_is_not_run() {
        let threads = one();
        let (begun, has_begun) = oneshot::channel();
        let (release, released) = mpsc::channel::<()>();
        let first = run(&threads, move || {
            begun.send(()).unwrap();
            released.recv().unwrap_or_default();
        });
        has_begun.await.unwrap();
        tokio::time::pause();
        let start = Instant::now();
        // The last one finds that too many wait already.
        let waiting: Vec<_> = (0..QUEUE).map(|_| run(&threads, || {})).collect();
        for it in waiting {
            let refused = it.await.unwrap();
            assert!(matches!(refused, Err(StoreError::Unavailable(_))), "{refused:?}");
        }
        assert_eq!(start.elapsed().as_secs(), 60);
        drop(release);
        assert_eq!(first.await.unwrap().unwrap(), 1);
        tokio::time::resume();
        assert_eq!(run(&threads, || {}).await.unwrap().unwrap(), 2);
    }

    #[tokio::test]
    async fn closed_threads_run_nothing_more() {
        let threads = one();
        threads.close().await;
        let closed = run(&threads, || {}).await.unwrap();
        assert!(matches!(closed, Err(StoreError::Closed)), "{closed:?}");
    }
}
