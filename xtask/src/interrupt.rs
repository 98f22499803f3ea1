//! What must be undone even when somebody presses Ctrl-C: a signal would end this program without running any `drop`.

use std::fmt;
use std::process;
use std::sync::{Mutex, Once, PoisonError};
use std::thread;

use tokio::runtime;
use tokio::signal::unix::{SignalKind, signal};

/// What is to be undone, the newest last.
static PENDING: Mutex<Vec<Pending>> = Mutex::new(Vec::new());

struct Pending {
    id: u64,
    undo: Box<dyn FnOnce() + Send>,
}

/// Undoes something when dropped, or when this program is told to end.
pub(crate) struct Undone {
    id: u64,
}

impl Undone {
    /// Promises that `undo` runs, once.
    pub(crate) fn at_the_end(undo: impl FnOnce() + Send + 'static) -> Self {
        static WATCH: Once = Once::new();
        WATCH.call_once(|| drop(thread::spawn(undo_all_when_interrupted)));
        let mut pending = PENDING.lock().unwrap_or_else(PoisonError::into_inner);
        let id = pending.last().map_or(0, |newest| newest.id + 1);
        pending.push(Pending { id, undo: Box::new(undo) });
        Self { id }
    }
}

impl fmt::Debug for Undone {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Undone").field("id", &self.id).finish()
    }
}

impl Drop for Undone {
    fn drop(&mut self) {
        let mut pending = PENDING.lock().unwrap_or_else(PoisonError::into_inner);
        let found = pending.iter().position(|other| other.id == self.id);
        let own = found.map(|position| pending.remove(position));
        // It may take a while, and may itself drop another.
        drop(pending);
        if let Some(own) = own {
            (own.undo)();
        }
    }
}

#[expect(clippy::exit, reason = "the main thread waits for a child that may not end")]
fn undo_all_when_interrupted() {
    // Without a handler Ctrl-C ends us as it always did.
    let Ok(runtime) = runtime::Builder::new_current_thread().enable_io().build() else { return };
    let code = runtime.block_on(async {
        let mut interrupt = signal(SignalKind::interrupt()).ok()?;
        let mut terminate = signal(SignalKind::terminate()).ok()?;
        tokio::select! {
            _ = interrupt.recv() => Some(130),
            _ = terminate.recv() => Some(143),
        }
    });
    let Some(code) = code else { return };
    loop {
        let newest = PENDING.lock().unwrap_or_else(PoisonError::into_inner).pop();
        let Some(newest) = newest else { process::exit(code) };
        (newest.undo)();
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;
    use std::sync::atomic::{AtomicU32, Ordering};

    use super::*;

    #[test]
    fn what_was_promised_happens_once_when_dropped() {
        let count = Arc::new(AtomicU32::new(0));
        let adds = |number| {
            let count = Arc::clone(&count);
            Undone::at_the_end(move || {
                count.fetch_add(number, Ordering::Relaxed);
            })
        };
        let outer = adds(1);
        drop(adds(10));
        assert_eq!(count.load(Ordering::Relaxed), 10);
        drop(outer);
        assert_eq!(count.load(Ordering::Relaxed), 11);
    }
}
