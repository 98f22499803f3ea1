//! The steps of one lookup, for the report.

use std::mem;
use std::sync::{Arc, Mutex, PoisonError};

use crate::Event;

/// What was asked so far. Clones are the same list: a question that is given up from outside, wherever it is under way,
/// still tells that it was asked.
#[derive(Clone, Debug, Default)]
pub(super) struct Steps(Arc<Mutex<Vec<Event>>>);

impl Steps {
    pub(super) fn push(&self, step: Event) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).push(step);
    }

    /// All steps; none are left.
    pub(super) fn take(&self) -> Vec<Event> {
        mem::take(&mut *self.0.lock().unwrap_or_else(PoisonError::into_inner))
    }
}
