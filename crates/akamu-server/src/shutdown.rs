//! The word that the server stops, as its tasks hear it.

use tokio::sync::watch;

/// Returns once the server stops; also where whoever would say so is gone.
pub(crate) async fn stopped(stop: &mut watch::Receiver<bool>) {
    // The guard that `wait_for` returns must not live across an await.
    drop(stop.wait_for(|stop| *stop).await);
}
