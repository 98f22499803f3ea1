//! What failures say of the file: an error's source names it, and a ping answers by what was seen.

use std::path::PathBuf;
use std::sync::{Mutex, PoisonError};

use crate::error::StoreError;

/// What is known of the file.
pub(super) struct Health {
    path: PathBuf,
    state: Mutex<State>,
}

/// Each is worse than the one before it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum State {
    Good,
    /// The newest write failed; the next one may succeed.
    Unwritable,
    /// Something in it is not what SQLite wrote. That does not pass while a server runs on it.
    Damaged,
}

/// What is said of a file, with its name and with what to do.
#[derive(Debug, thiserror::Error)]
#[error("{}: {cause}{advice}", path.display())]
struct OfFile {
    path: PathBuf,
    cause: Box<dyn std::error::Error + Send + Sync>,
    advice: &'static str,
}

impl Health {
    pub(super) const fn of(path: PathBuf) -> Self {
        Self { path, state: Mutex::new(State::Good) }
    }

    pub(super) fn state(&self) -> State {
        *self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Learns from what came of a read.
    pub(super) fn read<T>(&self, outcome: Result<T, StoreError>) -> Result<T, StoreError> {
        outcome.map_err(|error| {
            let is_damage = error.is_damage();
            if is_damage {
                self.set(State::Damaged);
            }
            self.named(error, is_damage)
        })
    }

    /// Learns from what came of a write.
    pub(super) fn written<T>(&self, outcome: Result<T, StoreError>) -> Result<T, StoreError> {
        match &outcome {
            Ok(_) => self.set(State::Good),
            Err(StoreError::Unavailable(_)) => self.set(State::Unwritable),
            Err(_) => {}
        }
        self.read(outcome)
    }

    fn set(&self, to: State) {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        if *state < State::Damaged {
            *state = to;
        }
    }

    fn named(&self, error: StoreError, is_damage: bool) -> StoreError {
        error.map_cause(|cause| {
            let advice = match cause.to_string() {
                _ if is_damage => "; restore a backup",
                text if text.contains("disk is full") => "; make room on its file system",
                _ => "",
            };
            Box::new(OfFile { path: self.path.clone(), cause, advice })
        })
    }

    /// What a ping is told.
    pub(super) fn damaged(&self) -> StoreError {
        self.named(StoreError::Corrupt("is damaged, as an earlier request has found".into()), true)
    }
}
