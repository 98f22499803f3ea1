//! Learns of the results that other replicas record: one poll of the database for all held polls, none while nothing is
//! held that runs elsewhere.

use std::sync::Arc;
use std::time::Duration;

use akamu_proto::AuthorizationId;
use akamu_store::StoreError;
use tokio::sync::watch;

use crate::app::App;
use crate::shutdown::stopped;

/// How often the database is asked.
const INTERVAL: Duration = Duration::from_millis(100);

/// Wakes polls whose authorization another replica has decided, until the server stops.
pub(crate) async fn watch_forever(app: Arc<App>, mut stop: watch::Receiver<bool>) {
    loop {
        tokio::select! {
            () = app.holds.any() => {}
            () = stopped(&mut stop) => return,
        }
        tokio::select! {
            () = app.clock.sleep(INTERVAL) => {}
            () = stopped(&mut stop) => return,
        }
        if let Err(error) = wake(&app).await {
            // The polls end by themselves.
            tracing::debug!(%error, "held polls could not be looked after");
        }
    }
}

async fn wake(app: &App) -> Result<(), StoreError> {
    let waiting = app.holds.waiting();
    let here = app.validations.running_among(&waiting);
    let elsewhere: Vec<AuthorizationId> = waiting.into_iter().filter(|id| !here.contains(id)).collect();
    if elsewhere.is_empty() {
        return Ok(());
    }
    let processing = app.store.authorizations_processing(&elsewhere).await?;
    for id in elsewhere.into_iter().filter(|id| !processing.contains(id)) {
        app.holds.wake(id, None);
    }
    Ok(())
}
