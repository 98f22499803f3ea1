//! How late this process itself is: on a busy machine a client sees an answer or a closing later than it came.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use tokio::task::{AbortHandle, spawn};
use tokio::time::sleep;

/// Between two looks.
const PAUSE: Duration = Duration::from_millis(50);

/// Looks from its making until it is dropped.
#[derive(Debug)]
pub(super) struct Lateness {
    longest_ms: Arc<AtomicU64>,
    looking: AbortHandle,
}

impl Lateness {
    pub(super) fn watch() -> Self {
        let longest_ms = Arc::<AtomicU64>::default();
        let longest = Arc::clone(&longest_ms);
        let looking = spawn(async move {
            loop {
                let asked = Instant::now();
                sleep(PAUSE).await;
                let late = asked.elapsed().saturating_sub(PAUSE);
                longest.fetch_max(u64::try_from(late.as_millis()).unwrap_or(u64::MAX), Ordering::Relaxed);
            }
        });
        Self { longest_ms, looking: looking.abort_handle() }
    }

    /// The longest that anything here waited for its turn.
    pub(super) fn longest(&self) -> Duration {
        Duration::from_millis(self.longest_ms.load(Ordering::Relaxed))
    }
}

impl Drop for Lateness {
    fn drop(&mut self) {
        self.looking.abort();
    }
}
