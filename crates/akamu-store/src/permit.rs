//! The right to wait for a connection or to use one: there are so many, and an operation waits so long for one.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use crate::error::StoreError;

/// Takes a permit; `wait` is all the time for that.
pub(crate) async fn permit(permits: &Arc<Semaphore>, wait: Duration) -> Result<OwnedSemaphorePermit, StoreError> {
    match tokio::time::timeout(wait, permits.clone().acquire_owned()).await {
        Ok(Ok(permit)) => Ok(permit),
        Ok(Err(_)) => Err(StoreError::Closed),
        Err(elapsed) => Err(StoreError::Unavailable(Box::new(elapsed))),
    }
}
