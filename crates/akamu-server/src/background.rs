//! What the log says of work that no request waits for.

use akamu_store::StoreError;

/// Says that the store refused such work. An outage is told of by the store itself: not once more by each task that
/// meets it.
pub(crate) fn failed(error: &StoreError, what: &str) {
    match error {
        StoreError::Outage(_) => tracing::debug!(%error, "{what}"),
        _ => tracing::warn!(%error, cause = ?error, "{what}"),
    }
}
