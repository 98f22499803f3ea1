//! Housekeeping: what expired long enough ago is removed in the background, a little at a time, by one server of all.

use std::sync::Arc;
use std::time::Duration;

use akamu_store::{Expired, HousekeepingStep, LeaseRequest};
use tokio::sync::watch;

use crate::app::App;
use crate::background;
use crate::config::HousekeepingConfig;
use crate::shutdown::stopped;

/// The pause after each step, in which requests have the database for themselves.
const PAUSE: Duration = Duration::from_millis(100);
/// The first round is this long after the start, which clients wait for.
const AFTER_START: Duration = Duration::from_secs(60);

/// Removes what has expired, soon after the start and then once an interval, until the server stops.
pub(crate) async fn run_forever(app: Arc<App>, config: HousekeepingConfig, mut stop: watch::Receiver<bool>) {
    let mut wait = AFTER_START.min(config.interval());
    loop {
        let next = async {
            app.clock.sleep(wait).await;
            round(&app, &config).await;
        };
        tokio::select! {
            () = next => wait = config.interval(),
            () = stopped(&mut stop) => return,
        }
    }
}

/// Goes once over everything that is kept for a time: orders before the authorizations that they have.
async fn round(app: &App, config: &HousekeepingConfig) {
    let lease = || LeaseRequest { owner: app.validations.lease().owner, duration: config.interval().saturating_mul(2) };
    for (kind, retention) in [
        (Expired::Orders, &config.order_retention_days),
        (Expired::Authorizations, &config.authorization_retention_days),
        (Expired::Certificates, &config.certificate_retention_days),
    ] {
        let Some(retention) = retention.duration() else { continue };
        let (mut after, mut total) = (None, 0);
        loop {
            let now = app.clock.now();
            let step = app.store.housekeeping_step(kind, now.minus(retention), after, lease(), now).await;
            match step {
                Ok(HousekeepingStep::Made { removed, next }) => {
                    app.metrics.removed(kind.into(), removed);
                    total += removed;
                    after = next;
                }
                Ok(HousekeepingStep::NotOurs) => return,
                Err(error) => {
                    background::failed(&error, "housekeeping goes on an interval later");
                    return;
                }
            }
            if after.is_none() {
                break;
            }
            app.clock.sleep(PAUSE).await;
        }
        if total > 0 {
            tracing::info!(kind = ?kind, removed = total, "what had expired was removed");
        }
    }
}
