//! Takes over issuances whose replica died between accepting a CSR and storing the certificate.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::watch;

use crate::app::App;
use crate::background;
use crate::metrics::Work;
use crate::resource::finalize::sign_and_record;
use crate::shutdown::stopped;

/// How often the database is asked for them.
const CLAIM_INTERVAL: Duration = Duration::from_secs(5);
/// How many are taken at once.
const BATCH: usize = 16;

/// Looks for abandoned issuances until the server stops.
pub(crate) async fn claim_forever(app: Arc<App>, mut stop: watch::Receiver<bool>) {
    loop {
        match app.store.issuances_claim(app.validations.lease(), BATCH, app.clock.now()).await {
            Ok(leases) => {
                for lease in leases {
                    app.metrics.taken_over(Work::Issuance);
                    tracing::info!(order.id = %lease.subject().order, "an abandoned issuance is taken over");
                    if let Err(error) = sign_and_record(&app, lease).await {
                        tracing::error!(%error, cause = ?error, "an issuance taken over failed");
                    }
                }
            }
            Err(error) => background::failed(&error, "abandoned issuances could not be claimed"),
        }
        tokio::select! {
            () = app.clock.sleep(CLAIM_INTERVAL) => {}
            () = stopped(&mut stop) => return,
        }
    }
}
